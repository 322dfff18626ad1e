"""Decoded clips on disk, up to a limit: the eight frames of a clip, resized to the frame
size of the geometry, uint8.

Around a labeled frame there is one clip (crop and flip come after), so only what training
looks at is stored: 1.8 MB a labeled frame at 240x320, a quarter of that or less for the
small network. Each clip is one file, found by its video's path, size and modification time,
the frame numbers and the frame size; processes share them. A full cache takes no more
clips: they are drawn at random, so replacing one by another would gain nothing. Clips not
used for a day are deleted where room is needed. Files whose names are not the cache's own
are never touched.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from claus.datasets.video.disk_cache import (
    LimitedFolder,
    read_checked,
    signature,
    write_checked,
)
from claus.utils.pyav import decoder_versions

VERSION = 2  # 2: pictures as a player shows them


class FrameCache:
    """Stores clips below `folder`, in all at most `gigabytes` (1e9 bytes)."""

    def __init__(self, folder: str | Path, gigabytes: float):
        self.folder = Path(folder) / "frames"
        self.space = LimitedFolder(self.folder, gigabytes)

    def path_of(
        self,
        video: str | Path,
        indices: Sequence[int],
        size: tuple[int, int],
        labeled: tuple[int, int] | None = None,
    ) -> Path:
        """The file for the clip of these frames of a video at this frame size (h, w).

        labeled: (height, width) that its picture was proved to have.
        """
        frames, sizes = list(map(int, indices)), (tuple(size), labeled)
        about = f"{VERSION} {signature(video)} {frames} {sizes} {decoder_versions()}"
        key = hashlib.sha1(about.encode(), usedforsecurity=False).hexdigest()
        return self.folder / key[:2] / key

    def load(self, path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
        """The clip uint8 `shape` (T,h,w,3) stored there, None where it is missing or
        damaged.
        """
        content = read_checked(path)
        if len(content) != np.prod(shape):
            return None
        with contextlib.suppress(OSError):  # of another user, or deleted meanwhile
            os.utime(path)
        return content.reshape(shape)

    def store(self, path: Path, clip: np.ndarray) -> None:
        """Store a clip, if there is room."""
        if not self.space.room_for(clip.nbytes):
            return
        self.space.broken = not write_checked(path, np.ascontiguousarray(clip))
        self.space.added(clip.nbytes)
