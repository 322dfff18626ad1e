"""Finished parts of a long work and what is done of an unfinished one, kept so that it is
resumable; and fingerprints of files.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from claus.utils.runtime import atomic_write

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
            return {name: part[name] for name in part.files}
    except MemoryError:
        raise
    except Exception:  # a damaged file raises nearly anything
        return None


def is_part(path: Path, names: Iterable[str]) -> bool:
    """Whether a part is there, whole, with the arrays of these names. Reads all of it."""
    found = load_part(path) if path.exists() else None
    return found is not None and set(names) <= found.keys()


def save_part(path, arrays):
    """Write a dict of arrays atomically as .npz."""
    with atomic_write(path) as file:
        np.savez(file, **arrays)


class Unfinished:
    """What is done of a part, kept beside it in <stem>.unfinished.npz every `every` seconds
    and removed once the part is there.

    path: of the part. load gives the arrays that were kept, None where there are none or
    they are damaged. keep is called as often as there is something to keep.
    """

    def __init__(self, path: Path, every: float | None = None):
        self.path = path
        self.kept_at = path.with_suffix(".unfinished.npz")
        self.every = EVERY if every is None else every
        self.last = time.monotonic()

    def load(self) -> dict[str, np.ndarray] | None:
        """The arrays that were kept last."""
        return load_part(self.kept_at)

    def keep(self, arrays: Callable[[], dict[str, np.ndarray]]) -> None:
        """Write `arrays()` if it is time to."""
        if time.monotonic() - self.last >= self.every:
            save_part(self.kept_at, arrays())
            self.last = time.monotonic()

    def finish(self, arrays: dict[str, np.ndarray]) -> None:
        """Write the part, and remove what was kept of it."""
        save_part(self.path, arrays)
        self.kept_at.unlink(missing_ok=True)
