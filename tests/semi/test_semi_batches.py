"""Batches of half labeled, half unlabeled clips, and that unlabeled ones are drawn
without looking at labels.
"""

import functools
from collections import Counter

import numpy as np
import pytest
import torch
from made_videos import numbers

from claus.datasets.clips.geometry import ClipGeometry, clip_indices
from claus.datasets.clips.training_clips import Clips, TrainingClips
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.losses.stew import clip_weight
from claus.semi.batches import HalfAndHalf, PairedSampler, UnlabeledClips, join
from claus.utils.runtime import UserError

GRAY = ClipGeometry((48, 64), (40, 56), 32)


def find(folder, name):
    path = folder / f"{name}.avi"
    if not path.is_file():
        raise UserError(f"video {name}: no file {path}")
    return path


def video(name, frames, labeled=()):
    labeled = np.array(labeled, dtype=int)
    tubes = (
        (Tube(1, 1, labeled, np.tile([4, 4, 20, 20], (len(labeled), 1))),)
        if len(labeled)
        else ()
    )
    return Video(name, frames, 48, 64, 1 if len(labeled) else None, labeled, tubes)


def pairs(made_videos, *videos, seed=0):
    labels = Annotations("made_videos", ("none", "square"), {v.name: v for v in videos})
    clips = TrainingClips(labels, functools.partial(find, made_videos), GRAY, seed)
    return HalfAndHalf(clips, UnlabeledClips(clips))


BOTH = video("gray20", 20, [3, 9]), video("gray40", 40)


def test_unlabeled_clips_do_not_look_at_labels(made_videos):
    """The same video with labels, with others, and with none: the same pixels."""
    without = pairs(made_videos, video("gray40", 40))
    for labeled in ([5], [0, 20, 39]):
        scrambled = pairs(made_videos, video("gray40", 40, labeled))
        for position in range(6):
            a, b = (data[False, 2, position, "gray40"][1] for data in (without, scrambled))
            assert torch.equal(a["frames"], b["frames"]) and set(a) == {"frames", "name"}


def test_unlabeled_clips_come_from_the_whole_video_cropped_and_flipped_at_random(made_videos):
    dataset, seen, anchors = pairs(made_videos, video("gray40", 40)), set(), Counter()
    for position in range(60):
        clip = dataset[False, 0, position, "gray40"][1]["frames"]
        assert clip.shape == (8, 3, 32, 32) and clip.dtype == torch.uint8
        frames = numbers(clip)
        assert frames in [clip_indices(40, anchor).tolist() for anchor in range(40)]
        anchors[frames[0]] += 1
        seen |= set(frames)
    assert seen == set(range(40)) and len(anchors) > 12


def test_a_clip_is_fixed_by_seed_epoch_and_position_whatever_the_workers(made_videos):
    def batches(workers, seed=0, epoch=3):
        sampler = PairedSampler(["gray20"], ["gray40"], seed, 4, steps=3)
        sampler.epoch = epoch
        reader = Clips({"pairs": (pairs(made_videos, *BOTH, seed=seed), join)}, workers)
        return list(reader.batches("pairs", sampler))

    state = torch.get_rng_state()
    alone, two = batches(0), batches(2)
    assert torch.equal(torch.get_rng_state(), state) and len(alone) == 3
    for a, b in zip(alone, two, strict=True):
        assert torch.equal(a["frames"], b["frames"]) and torch.equal(a["target"], b["target"])
    for others in (batches(0, seed=1), batches(0, epoch=4)):
        assert not all(
            torch.equal(a["frames"], b["frames"]) for a, b in zip(alone, others, strict=True)
        )


def test_an_epoch_is_one_pass_over_the_unlabeled_list():
    unlabeled = [f"u{i}" for i in range(10)]
    sampler = PairedSampler(["a", "b", "c"], unlabeled, 0, 8)
    keys = list(sampler)
    assert len(sampler) == len(keys) == 3  # ten in fours, the last one filled up
    assert all([key[0] for key in batch] == [True] * 4 + [False] * 4 for batch in keys)
    names = [key[3] for batch in keys for key in batch if not key[0]]
    assert set(names[:10]) == set(unlabeled) and len(names) == 12
    assert Counter(key[3] for batch in keys for key in batch if key[0]) == dict.fromkeys(
        "abc", 4
    )
    positions = [key[2] for batch in keys for key in batch if not key[0]]
    assert positions == list(range(12))  # every clip its own random numbers
    sampler.epoch = 1
    assert [key[3] for batch in sampler for key in batch if not key[0]] != names


def test_halves_of_as_many_videos_are_not_paired_by_their_place():
    """Labeled and unlabeled videos are shuffled apart: over the epochs a labeled one
    meets every other one.
    """
    sampler = PairedSampler([f"l{i}" for i in range(6)], [f"u{i}" for i in range(6)], 0, 2)
    met = set()
    for epoch in range(40):
        sampler.epoch = epoch
        met |= {(labeled[3][1], unlabeled[3][1]) for labeled, unlabeled in sampler}
    assert len(met) == 36


def test_an_odd_batch_has_the_greater_half_unlabeled():
    assert [key[0] for key in next(iter(PairedSampler(["a"], ["u"], 0, 5)))] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_batch_has_labeled_clips_first(made_videos):
    sampler = PairedSampler(["gray20"], ["gray40"], 0, 4)
    reader = Clips({"pairs": (pairs(made_videos, *BOTH), join)}, 0)
    batch = next(reader.batches("pairs", sampler))
    assert batch["frames"].shape == (4, 8, 3, 32, 32) and batch["target"].shape == (
        2,
        8,
        32,
        32,
    )
    assert batch["name"] == ["gray20"] * 2 and batch["failed"] == []
    assert all(max(numbers(clip)) < 20 for clip in batch["frames"][:2])


def test_videos_that_cannot_be_read_are_collected(made_videos):
    dataset = pairs(made_videos, *BOTH, video("gone", 30), video("lost", 30, [2]))
    keys = [
        (True, 0, 0, "gray20"),
        (True, 0, 1, "lost"),
        (False, 0, 0, "gone"),
        (False, 0, 1, "gray40"),
    ]
    batch = join([dataset[key] for key in keys])
    assert batch["name"] == ["gray20"] and len(batch["frames"]) == 2
    assert [name for name, _ in batch["failed"]] == ["lost", "gone"]
    for rest in (keys[:3], keys[1:]):  # one half is missing: nothing to learn
        batch = join([dataset[key] for key in rest])
        assert batch["name"] == [] and batch["failed"]


@pytest.mark.parametrize("loss", ["stew", "interp", "frame"])
def test_a_video_without_labels_weighs_nothing(loss):
    weight = clip_weight(
        np.zeros((8, 2, 3), np.uint8), np.array([], dtype=int), np.arange(8), loss
    )
    assert weight.shape == (8, 2, 3) and not weight.any()
    assert clip_weight(np.zeros((8, 2, 3), np.uint8), np.array([4]), np.arange(8), loss).any()
