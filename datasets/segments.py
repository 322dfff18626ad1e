"""Long videos cut into pool entries, without writing a video: --segment and --segments.

--segment 10s (or 300, frames) cuts every video; --segments FILE takes the parts that a list
names, and no other video. A list has a row for each part:

    video,start,end
    cam/street,0:10,0:25
    street.mp4,750f,1200f
    cam/yard

Start and end are times (h:mm:ss, m:ss, or seconds as 10s or 10.0) or frames (750f); a row
without them is the whole video. The ending of a name may be there, its folder may be left
out where one video has that name. Columns are separated by commas, tabs or blanks; a
heading and lines that begin with # are passed over. A part holds the frames that are shown at
its start or later and before its end; of frames, `end` is the first that is not in it. A
plain whole number is refused in a list: it may be seconds or frames.

Parts of one video must not overlap: a frame would be in the pool twice, paid for twice, and
could get two classes. An entry of --segment has CLIP frames at least: a shorter piece goes
on into the next, and what is left at the end of the video joins the one before it. A part
that a list names may be shorter, as a video may.
"""

import csv
import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from claus.datasets.labels.annotations import Video, naming
from claus.datasets.labels.name_list import Names, key_of, read_lines, without_ending
from claus.datasets.labels.segment import Segment, clock, entry_name
from claus.utils.runtime import UserError

CLIP = 16  # frames of a tile, the least that --segment makes an entry of
SLACK = 1  # seconds that a list may say more than a file has: players round


class Times(NamedTuple):
    """The frames of a file: height and width as shown, and when each is shown.

    ticks (F,) int64, not falling: times in units of `base` seconds, a Fraction, from the
    start of the file. known: False of a folder of images, whose ticks are 0, 1, …, and of a
    file that does not time each frame, or not in order.
    """

    height: int
    width: int
    ticks: np.ndarray
    base: Fraction
    known: bool = True

    @property
    def frames(self) -> int:
        return len(self.ticks)

    def seconds(self, k: int) -> Fraction:
        """When frame `k` is shown."""
        return int(self.ticks[k]) * self.base

    def end(self) -> Fraction:
        """When the last frame is over: as long after it as most frames are long."""
        lengths = np.diff(self.ticks)
        usual = int(np.median(lengths)) if len(lengths) else 0
        return self.seconds(-1) + usual * self.base

    def frame_at(self, seconds: Fraction) -> int:
        """Number of the first frame that is shown at `seconds` or later; F after the last."""
        tick = -(-seconds // self.base)  # rounded up, exact
        return int(np.searchsorted(self.ticks, tick))


@dataclass(frozen=True)
class Place:
    """A place in a video: a frame, or a time in seconds (exact)."""

    number: Fraction
    unit: str  # "frames" or "seconds"

    def __str__(self):
        if self.unit == "frames":
            return f"frame {self.number}"
        return clock(float(self.number))


@dataclass(frozen=True)
class Row:
    """A row of a list: its line, the name of the video, start and end (None: whole)."""

    line: int
    video: str
    start: Place | None = None
    end: Place | None = None


@dataclass(frozen=True)
class Cut:
    """How videos become entries: one `length` for all, or the `rows` of the list at `path`."""

    length: Place | None = None
    rows: tuple[Row, ...] = ()
    path: str | None = None


def read_cut(segment: str | None, segments: str | None) -> Cut | None:
    """The Cut of --segment or --segments, None without either. UserError naming the flag,
    or the file and the line.
    """
    if segments is not None:
        return Cut(rows=read_list(segments), path=segments)
    return None if segment is None else Cut(length=read_length(segment))


def read_length(text: str) -> Place:
    """--segment: "10s", "1:30" or, in frames, "300". UserError where it is none of these."""
    with naming(f"--segment {text}"):
        frames = re.fullmatch(r"(\d+)f?", text)
        length = Place(Fraction(frames[1]), "frames") if frames else read_place(text)
        if length.number <= 0:
            raise UserError("a segment cannot be empty")
        if length.unit == "frames" and length.number < CLIP:
            raise UserError(f"a segment has at least {CLIP} frames, as many as a clip needs")
        return length


def read_place(text: str) -> Place:
    """A place in a list: "0:10", "1:02:03.5", "10s", "10.0" (seconds) or "300f" (frames).
    UserError where it is none of these.
    """
    if frames := re.fullmatch(r"(\d+)f", text):
        return Place(Fraction(frames[1]), "frames")
    if seconds := re.fullmatch(r"(\d+(?:\.\d+)?)s|(\d+\.\d+)", text):
        return Place(Fraction(seconds[1] or seconds[2]), "seconds")
    if parts := re.fullmatch(r"(?:(\d+):)?(\d+):(\d{1,2}(?:\.\d+)?)", text):
        hours, minutes, rest = int(parts[1] or 0), int(parts[2]), Fraction(parts[3])
        if rest < 60 and (minutes < 60 or parts[1] is None):
            return Place(3600 * hours + 60 * minutes + rest, "seconds")
    if re.fullmatch(r"\d+", text):
        raise UserError(f"is {text} seconds or frames? write {text}s or {text}f")
    raise UserError(f"{text!r} is no place in a video: write 0:10, 10s, or, in frames, 300f")


def read_list(path: str | Path) -> tuple[Row, ...]:
    """The rows of a list of parts. UserError naming the file and the line."""
    fix = "give a list of video,start,end"
    lines = read_lines(path, "list of --segments", fix)
    rows = []
    for number, line in ((line.number, line.text) for line in lines):
        words = _words(line)
        heading = not rows and _is_heading(words)
        if not words or words[0].startswith("#") or heading:
            continue
        with naming(f"{path}, line {number}"):
            rows.append(_row(number, words))
    if not rows:
        raise UserError(f"{path}: names no part of a video; give a row video,start,end each")
    return tuple(rows)


def _words(line):
    """The columns of a line, by commas, else tabs, else blanks."""
    separator = next((mark for mark in (",", "\t") if mark in line), None)
    words = next(csv.reader([line], delimiter=separator), []) if separator else line.split()
    words = [word.strip() for word in words]
    return words if any(words) else []


def _is_heading(words):
    return len(words) == 3 and words[0].lower() == "video" and not re.search(r"\d", words[1])


def _row(number, words):
    """Row of the columns of a line."""
    if len(words) not in (1, 3) or not words[0]:
        raise UserError(f"has {len(words)} columns, not video, start and end")
    if len(words) == 1:
        return Row(number, words[0])
    start, end = map(read_place, words[1:])
    if start.unit == end.unit and end.number <= start.number:
        raise UserError(f"ends at {end}, not after its start at {start}")
    return Row(number, words[0], start, end)


# --------------------------------------------------------------------------- what is cut


def rows_by_video(cut: Cut, names: Sequence[str]) -> dict[str, list[Row]]:
    """{name of a video: its rows}, in the order of `names`, the videos that there are.
    UserError for a row whose video is not among them.
    """
    short = defaultdict(list)
    for name in names:
        short[key_of(name).rpartition("/")[2]].append(name)
    known, found = Names(names), {name: [] for name in names}
    for row in cut.rows:
        with naming(f"{cut.path}, line {row.line}"):
            found[_video_of(row.video, known, short)].append(row)
    return {name: rows for name, rows in found.items() if rows}


def _video_of(given, known, short):
    """The one of the known Names that a list calls `given`. short: {last part: names}."""
    fitting = known.find(given) or short.get(key_of(without_ending(given)), [])
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{given} is {' or '.join(fitting[:3])}; give the folder too")
    near = known.nearest(given)
    hint = f" (is it {near}?)" if near else ""
    raise UserError(f"no video {given} in the pool{hint}")


def cut_video(
    name: str, path: Path, times: Times, cut: Cut, rows: Iterable[Row] = ()
) -> list[Video]:
    """The entries of a video, by their first frames; the video itself where --segment is not
    shorter than it. path: for messages. rows: of the video, where a list says. UserError
    naming the file, or the list and its line.
    """
    if cut.length is not None:
        edges = _edges(path, times, cut.length)
        if len(edges) == 2:
            return [Video(name, times.frames, times.height, times.width)]
        return [_entry(name, times, *pair) for pair in itertools.pairwise(edges)]
    parts = []
    for row in rows:
        with naming(f"{cut.path}, line {row.line}"):
            first, end = _frames_of(row, name, path, times)
        parts.append((first, end, row.line))
    parts.sort()
    for (first, end, line), (next_first, next_end, other) in itertools.pairwise(parts):
        if next_first < end:
            pair = [
                entry_name(name, *span, times.frames)
                for span in ((first, end), (next_first, next_end))
            ]
            raise UserError(
                f"{cut.path}, lines {line} and {other}: {pair[0]} and {pair[1]} overlap; "
                "end one before the other begins"
            )
    return [_entry(name, times, first, end) for first, end, _ in parts]


def _edges(path, times, length):
    """First frames of the entries of a length, and the number of frames at the end."""
    if length.unit == "frames":
        starts = range(0, times.frames, int(length.number))
    else:
        _need_times(path, times)
        count = int(times.end() // length.number) + 1
        starts = [times.frame_at(number * length.number) for number in range(count)]
    edges = [0]
    for start in starts:
        if start - edges[-1] >= CLIP:
            edges.append(start)
    if len(edges) > 1 and times.frames - edges[-1] < CLIP:
        edges.pop()
    return [*edges, times.frames]


def _frames_of(row, name, path, times):
    """(first frame, end) of a row."""
    if row.start is None:
        return 0, times.frames
    for place in (row.start, row.end):
        limit = times.frames
        if place.unit == "seconds":
            _need_times(path, times)
            limit = times.end() + SLACK
        if place.number > limit:
            over = f" at {clock(float(times.end()))}" if times.known else ""
            raise UserError(f"{place} is beyond the end of {name}: {times.frames} frames{over}")
    first, end = (_frame(place, times) for place in (row.start, row.end))
    if end <= first:
        raise UserError(f"no frame of {name} is shown from {row.start} to before {row.end}")
    return first, end


def _frame(place, times):
    """Number of the first frame at a place or after it."""
    return int(place.number) if place.unit == "frames" else times.frame_at(place.number)


def _entry(name, times, first, end):
    """The Video of frames `first` to before `end` of a video."""
    seconds = None
    if times.known:
        over = times.end() if end == times.frames else times.seconds(end)
        seconds = float(times.seconds(first)), float(over)
    segment = Segment(name, first, times.frames, seconds)
    entry = entry_name(name, first, end, times.frames)
    return Video(entry, end - first, times.height, times.width, segment=segment)


def _need_times(path, times):
    """UserError where a video does not say when its frames are shown."""
    if not times.known:
        raise UserError(
            f"{path}: does not say when each of its frames is shown; give frames instead of "
            "times (--segment 300, or 300f in a list)"
        )
