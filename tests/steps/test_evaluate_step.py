"""steps.evaluate without a network: which videos the no-model floor is chosen on, and which
are scored.
"""

import pickle

import numpy as np
import pytest

from claus.artifacts.cycle import Cycle
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.labels import annotations
from claus.flags import evaluation
from claus.metrics.capsule import VideoOverlap
from claus.steps import evaluate

GEOMETRY_SMALL = GEOMETRY["small", "wide"]


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
    report = evaluate.score(scored, ("Run",), GEOMETRY_SMALL, switches, settings, cycle)
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
