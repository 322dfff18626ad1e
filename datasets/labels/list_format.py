"""The field's older annotation files: lists of (name, tubes), with dense boxes and the
number of the last frame instead of an exclusive end.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from claus.datasets.labels.annotations import (
    NOTHING,
    Annotations,
    Tube,
    Video,
    corners_from_xywh,
    int32_array,
    naming,
    whole_number,
)
from claus.losses.stew import REACH
from claus.utils.runtime import UserError


class TubeRecord(NamedTuple):
    """A tube of the list format, checked. Of one that is not labeled, only `start` and
    `last` are known.

    last: number of its last frame (inclusive, as in the file). boxes: (last - start + 1, 4)
    int32 x, y, width, height. labeled_frames: (n,) int32, increasing, from start to last.
    """

    start: int
    last: int
    label: int | None
    boxes: np.ndarray
    labeled_frames: np.ndarray

    @property
    def is_labeled(self) -> bool:
        """Whether it has a labeled frame."""
        return len(self.labeled_frames) > 0


def from_records(
    records: Sequence,
    classes: Sequence[str],
    sizes: Mapping[str, tuple[int, int, int]],
    dataset: str,
    one_based: bool = False,
) -> Annotations:
    """Annotations from the field's older list format.

    records: [(name, [(start, end, label, boxes, labeled_frames[, flag]), ...]), ...];
        `end` is inclusive, boxes are (end - start + 1, 4) x, y, width, height for every
        frame from start to end, labeled_frames are absolute frame numbers. A tube whose
        sixth field is 0, or without labeled frames, is not labeled and left out: only its
        start and end are read.
    sizes: name -> (frames, height, width), for every video. one_based: see
    corners_from_xywh. Only boxes of labeled frames are kept (the others were
    interpolated). Raises UserError.

    Where a video also has tubes that are not labeled, its labels are incomplete in the
    frames of these: such an actor would count as background. Labeled frames from REACH
    before the start of one to REACH after its end are therefore dropped; the frames that
    show it are then so far from every label that STeW gives them weight 0.

    What the older format does not hold: labeled frames without action (a video with no
    other becomes unlabeled), track numbers (they become 1, 2, ... by position), and whether
    an actor is absent, or only not labeled, in a frame that has labels of another actor:
    here it counts as absent.
    """
    videos = {}
    for entry in records:
        if not (
            isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)
        ):
            raise UserError("an entry is not (name, tubes); this is not the list format")
        name, records_of_tubes = entry
        if name not in sizes:
            raise UserError(f"video {name}: its length and size are not known; add it to sizes")
        if name in videos:
            raise UserError(f"video {name} is listed twice; join its tubes")
        found = tube_records(name, records_of_tubes)
        with naming(f"video {name}"):
            if len({record.label for record in found if record.is_labeled}) > 1:
                raise UserError(
                    "tubes of several classes; a video has one class here, split it"
                )
            unlabeled = [record for record in found if not record.is_labeled]
            tubes = [
                _tube(record, i + 1, unlabeled, one_based) for i, record in enumerate(found)
            ]
            tubes = tuple(tube for tube in tubes if tube is not None)
        label = tubes[0].label if tubes else None
        labeled = np.unique(np.concatenate([tube.frames for tube in tubes])) if tubes else ()
        videos[name] = Video(name, *sizes[name], label, labeled, tubes)
    return Annotations(dataset, classes, videos)


def tube_records(name: str, tubes: object) -> list[TubeRecord]:
    """The TubeRecords of the video `name`; UserError naming video, tube and field where it
    is not as in from_records.

    A TubeRecord is itself a tube in the list format, and not checked again.
    """
    with naming(f"video {name}"):
        if not isinstance(tubes, list | tuple):
            raise UserError(
                f"its tubes are a {type(tubes).__name__}; give a list of tubes, empty "
                "where there is none"
            )
        return [
            record if isinstance(record, TubeRecord) else _tube_record(record, f"tube {i + 1}")
            for i, record in enumerate(tubes)
        ]


def _tube_record(record, where):
    """TubeRecord from one (start, end, label, boxes, labeled_frames[, flag])."""
    if not isinstance(record, list | tuple) or len(record) not in (5, 6):
        found = (
            f"has {len(record)} fields"
            if isinstance(record, list | tuple)
            else f"is a {type(record).__name__}"
        )
        raise UserError(
            f"{where} is not (start, end, label, boxes, labeled_frames[, flag]): it "
            f"{found}; give these"
        )
    start = whole_number(record[0], f"{where}: start")
    last = whole_number(record[1], f"{where}: end")
    if last < start:
        raise UserError(
            f"{where} ends at frame {last}, before its start {start}; `end` is the "
            "number of its last frame"
        )
    flag = record[5] if len(record) == 6 else 1
    if not isinstance(flag, int | float | np.bool_ | np.number) or flag not in (0, 1):
        raise UserError(
            f"{where}: the sixth field is {_short(flag)}; give 1 where the tube is "
            "labeled, else 0"
        )
    frames = NOTHING
    if flag:
        frames = np.unique(_numbers(record[4], f"{where}: labeled_frames", (None,)))
    if not len(frames):
        return TubeRecord(start, last, None, NOTHING, NOTHING)
    if frames[0] < start or frames[-1] > last:
        raise UserError(
            f"{where} is labeled at frames {frames[0]} to {frames[-1]}, outside "
            f"{start} to {last}; labeled_frames are frame numbers of the video"
        )
    boxes = _numbers(record[3], f"{where}: boxes", (None, 4))
    if len(boxes) != last - start + 1:
        raise UserError(
            f"{where} has {len(boxes)} boxes for frames {start} to {last} inclusive; "
            f"give {last - start + 1}"
        )
    label = whole_number(record[2], f"{where}: label")
    return TubeRecord(start, last, label, boxes, frames)


def _numbers(values, what, shape):
    """int32_array of a field that must be an array, or a list."""
    if not isinstance(values, list | tuple | np.ndarray):
        raise UserError(f"{what} is {_short(values)}; give an array of whole numbers")
    return int32_array(values, what, shape)


def _short(value):
    """A value as a message shows it: itself where it is a number or None, else its type."""
    if value is None or isinstance(value, int | float | np.number):
        return str(value)
    return f"a {type(value).__name__}"


def _tube(record, track, unlabeled, one_based):
    """Tube from a TubeRecord, or None where no labeled frame of it is far enough from the
    `unlabeled` tubes.
    """
    frames = record.labeled_frames
    for other in unlabeled:
        frames = frames[(frames < other.start - REACH) | (frames > other.last + REACH)]
    if not len(frames):
        return None
    boxes = corners_from_xywh(record.boxes[frames - record.start], one_based)
    return Tube(record.label, track, frames, boxes)


def to_records(annotations: Annotations) -> list:
    """The field's older list format (see from_records): boxes (n, 4) int32 x, y, width,
    height, 0-based.

    The boxes between labeled frames are linear in the four corners, rounded half up (so no
    box loses its area). What is lost: see from_records; a gap in a tube (a labeled frame
    without this actor) is bridged in the boxes, and not among its labeled_frames. Segments
    of one video become one entry, that video's, with its frame numbers. Raises UserError
    for masks, which it cannot hold.
    """
    records = {}
    for video in annotations.videos.values():
        tubes = records.setdefault(video.source, [])
        for tube in video.tubes:
            if tube.boxes is None:
                raise UserError(
                    f"video {video.name}: tube {tube.track} has masks; the list format "
                    "holds boxes only, keep the annotation file"
                )
            every = np.arange(tube.start, tube.end)
            corners = [np.interp(every, tube.frames, tube.boxes[:, i]) for i in range(4)]
            boxes = np.floor(np.stack(corners, axis=1) + 0.5).astype(np.int32)
            boxes[:, 2:] -= boxes[:, :2]
            start, last = tube.start + video.first, tube.end - 1 + video.first
            tubes.append((start, last, tube.label, boxes, tube.frames + video.first))
    return list(records.items())
