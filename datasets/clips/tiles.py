"""A whole video as clips, decoded once: for scoring, clustering and evaluation.

Only frames that a clip shows are converted to RGB and resized: with one phase, every second.

A tile is T*stride = 16 frames. Phase p of a tile is the clip of its frames p, p + stride,
...; two phases cover every frame. The last tile of a video is filled up by its last frame
(scoring, as published) or by black (the evaluation protocol); or it begins earlier, so that
it is complete and shows motion throughout (scoring, our own rules).
"""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from claus.datasets.clips.geometry import STRIDE, ClipGeometry, center_crop, transform
from claus.datasets.labels.annotations import Video
from claus.datasets.video.reader import read_runs
from claus.utils.runtime import UserError

FILLS = ("repeat", "black", "shift")


class VideoTiles(Dataset):
    """Video number -> {"name", "clips" uint8 (n,T,3,S,S), "frames" int64 (n,T), "tile",
    "phase" int64 (n,)}.

    Clips come tile by tile, phase by phase. frames: the video frame under each clip frame,
    -1 under a black one. fill: "repeat" the last frame, "black", or "shift" the last tile
    to end with the video (where that has a whole tile; a shorter one repeats its last
    frame). A video that is missing or damaged gives {"name", "failed": reason}.
    """

    def __init__(
        self,
        videos: Iterable[Video],
        find_video: Callable[[str], Path],
        geometry: ClipGeometry,
        phases: int = 1,
        fill: str = "repeat",
        length: int = 8,
        stride: int = STRIDE,
    ):
        if fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, not {fill!r}")
        self.videos, self.find_video, self.geometry = list(videos), find_video, geometry
        self.phases, self.fill, self.length, self.stride = phases, fill, length, stride

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        video = self.videos[index]
        plan = self.plan(video.frames)
        try:
            pictures = self._pictures(video, plan)
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        columns = zip(*itertools.chain(*plan), strict=True)
        frames, tiles, phases = (np.stack(column) for column in columns)
        return {
            "name": video.name,
            "clips": torch.stack(pictures),
            "frames": frames,
            "tile": tiles,
            "phase": phases,
        }

    def _pictures(self, video, plan):
        """The clips of a plan, uint8 (T,3,S,S) each, from one pass over the video."""
        wanted = np.unique([shown for tile in plan for shown, _, _ in tile])
        tile_of = wanted // (self.length * self.stride)
        runs = [wanted[tile_of == tile] for tile in range(len(plan))]
        path, corner = self.find_video(video.name), center_crop(self.geometry)
        labeled = video.height, video.width
        blocks = read_runs(path, video.frames, [run.tolist() for run in runs], labeled)
        pictures, before = [], []
        for tile, run, block in zip(plan, runs, blocks, strict=True):
            now = [(run, transform(block, self.geometry, corner))]
            if self.fill == "black":
                now.insert(0, (np.array([-1]), torch.zeros_like(now[0][1][:1])))
            # a shifted tile also shows frames of the tile before
            numbers = np.concatenate([numbers for numbers, _ in (*before, *now)])
            finished = torch.cat([frames for _, frames in (*before, *now)])
            for shown, _, _ in tile:
                pictures.append(finished[np.searchsorted(numbers, shown)])
            before = now if self.fill == "shift" else []
        return pictures

    def plan(self, frames: int) -> list[list[tuple[np.ndarray, int, int]]]:
        """For each tile of a video of `frames` frames, its clips: (frame numbers (T,),
        tile, phase).
        """
        size, tiles = self.length * self.stride, []
        for number, start in enumerate(range(0, frames, size)):
            clips = []
            if self.fill == "shift":
                start = min(start, shifted_start(frames, size, self.stride, self.phases))
            for phase in range(self.phases):
                shown = start + phase + self.stride * np.arange(self.length)
                if self.fill != "black":
                    clips.append((np.minimum(shown, frames - 1), number, phase))
                elif shown[0] < frames:
                    clips.append((np.where(shown < frames, shown, -1), number, phase))
            tiles.append(clips)
        return tiles


def shifted_start(frames: int, size: int, stride: int, phases: int) -> int:
    """First frame of a last tile that shows the last frame of the video last, in its last
    phase; at least 0.
    """
    return max(frames - size + stride - phases, 0)


def tile_loader(tiles: VideoTiles, workers: int) -> DataLoader:
    """Iterate over a VideoTiles in order, decoding ahead in `workers` processes."""
    return DataLoader(
        tiles,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),
    )


def _as_it_is(item):
    return item
