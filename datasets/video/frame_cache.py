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
import re
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from claus.datasets.video.disk_cache import read_checked, signature, write_checked
from claus.utils.runtime import TEMPORARY

VERSION = 2  # 2: pictures as a player shows them
UNUSED = 24 * 3600  # seconds after which a clip may be deleted to make room
# part of the limit that is used: several processes add at a time, and each measures the
# folder only now and then
MARGIN = 0.9


class FrameCache:
    """Stores clips below `folder`, in all at most `gigabytes` (1e9 bytes)."""

    def __init__(self, folder: str | Path, gigabytes: float):
        self.folder, self.limit = Path(folder) / "frames", int(gigabytes * 1e9)
        self._used, self._added = None, 0
        self._full, self._broken = False, False

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
        about = f"{VERSION} {signature(video)} {frames} {sizes} {av.library_versions}"
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
        if self._broken or self._full:
            return
        room = MARGIN * self.limit - (self._used or 0)
        # others write too: measure the folder sooner where little room is left
        due = min(self.limit // 256, max(room, 0) / 64)
        if self._used is None or self._added > due or clip.nbytes > room:
            self._used, self._added = self._make_room(clip.nbytes), 0
            self._full = self._used + clip.nbytes > MARGIN * self.limit
        if not self._full:
            self._broken = not write_checked(path, np.ascontiguousarray(clip))
            self._used, self._added = self._used + clip.nbytes, self._added + clip.nbytes

    def _make_room(self, needed):
        """Bytes in use, after deleting clips not used for long where there is no room for
        `needed` more.
        """
        files = []
        for file in filter(is_ours, self.folder.glob("[0-9a-f][0-9a-f]/*")):
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
    """Whether the cache has named this file: 40 hex digits in a folder of the first two, or
    a temporary file of such a name.

    The folder is the user's choice, and may hold their own irreplaceable frames.
    """
    temporary = file.name.startswith(".") and file.name.endswith(TEMPORARY)
    key = file.name[1:41] if temporary else file.name
    return re.fullmatch("[0-9a-f]{40}", key) is not None and file.parent.name == key[:2]
