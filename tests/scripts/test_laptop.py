"""--model laptop end to end: its features are computed once, and nothing but time depends on
the cache.
"""

import shutil
import threading

import numpy as np
import pytest
import torch

import claus_select
import cluster_extract
import evaluate
import train_semi
import train_ucf101
from claus import engine, training
from claus.artifacts import checkpoint
from claus.artifacts.scores import load_uncertainty
from claus.datasets import toy
from claus.datasets.video import feature_cache
from claus.experiments import what_clusters_know
from claus.utils.runtime import UserError

TRAIN = ["--model", "laptop", "--device", "cpu", "--epochs", "2", "--steps", "4"]
TRAIN += ["--batch-size", "2", "--clusters", "2"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    toy.make(folder, seed=3, train=6, test=6)
    return folder


def common(folder, videos):
    return ["--run", str(folder), "--cycle", "0", "--data", str(videos)]


def truth(videos):
    return [
        *("--ground-truth", str(videos / "pyannot.pkl")),
        *("--test-list", str(videos / "testlist01.txt")),
    ]


@pytest.fixture(scope="module")
def started(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "started"
    oracle = ["--oracle", *truth(videos)[1:]]
    claus_select.main([*common(folder, videos), *oracle, "--videos", "3", "--frames", "9"])
    return folder


@pytest.fixture(scope="module")
def trained(started, videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "trained"
    shutil.copytree(started, folder)
    train_ucf101.main([*common(folder, videos), *TRAIN])
    return folder


def weights(folder):
    return checkpoint.read(folder / "cycle0" / "detector.pt")["detector"]


def losses(folder):
    history = checkpoint.read(folder / "cycle0" / "detector.pt")["about"]["history"]
    return [epoch["total"] for epoch in history]


def no_decoding(monkeypatch):
    def stop(*_):
        raise AssertionError("decoded")

    for way in ("read_entry", "read_runs", "read_frames"):
        monkeypatch.setattr(feature_cache.IndexedVideos, way, stop)


def stop_in_the_second_epoch(monkeypatch):
    run_epoch = training.Trainer.run_epoch

    def stop(self, epoch, writer):
        if epoch == 1:
            raise KeyboardInterrupt
        run_epoch(self, epoch, writer)

    monkeypatch.setattr(training.Trainer, "run_epoch", stop)


def test_a_training_leaves_the_trunk_as_it_was_shipped(trained):
    shipped = torch.load(training.WEIGHTS / "lite2_imagenet.pt", weights_only=True)
    kept = weights(trained)
    for name, tensor in shipped.items():
        assert torch.equal(kept[f"conv1.{name}"], tensor.float()), name
    assert len(list((trained / "cache" / "features").rglob("*"))) > 3


def test_losses_and_scores_are_the_same_with_the_cache_and_without(
    started, trained, videos, tmp_path, monkeypatch
):
    plain = tmp_path / "plain"
    shutil.copytree(started, plain)
    no_cache = ["--feature-gb", "0"]
    train_ucf101.main([*common(plain, videos), *TRAIN, *no_cache])
    ours, theirs = losses(plain), losses(trained)
    assert len(ours) == 2 and ours == pytest.approx(theirs, rel=0.02)

    kept = tmp_path / "kept"
    shutil.copytree(trained, kept)
    scoring = [*common(kept, videos), "--device", "cpu", "--passes", "2"]
    cluster_extract.main(scoring)
    first = load_uncertainty(kept / "cycle0" / "uncertainty.pkl").paper
    cluster_extract.main([*scoring, "--force", *no_cache])
    again = load_uncertainty(kept / "cycle0" / "uncertainty.pkl").paper
    np.testing.assert_allclose(first, again, rtol=0.02, atol=1e-3)
    no_decoding(monkeypatch)  # every video has its features by now
    cluster_extract.main([*scoring, "--force"])
    assert np.array_equal(load_uncertainty(kept / "cycle0" / "uncertainty.pkl").paper, first)
    train_ucf101.main([*common(kept, videos), *TRAIN, "--force"])
    assert all(torch.equal(weights(kept)[k], v) for k, v in weights(trained).items())


@pytest.fixture
def threads():
    """A function that sets how many threads torch has, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_scores_are_the_same_bytes_on_one_core_and_on_several(
    trained, videos, tmp_path, monkeypatch, threads
):
    shown, at_work = [], set()
    one = engine.score_clips

    def seen(*arguments):
        at_work.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        return one(*arguments)

    monkeypatch.setattr(engine, "score_clips", seen)
    for count, workers in ((1, "0"), (2, "0"), (3, "2")):
        threads(count)
        folder = tmp_path / f"{count}"
        shutil.copytree(trained, folder)
        at_work.clear()
        cluster_extract.main(
            [*common(folder, videos), "--device", "cpu", "--passes", "2", "--workers", workers]
        )
        assert len(at_work) == count == torch.get_num_threads()
        cycle = folder / "cycle0"
        shown.append(
            [(cycle / f"{name}.pkl").read_bytes() for name in ("features", "uncertainty")]
        )
    assert shown[0] == shown[1] == shown[2]


@pytest.mark.parametrize("count", [1, 3])
def test_a_training_is_the_same_bytes_on_one_core_and_on_several(
    trained, started, videos, tmp_path, monkeypatch, threads, count
):
    """Pieces of a batch, the first clusters and the next batch each have threads of their own."""
    folder, at_work = tmp_path / "again", set()
    latents, read = training.tile_latents, training.TrainingClips.__getitem__

    def seen(*arguments):
        at_work.add(threading.get_ident())
        return latents(*arguments)

    def seen_too(self, key):
        at_work.add(threading.get_ident())
        return read(self, key)

    monkeypatch.setattr(training, "tile_latents", seen)
    monkeypatch.setattr(training.TrainingClips, "__getitem__", seen_too)
    threads(count)
    shutil.copytree(started, folder)
    train_ucf101.main([*common(folder, videos), *TRAIN])
    assert all(torch.equal(weights(folder)[k], v) for k, v in weights(trained).items())
    if count == 1:
        assert at_work == {threading.get_ident()}
    else:
        assert len(at_work) > 2 and threading.get_ident() not in at_work


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    trained, started, videos, tmp_path, monkeypatch
):
    folder = tmp_path / "stopped"
    shutil.copytree(started, folder)
    stop_in_the_second_epoch(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train_ucf101.main([*common(folder, videos), *TRAIN])
    monkeypatch.undo()
    train_ucf101.main([*common(folder, videos), *TRAIN, "--resume"])
    assert all(torch.equal(weights(folder)[k], v) for k, v in weights(trained).items())


def test_a_forced_training_that_was_stopped_is_resumed_beside_the_old_weights(
    trained, videos, tmp_path, monkeypatch
):
    folder = tmp_path / "forced"
    shutil.copytree(trained, folder)
    stop_in_the_second_epoch(monkeypatch)
    again = [*common(folder, videos), *TRAIN, "--seed", "1"]
    with pytest.raises(KeyboardInterrupt):
        train_ucf101.main([*again, "--force"])
    monkeypatch.undo()
    train_ucf101.main([*again, "--resume"])
    assert not (folder / "cycle0" / "training.pt").exists()
    assert any(not torch.equal(weights(folder)[k], v) for k, v in weights(trained).items())


def test_an_encoder_that_learns_sees_pictures(started, videos, tmp_path):
    folder = tmp_path / "open"
    shutil.copytree(started, folder)
    train_ucf101.main([*common(folder, videos), *TRAIN, "--train-encoder", "--steps", "2"])
    shipped = torch.load(training.WEIGHTS / "lite2_imagenet.pt", weights_only=True)
    kept = weights(folder)
    changed = [n for n, t in shipped.items() if not torch.equal(kept[f"conv1.{n}"], t.float())]
    assert len(changed) > 90 and not (folder / "cache" / "features").exists()
    loaded = checkpoint.load(folder / "cycle0" / "detector.pt")
    assert not loaded.detector.conv1.frozen


def test_evaluation_and_a_picture_of_it(trained, videos, tmp_path):
    folder = tmp_path / "evaluated"
    shutil.copytree(trained, folder)
    evaluate.main([*common(folder, videos), *truth(videos), "--device", "cpu"])
    assert (folder / "cycle0" / "evaluation.json").exists()


@pytest.mark.parametrize(
    "method", ["consistency", pytest.param("stable-mean-teacher", marks=pytest.mark.long)]
)
def test_semi_supervised_training_takes_pictures(started, videos, tmp_path, method):
    """Its methods mask poses by the capsules' class, so the class head is the published one."""
    folder = tmp_path / "semi"
    shutil.copytree(started, folder)
    flags = [*TRAIN[:4], "--steps", "2", "--epochs", "1", "--method", method]
    train_semi.main([*common(folder, videos), *flags])
    assert not (folder / "cache" / "features").exists()
    loaded = checkpoint.load(folder / "cycle0" / "detector.pt").detector
    assert loaded.conv1.frozen and loaded.class_head is None


def test_a_frozen_encoder_wants_its_weights_and_their_pixels(started, videos, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(started, folder)
    with pytest.raises(UserError, match="a frozen encoder needs weights"):
        train_ucf101.main([*common(folder, videos), *TRAIN, "--pretrained", "none"])
    with pytest.raises(SystemExit):
        train_ucf101.main([*common(folder, videos), *TRAIN, "--authors"])
    with pytest.raises(SystemExit):
        train_semi.main([*common(folder, videos), *TRAIN[:4], "--pixel-range", "0..1"])
    said = capsys.readouterr().err
    assert said.count("want pixels -1..1") == 2


def test_weights_that_were_tampered_with_are_refused(started, videos, tmp_path, monkeypatch):
    folder, other = tmp_path / "run", tmp_path / "weights"
    shutil.copytree(started, folder)
    other.mkdir()
    content = bytearray((training.WEIGHTS / "lite2_imagenet.pt").read_bytes())
    content[-100] ^= 1
    (other / "lite2_imagenet.pt").write_bytes(content)
    monkeypatch.setattr(training, "WEIGHTS", other)
    with pytest.raises(UserError, match="not the file that belongs to this version"):
        train_ucf101.main([*common(folder, videos), *TRAIN])


def test_an_evaluation_is_the_same_on_one_core_and_on_two(trained, videos, tmp_path, threads):
    found = []
    for count in (1, 2):
        threads(count)
        folder = tmp_path / f"{count}"
        shutil.copytree(trained, folder)
        evaluate.main([*common(folder, videos), *truth(videos), "--device", "cpu"])
        report = (folder / "cycle0" / "evaluation.json").read_text()
        found.append(report.replace(str(folder), "run"))
    assert found[0] == found[1]


def test_what_clusters_know_of_the_class(trained, videos, tmp_path, monkeypatch, capsys):
    """The encoder's features come from the cache, the latents from features.pkl."""
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    common_words = ["--data", str(videos), "--cache-dir", str(tmp_path / "cache")]
    cluster_extract.main(
        [
            "--run",
            str(folder),
            "--cycle",
            "0",
            *common_words,
            "--passes",
            "2",
            "--device",
            "cpu",
        ]
    )
    no_decoding(monkeypatch)
    monkeypatch.setattr(what_clusters_know, "CLUSTERS", (2,))
    monkeypatch.setattr(what_clusters_know, "PICKS", (2,))
    page = tmp_path / "page.md"
    words = [str(folder), *common_words, "--output", str(page), "--oracle", *truth(videos)[1:]]
    assert what_clusters_know.main(words) == 0
    assert page.read_text() in capsys.readouterr().out
    assert page.read_text().count("\n| ") == 6  # a heading, a line, four rows
