"""What is done of an unfinished part of a long work, kept so that it is resumable, and where
the parts lie (part_log.py keeps the finished ones); and fingerprints of files.
"""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from claus.artifacts.part_log import PartLog
from claus.utils.runtime import atomic_write

UNFINISHED = ".unfinished.npz"
EVERY = 60  # seconds of work on one part after which what is done of it is kept


def fingerprint(path):
    """First 16 hex digits of the file's SHA-256: says which checkpoint a pickle came from."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def parts_dir(folder, made_from):
    """Folder below `folder` for what is finished of a long work, its name changing with all
    that the work depends on.

    made_from: anything json can write. Nothing is created.
    """
    return (
        Path(folder)
        / hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    )


def load_part(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a part, whose checksums are compared; None where it is missing or damaged,
    so that it is made again.
    """
    try:
        with np.load(path, allow_pickle=False) as part:
            return {name: part[name] for name in part.files} or None  # its end is zeros
    except MemoryError:
        raise
    except Exception:  # a damaged file raises nearly anything
        return None


def save_part(path, arrays):
    """Write a dict of arrays atomically as .npz."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)


class Unfinished:
    """What is done of the part `number`, kept in <folder>/<number>.unfinished.npz every
    `every` seconds and removed once the part is there.

    keep is called as often as there is something to keep.
    """

    def __init__(self, folder: Path, number: int, every: float | None = None):
        self.number, self.path = number, Path(folder) / f"{number}{UNFINISHED}"
        self.every = EVERY if every is None else every
        self.last = time.monotonic()

    def keep(self, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
        """Write `arrays()` if it is time to."""
        if time.monotonic() - self.last >= self.every:
            save_part(self.path, arrays())
            self.last = time.monotonic()

    def finish(self, log: PartLog, arrays: dict[str, np.ndarray]) -> None:
        """The part is finished: append it to the log, and remove what was kept of it."""
        log.append(self.number, arrays)
        if self.path.exists():
            log.sync()
            self.path.unlink(missing_ok=True)


def load_unfinished(folder: Path) -> dict[int, dict[str, np.ndarray]]:
    """{number: the arrays that were kept last} of the unfinished parts in a folder, but for
    damaged ones.
    """
    found = {}
    for path in Path(folder).glob(f"*{UNFINISHED}"):
        number, arrays = path.name.removesuffix(UNFINISHED), load_part(path)
        if number.isdecimal() and arrays is not None:
            found[int(number)] = arrays
    return found
