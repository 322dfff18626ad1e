"""What a frozen image network makes of every frame, computed once and kept on disk.

A frame's record (models/lite.py) is 157 kB at 160 x 160 pixels: 5 GB for all of J-HMDB-21. Each
video is one file, found by its path, size and modification time, its length, the weights of
the network and the geometry of the clips; processes, cycles and runs share them. A file
begins with a checksum of each record, so a damaged or foreign one is noticed and made again.
Files are read through the page cache (memory-mapped), and only the frames that are asked
for. Where a video does not fit into the limit its frames are decoded and computed each time.
Videos not used for a day are deleted where room is needed.
"""

import contextlib
import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from claus.datasets.clips.geometry import ClipGeometry, center_crop, transform
from claus.datasets.labels.annotations import Video
from claus.datasets.video.disk_cache import (
    SUM_BYTES,
    LimitedFolder,
    checksum,
    failed_to_write,
    signature,
)
from claus.datasets.video.frame_index import IndexedVideos
from claus.models.detector import Detector
from claus.models.input import normalize
from claus.models.lite import Trunk, joined, record_length
from claus.utils.pyav import decoder_versions
from claus.utils.runtime import UserError, open_temporary, put_in_place

VERSION = 1
BLOCK = 16  # frames that are decoded and computed together


class FeatureCache:
    """Records of frames, kept below `folder`/features, in all at most `gigabytes` (1e9
    bytes).

    geometry: of the clips; they are cut from the center and never flipped here. pixel_range:
    of models.input.PIXEL_RANGE. take() gives the frozen network, before anything else.
    """

    def __init__(
        self, folder: str | Path, gigabytes: float, geometry: ClipGeometry, pixel_range: str
    ):
        self.folder = LimitedFolder(Path(folder) / "features", gigabytes)
        self.geometry, self.pixel_range = geometry, pixel_range
        self.length = record_length(geometry.size)
        self.videos = IndexedVideos(folder)
        self._trunk, self._digest, self._black = None, "", None

    def take(self, trunk: Trunk) -> "FeatureCache":
        """Compute by a copy of this network, on the CPU."""
        self._trunk = frozen_copy(trunk).cpu()
        self._digest, self._black = digest(self._trunk), None
        return self

    def records(self, path: Path, video: Video, frames: Sequence[int]) -> torch.Tensor:
        """Records of frames (T,) of a video, by its own numbers, half (T,R). path: of the
        file that holds it. UserError where that is missing or damaged.
        """
        for _ in range(2):
            place = self._kept(path, video)
            if place is None:
                break
            found = self._read(place, video.frames, frames)
            if found is not None:
                return found
            with contextlib.suppress(OSError):  # damaged: it is made again
                place.unlink()
        labeled, in_file = (video.height, video.width), np.asarray(frames) + video.first
        pictures = self.videos.read_frames(path, in_file, video.file_frames, labeled)
        return self._computed(pictures)

    def runs(
        self, path: Path, video: Video, runs: Sequence[Sequence[int]]
    ) -> Iterator[torch.Tensor]:
        """The records of each of the runs of rising frame numbers, as records() gives them;
        without a file from one pass over the video.
        """
        if self._kept(path, video) is not None:
            for run in runs:
                yield self.records(path, video, run)
            return
        for block in self.videos.read_entry(path, video, runs):
            yield self._computed(block)

    def black(self) -> torch.Tensor:
        """The record of a black frame, (1,R)."""
        if self._black is None:
            size = self.geometry.size
            self._black = self._records_of(torch.zeros(1, 3, size, size, dtype=torch.uint8))
        return self._black

    def path_of(self, path: Path, video: Video) -> Path:
        """The file for a video's records."""
        about = (
            f"{VERSION} {signature(path)} {video.first} {video.frames} "
            f"{video.height} {video.width} "
            f"{self.geometry.to_dict()} {self.pixel_range} {self._digest} "
            f"{decoder_versions()}"
        )
        key = hashlib.sha1(about.encode(), usedforsecurity=False).hexdigest()
        return self.folder.path / key[:2] / key

    # ----------------------------------------------------------------- reading and making

    def _kept(self, path, video):
        """The file of a video's records, made now where it is missing; None where there is
        no room, or no way to write.
        """
        try:
            place = self.path_of(path, video)
        except OSError as error:
            raise UserError(
                f"video {video.name}: {path} is gone or cannot be looked at "
                f"({error.strerror}); put it back, or correct --data"
            ) from error
        if place.exists():
            with contextlib.suppress(OSError):
                os.utime(place)
            return place
        nbytes = video.frames * (2 * self.length + SUM_BYTES)
        if not self.folder.room_for(nbytes):
            return None
        temporary = None
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = open_temporary(place)
            with os.fdopen(descriptor, "wb") as file:
                self._write(file, path, video)
            put_in_place(temporary, place)
        except OSError as error:
            _remove(temporary)
            failed_to_write(place, error)
            self.folder.broken = True
            return None
        except BaseException:
            _remove(temporary)
            raise
        self.folder.added(nbytes)
        return place

    def _write(self, file, path, video):
        """All records of a video, after their checksums."""
        file.write(bytes(SUM_BYTES * video.frames))
        numbers, sums = range(video.frames), []
        runs = [list(numbers[at : at + BLOCK]) for at in numbers[::BLOCK]]
        for block in self.videos.read_entry(path, video, runs):
            for record in self._computed(block).numpy():
                sums.append(checksum(record.view(np.uint8)))
                file.write(record.tobytes())
        file.seek(0)
        file.write(b"".join(sums))

    def _read(self, place, count, frames):
        """Records (T,R) of a file for `count` frames; None where it is damaged."""
        try:
            content = np.memmap(place, np.uint8, "r")
        except (OSError, ValueError):
            return None
        if len(content) != count * (2 * self.length + SUM_BYTES):
            return None
        sums = content[: SUM_BYTES * count].reshape(count, SUM_BYTES)
        every = content[SUM_BYTES * count :].reshape(count, 2 * self.length)
        found = every[np.asarray(frames)]
        intact = [
            checksum(record) == sums[frame].tobytes()
            for record, frame in zip(found, frames, strict=True)
        ]
        return torch.from_numpy(found.view(np.float16)) if all(intact) else None

    def _computed(self, block):
        """Decoded frames uint8 (n,H,W,3) -> records (n,R)."""
        parts = [
            self._records_of(transform(some, self.geometry, center_crop(self.geometry)))
            for some in np.array_split(block, range(BLOCK, len(block), BLOCK))
        ]
        return torch.cat(parts)

    def _records_of(self, pictures):
        """uint8 (n,3,S,S) -> records (n,R)."""
        return records_of(self._trunk, pictures, self.pixel_range)


def frozen_copy(trunk: Trunk) -> Trunk:
    """A copy of a network as records are computed by it."""
    trunk = copy.deepcopy(trunk).eval().requires_grad_(False)
    return trunk.to(memory_format=torch.channels_last)


@torch.no_grad()
def records_of(trunk: Trunk, pictures: torch.Tensor, pixel_range: str) -> torch.Tensor:
    """Records (n,R) of pictures uint8 (n,3,S,S), by a frozen_copy on their device."""
    frames = normalize(pictures[None], pixel_range)[0].transpose(0, 1)
    return joined(trunk(frames))


def feature_cache(
    detector: Detector,
    geometry: ClipGeometry,
    pixel_range: str,
    folder: str | Path,
    gigabytes: float,
) -> FeatureCache | None:
    """The cache for a detector's frozen encoder; None where its features depend on the look
    (a random crop, an encoder that learns, or one that does not work frame by frame). With
    0 gigabytes nothing is kept, and the records are the same.
    """
    same_at_every_look = geometry.crop == geometry.frame
    if not (same_at_every_look and detector.record_length and detector.conv1.frozen):
        return None
    return FeatureCache(folder, gigabytes, geometry, pixel_range)


def digest(trunk: Trunk) -> str:
    """Text that changes with any weight of a network."""
    whole = hashlib.sha1(usedforsecurity=False)
    for name, tensor in trunk.state_dict().items():
        whole.update(name.encode())
        whole.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def _remove(temporary):
    if temporary is not None:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
