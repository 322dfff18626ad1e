"""A detector for use from Python: open one, and iterate over the tubes of a video.

from claus import Detector

for tube in Detector.open().detect("video.mp4"):
    print(tube.name, tube.score, tube.frames[0], tube.boxes[0])
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from claus.artifacts import checkpoint, shipped
from claus.artifacts.cycle import last_detector
from claus.datasets.clips.stream import Header, read_header, read_tiles
from claus.detection.network import TILES, Network
from claus.detection.tubes import Tube, TubeBuilder, TubeSettings
from claus.utils import lanes


class Detector:
    """A trained detector. classes: names of its classes. source: first 16 digits of its
    file's SHA-256.
    """

    def __init__(self, trained: checkpoint.Trained):
        self.trained, self.classes = trained, trained.classes
        self.source = trained.source
        self._networks: dict[bool, Network] = {}

    @classmethod
    def open(
        cls, path: str | os.PathLike | None = None, device: str = "cpu", amp: bool = True
    ) -> "Detector":
        """The detector of a detector.pt, or of a run's last trained cycle; None: the one
        that comes with the program, 21 everyday actions. amp: bf16 autocast on CUDA.
        UserError where there is none.
        """
        file = shipped.default_detector() if path is None else last_detector(path)
        return cls(checkpoint.load(file, device, amp))

    def detect(
        self, video: str | os.PathLike, settings: TubeSettings | None = None, **changed
    ) -> "Detection":
        """The tubes of a video file (or a folder of numbered images), each as soon as it has
        ended. changed: fields of TubeSettings that differ from the defaults.

        VideoError (a UserError) for a file that is no video or is damaged, also in the
        middle, after the tubes so far. ValueError for settings outside.
        """
        settings = settings or TubeSettings(**changed)
        if settings.whole not in self._networks:
            self._networks[settings.whole] = Network(self.trained, settings.whole)
        return Detection(self._networks[settings.whole], Path(video), settings)


@dataclass
class Progress:
    """How far a Detection is: frames so far, and (height, width), known from the first
    results on.
    """

    frames: int = 0
    size: tuple[int, int] | None = None


class Detection:
    """An iterator over the tubes of one video. A thread decodes ahead; leaving the loop
    early ends it.

    header: what the file says of itself. progress: see Progress; on_progress: a function
    that is called with it whenever frames are done. clip_scores: class scores
    of the clips so far, (N,C): frame f lies in clip 2 * (f // 16) + f % 2.
    """

    def __init__(self, network: Network, path: Path, settings: TubeSettings):
        self.header: Header = read_header(path)
        self.path, self.settings, self.progress = path, settings, Progress()
        self.on_progress = _nothing
        self.classes = network.trained.classes
        self._network, self._builder = network, None
        self._tubes = self._run()

    def __iter__(self) -> Iterator[Tube]:
        return self

    def __next__(self) -> Tube:
        return next(self._tubes)

    def close(self) -> None:
        """Stop decoding."""
        self._tubes.close()

    @property
    def clip_scores(self) -> np.ndarray:
        rows = self._builder.clip_scores if self._builder else []
        return np.array(rows, np.float32).reshape(-1, len(self.classes))

    def _run(self):
        network = self._network
        geometry, start = network.trained.geometry, self.header.start
        tiles = lanes.Ahead(read_tiles(self.path, geometry, network.corners, start))
        try:
            while some := _take(tiles, TILES):
                yield from self._tubes_of(some)
            if self._builder:
                yield from self._builder.end()
        finally:
            tiles.close()

    def _tubes_of(self, tiles):
        if self._builder is None:
            self.progress.size = tiles[0].size
            geometry, size = self._network.geometry, tiles[0].size
            self._builder = TubeBuilder(self.classes, geometry, size, self.settings)
        prediction = self._network.predict(tiles)
        self.progress.frames += sum(len(tile.times) for tile in tiles)
        self.on_progress(self.progress)
        times = np.concatenate([tile.times for tile in tiles])
        yield from self._builder.add(prediction, times)


def _nothing(progress):
    """In place of a function that shows progress."""


def _take(items, count):
    """The next `count` items, fewer at the end."""
    some = []
    for item in items:
        some.append(item)
        if len(some) == count:
            break
    return some
