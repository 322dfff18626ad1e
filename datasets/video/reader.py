"""Video file, or folder of numbered PNGs -> frames, or an error that names the file. Frame
k is the k-th decoded frame, from 0.

Of a folder, frame k is the k-th image in the order of the numbers their names end with
(00001.png, 00002.png, ...). Decoding is PyAV's (FFmpeg). Some containers claim more frames
than they hold or have gaps in their timestamps, so nothing here trusts a header or seeks by
time.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from claus.utils.runtime import UserError

# up to this many missing frames at the end repeat the last one; more means a damaged file
SHORT_TAIL = 8
# PyAV converts a frame with as many threads as there are cores unless told otherwise;
# before version 17 it used one
ONE_THREAD = {"threads": 1} if int(av.__version__.partition(".")[0]) >= 18 else {}


class VideoError(UserError):
    """A video that is missing, empty, damaged or shorter than its annotation says."""


def iter_frames(
    path: str | Path, wanted: set[int] | None = None
) -> Iterator[av.VideoFrame | None]:
    """Yield every decoded frame as av.VideoFrame, in display order. VideoError for a file
    that cannot be decoded.

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
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty; download this video again")
    decoded, size = 0, None
    try:
        # a title need not be UTF-8
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise VideoError(f"{path} holds no video stream; download this video again")
            stream = container.streams.video[0]
            # the processes of a loader share the cores
            stream.codec_context.thread_count = 1
            for frame in container.decode(stream):
                size = size or (frame.height, frame.width)
                if (frame.height, frame.width) != size:
                    raise VideoError(
                        f"{path}: changes its picture size at frame {decoded}; "
                        "download this video again"
                    )
                yield frame
                decoded += 1
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(
            f"{path}: decoding fails after {decoded} frames ({reason}); "
            "download this video again"
        ) from error
    if not decoded:
        raise VideoError(
            f"{path} holds no frame that can be decoded; download this video again"
        )


def _iter_images(folder, wanted):
    """The images of a folder as iter_frames gives them. VideoError for one that is damaged
    or of another size.
    """
    files, size = _numbered_images(folder), None
    for k, file in enumerate(files):
        if wanted is not None and k not in wanted and k < len(files) - 1:
            yield None
            continue
        try:
            decoder = av.CodecContext.create("png", "r")
            decoder.thread_count = 1
            frame = (decoder.decode(packet_of(file.read_bytes())) or decoder.decode(None))[0]
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            reason = getattr(error, "strerror", None) or "it holds no image"
            raise VideoError(
                f"{file}: decoding fails ({reason}); download this video again"
            ) from error
        size = size or (frame.height, frame.width)
        if (frame.height, frame.width) != size:
            raise VideoError(
                f"{file}: is {frame.width}x{frame.height} pixels, other images of its "
                f"folder are {size[1]}x{size[0]}; download this video again"
            )
        yield frame


def _numbered_images(folder):
    """The PNGs of a folder in the order of their numbers; VideoError where there is none,
    or the order is unclear.
    """
    numbers = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() != ".png" or file.name.startswith("."):
            continue
        digits = re.search(r"\d+$", file.stem)
        if digits is None:
            raise VideoError(
                f"{file}: has no frame number at the end of its name; rename it, or "
                "move it elsewhere"
            )
        number = int(digits[0])
        if number in numbers:
            raise VideoError(
                f"{file}: has the same frame number as {numbers[number].name}; keep one of them"
            )
        numbers[number] = file
    if not numbers:
        raise VideoError(
            f"no video at {folder}: the folder holds no PNG; download this video again"
        )
    return [numbers[number] for number in sorted(numbers)]


def pixels(frame: av.VideoFrame, converter: VideoReformatter | None = None) -> np.ndarray:
    """av.VideoFrame -> uint8 RGB (H,W,3). converter: sharing one over a video halves the
    time.
    """
    converter = converter or VideoReformatter()
    return converter.reformat(frame, format="rgb24", **ONE_THREAD).to_ndarray()


def packet_of(content: bytes) -> av.Packet:
    """av.Packet of these bytes, padded with the zeros that decoders read past the end;
    av.Packet(bytes) is not.
    """
    packet = av.Packet(len(content))
    if content:
        packet.update(content)
    return packet


def probe(path: str | Path) -> tuple[int, int, int]:
    """Decode all of `path`: (frames, height, width), frames counted as decoded."""
    count = 0
    for count, frame in enumerate(iter_frames(path), start=1):  # noqa: B007
        pass
    return count, frame.height, frame.width


def read_frames(path: str | Path, indices: Sequence[int], frames: int) -> np.ndarray:
    """Frames by number, of a video of `frames` frames: uint8 RGB (len(indices),H,W,3).

    Indices may repeat and need not be sorted. Decodes from the start to the last one wanted.
    VideoError where it meets the end of the file more than SHORT_TAIL frames before `frames`.
    """
    wanted, places = np.unique(indices, return_inverse=True)
    block = next(read_runs(path, frames, [wanted.tolist()]))
    return block if np.array_equal(wanted, indices) else block[places]


def read_blocks(path: str | Path, frames: int, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a whole video in blocks: (start, uint8 (n,H,W,3)), n = size but for the last
    block. Decodes it once.

    Gives exactly `frames` frames: more are ignored, up to SHORT_TAIL missing ones repeat the
    last.
    """
    starts = range(0, frames, size)
    runs = [range(start, min(start + size, frames)) for start in starts]
    yield from zip(starts, read_runs(path, frames, runs), strict=True)


def read_runs(
    path: str | Path, frames: int, runs: Sequence[Sequence[int]]
) -> Iterator[np.ndarray]:
    """Yield some frames of a video in runs: uint8 (n,H,W,3) for each run, a sorted list of
    n frame numbers.

    A run begins after the end of the one before. The video is decoded once, up to the last
    frame wanted; only wanted frames are converted to RGB. Up to SHORT_TAIL frames that are
    missing of `frames` repeat the last.
    """
    wanted = {k for run in runs for k in run}
    decoder, converter = iter_frames(path, wanted), VideoReformatter()
    count, frame, final = 0, None, None
    for run in runs:
        block = []
        for k in run:
            while count <= k and final is None:
                try:
                    frame, count = next(decoder), count + 1
                except StopIteration:
                    check_length(path, count, frames)
                    final = pixels(frame, converter)
            block.append(final if final is not None else pixels(frame, converter))
        yield np.stack(block)


def check_length(path: str | Path, decoded: int, frames: int) -> None:
    """VideoError where a file is more than SHORT_TAIL frames short."""
    if decoded < frames - SHORT_TAIL:
        raise VideoError(
            f"{path} decodes {decoded} frames where the annotation has {frames}; "
            "the file is truncated, download this video again"
        )
