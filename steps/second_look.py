"""Labels compared with what the detector sees: how good it is on frames that it was not
trained on, and which labels deserve a second look.
"""

import json
from collections.abc import Mapping

import numpy as np

from claus.artifacts.cycle import Cycle
from claus.datasets.labels.annotations import Annotations, Video
from claus.datasets.labels.masks import decode_rle, rle_problem
from claus.metrics.agreement import box_table, frame_agreement, mask_table
from claus.utils.runtime import UserError, write_text

SHOWN = 20  # labels for a second look
FINE = 0.5  # agreement from which a label of the right class is not looked at again


def compare(video: Video, frame: int, actors: list[Mapping]) -> float:
    """frame_agreement of a video's labels and the detector's actors in a frame, by the number
    of the entry, which must be labeled.
    """
    tubes = [tube for tube in video.tubes if frame in tube.frames]
    places = [int(np.searchsorted(tube.frames, frame)) for tube in tubes]
    boxes = all(tube.boxes is not None for tube in tubes)
    if tubes and not boxes:
        labels = np.stack([t.masks[i] for t, i in zip(tubes, places, strict=True)])
        found = [_mask(actor, video, frame) for actor in actors]
        shape = (0, *labels.shape[1:])
        return frame_agreement(
            mask_table(labels, np.stack(found) if found else np.zeros(shape))
        )
    labels = [t.boxes[i] for t, i in zip(tubes, places, strict=True)]
    table = box_table(np.reshape(labels, (-1, 4)), [actor["box"] for actor in actors])
    return frame_agreement(table)


def _mask(actor, video, frame):
    if problem := rle_problem(actor.get("rle"), video.height, video.width):
        raise UserError(
            f"{video.name}: what the detector sees in frame {frame + video.first} {problem}; "
            "remove proposals.json, and run cluster_extract.py --propose again"
        )
    return decode_rle(actor["rle"])


def disagreements(labels: Annotations, found: Mapping) -> list[dict]:
    """[{"video", "frame" (of the file), "why", "iou"}], the worst first: labeled frames
    where the detector agrees by less than FINE, or says another class.

    found: of predict_frames, for the labeled frames.
    """
    rows = []
    for name, frames in found.items():
        video = labels.videos[name]
        for number, actors in frames.items():
            frame = number - video.first
            iou = compare(video, frame, actors)
            shown = [tube for tube in video.tubes if frame in tube.frames]
            other = _other_class(labels.classes, shown, actors)
            if iou >= FINE and other is None:
                continue
            why = _why(len(shown), actors, iou, other)
            row = {"video": name, "frame": number, "why": why, "iou": round(iou, 4)}
            rows.append((iou if other is None else iou / 2, row))
    rows.sort(key=lambda row: (row[0], row[1]["video"], row[1]["frame"]))
    return [row for _, row in rows]


def _other_class(classes, tubes, actors):
    """(class that the detector says, class of the label) where they differ."""
    said = {classes[tube.label] for tube in tubes}
    if not said or not actors or actors[0]["class"] in said:
        return None
    return actors[0]["class"], " and ".join(sorted(said))


def _why(labeled, actors, iou, other):
    """The disagreement in words."""
    if not labeled:
        words = f"labeled 'no action here'; the detector sees {_many(len(actors))}"
    elif not actors:
        words = f"labeled {_many(labeled)}; the detector sees nothing"
    elif labeled != len(actors):
        words = f"labeled {_many(labeled)}; the detector sees {_many(len(actors))}"
    else:
        words = f"label and detector overlap by {100 * iou:.0f}%"
    return words + (f"; it says {other[0]}, the label {other[1]}" if other else "")


def _many(count):
    return "1 actor" if count == 1 else f"{count} actors"


def write_review(cycle: Cycle, labels: Annotations, found: Mapping) -> list[dict]:
    """Write the SHOWN worst to review.json -> the rows."""
    rows = disagreements(labels, found)[:SHOWN]
    lines = [f" {json.dumps(row, ensure_ascii=False)}" for row in rows]
    write_text(cycle.review, "[\n" + ",\n".join(lines) + "\n]\n")
    return rows
