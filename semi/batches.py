"""Batches of half labelled, half unlabelled clips.

A labelled clip is that of datasets.training_clips. An unlabelled one is drawn without
looking at anything but the length of its video: anchor, crop and flip follow from (seed,
epoch, position).
"""

from itertools import islice

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from claus.datasets.clips.geometry import clip_indices, cut, random_crop, resize
from claus.datasets.clips.training_clips import ClipSampler, collate
from claus.utils.runtime import UserError


class UnlabelledClips(Dataset):
    """(epoch, position, name) -> {"frames" uint8 (T,3,S,S), "name"}, or {"name", "failed":
    reason}.

    clips: the TrainingClips of the labelled videos, whose seed, geometry and frame indices
    serve here too; a clip that hardly comes a second time is not kept in its cache.
    """

    def __init__(self, clips):
        self.clips = clips

    def __getitem__(self, key):
        epoch, position, name = key
        clips, frames = self.clips, self.clips.annotations.videos[name].frames
        rng = np.random.default_rng([clips.seed, 5, epoch, position])
        indices = clip_indices(frames, int(rng.integers(frames)))
        corner, flip = random_crop(clips.geometry, rng), bool(rng.random() < 0.5)
        try:
            pictures = clips.videos.read_frames(clips.find_video(name), indices, frames)
        except UserError as error:
            return {"name": name, "failed": str(error)}
        return {
            "frames": cut(resize(pictures, clips.geometry.frame), clips.geometry, corner, flip),
            "name": name,
        }


class HalfAndHalf(Dataset):
    """A key (True, ...) is a labelled clip's, (False, ...) an unlabelled one's."""

    def __init__(self, labelled, unlabelled):
        self.clips = {True: labelled, False: unlabelled}

    def __getitem__(self, key):
        labelled, *rest = key
        return labelled, self.clips[labelled][tuple(rest)]


class PairedSampler(Sampler):
    """Yields the keys of a batch: `batch_size` // 2 labelled clips, then unlabelled ones.

    An epoch is one pass over the unlabelled videos, its last batch filled up, or `steps`
    batches. Set .epoch before each. names: the labelled videos, a list that may be changed
    in place.
    """

    def __init__(self, labelled, unlabelled, seed, batch_size, steps=None):
        self.labelled_size, self.unlabelled_size = batch_size // 2, batch_size - batch_size // 2
        self.steps = steps or -(-len(unlabelled) // self.unlabelled_size)
        self.labelled = ClipSampler(labelled, seed, self.steps * self.labelled_size)
        self.unlabelled = ClipSampler(
            unlabelled, seed, self.steps * self.unlabelled_size, stream=(6,)
        )
        self.epoch = 0

    @property
    def names(self):
        return self.labelled.names

    def __len__(self):
        return self.steps

    def __iter__(self):
        self.labelled.epoch = self.unlabelled.epoch = self.epoch
        labelled, unlabelled = iter(self.labelled), iter(self.unlabelled)
        for _ in range(self.steps):
            yield [
                *((True, *key) for key in islice(labelled, self.labelled_size)),
                *((False, *key) for key in islice(unlabelled, self.unlabelled_size)),
            ]


def join(items):
    """A batch as training_clips.collate makes it of the labelled clips, `frames` of all:
    labelled, then unlabelled.

    `name` has the labelled clips alone, so len(name) says how many there are; it is empty
    where one of the halves is (all its videos unreadable), and nothing is to be learnt from
    the batch.
    """
    batch = collate([item for labelled, item in items if labelled])
    others = [item for labelled, item in items if not labelled]
    batch["failed"] += [(item["name"], item["failed"]) for item in others if "failed" in item]
    frames = [item["frames"] for item in others if "failed" not in item]
    if not frames:
        batch["name"] = []
    elif batch["name"]:
        batch["frames"] = torch.cat([batch["frames"], torch.stack(frames)])
    return batch


def paired_loader(dataset, sampler, workers):
    """DataLoader over a HalfAndHalf that draws nothing from the global random state."""
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=join,
        generator=torch.Generator(),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
