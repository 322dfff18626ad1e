"""Runs the campaign and writes what came of it into docs/status.md.

    python -m tests.faults            # minutes: a part of everything
    python -m tests.faults --long     # hours: 10,000 mutations of each file, every file operation
    python -m tests.faults --only selection.json --count 1000    # shows what is bad, writes nothing
    python -m tests.faults --only "disk full" --places 20 --write    # makes this row of the table
    python -m tests.faults --long --rows rows.jsonl    # is resumable: finished rows are kept there
    python -m tests.faults --finished --rows rows.jsonl    # the table of what is finished so far

The table stands between two marks; rows of which not everything was made stay. Exit status 1
where anything is silently wrong, ends in a traceback, hangs or dies.
"""

import argparse
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import claus.utils.startup  # noqa: E402, F401  before torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # makers of the tests
from tests.datasets import test_name_lists  # noqa: E402
from tests.faults import (  # noqa: E402
    campaign,
    column_files,
    files,
    files_of_people,
    pickles,
    scripts,
    states,
    videos,
    works,
)

PAGE = campaign.root() / "docs" / "status.md"
MARKS = "<!-- faults -->", "<!-- /faults -->"
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
STATES = "rerun from the folder at each file operation"
KILLS = "kill -9, Ctrl-C, SIGTERM"
PAIRS = "two scripts at once"
PLACES = {"short": 6, "long": None}  # operations of a script on files; None: all of them
COLUMNS = (
    "what was tried",
    "inputs",
    "read",
    "one line or made again",
    "wrong",
    "traceback",
    "hang",
)
GROUPS = {
    ".columns": "columns of large pools",
    "answers": "forms and tools' files",
    ".json`": "JSON",
    ".jsonl": "JSON lines",
    ".csv": "tables",
    ".pkl": "pickles",
    "older list": "pickles",
    "part": "parts",
    "cache": "caches",
    "frame ": "caches",
    ".mat": "masks of MATLAB",
    ".pt": "checkpoints",
    "weights": "checkpoints",
}
PLACE = {
    "read as it was": 2,
    "read as it says": 2,
    "same bytes": 2,
    "both": 2,
    "done without": 2,
    "one line": 3,
    "wrong": 4,
    "traceback": 5,
    "death": 5,
    "hang": 6,
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--long", action="store_true", help="everything, in hours")
    parser.add_argument(
        "--count", type=int, help="mutations of each kind of file (300; long: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default: 0)")
    parser.add_argument("--only", help="kinds whose name has this; the page stays as it is")
    parser.add_argument(
        "--write", action="store_true", help="with --only: the whole rows made go to the page"
    )
    parser.add_argument(
        "--places", type=int, help="operations on files of each script (6; long: all)"
    )
    parser.add_argument("--rows", type=Path, help="file of finished rows, not made again")
    parser.add_argument(
        "--finished", action="store_true", help="make nothing: the page, from --rows alone"
    )
    args = parser.parse_args()
    known = rows_of(args.rows)
    count, size = args.count or (10_000 if args.long else 300), "long" if args.long else "short"
    places = args.places or PLACES[size]
    rows, part = [], set()  # part: groups of which something was left out
    for name, outcomes in itertools.chain(
        mutated(count, args.seed), forged(), shown(), named(count, args.seed), stopped(places)
    ):
        if args.finished and name not in known:
            print(f"not made: {name}")
            continue
        if args.only and args.only not in name:
            part.add(group_of(name))
            continue
        if name in known:
            rows.append((name, known[name]))
            continue
        row, began = Counter(), time.monotonic()
        for outcome, text in outcomes:
            row[outcome] += 1
            if PLACE[outcome] > 3:
                print(f"  {outcome}: {text[-700:]}")
        rows.append((name, row))
        print(f"{name}: {dict(row)}, {time.monotonic() - began:.0f} s", flush=True)
        if args.rows:
            with open(args.rows, "a", encoding="utf-8") as file:
                file.write(json.dumps([name, row]) + "\n")
        if not args.only:
            write(rows, part)
    if args.finished or (args.only and args.write):
        write(rows, part)
    return any(PLACE[outcome] > 3 for _, row in rows for outcome in row)


def rows_of(path):
    """{name: outcomes} of the rows that an earlier call has finished."""
    if path is None or not path.exists():
        return {}
    return dict(map(json.loads, path.read_text(encoding="utf-8").splitlines()))


def mutated(count, seed):
    """(name, outcomes) of every kind of file."""
    for kind in (*files.KINDS, *files_of_people.KINDS, *column_files.KINDS):
        number = max(int(count * kind.share), 5)
        yield f"`{kind.name}`, mutated", campaign.outcomes(kind, number, seed)


def forged():
    """Hostile pickles, and data that must be read."""
    yield "hostile pickles", pickles.outcomes()


def shown():
    """Hostile videos, names and folders."""
    yield "videos, names and folders", videos.outcomes()


def named(count, seed):
    """Lists of names, written in many ways, with faults or without."""
    yield from test_name_lists.rows(max(count, 300), seed)


def stopped(places):
    """Kills, full disks, two at once."""
    folder = Path(tempfile.mkdtemp(prefix="faults"))
    try:
        bench = scripts.Bench.make(folder)
        for work in works.WORKS:
            found = states.rerun(bench, work, works.fewer(work, places))
            yield f"{work.name}: {STATES}", ((o, f"{n} {t}") for n, o, t in found)
        for work in works.WORKS:
            signals, number = works.kills_of(work, SIGNALS, places)
            found = scripts.kills(bench, work, signals, number)
            yield f"{work.name}: {KILLS}", ((o, f"{s} {n} {t}") for s, n, o, t in found)
        for work in works.WORKS:
            found = scripts.full_disk(bench, work, works.fewer(work, places))
            yield f"{work.name}: disk full", ((o, f"{n} {t}") for n, o, t in found)
        for first in dict.fromkeys(first for first, _ in works.paired()):
            others = [other for one, other in works.paired() if one is first]
            yield f"{first.name}: {PAIRS}", at_once(bench, first, others)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def at_once(bench, first, others):
    """(outcome, text) of a script with each of others."""
    for other in others:
        outcome, text = scripts.pairs(bench, first, other)
        yield outcome, f"with {other.name}: {text}"


def group_of(name):
    """The row of the table that something belongs to."""
    if name.startswith("names: "):
        return "name lists"
    kind = name.partition(": ")[2]
    if kind:  # of a script
        return kind
    return next((group for ending, group in GROUPS.items() if ending in name), name)


def write(rows, part):
    """Put the table between the marks of the page; part: groups to be left as they are."""
    page, groups = PAGE.read_text(encoding="utf-8"), {}
    made = {group_of(name) for name, _ in rows} - part
    for line in page.partition(MARKS[0])[2].partition(MARKS[1])[0].splitlines()[3:-1]:
        name, *numbers = line.strip("|").split("|")
        groups[name] = [0] * 6 if name in made else list(map(int, numbers))
    for name, row in rows:
        if group_of(name) not in made:
            continue
        line = groups.setdefault(group_of(name), [0] * 6)
        line[0] += sum(row.values())
        for outcome, number in row.items():
            line[PLACE[outcome] - 1] += number
    groups["**all**"] = [sum(column) for column in zip(*groups.values(), strict=True)]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([name, *line] for name, line in groups.items())]
    table = "\n".join(f"|{'|'.join(map(str, line))}|" for line in lines)
    head, _, rest = page.partition(MARKS[0])
    _, _, tail = rest.partition(MARKS[1])
    PAGE.write_text(f"{head}{MARKS[0]}\n{table}\n{MARKS[1]}{tail}", encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    sys.exit(main())
