"""Regions of foreground, frame by frame -> tubes: one actor, its boxes, scores and masks.

Regions are linked whatever their class, as they come, so that a tube is given out as soon as
it has ended. The rule is looser than those of the evaluation (metrics/linking.py): the masks
of two clips differ where they meet. A tube's class is the one with the highest score.

What a score means: the score of a box for a class is (mean foreground probability of its
region) x (score of the class in its clip). All regions of a clip share its class scores: two
people who do two things get the same ones. The score of a tube is the mean over its boxes,
those filled in apart.

Letters: F frames of a tube, N clips, K regions of a frame, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np

from claus.datasets.labels.masks import encode_rle
from claus.detection.network import Prediction
from claus.metrics import detections, masks
from claus.metrics.detections import DetectionSettings
from claus.metrics.linking import LinkRule, OpenTubes, fill_gaps


@dataclass(frozen=True)
class TubeSettings:
    """Which regions there are, how they are linked, and which tubes are given out.

    threshold, min_area: see metrics.detections.DetectionSettings. min_iou, max_gap: see
    metrics.linking.LinkRule. min_score: of the tube's class, 0 to 1. min_length: frames from
    the first to the last. masks: whether tubes have them. whole: whether the whole frame is
    seen, see Network.
    """

    threshold: float = 0.5
    min_area: float = 0.002
    min_iou: float = 0.2
    max_gap: int = 8
    min_score: float = 0.05
    min_length: int = 16
    masks: bool = False
    whole: bool = True

    @property
    def regions(self) -> DetectionSettings:
        return DetectionSettings(threshold=self.threshold, min_area=self.min_area)

    @property
    def link(self) -> LinkRule:
        return LinkRule(min_iou=self.min_iou, max_gap=self.max_gap)


@dataclass(frozen=True, eq=False)
class Tube:
    """One actor of a video, from its first frame to its last.

    number: of the tube in its video, from 1, in the order of their beginnings. frames (F,):
    every frame from first to last. times (F,): seconds from the start of the file, NaN where
    the file does not say. boxes (F,4): half-open corners x0, y0, x1, y1 in the pixels of the
    video as it is shown, float64. foreground (F,): mean foreground probability of the
    region, NaN where a box was filled in between its neighbors. class_scores (F,C): of the
    frame's clip. masks: of each frame COCO's run lengths, {"size", "counts"}, None where the
    box was filled in; None where no masks were asked for.
    """

    number: int
    classes: tuple[str, ...]
    frames: np.ndarray
    times: np.ndarray
    boxes: np.ndarray
    foreground: np.ndarray
    class_scores: np.ndarray
    masks: list[dict | None] | None = None

    @property
    def scores(self) -> np.ndarray:
        """(C,): of the tube for each class."""
        return self.frame_scores[self.found].mean(axis=0)

    @property
    def frame_scores(self) -> np.ndarray:
        """(F,C): of each box for each class, NaN where it was filled in."""
        return self.foreground[:, None] * self.class_scores

    @property
    def found(self) -> np.ndarray:
        """(F,) bool: which boxes were found and not filled in."""
        return np.isfinite(self.foreground)

    @property
    def label(self) -> int:
        """Index of its class."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """Name of its class."""
        return self.classes[self.label]

    @property
    def score(self) -> float:
        """Of its class, 0 to 1."""
        return float(self.scores.max())


class TubeBuilder:
    """Takes predictions of one video in their order and gives its tubes as they end.

    geometry: of the maps. size: (height, width) of the video. Tubes that are dropped keep
    their numbers. clip_scores: class scores of all clips so far, rows of (C,).
    """

    def __init__(self, classes, geometry, size, settings: TubeSettings):
        self.classes, self.geometry, self.size = tuple(classes), geometry, size
        self.settings, self.links = settings, OpenTubes(settings.link)
        self.times: list[float] = []
        self.clip_scores: list[np.ndarray] = []
        self._open: dict[int, list] = {}

    def add(self, prediction: Prediction, times) -> Iterator[Tube]:
        """Take a prediction, and the times of its frames in the order of the video -> the
        tubes that have ended.
        """
        self.times += list(times)
        self.clip_scores += list(prediction.scores_N_C)
        for frame, regions in self._by_frame(prediction):
            for number in self.links.close(frame):
                yield from self._ended(number)
            boxes = np.array([region.box for region in regions])
            scores = [region.foreground for region in regions]
            numbers = self.links.add(frame, boxes, scores)
            for number, region in zip(numbers, regions, strict=True):
                self._open.setdefault(int(number), []).append(region)
        for number in self.links.close(len(self.times)):
            yield from self._ended(number)

    def end(self) -> Iterator[Tube]:
        """The tubes that the end of the video ends."""
        for number in sorted(self._open):
            yield from self._ended(number)

    def _by_frame(self, prediction):
        """(frame, its regions) in the order of the video."""
        video = SimpleNamespace(height=self.size[0], width=self.size[1])
        found = detections.regions_of(
            video,
            prediction.frames_N_T,
            prediction.probs_N_T_H_W,
            self.geometry,
            self.settings.regions,
        )
        clip_of = {}
        for clip, frames_T in enumerate(prediction.frames_N_T):
            clip_of |= dict.fromkeys(frames_T.tolist(), clip)
        runs = self._masks(prediction) if self.settings.masks else [None] * len(found)
        by_frame = {}
        for frame, box, score, mask in zip(
            found.frame.tolist(), found.box, found.score.tolist(), runs, strict=True
        ):
            scores_C = prediction.scores_N_C[clip_of[frame]]
            region = Region(frame, box, score, scores_C, mask)
            by_frame.setdefault(frame, []).append(region)
        return sorted(by_frame.items())

    def _masks(self, prediction):
        """Run lengths of the regions in the order of detections.regions_of."""
        height, width = self.size
        rows, columns = self.geometry.shown(height, width)
        how = self.settings.regions
        for frames_T, probs in zip(
            prediction.frames_N_T, prediction.probs_N_T_H_W, strict=True
        ):
            shown = probs[frames_T >= 0][:, rows, columns]
            for region in masks.region_maps(
                shown,
                threshold=how.threshold,
                min_area=how.min_area,
                connectivity=how.connectivity,
            ):
                whole = np.zeros(probs.shape[1:], np.float32)
                whole[rows, columns] = region
                yield encode_rle(self._in_video(whole) >= how.threshold)

    def _in_video(self, probs):
        """A map (H,W) -> in the pixels of the video, bilinearly; 0 outside of the map."""
        height, width = self.size
        # where the map's corners lie in the video, as an affine map of pixel centers
        (x0, y0), (x1, y1) = self.geometry.to_video(
            np.array([[0, 0], probs.shape[::-1]]), height, width
        )
        scale_x, scale_y = (x1 - x0) / probs.shape[1], (y1 - y0) / probs.shape[0]
        move = np.array(
            [
                [scale_x, 0, x0 + 0.5 * scale_x - 0.5],
                [0, scale_y, y0 + 0.5 * scale_y - 0.5],
            ]
        )
        return cv2.warpAffine(
            np.ascontiguousarray(probs, np.float32),
            move,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _ended(self, number):
        """The Tube of a number whose regions are complete, unless the settings drop it."""
        regions = self._open.pop(number)
        seen = np.array([region.frame for region in regions])
        frames, boxes = fill_gaps(seen, np.array([region.box for region in regions]))
        if len(frames) < self.settings.min_length:
            return
        foreground = np.full(len(frames), np.nan)
        foreground[seen - frames[0]] = [region.foreground for region in regions]
        scores = np.stack([region.scores for region in regions]).astype(np.float64)
        # a box that was filled in shows the class scores of the box before it
        before = np.maximum.accumulate(
            np.where(np.isfinite(foreground), np.arange(len(frames)), 0)
        )
        row_of = np.zeros(len(frames), np.int64)
        row_of[seen - frames[0]] = np.arange(len(seen))
        runs = None
        if self.settings.masks:
            runs = [None] * len(frames)
            for region in regions:
                runs[region.frame - frames[0]] = region.mask
        tube = Tube(
            number + 1,
            self.classes,
            frames,
            np.array(self.times)[frames[0] : frames[-1] + 1],
            boxes + (0, 0, 1, 1),
            foreground,
            scores[row_of[before]],
            runs,
        )
        if tube.score >= self.settings.min_score:
            yield tube


@dataclass(frozen=True, eq=False)
class Region:
    """A region of one frame: its box with inclusive corners, its mean foreground
    probability, the class scores of its clip, and its run lengths.
    """

    frame: int
    box: np.ndarray
    foreground: float
    scores: np.ndarray
    mask: dict | None
