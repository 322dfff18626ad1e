"""Training clips of the labeled videos: one random clip around a random labeled frame,
with its pseudo-labels.

Every choice is seeded by (seed, epoch, position), so neither the number of workers nor an
interruption changes a clip.
"""

import contextlib
from collections import OrderedDict

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from claus.datasets.clips.geometry import (
    center_crop,
    clip_indices,
    cut,
    random_crop,
    resize,
    sources,
)
from claus.datasets.labels.masks import PackedMasks
from claus.datasets.labels.pseudo_labels import INTERPOLATION, clip_labels, pseudo_masks
from claus.datasets.video.frame_cache import FrameCache
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import read_frames
from claus.utils.runtime import UserError

IN_MEMORY = 32e6  # bytes of compressed masks a process keeps: all of J-HMDB's


class ClipSampler(Sampler):
    """Yields (epoch, position, video name): every labeled video `per_epoch` times,
    shuffled, cut at `length` clips.

    stream: numbers that the shuffling draws from beside the seed; another sampler of the
    same seed has others.
    """

    def __init__(self, names, seed, length=None, per_epoch=2, stream=(1,)):
        self.names, self.seed, self.epoch, self.stream = list(names), seed, 0, stream
        self.length = length or per_epoch * len(self.names)

    def __len__(self):
        return self.length

    def __iter__(self):
        rng = np.random.default_rng([self.seed, *self.stream, self.epoch])
        order = np.concatenate(
            [
                rng.permutation(len(self.names))
                for _ in range(-(-self.length // len(self.names)))
            ]
        )
        for position, index in enumerate(order[: self.length]):
            yield self.epoch, position, self.names[index]


class TrainingClips(Dataset):
    """(epoch, position, name) -> one clip as a dict of tensors.

    frames uint8 (T,3,S,S), target uint8 {0,1} (T,S,S), weight φ float32 (T,S,S), label int,
    name str, on_label bool (T,), anchor int: index of the labeled frame the clip was made
    around. A video that is missing or cannot be read gives {"name", "failed": reason}
    instead. interpolation: of masks, one of mask_interp.INTERPOLATIONS. folder: where what saves
    time is kept: indices of the videos, and up to `cache_gb` of decoded clips.
    """

    def __init__(
        self,
        annotations,
        find_video,
        geometry,
        seed,
        loss="stew",
        weighting="paper",
        interpolation=INTERPOLATION,
        folder=None,
        cache_gb=0,
    ):
        self.annotations, self.find_video, self.geometry = annotations, find_video, geometry
        self.seed, self.loss, self.weighting, self.interpolation = (
            seed,
            loss,
            weighting,
            interpolation,
        )
        self.videos = IndexedVideos(folder)
        self.cache = FrameCache(folder, cache_gb) if folder and cache_gb else None
        self._dense = OrderedDict()  # video name -> its pseudo-labels, where these are masks

    def __getitem__(self, key):
        epoch, position, name = key
        video = self.annotations.videos[name]
        rng = np.random.default_rng([self.seed, 2, epoch, position])
        return self.clip(video, int(rng.choice(video.labeled_frames)), rng)

    def clip(self, video, anchor, rng=None):
        """The clip of `video` around frame `anchor`; center crop without flip where rng is
        None.
        """
        indices = clip_indices(video.frames, anchor)
        corner = (
            random_crop(self.geometry, rng) if rng is not None else center_crop(self.geometry)
        )
        flip = rng is not None and bool(rng.random() < 0.5)
        try:
            frames = self.frames(self.find_video(video.name), indices, video.frames)
            masks = self.pseudo_masks(video, indices)
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        rows, columns = sources((video.height, video.width), self.geometry, corner, flip)
        target, weight = clip_labels(
            video, indices, rows, columns, self.loss, self.weighting, masks
        )
        return {
            "frames": cut(frames, self.geometry, corner, flip),
            "target": torch.from_numpy(target),
            "weight": torch.from_numpy(weight),
            "label": video.label,
            "name": video.name,
            "anchor": int(np.flatnonzero(indices == anchor)[0]),
            "on_label": torch.from_numpy(np.isin(indices, video.labeled_frames)),
        }

    def frames(self, path, indices, frames):
        """Frames of a video of `frames` frames, resized to geometry.frame: uint8 (T,h,w,3)."""
        place = None
        with contextlib.suppress(OSError):  # reading it says what is wrong
            place = self.cache and self.cache.path_of(path, indices, self.geometry.frame)
        if place is None:
            return resize(self.videos.read_frames(path, indices, frames), self.geometry.frame)
        clip = self.cache.load(place, (len(indices), *self.geometry.frame, 3))
        if clip is None:
            clip = resize(self.videos.read_frames(path, indices, frames), self.geometry.frame)
            self.cache.store(place, clip)
        return clip

    def pseudo_masks(self, video, frames):
        """Pseudo-labels uint8 {0,1} (T,H,W) at `frames` (T,), None where all labels are
        boxes.

        Masks are made for a whole video at once, and kept, compressed, up to IN_MEMORY
        bytes of them.
        """
        if all(tube.masks is None for tube in video.tubes):
            return None
        if video.name not in self._dense:
            every = pseudo_masks(
                video,
                np.arange(video.frames),
                self.interpolation,
                lambda: self._pictures(video),
            )
            self._dense[video.name] = PackedMasks.pack(every.view(bool))
            while (
                len(self._dense) > 1
                and sum(masks.nbytes for masks in self._dense.values()) > IN_MEMORY
            ):
                self._dense.popitem(last=False)
        self._dense.move_to_end(video.name)
        return self._dense[video.name][frames].view(np.uint8)

    def _pictures(self, video):
        path = self.find_video(video.name)
        pictures = read_frames(path, range(video.frames), video.frames)
        if pictures.shape[1:3] != (video.height, video.width):
            raise UserError(
                f"{path}: has {pictures.shape[2]}x{pictures.shape[1]} pixels, its "
                f"masks {video.width}x"
                f"{video.height}; give the videos that belong to the masks, or another "
                f"--mask-interp"
            )
        return pictures


class LabeledFrames(TrainingClips):
    """Validation: one center-cropped clip for every labeled frame of the videos; index
    (name, frame).
    """

    def __getitem__(self, key):
        name, frame = key
        return self.clip(self.annotations.videos[name], frame)


def collate(items):
    """Stack the clips of a batch; `failed` is a list of (name, reason) of the videos that
    could not be read.
    """
    good = [item for item in items if "failed" not in item]
    batch = {
        "failed": [(item["name"], item["failed"]) for item in items if "failed" in item],
        "name": [item["name"] for item in good],
    }
    if good:
        for key in ("label", "anchor"):
            batch[key] = torch.tensor([item[key] for item in good])
        for key in ("frames", "target", "weight", "on_label"):
            batch[key] = torch.stack([item[key] for item in good])
    return batch


def loader(dataset, sampler, batch_size, workers):
    """DataLoader over `sampler` that draws nothing from the global random state."""
    return DataLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator(),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
