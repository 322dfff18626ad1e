"""Training clips of the labelled videos: one random clip around a random labelled frame, with its pseudo-labels.

Every choice is seeded by (seed, epoch, position), so neither the number of workers nor an interruption changes a clip.
"""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datasets.clips import centre_crop, clip_indices, random_crop, transform
from datasets.masks import PackedMasks
from datasets.pseudo_labels import INTERPOLATION, clip_weight, pseudo_masks
from datasets.video import read_blocks, read_frames
from utils.runtime import UserError


class ClipSampler(Sampler):
    """Yields (epoch, position, video name): every labelled video `per_epoch` times, shuffled, cut at `length` clips."""

    def __init__(self, names, seed, length=None, per_epoch=2):
        self.names, self.seed, self.epoch = list(names), seed, 0
        self.length = length or per_epoch * len(self.names)

    def __len__(self):
        return self.length

    def __iter__(self):
        rng = np.random.default_rng([self.seed, 1, self.epoch])
        order = np.concatenate([rng.permutation(len(self.names)) for _ in range(-(-self.length // len(self.names)))])
        for position, index in enumerate(order[:self.length]):
            yield self.epoch, position, self.names[index]


class TrainingClips(Dataset):
    """(epoch, position, name) -> one clip as a dict of tensors.

    frames uint8 (T,3,S,S), target uint8 {0,1} (T,S,S), weight φ float32 (T,S,S), label int, name str,
    on_label bool (T,), anchor int: index of the labelled frame the clip was made around. A video that is missing or
    cannot be read gives {"name", "failed": reason} instead. interpolation: of masks, one of mask_interp.METHODS.
    """

    def __init__(self, annotations, find_video, geometry, seed, loss="stew", weighting="paper",
                 interpolation=INTERPOLATION):
        self.annotations, self.find_video, self.geometry = annotations, find_video, geometry
        self.seed, self.loss, self.weighting, self.interpolation = seed, loss, weighting, interpolation
        self._dense = {}                        # video name -> its pseudo-labels, where these are masks

    def __getitem__(self, key):
        epoch, position, name = key
        video = self.annotations.videos[name]
        rng = np.random.default_rng([self.seed, 2, epoch, position])
        return self.clip(video, int(rng.choice(video.labelled_frames)), rng)

    def clip(self, video, anchor, rng=None):
        """The clip of `video` around frame `anchor`; centre crop without flip where rng is None."""
        indices = clip_indices(video.frames, anchor)
        corner = random_crop(self.geometry, rng) if rng is not None else centre_crop(self.geometry)
        flip = rng is not None and bool(rng.random() < 0.5)
        try:
            frames = read_frames(self.find_video(video.name), indices, video.frames)
            masks = self.pseudo_masks(video, indices)
        except UserError as error:
            return {"name": video.name, "failed": str(error)}
        target = transform(masks, self.geometry, corner, flip)
        weight = clip_weight(target.numpy(), video.labelled_frames, indices, self.loss, self.weighting)
        return {"frames": transform(frames, self.geometry, corner, flip), "target": target,
                "weight": torch.from_numpy(weight), "label": video.label, "name": video.name,
                "anchor": int(np.flatnonzero(indices == anchor)[0]),
                "on_label": torch.from_numpy(np.isin(indices, video.labelled_frames))}


    def pseudo_masks(self, video, frames):
        """Pseudo-labels uint8 {0,1} (T,H,W) at `frames` (T,); masks are made for the whole video once, and kept."""
        if all(tube.masks is None for tube in video.tubes):
            return pseudo_masks(video, frames)
        if video.name not in self._dense:
            every = pseudo_masks(video, np.arange(video.frames), self.interpolation, lambda: self._pictures(video))
            self._dense[video.name] = PackedMasks.pack(every.view(bool))
        return self._dense[video.name][frames].view(np.uint8)

    def _pictures(self, video):
        path = self.find_video(video.name)
        pictures = np.concatenate([block for _, block in read_blocks(path, video.frames, video.frames)])
        if pictures.shape[1:3] != (video.height, video.width):
            raise UserError(f"{path}: has {pictures.shape[2]}x{pictures.shape[1]} pixels, its masks {video.width}x"
                            f"{video.height}; give the videos that belong to the masks, or another --mask-interp")
        return pictures


class LabelledFrames(TrainingClips):
    """Validation: one centre-cropped clip for every labelled frame of the videos; index (name, frame)."""

    def __getitem__(self, key):
        name, frame = key
        return self.clip(self.annotations.videos[name], frame)


def collate(items):
    """Stack the clips of a batch; `failed` is a list of (name, reason) of the videos that could not be read."""
    good = [item for item in items if "failed" not in item]
    batch = {"failed": [(item["name"], item["failed"]) for item in items if "failed" in item],
             "name": [item["name"] for item in good]}
    if good:
        for key in ("label", "anchor"):
            batch[key] = torch.tensor([item[key] for item in good])
        for key in ("frames", "target", "weight", "on_label"):
            batch[key] = torch.stack([item[key] for item in good])
    return batch


def loader(dataset, sampler, batch_size, workers):
    """DataLoader over `sampler` that draws nothing from the global random state."""
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=collate,
                      generator=torch.Generator(), persistent_workers=workers > 0, pin_memory=torch.cuda.is_available())
