"""Decoded clips on disk, under a limit: the eight frames of a clip, resized to the frame
size of the geometry, uint8.

Around a labeled frame there is one clip (crop and flip come after), so what is kept is
only what training looks at: 1.8 MB a labeled frame at 240x320, a quarter of that or less
for the small network. A clip is a file of its own, found by its video's path, size and time
of change, the frame numbers and the frame size; processes share them. The limit is kept by
not adding: clips are drawn at random, so to throw out one for the other would only cost.
Those that nobody has looked at for a day do make room. Files of other names than the cache
gives are not looked at.
"""

import contextlib
import hashlib
import os
import re
import time
from pathlib import Path

import av
import numpy as np

from claus.datasets.video.disk_cache import keep_sealed, read_sealed, signature
from claus.utils.runtime import TEMPORARY

VERSION = 1
UNUSED = 24 * 3600  # seconds after which a clip may make room for others
# of the limit is used: several processes add at a time, and look at the whole but now and
# then
MARGIN = 0.9


class FrameCache:
    """Keeps clips below `folder`, in all at most `gigabytes` (1e9 bytes)."""

    def __init__(self, folder, gigabytes):
        self.folder, self.limit = Path(folder) / "frames", int(gigabytes * 1e9)
        self._used, self._added, self._full, self._broken = None, 0, False, False

    def place(self, path, indices, size):
        """The file that holds the clip of these frames of a video at this frame size (h, w)."""
        about = f"{VERSION} {signature(path)} {list(map(int, indices))} {tuple(size)} {av.library_versions}"
        key = hashlib.sha1(about.encode(), usedforsecurity=False).hexdigest()
        return self.folder / key[:2] / key

    def load(self, place, shape):
        """The clip uint8 `shape` (T,h,w,3) that was kept there, None where there is none or
        it is damaged.
        """
        content = read_sealed(place)
        if len(content) != np.prod(shape):
            return None
        with contextlib.suppress(OSError):  # another's file, or gone meanwhile
            os.utime(place)
        return content.reshape(shape)

    def keep(self, place, clip):
        """Keep a clip, if there is room."""
        if self._broken or self._full:
            return
        room = MARGIN * self.limit - (
            self._used or 0
        )  # others write too: look again sooner where little is left
        if (
            self._used is None
            or self._added > min(self.limit // 256, max(room, 0) / 64)
            or clip.nbytes > room
        ):
            self._used, self._added = self._make_room(clip.nbytes), 0
            self._full = self._used + clip.nbytes > MARGIN * self.limit
        if not self._full:
            self._broken = not keep_sealed(place, np.ascontiguousarray(clip))
            self._used, self._added = self._used + clip.nbytes, self._added + clip.nbytes

    def _make_room(self, needed):
        """Bytes in use, after what has not been used for long has gone, where there is no
        room for `needed` more.
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


def is_ours(file):
    """Whether the cache has named this file: 40 hex digits in a folder of the first two, or
    a temporary one of those.

    The folder is the user's choice, and may hold frames of their own that nothing can bring
    back.
    """
    key = (
        file.name[1:41]
        if file.name.startswith(".") and file.name.endswith(TEMPORARY)
        else file.name
    )
    return re.fullmatch("[0-9a-f]{40}", key) is not None and file.parent.name == key[:2]
