"""What lies around a training step: one loader for all that is read, frames that are kept for
batch norm, and how often training.pt is written.
"""

import os

import pytest
import torch
from torch.utils.data import Dataset

import claus_select
import train_ucf101
from claus import training
from claus.artifacts import checkpoint
from claus.datasets import toy
from claus.datasets.clips.training_clips import Clips, in_batches
from claus.flags import common
from claus.steps import train


class Numbers(Dataset):
    """key -> (its number times a factor, the process that made it)."""

    def __init__(self, factor):
        self.factor = factor

    def __getitem__(self, key):
        return self.factor * key, os.getpid()


def columns(items):
    return tuple(zip(*items, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_one_loader_reads_several_data_sets_in_order(workers):
    sets = {"ones": (Numbers(1), columns), "tens": (Numbers(10), list)}
    clips, pids = Clips(sets, workers), set()
    for start in range(2):
        batches = clips.batches("ones", in_batches(range(start, 40), 3))
        for first in (start, start + 3):  # left in the middle
            numbers, made_by = next(batches)
            assert numbers == (first, first + 1, first + 2)
            pids |= set(made_by)
        found = list(clips.batches("tens", in_batches([7, 8, 9], 2)))
        assert [[x for x, _ in batch] for batch in found] == [[70, 80], [90]]
        pids |= {pid for batch in found for _, pid in batch}
    assert len(pids) == max(workers, 1)  # the same ones throughout


def test_batches_of_keys():
    assert list(in_batches(iter("abcde"), 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(in_batches([], 2)) == []


# ---------------------------------------------------------------------- frames for batch norm


def batch(number, clips=2):
    return {"name": ["v"] * clips, "frames": torch.full((clips, 10), number), "target": 0}


def test_the_first_batches_are_kept_with_those_that_could_not_be_read():
    kept = training.KeptFrames(3)
    for given in (batch(0), {"name": [], "failed": ["x"]}, batch(2), batch(3)):
        kept.add(given)
    assert [len(found["name"]) for found in kept.whole(3)] == [2, 0, 2]
    assert kept.whole(3)[2]["frames"][0, 0] == 2 and kept.whole(4) is None


def test_frames_that_take_too_much_memory_are_let_go():
    kept = training.KeptFrames(3, most=2 * batch(0)["frames"].nbytes)
    for number in range(3):
        kept.add(batch(number))
    assert kept.batches == [] and kept.whole(3) is None


@pytest.fixture(scope="module")
def labeled_run(tmp_path_factory):
    """(folder of runs, videos) with the labels of a first cycle."""
    folder = tmp_path_factory.mktemp("around")
    videos = toy.make(folder / "toy", seed=3, train=6, test=6)
    truth = ["--oracle", str(videos / "pyannot.pkl")]
    truth += ["--test-list", str(videos / "testlist01.txt")]
    place = ["--run", "r", "--cycle", "0", "--files", str(folder), "--data", str(videos)]
    claus_select.main([*place, *truth, "--videos-count", "3", "--frames-count", "6"])
    return folder, videos


def trained(labeled_run, *more):
    """The detector's weights of a short training."""
    folder, videos = labeled_run
    place = ["--run", "r", "--files", str(folder), "--data", str(videos), "--force"]
    network = ["--model", "small", "--pretrained", "none", "--device", "cpu"]
    short = ["--epochs", "2", "--batch-size", "4", "--bn-batches", "2"]
    train_ucf101.main([*place, *network, *short, *more])
    return checkpoint.read(folder / "r" / "cycle0" / "detector.pt")["detector"]


def test_what_is_kept_or_decoded_again_gives_the_same_weights(labeled_run, monkeypatch):
    asked, some = [], training.LabeledBatches.some

    def watched(batches, count):
        asked.append(batches.sampler.epoch)
        return some(batches, count)

    monkeypatch.setattr(training.LabeledBatches, "some", watched)
    kept = trained(labeled_run, "--workers", "1")
    assert asked == [0]  # for the first clusters alone
    monkeypatch.setattr(training.KeptFrames, "whole", lambda frames, count: None)
    again = trained(labeled_run)
    assert asked == [0, 0, 1]
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)


# ------------------------------------------------------------------------------ training.pt


@pytest.mark.parametrize("epoch_seconds", [0.1, 3, 500])
def test_writing_takes_a_twentieth_of_the_time_at_most(monkeypatch, epoch_seconds):
    now, written = [0.0], []

    def save(state, path):
        now[0] += 4.0
        written.append((now[0], state["epoch"]))

    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(train.checkpoint, "save", save)
    saving = train.Saving("training.pt")
    epochs = int(3000 / epoch_seconds) + 5
    for epoch in range(1, epochs):
        now[0] += epoch_seconds
        saving.offer({"epoch": epoch, "detector": {"w": torch.zeros(1)}})
        assert 4.0 * max(len(written) - 1, 0) <= 0.05 * now[0]
    ends = [end for end, _ in written]
    gaps = [later - earlier for earlier, later in zip(ends, ends[1:], strict=False)]
    # what a killed training loses: 20 times a write, and an epoch; the first was a guess
    assert max(gaps[1:]) <= max(80, epoch_seconds) + epoch_seconds + 4.1
    if epoch_seconds == 500:
        assert [epoch for _, epoch in written] == list(range(1, epochs))  # every one


def test_the_first_epoch_is_always_kept(monkeypatch):
    """However long the write takes: --force --resume finds what was begun."""
    now, written = [0.0], []

    def save(state, path):
        now[0] += 30.0
        written.append(state["epoch"])

    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(train.checkpoint, "save", save)
    saving = train.Saving("training.pt")
    for epoch in range(1, 100):
        now[0] += 10.0
        saving.offer({"epoch": epoch})
    assert written[0] == 1 and len(written) == 1


# ---------------------------------------------------------------------------------- workers


@pytest.mark.parametrize(
    ("cores", "processes", "workers"),
    [(16, None, 15), (2, None, 1), (1, None, 1), (128, None, 16), (64, "8", 7), (4, "8", 1)],
)
def test_workers_by_cores_and_processes(monkeypatch, cores, processes, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if processes:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert common.default_workers("cuda") == workers
    assert common.default_workers("cpu") == 0
