"""The benchmarks at their quick sizes and where the real data is absent; what some of them
measure.
"""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from claus.artifacts import score_columns
from claus.artifacts.cycle import Cycle
from claus.benchmarks import (
    bench_cycle,
    bench_laptop,
    bench_loading,
    bench_memory,
    bench_scale,
    bench_train_step,
    loading_data,
    run_all,
    timing,
)
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.video.reader import iter_frames, pixels
from claus.reference import clips as plain_loading

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(path.stem for path in BENCHMARKS.glob("bench_*.py"))
# in a process of their own, a minute each: others have tests below
SLOW = {
    "around_step",
    "detect",
    "mask_interp",
    "memory",
    "network",
    "scale",
    "select",
    "train_step",
    "worker_memory",
}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder that results are written to."""
    monkeypatch.setattr(timing, "RESULTS", tmp_path / "results")
    timing.RESULTS.mkdir()
    threads = torch.get_num_threads()
    yield timing.RESULTS
    torch.set_num_threads(threads)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_a_quick_look(script, capsys):
    module = importlib.import_module(f"claus.benchmarks.{script}")
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--quick all checks and tables at sizes that take seconds" in said


@pytest.mark.parametrize("script", ["act", "pseudo_labels"])
def test_a_quick_look_checks_and_writes_nothing(script, results, capsys):
    module = importlib.import_module(f"claus.benchmarks.bench_{script}")
    assert module.main(["--quick"]) == 0
    assert list(results.iterdir()) == [] and capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("script", sorted(SLOW))
def test_a_quick_look_runs_to_its_end(script):
    """As make bench QUICK=1 has it."""
    before = {path: path.read_bytes() for path in timing.RESULTS.iterdir()}
    command = [sys.executable, str(BENCHMARKS / "run_all.py"), "--quick", "--only", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"== bench_{script}.py: " in done.stdout and "== 1 of 1 done" in done.stdout
    assert {path: path.read_bytes() for path in timing.RESULTS.iterdir()} == before


@pytest.mark.parametrize("model", bench_train_step.COMPARED_ON)
def test_each_network_of_the_training_step_has_its_gradients_compared(model, monkeypatch):
    sizes = []
    monkeypatch.setattr(bench_train_step, "pair", lambda *_, size, **__: sizes.append(size))
    with pytest.raises(TypeError):  # there is no network to unpack
        bench_train_step.gradient_error(model, 0, training=True)
    assert (sizes, bench_train_step.size_of(model)) in (([96], 224), ([64], 64))


def test_quick_sizes_are_defaults_that_flags_override():
    def flags(*given):
        parser = argparse.ArgumentParser()
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--clips", type=int, default=100)
        found = timing.parse(parser, given, rounds=1, clips=2)
        return found.rounds, found.clips, found.quick

    assert flags() == (5, 100, False)
    assert flags("--quick") == (1, 2, True)
    assert flags("--clips", "7", "--quick") == (1, 7, True)


def test_results_are_written_of_whole_runs_on_real_data_alone(results, capsys):
    assert not timing.write_results("a", "text", quick=True)
    assert not timing.write_results("a", "text", quick=False, real=False)
    assert list(results.iterdir()) == []
    assert capsys.readouterr().out.count("a.md stays as it was") == 2
    assert timing.write_results("a", "text\n\n", quick=False)
    assert (results / "a.md").read_text() == "text\n"


def test_a_script_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_all, "HERE", tmp_path)
    log = tmp_path / "log"
    for name, status in (("a", 3), ("b", 0)):
        text = f"import sys; open({str(log)!r}, 'a').write('{name} %s;' % sys.argv[1:])\n"
        (tmp_path / f"bench_{name}.py").write_text(f"{text}sys.exit({status})")
    assert run_all.main(["--quick"]) == 1
    assert log.read_text() == "a ['--quick'];b ['--quick'];"
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["== 1 of 2 done", "FAILED: bench_a.py ended with status 3"]
    assert any(line.startswith("== bench_b.py: ") for line in said)
    assert run_all.main(["--only", "b"]) == 0
    assert log.read_text().endswith("b [];")


def test_a_script_that_does_not_end_is_stopped(tmp_path):
    """With what it has started."""
    script, child = tmp_path / "bench_a.py", tmp_path / "child"
    script.write_text(
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"open({str(child)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(300)\n"
    )
    assert run_all.outcome(script, [], minutes=0.02) == "was stopped after 0.02 minutes"
    if child.exists():  # a busy machine may not have come so far
        status = Path(f"/proc/{child.read_text()}/stat")
        assert not status.exists() or status.read_text().split()[2] in "ZX"


@pytest.mark.parametrize("script", ["bench_act", "bench_cycle", "bench_mask_interp"])
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


@pytest.mark.parametrize(
    "text, fault",
    [
        ("#!/bin/sh\nexit 1\n", "ended with status 1"),
        ("#!/bin/sh\nexit 0\n", "gives 0 frames"),
        ("#!/bin/sh\nhead -c 100 /dev/zero\n", "failed: "),
        ("nonsense", "failed: "),
    ],
)
def test_an_ffmpeg_that_does_not_decode_is_one_line(
    text, fault, made_videos, tmp_path, monkeypatch
):
    path, command = made_videos / "gray20.avi", tmp_path / "ffmpeg"
    video = SimpleNamespace(height=24, width=32, frames=20)
    monkeypatch.setenv("PATH", str(tmp_path))
    bench_loading.check_command(path, video)  # there is none
    command.write_text(text)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(SystemExit) as ended:
        bench_loading.check_command(path, video)
    said = ended.value.code
    assert said.startswith(f"{command} {fault}") and "take it off the PATH" in said
    assert len(said.splitlines()) == 1


def test_loading_without_real_videos_measures_four_ways(tmp_path, monkeypatch, results, capsys):
    monkeypatch.setattr(loading_data, "SHARED", tmp_path)
    assert bench_loading.main(["--quick"]) == 0
    assert list(results.iterdir()) == []
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
def test_memory_of_a_short_video_is_measured_on_both_sides(monkeypatch, results, capsys):
    monkeypatch.setattr(bench_memory, "WORKS", {"reading": bench_memory.read})
    assert bench_memory.main(["--minutes", "0.5"]) == 0
    assert list(results.iterdir()) == []
    said = capsys.readouterr().out.splitlines()
    row = next(line for line in said if line.startswith("| reading"))
    work, stream, whole = (cell.strip() for cell in row.strip("|").split("|"))
    assert work == "reading" and 0 <= float(stream) < float(whole)


def test_the_laptop_network_is_measured_and_both_sides_agree(results, capsys):
    assert bench_laptop.main(["--quick"]) == 0
    assert list(results.iterdir()) == []
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == (2 + 5) + (2 + 1)  # of each table its head, and a row for each work
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
@pytest.mark.parametrize("real", [False, True])
def test_a_cycle_is_timed_stage_by_stage(real, tmp_path, monkeypatch, results, capsys):
    if not real:
        monkeypatch.setattr(bench_cycle, "JHMDB", tmp_path / "none")
    elif not bench_cycle.JHMDB.is_dir():
        pytest.skip("needs the real data")
    assert bench_cycle.main(["--quick"]) == 0
    assert list(results.iterdir()) == []
    said = capsys.readouterr().out
    assert said.count("\n| ") == 10 and "stays as it was" in said
