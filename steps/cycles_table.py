"""The table of run_cycles.py, on screen, as results.csv and as a picture."""

import csv
import io
from pathlib import Path

from claus.artifacts.cycle import Run
from claus.artifacts.cycle_row import ACT_COLUMNS, COLUMNS
from claus.utils.runtime import atomic_write, write_text

CURVES = (  # column, line style, color
    ("v-mAP@.5", "-", "tab:blue"),
    ("f-mAP@.5", "-", "tab:orange"),
    ("v-mAP@.5 aware", "--", "tab:blue"),
    ("f-mAP@.5 aware", "--", "tab:orange"),
    ("floor v@.5", ":", "tab:blue"),
    ("floor f@.5", ":", "tab:orange"),
)


def report(rows: list[dict], run: Run) -> None:
    """Print the table so far; write results.csv and curve.png. rows: see cycle_row."""
    print(
        "\ncapsule protocol (class-agnostic masks; 'aware' also needs the right "
        "class), percent; labels cumulative"
    )
    print_columns(rows, COLUMNS)
    if any(row[ACT_COLUMNS[0]] is not None for row in rows):
        print("\nact protocol (boxes and tubes of the right class, average precision), percent")
        print_columns(rows, ("cycle", "% of frames", *ACT_COLUMNS))
    write_results(rows, run)
    draw_curve(rows, run.curve)


def write_results(rows: list[dict], run: Run, more: tuple[str, ...] = ()) -> None:
    """Write results.csv. more: columns beside COLUMNS and ACT_COLUMNS."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *ACT_COLUMNS, *more], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run.results, text.getvalue())


def print_columns(rows: list[dict], columns: tuple) -> None:
    """Print these columns of the rows, aligned to the right."""
    lines = [columns]
    for row in rows:
        values = [row[name] for name in columns]
        lines.append(["-" if value is None else str(value) for value in values])
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        pairs = zip(line, widths, strict=True)
        print("  ".join(cell.rjust(width) for cell, width in pairs), flush=True)


def draw_curve(rows: list[dict], path: Path) -> None:
    """Scores over the share of labeled frames, with the no-model floor."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, style, color in CURVES:
        known = [row for row in rows if row[name] is not None]
        if not known:
            continue
        axes.plot(
            [float(row["% of frames"]) for row in known],
            [row[name] for row in known],
            style,
            color=color,
            marker=None if style == ":" else "o",
            label=name,
        )
    axes.set(
        xlabel="labeled frames, % of all frames of the pool",
        ylabel="percent (capsule protocol)",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(ncols=3, fontsize="small", loc="upper left", bbox_to_anchor=(0, 1.2))
    FigureCanvasAgg(figure)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
