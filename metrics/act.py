"""The `act` protocol: frame-mAP and video-mAP of the detection field, on arrays alone.

    # video, frame, class, x0, y0, x1, y1; of detections, a score after the class
    truth = Boxes.from_rows([["v1", 0, 2, 10, 20, 49, 99]], scored=False)
    found = Boxes.from_rows([["v1", 0, 2, 0.9, 12, 20, 50, 95]], scored=True)
    print(frame_ap(truth, found, classes).to_dict())
    print(video_ap([Tube("v1", 2, frames_F, boxes_F_4)], link(found), classes).to_dict())

Frame-AP. Detections of a class, over all videos, act by descending score (ties: in the
order given). Each takes the still-unmatched ground truth of its class and frame with the
highest IoU (ties: the first), and is a hit if that IoU is >= t; a ground truth is taken by
hits only. AP is the area under precision over recall, by the trapezoid rule through all
points, from (recall 0, precision 1). frame-mAP is the mean over the classes that have
ground truth. Video-AP is the same for tubes, "class and frame" being class and video, after
suppression of doubles (tube_nms).

These are not the f-mAP and v-mAP of the `capsule` protocol, which are rates of hits; the
two are not comparable. Boxes have inclusive corners (boxes.inclusive_corners makes them
of half-open ones). Boxes are linked to tubes by linking.link, and masks become scored
boxes in metrics.masks.

Letters: D detections, G ground truths, P pairs of them, C classes, L thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from claus.metrics.boxes import Boxes, common_keys, pair_iou, same_key_pairs
from claus.metrics.greedy import NOBODY, take_in_turn
from claus.metrics.tubes import Tube, tube_nms, tube_overlaps, tube_rows

PROTOCOL = "act"
RANGE = tuple(i / 20 for i in range(10, 20))  # .5, .55, ..., .95, the range of the mean
THRESHOLDS = tuple(sorted({0.1, 0.2, 0.3, 0.5, 0.75, *RANGE}))


@dataclass(frozen=True, eq=False)
class ApResult:
    """AP per class and threshold, and what it was computed from. All APs are fractions.

    measure: "frame-AP" or "video-AP". thresholds: L numbers. switches: dict, every
    convention by name. ap: (C, L), NaN for a class without ground truth. truths_C,
    detections_C: how many boxes or tubes each class has (detections after suppression).
    """

    measure: str
    classes: tuple
    thresholds: tuple
    switches: dict
    ap: np.ndarray
    truths_C: np.ndarray
    detections_C: np.ndarray

    @property
    def mean_ap(self) -> np.ndarray:
        """(L,) mean over the classes with ground truth, NaN if there is none;
        `all_classes`: over all, empty = 0.
        """
        if self.switches["all_classes"]:
            return np.nan_to_num(self.ap).mean(axis=0)
        present = self.truths_C > 0
        return (
            self.ap[present].mean(axis=0)
            if present.any()
            else np.full(len(self.thresholds), np.nan)
        )

    @property
    def mean_ap_50_95(self) -> float:
        """Mean of `mean_ap` over .5, .55, ..., .95; NaN unless all ten are among the
        thresholds.
        """
        if not set(RANGE) <= set(self.thresholds):
            return float("nan")
        return float(np.mean([self.mean_ap[self.thresholds.index(t)] for t in RANGE]))

    def to_dict(self) -> dict:
        """The result in builtins that JSON can hold; what is undefined (NaN) is None."""
        per_class = [
            {
                "class": name,
                "truths": int(self.truths_C[c]),
                "detections": int(self.detections_C[c]),
                "ap": _plain(self.ap[c]),
            }
            for c, name in enumerate(self.classes)
        ]
        return {
            "protocol": PROTOCOL,
            "measure": self.measure,
            "switches": self.switches,
            "thresholds": list(self.thresholds),
            "truths": int(self.truths_C.sum()),
            "detections": int(self.detections_C.sum()),
            "mean_ap": _plain(self.mean_ap),
            "mean_ap_50_95": _plain([self.mean_ap_50_95])[0],
            "per_class": per_class,
        }


def joined(parts: Sequence[ApResult]) -> ApResult:
    """One result of several of the same switches, of which no two have boxes or tubes of one
    class.
    """
    counts = [
        sum(getattr(part, name) for part in parts) for name in ("truths_C", "detections_C")
    ]
    ap = parts[0].ap.copy()
    for part in parts:
        present = part.truths_C > 0
        ap[present] = part.ap[present]
    return replace(parts[0], ap=ap, truths_C=counts[0], detections_C=counts[1])


def frame_ap(
    truth: Boxes,
    found: Boxes,
    classes: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    plus_one: bool = True,
    strict: bool = False,
    voc_matching: bool = False,
    envelope: bool = False,
    all_classes: bool = False,
    made_by: dict | None = None,
) -> ApResult:
    """Frame-AP of detections -> ApResult.

    truth, found: Boxes (inclusive corners), found with scores; either may be empty.
    classes: the names of all classes of the data set, present or not; labels index them.
    thresholds: IoUs in (0, 1]. plus_one: widths are x1 - x0 + 1 (see boxes.box_iou).
    strict: a hit needs IoU > t instead of >= t. voc_matching: a detection looks only at the
    ground truth with the highest IoU, matched or not, and is a false positive if that is
    already matched. envelope: precision at a recall is the highest at that recall or
    beyond, and AP the area under these steps (the VOC rule), in place of the trapezoid.
    all_classes: the mean is over all classes, one without ground truth counting 0. made_by:
    how boxes and scores were made (builtins); not used, but written beside the numbers.
    Raises ValueError for labels outside the classes, no classes, thresholds outside (0, 1],
    missing scores.
    """
    if found.score is None:
        raise ValueError("the detections have no scores")
    switches = _switches(plus_one, strict, voc_matching, envelope, all_classes, made_by)
    keys = common_keys(*([boxes.video, boxes.frame, boxes.label] for boxes in (found, truth)))
    det_P, gt_P = same_key_pairs(*keys)
    iou_P = pair_iou(found.box, truth.box, det_P, gt_P, plus_one)
    return _result(
        "frame-AP",
        (found.label, found.score),
        truth.label,
        (det_P, gt_P, iou_P),
        classes,
        thresholds,
        switches,
    )


def video_ap(
    truth: Sequence[Tube],
    found: Sequence[Tube],
    classes: Sequence[str],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    nms: float | None = 0.3,
    plus_one: bool = True,
    strict: bool = False,
    voc_matching: bool = False,
    envelope: bool = False,
    all_classes: bool = False,
    made_by: dict | None = None,
) -> ApResult:
    """Video-AP of tubes -> ApResult.

    truth, found: lists of Tube (or tuples of its fields), found with scores; either may be
    empty. nms: tubes that overlap a better one of their video and class by more than this
    are suppressed first (None: they are not). The rest as in `frame_ap`; the IoU of tubes
    is that of metrics.tubes.
    """
    truth, found = tube_rows(truth, scored=False), tube_rows(found, scored=True)
    switches = {
        "nms": nms,
        **_switches(plus_one, strict, voc_matching, envelope, all_classes, made_by),
    }
    kept = np.arange(len(found.label_T)) if nms is None else tube_nms(found, nms, plus_one)
    number = np.full(len(found.label_T), NOBODY)
    number[kept] = np.arange(len(kept))
    det_P, gt_P, iou_P = tube_overlaps(found, truth, plus_one)
    of_kept = number[det_P] != NOBODY
    pairs = number[det_P[of_kept]], gt_P[of_kept], iou_P[of_kept]
    return _result(
        "video-AP",
        (found.label_T[kept], found.score_T[kept]),
        truth.label_T,
        pairs,
        classes,
        thresholds,
        switches,
    )


def average_precision(hits_D: np.ndarray, n_truths: int, envelope: bool = False) -> float:
    """AP of detections in order of descending score; NaN without ground truth, 0 without
    detections.

    hits_D: (D,) bool. With m hits so far after i detections precision is m / i and recall m
    / n_truths. Between two hits recall stands still, so only the hits add area.
    """
    if n_truths == 0:
        return float("nan")
    place = np.flatnonzero(hits_D)  # detections before each hit
    count = np.arange(1, len(place) + 1)
    at_hit = count / (place + 1)
    if envelope:
        return float(np.maximum.accumulate(at_hit[::-1]).sum() / n_truths)
    before_hit = np.where(place == 0, 1.0, (count - 1) / np.maximum(place, 1))
    return float((at_hit + before_hit).sum() / 2 / n_truths)


def _switches(plus_one, strict, voc_matching, envelope, all_classes, made_by):
    return {
        "plus_one": plus_one,
        "strict": strict,
        "voc_matching": voc_matching,
        "envelope": envelope,
        "all_classes": all_classes,
        "made_by": made_by,
    }


def _result(measure, detections, label_G, pairs, classes, thresholds, switches):
    """ApResult from labels and scores of the detections, labels of the truth, and the pairs
    that may match.
    """
    (label_D, score_D), n = detections, len(classes)
    thresholds = tuple(float(t) for t in thresholds)
    if n == 0:
        raise ValueError("give the names of the classes; there are none")
    if not all(0 < t <= 1 for t in thresholds):
        raise ValueError(f"thresholds {thresholds}: give IoUs above 0 and up to 1")
    for what, labels in (("detections", label_D), ("ground truth", label_G)):
        if len(labels) and labels.max() >= n:
            raise ValueError(
                f"{what} of class {labels.max()}, but there are {n} classes (0 to {n - 1})"
            )
    truths_C, detections_C = (np.bincount(labels, minlength=n) for labels in (label_G, label_D))
    order_D = np.lexsort((-score_D, label_D))  # class by class, the best first, ties as given
    rank_D = np.empty_like(order_D)
    rank_D[order_D] = np.arange(len(order_D))
    ends = np.cumsum(detections_C)[:-1]
    ap = np.full((n, len(thresholds)), np.nan)
    for i, hits_D in enumerate(_hits(rank_D, len(label_G), *pairs, thresholds, switches)):
        ap[:, i] = [
            average_precision(hits, truths, switches["envelope"])
            for hits, truths in zip(np.split(hits_D, ends), truths_C, strict=True)
        ]
    return ApResult(measure, tuple(classes), thresholds, switches, ap, truths_C, detections_C)


def _hits(rank_D, n_truths, det_P, gt_P, iou_P, thresholds, switches):
    """For each threshold, which detections are hits: (D,) bool, in order of rank."""
    order_P = np.lexsort(
        (gt_P, -iou_P, rank_D[det_P])
    )  # each detection's ground truths, the best first
    taker_P, gt_P, iou_P = rank_D[det_P][order_P], gt_P[order_P], iou_P[order_P]
    if switches["voc_matching"] and len(taker_P):
        best_P = np.concatenate([[True], taker_P[1:] != taker_P[:-1]])
        taker_P, gt_P, iou_P = taker_P[best_P], gt_P[best_P], iou_P[best_P]
    for t in thresholds:
        enough_P = iou_P > t if switches["strict"] else iou_P >= t
        yield take_in_turn(taker_P[enough_P], gt_P[enough_P], len(rank_D), n_truths) != NOBODY


def _plain(values):
    """Builtin floats, None for NaN."""
    return [None if np.isnan(value) else float(value) for value in values]
