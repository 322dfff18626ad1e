"""Files that only save time: where one is missing, damaged or not writable, it is made
again or done without, and results are the same.
"""

import contextlib
import errno
import math
import os
import re
import sys
import time
from pathlib import Path

import numpy as np

from claus.utils.runtime import TEMPORARY, open_temporary, put_in_place

SUM_BYTES = 8  # of the checksum that a file begins with
UNUSED = 24 * 3600  # seconds after which a file may be deleted to make room
# part of the limit that is used: several processes add at a time, and each measures the
# folder only now and then
MARGIN = 0.9
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
        failed_to_write(path, error)
        return False


def failed_to_write(path: Path, error: OSError) -> None:
    """Warn that a file of a cache could not be written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else str(error.strerror).lower()
    warn_once(
        f"cannot write below {path.parent.parent}: {reason}; "
        "continuing without this cache, more slowly"
    )


class LimitedFolder:
    """A folder of cache files that together take at most `gigabytes` (1e9 bytes).

    Its files are named by 40 hex digits, in folders of the first two; others are never
    touched: the folder is the user's choice, and may hold their own irreplaceable frames. A
    full folder takes no more, but for what was not used for a day and is deleted.
    """

    def __init__(self, path: str | Path, gigabytes: float):
        self.path, self.limit = Path(path), int(gigabytes * 1e9)
        self.broken = False  # a write failed
        self._used, self._added = None, 0
        self._refused = math.inf  # bytes of the smallest file that found no room

    def room_for(self, nbytes: int) -> bool:
        """Whether a file of so many bytes may be added."""
        if self.broken or nbytes >= self._refused:
            return False
        if nbytes > MARGIN * self.limit:  # what others keep is not deleted for it
            return False
        room = MARGIN * self.limit - (self._used or 0)
        # others write too: measure the folder sooner where little room is left
        due = min(self.limit // 256, max(room, 0) / 64)
        if self._used is None or self._added > due or nbytes > room:
            self._used, self._added = self._make_room(nbytes), 0
            if self._used + nbytes > MARGIN * self.limit:
                self._refused = nbytes  # smaller files may still fit
                return False
        return True

    def added(self, nbytes: int) -> None:
        """Note a file that was added."""
        self._used, self._added = (self._used or 0) + nbytes, self._added + nbytes

    def _make_room(self, needed):
        """Bytes in use, after deleting files not used for long where there is no room for
        `needed` more.
        """
        files = []
        for file in filter(is_ours, self.path.glob("[0-9a-f][0-9a-f]/*")):
            try:
                state = file.stat()
                files.append((state.st_mtime, state.st_size, file))
            except OSError:
                continue  # another process was faster
        used = sum(size for _, size, _ in files)
        for changed, size, file in sorted(files):
            if used + needed <= MARGIN * self.limit or changed > time.time() - UNUSED:
                break
            with contextlib.suppress(OSError):
                file.unlink()
            used -= size
        return used


def is_ours(file: Path) -> bool:
    """Whether a LimitedFolder's user has named this file: 40 hex digits in a folder of the
    first two, or a temporary file of such a name.
    """
    temporary = file.name.startswith(".") and file.name.endswith(TEMPORARY)
    key = file.name[1:41] if temporary else file.name
    return re.fullmatch("[0-9a-f]{40}", key) is not None and file.parent.name == key[:2]


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
