"""The field's older annotation files: lists of (name, tubes), with dense boxes and inclusive ends."""

import numpy as np

from datasets.annotations import Annotations, Tube, Video, corners_from_xywh, int32_array, naming, whole_number
from utils.runtime import UserError


def from_records(records, classes, sizes, dataset, one_based=False):
    """Annotations from the field's older list format.

    records: [(name, [(start, end, label, boxes, labelled_frames[, flag]), ...]), ...]; `end` is inclusive, boxes are
        (end - start + 1, 4) x, y, width, height for every frame from start to end, labelled_frames are absolute frame
        numbers. A tube whose sixth field is 0, or without labelled frames, is not labelled and left out.
    sizes: name -> (frames, height, width), for every video. one_based: see corners_from_xywh.
    Only boxes of really labelled frames are kept (the others were interpolated). Raises UserError.

    Lost against our own form: labelled frames without action (a video with no other becomes unlabelled), track
    numbers (they become 1, 2, ... by position), and whether an actor is absent, or merely not labelled, in a frame
    in which only another actor of its video is: here it counts as absent.
    """
    videos = {}
    for entry in records:
        if not (isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise UserError("an entry is not (name, tubes); this is not the list format")
        name, records_of_tubes = entry
        if name not in sizes:
            raise UserError(f"video {name}: its length and size are not known; add it to sizes")
        if name in videos:
            raise UserError(f"video {name} is listed twice; join its tubes")
        with naming(f"video {name}"):
            tubes = [_tube_from_record(record, i + 1, one_based) for i, record in enumerate(records_of_tubes)]
            tubes = tuple(tube for tube in tubes if tube is not None)
            if len({tube.label for tube in tubes}) > 1:
                raise UserError("tubes of several classes; a video has one class here, split it")
        label = tubes[0].label if tubes else None
        labelled = np.unique(np.concatenate([tube.frames for tube in tubes])) if tubes else ()
        videos[name] = Video(name, *sizes[name], label, labelled, tubes)
    return Annotations(dataset, classes, videos)


def _tube_from_record(record, track, one_based):
    """Tube from one (start, end, label, boxes, labelled_frames[, flag]), or None where it is not labelled."""
    if not isinstance(record, list | tuple) or len(record) not in (5, 6):
        raise UserError(f"tube {track} is not (start, end, label, boxes, labelled_frames[, flag])")
    start, end = whole_number(record[0], f"tube {track}: start"), whole_number(record[1], f"tube {track}: end")
    boxes = int32_array(record[3], f"tube {track}: boxes", (None, 4))
    if len(boxes) != end - start + 1:
        raise UserError(f"tube {track} has {len(boxes)} boxes for frames {start} to {end} inclusive; "
                        f"give {end - start + 1}")
    frames = np.unique(int32_array(record[4], f"tube {track}: labelled_frames", (None,)))
    if not len(frames) or (len(record) == 6 and not record[5]):
        return None
    if frames[0] < start or frames[-1] > end:
        raise UserError(f"tube {track} is labelled at frames {frames[0]} to {frames[-1]}, outside {start} to {end}; "
                        "labelled_frames are frame numbers of the video")
    return Tube(record[2], track, frames, corners_from_xywh(boxes[frames - start], one_based))


def to_records(annotations):
    """The field's older list format (see from_records): boxes (n, 4) int32 x, y, width, height, 0-based.

    The boxes between labelled frames are linear in the four corners, rounded half up (so no box loses its area).
    It says less than our form, see from_records; a tube's gap (a labelled frame without this actor) is bridged in the
    boxes, and not among its labelled_frames. Raises UserError for masks, which it cannot hold.
    """
    records = []
    for video in annotations.videos.values():
        tubes = []
        for tube in video.tubes:
            if tube.boxes is None:
                raise UserError(f"video {video.name}: tube {tube.track} has masks; the list format holds boxes only")
            every = np.arange(tube.start, tube.end)
            corners = [np.interp(every, tube.frames, tube.boxes[:, i]) for i in range(4)]
            boxes = np.floor(np.stack(corners, axis=1) + 0.5).astype(np.int32)
            boxes[:, 2:] -= boxes[:, :2]
            tubes.append((tube.start, tube.end - 1, tube.label, boxes, tube.frames.copy()))
        records.append((video.name, tubes))
    return records
