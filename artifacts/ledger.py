"""ledger.csv: what was labeled in every cycle and what it cost, counted in the annotation
files. Where people answered, columns at its end say in how many seconds and how, and what
happened beside the cycles (artifacts/changes.py): what was paid for stays paid for.
"""

import csv
import io
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from claus.artifacts.changes import counts_of, in_words
from claus.artifacts.cycle import Cycle
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import LazyVideos
from claus.selection.budget import price
from claus.utils.runtime import UserError, one_line, read_json, write_text
from claus.utils.shape import amount, maybe, whole

LEDGER_COLUMNS = (
    "cycle",
    "videos",
    "frames",
    "boxes",
    "cost",
    "total_videos",
    "total_frames",
    "total_boxes",
    "total_cost",
    "percent_of_frames",
)
# only where they say something: seconds of work, actors drawn, moved, accepted, and changes
MORE_COLUMNS = ("seconds", "drawn", "moved", "accepted", "notes")

INTAKE = dict.fromkeys(
    ("asked", "answered", "skipped", "problems", "drawn", "moved", "accepted"), maybe(whole)
) | {"seconds": maybe(amount)}


@dataclass(frozen=True)
class Prices:
    """C_v per labeled video, C_f per labeled frame, C_box per actor in a frame beyond the
    first. Exact.
    """

    video: Fraction = Fraction(1)
    frame: Fraction = Fraction(1)
    box: Fraction = Fraction(0)

    def __post_init__(self):
        for name in ("video", "frame", "box"):
            with one_line(ValueError):
                exact = price(getattr(self, name), f"{name} price")
            object.__setattr__(self, name, exact)


def write_ledger(run, known=None):
    """Write ledger.csv of what the annotation files of a run hold -> its rows, see
    count_ledger.
    """
    rows = count_ledger(run, known)
    table = io.StringIO()
    more = [name for name in MORE_COLUMNS if any(row.get(name) for row in rows)]
    columns = (*LEDGER_COLUMNS, *more)
    writer = csv.DictWriter(table, columns, "", "ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run.ledger, table.getvalue())
    return rows


def count_ledger(run, known=None):
    """Count what the annotation files of cycles 0, 1, ... hold -> rows, dicts of
    LEDGER_COLUMNS.

    A row says what its cycle added and, in total_*, what is labeled after it;
    percent_of_frames is total_frames in percent of all frames of the pool. Only the prices
    come from a cycle's selection.json (without one: Prices()). known: {cycle: Annotations}
    of files that need not be read again, being in memory as they were just read or written.
    """
    rows, before, total_cost = [], np.zeros(4, np.int64), Fraction(0)
    for expected, place in enumerate(run.cycles()):
        cycle, path = place.number, place.annotations
        if cycle != expected:
            raise UserError(
                f"{path} is there and cycle {expected} before it is not: restore it, "
                f"or start another run"
            )
        annotations = (known or {}).get(cycle) or annotation_file.load(path)
        after = paid_for(annotations) - counts_of(run, "paid", cycle)
        videos, frames, boxes, extra = (after - before).tolist()
        if min(videos, frames, boxes, extra) < 0:
            raise UserError(
                f"{path} holds fewer labels than the cycle before: restore it, or "
                f"choose again with --force"
            )
        selection = place.selection
        paid = Prices(**load_selection(selection)["prices"]) if selection.exists() else Prices()
        free = counts_of(run, "free", cycle)
        bought = [videos, frames, extra]
        if cycle == 0:  # labels that were there before the run
            bought = [videos - int(free[0]), frames - int(free[1]), extra - int(free[3])]
        cost = paid.video * bought[0] + paid.frame * bought[1] + paid.box * bought[2]
        total_cost += cost
        percent = 100 * annotations.counts()["frames"] / max(annotations.total_frames(), 1)
        values = (
            cycle,
            videos,
            frames,
            boxes,
            money(cost),
            *after[:3].tolist(),
            money(total_cost),
            f"{percent:.4f}",
        )
        rows.append(dict(zip(LEDGER_COLUMNS, values, strict=True)) | _more(place))
        before = after
    return rows


def load_intake(cycle: Cycle) -> dict:
    """What intake.json says of a cycle, {} where there is none; UserError naming the file."""
    return read_json(cycle.intake, "remove it", INTAKE) if cycle.intake.exists() else {}


def _more(cycle):
    """What MORE_COLUMNS say of a cycle, as far as anything is known."""
    known = load_intake(cycle)
    known = {name: known[name] for name in MORE_COLUMNS if known.get(name)}
    said = in_words(cycle.run, cycle.number)
    return known | ({"notes": said} if said else {})


def paid_for(annotations):
    """Labeled (videos, frames, boxes, boxes beyond the first of their frame) of an
    annotation file, int64 (4,).
    """
    counts = annotations.counts()
    if isinstance(annotations.videos, LazyVideos):
        extra, labeled = annotations.videos.total("extra"), []
    else:
        extra, labeled = 0, annotations.labeled()
    for video in labeled:
        seen = [tube.frames for tube in video.tubes]
        if len(seen) > 1:
            frames = np.concatenate(seen)
            extra += len(frames) - len(np.unique(frames))
    return np.array(
        [counts["videos"], counts["frames"], counts["boxes"], extra], dtype=np.int64
    )


def money(cost):
    """An exact cost as short text: "1103", "12.5", "0.3333" (four decimals at most)."""
    text = f"{float(cost):.4f}"
    return text.rstrip("0").rstrip(".")
