"""Tables for Markdown pages."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Markdown table: head (n,) and rows of n cells each -> text without a line break at its
    end.
    """
    lines = []
    for row in (head, ["---"] * len(head), *rows):
        lines.append(f"| {' | '.join(map(str, row))} |")
    return "\n".join(lines)
