"""The GPU benchmark goes all its way on a CPU, and its counts of arithmetic and traffic are
right.
"""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from claus.benchmarks import bench_gpu, gpu_checks, gpu_costs

WORKS = ("training", "scoring")


def test_without_a_gpu_it_says_so_in_one_line_and_succeeds(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench_gpu.main([]) == 0
    assert len((said := capsys.readouterr().out).splitlines()) == 1 and "no CUDA device" in said


def test_every_part_runs_on_the_cpu_without_a_decoder():
    """As a machine has it where PyAV is not installed."""
    start = (
        "import runpy, sys; sys.modules['av'] = None; sys.argv[1:] = ['--device', 'cpu', '--tiny'];"
        f"runpy.run_path({bench_gpu.__file__!r}, run_name='__main__')"
    )
    results = Path(bench_gpu.ROOT, "benchmarks", "results", "gpu.md")
    before = results.read_bytes() if results.exists() else None
    done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (results.read_bytes() if results.exists() else None) == before  # tiny leaves none
    said = done.stdout
    assert all(
        f"| {side} |" in said
        for side in ("published, fp32", "published, bf16", "ours, fp32", "ours, bf16")
    )
    assert re.search(r"agreement, mean probability: .*\(at most 0.002\)", said)
    assert all(
        f"| {part} |" in said
        for part in ("encoder", "decoder", "encoder and decoder", "training step")
    )
    assert "aten::" in said and "| 100% | 2284 | 182720 |" in said
    # of the small network alone capsules and decoder are near enough for a cosine
    cosines = re.search(r"\| TF32 \| (.*) \|\n\| bf16 \| (.*) \|", said)
    assert cosines[1] == "1.0000 | 1.0000 | 1.0000"  # there is none on a CPU
    assert all(-1 <= float(value) <= 1 for value in cosines[2].split(" | "))
    assert "The same step twice in float32: the same bytes." in said
    assert re.search(r"\| TF32 \| 1.00000 \| (\d+) of \1 \|", said)
    assert re.search(r"Evaluation, both protocols, .*: [\d.]+ ms a clip", said)
    assert re.search(r"\| training step \| not looked for on a CPU \|", said)
    assert all(f"ours, bf16, CUDA graph, {work}: left out" in said for work in WORKS)


def test_networks_that_differ_are_found(capsys, monkeypatch):
    """Other weights on one side: the exit status is 1."""
    args = bench_gpu.parse_args(
        ["--device", "cpu", "--tiny", "--passes", "2", "--batch-size", "1"]
    )
    bench = bench_gpu.Bench(bench_gpu.Settings(**vars(args)))
    with torch.no_grad():
        bench.plain.smooth.bias.add_(1)
    bench_gpu.check(bench)
    assert (
        bench.problems
        == [problem for problem in bench.problems if "mean probability" in problem]
        != []
    )


def test_costs_of_operations_by_hand():
    a, b = torch.ones(4, 8, requires_grad=True), torch.ones(8, 2)

    def work():
        (a @ b).t().sum().backward()

    product = 2 * 4 * 8 * 2, 4 * (4 * 8 + 8 * 2 + 4 * 2)
    costs = gpu_costs.Costs.of(work)
    assert costs.operations[0] == product
    assert [flop for flop, _ in costs.operations if flop] == [
        product[0]
    ] * 2  # and one for the gradient of a
    assert costs.seconds(1.0, float("inf")) == 2 * product[0]
    everything = sum(size for _, size in costs.operations)
    assert costs.seconds(float("inf"), 1.0) == everything
    only = gpu_costs.Costs()
    only.operations = [(100, 1), (1, 100)]
    assert only.seconds(10, 10) == 20  # each bound by its worse side


def test_a_cycle_is_extrapolated_from_the_rates():
    """100%: 182,720 clips at 182,720 a minute, 2,284 videos at 2,284 a minute, 40 x 256 +
    25,743 clips encoded.
    """
    rows = bench_gpu.cycle_table(
        182_720 / 60, 2284 / 60, (40 * 256 + 25_743) / 60, 8, 60_000 / 20_604
    ).splitlines()
    assert rows[-1] == "| 100% | 2284 | 182720 | 1.0 | 1.0 | 1.0 | 1.0 | 4.0 |"


def tiny_bench(**more):
    args = bench_gpu.parse_args(["--device", "cpu", "--tiny"])
    return bench_gpu.Bench(bench_gpu.Settings(**{**vars(args), **more}))


def test_a_part_that_would_not_end_in_time_is_not_begun(capsys):
    bench = tiny_bench(minutes=1.0, batch_size=1)
    bench.settings = replace(bench.settings, tiny=False)
    assert bench.time_left("a short part", 30)
    assert not bench.time_left("a long part", 90)
    assert "a long part: left out, it takes about 90 s and" in capsys.readouterr().out


def test_a_wait_is_a_problem(monkeypatch):
    """On a card the words of PyTorch's debug mode, and exit status 1."""
    bench = tiny_bench(batch_size=1, passes=1)
    bench.cuda, modes = True, []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    calls = iter([None, RuntimeError("called a synchronizing CUDA operation\nmore")])

    def work():
        found = next(calls)
        if found:
            raise found

    assert gpu_checks.waits_of(bench, work) == "called a synchronizing CUDA operation"
    assert modes == ["error", "default"]
    assert gpu_checks.waits_of(bench, lambda: None) == "none"
    found = {"training step": "waited", "scored tile": "none"}
    monkeypatch.setattr(gpu_checks, "waits_of", lambda bench, work: found.popitem()[1])
    monkeypatch.setattr(gpu_checks, "video", lambda bench: (None, None, [{}]))
    monkeypatch.setattr(gpu_checks, "training_step", lambda bench: (None, None))
    gpu_checks.waits_table(bench)
    assert len(bench.problems) == 1 and "waits for the GPU: waited" in bench.problems[0]


def test_ranks_and_best_frames():
    exact = np.arange(40.0)
    assert gpu_checks.rank_correlation(exact, exact**3) == pytest.approx(1)
    assert gpu_checks.rank_correlation(exact, -exact) == pytest.approx(-1)
    assert gpu_checks.top(exact) == {38, 39}  # 5% of forty


def test_parts_of_the_network():
    """Every parameter is in one of them, and none of them is empty."""
    detector = tiny_bench(batch_size=1).detector
    parts = {gpu_checks.part_of(name) for name, _ in detector.named_parameters()}
    assert parts == {"encoder", "capsules", "decoder"}
    assert gpu_checks.part_of("conv1.trunk.0.weight") == "encoder"
    assert gpu_checks.part_of("smooth.weight") == "decoder"
