"""Small helps for files that only save time: they may be missing, damaged or not writable,
and nothing else changes.
"""

import contextlib
import errno
import os
import sys
from pathlib import Path

import numpy as np

from claus.utils.runtime import open_temporary, put_in_place

_warned = set()


def signature(path):
    """Text that changes when the file, or an image of the folder, at `path` does: place,
    sizes, times of change.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(
            (entry for entry in os.scandir(path) if entry.is_file()),
            key=lambda entry: entry.name,
        )
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{path.absolute()} {states}"


def seal_of(content):
    """Eight bytes that change with any byte of an array uint8 (n,); far cheaper than a CRC,
    and not 0 for all zeros.
    """
    whole = len(content) // 8 * 8
    total = int(content[:whole].view(np.uint64).sum(dtype=np.uint64)) + int.from_bytes(
        content[whole:].tobytes()
    )
    return ((total + len(content) + 0x434C415553) % 2**64).to_bytes(8, "little")


def read_sealed(path):
    """The content that keep_sealed wrote, uint8 (n,); empty where there is none, or it has
    been damaged.
    """
    try:
        stored = np.fromfile(path, np.uint8)
    except OSError:
        return np.empty(0, np.uint8)
    content = stored[8:]
    return content if stored[:8].tobytes() == seal_of(content) else content[:0]


def keep_sealed(path, content):
    """Write a file, sealed by a checksum, so that other processes see all of it or nothing.

    content: bytes, or a contiguous array of uint8. Where it fails: False, and one warning.
    """
    temporary, content = None, np.frombuffer(content, np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = open_temporary(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(seal_of(content))
            file.write(content)
        put_in_place(temporary, path)
        return True
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        reason = (
            "the disk is full"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else str(error.strerror).lower()
        )
        warn(
            f"cannot write below {path.parent.parent}: {reason}; going on without, more slowly"
        )
        return False


def warn(text):
    """Say something once a process, and of many loading processes in the first one alone."""
    if text in _warned:
        return
    _warned.add(text)
    worker = (
        sys.modules["torch"].utils.data.get_worker_info() if "torch" in sys.modules else None
    )
    if (worker is None or worker.id == 0) and os.environ.get("RANK", "0") == "0":
        print(f"WARNING: {text}", file=sys.stderr, flush=True)
