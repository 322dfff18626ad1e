"""Of videos only the clips that show chosen frames, in the place that evaluation gives them:
what a detector makes of a frame does not depend on which other frames are asked for.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

from claus.datasets.clips.geometry import STRIDE, ClipGeometry
from claus.datasets.clips.tiles import PADDED, VideoTiles
from claus.datasets.labels.annotations import Video
from claus.datasets.video.feature_cache import FeatureCache


class ChosenClips(VideoTiles):
    """VideoTiles of two phases, of which only the clips are given that show one of the frames
    wanted[name], numbers of the entry; other tiles are decoded at most, never shown.
    """

    def __init__(
        self,
        videos: Iterable[Video],
        wanted: Mapping[str, Iterable[int]],
        find_video: Callable[[str], Path],
        geometry: ClipGeometry,
        fill: str,
        features: FeatureCache | None = None,
        cache: str | Path | None = None,
    ):
        if fill not in PADDED:
            raise ValueError(f"fill must be one of {', '.join(PADDED)}, not {fill!r}")
        super().__init__(videos, find_video, geometry, 2, fill, features=features, cache=cache)
        self.wanted = {name: np.unique(list(frames)) for name, frames in wanted.items()}

    def _clips(self, video):
        """See VideoTiles."""
        frames, size = self.wanted[video.name], self.length * self.stride
        clips = {(int(frame) // size, int(frame) % STRIDE) for frame in frames}
        plan = self.plan(video.frames)
        tiles = [plan[number] for number in sorted({number for number, _ in clips})]
        runs = []
        for tile in tiles:
            shown = np.unique([numbers for numbers, _, _ in tile])
            runs.append(shown[shown >= 0])
        for tile, run, block in zip(tiles, runs, self._blocks(video, runs), strict=True):
            filling = block[-1:]
            if self.fill == "black":
                filling = self.features.black() if self.features else torch.zeros_like(filling)
            pictures = torch.cat([filling, block])
            for shown, number, phase in tile:
                if (number, phase) in clips:
                    places = np.where(shown < 0, 0, 1 + np.searchsorted(run, shown))
                    yield pictures[places], shown, number, phase
