"""Tables for Markdown pages."""


def table(head, rows):
    """Markdown table: head (n,) and rows of n cells each -> text without a line break at its
    end.
    """
    return "\n".join(
        f"| {' | '.join(str(cell) for cell in row)} |"
        for row in (head, ["---"] * len(head), *rows)
    )
