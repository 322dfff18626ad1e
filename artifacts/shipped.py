"""The weights that come with the program, in weights/, each known by its SHA-256.

A shipped detector does not hold the frozen image network that lies beside it again: it names
the file, its SHA-256, and what stands before its tensors' names in the detector.
"""

import hashlib
import pickle
from pathlib import Path

import torch

from claus.utils.runtime import UserError

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
# the detector of detect.py without --weights: made by weights/make_laptop_jhmdb.py
DETECTOR = "laptop_jhmdb.pt"
SHA256 = "b2b428377e72cc21d259618a5dfd098672bca1e55775095f848a6256e2852a38"


def default_detector() -> Path:
    """The shipped detector's file; UserError where it is missing or another."""
    path = WEIGHTS / DETECTOR
    check(path, SHA256)
    return path


def check(path: Path, expected: str) -> None:
    """UserError unless a file is there and has this SHA-256."""
    if not path.is_file():
        raise UserError(
            f"no {path}, which comes with the program; restore it with git, or name a "
            "detector of your own with --weights"
        )
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"{path} is not the file that belongs to this version (SHA-256 {found[:12]}…, not "
            f"{expected[:12]}…); restore it with git, or name a detector of your own with "
            "--weights"
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def borrowed_tensors(trunk: object, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint's entry "trunk", by their names in the detector; none
    where it has no such entry. path: of the checkpoint, for messages. UserError where they
    are not those that it was trained with.
    """
    if trunk is None:
        return {}
    try:
        name, expected, prefix = (str(trunk[key]) for key in ("file", "sha256", "prefix"))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} is a damaged detector checkpoint (trunk {trunk!r}); get it again"
        ) from error
    file = WEIGHTS / Path(name).name
    check(file, expected)
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UserError(f"{file} cannot be read ({error})") from error
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
