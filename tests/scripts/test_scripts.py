"""Every script end to end on tiny videos made here: what they leave, going on after a stop,
and bad input.
"""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from stopping import Stopped, check_same_weights, kill_before_last_file

import claus_select
import cluster_extract
import evaluate
import run_cycles
import train_ucf101
from claus import engine
from claus.artifacts import checkpoint, parts
from claus.artifacts.part_log import Parts
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import load_features, load_uncertainty
from claus.datasets import toy, ucf101
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels import annotations
from claus.datasets.sprites import write_video
from claus.flags.training import parse as parse_training
from claus.steps import evaluate as evaluate_step
from claus.steps import extract as extract_step
from claus.steps.train import split_validation
from claus.training import Trainer
from claus.utils.runtime import UserError

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [
    "--model",
    "small",
    "--pretrained",
    "none",
    "--device",
    "cpu",
    "--epochs",
    "2",
    "--steps",
    "4",
    "--bn-batches",
    "1",
]


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Twelve training and six test videos."""
    folder = tmp_path_factory.mktemp("data") / "toy"
    toy.make(folder, seed=3, train=12, test=6)
    return folder


def truth(videos):
    return [
        "--oracle",
        str(videos / "pyannot.pkl"),
        "--test-list",
        str(videos / "testlist01.txt"),
    ]


def common(folder, videos, cycle=0):
    return ["--run", str(folder), "--cycle", str(cycle), "--data", str(videos)]


def select(folder, videos, cycle=0, *more):
    return claus_select.main(
        [
            *common(folder, videos, cycle),
            *truth(videos),
            "--videos-count",
            "4",
            "--frames-count",
            "12",
            *more,
        ]
    )


def train(folder, videos, cycle=0, *more):
    return train_ucf101.main([*common(folder, videos, cycle), *TRAIN, *more])


def extract(folder, videos, cycle=0, *more):
    return cluster_extract.main(
        [*common(folder, videos, cycle), "--device", "cpu", "--passes", "2", *more]
    )


@pytest.fixture(scope="session")
def trained(videos, tmp_path_factory):
    """A run with cycle 0 selected and trained; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    select(folder, videos)
    train(folder, videos)
    return folder


@pytest.fixture(scope="session")
def extracted(trained, videos, tmp_path_factory):
    """The same with both pickles."""
    folder = tmp_path_factory.mktemp("runs") / "extracted"
    shutil.copytree(trained, folder)
    extract(folder, videos)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_training_leaves_a_detector_that_loads_and_logs(trained):
    state = checkpoint.load(trained / "cycle0" / "detector.pt")
    assert (
        state.classes == toy.CLASSES
        and state.detector.config.classes == 6
        and state.about["steps"] == 4
    )
    assert set(state.clusters.assignment) == {
        v.name for v in annotations.load(trained / "cycle0" / "annotations.pkl").labeled()
    }
    assert not (trained / "cycle0" / "training.pt").exists()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(trained / "cycle0" / "tensorboard")).Reload()
    names = set(log.Tags()["scalars"])
    assert {
        "loss/total",
        "loss/bce",
        "loss/dice",
        "loss/margin",
        "loss/cluster",
        "rate/learning rate",
        "rate/clips per second",
    } <= names
    assert log.Tags()["images"] and len(log.Scalars("loss/total")) == 2
    rates = [
        point.value for point in log.Scalars("rate/learning rate")
    ]  # cosine: after 2 and 4 of 4 steps
    assert rates == pytest.approx(
        [1e-3 * 0.5 * (1 + np.cos(np.pi * step / 4)) for step in (1, 3)]
    )


def test_extraction_covers_every_video_and_frame(extracted):
    labels = annotations.load(extracted / "cycle0" / "annotations.pkl")
    features = load_features(extracted / "cycle0" / "features.pkl")
    scores = load_uncertainty(extracted / "cycle0" / "uncertainty.pkl")
    assert features.videos == list(labels.videos) and not features.failed
    assert np.diff(scores.offsets).tolist() == [
        video.frames for video in labels.videos.values()
    ]
    assert (scores.entropy > 0).all() and np.isfinite(scores.authors).all()
    assert features.source == fingerprint(extracted / "cycle0" / "detector.pt")


def test_next_selection_spends_its_budget_on_new_videos(extracted, videos, tmp_path):
    folder = Path(shutil.copytree(extracted, tmp_path / "run"))
    assert select(folder, videos, 1) == 0
    before = annotations.load(folder / "cycle0" / "annotations.pkl")
    after = annotations.load(folder / "cycle1" / "annotations.pkl")
    assert (after.counts()["videos"], after.counts()["frames"]) == (8, 24)
    old = {v.name for v in before.labeled()}
    assert old < {v.name for v in after.labeled()}
    for name in old:
        np.testing.assert_array_equal(
            after.videos[name].labeled_frames, before.videos[name].labeled_frames
        )


def test_own_labels_of_test_videos_are_scored_as_ground_truth_is(run, videos, tmp_path, capsys):
    """All frames labeled: the numbers of --oracle. Every third: these frames alone."""

    def scored(*more):
        assert evaluate.main([*common(run, videos), *more, "--device", "cpu"]) == 0
        return json.loads((run / "cycle0" / "evaluation.json").read_text())

    by_truth = scored(*truth(videos))
    dense = by_truth["capsule"]
    hidden = ucf101.read_ground_truth(videos / "pyannot.pkl", videos / "testlist01.txt", "test")
    unlabeled = {"Rock/v_more": annotations.Video("Rock/v_more", 9, 72, 96)}
    annotations.save(
        replace(hidden, videos={**hidden.videos, **unlabeled}), tmp_path / "dense.pkl"
    )
    own = scored("--labels", str(tmp_path / "dense.pkl"))
    assert own["act"] is None and own["capsule"] == dense and own["floor"]["videos"] == 6
    assert "scored on other labels than" in capsys.readouterr().out
    labels = ["--labels", str(tmp_path / "dense.pkl"), "--protocol", "act", "--force"]
    boxes = scored(*labels)
    assert boxes["act"]["frame"]["mean_ap"] == by_truth["act"]["frame"]["mean_ap"]
    assert boxes["act"]["video"] is None and boxes["capsule"] is None
    assert "video-mAP is not scored: it needs whole tubes" in capsys.readouterr().out
    every = {
        video.name: replace(
            video,
            labeled_frames=np.arange(0, video.frames, 3),
            tubes=tuple(
                replace(
                    tube,
                    frames=tube.frames[tube.frames % 3 == 0],
                    boxes=tube.boxes[tube.frames % 3 == 0],
                )
                for tube in video.tubes
            ),
        )
        for video in hidden.videos.values()
    }
    annotations.save(replace(hidden, videos=every), tmp_path / "third.pkl")
    sparse = ["--labels", str(tmp_path / "third.pkl")]
    some = scored(*sparse, "--protocol", "act")["act"]["frame"]
    assert 0 < some["detections"] < by_truth["act"]["frame"]["detections"] / 2
    third = scored(*sparse, "--force")["capsule"]
    with_actor = sum(
        len(set(np.concatenate([tube.frames for tube in video.tubes])))
        for video in every.values()
    )
    assert (
        third["videos"] == 6 and 0.9 * with_actor < third["frames"] <= with_actor
    )  # less those outside the crop
    assert (
        evaluate.main(
            [*common(run, videos), "--labels", str(tmp_path / "third.pkl"), "--device", "cpu"]
        )
        == 0
    )
    assert "is there already" in capsys.readouterr().out


def test_own_test_labels_that_cannot_be_scored(run, videos, tmp_path, capsys):
    given = [*common(run, videos), "--device", "cpu", "--labels"]
    own = str(run / "cycle0" / "annotations.pkl")
    with pytest.raises(
        UserError, match="4 of its videos are labeled in .* too.*must not be trained on"
    ):
        evaluate.main([*given, own])
    with pytest.raises(UserError, match="--labels nowhere.pkl: no such file"):
        evaluate.main([*given, "nowhere.pkl"])
    labels = annotations.load(own)
    annotations.save(
        replace(
            labels,
            videos={
                name: annotations.Video(name, v.frames, v.height, v.width)
                for name, v in labels.videos.items()
            },
        ),
        tmp_path / "none.pkl",
    )
    with pytest.raises(UserError, match="no frame with an actor is labeled"):
        evaluate.main([*given, str(tmp_path / "none.pkl")])
    for more, said in (
        ([own, "--protocol", "act", "--nms", "1"], "of video-mAP, which needs whole tubes"),
        ([own, *truth(videos)], "give --ground-truth"),
        (
            [own, "--link", "tubelet"],
            "--link is of the act protocol; beside --labels give --protocol act",
        ),
        ([own, "--count-empty-frames"], "counts frames without labels as empty"),
        ([own, "--test-list", "l"], "leave out --test-list"),
    ):
        with pytest.raises(SystemExit):
            evaluate.main([*given, *more])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main(given[:-1])


def test_evaluation_writes_the_protocol_beside_the_numbers(trained, videos, tmp_path, capsys):
    folder = Path(shutil.copytree(trained, tmp_path / "run"))
    assert evaluate.main([*common(folder, videos), *truth(videos), "--device", "cpu"]) == 0
    report = json.loads((folder / "cycle0" / "evaluation.json").read_text())
    assert (
        report["capsule"]["protocol"] == "capsule"
        and report["capsule"]["switches"]["crop"] == "66x88 of 72x96"
    )
    assert (
        report["capsule"]["videos"] == 6
        and report["floor"]["switches"] == report["capsule"]["switches"]
    )
    assert len(report["capsule"]["f_map"]) == 20 and report["capsule"]["accuracy"] is not None
    assert "protocol: capsule" in capsys.readouterr().out


# --------------------------------------------------------------------------------- going on


def as_of_0_1(arguments):
    """Arguments of a training as version 0.1 kept them in training.pt."""
    new = {"dice", "batch_norm", "localization_weight", "validate", "amp"}
    old = {name: value for name, value in arguments.items() if name not in new}
    assert (arguments["dice"], arguments["batch_norm"]) == ("plain", "update")
    old |= {"no_dice": False, "freeze_bn": False, "sync_bn": False}
    return old | {"no_amp": False, "no_validation": not arguments["validate"], "authors": False}


def test_resumed_training_has_the_losses_of_an_uninterrupted_one(
    trained, run, videos, monkeypatch
):
    (run / "cycle0" / "detector.pt").unlink()
    save = checkpoint.save

    def save_and_stop(state, path):
        save(state, path)
        if Path(path).name == "training.pt":
            raise Stopped

    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(Stopped):
        train(run, videos)
    monkeypatch.undo()
    assert not (run / "cycle0" / "detector.pt").exists()
    state = torch.load(run / "cycle0" / "training.pt")
    state["arguments"] = as_of_0_1(state["arguments"])
    torch.save(state, run / "cycle0" / "training.pt")
    torch.manual_seed(12345)  # the state comes from the file, not from this process
    train(run, videos, 0, "--resume")
    whole, resumed = check_same_weights(trained, run)
    assert whole.about["history"] == resumed.about["history"]


def test_killed_before_its_last_file_a_training_ends_the_same(trained, run, videos):
    """The batch norm is re-estimated on the clips of the last epoch, not on those of the
    first.
    """
    (run / "cycle0" / "detector.pt").unlink()
    kill_before_last_file(lambda: train(run, videos))
    train(run, videos, 0, "--resume")
    check_same_weights(trained, run)


def test_what_is_validated_on_stays_so_when_a_video_comes_back(videos, tmp_path, monkeypatch):
    data, validated = Path(shutil.copytree(videos, tmp_path / "toy")), []
    monkeypatch.setattr("claus.steps.train.LEAST_VALIDATION_FRAMES", 1)
    select(tmp_path / "run", data, 0, "--videos-count", "12", "--frames-count", "200")
    name = annotations.load(tmp_path / "run" / "cycle0" / "annotations.pkl").labeled()[-1].name
    (path,) = data.rglob(f"{name.split('/')[1]}.avi")
    path.rename(tmp_path / "away.avi")
    save, run_epoch = checkpoint.save, Trainer.run_epoch

    def save_and_stop(state, place):
        save(state, place)
        raise Stopped

    def watched(self, *arguments):
        validated.append((sorted(self.validation), sorted(self.names)))
        return run_epoch(self, *arguments)

    monkeypatch.setattr(Trainer, "run_epoch", watched)
    monkeypatch.setattr(checkpoint, "save", save_and_stop)
    with pytest.raises(Stopped):
        train(tmp_path / "run", data)
    monkeypatch.setattr(checkpoint, "save", save)
    (tmp_path / "away.avi").rename(path)
    train(tmp_path / "run", data, 0, "--resume")
    assert len(validated) == 2 and validated[0] == validated[1] and validated[0][0]


def test_resuming_with_other_flags_is_refused(run, videos, monkeypatch):
    (run / "cycle0" / "detector.pt").unlink()
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda state, path: (save(state, path), (_ for _ in ()).throw(Stopped)),
    )
    with pytest.raises(Stopped):
        train(run, videos)
    monkeypatch.undo()
    with pytest.raises(UserError, match="--lr"):
        train(run, videos, 0, "--resume", "--lr", "0.5")


def test_interrupted_extraction_goes_on_and_gives_the_same(extracted, run, videos, monkeypatch):
    score, seen = extract_step.score_video, []

    def stop_after_five(trained, video, *rest):
        if len(seen) == 5:
            raise Stopped
        seen.append(video.name)
        return score(trained, video, *rest)

    monkeypatch.setattr(extract_step, "score_video", stop_after_five)
    with pytest.raises(Stopped):
        extract(run, videos)
    assert not (run / "cycle0" / "features.pkl").exists()
    again = []
    monkeypatch.setattr(
        extract_step,
        "score_video",
        lambda trained, video, *rest: (again.append(video.name), score(trained, video, *rest))[
            1
        ],
    )
    extract(run, videos)
    assert len(again) == 7 and not set(again) & set(seen)
    for name in ("features.pkl", "uncertainty.pkl"):
        assert (run / "cycle0" / name).read_bytes() == (
            extracted / "cycle0" / name
        ).read_bytes()
    assert not (run / "cycle0" / "extract.parts").exists()


def test_interrupted_evaluation_goes_on_and_gives_the_same(run, videos, tmp_path, monkeypatch):
    command = [*common(run, videos), *truth(videos), "--device", "cpu"]
    score, seen = evaluate_step.score_video, []

    def stop_after_two(trained, video, *rest):
        if len(seen) == 2:
            raise Stopped
        seen.append(video.name)
        return score(trained, video, *rest)

    monkeypatch.setattr(evaluate_step, "score_video", stop_after_two)
    with pytest.raises(Stopped):
        evaluate.main(command)
    assert not (run / "cycle0" / "evaluation.json").exists()
    again = []
    monkeypatch.setattr(
        evaluate_step,
        "score_video",
        lambda trained, video, *rest: (again.append(video.name), score(trained, video, *rest))[
            1
        ],
    )
    evaluate.main(command)
    assert len(again) == 4 and not set(again) & set(seen)
    assert not (run / "cycle0" / "evaluate.parts").exists()
    resumed = (run / "cycle0" / "evaluation.json").read_bytes()
    evaluate.main([*command, "--force"])
    assert (run / "cycle0" / "evaluation.json").read_bytes() == resumed


def finished(folder):
    """Numbers of the parts that the logs of a folder hold."""
    with Parts(folder, folder.name) as found:
        return found.numbers().tolist()


def stop_inside(monkeypatch, module, name, calls):
    """The function raises Stopped at its call number `calls`, and counts its calls."""
    function, count = getattr(module, name), []

    def stopping(*given, **named):
        count.append(1)
        if len(count) == calls:
            raise Stopped
        return function(*given, **named)

    monkeypatch.setattr(module, name, stopping)
    return count


@pytest.mark.parametrize("workers", ["0", "2"])
def test_an_extraction_that_is_stopped_inside_a_video_goes_on_inside_it(
    extracted, run, videos, monkeypatch, workers
):
    """With an interval of no time and chunks of one clip, as of videos that take minutes."""
    lengths = [v.frames for v in read_all(run).videos.values()]
    clips = sum(-(-frames // 16) for frames in lengths)
    first = -(-lengths[0] // 16)
    assert first > 2
    monkeypatch.setattr(parts, "EVERY", 0)
    one_by_one = functools.partial(VideoTiles, chunk=1)
    monkeypatch.setattr(extract_step, "VideoTiles", one_by_one)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_inside(patch, engine, "score_clips", first + 2)
        extract(run, videos, 0, "--workers", workers)
    (folder,) = (run / "cycle0" / "extract.parts").iterdir()
    assert finished(folder) == [0] and (folder / "1.unfinished.npz").exists()
    count = stop_inside(monkeypatch, engine, "score_clips", None)
    extract(run, videos, 0, "--workers", workers)
    assert len(count) == clips - first - 1
    for name in ("features.pkl", "uncertainty.pkl"):
        expected = (extracted / "cycle0" / name).read_bytes()
        assert (run / "cycle0" / name).read_bytes() == expected


@pytest.mark.parametrize("protocol", ["both", "capsule"])
def test_an_evaluation_that_is_stopped_inside_a_video_goes_on_inside_it(
    run, videos, monkeypatch, protocol
):
    command = [*common(run, videos), *truth(videos), "--device", "cpu", "--protocol", protocol]
    command += ["--limit", "2"]
    monkeypatch.setattr(parts, "EVERY", 0)
    one_by_one = functools.partial(VideoTiles, chunk=1)
    monkeypatch.setattr(evaluate_step, "VideoTiles", one_by_one)
    count = stop_inside(monkeypatch, evaluate_step, "predict", None)
    evaluate.main(command)
    clips = len(count)
    expected = (run / "cycle0" / "evaluation.json").read_bytes()
    for damaged in (False, True):
        (run / "cycle0" / "evaluation.json").unlink()
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_inside(patch, evaluate_step, "predict", 4)
            evaluate.main(command)
        (folder,) = (run / "cycle0" / "evaluate.parts").iterdir()
        kept = folder / "0.unfinished.npz"
        assert finished(folder) == [] and kept.exists()
        if damaged:
            kept.write_bytes(kept.read_bytes()[:-99])
        with monkeypatch.context() as patch:
            count = stop_inside(patch, evaluate_step, "predict", None)
            evaluate.main(command)
            assert len(count) == clips - (0 if damaged else 3)
        assert (run / "cycle0" / "evaluation.json").read_bytes() == expected
        assert not (run / "cycle0" / "evaluate.parts").exists()


def read_all(run):
    return annotations.load(run / "cycle0" / "annotations.pkl")


def test_every_script_names_a_video_that_was_replaced(run, videos, tmp_path, capsys):
    """Another file of the same length and picture size, of a labeled video, one of the pool
    and a test video.
    """
    data = Path(shutil.copytree(videos, tmp_path / "moved"))
    evaluated = [*common(run, data), *truth(data), "--device", "cpu", "--protocol", "capsule"]
    extract(run, data)
    evaluate.main(evaluated)
    assert "skipped" not in capsys.readouterr().out
    paths = {path.stem: path for path in data.rglob("*.avi")}
    pool = read_all(run)
    tested = (data / "testlist01.txt").read_text().split()
    names = [pool.labeled()[0].name, tested[0].removesuffix(".avi")]
    for name in names:
        path = paths[name.split("/")[1]]
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        write_video(path, np.stack(frames[::-1]))
    words = "is not the video that"
    train(run, data, 0, "--force")
    out = capsys.readouterr().out
    assert f"1 of {len(pool.labeled())} labeled videos were skipped" in out and words in out
    extract(run, data, 0, "--force")
    out = capsys.readouterr().out
    assert f"1 of {len(pool.videos)} videos were skipped" in out and words in out
    evaluate.main([*evaluated, "--force"])
    out = capsys.readouterr().out
    assert "1 of 6 test videos were skipped" in out and words in out
    with pytest.raises(UserError, match=words):
        extract(run, data, 0, "--force", "--strict")


def test_two_processes_share_the_videos_and_find_the_same(extracted, run, videos):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--",
        str(ROOT / "cluster_extract.py"),
        *common(run, videos),
        "--device",
        "cpu",
        "--passes",
        "2",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("12 of 12 videos to score, by 2 processes") == 1
    one = load_uncertainty(extracted / "cycle0" / "uncertainty.pkl")
    two = load_uncertainty(run / "cycle0" / "uncertainty.pkl")
    for name in ("paper", "authors", "area", "entropy", "local_entropy"):
        np.testing.assert_allclose(getattr(two, name), getattr(one, name), rtol=1e-6, atol=1e-6)
    select(run, videos, 1)
    alone = Path(shutil.copytree(extracted, run.parent / "alone"))
    select(alone, videos, 1)
    chosen = [
        [
            (v["video"], [f["frame"] for f in v["frames"]])
            for v in json.loads((folder / "cycle1" / "request.json").read_text())["videos"]
        ]
        for folder in (run, alone)
    ]
    assert chosen[0] == chosen[1]


def test_machines_that_share_a_folder_alone_score_the_same_although_one_stops(
    extracted, run, videos, monkeypatch, capsys
):
    """Two machines score a third each, the third one stops in its second video; the last
    command does the rest.
    """
    writing = run / "cycle0" / "extract.parts"
    extract(run, videos, 0, "--shard", "1/3")
    folder = next(writing.iterdir())
    (folder / ".7.x.claus.tmp").write_bytes(b"another machine is writing this")
    extract(run, videos, 0, "--shard", "2/3")
    score, seen = extract_step.score_video, []

    def stop_in_the_second(trained, video, *rest):
        seen.append(video.name)
        if len(seen) == 2:
            raise Stopped
        return score(trained, video, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(extract_step, "score_video", stop_in_the_second)
        with pytest.raises(Stopped):
            extract(run, videos, 0, "--shard", "3/3")
    assert finished(folder) == [0, 1, 2, 3, 4, 6, 7, 9, 10]
    assert (folder / ".7.x.claus.tmp").exists() and not (
        run / "cycle0" / "features.pkl"
    ).exists()
    capsys.readouterr()
    extract(run, videos)
    assert "3 of 12 videos to score" in capsys.readouterr().out
    for name in ("features.pkl", "uncertainty.pkl"):
        assert (run / "cycle0" / name).read_bytes() == (
            extracted / "cycle0" / name
        ).read_bytes()


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0"])
def test_a_senseless_shard_is_refused(run, videos, text):
    with pytest.raises(SystemExit):
        extract(run, videos, 0, "--shard", text)


def cycles(folder, videos, *more):
    return [
        "--run",
        str(folder),
        "--data",
        str(videos),
        *truth(videos),
        "--device",
        "cpu",
        "--train",
        "--model small --pretrained none --epochs 1 --steps 2 --bn-batches 1",
        "--extract",
        "--passes 2",
        "--select",
        "--videos-count 4 --frames-count 8",
        *more,
    ]


def test_cycles_killed_in_the_middle_go_on_to_the_same_table(videos, tmp_path):
    folder = tmp_path / "run"
    command = [
        sys.executable,
        str(ROOT / "run_cycles.py"),
        *cycles(folder, videos, "--cycles", "2"),
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(1200):  # kill -9 while it scores the videos of cycle 0
        logs = folder.glob("cycle0/extract.parts/*/*.log")
        if any(log.stat().st_size > 1000 for log in logs) or process.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "cycle1").exists()
    assert not [p for p in folder.rglob("*.pkl") if p.stat().st_size == 0]
    assert run_cycles.main(cycles(folder, videos, "--cycles", "2")) == 0
    rows = (folder / "results.csv").read_text().splitlines()
    assert len(rows) == 3 and rows[0].startswith("cycle,videos,frames")
    assert [row.split(",")[1:3] for row in rows[1:]] == [["4", "8"], ["8", "16"]]
    assert (folder / "curve.png").stat().st_size > 5000
    table = (folder / "results.csv").read_bytes()
    assert (
        run_cycles.main(cycles(folder, videos, "--cycles", "2")) == 0
    )  # nothing is left to do
    assert [
        line.split(",")[:11] for line in (folder / "results.csv").read_text().splitlines()
    ] == [line.split(",")[:11] for line in table.decode().splitlines()]
    with pytest.raises(UserError, match="--seed"):
        run_cycles.main(cycles(folder, videos, "--cycles", "2", "--seed", "9"))


def test_cycles_stop_at_the_budget(videos, tmp_path, capsys):
    assert (
        run_cycles.main(cycles(tmp_path / "run", videos, "--cycles", "5", "--budget", "12"))
        == 0
    )
    assert "the cost 12 has reached the budget 12" in capsys.readouterr().out
    assert not (tmp_path / "run" / "cycle1").exists()


def test_a_misspelt_flag_of_a_step_is_found_before_any_work(videos, tmp_path):
    with pytest.raises(SystemExit):
        run_cycles.main([*cycles(tmp_path / "run", videos), "--evaluate", "--no-such-flag"])
    assert not (tmp_path / "run" / "cycle0").exists()


def test_interrupt_ends_with_one_line_and_status_130(run, videos):
    (run / "cycle0" / "detector.pt").unlink()
    command = [
        sys.executable,
        str(ROOT / "train_ucf101.py"),
        *common(run, videos),
        *TRAIN,
        "--epochs",
        "4000",
        "--steps",
        "40000",
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    for _ in range(1200):
        if (run / "cycle0" / "training.pt").exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (
        process.returncode == 130
        and "with the same command and --resume" in error
        and "Traceback" not in error
    )
    assert not (run / "cycle0" / "detector.pt").exists()


# -------------------------------------------------------------------------------- bad input


@pytest.fixture
def damaged(videos, tmp_path):
    """The data set with one labeled video missing, one truncated to a third, one empty."""
    return Path(shutil.copytree(videos, tmp_path / "damaged"))


def labeled(folder):
    return [
        video.name
        for video in annotations.load(folder / "cycle0" / "annotations.pkl").labeled()
    ]


def test_bad_videos_are_named_and_set_aside(run, damaged, capsys):
    (run / "cycle0" / "detector.pt").unlink()
    missing, short = labeled(run)[:2]
    (damaged / "videos" / f"{missing}.avi").unlink()
    path = damaged / "videos" / f"{short}.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    train(run, damaged)
    said = capsys.readouterr().out
    assert "2 of 4 labeled videos were skipped" in said and missing in said and short in said
    assert set(checkpoint.load(run / "cycle0" / "detector.pt").clusters.assignment) == set(
        labeled(run)[2:]
    )
    extract(run, damaged)
    said = capsys.readouterr().out
    assert "2 of 12 videos were skipped" in said and f"{short}.avi" in said
    features = load_features(run / "cycle0" / "features.pkl")
    assert set(features.failed) == {missing, short} and len(features.videos) == 10


def test_strict_stops_at_a_bad_video(run, damaged):
    (run / "cycle0" / "detector.pt").unlink()
    name = labeled(run)[0]
    (damaged / "videos" / f"{name}.avi").write_bytes(b"")
    with pytest.raises(UserError, match=f"{name}.avi is empty"):
        train(run, damaged, 0, "--strict")
    assert not (run / "cycle0" / "detector.pt").exists()


def test_extract_strict_stops_and_keeps_what_it_has(run, damaged):
    name = list(annotations.load(run / "cycle0" / "annotations.pkl").videos)[3]
    (damaged / "videos" / f"{name}.avi").write_bytes(b"no video at all")
    with pytest.raises(UserError, match=f"{name}.avi"):
        extract(run, damaged, 0, "--strict")
    (folder,) = (run / "cycle0" / "extract.parts").iterdir()
    assert finished(folder) == [0, 1, 2]


def test_no_readable_video_is_one_line(run, tmp_path):
    (run / "cycle0" / "detector.pt").unlink()
    with pytest.raises(UserError, match="nothing to train on: .*--data"):
        train(run, tmp_path / "nowhere")


def test_evaluation_sets_bad_test_videos_aside(run, damaged, capsys):
    names = (damaged / "testlist01.txt").read_text().split()
    (damaged / "videos" / f"{names[0]}.avi").write_bytes(b"")
    evaluate.main([*common(run, damaged), *truth(damaged), "--device", "cpu", "--no-floor"])
    assert "1 of 6 test videos were skipped" in capsys.readouterr().out
    report = json.loads((run / "cycle0" / "evaluation.json").read_text())
    assert list(report["failed"]) == [names[0]] and report["capsule"]["videos"] == 5


def test_truncated_and_foreign_checkpoints_are_refused_in_one_line(run, videos):
    path = run / "cycle0" / "detector.pt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="detector.pt.*(truncated|damaged)"):
        extract(run, videos)
    torch.save({"state_dict": {"fc.weight": torch.zeros(3)}}, path)
    with pytest.raises(UserError, match="not a detector checkpoint of this project"):
        evaluate.main([*common(run, videos), *truth(videos), "--device", "cpu"])


def test_ground_truth_of_another_data_set_is_refused(run, videos, tmp_path):
    import pickle

    entry = {"numf": 20, "label": 0, "annotations": []}
    (tmp_path / "other.pkl").write_bytes(pickle.dumps({"Jump/v_Jump_g01_c01": entry}))
    (tmp_path / "list.txt").write_text("Jump/v_Jump_g01_c01\n")
    with pytest.raises(UserError, match="1 classes .Jump.*6 .Bounce"):
        evaluate.main(
            [
                *common(run, videos),
                "--oracle",
                str(tmp_path / "other.pkl"),
                "--test-list",
                str(tmp_path / "list.txt"),
                "--device",
                "cpu",
            ]
        )


def test_unwritable_output_is_found_before_the_work(trained, videos, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        select(tmp_path / "file" / "run", videos)
    with pytest.raises(UserError, match="cannot write"):
        run_cycles.main(cycles(tmp_path / "file" / "run", videos))


def test_disk_full_leaves_no_half_file(run, videos, monkeypatch):
    """A write that fails half-way, as on a full disk: one line, the old file untouched, no
    temporary file.
    """

    def full(state, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    before = (run / "cycle0" / "detector.pt").read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="the disk is full"):
        train(run, videos, 0, "--force")
    assert (run / "cycle0" / "detector.pt").read_bytes() == before
    assert not list((run / "cycle0").glob(".*.tmp"))


@pytest.mark.parametrize(
    "flags",
    [
        ["--epochs", "0"],
        ["--steps", "1", "--epochs", "2"],
        ["--lr", "-1"],
        ["--cluster-weight", "-1"],
        ["--pseudo-label-loss", "dice"],
        ["--batch-size", "0"],
    ],
)
def test_senseless_training_flags_are_refused(videos, tmp_path, flags):
    with pytest.raises(SystemExit) as stopped:
        train_ucf101.main([*common(tmp_path / "run", videos), *flags])
    assert stopped.value.code == 2


def test_wrong_pretrained_weights_are_refused(run, videos, tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="other.pt.*match"):
        train(run, videos, 0, "--force", "--pretrained", str(tmp_path / "other.pt"))


def test_scripts_answer_help_and_errors_as_commands(tmp_path):
    """The real commands: help exits 0; a missing file is one line on stderr and status 2,
    without a traceback.
    """
    command = [
        sys.executable,
        str(ROOT / "claus_select.py"),
        "--run",
        str(tmp_path / "run"),
        "--cycle",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (
        done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "cycle0" in done.stderr
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "train_ucf101.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Reads" in done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ["--adam-betas", "2", "3"],
        ["--adam-eps", "-1"],
        ["--margin-weight", "nan"],
        ["--seed", "99999999999"],
        ["--workers", "-1"],
        ["--device", "cuda:99"],
        ["--device", "abacus"],
    ],
)
def test_flags_that_torch_would_choke_on_are_refused_before_the_work(videos, tmp_path, flags):
    with pytest.raises(SystemExit) as stopped:
        train_ucf101.main([*common(tmp_path / "run", videos), "--device", "cpu", *flags])
    assert stopped.value.code == 2


def test_a_device_that_is_not_there_is_not_called_damage(run, videos, capsys):
    for script in (cluster_extract, evaluate):
        with pytest.raises(SystemExit):
            script.main(
                [
                    *common(run, videos),
                    *(truth(videos) if script is evaluate else ()),
                    "--device",
                    "cuda:99",
                ]
            )
        said = capsys.readouterr().err
        assert "no CUDA device for cuda:99" in said and "damaged" not in said


def test_authors_leaves_the_flags_that_are_given(videos, tmp_path):
    flags = common(tmp_path / "run", videos)
    flags = [*flags, "--device", "cpu"]
    assert not parse_training([*flags, "--authors"]).reassign
    settings = parse_training([*flags, "--authors", "--reassign", "1", "--last-margin", "0.5"])
    assert settings.reassign
    assert (settings.loss.last_margin, settings.loss.weighting) == (0.5, "authors")
    assert settings.optimizer.adam_betas == (0.5, 0.999) and settings.pixel_range == "0..1"
    assert parse_training(flags).reassign


def test_a_loss_that_is_no_number_is_one_line(run, videos):
    with pytest.raises(UserError, match="the loss is nan at step 1.*lower --lr"):
        train(run, videos, 0, "--force", "--lr", "1e30")


def stop_training(run, videos, monkeypatch, *more):
    """Train until the first training.pt is written, then stop."""
    save = checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint,
            "save",
            lambda state, path: (save(state, path), (_ for _ in ()).throw(Stopped)),
        )
        with pytest.raises(Stopped):
            train(run, videos, 0, *more)


def test_an_interrupted_training_is_not_overwritten_unasked(run, videos, monkeypatch):
    (run / "cycle0" / "detector.pt").unlink()
    stop_training(run, videos, monkeypatch)
    kept = (run / "cycle0" / "training.pt").read_bytes()
    with pytest.raises(UserError, match="training.pt holds an interrupted training: --resume"):
        train(run, videos)
    assert (run / "cycle0" / "training.pt").read_bytes() == kept
    assert (
        train(run, videos, 0, "--force") == 0 and not (run / "cycle0" / "training.pt").exists()
    )


def test_resuming_on_other_labels_or_a_foreign_file_is_refused(run, videos, monkeypatch):
    (run / "cycle0" / "detector.pt").unlink()
    stop_training(run, videos, monkeypatch)
    select(run, videos, 0, "--force", "--seed", "5")
    with pytest.raises(UserError, match="other labels"):
        train(run, videos, 0, "--resume")
    torch.save({"epoch": 1}, run / "cycle0" / "training.pt")
    with pytest.raises(UserError, match="is not a training state"):
        train(run, videos, 0, "--resume")


def test_a_resumed_training_still_names_what_was_set_aside(run, damaged, monkeypatch, capsys):
    (run / "cycle0" / "detector.pt").unlink()
    name = labeled(run)[0]
    (damaged / "videos" / f"{name}.avi").write_bytes(b"")
    stop_training(run, damaged, monkeypatch)
    capsys.readouterr()
    train(run, damaged, 0, "--resume")
    said = capsys.readouterr().out
    assert "1 of 4 labeled videos were skipped" in said and f"{name}.avi is empty" in said


def test_a_bad_validation_video_is_named_too(videos, damaged, tmp_path, capsys):
    folder = tmp_path / "run"
    claus_select.main(
        [
            *common(folder, videos),
            *truth(videos),
            "--videos-count",
            "10",
            "--frames-count",
            "400",
        ]
    )
    labels = annotations.load(folder / "cycle0" / "annotations.pkl")
    names = [video.name for video in labels.labeled()]
    _, (held_out,) = split_validation(labels, names, seed=0)
    (damaged / "videos" / f"{held_out}.avi").write_bytes(b"")
    train(folder, damaged)
    said = capsys.readouterr().out
    assert "1 of 10 labeled videos were skipped" in said and f"{held_out}.avi is empty" in said


def test_what_was_made_from_replaced_weights_is_not_used(extracted, videos, tmp_path, capsys):
    folder = Path(shutil.copytree(extracted, tmp_path / "run"))
    scored = [*common(folder, videos), *truth(videos), "--device", "cpu", "--no-floor"]
    evaluate.main(scored)
    train(folder, videos, 0, "--force", "--seed", "7")
    with pytest.raises(
        UserError, match="features.pkl was made from other weights than .*detector.pt"
    ):
        select(folder, videos, 1)
    evaluate.main(scored)
    extract(folder, videos)
    said = capsys.readouterr().out
    assert (
        "evaluation.json is of other weights" in said
        and "features.pkl and uncertainty.pkl are of other" in said
    )
    source = fingerprint(folder / "cycle0" / "detector.pt")
    assert json.loads((folder / "cycle0" / "evaluation.json").read_text())["source"] == source
    assert select(folder, videos, 1) == 0
    capsys.readouterr()
    extract(folder, videos)
    evaluate.main(scored)
    assert (
        "has both pickles already" in (said := capsys.readouterr().out)
        and "is there already" in said
    )


def test_a_damaged_pickle_is_made_anew_by_the_same_command(extracted, videos, tmp_path, capsys):
    folder = Path(shutil.copytree(extracted, tmp_path / "run"))
    path = folder / "cycle0" / "uncertainty.pkl"
    whole = path.read_bytes()
    path.write_bytes(whole[:400])
    extract(folder, videos)
    assert path.read_bytes() == whole and "scoring again" in capsys.readouterr().out


def test_a_misspelt_flag_does_not_become_the_run_s(videos, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(SystemExit):
        run_cycles.main(cycles(folder, videos, "--evaluate=--no-such-flag"))
    assert not (folder / "run.json").exists()
    (folder / "cycle0").mkdir(parents=True, exist_ok=True)
    (folder / "cycle0" / "selection.json").write_text("{}")
    (folder / "run.json").write_text("{")
    with pytest.raises(UserError, match="run.json: not JSON.*remove it"):
        run_cycles.main(cycles(folder, videos))


def test_interrupt_while_torch_is_imported_is_one_line(run, videos):
    """Ctrl-C in the first seconds, before the script's own work has begun."""
    code = "import claus.utils.startup, os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (
        done.returncode != 0
        and "stopped before it began" in done.stderr
        and "Traceback" not in done.stderr
    )


# ------------------------------------------------------------------------------- real input


def test_three_real_clips_go_through_every_script(shared_data, tmp_path):
    data = shared_data / "ucf101_24"
    (tmp_path / "test.txt").write_text("Biking/v_Biking_g02_c05\n")
    real = ["--oracle", str(data / "pyannot.pkl"), "--test-list", str(tmp_path / "test.txt")]
    arguments = ["--run", str(tmp_path / "run"), "--data", str(data / "videos")]
    claus_select.main(
        [
            *arguments,
            *real,
            "--cycle",
            "0",
            "--on-disk",
            "--videos-count",
            "1",
            "--frames-count",
            "4",
        ]
    )
    train_ucf101.main([*arguments, *TRAIN])
    cluster_extract.main([*arguments, "--device", "cpu", "--passes", "2"])
    claus_select.main(
        [*arguments, *real, "--cycle", "1", "--videos-count", "1", "--frames-count", "4"]
    )
    evaluate.main([*arguments, *real, "--device", "cpu", "--no-floor"])
    labels = annotations.load(tmp_path / "run" / "cycle1" / "annotations.pkl")
    assert sorted(labels.videos) == ["Biking/v_Biking_g01_c03", "Diving/v_Diving_g01_c01"]
    assert labels.counts()["videos"] == 2 and labels.counts()["frames"] == 8
    report = json.loads((tmp_path / "run" / "cycle0" / "evaluation.json").read_text())
    assert (
        report["capsule"]["videos"] == 1
        and report["capsule"]["switches"]["crop"] == "66x88 of 72x96"
    )


def test_validation_chooses_among_checkpoints_on_held_out_videos(videos, tmp_path):
    """With enough labels a tenth of the videos is held out: not trained on, and the best
    epoch's weights are kept.
    """
    folder = tmp_path / "run"
    claus_select.main(
        [
            *common(folder, videos),
            *truth(videos),
            "--videos-count",
            "10",
            "--frames-count",
            "400",
        ]
    )
    train(folder, videos)
    state = checkpoint.load(folder / "cycle0" / "detector.pt")
    history = state.about["history"]
    held_out = set(labeled(folder)) - set(state.clusters.assignment)
    assert len(held_out) == 1 and all(
        0 <= epoch["f@.5"] <= 1 and "accuracy" in epoch for epoch in history
    )
    best = max(history, key=lambda epoch: epoch["f@.5"] + 1e-3 * epoch["mean IoU"])
    assert state.about["steps"] == 2 * (best["epoch"] + 1)


def test_steps_are_shared_out_evenly_over_the_epochs(run, videos):
    train(run, videos, 0, "--force", "--steps", "5", "--epochs", "4")
    about = checkpoint.load(run / "cycle0" / "detector.pt").about
    assert about["steps"] == 5 and len(about["history"]) == 4
    assert all("total" in epoch for epoch in about["history"])


def test_a_form_that_is_being_filled_in_is_not_overwritten(videos, tmp_path, capsys):
    folder = tmp_path / "run"
    people = [
        *common(folder, videos),
        "--classes",
        ",".join(toy.CLASSES),
        "--videos-count",
        "1",
        "--frames-count",
        "2",
    ]
    claus_select.main(people)
    path = folder / "cycle0" / "request.json"
    claus_select.main([*people, "--force"])  # nothing filled in yet: replaced
    assert not list(path.parent.glob("request.replaced*"))
    form = json.loads(path.read_text())
    form["videos"][0]["frames"][0]["actors"] = []
    path.write_text(json.dumps(form))
    claus_select.main([*people, "--force", "--seed", "5"])
    kept = path.with_name("request.replaced1.json")
    assert (
        json.loads(kept.read_text()) == form
        and "request.replaced1.json" in capsys.readouterr().out
    )
    path.write_text("{ half an edit")
    select(folder, videos)  # another annotator, by mistake
    assert path.with_name("request.replaced2.json").read_text() == "{ half an edit"


@pytest.mark.parametrize(
    "more",
    [
        ["--weighting", "authors"],
        ["--authors"],
        ["--pseudo-label-loss", "frame"],
    ],
)
def test_weighted_dice_needs_weights_that_differ(more, capsys):
    with pytest.raises(SystemExit):
        parse_training(["--run", "r", "--dice", "weighted", *more])
    assert "--dice weighted weighs Dice by STeW's φ" in capsys.readouterr().err


@pytest.mark.parametrize(
    "old, new",
    [
        (["--no-dice"], ["--dice", "none"]),
        (["--weighted-dice"], ["--dice", "weighted"]),
        (["--freeze-bn"], ["--batch-norm", "freeze"]),
    ],
)
def test_old_spellings_of_flags_still_mean_the_same(old, new):
    flags = ["--run", "r", "--device", "cpu"]
    assert parse_training([*flags, *old]) == parse_training([*flags, *new])
    assert parse_training([*flags, *old]) != parse_training(flags)


@pytest.mark.parametrize(
    "two",
    [
        ["--weighted-dice", "--no-dice"],
        ["--dice", "plain", "--no-dice"],
        ["--sync-bn", "--freeze-bn"],
        ["--batch-norm", "update", "--freeze-bn"],
    ],
)
def test_two_spellings_that_contradict_each_other_are_refused(two, capsys):
    with pytest.raises(SystemExit):
        parse_training(["--run", "r", "--device", "cpu", *two])
    assert "not allowed with argument" in capsys.readouterr().err
