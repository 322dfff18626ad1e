"""Batches of half labeled, half unlabeled clips.

A labeled clip is that of datasets.clips.training_clips. An unlabeled one is drawn without
looking at anything but the length of its video: anchor, crop and flip follow from (seed,
epoch, position).
"""

from itertools import islice

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from claus.datasets.clips.geometry import clip_indices, cut, random_crop, resize
from claus.datasets.clips.training_clips import ClipSampler, collate
from claus.utils.runtime import UserError


class UnlabeledClips(Dataset):
    """(epoch, position, name) -> {"frames" uint8 (T,3,S,S), "name"}, or {"name", "failed":
    reason}.

    clips: the TrainingClips of the labeled videos, whose seed, geometry and frame indices
    serve here too; a clip that hardly comes a second time is not kept in its cache.
    """

    def __init__(self, clips):
        self.clips = clips

    def __getitem__(self, key):
        epoch, position, name = key
        clips, video = self.clips, self.clips.annotations.videos[name]
        rng = np.random.default_rng([clips.seed, 5, epoch, position])
        indices = clip_indices(video.frames, int(rng.integers(video.frames))) + video.first
        corner, flip = random_crop(clips.geometry, rng), bool(rng.random() < 0.5)
        try:
            path = clips.find_video(video.source)
            pictures = clips.videos.read_frames(path, indices, video.file_frames)
        except UserError as error:
            return {"name": name, "failed": str(error)}
        pictures = resize(pictures, clips.geometry.picture(*pictures.shape[1:3]))
        return {"frames": cut(pictures, clips.geometry, corner, flip), "name": name}


class HalfAndHalf(Dataset):
    """A key (True, ...) is a labeled clip's, (False, ...) an unlabeled one's."""

    def __init__(self, labeled, unlabeled):
        self.clips = {True: labeled, False: unlabeled}

    def __getitem__(self, key):
        labeled, *rest = key
        return labeled, self.clips[labeled][tuple(rest)]


class PairedSampler(Sampler):
    """Yields the keys of a batch: `batch_size` // 2 labeled clips, then unlabeled ones.

    An epoch is one pass over the unlabeled videos, its last batch filled up, or `steps`
    batches. Set .epoch before each. names: the labeled videos, a list that may be changed
    in place.
    """

    def __init__(self, labeled, unlabeled, seed, batch_size, steps=None):
        self.labeled_size, self.unlabeled_size = batch_size // 2, batch_size - batch_size // 2
        self.steps = steps or -(-len(unlabeled) // self.unlabeled_size)
        self.labeled = ClipSampler(labeled, seed, self.steps * self.labeled_size)
        self.unlabeled = ClipSampler(
            unlabeled, seed, self.steps * self.unlabeled_size, stream=(6,)
        )
        self.epoch = 0

    @property
    def names(self):
        return self.labeled.names

    def __len__(self):
        return self.steps

    def __iter__(self):
        self.labeled.epoch = self.unlabeled.epoch = self.epoch
        labeled, unlabeled = iter(self.labeled), iter(self.unlabeled)
        for _ in range(self.steps):
            yield [
                *((True, *key) for key in islice(labeled, self.labeled_size)),
                *((False, *key) for key in islice(unlabeled, self.unlabeled_size)),
            ]


def join(items):
    """A batch as training_clips.collate makes it of the labeled clips, `frames` of all:
    labeled, then unlabeled.

    `name` has the labeled clips alone, so len(name) says how many there are; it is empty
    where one of the halves is (all its videos unreadable), and nothing is to be learned from
    the batch.
    """
    batch = collate([item for labeled, item in items if labeled])
    others = [item for labeled, item in items if not labeled]
    batch["failed"] += [(item["name"], item["failed"]) for item in others if "failed" in item]
    frames = [item["frames"] for item in others if "failed" not in item]
    if not frames:
        batch["name"] = []
    elif batch["name"]:
        batch["frames"] = torch.cat([batch["frames"], torch.stack(frames)])
    return batch


def paired_set(clips):
    """{"pairs": what training_clips.Clips reads of the two halves}. clips: the TrainingClips."""
    return {"pairs": (HalfAndHalf(clips, UnlabeledClips(clips)), join)}


class PairedBatches:
    """Batches of labeled and unlabeled clips, in the place of training.LabeledBatches.

    labeled: the LabeledBatches whose reader and names it takes. unlabeled: names.
    """

    def __init__(self, labeled, unlabeled, settings):
        optimizer, self.reader = settings.optimizer, labeled.reader
        steps = -(-optimizer.steps // optimizer.epochs) if optimizer.steps else None
        self.sampler = PairedSampler(
            labeled.sampler.names, unlabeled, settings.seed, optimizer.batch_size, steps
        )

    def __len__(self):
        return len(self.sampler)

    def first(self, count):
        """The first `count` batches of the epoch."""
        return self.reader.batches("pairs", islice(self.sampler, count))

    some = first
