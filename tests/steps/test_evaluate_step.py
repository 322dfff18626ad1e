"""steps.evaluate without a network: which videos the no-model floor is chosen on, and which
are scored.
"""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from claus.artifacts.cycle import Cycle
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels import annotations
from claus.flags import evaluation
from claus.metrics import detections
from claus.metrics.capsule import VideoOverlap
from claus.steps import evaluate

GEOMETRY_SMALL = GEOMETRY["small", "wide"]
VIEW = evaluate.View(GEOMETRY_SMALL, GEOMETRY_SMALL)


def entry(box):
    return {
        "numf": 4,
        "label": 0,
        "annotations": [{"label": 0, "sf": 0, "ef": 4, "boxes": np.array([box] * 4)}],
    }


@pytest.fixture
def truth(tmp_path):
    """Training actors are small and wide, those of the test video large."""
    records = {f"Run/v_train{i}": entry([130, 100, 60, 40]) for i in range(3)}
    records["Run/v_test"] = entry([60, 10, 200, 220])
    (tmp_path / "pyannot.pkl").write_bytes(pickle.dumps(records))
    (tmp_path / "testlist.txt").write_text("Run/v_test\n")
    listed = ["--test-list", str(tmp_path / "testlist.txt")]
    return ["--ground-truth", str(tmp_path / "pyannot.pkl"), *listed]


def parsed(tmp_path, *more):
    return evaluation.parse(["--run", str(tmp_path / "run"), "--device", "cpu", *more])


def rectangle_of(settings, cycle, videos):
    """The floor's rectangle, and how many videos it was scored on."""
    overlaps = [VideoOverlap.empty(video.name, 0, video.frames, 1) for video in videos]
    for overlap in overlaps:
        overlap.gt_F[:] = overlap.union_F[:] = 1
        overlap.clip_scores[:] = 1
    scored = evaluate.Scored(videos, overlaps)
    switches = evaluate.switches_of(settings, GEOMETRY_SMALL)
    report = evaluate.score(scored, ("Run",), VIEW, switches, settings, cycle)
    assert report["act"] is None
    return report["floor"]["rectangle"], report["floor"]["videos"]


def test_the_floor_is_chosen_on_the_training_part_and_scored_on_the_test_part(tmp_path, truth):
    settings = parsed(tmp_path, *truth, "--protocol", "capsule")
    cycle = Cycle.of(settings.run, 0)
    tested = evaluate.read_truth(settings, cycle)
    assert list(tested.videos) == ["Run/v_test"]
    training = evaluate.training_videos(settings, cycle)
    assert sorted(video.name for video in training) == [f"Run/v_train{i}" for i in range(3)]
    rectangle, videos = rectangle_of(settings, cycle, list(tested.videos.values()))
    assert rectangle["height"] < 0.5 and rectangle["width"] < 0.5 and videos == 1


def test_beside_labels_of_ones_own_the_floor_is_chosen_on_what_the_cycle_has_labeled(
    tmp_path, truth
):
    dense = evaluate.read_part(parsed(tmp_path, *truth), "train")
    own = evaluate.read_part(parsed(tmp_path, *truth), "test")
    annotations.save(own, tmp_path / "own.pkl")
    settings = parsed(tmp_path, "--labels", str(tmp_path / "own.pkl"))
    cycle = Cycle.of(settings.run, 0)
    assert evaluate.training_videos(settings, cycle) == []
    cycle.folder.mkdir(parents=True)
    annotations.save(dense, cycle.annotations)
    names = {video.name for video in evaluate.training_videos(settings, cycle)}
    assert names == set(dense.videos)
    assert list(evaluate.read_truth(settings, cycle).videos) == ["Run/v_test"]
    rectangle, _ = rectangle_of(settings, cycle, list(own.videos.values()))
    assert rectangle["height"] < 0.5


def test_a_preview_takes_videos_evenly(tmp_path):
    assert evaluate.evenly_spread(list(range(9)), 3) == [0, 4, 8]
    assert evaluate.evenly_spread(list(range(2)), 3) == [0, 1]
    assert evaluate.evenly_spread([1, 2, 3], None) == [1, 2, 3]


@pytest.mark.parametrize("class_scores", ["clip", "video"])
def test_chunks_do_not_change_what_a_video_comes_to(tmp_path, monkeypatch, class_scores):
    frames, size, rng = 35, 64, np.random.default_rng(0)
    plan = VideoTiles([], None, None, 2, "black").plan(frames)
    shown, tile, phase = map(np.array, zip(*itertools.chain(*plan), strict=True))
    logits = torch.from_numpy(rng.normal(size=(len(shown), 8, size, size)).cumsum(2))
    scores = rng.random((len(shown), 2)).astype(np.float32)
    item = {"frames": shown, "tile": tile, "phase": phase, "clips": np.arange(len(shown))}

    def predict(trained, chunk):
        own = chunk["clips"]
        return evaluate.Prediction(chunk["frames"], logits[own], scores[own])

    monkeypatch.setattr(evaluate, "predict", predict)
    boxes = np.array([[20, 20, 60, 50]]) + np.arange(frames)[:, None] % 5
    tube = annotations.Tube(1, 0, np.arange(frames), boxes=boxes)
    video = annotations.Video("v", frames, 72, 96, 1, np.arange(frames), (tube,))
    trained = SimpleNamespace(classes=("a", "b"))
    listed = ["--ground-truth", "t.pkl", "--test-list", "t.txt"]
    settings = parsed(tmp_path, *listed, "--class-scores", class_scores)

    def result(step):
        parts = [slice(first, first + step) for first in range(0, len(shown), step)]
        chunks = [{key: values[part] for key, values in item.items()} for part in parts]
        return evaluate.score_video(trained, video, chunks, VIEW, settings)

    whole = result(len(shown))
    logits, kept = torch.full_like(logits, -9), logits
    nothing = result(3)
    assert all(len(nothing[name]) == 0 for name in evaluate.REGIONS)
    assert {n: v.dtype for n, v in nothing.items()} == {n: v.dtype for n, v in whole.items()}
    logits = kept
    for step in (1, 2, 3):
        for name, values in result(step).items():
            np.testing.assert_array_equal(values, whole[name], strict=True)
    probs = torch.sigmoid(logits).numpy()
    expected = detections.boxes_of(0, video, shown, probs, scores, GEOMETRY_SMALL, settings.act)
    assert len(expected) > 99
    regions = [whole[name] for name in evaluate.REGIONS]
    found = evaluate.scored_regions(regions, whole["clip_scores"], class_scores)
    assert len(found) == len(expected)
    found = found.of_classes(0, range(2))
    for have, want in zip(found.columns(), expected.columns(), strict=True):
        np.testing.assert_array_equal(have, want, strict=True)
    np.testing.assert_array_equal(whole["gt_F"] > 0, np.ones(frames, bool))
