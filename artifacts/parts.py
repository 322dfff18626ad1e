"""Finished parts of a long work, kept so that it is resumable, and fingerprints of files."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from claus.utils.runtime import atomic_write


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


def save_part(path, arrays):
    """Write a dict of arrays atomically as .npz."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())
