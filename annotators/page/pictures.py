"""Frames of videos as pictures for the labeling page, exact to the frame."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from claus.datasets.labels.annotations import Video

FULL, LOOP, THUMB = 0, 1, 2  # sizes of a picture
HEIGHTS = {LOOP: 540, THUMB: 96}  # pixels, at most
BLOCK = 8  # neighbors that are decoded together
KEPT = 192 << 20  # bytes of pictures in memory


class Pictures:
    """JPEGs of the frames of some videos, as a player shows them.

    find_video: name -> path; cache: folder of indices and times. One decoder works at a
    time, for several threads.
    """

    def __init__(self, find_video: Callable[[str], Path], cache: Path):
        # here: a script that is only asked for help needs no video library
        from claus.datasets.video.frame_index import IndexedVideos

        self.find_video, self.cache = find_video, cache
        self.videos, self.lock = IndexedVideos(cache), threading.Lock()
        self._kept, self._bytes = OrderedDict(), 0

    def jpeg(self, video: Video, frame: int, size: int) -> bytes:
        """Frame number `frame`, of the file, at FULL size or smaller. Raises UserError where
        it cannot be read.
        """
        with self.lock:
            key = video.source, frame, size
            if key not in self._kept:
                self._read(video, frame, size)
            self._kept.move_to_end(key)
            return self._kept[key]

    def seconds(self, video: Video) -> list[float]:
        """When each frame of the file is shown, in seconds; of folders of images, and files
        that do not say, as if there were 25 a second.
        """
        from claus.datasets.video.times import read_times

        with self.lock:
            times = read_times(self.find_video(video.source), self.cache)
        base = times.base if times.known else Fraction(1, 25)
        return [round(float(tick * base), 4) for tick in times.ticks.tolist()]

    def _read(self, video, frame, size):
        """Decode a frame, or where it is small also those near it."""
        wanted = [frame]
        if size != FULL:
            start = frame - frame % BLOCK
            wanted = list(range(start, min(start + BLOCK, video.file_frames)))
        path, labeled = self.find_video(video.source), (video.height, video.width)
        frames = self.videos.read_frames(path, wanted, video.file_frames, labeled)
        for number, picture in zip(wanted, frames, strict=True):
            sizes = (FULL,) if size == FULL else (LOOP, THUMB)
            for one in sizes:
                self._keep((video.source, number, one), encode(picture, one))

    def _keep(self, key, content):
        self._bytes += len(content) - len(self._kept.pop(key, b""))
        self._kept[key] = content
        while self._bytes > KEPT and len(self._kept) > 3 * BLOCK:
            self._bytes -= len(self._kept.popitem(last=False)[1])


def encode(picture: np.ndarray, size: int) -> bytes:
    """A picture (H,W,3) uint8 as JPEG, colors at full resolution where it is FULL."""
    image, file = Image.fromarray(picture), io.BytesIO()
    if size != FULL and image.height > HEIGHTS[size]:
        width = max(1, round(image.width * HEIGHTS[size] / image.height))
        image = image.resize((width, HEIGHTS[size]), Image.Resampling.BILINEAR)
    quality, subsampling = (96, 0) if size == FULL else (82, 2)
    image.save(file, format="JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()
