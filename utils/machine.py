"""What a result was made on: machine and versions, as a dict of short texts. Imports no
torch.
"""

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import claus
from claus.utils import allocator

ROOT = Path(__file__).resolve().parent.parent


def about_machine():
    """{"cpu", "cores", "gpu", "python", "torch", "numpy", "code", "date"}; "gpu" may be
    empty.
    """
    return {
        "cpu": processor(),
        "cores": str(os.cpu_count()),
        "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").replace(
            "\n", ", "
        ),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "numpy")},
        "code": code_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def in_words(about):
    """One line for people, of what about_machine returned."""
    names = (
        ("cpu", ""),
        ("cores", "cores "),
        ("gpu", ""),
        ("python", "Python "),
        ("torch", "torch "),
        ("numpy", "NumPy "),
        ("code", "code "),
        ("date", ""),
    )
    return ", ".join(f"{title}{about[key]}" for key, title in names if about.get(key))


def code_version(root=ROOT):
    """Commit of a checkout at `root` or of the archive it was unpacked from, else the
    version of the installed package.
    """
    commit = ""
    if (root / ".git").exists():  # else git would describe a checkout around it
        commit = _output("git", "-C", str(root), "describe", "--always", "--dirty")
    return commit or exported_from(root / ".git_archival.txt") or f"claus {claus.__version__}"


def machine_line():
    """Processor, its cores, threads in use, versions, allocator and date, for the head of a
    result table.
    """
    parts = [processor(), f"{os.cpu_count()} cores"]
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        parts += [f"{torch.get_num_threads()} threads", f"torch {torch.__version__}"]
    return ", ".join(
        [
            *parts,
            f"Python {platform.python_version()}",
            allocator.settings(),
            time.strftime("%Y-%m-%d"),
        ]
    )


def exported_from(path=ROOT / ".git_archival.txt"):
    """Commit that `git archive` made these files from; empty where it did not."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return "" if text.startswith("$Format") else text


def processor():
    """Name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        return next(
            line.partition(":")[2].strip()
            for line in text.splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _output(*command):
    """What a command prints; "" where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
