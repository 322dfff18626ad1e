"""ledger.csv: what was labeled in every cycle and what it cost, counted in the annotation files."""

import csv
import io
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.selection.budget import price
from claus.utils.runtime import UserError, one_line, write_text

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
    writer = csv.DictWriter(table, LEDGER_COLUMNS, lineterminator="\n")
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
        after = paid_for(annotations)
        videos, frames, boxes, extra = (after - before).tolist()
        if min(videos, frames, boxes, extra) < 0:
            raise UserError(
                f"{path} holds fewer labels than the cycle before: restore it, or "
                f"choose again with --force"
            )
        selection = place.selection
        paid = Prices(**load_selection(selection)["prices"]) if selection.exists() else Prices()
        cost = paid.video * videos + paid.frame * frames + paid.box * extra
        total_cost += cost
        percent = 100 * after[1] / max(annotations.total_frames(), 1)
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
        rows.append(dict(zip(LEDGER_COLUMNS, values, strict=True)))
        before = after
    return rows


def paid_for(annotations):
    """Labeled (videos, frames, boxes, boxes beyond the first of their frame) of an
    annotation file, int64 (4,).
    """
    counts = annotations.counts()
    extra = 0
    for video in annotations.labeled():
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
