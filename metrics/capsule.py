"""The `capsule` protocol: f-mAP and v-mAP of foreground masks, on arrays alone.

The protocol of capsule-network video action detection, under which the paper's tables were
made. In order:

1. A video is cut into blocks of `length * stride` frames (16), each block into `stride`
   clips (2) of `length` frames (8); clips past the end of the video are padded. Clips
   without any ground truth are dropped.
2. Foreground is where sigmoid(logit) >= 0.5. Frames with ground truth count, the others do not.
3. A frame is a hit at threshold t if its mask IoU >= t. A video is a hit if (sum of
   intersections) / (sum of unions) over its counted frames >= t. t = 0, .05, ..., .95.
4. Rates of hits are taken per ground-truth class of the video, then averaged over classes.

It looks at one class-agnostic mask, so **the predicted class does not enter f-mAP and
v-mAP**. Beside them stand the accuracy and class-aware versions, in which a hit counts only
if the video's class was predicted correctly. It is not the frame-mAP / video-mAP of the
detection field, and its numbers are not comparable with those.

    video = VideoOverlap.empty("Biking/v_1", label=1, frames=151, n_classes=24)
    for clip, frames_T in enumerate(evaluation_clips(151)):
        video.add_clip(clip, frames_T, foreground(logits_T_H_W), gt_T_H_W, scores_C)
    print(evaluate([video], classes, Switches(crop="224x296")).to_dict())

Letters: F frames of a video, T frames of a clip, V videos, N frames of all videos, C
classes, L = 20 thresholds, A actors, H and W pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

PROTOCOL = "capsule"
STEPS = 20
THRESHOLDS = tuple(i / STEPS for i in range(STEPS))  # 0, .05, ..., .95
GT_MODES = ("union", "random_one", "first")
ABSENT_CLASS = ("skip", "nan")
CLASS_FROM = ("kept_clips", "all_clips")


@dataclass(frozen=True)
class Switches:
    """What the protocol leaves open. Every result carries these beside its numbers.

    crop: text naming the part of the frame that is scored, e.g. "224x296"; it only
    documents what the caller did. gt: which actors' boxes are the truth of a frame (see
    `select_actors`); likewise done by the caller. absent_class: a class with nothing to
    count is left out of the mean ("skip") or makes it NaN ("nan"). count_frames_without_gt:
    frames without ground truth in kept clips count too: IoU 1 if nothing is predicted
        there, else 0. A video without any ground truth is not counted either way.
    class_from: a video's class comes from its clips with ground truth ("kept_clips", what
    the field's code does,
        although which clips these are is not known without the truth) or from all of them
        ("all_clips").
    clip_length, clip_stride: frames of a clip and the distance between them; they decide
    which clips are kept.
    """

    crop: str = "whole frame"
    gt: str = "union"
    absent_class: str = "skip"
    count_frames_without_gt: bool = False
    class_from: str = "kept_clips"
    clip_length: int = 8
    clip_stride: int = 2

    def __post_init__(self) -> None:
        choices_of = {
            "gt": GT_MODES,
            "absent_class": ABSENT_CLASS,
            "class_from": CLASS_FROM,
        }
        for name, choices in choices_of.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, must be one of {', '.join(choices)}"
                )


def evaluation_clips(frames: int, length: int = 8, stride: int = 2) -> np.ndarray:
    """Frame numbers of a video's clips, (n_clips, length) int64, -1 for padding after the
    end of the video.

    Block by block, phase by phase: 0 2 ... 14, 1 3 ... 15, 16 18 ... Every frame is in
    exactly one clip. The last block is padded (the network sees zeros there), and may hold
    a clip of padding alone; 0 frames give 0 clips.
    """
    if frames < 0 or length < 1 or stride < 1:
        raise ValueError(f"no clips of {length} frames at stride {stride} in {frames} frames")
    block = length * stride
    n_blocks = -(-frames // block)
    clips_B_T_S = np.arange(n_blocks * block, dtype=np.int64).reshape(n_blocks, length, stride)
    clips = clips_B_T_S.transpose(0, 2, 1).reshape(n_blocks * stride, length)
    return np.where(clips < frames, clips, -1)


def foreground(logits: np.ndarray) -> np.ndarray:
    """True where sigmoid(logit) >= 0.5, which is logit >= 0. Raises ValueError for a NaN."""
    logits = np.asarray(logits)
    if np.isnan(logits).any():
        raise ValueError("the predicted mask holds NaN")
    return logits >= 0


def select_actors(
    visible_A_F: np.ndarray,
    mode: str = "union",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Which actors make up the truth of each frame, (A, F) bool, always a part of
    `visible_A_F`.

    union: all. first: the first visible one in the order of annotation. random_one: one of
    the visible ones, drawn for each frame by itself from `rng` (a numpy Generator; make one per
    video, so that the order of videos does not matter). A frame without a visible actor
    keeps none.
    """
    visible_A_F = np.asarray(visible_A_F, dtype=bool)
    if mode == "union" or len(visible_A_F) == 0:
        return visible_A_F.copy()
    if mode == "first":
        rank_A = -np.arange(len(visible_A_F))
        rank_A_F = np.broadcast_to(rank_A[:, None], visible_A_F.shape).astype(float)
    elif mode == "random_one":
        if rng is None:
            raise ValueError("gt mode random_one needs a random generator")
        rank_A_F = rng.random(visible_A_F.shape)
    else:
        raise ValueError(f"gt mode is {mode!r}, must be one of {', '.join(GT_MODES)}")
    best_F = np.where(visible_A_F, rank_A_F, -np.inf).argmax(axis=0)
    return visible_A_F & (np.arange(len(visible_A_F))[:, None] == best_F)


def reduce_actors(
    masks_A_T_H_W: np.ndarray,
    mode: str = "union",
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Ground-truth masks (T, H, W) bool from one mask per actor (A, T, H, W) bool, by the
    rule of `select_actors`.

    Give the masks cropped: an actor without a pixel inside the crop is not visible.
    """
    masks_A_T_H_W = np.asarray(masks_A_T_H_W, dtype=bool)
    chosen_A_T = select_actors(masks_A_T_H_W.any(axis=(2, 3)), mode, rng)
    return (masks_A_T_H_W & chosen_A_T[:, :, None, None]).any(axis=0)


@dataclass(eq=False)
class VideoOverlap:
    """Pixel counts of one video, frame by frame: all that the protocol needs to know of its
    masks.

    intersection_F, union_F, gt_F: int64 (F,), pixels in both masks, in either, and in the
    ground truth. clip_scores: (n_clips, C) class scores, a row of NaN for a clip that was
    not scored; None where no class was predicted at all. label: ground-truth class 0..C-1.
    `empty` makes one, `add_clip` fills it in any order.
    """

    name: str
    label: int
    intersection_F: np.ndarray
    union_F: np.ndarray
    gt_F: np.ndarray
    clip_scores: np.ndarray | None = None

    @classmethod
    def empty(
        cls,
        name: str,
        label: int,
        frames: int,
        n_classes: int | None = None,
        length: int = 8,
        stride: int = 2,
    ) -> "VideoOverlap":
        """A video of which nothing has been seen; without `n_classes`, one for which no
        class is predicted.
        """
        counts = [np.zeros(frames, dtype=np.int64) for _ in range(3)]
        n_clips = len(evaluation_clips(frames, length, stride))
        scores = None if n_classes is None else np.full((n_clips, n_classes), np.nan)
        return cls(name, label, *counts, scores)

    def add_clip(
        self,
        clip: int,
        frames_T: np.ndarray,
        pred_T_H_W: np.ndarray,
        gt_T_H_W: np.ndarray,
        scores_C: np.ndarray | None = None,
    ) -> None:
        """Take in clip number `clip` of `evaluation_clips`: its frames (-1 = padding,
        ignored), masks and scores.
        """
        self.add_frames(frames_T, pred_T_H_W, gt_T_H_W)
        if scores_C is not None:
            if not np.isfinite(scores_C).all():
                raise ValueError(f"{self.name}: the class scores of clip {clip} are not finite")
            self.clip_scores[clip] = scores_C

    def add_frames(
        self, frames_T: np.ndarray, pred_T_H_W: np.ndarray, gt_T_H_W: np.ndarray
    ) -> None:
        """Count the overlap of bool masks (T, H, W) for the frames numbered `frames_T`; -1
        is ignored.
        """
        frames_T = np.asarray(frames_T, dtype=np.int64)
        pred, gt = np.asarray(pred_T_H_W), np.asarray(gt_T_H_W)
        masks = pred.dtype == bool and gt.dtype == bool
        fit = pred.shape == gt.shape and len(pred) == len(frames_T)
        if not (masks and fit):
            raise ValueError(
                f"{self.name}: needs two bool masks (T, H, W) for {len(frames_T)} frames, "
                f"got {pred.dtype} {pred.shape} and {gt.dtype} {gt.shape}"
            )
        real = frames_T >= 0
        frames, pred, gt = frames_T[real], pred[real], gt[real]
        self.intersection_F[frames] = np.count_nonzero(pred & gt, axis=(1, 2))
        self.union_F[frames] = np.count_nonzero(pred | gt, axis=(1, 2))
        self.gt_F[frames] = np.count_nonzero(gt, axis=(1, 2))

    def kept_clips(self, switches: Switches) -> np.ndarray:
        """(n_clips,) bool: the clips with ground truth in at least one of their frames."""
        clips = evaluation_clips(len(self.gt_F), switches.clip_length, switches.clip_stride)
        return ((clips >= 0) & (self.gt_F[clips] > 0)).any(axis=1)

    def counted_frames(self, switches: Switches) -> np.ndarray:
        """(F,) bool: the frames that count."""
        if not switches.count_frames_without_gt:
            return self.gt_F > 0
        clips = evaluation_clips(len(self.gt_F), switches.clip_length, switches.clip_stride)
        kept = clips[self.kept_clips(switches)]
        counted_F = np.zeros(len(self.gt_F), dtype=bool)
        counted_F[kept[kept >= 0]] = True
        return counted_F

    def predicted_class(self, switches: Switches) -> int | None:
        """Largest mean score over the clips that `class_from` names (ties: the lower
        class); None without scores.
        """
        if self.clip_scores is None:
            return None
        clips = evaluation_clips(len(self.gt_F), switches.clip_length, switches.clip_stride)
        if len(clips) != len(self.clip_scores):
            raise ValueError(
                f"{self.name}: {len(self.clip_scores)} rows of class scores for "
                f"{len(clips)} clips"
            )
        chosen = (
            self.kept_clips(switches)
            if switches.class_from == "kept_clips"
            else (clips >= 0).any(axis=1)
        )
        scores = self.clip_scores[chosen].astype(np.float64)
        if len(scores) == 0 or np.isnan(scores).any():
            raise ValueError(
                f"{self.name}: {switches.class_from} has clips without class scores, or no clip"
            )
        return int(scores.mean(axis=0).argmax())


@dataclass(frozen=True, eq=False)
class CapsuleResult:
    """Rates at the L = 20 thresholds and what they were counted on. All rates are
    fractions, NaN where undefined.

    f_ap, v_ap: (C, L) rate of hits among the counted frames / videos of each class. f_map,
    v_map: (L,) their mean. *_class_aware: the same where a hit counts only if the video's
    class is right. frames_C, videos_C: how many were counted; correct_C: videos whose class
    is right. The class-aware fields and correct_C are None without classes.
    """

    classes: tuple
    switches: Switches
    frames_C: np.ndarray
    videos_C: np.ndarray
    videos_without_gt: int
    f_ap: np.ndarray
    v_ap: np.ndarray
    correct_C: np.ndarray | None = None
    f_ap_class_aware: np.ndarray | None = None
    v_ap_class_aware: np.ndarray | None = None

    @property
    def f_map(self) -> np.ndarray:
        return self._mean(self.f_ap)

    @property
    def v_map(self) -> np.ndarray:
        return self._mean(self.v_ap)

    @property
    def f_map_class_aware(self) -> np.ndarray | None:
        return self._mean(self.f_ap_class_aware)

    @property
    def v_map_class_aware(self) -> np.ndarray | None:
        return self._mean(self.v_ap_class_aware)

    @property
    def accuracy(self) -> float | None:
        """Share of the counted videos whose class is right; NaN without videos, None
        without classes.
        """
        if self.correct_C is None:
            return None
        return (
            float(self.correct_C.sum() / self.videos_C.sum())
            if self.videos_C.any()
            else float("nan")
        )

    def _mean(self, rate_C_L):
        """Mean over classes; one without frames or videos is skipped or makes it NaN.
        Nothing at all: NaN.
        """
        if rate_C_L is None:
            return None
        used = (
            self.videos_C > 0
            if self.switches.absent_class == "skip"
            else np.ones(len(self.classes), bool)
        )
        return rate_C_L[used].mean(axis=0) if used.any() else np.full(STEPS, np.nan)

    def to_dict(self) -> dict:
        """The result in builtins that JSON can hold; what is undefined (NaN) or was not
        measured is None.
        """
        per_class = []
        for c, name in enumerate(self.classes):
            row = {
                "class": name,
                "videos": int(self.videos_C[c]),
                "frames": int(self.frames_C[c]),
            }
            row["correct"] = None if self.correct_C is None else int(self.correct_C[c])
            for key in ("f_ap", "v_ap", "f_ap_class_aware", "v_ap_class_aware"):
                rate_C_L = getattr(self, key)
                row[key] = None if rate_C_L is None else _plain(rate_C_L[c])
            per_class.append(row)
        return {
            "protocol": PROTOCOL,
            "switches": asdict(self.switches),
            "thresholds": list(THRESHOLDS),
            "videos": int(self.videos_C.sum()),
            "frames": int(self.frames_C.sum()),
            "videos_without_gt": self.videos_without_gt,
            "accuracy": _plain(self.accuracy),
            "f_map": _plain(self.f_map),
            "v_map": _plain(self.v_map),
            "f_map_class_aware": _plain(self.f_map_class_aware),
            "v_map_class_aware": _plain(self.v_map_class_aware),
            "per_class": per_class,
        }


def evaluate(
    videos: Iterable[VideoOverlap],
    classes: Sequence[str],
    switches: Switches | None = None,
) -> CapsuleResult:
    """Score VideoOverlaps (an iterable) under the capsule protocol -> CapsuleResult.

    classes: the names of all C classes of the data set, present or not. Videos without
    ground truth are left out and counted in `videos_without_gt`. Raises ValueError if only
    some of the counted videos have class scores, if two videos have one name, or a label is
    out of range.
    """
    switches = switches or Switches()
    n_classes, names, without_gt = len(classes), set(), 0
    labels_V, right_V, lengths_V, totals_V, overlaps = [], [], [], [], []
    for video in videos:
        _check(video, names, n_classes)
        if not video.gt_F.any():
            without_gt += 1
            continue
        counted_F = video.counted_frames(switches)
        overlaps.append(np.stack([video.intersection_F[counted_F], video.union_F[counted_F]]))
        predicted = video.predicted_class(switches)
        right_V.append(None if predicted is None else predicted == video.label)
        labels_V.append(video.label)
        lengths_V.append(int(counted_F.sum()))
        totals_V.append(overlaps[-1].sum(axis=1))
    if None in right_V and set(right_V) != {None}:
        raise ValueError("some videos have class scores and others do not")

    label_V, none = np.array(labels_V, dtype=np.int64), np.zeros((2, 0), dtype=np.int64)
    label_N = np.repeat(label_V, lengths_V)
    overlap_2_N = np.concatenate([none, *overlaps], axis=1)
    overlap_2_V = np.stack(totals_V, axis=1) if totals_V else none
    frames_C = np.bincount(label_N, minlength=n_classes)
    videos_C = np.bincount(label_V, minlength=n_classes)

    def rates(right_V):
        """Rates of hits among frames and among videos, counting the hits of the videos
        chosen by `right_V` only.
        """
        right_N = np.repeat(right_V, lengths_V)
        f_hits = hit_counts(label_N[right_N], *overlap_2_N[:, right_N], n_classes)
        v_hits = hit_counts(label_V[right_V], *overlap_2_V[:, right_V], n_classes)
        return _divide(f_hits, frames_C), _divide(v_hits, videos_C)

    result = (
        tuple(classes),
        switches,
        frames_C,
        videos_C,
        without_gt,
        *rates(np.ones(len(label_V), dtype=bool)),
    )
    if None in right_V:
        return CapsuleResult(*result)
    right_V = np.array(right_V, dtype=bool)
    return CapsuleResult(
        *result, np.bincount(label_V[right_V], minlength=n_classes), *rates(right_V)
    )


def hit_counts(
    label_N: np.ndarray, intersection_N: np.ndarray, union_N: np.ndarray, n_classes: int
) -> np.ndarray:
    """How many of N frames (or videos) of each class have IoU >= t, (C, L) int64.

    In whole numbers: IoU >= i/20 exactly if 20 * intersection // union >= i. Empty against
    empty has IoU 1.
    """
    bins = np.bincount(
        label_N * STEPS + iou_level(intersection_N, union_N), minlength=n_classes * STEPS
    )
    return bins.reshape(n_classes, STEPS)[:, ::-1].cumsum(axis=1)[:, ::-1]


def iou_level(intersection: np.ndarray, union: np.ndarray) -> np.ndarray:
    """Number of the highest threshold that the IoU reaches, 0..19, exact; empty against
    empty reaches all.
    """
    level = STEPS * intersection // np.maximum(union, 1)
    return np.where(union == 0, STEPS - 1, np.minimum(level, STEPS - 1))


def _check(video, names, n_classes):
    if video.name in names:
        raise ValueError(f"two videos are called {video.name}")
    names.add(video.name)
    if not 0 <= video.label < n_classes:
        raise ValueError(f"{video.name}: class {video.label} of {n_classes}")


def _divide(hits_C_L, count_C):
    """hits / count per class, NaN where a class has nothing to count."""
    return np.where(count_C[:, None] > 0, hits_C_L / np.maximum(count_C[:, None], 1), np.nan)


def _plain(values):
    """Builtin floats, None for NaN."""
    if values is None or isinstance(values, float):
        return None if values is None or np.isnan(values) else values
    return [None if np.isnan(value) else float(value) for value in values]
