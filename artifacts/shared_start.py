"""A run that begins with another run's first cycle: the same labels, the same weights, the
same pickles.

Files are hard links where the disk allows it, else copies. Every writer here replaces whole
files, so neither run can change the other's; but what a disk or another program does to the
bytes of a link is done to all runs of that start. start.json keeps their fingerprints: a
resumed run checks that they are still the same.

start.json  {"claus": program version, "from": folder of the other run,
             "fingerprints": {file name: fingerprint}, "files": [file name]}
"""

import json
from collections.abc import Callable
from pathlib import Path

import claus
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.evaluation_file import load_evaluation
from claus.artifacts.parts import fingerprint
from claus.artifacts.run_settings import SHAPE as SETTINGS
from claus.artifacts.scores import load_features, load_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.utils.runtime import (
    UserError,
    atomic_write,
    check_writable,
    link_or_copy,
    read_json,
    write_text,
)

SHAPE = {"from": str, "fingerprints": {str: str}, "files": [str]}
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


def needed(cycle: Cycle) -> tuple[Path, ...]:
    """The files that a first cycle must have."""
    return cycle.annotations, cycle.selection, cycle.detector, cycle.evaluation


def taken(cycle: Cycle) -> tuple[Path, ...]:
    """The files that are linked into another run, where they are there."""
    form = cycle.request, cycle.answers
    return *needed(cycle), *form, cycle.features, cycle.uncertainty, cycle.seconds


def checked(cycle: Cycle) -> tuple[Path, ...]:
    """The files whose fingerprints are kept."""
    return cycle.annotations, cycle.detector, cycle.features, cycle.uncertainty


def take_start(
    run: Run,
    other: Run,
    settings: dict,
    first_budget: Callable[[Path], tuple[int, int]],
    prices: dict,
) -> None:
    """Put cycle 0 of the run `other` into `run`, or check that it is there unchanged.

    settings: this run's flags by name; those that shape cycle 0 must be the other's (its
    run.json). first_budget: what this run would ask for in cycle 0, given the other's
    annotation file -> (videos, frames). prices: of this run, by name. UserError in one line
    where the runs do not fit, a file is missing, or files come from different weights.
    """
    if run.folder.resolve() == other.folder.resolve():
        raise UserError(
            f"--start-from {other.folder} is this run itself; name the run whose first "
            f"cycle is to be shared"
        )
    mine, theirs = run.cycle(0), other.cycle(0)
    if run.start.exists():
        record = _load_start(mine, run)
    else:
        if any(path.exists() for path in needed(mine)):
            raise UserError(
                f"{mine.folder} was made by this run itself; leave out --start-from, or "
                f"give another --run"
            )
        _check_fit(other, settings, first_budget, prices)
        record = {
            "claus": claus.__version__,
            "from": str(other.folder.resolve()),
            "fingerprints": _check_whole(theirs),
            "files": [path.name for path in taken(theirs) if path.exists()],
        }
        write_text(run.start, json.dumps(record, indent=1) + "\n")
        print(f"cycle 0 is that of {other.folder}")
        if theirs.features.name not in record["files"]:
            print(
                f"note: {theirs.folder} has no pickles yet, so this run scores the videos "
                f"itself; run cluster_extract.py there before, and all runs share them"
            )
    check_writable(mine.folder)
    for name in record["files"]:
        source, target = theirs.folder / name, mine.folder / name
        if source.exists() and not target.exists():
            link_or_copy(source, target)
    if other.identities.exists() and not run.identities.exists():
        # a copy, as lines are added to it
        with atomic_write(run.identities) as file:
            file.write(other.identities.read_bytes())
    _check_unchanged(run, other, record)


def _load_start(cycle, run):
    """The content of start.json; UserError where it names other files than those of a start."""
    fix = f"remove {run.folder}, and start it again"
    record = read_json(run.start, fix, SHAPE)
    allowed = {path.name for path in taken(cycle)}
    named = {*record["files"], *record["fingerprints"]}
    needs = {path.name for path in needed(cycle) if path in checked(cycle)}
    if named - allowed:
        raise UserError(f"{run.start}: names {min(named - allowed)}, no file of a start; {fix}")
    if needs - record["fingerprints"].keys() or needs - set(record["files"]):
        raise UserError(f"{run.start}: lacks the fingerprint of {min(needs)}; {fix}")
    return record


def _check_fit(other, settings, first_budget, prices):
    """Raise UserError unless the other run's cycle 0 is what this run would have made."""
    start = f"--start-from {other.folder}"
    fix = "start from a run of the same flags"
    finish = "finish its first cycle with run_cycles.py"
    theirs = read_json(other.settings, finish, SETTINGS)
    for name in SHARED_SETTINGS:
        if theirs.get(name) != settings.get(name):
            raise UserError(
                f"{start}: it has --{name.replace('_', '-')} {theirs.get(name)!r}, this run "
                f"{settings.get(name)!r}; {fix}"
            )
    first = other.cycle(0)
    if not first.selection.exists():
        raise UserError(f"{first.selection} is missing: {finish}")
    selection = load_selection(first.selection)
    if selection["prices"] != prices:
        raise UserError(
            f"{start}: its prices are {selection['prices']}, this run's {prices}; {fix}"
        )
    strategy = selection.get("settings", {}).get("strategy", "hybrid")
    if strategy != "hybrid":
        raise UserError(
            f"{start}: its first cycle is of --strategy {strategy}, not the random start "
            f"that runs share; {fix}"
        )
    asked = selection.get("asked", {})
    wanted = first_budget(first.annotations)
    if (asked.get("videos"), asked.get("frames")) != tuple(wanted):
        raise UserError(
            f"{start}: its first cycle asked for {asked.get('videos')} videos and "
            f"{asked.get('frames')} frames, this run would for {wanted[0]} and "
            f"{wanted[1]}; {fix}"
        )


def _check_whole(cycle):
    """Fingerprints of the checked files that are there; UserError where something is
    missing or of other weights.
    """
    for path in needed(cycle):
        if not path.exists():
            raise UserError(
                f"{path} is missing: finish that run's first cycle with run_cycles.py"
            )
    prints = {path.name: fingerprint(path) for path in checked(cycle) if path.exists()}
    scores = load_evaluation(cycle.evaluation, "score it again with evaluate.py")
    sources = {cycle.evaluation: scores.get("source")}
    if cycle.features.exists() and cycle.uncertainty.exists():
        sources[cycle.features] = load_features(cycle.features).source
        sources[cycle.uncertainty] = load_uncertainty(cycle.uncertainty).source
    for path, source in sources.items():
        if source != prints[cycle.detector.name]:
            raise UserError(
                f"{path} was made from other weights than {cycle.detector}: run that run's "
                f"own command again"
            )
    return prints


def _check_unchanged(run, other, record):
    """Raise UserError unless the first cycle taken over is unchanged, here and there."""
    if record.get("from") != str(other.folder.resolve()):
        raise UserError(
            f"{run.folder} began from {record.get('from')}, not from {other.folder}: give "
            f"that, or another --run"
        )
    folder, its_folder = run.cycle(0).folder, other.cycle(0).folder
    for name, known in record["fingerprints"].items():
        mine, theirs = folder / name, its_folder / name
        unchanged = _has(mine, known)
        if its_folder.exists() and not _has(theirs, known):
            where = (
                f"{theirs} is not what {run.folder} began with: the first cycle is no "
                f"longer shared"
            )
            raise UserError(
                f"{where}; remove {run.folder} and start it again, or put {mine} in its "
                f"place, which is unchanged"
                if unchanged
                else f"{where}, and {mine} has changed too (runs are links to their start's "
                f"files); rebuild the start {other.folder} and the runs begun from it"
            )
        if not unchanged:
            raise UserError(
                f"{mine} is not what {run.folder} began with: the first cycle is no longer "
                f"shared; remove {run.folder} and start it again"
            )


def _has(path, known):
    """Whether the file is there and has this fingerprint."""
    return path.exists() and fingerprint(path) == known
