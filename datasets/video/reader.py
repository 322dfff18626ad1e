"""Video file, or folder of numbered images -> frames, or an error that names the file. Frame
k is the k-th decoded frame, from 0.

Of a folder, frame k is the k-th image in the order of the numbers their names end with
(00001.png, 00002.png, ..., or .jpg). Decoding is PyAV's (FFmpeg), of images Pillow's. Frames
that an edit list cuts away are not there, 10-bit and HDR pictures are converted to 8 bits
without tone mapping. Some containers claim more frames than they hold or have gaps in their
timestamps, so nothing here trusts a header or seeks by time. Pictures are as a player shows
them, see display.py.
"""

import contextlib
import functools
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from claus.datasets.video import images
from claus.datasets.video.display import Display, display_of
from claus.datasets.video.images import Picture, VideoError, images_by_number, numbered_images
from claus.utils.pyav import av

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# Counting programs differ by a few frames at the end. Up to this many missing ones repeat
# the last one, up to this many more are ignored; beyond, it is a damaged or another file.
# A clip of 33 frames or more that was re-encoded at 5/4 of its rate is beyond.
SHORT_TAIL = 8


def unreadable() -> tuple[type[Exception], ...]:
    """What decoders, and the arrays made of what they give, raise for damaged or rare files."""
    return (
        av.error.FFmpegError,
        OSError,
        ValueError,
        AssertionError,
        ArithmeticError,
        LookupError,
        AttributeError,  # of a stream whose header is cut short
        TypeError,
        NotImplementedError,
        MemoryError,
    )


_noted = set()


class Frame(NamedTuple):
    """A frame as it was decoded, and how it is shown."""

    decoded: "VideoFrame | Picture"
    display: Display

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as shown."""
        return self.display.size(self.decoded)


def iter_frames(path: str | Path, wanted: set[int] | None = None) -> Iterator[Frame | None]:
    """Yield every Frame, in display order. VideoError for a file that cannot be decoded.

    wanted: set of frame numbers. Of a folder of images, only these and the last are
    decoded; None is yielded for the others.
    """
    path = Path(path)
    if path.is_dir():
        yield from _iter_images(path, wanted)
        return
    if not path.is_file():
        raise VideoError(
            f"no video at {path}; put it there or point --data at the folder that holds it"
        )
    decoded, size, display = 0, None, None
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty; download this video again")
        with open_video(path) as container:
            stream = video_stream(container)
            if stream is None:
                raise VideoError(f"{path} holds no video stream; download this video again")
            for frame in container.decode(stream):
                display = display or display_of(stream, frame)
                size = size or (frame.height, frame.width)
                if (frame.height, frame.width) != size:
                    raise VideoError(
                        f"{path}: changes its picture size at frame {decoded}, from "
                        f"{size[1]}x{size[0]} to {frame.width}x{frame.height}; cut it there, "
                        f"or re-encode it (ffmpeg: -vf scale={size[1]}:{size[0]})"
                    )
                yield Frame(frame, display)
                decoded += 1
    except PermissionError as error:
        raise VideoError(f"{path}: may not be read; allow it (chmod u+r)") from error
    except unreadable() as error:
        reason = reason_of(error)
        raise VideoError(
            f"{path}: decoding fails after {decoded} frames ({reason}); "
            "download this video again"
        ) from error
    if not decoded:
        raise VideoError(
            f"{path} holds no frame that can be decoded; download this video again"
        )


def open_video(path: str | Path) -> "InputContainer":
    """Open a file for FFmpeg: as a file, whatever its name looks like, and nothing but files
    from inside of it.
    """
    # "http:/a.avi" is a network address, "a:b.avi" a protocol; a title need not be UTF-8
    name = f"file:{os.path.abspath(path)}"
    only = {"protocol_whitelist": "file"}
    container = av.open(name, metadata_errors="ignore", options=only)
    for stream in container.streams.video:
        try:
            check_pixels(path, stream.width, stream.height)
        except VideoError:
            container.close()
            raise
    return container


def check_pixels(path: str | Path, width: int, height: int) -> None:
    """VideoError for pictures that would fill the memory."""
    if width * height > images.MOST_PIXELS:
        raise VideoError(
            f"{path}: its pictures are {width}x{height} pixels, more than "
            f"{images.MOST_PIXELS} in all; make it smaller, or leave it out"
        )


def reason_of(error: Exception) -> str:
    """What a decoder says, in words."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def video_stream(
    container: "InputContainer",
) -> "VideoStream | None":
    """The video stream that is shown, to be decoded by one thread; None where there is none.

    It is FFmpeg's choice (the default one, then the longest and finest), unless that is a
    cover picture, a preview or a still: then the first one that is none of these.
    """
    kinds = av.stream.Disposition
    pictures = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    decoded = [s for s in container.streams.video if s.codec_context is not None]
    streams = [s for s in decoded if not s.disposition & pictures]
    if not streams:
        return None
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    # the processes of a loader share the cores
    stream.codec_context.thread_count = 1
    return stream


def _iter_images(folder, wanted):
    """The images of a folder as iter_frames gives them. VideoError for one that is damaged
    or of another size.
    """
    files, size = numbered_images(folder), None
    for k, file in enumerate(files):
        if wanted is not None and k not in wanted and k < len(files) - 1:
            yield None
            continue
        frame = images.decode(file)
        size = size or (frame.height, frame.width)
        if (frame.height, frame.width) != size:
            raise VideoError(
                f"{file}: is {frame.width}x{frame.height} pixels, other images of its "
                f"folder are {size[1]}x{size[0]}; make them one size"
            )
        yield Frame(frame, Display())


def one_thread() -> dict[str, int]:
    """Keywords that have PyAV convert a frame by one thread: from version 18 on it takes as many
    as there are cores.
    """
    return {"threads": 1} if int(av.__version__.partition(".")[0]) >= 18 else {}


def pixels(frame: Frame, converter: "VideoReformatter | None" = None) -> np.ndarray:
    """Frame -> uint8 RGB (H,W,3) as it is shown. converter: sharing one over a video halves
    the time.
    """
    decoded, display = frame
    if isinstance(decoded, Picture):
        return display.turn(decoded.rgb)
    converter = converter or av.video.reformatter.VideoReformatter()
    width = display.width(decoded)
    stretched = {"width": width} if width != decoded.width else {}
    picture = converter.reformat(decoded, format="rgb24", **stretched, **one_thread())
    return display.turn(picture.to_ndarray())


def _pixels(path, decoder, converter):
    """The picture of the last frame of a decoder; VideoError where it cannot be converted."""
    try:
        return pixels(decoder.last, converter)
    except unreadable() as error:
        raise VideoError(
            f"{path}: frame {decoder.count - 1} cannot be converted ({reason_of(error)}); "
            "download this video again"
        ) from error


def probe(path: str | Path) -> tuple[int, int, int]:
    """Decode all of `path`: (frames, height, width), frames counted as decoded, the size as
    shown.
    """
    count = 0
    for count, frame in enumerate(iter_frames(path), start=1):  # noqa: B007
        pass
    return count, *frame.size


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    frames: int,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Frames by number, of a video of `frames` frames: uint8 RGB (len(indices),H,W,3).

    Indices may repeat and need not be sorted. Decodes from the start to the last one wanted.
    size: (height, width) of the annotation, see check_size. VideoError where it meets the
    end of the file more than SHORT_TAIL frames before `frames`.
    """
    wanted, places = np.unique(indices, return_inverse=True)
    block = next(_decode_runs(path, frames, [wanted.tolist()], size, to_end=False))
    return block if np.array_equal(wanted, indices) else block[places]


def read_blocks(
    path: str | Path, frames: int, block: int, size: tuple[int, int] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a whole video in blocks: (start, uint8 (n,H,W,3)), n = block but for the last.
    Decodes it once.

    Gives exactly `frames` frames; length and size are checked as in read_runs.
    """
    starts = range(0, frames, block)
    runs = [range(start, min(start + block, frames)) for start in starts]
    yield from zip(starts, read_runs(path, frames, runs, size), strict=True)


class InOrder:
    """The frames of a file one after the other, from its first: an iterator over Frames.

    count: how many were decoded. last: the last of them, None before the first. wanted: see
    iter_frames. frame_index.ByGroups is the same for a file that can be entered anywhere.
    """

    def __init__(self, path: str | Path, wanted: set[int] | None = None):
        self.count, self.last = 0, None
        self._open = functools.partial(iter_frames, path, wanted)
        self._frames = self._open()

    def __iter__(self):
        return self

    def __next__(self) -> Frame | None:
        frame = next(self._frames)
        self.count, self.last = self.count + 1, frame or self.last
        return frame

    def skip_to(self, k: int) -> None:
        """Make frame number `k` the last one, or one that is still to come."""
        if k < self.count - 1:
            self.count, self.last, self._frames = 0, None, self._open()


def read_runs(
    path: str | Path,
    frames: int,
    runs: Sequence[Sequence[int]],
    size: tuple[int, int] | None = None,
    decoder: InOrder | None = None,
) -> Iterator[np.ndarray]:
    """Yield some frames of a video in runs: uint8 (n,H,W,3) for each run, a sorted list of
    n frame numbers.

    A run begins after the end of the one before. The video is decoded once, up to the last
    frame wanted; only wanted frames are converted to RGB. Up to SHORT_TAIL frames that are
    missing of `frames` repeat the last, which is a note. Where one of the last SHORT_TAIL
    frames is wanted, the file must also end at most SHORT_TAIL frames after `frames`, see
    check_length. size: (height, width) of the annotation, see check_size. decoder: of this
    file, where it is not decoded from its start.
    """
    near_end = any(run and run[-1] >= frames - SHORT_TAIL for run in runs[-1:])
    return _decode_runs(path, frames, runs, size, near_end, decoder)


def _decode_runs(path, frames, runs, size, to_end, decoder=None):
    """read_runs; to_end: whether what follows frame number `frames` - 1 is looked at, before
    the last run is given.
    """
    if decoder is None:
        decoder = InOrder(path, {k for run in runs for k in run})
    converter = None if Path(path).is_dir() else av.video.reformatter.VideoReformatter()
    final, checked = None, False
    for number, run in enumerate(runs, start=1):
        block = []
        for k in run:
            decoder.skip_to(k)
            checked = checked or _size_checked(path, decoder.last, size)
            while decoder.count <= k and final is None:
                try:
                    next(decoder)
                except StopIteration:
                    check_length(path, decoder.count, frames)
                    final = _pixels(path, decoder, converter)
                checked = checked or _size_checked(path, decoder.last, size)
            block.append(final if final is not None else _pixels(path, decoder, converter))
        if to_end and number == len(runs):
            more = frames + SHORT_TAIL + 1 - decoder.count
            with contextlib.suppress(VideoError):  # damage behind what is wanted
                for _ in itertools.islice(decoder, max(more, 0)):
                    pass
            check_length(path, decoder.count, frames)
            if decoder.count < frames:
                _note(
                    f"{path} decodes {decoder.count} frames where the annotation has {frames}; "
                    "the last one is repeated"
                )
        yield np.stack(block)


def _size_checked(path, frame, labeled):
    """Whether there is a frame to check the size of; all of a file have one size."""
    if frame is not None:
        check_size(path, frame.size, labeled, frame.display)
    return frame is not None


def check_size(
    path: str | Path,
    shown: tuple[int, int],
    labeled: tuple[int, int] | None,
    display: Display,
) -> None:
    """VideoError where a video is shown at another (height, width) than it was labeled at:
    another file, or one that was labeled before rotation was applied.
    """
    if labeled is None or tuple(shown) == tuple(labeled):
        return
    how = f" ({display})" if str(display) else ""
    raise VideoError(
        f"{path}: was labeled as {labeled[1]}x{labeled[0]}, its file shows "
        f"{shown[1]}x{shown[0]}{how}; start another run, or give the file that was labeled"
    )


def check_length(path: str | Path, decoded: int, frames: int) -> None:
    """VideoError where a file decodes more than SHORT_TAIL frames fewer or more than its
    annotation has.

    decoded: a lower bound where it is beyond what is tolerated. A folder whose numbers begin
    above 1 lacks its first images, not the last.
    """
    if decoded > frames + SHORT_TAIL:
        raise VideoError(
            f"{path} decodes at least {decoded} frames where the annotation has {frames}; was "
            "it re-encoded at another frame rate? give the file that was labeled"
        )
    if decoded < frames - SHORT_TAIL:
        raise VideoError(
            f"{path} decodes {decoded} frames where the annotation has {frames}; "
            "the file is truncated, download this video again"
        )
    if decoded < frames and Path(path).is_dir():
        first = next(iter(images_by_number(Path(path))))
        if first > 1:
            raise VideoError(
                f"{path}: begins with image number {first} and has {decoded} images where the "
                f"annotation has {frames}; download this video again"
            )


def _note(text):
    """Print a note once a process."""
    if text not in _noted:
        _noted.add(text)
        print(f"note: {text}", file=sys.stderr, flush=True)


def packet_of(content: bytes) -> "Packet":
    """av.Packet of these bytes, padded with the zeros that decoders read past the end;
    av.Packet(bytes) is not.
    """
    packet = av.Packet(len(content))
    if content:
        packet.update(content)
    return packet
