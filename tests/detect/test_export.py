"""Exported networks are those of torch, or are refused."""

import json

import numpy as np
import pytest
import torch

import export
from claus.detection import export as exports
from claus.detection.detector import Detector
from claus.utils.runtime import UserError


@pytest.fixture(scope="module")
def trained():
    return Detector.open().trained


def test_pt2_takes_any_number_of_clips(tmp_path, capsys):
    path = tmp_path / "laptop.pt2"
    assert export.main(["--pt2", str(path)]) == 0
    assert "from torch on 6 made clips" in capsys.readouterr().out
    about = json.loads((tmp_path / "laptop.pt2.json").read_text())
    assert len(about["classes"]) == 21 and about["size"] == 160 and about["stride"] == 2
    module = torch.export.load(path).module()
    clips = torch.zeros(3, 8, 3, 160, 160, dtype=torch.uint8)
    probabilities, scores = module(clips)
    assert probabilities.shape == (3, 8, 160, 160) and scores.shape == (3, 21)


def test_onnx_is_that_of_torch(trained, tmp_path):
    pytest.importorskip("onnx", reason="needs onnx")
    pytest.importorskip("onnxscript", reason="needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    clips = exports.clips_to_check(trained, [])
    path = tmp_path / "laptop.onnx"
    assert exports.write_onnx(trained, path, clips) < exports.LIMIT
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"clips": clips[:3].numpy()})
    with torch.no_grad():
        ours = exports.Exported(trained).eval()(clips[:3])
    assert all(np.abs(a.numpy() - b).max() < 1e-4 for a, b in zip(ours, found, strict=True))


def test_a_file_that_differs_is_not_kept(trained, tmp_path):
    network = exports.Exported(trained).eval()
    clips = exports.clips_to_check(trained, [])[:1]

    def write(place):
        open(place, "wb").close()

    def load(place):
        return lambda some: [x.numpy() + 2e-4 for x in network(some)]

    with pytest.raises(UserError, match="differs from torch by 2.0e-04.*was not kept"):
        exports._kept(network, tmp_path / "x.pt2", clips, write, load, {})
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_write_is_refused(capsys):
    with pytest.raises(SystemExit):
        export.main([])
    assert "give --onnx FILE, --pt2 FILE" in capsys.readouterr().err
