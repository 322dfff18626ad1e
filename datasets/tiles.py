"""A whole video as clips, decoded once: what scoring, clustering and evaluation go through.

Only frames that a clip shows are converted to RGB and resized: with one phase, every second.

A tile is T*stride = 16 frames. Phase p of a tile is the clip of its frames p, p + stride, ...; two phases cover every
frame. The last tile of a video is filled up: by its last frame (scoring), or by black (the evaluation protocol).
"""

import itertools

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.clips import STRIDE, centre_crop, transform
from datasets.video import read_runs
from utils.runtime import UserError


class VideoTiles(Dataset):
    """Video number -> {"name", "clips" uint8 (n,T,3,S,S), "frames" int64 (n,T), "tile", "phase" int64 (n,)}.

    Clips come tile by tile, phase by phase. frames: the video frame under each clip frame, -1 under a black one.
    fill: "repeat" the last frame or "black". A video that is missing or damaged gives {"name", "failed": reason}.
    """

    def __init__(self, videos, find_video, geometry, phases=1, fill="repeat", length=8, stride=STRIDE):
        if fill not in ("repeat", "black"):
            raise ValueError(f"fill must be 'repeat' or 'black', not {fill!r}")
        self.videos, self.find_video, self.geometry = list(videos), find_video, geometry
        self.phases, self.fill, self.length, self.stride = phases, fill, length, stride

    def __len__(self):
        return len(self.videos)

    def __getitem__(self, index):
        video = self.videos[index]
        clips = self.plan(video.frames)
        runs = [np.unique(np.concatenate([shown for shown, _, _ in tile])) for tile in clips]
        pictures = []
        try:
            blocks = read_runs(self.find_video(video.name), video.frames, [run[run >= 0].tolist() for run in runs])
            for tile, run, block in zip(clips, runs, blocks, strict=True):
                finished = transform(block, self.geometry, centre_crop(self.geometry))
                if run[0] < 0:
                    finished = torch.cat([torch.zeros_like(finished[:1]), finished])
                pictures += [finished[np.searchsorted(run, shown)] for shown, _, _ in tile]
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        frames, tiles, phases = (np.stack(column) for column in zip(*itertools.chain(*clips), strict=True))
        return {"name": video.name, "clips": torch.stack(pictures), "frames": frames, "tile": tiles, "phase": phases}

    def plan(self, frames):
        """Of a video of `frames` frames, for each tile its clips: (frame numbers (T,), tile, phase)."""
        size, tiles = self.length * self.stride, []
        for number, start in enumerate(range(0, frames, size)):
            clips = []
            for phase in range(self.phases):
                shown = start + phase + self.stride * np.arange(self.length)
                if self.fill == "repeat":
                    clips.append((np.minimum(shown, frames - 1), number, phase))
                elif shown[0] < frames:
                    clips.append((np.where(shown < frames, shown, -1), number, phase))
            tiles.append(clips)
        return tiles


def tile_loader(tiles, workers):
    """Iterate over a VideoTiles in order, decoding ahead in `workers` processes."""
    return DataLoader(tiles, batch_size=None, num_workers=workers, collate_fn=_as_it_is, generator=torch.Generator())


def _as_it_is(item):
    return item
