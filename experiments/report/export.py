"""The curves and tables of a report as files of their own, for a README or a paper: SVG and
Markdown.
"""

from claus.experiments.report import tables
from claus.experiments.report.curves import curve, over_values
from claus.experiments.report.gather import budgets_of, by_seed, experiments_of, metrics_of
from claus.experiments.report.pages import floor_of, full_line, over_what, what_of
from claus.experiments.report.statistics import mean_of
from claus.experiments.table import AGREEMENT
from claus.utils.markdown import table
from claus.utils.runtime import atomic_write, check_writable, write_text

# and how their files' names end
CURVES = {"capsule f-mAP@.5": "frames", "capsule v-mAP@.5": "videos"}


def export(rows, folder, command):
    """Write <folder>/<experiment>.md and <experiment>_<metric>.svg for each experiment of
    the rows -> paths written.

    command: how the table was made, for its head.
    """
    folder, written = check_writable(folder), []
    for name, variants in experiments_of(rows).items():
        every = [row for of in variants.values() for row in of]
        stem = "".join(letter if letter.isalnum() else "_" for letter in name).strip("_")
        for metric, ending in CURVES.items():
            if metric in metrics_of(every):
                written.append(folder / f"{stem}_{ending}.svg")
                with atomic_write(written[-1]) as file:
                    file.write(
                        over_values(variants, metric)
                        if over_what(variants)
                        else curve(
                            variants,
                            metric,
                            full=full_line(rows, every, metric),
                            floor=floor_of(every, metric),
                        )
                    )
        written.append(folder / f"{stem}.md")
        content = agreement(variants) if stem == "r" else page(variants)
        write_text(written[-1], f"# {name}\n\n{what_of(every)}. `{command}`\n\n{content}\n")
    return written


def page(variants):
    """Scores of every budget, and differences against random choice, as Markdown tables."""
    every = [row for of in variants.values() for row in of]
    names = [name for name in tables.MAIN if name in metrics_of(every)]
    parts = [
        "Mean ± standard deviation over seeds, percent. `capsule`: masks, regardless of "
        "class (`aware`: of the right class); `act`: boxes and tubes of the right class.",
        table(["% of frames", "", "seeds", *names], score_lines(variants, names)),
    ]
    base = tables.random_of(variants)
    if base and len(variants) > 1:
        compared = [name for name in tables.COMPARED if name in names]
        lines = []
        for of in tables.differences(variants, base, compared):
            for variant, percent, seeds, found in of:
                cells = [marked(tables.difference_cell(mean)) for mean in found]
                lines.append([percent, variant, seeds, *cells])
        parts += [
            f"Percentage points more than {base}, with the same seed; in brackets the 95% "
            "interval of the mean (Student's t), bold where it leaves out 0.",
            table(["% of frames", "", "seeds", *compared], lines),
        ]
    return "\n\n".join(parts)


def score_lines(variants, names):
    """A row for every budget and variant: percent of frames, variant, seeds, the scores."""
    lines = []
    for cycle in budgets_of(variants):
        for name, of in variants.items():
            seeds = len(by_seed(of, cycle, "cycle"))
            if seeds:
                percent = tables.labels_cell(of, cycle, "percent_of_frames")
                means = [mean_of(by_seed(of, cycle, metric).values()) for metric in names]
                lines.append([percent, name, str(seeds), *map(tables.mean_cell, means)])
    return lines


def agreement(variants):
    """Experiment r: what other numbers of passes choose, as a Markdown table."""
    lines = [[name, *tables.agreement_cells(of)] for name, of in variants.items()]
    return (
        "The next cycle's choice compared with that of the most passes, same weights; "
        "mean ± standard deviation over seeds.\n\n" + table(["passes", *AGREEMENT], lines)
    )


def marked(cell):
    """A cell of tables.difference_cell as text."""
    text, kind = cell if isinstance(cell, tuple) else (cell, "")
    return f"**{text}**" if kind else text
