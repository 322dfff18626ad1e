"""What the Trainer does around its loop: first clusters, and an epoch without a clip."""

import pytest

import claus_select
import train_ucf101
from claus import engine, training
from claus.artifacts import checkpoint
from claus.datasets import toy
from claus.utils.runtime import UserError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("data") / "toy", seed=3, train=6, test=6)


@pytest.fixture
def command(videos, tmp_path):
    """The flags of a training of one step on two labeled videos."""
    place = ["--run", str(tmp_path / "run"), "--cycle", "0", "--data", str(videos)]
    truth = [
        "--oracle",
        str(videos / "pyannot.pkl"),
        "--test-list",
        str(videos / "testlist01.txt"),
    ]
    claus_select.main([*place, *truth, "--videos-count", "2", "--frames-count", "4"])
    network = ["--model", "small", "--pretrained", "none", "--device", "cpu"]
    short = ["--epochs", "1", "--steps", "1", "--batch-size", "2", "--bn-batches", "1"]
    return [*place, *network, *short]


def test_first_clusters_are_of_latents_with_reestimated_statistics(command, monkeypatch):
    """Without it batch norm would still have mean 0 and variance 1, or be of other data."""
    seen, tile_latents = [], training.tile_latents

    def watched(detector, *rest):
        first = engine.batch_norms(detector)[0]
        seen.append((first.running_mean.abs().max().item(), int(first.num_batches_tracked)))
        return tile_latents(detector, *rest)

    monkeypatch.setattr(training, "tile_latents", watched)
    train_ucf101.main(command)
    assert len(seen) == 2
    assert all(mean > 1e-4 and batches == 1 for mean, batches in seen)


@pytest.mark.parametrize("head", ["capsule", "linear"])
def test_the_class_head_that_is_asked_for_is_trained_and_kept(command, head, tmp_path):
    train_ucf101.main([*command, "--class-head", head])
    state = checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt")
    assert state.detector.config.class_head == head
    term = {"capsule": "margin", "linear": "cross-entropy"}[head]
    history = checkpoint.read(tmp_path / "run" / "cycle0" / "detector.pt")["about"]["history"]
    assert term in history[0]


def test_frozen_statistics_are_never_reestimated(command, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "reestimate_batch_norm", None)  # a call would fail
    train_ucf101.main([*command, "--batch-norm", "freeze"])
    state = checkpoint.load(tmp_path / "run" / "cycle0" / "detector.pt")
    assert all(layer.num_batches_tracked == 0 for layer in engine.batch_norms(state.detector))


def test_an_epoch_without_a_clip_ends_the_training_in_one_line(command, monkeypatch):
    nothing = engine.Epoch({}, 0, 0.0, {"v": "v.avi is damaged"})
    monkeypatch.setattr(engine, "train_one_epoch", lambda *given: nothing)
    said = "no batch of epoch 1 had a labeled clip that can be read: v.avi is damaged"
    with pytest.raises(UserError, match=said):
        train_ucf101.main(command)
