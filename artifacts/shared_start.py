"""A run that begins with another run's first cycle: the same labels, the same weights, the
same pickles.

Files are hard links where the disk allows it, else copies. Every writer here replaces whole
files, so neither run can change the other's; but what a disk or another program does to the
bytes of a link is done to all runs of that start. start.json keeps their fingerprints: a
run that goes on proves that they are still the same.
"""

import json
from pathlib import Path

from claus.artifacts import handoffs
from claus.utils.runtime import UserError, check_writable, link_or_copy, read_json, write_text

NEEDED = ("annotations.pkl", "selection.json", "detector.pt", "evaluation.json")
TAKEN = (
    *NEEDED,
    "request.json",
    "answers.json",
    "features.pkl",
    "uncertainty.pkl",
    "seconds.json",
)
PROVED = ("annotations.pkl", "detector.pt", "features.pkl", "uncertainty.pkl")
SHARED_SETTINGS = (
    "dataset",
    "oracle",
    "test_list",
    "split",
    "seed",
    "semi",
    "train",
    "extract",
    "evaluate",
)


def take_start(run, other, settings, first_budget, prices):
    """Put cycle 0 of the run folder `other` into the run folder `run`, or prove that it is
    there unchanged.

    settings: this run's flags by name; those that shape cycle 0 must be the other's (its
    run.json). first_budget: what this run would ask for in cycle 0, given the other's
    annotation file -> (videos, frames). prices: of this run, by name. UserError in one line
    where the runs do not fit, a file is missing, or files come from different weights.
    """
    run, other = Path(run), Path(other)
    if run.resolve() == other.resolve():
        raise UserError(
            f"--start-from {other} is this run itself; name the run whose first cycle "
            f"is to be shared"
        )
    path = run / "start.json"
    if path.exists():
        record = read_json(path, f"remove {run}, and start it again")
    else:
        if any((run / "cycle0" / name).exists() for name in NEEDED):
            raise UserError(
                f"{run / 'cycle0'} was made by this run itself; leave out "
                f"--start-from, or give another "
                "--run"
            )
        _check_fit(other, settings, first_budget, prices)
        record = {
            "from": str(other.resolve()),
            "fingerprints": _check_whole(other / "cycle0"),
            "files": [name for name in TAKEN if (other / "cycle0" / name).exists()],
        }
        write_text(path, json.dumps(record, indent=1) + "\n")
        print(f"cycle 0 is that of {other}")
        if "features.pkl" not in record["files"]:
            print(
                f"note: {other / 'cycle0'} has no pickles yet, so this run scores the "
                f"videos itself; run "
                "cluster_extract.py there before, and all runs share them"
            )
    folder = check_writable(run / "cycle0")
    for name in record["files"]:
        if not (folder / name).exists() and (other / "cycle0" / name).exists():
            link_or_copy(other / "cycle0" / name, folder / name)
    _prove(run, other, record)


def _check_fit(other, settings, first_budget, prices):
    """Raise UserError unless the other run's cycle 0 is what this run would have made."""
    mend = "start from a run of the same flags"
    theirs = read_json(other / "run.json", "finish its first cycle with run_cycles.py")
    for name in SHARED_SETTINGS:
        if theirs.get(name) != settings.get(name):
            raise UserError(
                f"--start-from {other}: it has --{name.replace('_', '-')} "
                f"{theirs.get(name)!r}, this run "
                f"{settings.get(name)!r}; {mend}"
            )
    path = other / "cycle0" / "selection.json"
    if not path.exists():
        raise UserError(f"{path} is not there: finish its first cycle with run_cycles.py")
    selection = handoffs.load_selection(path)
    if selection["prices"] != prices:
        raise UserError(
            f"--start-from {other}: its prices are {selection['prices']}, this run's "
            f"{prices}; {mend}"
        )
    strategy = selection.get("settings", {}).get("strategy", "hybrid")
    if strategy != "hybrid":
        raise UserError(
            f"--start-from {other}: its first cycle is of --strategy {strategy}, not "
            f"the random start that "
            f"runs share; {mend}"
        )
    asked = selection.get("asked", {})
    wanted = first_budget(other / "cycle0" / "annotations.pkl")
    if (asked.get("videos"), asked.get("frames")) != tuple(wanted):
        raise UserError(
            f"--start-from {other}: its first cycle asked for {asked.get('videos')} videos and "
            f"{asked.get('frames')} frames, this run would for {wanted[0]} and "
            f"{wanted[1]}; {mend}"
        )


def _check_whole(folder):
    """Fingerprints of what is there of PROVED; UserError where something is missing or of
    other weights.
    """
    for name in NEEDED:
        if not (folder / name).exists():
            raise UserError(
                f"{folder / name} is not there: finish that run's first cycle with "
                f"run_cycles.py"
            )
    prints = {
        name: handoffs.fingerprint(folder / name) for name in PROVED if (folder / name).exists()
    }
    scores = read_json(folder / "evaluation.json", "score it again with evaluate.py")
    sources = {"evaluation.json": scores.get("source")}
    if {"features.pkl", "uncertainty.pkl"} <= set(prints):
        sources |= {
            "features.pkl": handoffs.load_features(folder / "features.pkl").source,
            "uncertainty.pkl": handoffs.load_uncertainty(folder / "uncertainty.pkl").source,
        }
    for name, source in sources.items():
        if source != prints["detector.pt"]:
            raise UserError(
                f"{folder / name} was made from other weights than "
                f"{folder / 'detector.pt'}: run that "
                "run's own command again"
            )
    return prints


def _prove(run, other, record):
    """Raise UserError unless the first cycle taken over is unchanged, here and there."""
    if record.get("from") != str(other.resolve()):
        raise UserError(
            f"{run} began from {record.get('from')}, not from {other}: give that, or "
            f"another --run"
        )
    for name, known in record["fingerprints"].items():
        mine, theirs = (folder / "cycle0" / name for folder in (run, other))
        whole = _is(mine, known)
        if theirs.parent.exists() and not _is(theirs, known):
            where = (
                f"{theirs} is not what {run} began with: the first cycle is no longer shared"
            )
            raise UserError(
                f"{where}; remove {run} and start it again, or put {mine} in its "
                f"place, which is unchanged"
                if whole
                else f"{where}, and {mine} has changed too (runs are links to their start's "
                f"files); rebuild the start {other} and the runs begun from it"
            )
        if not whole:
            raise UserError(
                f"{mine} is not what {run} began with: the first cycle is no longer "
                f"shared; remove {run} "
                "and start it again"
            )


def _is(path, known):
    """Whether the file is there and has this fingerprint."""
    return path.exists() and handoffs.fingerprint(path) == known
