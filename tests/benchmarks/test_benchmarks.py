"""The benchmarks where the real data is absent, and what the one of loading measures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from claus.artifacts import score_columns
from claus.artifacts.cycle import Cycle
from claus.benchmarks import (
    bench_cycle,
    bench_laptop,
    bench_loading,
    bench_memory,
    bench_scale,
    loading_data,
    timing,
)
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.video.reader import iter_frames, pixels
from claus.reference import clips as plain_loading

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("script", ["bench_act", "bench_mask_interp"])
def test_without_the_real_data_one_line_and_status_0(script, tmp_path):
    """As make bench calls it."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{script}.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "CLAUS_SHARED": str(tmp_path)},
    )
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 1
    assert (
        done.stdout.startswith(f"skipped: needs {tmp_path}")
        and "set CLAUS_SHARED=" in done.stdout
    )


def test_loading_without_real_videos_measures_four_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loading_data, "SHARED", tmp_path)
    monkeypatch.setattr(
        timing, "write_results", lambda *_: pytest.fail("a quick look leaves no results")
    )
    assert bench_loading.main(["--quick"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "a video made on the spot" in " ".join(said)
    start = next(i for i, line in enumerate(said) if line.startswith("| network"))
    head, _, row = (line.strip("|").split("|") for line in said[start : start + 3])
    cells = dict(zip(map(str.strip, head), map(str.strip, row), strict=True))
    assert float(cells["one thread, clips/s"]) > 0 and float(cells["cache × one thread"]) > 0


def test_one_thread_decodes_the_same_pictures(made_videos):
    shown = [pixels(frame) for frame in iter_frames(made_videos / "gray20.avi")]
    alone = plain_loading.whole_video(
        made_videos / "gray20.avi", *shown[0].shape[:2], one_thread=True
    )
    assert np.array_equal(alone, shown) and len(alone) == 20


@pytest.mark.long
def test_memory_of_a_short_video_is_measured_on_both_sides(monkeypatch, capsys):
    monkeypatch.setattr(
        timing, "write_results", lambda *_: pytest.fail("a quick look leaves no results")
    )
    monkeypatch.setattr(bench_memory, "WORKS", {"reading": bench_memory.read})
    assert bench_memory.main(["--minutes", "0.5"]) == 0
    row = capsys.readouterr().out.strip().splitlines()[-1]
    work, stream, whole = (cell.strip() for cell in row.strip("|").split("|"))
    assert work == "reading" and 0 <= float(stream) < float(whole)


def test_the_laptop_network_is_measured_and_both_sides_agree(monkeypatch):
    written = []
    monkeypatch.setattr(timing, "write_results", lambda name, text: written.append(text))
    assert bench_laptop.main(["--frames", "20", "--rounds", "1", "--batch", "1"]) == 0
    rows = [line for line in written[0].splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 5  # heads, and a row each
    with pytest.raises(SystemExit, match="a map differs"):
        bench_laptop.same(
            bench_laptop.torch.ones(2), bench_laptop.torch.zeros(2) + 2, 0.1, "a map"
        )


def test_a_small_pool_goes_through_the_whole_cycle_of_bench_scale(tmp_path, monkeypatch):
    """Stage by stage in this process, through the columns, as a large one does."""
    monkeypatch.setattr(annotation_file, "LARGE", 10)
    monkeypatch.setattr(score_columns, "LARGE", 10)
    flags = ["--videos", "200", "--frames", "20", "--width", "8", "--folder", str(tmp_path)]
    stages = ["make", "open", "append", "look", "merge", "choose: claus", "choose: entropy"]
    for stage in (*stages, "answer", "take answers in", "next"):
        assert bench_scale.main([*flags, "--stage", stage]) == 0
    cycle = Cycle.of(f"{tmp_path / 'run'}/", 1)
    labels = annotation_file.load(cycle.annotations)
    assert isinstance(labels.videos, annotation_file.LazyVideos)
    assert labels.counts() == {"videos": 20, "frames": 60, "boxes": 60}
    assert cycle.before().pool_columns.exists() and not cycle.before().features.exists()
    assert not cycle.before().extract_parts.exists()


@pytest.mark.long
def test_a_cycle_is_timed_stage_by_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_cycle, "JHMDB", tmp_path / "none")
    flags = ["--steps", "4", "--batch-size", "2", "--passes", "2", "--videos", "50%"]
    assert bench_cycle.main(flags) == 0
    said = capsys.readouterr().out
    assert said.count("\n| ") == 10 and "stays as it was" in said
