"""From a detector's maps of the test videos to the numbers of the `act` protocol: boxes,
tubes, results.

    boxes = [boxes_of(i, video, frames, probs, scores, geometry) for i, video in ...]
    numbers = report(videos, boxes, classes, crop="224x296")

Letters: N clips of a video, T frames of a clip, S pixels of the network's square maps,
C classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from claus.metrics import act, linking, masks
from claus.metrics.boxes import Boxes

CLASS_SCORES = ("clip", "video")
ROWS = 400_000  # boxes scored at once


@dataclass(frozen=True)
class DetectionSettings:
    """How maps become boxes, boxes tubes, and both are scored.

    threshold: foreground probability in (0, 1] from which a pixel belongs to a box.
    min_area: share of the map in [0, 1) below which a region is dropped. connectivity: 4 or
    8 neighbors of a pixel. class_scores: of a box, those of its "clip" or the mean over the
    clips of its "video". link: a name in linking.RULES. nms: tubes that overlap a better
    one by more are dropped; 1 keeps all. The rest: switches of act.frame_ap. Raises
    ValueError for values outside.
    """

    threshold: float = 0.5
    min_area: float = masks.MIN_AREA
    connectivity: int = 8
    class_scores: str = "clip"
    link: str = "gaps"
    nms: float = 0.3
    strict: bool = False
    voc_matching: bool = False
    envelope: bool = False
    all_classes: bool = False
    plus_one: bool = True

    def __post_init__(self) -> None:
        for name in ("threshold", "nms"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise ValueError(f"{name} must lie above 0 and up to 1, not {value}")
        if not 0 <= self.min_area < 1:
            raise ValueError(
                f"min_area is a share of the map, from 0 to below 1, not {self.min_area}"
            )
        if self.connectivity not in (4, 8):
            raise ValueError(f"connectivity is 4 or 8, not {self.connectivity}")
        if self.class_scores not in CLASS_SCORES:
            raise ValueError(
                f"class_scores is one of {', '.join(CLASS_SCORES)}, not {self.class_scores!r}"
            )
        if self.link not in linking.RULES:
            raise ValueError(f"link is one of {', '.join(linking.RULES)}, not {self.link!r}")


def boxes_of(
    number: int,
    video: object,
    frames_N_T: np.ndarray,
    probs_N_T_S_S: Iterable[np.ndarray],
    scores_N_C: np.ndarray,
    geometry: object,
    settings: DetectionSettings | None = None,
) -> Boxes:
    """Scored boxes of one video, in its pixels, every region once for every class.

    number: what the boxes call the video. video: anything with height and width.
    frames_N_T: frame number of each map, -1 = padding. probs_N_T_S_S: foreground
    probabilities, an array (T, S, S) for each clip. scores_N_C: class scores of each clip.
    geometry: see masks.to_video_pixels.
    """
    settings = settings or DetectionSettings()
    scores_N_C = np.asarray(scores_N_C, np.float64)
    if settings.class_scores == "video":
        scores_N_C = np.broadcast_to(scores_N_C.mean(axis=0), scores_N_C.shape)
    parts = [
        masks.scored_boxes(
            number,
            frames_T,
            probs_T_S_S,
            scores_C,
            geometry,
            video.height,
            video.width,
            threshold=settings.threshold,
            min_area=settings.min_area,
            connectivity=settings.connectivity,
        )
        for frames_T, probs_T_S_S, scores_C in zip(
            frames_N_T, probs_N_T_S_S, scores_N_C, strict=True
        )
    ]
    return Boxes.concat(parts, scored=True)


def regions_of(
    video: object,
    frames_N_T: np.ndarray,
    probs_N_T_S_S: Iterable[np.ndarray],
    geometry: object,
    settings: DetectionSettings | None = None,
) -> Boxes:
    """Boxes of one video without a class: each region once, as number 0 and class 0, scored
    by its mean foreground probability; arguments as of boxes_of. A 24th of those of boxes_of,
    which Regions makes of them.
    """
    settings = settings or DetectionSettings()
    without_class = replace(settings, class_scores="clip")
    ones_N_1 = np.ones((len(frames_N_T), 1))
    return boxes_of(0, video, frames_N_T, probs_N_T_S_S, ones_N_1, geometry, without_class)


@dataclass(frozen=True, eq=False)
class Regions:
    """Boxes of one video whose classes are not written out: `boxes` of regions_of, and the
    class scores of each in the rows `row_n` of scores_K_C.
    """

    boxes: Boxes
    scores_K_C: np.ndarray
    row_n: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes) * self.scores_K_C.shape[1]

    def at(self, frames: np.ndarray) -> "Regions":
        """Those of these frames alone."""
        kept = np.isin(self.boxes.frame, frames)
        return Regions(self.boxes[kept], self.scores_K_C, self.row_n[kept])

    def of_classes(self, number: int, classes: range) -> Boxes:
        """Every region once for each of the classes, as video `number`; as boxes_of has
        them.
        """
        boxes, count = self.boxes, len(classes)
        scores_n_c = np.asarray(self.scores_K_C, np.float64)[self.row_n][:, classes]
        return Boxes(
            np.full(len(boxes) * count, number),
            np.repeat(boxes.frame, count),
            np.tile(np.array(classes), len(boxes)),
            np.repeat(boxes.box, count, axis=0),
            (boxes.score[:, None] * scores_n_c).ravel(),
        )


def report(
    videos: Sequence,
    boxes: Sequence[Boxes | Regions],
    classes: Sequence[str],
    crop: str,
    settings: DetectionSettings | None = None,
    tubes_too: bool = True,
) -> dict:
    """{"frame", "video"}: frame-AP and video-AP as dicts that JSON can hold; without
    tubes_too the second is None.

    videos: annotated videos (see masks.truth), in the order of the numbers in `boxes`, the
    Boxes or Regions of each. Some classes at a time are scored, about ROWS boxes, so that
    memory does not grow with the number of classes. classes: names of all classes. crop: the
    part of the frame that was looked at, in words; it is written beside the numbers.
    """
    settings = settings or DetectionSettings()
    truth_boxes, truth_tubes = masks.truth(videos)
    switches = {
        "plus_one": settings.plus_one,
        "strict": settings.strict,
        "voc_matching": settings.voc_matching,
        "envelope": settings.envelope,
        "all_classes": settings.all_classes,
    }
    made_by = {
        "crop": crop,
        "threshold": settings.threshold,
        "min_area": settings.min_area,
        "connectivity": settings.connectivity,
        "class_scores": settings.class_scores,
    }
    rule = {"rule": settings.link, **asdict(linking.RULES[settings.link])}
    options = {"nms": None if settings.nms == 1 else settings.nms, **switches}
    frame, video = [], []
    for group in _groups(boxes, len(classes)):
        found = Boxes.concat(_of_classes(boxes, group), scored=True)
        truth = truth_boxes[np.isin(truth_boxes.label, group)]
        frame.append(act.frame_ap(truth, found, classes, **switches, made_by=made_by))
        if not tubes_too:
            continue
        tubes = linking.link(found, settings.link, plus_one=settings.plus_one)
        true_tubes = [tube for tube in truth_tubes if tube.label in group]
        linked = {**made_by, "link": rule}
        video.append(act.video_ap(true_tubes, tubes, classes, **options, made_by=linked))
    whole = act.joined(video).to_dict() if tubes_too else None
    return {"frame": act.joined(frame).to_dict(), "video": whole}


def _groups(boxes, count):
    """The classes 0 .. count - 1 as ranges, each of about ROWS boxes, or of one class."""
    rows = sum(map(len, boxes))
    size = max(ROWS * count // max(rows, 1), 1)
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def _of_classes(boxes, classes):
    """The Boxes of these classes of each video."""
    for number, part in enumerate(boxes):
        if isinstance(part, Regions):
            yield part.of_classes(number, classes)
        else:
            yield part[np.isin(part.label, classes)]
