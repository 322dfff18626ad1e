"""make bench: every bench_*.py one after the other, and what each took.

    python benchmarks/run_all.py                       # hours on a quiet machine
    python benchmarks/run_all.py --quick               # all checks at small sizes: minutes
    python benchmarks/run_all.py --only act,select     # some of them

Writes  benchmarks/results/, but for --quick
Expect  a line of wall-clock and processor time at the end of each script. One that fails, or
        is not done after --minutes, does not stop the others; the last lines name all such,
        and the exit status is 1.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from claus.benchmarks.timing import cpu_clock  # noqa: E402


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="handed to every script")
    parser.add_argument("--only", help="these alone: names without bench_, by commas")
    parser.add_argument(
        "--minutes", type=float, default=90, help="of each script at most (default: 90)"
    )
    args = parser.parse_args(argv)
    scripts = sorted(HERE.glob("bench_*.py"))
    if args.only is not None:
        scripts = [HERE / f"bench_{name}.py" for name in args.only.split(",")]
    flags = ["--quick"] if args.quick else []
    failed = []
    for script in scripts:
        fault = outcome(script, flags, args.minutes)
        if fault:
            failed.append(f"{script.name} {fault}")
    print(f"== {len(scripts) - len(failed)} of {len(scripts)} done")
    for line in failed:
        print(f"FAILED: {line}")
    return 1 if failed else 0


def outcome(script, flags, minutes):
    """Run a script to its end -> what went wrong, in words; empty where nothing did."""
    print(f"== {script.name}", flush=True)
    began, used = time.perf_counter(), cpu_clock()
    process = subprocess.Popen([sys.executable, script, *flags], start_new_session=True)
    fault = ""
    try:
        status = process.wait(60 * minutes)
        if status:
            fault = f"ended with status {status}"
    except subprocess.TimeoutExpired:
        fault = f"was stopped after {minutes:g} minutes"
    finally:  # Ctrl-C, too
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    wall, processor = time.perf_counter() - began, cpu_clock() - used
    print(f"== {script.name}: {wall:.0f} s, {processor:.0f} s of processor time", flush=True)
    return fault


if __name__ == "__main__":
    sys.exit(main())
