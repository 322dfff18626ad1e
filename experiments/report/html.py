"""Pieces of an HTML page as text: everything from outside is escaped, everything shown is
inside the page.
"""

import base64
import html
import re

from claus.experiments.report.style import STYLE

PNG, SVG, JPEG = "image/png", "image/svg+xml", "image/jpeg"


def text(value):
    """Escaped text."""
    return html.escape(str(value), quote=True)


def paragraph(content):
    return f"<p>{text(content)}</p>"


def absent(content):
    """A sentence in place of what is missing."""
    return f'<p class="absent">{text(content)}</p>'


def figure(content, kind, alt, caption="", wide=False):
    """A picture (bytes of `kind`) with its description, and a caption below. wide: never
    narrower than 46 em.
    """
    data = base64.b64encode(content).decode()
    picture = f'<img src="data:{kind};base64,{data}" alt="{text(alt)}">'
    if wide:
        picture = f'<div class="scroll" tabindex="0">{picture}</div>'
    label = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}>{picture}{label}</figure>"


def gallery(figures):
    """Figures side by side where there is room."""
    return f'<div class="gallery">{"".join(figures)}</div>'


def table(caption, head, rows, groups=(), blocks=()):
    """A table. head: names. rows: lists of cells, each text or (text, css class), the first
    of a row its heading.

    groups: (name, number of columns) above the head. blocks: numbers of the rows before
    which a line is drawn.
    """
    above = ""
    if groups:
        above = (
            "<tr>"
            + "".join(
                f'<th scope="colgroup" colspan="{span}">{text(name)}</th>'
                if name
                else f'<td colspan="{span}"></td>'
                for name, span in groups
            )
            + "</tr>"
        )
    names = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = "".join(_line(row, number in blocks) for number, row in enumerate(rows))
    return (
        f'<figure class="table"><figcaption>{text(caption)}</figcaption>'
        '<div class="scroll" tabindex="0"><table>'
        f"<thead>{above}<tr>{names}</tr></thead><tbody>\n{lines}</tbody></table></div></figure>"
    )


def _line(row, first):
    cells = "".join(_cell(cell, place == 0) for place, cell in enumerate(row))
    start = '<tr class="first">' if first else "<tr>"
    return f"{start}{cells}</tr>\n"


def _cell(cell, heading):
    content, kind = cell if isinstance(cell, tuple) else (cell, "")
    kind = f' class="{kind}"' if kind else ""
    return (
        f'<th scope="row"{kind}>{text(content)}</th>'
        if heading
        else f"<td{kind}>{text(content)}</td>"
    )


def details(summary, content):
    """Something to unfold."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def code(content):
    return f"<pre><code>{text(content)}</code></pre>"


def page(title, lead, sections):
    """The whole document. sections: (heading, html); empty ones are left out. Each gets an
    id and a line in the contents.
    """
    sections = [(heading, content) for heading, content in sections if content]
    taken, ids = set(), []
    for heading, _ in sections:
        stem = re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") or "section"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        ids.append(name)
        taken.add(name)
    links = "".join(
        f'<li><a href="#{name}">{text(heading.partition(":")[0])}</a></li>'
        for name, (heading, _) in zip(ids, sections, strict=True)
    )
    body = "\n".join(
        f'<section aria-labelledby="{name}"><h2 '
        f'id="{name}">{text(heading)}</h2>\n{content}\n</section>'
        for name, (heading, content) in zip(ids, sections, strict=True)
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta '
        f'charset="utf-8">\n<title>{text(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{text(title)}</h1>\n{lead}</header>\n"
        f'<nav '
        f'aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n</body>\n</html>\n'
    )
