"""Tiles of a video -> what the network says of their clips: foreground maps and class scores.

Numbers are those of evaluate.py: the same frames in the same clips and batches, and of a
frozen encoder the same records in half precision.

Letters: K crops of a frame, N clips, T frames of a clip, S pixels of the network's square
maps, H and W pixels of the maps that are given, C classes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from claus import engine
from claus.artifacts.checkpoint import Trained
from claus.datasets.clips.geometry import ClipGeometry, center_crop
from claus.datasets.clips.stream import Tile, clips_of, cover
from claus.datasets.video.feature_cache import frozen_copy, records_of
from claus.models import BACKBONES
from claus.utils.runtime import UserError

# tiles that the network sees at once: engine.predict then has a batch of eight clips
TILES = 4


@dataclass(frozen=True)
class FrameGeometry:
    """Maps of a whole frame, H x W pixels, in place of a ClipGeometry (see
    metrics.masks.scored_boxes).
    """

    frame: tuple[int, int]

    def to_video(self, points, height, width, corner=None):
        """Points (..., 2) of the maps in the pixels of a video of height x width."""
        return np.asarray(points, np.float64) * (width, height) / self.frame[::-1]

    def shown(self, height, width, corner=None):
        """All of the maps."""
        return slice(0, self.frame[0]), slice(0, self.frame[1])


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of the clips of some tiles: numbers of their frames (N,T), -1
    where a tile is filled up; foreground probabilities float32 (N,T,H,W); class scores
    float32 (N,C).
    """

    frames_N_T: np.ndarray
    probs_N_T_H_W: np.ndarray
    scores_N_C: np.ndarray


class Network:
    """A trained detector, and the part of the frame that it is shown.

    whole: crops that cover the frame where the network sees one, their probabilities and
    class scores averaged; else the center crop alone, as in the evaluation protocols.
    geometry: of the maps, for metrics.masks.
    """

    def __init__(self, trained: Trained, whole: bool = True):
        self.trained, geometry = trained, trained.geometry
        self.corners = cover(geometry) if whole else [center_crop(geometry)]
        self.geometry: ClipGeometry | FrameGeometry = geometry
        if len(self.corners) > 1:
            self.geometry = FrameGeometry(geometry.frame)
        self.device = next(trained.detector.parameters()).device
        self.fill = BACKBONES[trained.detector.config.backbone].fill
        encoder, self._trunk = trained.detector.conv1, None
        # as datasets.video.feature_cache.feature_cache
        same_at_every_look = geometry.crop == geometry.frame
        if same_at_every_look and trained.detector.record_length and encoder.frozen:
            self._trunk = frozen_copy(encoder.trunk)

    def predict(self, tiles: list[Tile]) -> Prediction:
        """Prediction for up to TILES tiles that follow one another."""
        crops, clips_of_tiles = [], [clips_of(tile, self._filled(tile)) for tile in tiles]
        for crop in range(len(self.corners)):
            parts = []
            for tile, of_tile in zip(tiles, clips_of_tiles, strict=True):
                frames = self._clips(tile.pictures[crop])
                parts.append(frames[torch.from_numpy(of_tile.places)])
            clips = torch.cat(parts)
            crops.append(self.run(clips))
        frames = np.concatenate([of_tile.frames for of_tile in clips_of_tiles])
        logits = torch.stack([logits for logits, _ in crops])
        scores_K_N_C = np.stack([scores for _, scores in crops])
        if not (logits.isfinite().all() and np.isfinite(scores_K_N_C).all()):
            raise UserError(
                "the detector gives numbers that are not finite; its training diverged, "
                "train again with a lower --lr"
            )
        return Prediction(frames, self._joined(logits), _mean(scores_K_N_C))

    def run(self, clips: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """Logits (N,T,S,S) and class scores (N,C) of clips, or of the records of their
        frames.
        """
        detector, pixel_range = self.trained.detector, self.trained.pixel_range
        logits, scores = engine.predict(detector, clips, pixel_range, amp=self.trained.amp)
        return logits, scores.numpy()

    def _filled(self, tile):
        """The place of what fills up a tile: a black frame behind its own, or its last."""
        count = tile.pictures.shape[1]
        return count if self.fill == "black" else count - 1

    def _clips(self, pictures):
        """The frames of a tile as the detector takes them, after them a black one."""
        pictures = torch.cat([pictures, torch.zeros_like(pictures[:1])])
        if self._trunk is None:
            return pictures
        frames, black = pictures[:-1], pictures[-1:]
        records = [self._records(frames)]
        if self.fill == "black":
            records.append(self._records(black))
        return torch.cat(records)

    def _records(self, pictures):
        return records_of(self._trunk, pictures.to(self.device), self.trained.pixel_range)

    def _joined(self, logits_K_N_T_S_S):
        """Probabilities (N,T,H,W) of the maps of all crops."""
        if len(self.corners) == 1:
            return torch.sigmoid(logits_K_N_T_S_S[0]).numpy()
        probs_K_N_T_S_S = torch.sigmoid(logits_K_N_T_S_S).numpy()
        (height, width), size = self.trained.geometry.crop, probs_K_N_T_S_S.shape[1:3]
        total = np.zeros((*size, *self.trained.geometry.frame), np.float32)
        seen = np.zeros(self.trained.geometry.frame, np.float32)
        for probs_N_T_S_S, (top, left) in zip(probs_K_N_T_S_S, self.corners, strict=True):
            rows, columns = slice(top, top + height), slice(left, left + width)
            seen[rows, columns] += 1
            for n, t in np.ndindex(*size):
                enlarged = cv2.resize(probs_N_T_S_S[n, t], (width, height))
                total[n, t, rows, columns] += enlarged
        return np.clip(total / seen, 0, 1)


def _mean(scores_K_N_C):
    return scores_K_N_C[0] if len(scores_K_N_C) == 1 else scores_K_N_C.mean(axis=0)
