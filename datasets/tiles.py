"""A whole video as clips, decoded once: what scoring, clustering and evaluation go through.

A tile is T*stride = 16 frames. Phase p of a tile is the clip of its frames p, p + stride, ...; two phases cover every
frame. The last tile of a video is filled up: by its last frame (scoring), or by black (the evaluation protocol).
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datasets.clips import STRIDE, centre_crop, transform
from datasets.video import read_blocks
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
        size = self.length * self.stride
        clips, frames, tiles, phases = [], [], [], []
        try:
            for start, block in read_blocks(self.find_video(video.name), video.frames, size):
                pictures = transform(block, self.geometry, centre_crop(self.geometry))
                for phase in range(self.phases):
                    wanted = phase + self.stride * np.arange(self.length)
                    inside = wanted < len(block)
                    if self.fill == "black" and not inside.any():
                        continue
                    clip = pictures[np.minimum(wanted, len(block) - 1)]
                    if self.fill == "black":
                        clip[~torch.from_numpy(inside)] = 0
                        frames.append(np.where(inside, start + wanted, -1))
                    else:
                        frames.append(start + np.minimum(wanted, len(block) - 1))
                    clips.append(clip)
                    tiles.append(start // size)
                    phases.append(phase)
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        return {"name": video.name, "clips": torch.stack(clips), "frames": np.stack(frames), "tile": np.array(tiles),
                "phase": np.array(phases)}


def tile_loader(tiles, workers):
    """Iterate over a VideoTiles in order, decoding ahead in `workers` processes."""
    return DataLoader(tiles, batch_size=None, num_workers=workers, collate_fn=_as_it_is, generator=torch.Generator())


def _as_it_is(item):
    return item
