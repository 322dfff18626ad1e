"""detect.py --crop and evaluate.py see the same: the scores of the `act` protocol, computed
from the JSON files of detections, are those of evaluation.json.
"""

import json

import numpy as np
import pytest
import torch

import detect
import evaluate
from claus.artifacts import checkpoint, shipped
from claus.datasets import table, toy
from claus.datasets.clips.geometry import GEOMETRY
from claus.detection import files
from claus.losses.cluster import Clusters
from claus.metrics import detections
from claus.metrics.boxes import Boxes
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.steps.detect import videos_of
from claus.steps.evaluate import evenly_spread

PROTOCOL = ["--crop", "--min-area", "0.001", "--min-score", "0", "--min-length", "1"]


def regions_of(content):
    """detections.Regions of a JSON file, in the order of evaluate.py: clip by clip."""
    rows = []
    for tube in content["tubes"]:
        for frame, box, score in zip(
            tube["frames"], tube["boxes"], tube["foreground"], strict=True
        ):
            if score is not None:
                x0, y0, x1, y1 = box
                rows.append((2 * (frame // 16) + frame % 2, frame, y0, x0, y1, x1, score))
    clip, frame, y0, x0, y1, x1, score = np.array(sorted(rows)).T
    none = np.zeros(len(rows), np.int64)
    box = np.stack([x0, y0, x1 - 1, y1 - 1], axis=1)
    boxes = Boxes(none, frame.astype(np.int64), none, box, score)
    return detections.Regions(boxes, np.array(content["clip_scores"]), clip.astype(int))


def from_json(folder, names, truth):
    """The results of the act protocol on videos, from JSON files."""
    found = [regions_of(files.read(folder / f"{names[video.name]}.json")) for video in truth]
    return found


def means(report):
    return [report[kind]["mean_ap"] for kind in ("frame", "video")]


def compare(tmp_path, weights, dataset, arguments, truth, classes, find_video):
    """Both ways on the same videos."""
    run = str(tmp_path / "run")
    evaluate.main(
        ["--run", run, "--weights", str(weights), "--protocol", "act", "--device", "cpu"]
        + ["--feature-gb", "0", *arguments]
    )
    expected = json.loads((tmp_path / "run" / "cycle0" / "evaluation.json").read_text())["act"]
    paths = [str(find_video(video.name)) for video in truth]
    out = ["--out", str(tmp_path / "found"), "--format", "json", "--device", "cpu"]
    assert detect.main([*paths, "--weights", str(weights), *out, *PROTOCOL]) == 0
    of_path = {path.resolve(): name for name, path in videos_of(tuple(paths)).items()}
    names = {video.name: of_path[find_video(video.name).resolve()] for video in truth}
    found = from_json(tmp_path / "found", names, truth)
    report = detections.report(truth, found, classes, "as seen")
    assert np.allclose(means(report), means(expected), rtol=0, atol=1e-6)
    assert report["frame"]["detections"] == expected["frame"]["detections"] > 0
    return expected


def test_the_shipped_detector_on_real_test_clips(shared_data, tmp_path):
    folder = shared_data / "jhmdb"
    data = ["--dataset", "jhmdb", "--data", str(folder), "--ground-truth", str(folder)]
    truth = table.read_ground_truth("jhmdb", str(folder), None, 1, "test")
    some = evenly_spread(list(truth.videos.values()), 12)
    find_video = table.video_finder("jhmdb", str(folder))
    arguments = [*data, "--limit", "12"]
    weights = shipped.default_detector()
    expected = compare(tmp_path, weights, "jhmdb", arguments, some, truth.classes, find_video)
    assert expected["frame"]["mean_ap"][0] > 0.1  # it finds something


def test_a_network_that_sees_a_crop_and_ends_in_black(tmp_path):
    torch.manual_seed(0)
    toy.make(tmp_path / "toy", seed=3, train=6, test=6)
    truth_path = str(tmp_path / "toy" / "pyannot.pkl")
    listed = str(tmp_path / "toy" / "testlist01.txt")
    truth = table.read_ground_truth("ucf101", truth_path, listed, None, "test")
    config = DetectorConfig(classes=len(truth.classes), **PRESETS["small"])
    detector = Detector(config)
    geometry = GEOMETRY["small", "wide"]
    clusters = Clusters(torch.zeros(1, config.latent_size), torch.ones(1), {})
    state = checkpoint.detector_state(
        detector, clusters, truth.classes, "ucf101", geometry, "-1..1", {"arguments": {}}
    )
    state["detector"]["smooth.bias"][:] = 0  # regions without sense, but many
    checkpoint.save(state, tmp_path / "detector.pt")
    arguments = ["--data", str(tmp_path / "toy"), "--ground-truth", truth_path]
    compare(
        tmp_path,
        tmp_path / "detector.pt",
        "ucf101",
        [*arguments, "--test-list", listed],
        list(truth.videos.values()),
        truth.classes,
        table.video_finder("ucf101", str(tmp_path / "toy")),
    )


def test_where_the_shipped_weights_are_another_file_it_is_refused(monkeypatch):
    monkeypatch.setattr(shipped, "SHA256", "0" * 64)
    with pytest.raises(Exception, match="is not the file that belongs to this version"):
        shipped.default_detector()
