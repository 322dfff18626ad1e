"""What the bench_*.py scripts share: interleaved timing, added memory, real data, the
machine, result tables.

Needs no torch. A bench script starts with its two sides as functions of no argument:

    times = interleaved({"plain": plain, "fast": fast}, rounds=5)
    print(ratio(times, "plain", "fast"))                    # median over rounds of plain / fast
    write_results("scoring", text)                          # benchmarks/results/scoring.md

Machines that are shared drift by half within minutes; the sides therefore take turns, and
what is reported is the median of a round's ratios, not the ratio of two means.
"""

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from claus.utils.runtime import write_text

RESULTS = Path(__file__).resolve().parent / "results"
SHARED = (
    Path(os.environ.get("CLAUS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    / "data"
)
LARGE_MALLOC = {  # what utils/allocator.py asks for
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_ARENA_MAX": "1",
}


def cpu_clock():
    """Seconds of processor time of this process and of those it started and waited for:
    what sharing cannot change.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def both_clocks():
    """(wall time, processor time of all threads), for interleaved(); `only` then takes one
    of them.
    """
    return np.array([time.perf_counter(), time.process_time()])


def only(times, number):
    """Times by both_clocks -> those of one clock, 0 wall or 1 processor."""
    found = {}
    for name, pairs in times.items():
        found[name] = [float(pair[number]) for pair in pairs]
    return found


def interleaved(sides, rounds, warmup=1, most_seconds=None, clock=time.perf_counter):
    """Time functions of no argument in turns: {name: function} -> {name: [seconds of each
    round]}.

    Every other round goes backwards, so that no side always runs after the same other. Ends
    early, but never before two rounds, once `most_seconds` have passed. What the functions
    return is dropped at once. clock: cpu_clock, say, for work of one thread on a machine
    that others keep busy.
    """
    for _ in range(warmup):
        for function in sides.values():
            function()
    times, began = {name: [] for name in sides}, time.perf_counter()
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            start = clock()
            sides[name]()
            times[name].append(clock() - start)
        if (
            most_seconds is not None
            and number >= 1
            and time.perf_counter() - began > most_seconds
        ):
            break
    return times


def median(times, name):
    """Median seconds of one side."""
    return statistics.median(times[name])


def ratio(times, slow, fast):
    """Median over rounds of slow / fast."""
    return statistics.median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def spread(times, slow, fast):
    """Lowest and highest slow / fast of a round."""
    ratios = [s / f for s, f in zip(times[slow], times[fast], strict=True)]
    return min(ratios), max(ratios)


def added_memory(function):
    """MiB by which the process' peak resident memory rises above what it held before while
    `function()` runs.

    NaN where the kernel does not let a process reset its peak (anything but Linux).
    """
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        function()
        return (_status("VmHWM") - before) / 1024
    except (OSError, StopIteration):
        return float("nan")


def _status(key):
    """A line of /proc/self/status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def _trim():
    """Give freed memory back, so that the next measurement does not start on what an
    earlier one left.
    """
    import ctypes
    import gc

    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def with_large_malloc(script, *arguments):
    """Run a bench script again in a process whose malloc keeps large blocks; its standard
    output.
    """
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, **LARGE_MALLOC},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout


def lacks(*paths):
    """Whether one of the real data's paths is missing, which is then said: the script has
    nothing to do, and status 0.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        print(
            f"skipped: needs {missing[0]}, set CLAUS_SHARED=... to the folder that has "
            "data/ with it"
        )
    return bool(missing)


def write_results(name, text, real=True):
    """Print `text` and write it to benchmarks/results/<name>.md; not what made-up data in
    place of real gave.
    """
    print(text)
    if not real:
        print(
            f"measured on a made-up video: {RESULTS / name}.md stays as it was "
            "(CLAUS_SHARED=... names the folder that has data/ with real videos)"
        )
        return
    write_text(RESULTS / f"{name}.md", text.rstrip() + "\n")
