"""The pack of frames for a rented machine, and the ten minutes that are made of it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from jhmdb_maker import square_masks, write_pngs, write_set

from claus.benchmarks import gpu_pack
from claus.datasets import table
from claus.datasets.video.reader import read_frames
from claus.utils.runtime import UserError

ROOT = Path(gpu_pack.__file__).resolve().parent.parent
FRAMES = 15


@pytest.fixture
def data(tmp_path):
    """Two classes, training and test clips, each frame of a gray level of its own."""
    clips = {}
    for name, part in (
        ("run/a", "train"),
        ("run/b", "test"),
        ("sit/c", "train"),
        ("sit/d", "test"),
    ):
        clips[name] = square_masks(FRAMES), part
        levels = np.arange(FRAMES, dtype=np.uint8)[:, None, None, None] * 16
        frames = np.broadcast_to(levels, (FRAMES, 24, 32, 3))
        write_pngs(tmp_path / "data" / "videos" / name, frames)
    write_set(tmp_path / "data", clips)
    return tmp_path / "data"


def packed(data, tmp_path):
    gpu_pack.make(data, tmp_path / "pack.zip", 1.0)
    return tmp_path / "pack.zip"


def test_frames_and_masks_come_back(data, tmp_path):
    gpu_pack.unpack(packed(data, tmp_path), tmp_path / "out")
    for part, names in (("train", ["run/a", "sit/c"]), ("test", ["run/b", "sit/d"])):
        truth = table.read_ground_truth("jhmdb", tmp_path / "out", None, 1, part)
        assert list(truth.videos) == names
    video = truth.videos["sit/d"]
    side = gpu_pack.SIDE
    assert (video.frames, video.height, video.width) == (FRAMES, side, side)
    path = table.video_finder("jhmdb", tmp_path / "out")("sit/d")
    read = read_frames(path, range(FRAMES), FRAMES, (side, side))
    # every second frame stands for the one after it
    assert abs(read[:, 0, 0, 0].astype(int) - np.arange(FRAMES) // 2 * 32).max() <= 1
    masks = np.asarray(video.tubes[0].masks)
    first = np.flatnonzero(masks.any(1)[:, :].any(0))
    assert first[0] == pytest.approx(4 * side / 32, abs=1)
    left = [int(np.flatnonzero(mask.any(0))[0]) for mask in masks]
    expected = [(4 + k // 2 * 2) * side / 32 for k in range(FRAMES)]
    assert left == pytest.approx(expected, abs=1)


def test_a_changed_pack_is_refused(data, tmp_path):
    pack = packed(data, tmp_path)
    with zipfile.ZipFile(pack) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    members["run/a/00001.jpg"] = members["run/a/00003.jpg"]
    gpu_pack.write(members, pack)
    with pytest.raises(UserError, match="not what its digest says; copy it again"):
        gpu_pack.unpack(pack, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    pack.write_bytes(pack.read_bytes()[:-100])
    with pytest.raises(UserError, match="pack.zip.* copy it again"):
        gpu_pack.unpack(pack, tmp_path / "out")


def test_too_small_a_limit_leaves_nothing(data, tmp_path):
    with pytest.raises(UserError, match="is more than 0.001"):
        gpu_pack.make(data, tmp_path / "pack.zip", 0.001)
    assert not (tmp_path / "pack.zip").exists()


@pytest.mark.long
def test_ten_minutes_on_a_cpu(data, tmp_path):
    """Every part of the script, tiny, from its pack to the scores, without PyAV."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys; sys.modules['av'] = None\n"
    )
    environment = {
        "PYTHON": sys.executable,
        "DEVICE": "cpu",
        "TINY": "1",
        "WORK": str(tmp_path / "work"),
        "PYTHONPATH": str(tmp_path / "site"),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(
        ["bash", "benchmarks/gpu_ten_minutes.sh", packed(data, tmp_path), tmp_path / "results"],
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
    )
    summary = (tmp_path / "results" / "summary.md").read_text()
    rows = [line for line in summary.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0][2:] for row in rows] == [
        "unpack",
        "bench_gpu",
        *(
            f"{run}-{part}"
            for run in ("full", "laptop")
            for part in ("rate", "train", "evaluate")
        ),
    ]
    assert all(row.endswith("| done |") for row in rows), summary
    assert "laptop, step 4" in summary and summary.count("    f-mAP ") == 2
