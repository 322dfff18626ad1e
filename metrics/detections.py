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
    which with_class_scores makes of them.
    """
    settings = settings or DetectionSettings()
    without_class = replace(settings, class_scores="clip")
    ones_N_1 = np.ones((len(frames_N_T), 1))
    return boxes_of(0, video, frames_N_T, probs_N_T_S_S, ones_N_1, geometry, without_class)


def with_class_scores(number: int, regions: Boxes, scores_n_C: np.ndarray) -> Boxes:
    """Every region of regions_of once for every class, as `number`; scores_n_C: class scores
    of each region, or (C,) of all.
    """
    scores_n_C = np.asarray(scores_n_C, np.float64)
    classes, score = scores_n_C.shape[-1], regions.score[:, None] * scores_n_C
    return Boxes(
        np.full(len(regions) * classes, number),
        np.repeat(regions.frame, classes),
        np.tile(np.arange(classes), len(regions)),
        np.repeat(regions.box, classes, axis=0),
        score.ravel(),
    )


def report(
    videos: Sequence,
    boxes: Sequence[Boxes],
    classes: Sequence[str],
    crop: str,
    settings: DetectionSettings | None = None,
) -> dict:
    """{"frame", "video"}: frame-AP and video-AP as dicts that JSON can hold.

    videos: annotated videos (see masks.truth), in the order of the numbers in `boxes`, the
    Boxes of each. classes: names of all classes. crop: the part of the frame that was
    looked at, in words; it is written beside the numbers.
    """
    settings = settings or DetectionSettings()
    found = Boxes.concat(boxes, scored=True)
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
    tubes = linking.link(found, settings.link, plus_one=settings.plus_one)
    frame = act.frame_ap(truth_boxes, found, classes, **switches, made_by=made_by)
    video = act.video_ap(
        truth_tubes,
        tubes,
        classes,
        nms=None if settings.nms == 1 else settings.nms,
        **switches,
        made_by={**made_by, "link": rule},
    )
    return {"frame": frame.to_dict(), "video": video.to_dict()}
