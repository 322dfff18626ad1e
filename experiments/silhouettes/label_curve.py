"""The label-efficiency curve of the silhouette benchmark: how good a detector is by how
much of its data is labeled.

    python experiments/silhouettes/make.py
    python experiments/silhouettes/label_curve.py           # small network, on a CPU

and with the full network on a GPU:

    python experiments/silhouettes/make.py --output data/silhouettes_large \\
        --knob height=240 --knob width=320
    python experiments/silhouettes/label_curve.py --data data/silhouettes_large \\
        --model full --device cuda --steps 4000 \\
        --files files/label_curve_full --results experiments/results/label_curve_full

Videos and frames are chosen at random; official split 1; every cell is trained for the same
number of optimizer steps. It calls the ordinary scripts (claus_select, train_jhmdb,
evaluate), a cell after the other, seed by seed.

Reads   what experiments/silhouettes/make.py wrote
Writes  <results>.csv    a row for each cell as it is finished, and one for the model-free floor
        <results>.md     the table people read, <results>.png the curve
        files/label_curve/<cell>/   what the scripts leave
Expect  18 cells of about five minutes on a CPU core (small network). Cells that are in the
        CSV are not computed again; an interrupted one is gone on with.
"""

import argparse
import csv
import io
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from claus.artifacts.evaluation_file import load_evaluation  # noqa: E402
from claus.datasets.labels import annotations as annotation_file  # noqa: E402
from claus.datasets.layouts import default_folder  # noqa: E402
from claus.flags.common import whole_number  # noqa: E402
from claus.utils.runtime import UserError, check_writable, run_script, write_text  # noqa: E402

# (V, A): percent of the videos, and percent of their frames on average; the last is full
# supervision
BUDGETS = (("5", "3"), ("15", "3"), ("33", "3"), ("60", "5"), ("80", "6.75"), ("100", "100"))
SCORES = ("f_map", "v_map", "f_map_class_aware", "v_map_class_aware")
THRESHOLDS = (0.2, 0.5)
# chosen on an inner split of the training clips; at its default rates the small network
# learns too little in 1300 steps
TRAIN = {"small": ("--encoder-lr", "1e-3", "--margin-weight", "0.03"), "full": ()}
COLUMNS = (
    "budget",
    "seed",
    "videos",
    "frames",
    "percent_of_frames",
    "steps",
    "model",
    *(f"{score}@{t}" for score in SCORES for t in THRESHOLDS),
    "accuracy",
    "test_videos",
    "seconds",
)
FLOOR = "no model"


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--data",
        default=default_folder("data/silhouettes"),
        help="the rendered data set (default: %(default)s)",
    )
    add(
        "--files",
        default="files/label_curve",
        help="folder of the cells (default: %(default)s)",
    )
    add(
        "--results",
        default=str(ROOT / "experiments" / "results" / "label_curve"),
        help="what is written, less .csv",
    )
    add(
        "--seeds",
        type=whole_number,
        nargs="+",
        default=[0, 1, 2],
        help="of selection and training",
    )
    add(
        "--model",
        choices=("small", "full"),
        default="small",
        help="network (default: %(default)s)",
    )
    add("--device", default="cpu", help="cpu, cuda (default: %(default)s)")
    add(
        "--steps",
        type=int,
        default=1300,
        help="optimizer steps of every cell (default: %(default)s)",
    )
    add("--train", default="", help="more flags of train_jhmdb.py, in one string")
    add(
        "--jobs",
        type=int,
        default=1,
        help="cells at the same time, one thread each (default: %(default)s)",
    )
    add(
        "--draw",
        action="store_true",
        help="compute nothing, make table and picture from the CSV",
    )
    args = parser.parse_args(argv)
    if args.jobs < 1 or args.steps < 5:
        parser.error("--jobs must be at least 1 and --steps at least 5")
    return args


class Settings(NamedTuple):
    """What all cells have in common. train: more flags of train_jhmdb.py, one string."""

    data: str
    files: str
    model: str
    device: str
    steps: int
    train: str


def name_of(budget):
    """The paper's way to write a budget: percent of all frames / percent of the videos."""
    videos, frames = map(float, budget)
    return "full" if videos == frames == 100 else f"{videos * frames / 100:.3g}/{videos:g}"


def main(argv=None):
    args = parse_args(argv)
    table = Path(f"{args.results}.csv")
    check_writable(table.parent, clear=False)
    rows = read_rows(table)
    settings = Settings(args.data, args.files, args.model, args.device, args.steps, args.train)
    if not args.draw:
        check_same_settings(rows, settings, table)
        done = {(row["budget"], row["seed"]) for row in rows}
        todo = [
            (budget, seed)
            for seed in args.seeds
            for budget in BUDGETS[::-1]
            if (name_of(budget), str(seed)) not in done
        ]
        if todo and not (Path(args.data) / "puppet_mask").is_dir():
            raise UserError(
                f"--data {args.data} has no puppet_mask/; make the data with "
                "experiments/silhouettes/make.py"
            )
        if not todo:
            print(
                f"every cell is in {table} already and none is run; --results PATH starts a "
                "table of your own"
            )
        lock = threading.Lock()

        def finish(cell):
            found = run_cell(
                *cell, settings, with_floor=cell[0] == BUDGETS[-1] and cell[1] == args.seeds[0]
            )
            with lock:
                rows.extend(found)
                write_rows(table, rows)

        with ThreadPoolExecutor(args.jobs) as pool:
            for _ in tqdm(
                pool.map(finish, todo), total=len(todo), desc="curve", unit="cell", disable=None
            ):
                pass
    if not rows:
        raise UserError(f"{table} has no cell yet; run this without --draw")
    text = report(rows)
    write_text(Path(f"{args.results}.md"), text)
    draw(rows, Path(f"{args.results}.png"))
    print(text)
    return 0


def run_cell(budget, seed, settings, with_floor=False):
    """Select, train, evaluate one cell; its rows of the table (the floor's too, where asked
    for).
    """
    run, began = (
        Path(settings.files, f"{name_of(budget).replace('/', '_')}_{seed}"),
        time.time(),
    )
    common = ["--run", f"{run}/", "--cycle", "0"]
    script(
        "claus_select.py",
        *common,
        "--dataset",
        "jhmdb",
        "--oracle",
        settings.data,
        "--method",
        "random",
        "--seed",
        seed,
        "--videos-percent",
        budget[0],
        "--frames-percent",
        budget[1],
    )
    resume = ["--resume"] if (run / "cycle0" / "training.pt").exists() else []
    script(
        "train_jhmdb.py",
        *common,
        "--data",
        settings.data,
        "--model",
        settings.model,
        "--device",
        settings.device,
        "--seed",
        seed,
        "--steps",
        settings.steps,
        "--epochs",
        "5",
        "--no-validation",
        *TRAIN[settings.model],
        *resume,
        *settings.train.split(),
    )
    script(
        "evaluate.py",
        *common,
        "--dataset",
        "jhmdb",
        "--data",
        settings.data,
        "--oracle",
        settings.data,
        "--device",
        settings.device,
        "--protocol",
        "capsule",
        "--force",
        *([] if with_floor else ["--no-floor"]),
    )
    scores = load_evaluation(run / "cycle0" / "evaluation.json")
    labels = annotation_file.load(run / "cycle0" / "annotations.pkl")
    counts = labels.counts()
    row = {
        "budget": name_of(budget),
        "seed": seed,
        "videos": counts["videos"],
        "frames": counts["frames"],
        "percent_of_frames": f"{100 * counts['frames'] / labels.total_frames():.2f}",
        "steps": settings.steps,
        "model": settings.model,
        **figures(scores["capsule"]),
        "accuracy": f"{100 * scores['capsule']['accuracy']:.1f}",
        "test_videos": scores["test_videos"],
        "seconds": f"{time.time() - began:.0f}",
    }
    floor = {
        "budget": FLOOR,
        "seed": "",
        "steps": settings.steps,
        "model": settings.model,
        **figures(scores["floor"] or {}),
    }
    return [row, floor] if with_floor else [row]


def figures(scores):
    """Columns "score@threshold", in percent, of what evaluate.py wrote; those that are
    missing are left out.
    """
    return {
        f"{score}@{t}": f"{100 * scores[score][scores['thresholds'].index(t)]:.1f}"
        for score in SCORES
        if scores.get(score)
        for t in THRESHOLDS
    }


def script(name, *flags):
    """Run one of the ordinary scripts with one thread where it computes on a CPU; UserError
    with its last line.
    """
    one = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"} if "cpu" in flags else {}
    done = subprocess.run(
        [sys.executable, str(ROOT / name), *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=os.getcwd(),
        env={**os.environ, **one},
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise UserError(
            f"{name} {' '.join(map(str, flags))} ended with {done.returncode}: {last}"
        )


# -------------------------------------------------------------------------------- the table


def read_rows(path):
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def check_same_settings(rows, settings, path):
    """UserError where the CSV holds cells of other settings: a table never mixes them."""
    for row in rows:
        if (row["steps"], row["model"]) != (str(settings.steps), settings.model):
            raise UserError(
                f"{path} has cells of --steps {row['steps']} --model {row['model']}; give "
                "the same, or another --results"
            )


def spread(rows, column):
    """Text "mean ± deviation" of a column over the seeds; the mean alone of one seed."""
    values = [float(row[column]) for row in rows if row.get(column)]
    if not values:
        return ""
    return f"{np.mean(values):.1f}" + (
        f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    )


def report(rows):
    """The table, as markdown."""
    shown = (
        "f_map@0.5",
        "v_map@0.5",
        "v_map@0.2",
        "f_map_class_aware@0.5",
        "v_map_class_aware@0.5",
        "accuracy",
    )
    heads = ("f@.5", "v@.5", "v@.2", "f@.5 class-aware", "v@.5 class-aware", "accuracy")
    seconds = [float(row["seconds"]) for row in rows if row.get("seconds")]
    lines = [
        "Silhouette benchmark, split 1, `capsule` protocol, percent, mean ± deviation over "
        f"seeds; random selection; {rows[0]['model']} network, {rows[0]['steps']} optimizer "
        "steps for every row.",
        "",
        f"| % frames / % videos | videos | frames | {' | '.join(heads)} | seeds |",
        "|" + "---|" * (len(heads) + 4),
    ]
    for name in [name_of(budget) for budget in BUDGETS] + [FLOOR]:
        cell = [row for row in rows if row["budget"] == name]
        if cell:
            lines.append(
                f"| {name} | {cell[0].get('videos', '')} | {cell[0].get('frames', '')} | "
                + " | ".join(spread(cell, column) for column in shown)
                + f" | {len(cell) if name != FLOOR else ''} |"
            )
    lines += [
        "",
        f"A cell took {np.median(seconds):.0f} s (median; "
        f"{min(seconds):.0f}…{max(seconds):.0f}): selection, training, evaluation. "
        f"{platform.machine()}, torch {torch.__version__}, on a CPU one thread a cell; made "
        "by `python experiments/silhouettes/label_curve.py`.",
        "",
    ]
    return "\n".join(lines)


def draw(rows, path):
    """The curve: percent of the frames labeled against f@.5 and v@.5, a dot for each seed,
    the floor dashed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.2))
    for column, label, color in (
        ("f_map@0.5", "f-mAP@.5", "tab:blue"),
        ("v_map@0.5", "v-mAP@.5", "tab:orange"),
    ):
        cells = {}
        for row in rows:
            if row["budget"] != FLOOR:
                cells.setdefault(float(row["percent_of_frames"]), []).append(float(row[column]))
            elif row[column]:
                axis.axhline(float(row[column]), color=color, linestyle="--", linewidth=1)
        shares = sorted(cells)
        axis.plot(
            shares, [np.mean(cells[share]) for share in shares], "-", color=color, label=label
        )
        for share in shares:
            axis.plot([share] * len(cells[share]), cells[share], ".", color=color)
    axis.set(
        xscale="log",
        xlabel="% of the training frames labeled",
        ylabel="% (capsule protocol)",
        ylim=(0, None),
    )
    axis.set_title(
        f"Silhouettes, random selection, {rows[0]['model']} network, {rows[0]['steps']} steps\n"
        "dashed: no model",
        fontsize=10,
    )
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    run_script(main, "finished cells are in the CSV, run the same command to resume")
