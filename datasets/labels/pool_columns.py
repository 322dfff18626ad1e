"""The annotation file of a large pool beside itself in columns, so that a million videos are
opened in a second: annotations.columns/ beside annotations.pkl.

The pickle stays the truth: columns count where they say the SHA-256 of the pickle as it is,
and are made again where they do not. Nothing of a video is built before it is asked for.

    names           uint8, UTF-8 with a line break between two
    frames height width label labeled boxes extra
                    (N,) int32: as in the file, label -1 for none; how many frames are labeled,
                    boxes in them, boxes beyond the first of their frame
    labeled_frames  int32, of all videos one after another
    record          (N,) int32, which of the records below is of the video, -1 for none
    records         uint8, pickles of the records of the annotation file, of videos that are
                    labeled or segments; starts (R+1,) int64, sums (R,) uint32 CRC-32
"""

import hashlib
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from claus.datasets.labels.annotations import (
    FORMAT,
    NOTHING,
    VERSION,
    Annotations,
    LazyVideos,
    Video,
    naming,
    video_from,
    video_to,
)
from claus.utils import columns
from claus.utils.columns import Columns, DamagedColumns, Writer
from claus.utils.runtime import UserError, atomic_write
from claus.utils.safe_pickle import safe_loads

NUMBERS = ("frames", "height", "width", "label", "labeled", "boxes", "extra")
CHUNK = 1000  # videos whose records are in memory at once
NO_FRAMES = np.empty(0, np.int16)


def beside(path: str | Path) -> Path:
    """Folder of the columns of an annotation file."""
    return Path(path).with_suffix(".columns")


# ------------------------------------------------------------------------------- reading


def load(path: str | Path) -> Annotations | None:
    """The annotation file from its columns; None where they are not there, damaged or of
    another file.
    """
    try:
        found = Columns(beside(path))
        about = found.about
        if about.get("pickle") != digest(path):
            return None
        numbers = {name: found.read(name) for name in NUMBERS}
        names = found.read("names").tobytes().decode().split("\n")
        stored = Stored(found, numbers["labeled"])
        videos = ColumnVideos(names, numbers, found.read("record"), stored)
        return Annotations(about["dataset"], tuple(about["classes"]), videos)
    except (DamagedColumns, OSError, KeyError, TypeError, UnicodeDecodeError):
        return None


def digest(path: str | Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Stored:
    """What the columns keep of labeled videos and segments, by the row of the file."""

    def __init__(self, found: Columns, labeled_N: np.ndarray):
        self.labeled_frames = found.read("labeled_frames")
        self.first = np.concatenate([[0], np.cumsum(labeled_N, dtype=np.int64)])
        self.starts, self.sums = found.read("starts"), found.read("sums")
        self.folder = found.folder
        self.records = found.mapped("records")
        if len(self.records) != self.starts[-1]:
            raise DamagedColumns("records.npy is damaged")

    def packed(self, record: int) -> bytes:
        """The pickle of a record."""
        content = self.records[self.starts[record] : self.starts[record + 1]].tobytes()
        if zlib.crc32(content) != self.sums[record]:
            raise UserError(f"{self.folder} is damaged: remove it, and it is made again")
        return content

    def video(self, record: int) -> Video:
        """The video of a record."""
        with naming(str(self.folder)):
            return video_from(safe_loads(self.packed(record), self.folder))

    def frames_of(self, row: int) -> np.ndarray:
        """Labeled frames of a row."""
        return self.labeled_frames[self.first[row] : self.first[row + 1]]


class ColumnVideos(LazyVideos):
    """The videos of a large pool by name, each built when it is asked for. Never changed.

    names: N, in order · numbers: of NUMBERS, (N,) int32 · record: see the module's head ·
    row (N,): where a video stands in the stored columns · changed: videos that are not as
    they are stored.
    """

    def __init__(
        self,
        names: list[str],
        numbers: Mapping[str, np.ndarray],
        record: np.ndarray,
        stored: Stored,
        row: np.ndarray | None = None,
        changed: Mapping[str, Video] | None = None,
    ):
        self.names, self.numbers, self.record, self.stored = (
            names,
            dict(numbers),
            record,
            stored,
        )
        self.row = np.arange(len(names), dtype=np.int32) if row is None else row
        self.changed, self._places = dict(changed or {}), None

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self._place_of()

    def __getitem__(self, name: str) -> Video:
        return self.changed.get(name) or self._build(self._place_of()[name])

    def at(self, place: int) -> Video:
        """The video that stands there."""
        return self.changed.get(self.names[place]) or self._build(place)

    def places(self, names: list[str]) -> np.ndarray | slice:
        """Where these videos stand; all, as a slice, for the list of all names itself."""
        if names is self.names:
            return slice(None)
        place = self._place_of()
        return np.fromiter((place[name] for name in names), np.int64, len(names))

    def labeled_frames(self, place: int) -> np.ndarray:
        """Labeled frames of the video that stands there."""
        changed = self.changed.get(self.names[place])
        if changed is not None:
            return changed.labeled_frames
        return self.stored.frames_of(int(self.row[place]))

    def labeled(self) -> list[Video]:
        """Videos with a labeled frame."""
        places = np.flatnonzero(self.numbers["labeled"]).tolist()
        return [self.at(place) for place in places]

    def in_order(self) -> "InOrder":
        """The videos by number."""
        return InOrder(self)

    def total(self, number: str) -> int:
        """Sum over all videos of one of NUMBERS."""
        return int(self.numbers[number].sum(dtype=np.int64))

    def with_changed(self, changed: Mapping[str, Video]) -> "ColumnVideos":
        """The same with other labels of some videos."""
        place = self._place_of()
        places = [place[name] for name in changed]
        numbers = {name: values.copy() for name, values in self.numbers.items()}
        rows = [numbers_of(video) for video in changed.values()]
        for name, values in zip(
            NUMBERS, np.array(rows, np.int32).reshape(-1, 7).T, strict=True
        ):
            numbers[name][places] = values
        return self._like(numbers=numbers, changed={**self.changed, **changed})

    def joined(self, new: Mapping[str, Video]) -> "ColumnVideos":
        """The same with further videos behind them."""
        rows = np.array([numbers_of(video) for video in new.values()], np.int32).reshape(-1, 7)
        none = np.full(len(new), -1, np.int32)
        numbers = {
            name: np.concatenate([self.numbers[name], values])
            for name, values in zip(NUMBERS, rows.T, strict=True)
        }
        return ColumnVideos(
            [*self.names, *new],
            numbers,
            np.concatenate([self.record, none]),
            self.stored,
            np.concatenate([self.row, none]),
            {**self.changed, **new},
        )

    def without(self, names: Iterable[str]) -> "ColumnVideos":
        """The same without some videos."""
        gone, place = set(names), self._place_of()
        keep = np.ones(len(self), bool)
        keep[[place[name] for name in gone if name in place]] = False
        return ColumnVideos(
            [self.names[at] for at in np.flatnonzero(keep).tolist()],
            {name: values[keep] for name, values in self.numbers.items()},
            self.record[keep],
            self.stored,
            self.row[keep],
            {name: video for name, video in self.changed.items() if name not in gone},
        )

    def records(self) -> Iterator[tuple[dict, bytes | None]]:
        """(record of the annotation file, its pickle where it has one) of every video."""
        plain = [self.numbers[name].tolist() for name in ("frames", "height", "width")]
        rows = zip(self.names, self.record.tolist(), *plain, strict=True)
        for name, record, frames, height, width in rows:
            video = self.changed.get(name)
            if video is not None:
                yield _record(video)
            elif record >= 0:
                packed = self.stored.packed(record)
                yield safe_loads(packed, self.stored.folder), packed
            else:
                yield _plain_record(name, frames, height, width), None

    def _like(self, numbers, changed):
        like = ColumnVideos(self.names, numbers, self.record, self.stored, self.row, changed)
        like._places = self._places
        return like

    def _place_of(self):
        if self._places is None:
            self._places = dict(zip(self.names, range(len(self.names)), strict=True))
        return self._places

    def _build(self, place):
        record = int(self.record[place])
        if record >= 0:
            return self.stored.video(record)
        video = Video.__new__(Video)  # checked when the columns were written
        size = {name: int(self.numbers[name][place]) for name in ("frames", "height", "width")}
        rest = {"label": None, "labeled_frames": NOTHING, "tubes": (), "segment": None}
        video.__dict__.update(name=self.names[place], **size, **rest)
        return video


class InOrder(Sequence):
    """The videos of a ColumnVideos by number, each built when it is asked for."""

    def __init__(self, videos: ColumnVideos):
        self.videos = videos

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, number: int) -> Video:
        return self.videos.at(number)


def numbers_of(video: Video) -> tuple[int, ...]:
    """NUMBERS of a video."""
    seen = [tube.frames for tube in video.tubes]
    boxes = sum(map(len, seen))
    extra = boxes - len(np.unique(np.concatenate(seen))) if len(seen) > 1 else 0
    label = -1 if video.label is None else video.label
    labeled = len(video.labeled_frames)
    return video.frames, video.height, video.width, label, labeled, boxes, extra


# ------------------------------------------------------------------------------- writing


def save(annotations: Annotations, path: str | Path) -> None:
    """Write a large annotation file and its columns, a part of the videos at a time."""
    videos = annotations.videos
    records = videos.records() if isinstance(videos, ColumnVideos) else _records(videos)
    with atomic_write(path) as file:
        hashed = _Hashed(file)
        packed = _write_pickle(annotations, records, hashed)
        del records
    _write_columns(annotations, packed, hashed.sum.hexdigest(), path)


def write_beside(annotations: Annotations, path: str | Path) -> None:
    """Write the columns of an annotation file that was just read, if they can be written."""
    packed = {}
    for record, kept in _records(annotations.videos):
        if kept is not None:
            packed[record["name"]] = kept
    _write_columns(annotations, packed, digest(path), path)


class _Hashed:
    """A file that knows the SHA-256 of what was written to it."""

    def __init__(self, file):
        self.file, self.sum = file, hashlib.sha256()

    def write(self, content):
        self.sum.update(content)
        self.file.write(content)


def _write_pickle(annotations, records, file):
    """Write the pickle of annotations.save, CHUNK records at a time -> {name: pickled record}
    of the videos that have one in the columns.

    Every chunk is pickled by itself with protocol 3, whose references are by number: one
    chunk may use the numbers of the last again.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": annotations.dataset,
        "classes": list(annotations.classes),
    }
    file.write(pickle.dumps(content, 3)[:-1])  # without its STOP
    file.write(pickle.dumps("videos", 3)[2:-1])  # without PROTO and STOP
    file.write(pickle.EMPTY_LIST)
    kept, chunk = {}, []
    empty = len(pickle.dumps([], 3)) - 1
    for record, packed in records:
        chunk.append(record)
        if packed is not None:
            kept[record["name"]] = packed
        if len(chunk) == CHUNK:
            file.write(pickle.dumps(chunk, 3)[empty:-1])
            chunk = []
    file.write(pickle.dumps(chunk, 3)[empty:-1])
    file.write(pickle.SETITEM + pickle.STOP)
    return kept


def _records(videos):
    """As ColumnVideos.records, of videos that are in memory."""
    for video in videos.values():
        if video.is_labeled or video.segment is not None:
            yield _record(video)
        else:
            yield _plain_record(video.name, video.frames, video.height, video.width), None


def _record(video):
    record = video_to(video)
    if not video.is_labeled and video.segment is None:
        return record, None
    return record, pickle.dumps(record, 4)


def _plain_record(name, frames, height, width):
    return {
        "name": name,
        "frames": frames,
        "height": height,
        "width": width,
        "label": None,
        "labelled_frames": NO_FRAMES,
        "tubes": [],
    }


def _write_columns(annotations, packed, pickle_digest, path):
    """Write the columns, or nothing where that fails: they only save time."""
    videos = annotations.videos
    if isinstance(videos, ColumnVideos):
        numbers = videos.numbers
        frames = [videos.labeled_frames(p) for p in np.flatnonzero(numbers["labeled"]).tolist()]
    else:
        rows = np.array([numbers_of(video) for video in videos.values()], np.int32)
        numbers = dict(zip(NUMBERS, rows.reshape(-1, 7).T, strict=True))
        frames = [video.labeled_frames for video in videos.values() if video.is_labeled]
    try:
        with Writer(beside(path)) as writer:
            writer.put("names", np.frombuffer("\n".join(videos).encode(), np.uint8))
            for name in NUMBERS:
                writer.put(name, numbers[name])
            writer.put("labeled_frames", np.concatenate([NOTHING, *frames]))
            place = {name: at for at, name in enumerate(packed)}
            record = [place.get(name, -1) for name in videos]
            writer.put("record", np.array(record, np.int32))
            content = writer.column("records", np.uint8)
            for one in packed.values():
                content.append(np.frombuffer(one, np.uint8))
            sizes = [len(one) for one in packed.values()]
            writer.put("starts", np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))
            writer.put("sums", np.array(list(map(zlib.crc32, packed.values())), np.uint32))
            classes = list(annotations.classes)
            about = {"pickle": pickle_digest, "dataset": annotations.dataset}
            writer.close({**about, "classes": classes})
    except UserError:
        columns.remove(beside(path))
