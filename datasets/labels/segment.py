"""A part of a long video as a pool entry of its own: which video it lies in, and where.

**Two numberings.** Inside the program an entry's frames count from 0, as those of any other
video: arrays, labels in annotations.pkl, scores in uncertainty.pkl, clips. So models,
losses, selection, metrics, budgets and training know nothing of segments, no clip can leave
its segment, and files of runs without segments stay as they are. Wherever a person or
another tool sees a frame it has the number it has in the whole video, which is

    number in the whole video = number in the entry + video.first

and there are few such places: the reader (files are read by whole-video numbers), the
request and its answers, names of pictures, selection.json, evaluation pictures, the report,
and the older list format. `video.first` is 0 where there is no segment, so none of them asks.

The other way, whole-video numbers everywhere with an interval beside them, would have put
an offset into every array of frames, and into every test of one.
"""

import math
from dataclasses import dataclass

from claus.utils.runtime import UserError

DIGITS = 6  # of a frame number in a name, at least: names sort as the frames do


@dataclass(frozen=True)
class Segment:
    """Where an entry lies. video: name of the whole video. first: number of the entry's
    first frame there. of: frames of the whole video. seconds: when the entry begins and
    ends, from the start of the file as a player shows it; None where the video has no
    times. UserError where these do not fit.
    """

    video: str
    first: int
    of: int
    seconds: tuple[float, float] | None = None

    def __post_init__(self):
        if not isinstance(self.video, str) or not self.video:
            raise UserError("segment: its video has no name; write the file again")
        try:
            self.video.encode()
        except UnicodeEncodeError:
            raise UserError("segment: the name of its video is damaged") from None
        if self.seconds is not None and not all(map(math.isfinite, self.seconds)):
            raise UserError("segment: its times are no numbers; write the file again")
        numbers = self.first, self.of
        whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
        if not whole or not 0 <= self.first < self.of < 2**31:
            raise UserError(
                f"segment: begins at frame {self.first} of {self.of} of {self.video}; "
                "write the file again"
            )

    def check_length(self, frames: int) -> None:
        """UserError where an entry of `frames` frames would leave the whole video."""
        if self.first + frames > self.of:
            raise UserError(
                f"is {frames} frames from frame {self.first} of {self.video}, which has "
                f"{self.of}; write the file again"
            )

    def to_dict(self) -> dict:
        """The record in an annotation file."""
        seconds = None if self.seconds is None else list(map(float, self.seconds))
        return {"video": self.video, "first": self.first, "of": self.of, "seconds": seconds}

    @classmethod
    def from_dict(cls, record: object) -> "Segment":
        """The Segment of a record; UserError where it is none."""
        try:
            seconds = record["seconds"]
            times = None if seconds is None else (float(seconds[0]), float(seconds[1]))
            return cls(record["video"], record["first"], record["of"], times)
        except (TypeError, KeyError, IndexError, ValueError, OverflowError) as error:
            raise UserError("its segment is damaged; write the file again") from error

    def shown(self, frames: int) -> dict:
        """What people and tools are told of it: {"video", "frames": [first, last], "time":
        [from, to]}, numbers and times in the whole video; no "time" where none is known.
        """
        told = {"video": self.video, "frames": [self.first, self.first + frames - 1]}
        if self.seconds is not None:
            told["time"] = [clock(time) for time in self.seconds]
        return told


def entry_name(video: str, first: int, end: int, of: int) -> str:
    """Name of the entry of frames `first` to before `end` of a video of `of` frames:
    "cam/street" -> "cam/street_f000250-000499", first and last frame. It depends on the
    video's own length and these numbers alone.
    """
    digits = max(DIGITS, len(str(of - 1)))
    return f"{video}_f{first:0{digits}d}-{end - 1:0{digits}d}"


def clock(seconds: float) -> str:
    """A time as players write it: 75.5 -> "0:01:15.500"."""
    thousandths = round(1000 * seconds)
    sign, thousandths = "-" * (thousandths < 0), abs(thousandths)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{sign}{minutes // 60}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
