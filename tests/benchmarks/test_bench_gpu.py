"""The GPU benchmark goes all its way on a CPU, and its counts of arithmetic and traffic are
right.
"""

import re
import subprocess
import sys
from pathlib import Path

import torch

from claus.benchmarks import bench_gpu, gpu_costs


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
        182_720 / 60, 2284 / 60, (40 * 256 + 25_743) / 60, 8
    ).splitlines()
    assert rows[-1] == "| 100% | 2284 | 182720 | 1.0 | 1.0 | 1.0 | 3.0 |"
