"""The shipped detector: whole, small, and only with the image network it was trained on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from claus.artifacts import checkpoint, shipped
from claus.artifacts.cycle import last_detector
from claus.utils.runtime import UserError

ROOT = Path(__file__).resolve().parents[2]


def test_it_is_small_has_its_classes_and_holds_no_name_of_a_clip():
    path = shipped.default_detector()
    assert path.stat().st_size < 10e6
    state = checkpoint.read(path)
    assert not state["clusters"]["assignment"] and "research" in state["about"]["license"]
    assert not any("trunk" in name for name in state["detector"])
    trained = checkpoint.load(path)
    assert len(trained.classes) == 21 and trained.dataset == "jhmdb-21"
    trunk = torch.load(shipped.WEIGHTS / "lite2_imagenet.pt", weights_only=True)
    stem = trained.detector.conv1.trunk.stem.weight
    assert torch.equal(stem, trunk["trunk.stem.weight"].float())
    assert trained.detector.conv1.frozen


def test_another_image_network_is_refused(tmp_path):
    state = checkpoint.read(shipped.default_detector())
    state["trunk"]["sha256"] = "0" * 64
    checkpoint.save(state, tmp_path / "x.pt")
    with pytest.raises(UserError, match="lite2_imagenet.pt is not the file that belongs"):
        checkpoint.load(tmp_path / "x.pt")
    state["trunk"] = "lite2"
    checkpoint.save(state, tmp_path / "x.pt")
    with pytest.raises(UserError, match="damaged detector checkpoint"):
        checkpoint.load(tmp_path / "x.pt")
    del state["trunk"]
    checkpoint.save(state, tmp_path / "x.pt")
    with pytest.raises(UserError, match="damaged detector checkpoint"):
        checkpoint.load(tmp_path / "x.pt")


def test_a_run_stands_for_its_last_trained_cycle(tmp_path):
    for number in (0, 1, 2, 10):
        folder = tmp_path / "run" / f"cycle{number}"
        folder.mkdir(parents=True)
        (folder / "annotations.pkl").touch()
        if number != 10:  # not trained yet
            (folder / "detector.pt").touch()
    last = tmp_path / "run" / "cycle2" / "detector.pt"
    assert last_detector(tmp_path / "run") == last_detector(last) == last
    assert last_detector(last.parent) == last
    with pytest.raises(UserError, match="no cycle of this folder has a detector.pt"):
        last_detector(tmp_path / "run" / "cycle10")
    with pytest.raises(UserError, match="no such file or folder"):
        last_detector(tmp_path / "nowhere")


def test_importing_claus_stays_cheap():
    code = "import claus, sys; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "False"]
