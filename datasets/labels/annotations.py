"""What is labeled: the only reader and writer of the annotation file.

An `Annotations` object knows every video of the pool (name, length, size) and, for the
labeled ones, the class, the labeled frames and the actors ("tubes") seen in them. It is
sparse by construction: a frame that is not among a video's `labeled_frames` has no box
anywhere, and a labeled frame that is in no tube says "no action here". Frames are 0-based
and ends exclusive; boxes are half-open pixel corners x0, y0, x1, y1 (0-based).

On disk (a pickle of builtins and numpy arrays, read by `safe_load`):

    {"format": "claus-annotations", "version": 1, "dataset": str, "classes": [str],
     "videos": [{"name": str, "frames": int, "height": int, "width": int,
                 "label": int or None, "labelled_frames": (m,) int,
                 "tubes": [{"label": int, "track": int, "frames": (n,) int,
                            "boxes": (n, 4) int and/or "masks": packed}]}]}

A tube's start and end follow from its frames and are not stored twice. A packed mask is
{"shape": (n, H, W), "zlib": zlib of np.packbits}. A video that is a part of a longer one
(segment.py) has one key more, "segment": {"video": str, "first": int, "of": int, "seconds":
[float, float] or None}; its frames count from 0 as those of any other.
"""

import contextlib
import pickle
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from claus.datasets.labels.masks import PackedMasks, from_record, to_record
from claus.datasets.labels.segment import Segment
from claus.utils.runtime import UserError, atomic_write
from claus.utils.safe_pickle import safe_load

FORMAT, VERSION = "claus-annotations", 1
LARGE = 100_000  # videos of a pool that is kept in columns as well, see pool_columns.py
MOST = 2**31  # no number of a video is higher: arrays of frame numbers are int32
NOTHING = np.empty(0, np.int32)
NOTHING.flags.writeable = False


@dataclass(frozen=True, eq=False)
class Tube:
    """One actor: where it is in the labeled frames of its video, from `start` to before
    `end`.

    label: class index. track: number of the actor, unique in its video. frames: (n,) int32,
    strictly increasing, n >= 1: the labeled frames in which this actor is visible. boxes:
    (n, 4) int32 half-open corners x0, y0, x1, y1, or None. masks: (n, H, W) bool, kept as
    PackedMasks, or None. No box or mask is empty (not checked of a PackedMasks, which may
    not have been read yet). Raises UserError unless everything fits together; the arrays
    become read-only.
    """

    label: int
    track: int
    frames: np.ndarray
    boxes: np.ndarray | None = None
    masks: PackedMasks | None = None

    def __post_init__(self):
        where = f"tube {self.track}"
        _set(
            self,
            label=whole_number(self.label, f"{where}: label"),
            track=whole_number(self.track, "tube: track"),
        )
        frames = int32_array(self.frames, f"{where}: frames", (None,))
        _set(self, frames=frames)
        if not len(frames):
            raise UserError(f"{where} has no labeled frame; leave the tube out")
        _check_increasing(frames, f"{where}: frames")
        if self.boxes is None and self.masks is None:
            raise UserError(f"{where} has neither boxes nor masks; give one of them")
        if self.boxes is not None:
            boxes = int32_array(self.boxes, f"{where}: boxes", (len(frames), 4))
            empty = (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
            if empty.any():
                i = int(empty.argmax())
                raise UserError(
                    f"{where}, frame {frames[i]}: box {boxes[i].tolist()} "
                    "(x0, y0, x1, y1) has no area; corners are half-open, so x0 < x1 and "
                    "y0 < y1"
                )
            _set(self, boxes=boxes)
        if self.masks is not None:
            masks = (
                self.masks if isinstance(self.masks, PackedMasks) else np.asarray(self.masks)
            )
            if masks.dtype != bool or len(masks.shape) != 3 or len(masks) != len(frames):
                raise UserError(
                    f"{where}: masks are {masks.dtype} {masks.shape}; give bool "
                    f"({len(frames)}, H, W)"
                )
            if not isinstance(masks, PackedMasks):
                if not masks.any(axis=(1, 2)).all():
                    raise UserError(
                        f"{where}: a mask is empty; leave out the frames where the "
                        f"actor is not visible"
                    )
                masks = PackedMasks.pack(masks)
            _set(self, masks=masks)

    @property
    def start(self):
        """First labeled frame of the actor."""
        return int(self.frames[0])

    @property
    def end(self):
        """One past the last labeled frame of the actor."""
        return int(self.frames[-1]) + 1


@dataclass(frozen=True, eq=False)
class Video:
    """One video of the pool; before it is annotated, label is None and no frame labeled.

    name: "Class/v_Class_gXX_cYY" or any printable text. frames, height, width: positive
    (frames, pixels). label: class index or None. labeled_frames: (m,) int32, strictly
    increasing, in [0, frames). tubes: the actors; their frames are a subset of
    labeled_frames. segment: where it lies in a longer video, None for a whole one. Raises
    UserError naming the video.
    """

    name: str
    frames: int
    height: int
    width: int
    label: int | None = None
    labeled_frames: np.ndarray = ()
    tubes: tuple[Tube, ...] = ()
    segment: Segment | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or not is_name(self.name):
            raise UserError(
                f"video name {self.name!r}: give a non-empty text of printable characters"
            )
        try:  # naming() would cost as much as the checks, and pools have a million videos
            self._check()
        except UserError as error:
            raise UserError(f"video {self.name}: {error}") from error

    def _check(self):
        """Convert every field to its type and check it. Raises UserError."""
        frames = int32_array(self.labeled_frames, "labeled_frames", (None,))
        _set(
            self,
            name=str(self.name),  # not numpy's string type
            frames=whole_number(self.frames, "frames", least=1),
            height=whole_number(self.height, "height", least=1),
            width=whole_number(self.width, "width", least=1),
            label=None if self.label is None else whole_number(self.label, "label"),
            labeled_frames=frames,
            tubes=tuple(self.tubes),
        )
        if self.segment is not None:
            self.segment.check_length(self.frames)
        if frames is NOTHING and self.label is None and not self.tubes:
            return
        _check_increasing(frames, "labeled_frames")
        if len(frames) and (frames[0] < 0 or frames[-1] >= self.frames):
            wrong = frames[0] if frames[0] < 0 else frames[-1]
            raise UserError(
                f"labeled frame {wrong} is not in the video; it has frames 0 to "
                f"{self.frames - 1}"
            )
        if self.is_labeled and self.label is None:
            raise UserError("has labeled frames and no class; give its label")
        if not self.is_labeled and self.label is not None:
            raise UserError(
                "has a class and no labeled frame; label a frame, or set the label to None"
            )
        if len({tube.track for tube in self.tubes}) < len(self.tubes):
            raise UserError(
                "two tubes have one track number; join them, or number the actors differently"
            )
        for tube in self.tubes:
            self._check_tube(tube)

    def _check_tube(self, tube):
        """Raise UserError where a tube leaves the labeled frames or the picture."""
        place = np.searchsorted(self.labeled_frames, tube.frames)
        known = np.append(self.labeled_frames, -1)[place] == tube.frames
        if not known.all():
            raise UserError(
                f"tube {tube.track} has frame {tube.frames[known.argmin()]}, which is not "
                "labeled; add it to labeled_frames or drop it"
            )
        if tube.boxes is not None:
            check_boxes_inside(
                tube.boxes, tube.frames, self.height, self.width, f"tube {tube.track}"
            )
        if tube.masks is not None and tube.masks.shape[1:] != (self.height, self.width):
            raise UserError(
                f"tube {tube.track} has masks of {tube.masks.shape[1:]} pixels (H, W); "
                f"the video has {(self.height, self.width)}"
            )

    @property
    def is_labeled(self):
        """Whether the annotator has labeled at least one frame."""
        return len(self.labeled_frames) > 0

    @property
    def source(self) -> str:
        """Name of the video whose file holds the frames: its own, or that of the longer
        one.
        """
        return self.name if self.segment is None else self.segment.video

    @property
    def first(self) -> int:
        """Number in its file of its frame 0: what to add for people, tools and the reader."""
        return 0 if self.segment is None else self.segment.first

    @property
    def file_frames(self) -> int:
        """Frames of the whole file."""
        return self.frames if self.segment is None else self.segment.of


class LazyVideos(Mapping):
    """Videos by name that are built when they are asked for, see pool_columns.ColumnVideos."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """All videos of a pool, labeled or not, in canonical (insertion) order. Raises
    UserError where labels misfit.

    classes: the class names; a label is an index into them. videos: name -> Video.
    """

    dataset: str
    classes: tuple[str, ...]
    videos: Mapping[str, Video]

    def __post_init__(self):
        if not (isinstance(self.dataset, str) and _is_text(self.dataset)):
            raise UserError("dataset is no text that can be written; write the file again")
        texts = [str(name) for name in self.classes if isinstance(name, str) and _is_text(name)]
        if not texts or len(set(texts)) < len(self.classes):
            raise UserError(f"classes {list(self.classes)}: give at least one name, each once")
        _set(self, classes=tuple(texts))
        if isinstance(self.videos, LazyVideos):
            self._check_videos(self.videos.changed)
            return
        _set(self, videos={str(name): video for name, video in self.videos.items()})
        self._check_videos(self.videos)

    def _check_videos(self, videos):
        """UserError where a video has another name, or a label that is no class."""
        for name, video in videos.items():
            if name != video.name:
                raise UserError(
                    f"video {video.name} is stored under the key {name}; use its own name"
                )
            labels = [tube.label for tube in video.tubes]
            if video.label is not None:
                labels.append(video.label)
            wrong = [label for label in labels if not 0 <= label < len(self.classes)]
            if wrong:
                raise UserError(
                    f"video {name}: label {wrong[0]} is not a class; "
                    f"there are {len(self.classes)}, numbered from 0"
                )

    def labeled(self) -> list[Video]:
        """List of the videos with at least one labeled frame, in canonical order."""
        if isinstance(self.videos, LazyVideos):
            return self.videos.labeled()
        return [video for video in self.videos.values() if video.is_labeled]

    def in_order(self) -> Sequence[Video]:
        """All videos by number; of a large pool each is built when it is asked for."""
        if isinstance(self.videos, LazyVideos):
            return self.videos.in_order()
        return list(self.videos.values())

    def counts(self) -> dict[str, int]:
        """What is labeled: dict of videos, frames (with or without action) and boxes (one
        per actor and frame).
        """
        if isinstance(self.videos, LazyVideos):
            frames, boxes = self.videos.total("labeled"), self.videos.total("boxes")
            videos = int((self.videos.numbers["labeled"] > 0).sum())
            return {"videos": videos, "frames": frames, "boxes": boxes}
        videos = self.labeled()
        return {
            "videos": len(videos),
            "frames": sum(len(video.labeled_frames) for video in videos),
            "boxes": sum(len(tube.frames) for video in videos for tube in video.tubes),
        }

    def total_frames(self) -> int:
        """Frames of all videos of the pool, labeled or not."""
        if isinstance(self.videos, LazyVideos):
            return self.videos.total("frames")
        return sum(video.frames for video in self.videos.values())

    def with_changed(self, changed: Mapping[str, Video]) -> "Annotations":
        """The same with other labels of some videos, by name."""
        if isinstance(self.videos, LazyVideos):
            return replace(self, videos=self.videos.with_changed(changed))
        return replace(self, videos={**self.videos, **changed})

    def joined(self, new: Mapping[str, Video]) -> "Annotations":
        """The same with further videos, by name, behind those that are there."""
        if isinstance(self.videos, LazyVideos):
            return replace(self, videos=self.videos.joined(new))
        return replace(self, videos={**self.videos, **new})

    def without(self, names: Iterable[str]) -> "Annotations":
        """The same without some videos."""
        gone = set(names)
        if not gone:
            return self
        if isinstance(self.videos, LazyVideos):
            return replace(self, videos=self.videos.without(gone))
        left = {name: video for name, video in self.videos.items() if name not in gone}
        return replace(self, videos=left)


# --------------------------------------------------------------------------------- the file


def load(path: str | Path) -> Annotations:
    """Read an annotation file. Raises UserError (one line, naming file, video and fix).

    Of a large pool it is read once; then its columns say the same in a second, and a video
    is built when it is asked for.
    """
    from claus.datasets.labels import pool_columns  # which knows what a video is

    found = pool_columns.load(path)
    if found is None:
        found = _read(path)
        if len(found.videos) >= LARGE:
            pool_columns.write_beside(found, path)
    return found


def _read(path):
    content = safe_load(path)
    with naming(str(path)):
        _check_format(content)
        videos = [video_from(record) for record in _field(content, "videos", list)]
        names = [video.name for video in videos]
        if len(set(names)) < len(names):
            twice, _ = Counter(names).most_common(1)[0]
            raise UserError(f"video {twice} is in it twice; write the file again")
        return Annotations(
            _field(content, "dataset", str),
            tuple(_field(content, "classes", list)),
            dict(zip(names, videos, strict=True)),
        )


def save(annotations: Annotations, path: str | Path) -> None:
    """Write an annotation file, whole or not at all. Raises UserError."""
    if len(annotations.videos) >= LARGE:
        from claus.datasets.labels import pool_columns

        pool_columns.save(annotations, path)
        return
    videos = [video_to(video) for video in annotations.videos.values()]
    content = {
        "format": FORMAT,
        "version": VERSION,
        "dataset": annotations.dataset,
        "classes": list(annotations.classes),
        "videos": videos,
    }
    with atomic_write(path) as file:
        pickle.dump(content, file, protocol=4)


def _check_format(content):
    """Raise UserError unless `content` is an annotation file of this version, saying what
    it is instead.
    """
    if isinstance(content, list | tuple):
        raise UserError(
            "is in the older list format (name, tubes), not an annotation file; "
            "convert it with claus.datasets.labels.list_format.from_records"
        )
    if not isinstance(content, dict):
        raise UserError(
            f"holds a {type(content).__name__}, not annotations; give a file that "
            f"claus_select.py wrote"
        )
    entries = [isinstance(entry, dict) and "annotations" in entry for entry in content.values()]
    if entries and all(entries):
        raise UserError(
            "is dense ground truth (pyannot form), not an annotation file; give it as "
            "--oracle, or read it with claus.datasets.ucf101.read_ground_truth"
        )
    stored = content.get("format")
    if stored != FORMAT:
        what = f"a {stored} file" if isinstance(stored, str) else "a pickle of another kind"
        raise UserError(
            f"is {what}, not an annotation file; give a file that claus_select.py wrote"
        )
    version = content.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        fix = "update this program" if newer else "write the file again"
        raise UserError(
            f"is an annotation file of version {version}, this program reads {VERSION}; {fix}"
        )


def video_to(video):
    """Record on disk of a video."""
    segment = {} if video.segment is None else {"segment": video.segment.to_dict()}
    return {
        "name": video.name,
        "frames": video.frames,
        "height": video.height,
        "width": video.width,
        "label": video.label,
        "labelled_frames": _compact(video.labeled_frames),
        "tubes": [_tube_to(tube) for tube in video.tubes],
        **segment,
    }


def video_from(record):
    """Video from its record on disk."""
    name = _field(record, "name", str)
    try:
        tubes = _field(record, "tubes", list)
        tubes = tuple(_tube_from(tube) for tube in tubes) if tubes else ()
        labeled = _field(record, "labelled_frames", np.ndarray)
        rest = [_field(record, key, object) for key in ("frames", "height", "width", "label")]
        segment = record.get("segment")
        segment = None if segment is None else Segment.from_dict(segment)
    except UserError as error:
        raise UserError(f"video {name}: {error}") from error
    return Video(name, *rest, labeled, tubes, segment)


def _tube_to(tube):
    """Record on disk of a tube."""
    record = {"label": tube.label, "track": tube.track, "frames": _compact(tube.frames)}
    if tube.boxes is not None:
        record["boxes"] = _compact(tube.boxes)
    if tube.masks is not None:
        record["masks"] = to_record(tube.masks)
    return record


def _tube_from(record):
    """Tube from its record on disk."""
    frames = _field(record, "frames", np.ndarray)
    masks = None if record.get("masks") is None else from_record(record["masks"])
    return Tube(
        _field(record, "label", int),
        _field(record, "track", int),
        frames,
        record.get("boxes"),
        masks,
    )


def _field(record, key, kind):
    """record[key], which must be a `kind`; UserError otherwise."""
    if not isinstance(record, dict) or key not in record:
        raise UserError(
            f"a record has no '{key}'; the file is damaged or of another program, "
            "write it again"
        )
    if not isinstance(record[key], kind):
        raise UserError(
            f"'{key}' is a {type(record[key]).__name__}, not a {kind.__name__}; "
            "write the file again"
        )
    return record[key]


def _compact(values):
    """The same numbers as int16 where they fit (never unsigned, never 8 bits: sums of those
    wrap).
    """
    fits = not values.size or (values.min() >= -(2**15) and values.max() < 2**15)
    return np.array(values, np.int16 if fits else np.int32)


# ----------------------------------------------------------------------------------- checks


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Put `where` (a file, a video) in front of a UserError raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def corners_from_xywh(boxes: np.ndarray, one_based: bool = False) -> np.ndarray:
    """(n, 4) int32 half-open corners from (n, 4) x, y, width, height of any integer type,
    cast before arithmetic.

    0-based: [x, x + w) x [y, y + h). one_based (UCF-101-24): coordinates start at 1,
    corners are inclusive and w = x2 - x1, so it is [x - 1, x + w) x [y - 1, y + h): a
    full-width box of a 320 pixel frame reads x = 1, w = 319.
    """
    corners = np.array(boxes).astype(np.int32)
    corners[:, 2:] += corners[:, :2]
    corners[:, :2] -= int(one_based)
    return corners


def check_boxes_inside(
    boxes: np.ndarray, frames: np.ndarray, height: int, width: int, where: str
) -> None:
    """Raise UserError at the first of boxes (n, 4) corners that leaves a picture of height
    x width pixels.
    """
    outside = (boxes[:, :2] < 0).any(axis=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    if outside.any():
        i = int(outside.argmax())
        raise UserError(
            f"{where}, frame {frames[i]}: box {boxes[i].tolist()} (x0, y0, x1, y1) "
            f"extends outside the picture of {width}x{height} pixels; correct the box, or the "
            "video's size"
        )


def _set(instance, **fields):
    """Set fields of a frozen dataclass while it is being made."""
    instance.__dict__.update(fields)


def is_name(text: str) -> bool:
    """Whether a text names a video: it can be written, and is one line of visible characters
    and blanks (also those of macOS, which puts U+202F into the names of screen recordings).
    """
    if text.isprintable():
        return bool(text)
    joiners = "\u200c\u200d"  # of emoji and scripts
    return all(c.isprintable() or c in joiners or unicodedata.category(c) == "Zs" for c in text)


def _is_text(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def whole_number(value: object, what: str, least: int = 0) -> int:
    """`value` as int; UserError unless it is a whole number >= least."""
    truth_value = isinstance(value, bool | np.bool_)
    if truth_value or not isinstance(value, int | np.integer) or value < least:
        shown = value if isinstance(value, np.number) else repr(value)[:80]
        raise UserError(f"{what} is {shown}; give a whole number of at least {least}")
    if value >= MOST:
        raise UserError(f"{what} is {value}; give a whole number below {MOST}")
    return int(value)


def int32_array(values: object, what: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Read-only int32 copy of whole numbers of the given shape (None: any length);
    UserError otherwise.
    """
    if isinstance(values, np.ndarray) and values.shape == (0,) and shape == (None,):
        return NOTHING  # most videos of a pool have no label: one array serves them all
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise UserError(
            f"{what}: rows of different lengths; give an array of whole numbers"
        ) from error
    if not array.size and shape[0] in (None, 0):
        array = np.empty((0, *shape[1:]), np.int32)
    pairs = zip(shape, array.shape, strict=False)
    wanted = tuple(have if want is None else want for want, have in pairs)
    if array.ndim != len(shape) or array.shape != wanted:
        wanted = str(shape).replace("None", "any")
        raise UserError(f"{what} have shape {array.shape}; expected {wanted}")
    fits = array.dtype.kind in "iu"
    if fits and array.dtype.itemsize >= 4 and array.size:
        fits = array.min() >= -(2**31) and array.max() < 2**31
    if not fits:
        raise UserError(f"{what} are {array.dtype}; give whole numbers of 32 bits")
    array = array.astype(np.int32)
    array.flags.writeable = False
    return array


def _check_increasing(frames, what):
    """Raise UserError unless frame numbers (n,) are strictly increasing."""
    if len(frames) > 1 and not (frames[1:] > frames[:-1]).all():
        raise UserError(f"{what} are not strictly increasing; sort them and name each once")
