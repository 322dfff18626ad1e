"""The tidy table of the experiments: a row for each cell and cycle, every metric under the
name of its protocol.
"""

import contextlib
import csv
import fcntl
import io
import os
import re
from pathlib import Path

import numpy as np

from claus.artifacts.cycle_row import load_seconds, percent_at
from claus.artifacts.evaluation_file import load_evaluation
from claus.artifacts.scores import load_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.experiments.grids import ABOUT, cells_of
from claus.utils.runtime import UserError, write_text

WHAT = (
    "experiment",
    "variant",
    "method",
    "strategy",
    "increment",
    "loss",
    "semi",
    "seed",
    "dataset",
    "model",
    "steps",
    "schedule",
)
LABELS = ("cycle", "videos", "frames", "boxes", "percent_of_frames", "cost")
SHOWN_AS = {"% of frames": "percent_of_frames"}  # of run_cycles' results.csv
NOT_METRICS = ("minutes",)
EXTRA = (0.1, 0.2, 0.3)  # v-mAP thresholds that the paper prints beside .5
AGREEMENT = (
    "same videos %",
    "same frames %",
    "same frames within 2 %",
    "rank correlation of frames",
)
LAST = ("seconds", "run")


def rows_of(cell, task, setup):
    """Rows of a finished cell: one per cycle; of a cell that only scored its start again:
    its one choice.
    """
    what = dict(
        zip(
            WHAT,
            (
                cell.experiment,
                cell.variant,
                cell.method,
                cell.strategy,
                cell.increment,
                cell.loss,
                cell.semi,
                cell.seed,
                setup.data_name,
                setup.model,
                setup.steps,
                cell.schedule,
            ),
            strict=True,
        )
    )
    if cell.kind == "passes":
        chosen = load_selection(task.folder / "cycle1" / "selection.json")
        return [
            what
            | {
                "cycle": 1,
                "videos": chosen["spent"]["videos"],
                "frames": chosen["spent"]["frames"],
                "seconds": task.record().get("seconds"),
                "run": str(task.folder),
            }
        ]
    path, results = task.folder / "results.csv", []
    if path.exists():
        results = read_results(path)
    if not results:
        raise UserError(
            f"{path} is missing or has no rows; remove {task.folder} and run the cell again"
        )
    return [
        what | result_row(row) | more_of(task.folder, row["cycle"]) | {"run": str(task.folder)}
        for row in results
    ]


def result_row(row):
    """A row of run_cycles' results.csv with the protocol in the name of every metric."""
    named = {}
    for name, value in row.items():
        name = SHOWN_AS.get(name, name)
        if name in LABELS:
            named[name] = value
        elif name not in NOT_METRICS:
            named[name if name.startswith("act ") else f"capsule {name}"] = value
    return named


def more_of(folder, cycle):
    """What results.csv leaves out: v-mAP at the paper's other thresholds, and the seconds
    of the cycle.
    """
    folder = folder / f"cycle{cycle}"
    evaluation = load_evaluation(
        folder / "evaluation.json", f"remove {folder.parent} and run the cell again"
    )
    values = {
        f"capsule v-mAP@{at:g}".replace("@0", "@"): percent_at(
            evaluation.get("capsule") or {}, "v_map", at
        )
        for at in EXTRA
    }
    seconds = folder / "seconds.json"
    if seconds.exists():
        values["seconds"] = round(sum(load_seconds(seconds).values()), 1)
    return values


# ---------------------------------------------------------------------- do fewer passes do?


def with_agreement(rows):
    """The rows of experiment r, each compared with the choice of the most passes of its
    seed.
    """
    most = {}
    for row in rows:
        passes = int(row["variant"].partition("=")[2].partition(",")[0])
        if "," not in row["variant"] and passes >= most.get(row["seed"], (0, None))[0]:
            most[row["seed"]] = passes, row
    return [
        row | agreement(row["run"], most[row["seed"]][1]["run"])
        for row in rows
        if row["seed"] in most
    ]


def agreement(run, reference):
    """How much of the reference's choice a run chose too, in percent, and how alike they
    rank all frames.
    """
    (videos, frames), (wanted_videos, wanted) = (
        picks_of(Path(folder)) for folder in (run, reference)
    )
    near = {(video, frame + shift) for video, frame in frames for shift in range(-2, 3)}
    scores, wanted_scores = (
        load_uncertainty(Path(folder) / "cycle0" / "uncertainty.pkl").paper
        for folder in (run, reference)
    )
    values = (
        100 * len(videos & wanted_videos) / len(wanted_videos),
        100 * len(frames & wanted) / len(wanted),
        100 * len(near & wanted) / len(wanted),
        rank_correlation(scores, wanted_scores),
    )
    return {name: round(float(value), 3) for name, value in zip(AGREEMENT, values, strict=True)}


def picks_of(folder):
    """({video}, {(video, frame)}) of a run's choice for cycle 1."""
    chosen = load_selection(folder / "cycle1" / "selection.json")["videos"]
    return (
        {row["video"] for row in chosen},
        {(row["video"], frame["frame"]) for row in chosen for frame in row["frames"]},
    )


def rank_correlation(a, b):
    """Spearman's rho; 1 where both are constant."""
    from scipy.stats import spearmanr  # here: scipy.stats takes a second to import

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float(np.ptp(a) == np.ptp(b))
    return spearmanr(a, b).statistic


# --------------------------------------------------------------------------------- the file


def read(path):
    """Rows of a tidy table, all text; [] where there is none yet. UserError where the file
    is something else.
    """
    path = Path(path)
    if not path.exists():
        return []
    columns, what = (*WHAT, "cycle"), "a table of experiments/run.py"
    # other programs write whole numbers with a point
    return _rows(path, columns, what, "give another --csv", r"\d{1,6}(\.0*)?")


def read_results(path):
    """Rows of a run's results.csv, all text; UserError where the file is something else."""
    return _rows(
        path, ("cycle",), "the table of a run", "remove it, and run run_cycles.py again"
    )


def _rows(path, needed, what, fix, cycle=r"\d{1,6}"):
    """Rows of a table that has the columns `needed`; every cell is text, and cells of numbers
    are finite ones. cycle: pattern of that cell. UserError naming the file.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            rows, names = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"{path} cannot be read as {what} ({error}); {fix}") from error
    missing = [name for name in needed if name not in names]
    if missing or len(set(names)) < len(names):
        which = f"the column {missing[0]} is missing" if missing else "a column comes twice"
        raise UserError(f"{path} is not {what}: {which}; {fix}")
    for number, row in enumerate(rows, start=2):
        cells = [row.get(name) for name in (*names, None)]
        if cells[-1] is not None or None in cells[:-1]:
            raise UserError(f"{path}, line {number}: has not {len(names)} cells; {fix}")
        wrong = [name for name in names if not _is_cell(row[name])]
        if wrong or not re.fullmatch(cycle, row["cycle"], re.ASCII):
            cell = wrong[0] if wrong else "cycle"
            raise UserError(f"{path}, line {number}: {cell} cannot be {row[cell]!r}; {fix}")
    return rows


def _is_cell(text):
    """Whether a cell is a text of one line, and if a number a finite one."""
    try:
        return abs(float(text)) < 1e15
    except ValueError:
        return text.isprintable()


def merge(path, rows, continued=()):
    """Put these rows into the table at `path` in place of those of the same cells; the
    others stay. Atomic.

    continued: folders of shorter runs that these rows' runs went on from, and hold as well:
    their rows make room. The order of the rows does not depend on which cell finished
    first. Two experiments/run.py may write at once: the folder is locked meanwhile.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = {cell_key(row | {"run": run}) for row in rows for run in (row["run"], *continued)}
        both = [row for row in read(path) if cell_key(row) not in new] + rows
        names = dict.fromkeys([*WHAT, *LABELS])
        names |= dict.fromkeys(
            name for row in both for name in row if name not in LAST and name not in AGREEMENT
        )
        there = set().union(*both)
        names |= dict.fromkeys(name for name in AGREEMENT if name in there)
        names |= dict.fromkeys(LAST)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(both, key=place_of))
        write_text(path, text.getvalue())
    finally:
        os.close(lock)


def place_of(row):
    """Where a row stands: by experiment, variant in the grid's order or by its number,
    seed, folder and cycle.
    """
    experiment, variant = row["experiment"], row["variant"]
    usual = (
        [cell.variant for cell in cells_of(experiment, [0], "ucf101", "full")]
        if experiment in ABOUT
        else []
    )
    place = usual.index(variant) if variant in usual else len(usual)
    with contextlib.suppress(ValueError):
        place = float(variant.partition("=")[2].partition(",")[0])
    experiments = list(ABOUT)
    return (
        experiments.index(experiment) if experiment in ABOUT else len(ABOUT),
        place,
        variant,
        int(row["seed"]),
        str(row["run"]),
        int(row["cycle"]),
    )


def cell_key(row):
    """What tells the cells of a table apart: a run made again with other settings has
    another folder, and stays.
    """
    return tuple(str(row[name]) for name in ("experiment", "variant", "seed", "run"))
