"""How many seeds of each variant are in a table of experiments: a Markdown file beside it."""

from pathlib import Path

from claus.experiments import table
from claus.utils.runtime import write_text


def write(csv, cells):
    """Write <csv>_seeds.md: every planned cell counts, and what else the table holds.

    cells: those that the command runs, finished or not.
    """
    path = Path(csv)
    text = page(table.read(path), cells)
    write_text(path.with_name(f"{path.stem}_seeds.md"), text)


def page(rows, cells):
    """The Markdown of a table's rows and of planned cells."""
    wanted, there = {}, {}
    for cell in cells:
        wanted.setdefault((cell.experiment, cell.variant), set()).add(cell.seed)
    for row in rows:
        there.setdefault((row["experiment"], row["variant"]), set()).add(int(row["seed"]))
    lines = ["| experiment | variant | seeds in | of |", "|---|---|---|---|"]
    for name in dict.fromkeys([*wanted, *there]):
        done, planned = there.get(name, set()), wanted.get(name, set())
        lines.append(f"| {name[0]} | {name[1]} | {len(done)} | {len(done | planned)} |")
    done = sum(map(len, there.values()))
    every = sum(
        len(there.get(name, set()) | wanted.get(name, set())) for name in {**wanted, **there}
    )
    return "\n".join([f"{done} of {every} cells are in.", "", *lines, ""])
