"""Files that only save time: where one is missing, damaged or not writable, it is made
again or done without, and results are the same.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path

import numpy as np

from claus.utils.runtime import open_temporary, put_in_place

SUM_BYTES = 8  # of the checksum that a file begins with
_warned = set()


def signature(path: str | Path) -> str:
    """Text that changes when the file, or an image of the folder, at `path` does: its path,
    sizes and modification times.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        entries = [entry for entry in os.scandir(path) if entry.is_file()]
        files = sorted(entries, key=lambda entry: entry.name)
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{path.absolute()} {states}"


def checksum(content: np.ndarray) -> bytes:
    """Eight bytes that change with any byte of an array uint8 (n,); far cheaper than a CRC,
    and not 0 for all zeros.
    """
    whole = len(content) // 8 * 8
    words = content[:whole].view(np.uint64)
    rest = int.from_bytes(content[whole:].tobytes())
    total = int(words.sum(dtype=np.uint64)) + rest
    return ((total + len(content) + 0x434C415553) % 2**64).to_bytes(SUM_BYTES, "little")


def read_checked(path: str | Path) -> np.ndarray:
    """The content that write_checked wrote, uint8 (n,); empty where the file is missing or
    damaged.
    """
    try:
        stored = np.fromfile(path, np.uint8)
    except OSError:
        return np.empty(0, np.uint8)
    content = stored[SUM_BYTES:]
    intact = stored[:SUM_BYTES].tobytes() == checksum(content)
    return content if intact else content[:0]


def write_checked(path: Path, content: bytes | np.ndarray) -> bool:
    """Write a file that begins with its checksum, so that other processes see all of it or
    nothing.

    content: bytes, or a contiguous array of uint8. Returns whether it was written; the
    first failure of a process prints a warning.
    """
    temporary, content = None, np.frombuffer(content, np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = open_temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(checksum(content))
            file.write(content)
        put_in_place(temporary, path)
        return True
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error.strerror).lower()
        warn_once(
            f"cannot write below {path.parent.parent}: {reason}; "
            "continuing without this cache, more slowly"
        )
        return False


def warn_once(text: str) -> None:
    """Print a warning once a process; of several loading processes, in the first one only."""
    if text in _warned:
        return
    _warned.add(text)
    worker = None
    if "torch" in sys.modules:
        worker = sys.modules["torch"].utils.data.get_worker_info()
    if (worker is None or worker.id == 0) and os.environ.get("RANK", "0") == "0":
        print(f"WARNING: {text}", file=sys.stderr, flush=True)
