"""Video file, or folder of numbered PNGs -> frames, or an error that names the file. Frame k is the k-th decoded frame.

Of a folder, frame k is the k-th image in the order of the numbers their names end with (00001.png, 00002.png, ...).
Decoding is PyAV's (FFmpeg). Some containers claim more frames than they hold or have gaps in their timestamps, so
nothing here trusts a header or seeks by time.
"""

import re
from pathlib import Path

import av
import numpy as np

from utils.runtime import UserError

SHORT_TAIL = 8      # so many frames fewer than announced are met by repeating the last one; more means a damaged file


class VideoError(UserError):
    """A video that is missing, empty, damaged or shorter than its annotation says."""


def iter_frames(path, wanted=None):
    """Yield every decoded frame as av.VideoFrame, in display order. VideoError for a file that cannot be decoded.

    wanted: set of frame numbers. Of a folder of images, only these and the last are decoded; None stands for the rest.
    """
    path = Path(path)
    if path.is_dir():
        yield from _iter_images(path, wanted)
        return
    if not path.is_file():
        raise VideoError(f"no video at {path}; put it there or point --data at the folder that holds it")
    if path.stat().st_size == 0:
        raise VideoError(f"{path} is empty; fetch this video again")
    decoded = 0
    try:
        with av.open(str(path), metadata_errors="ignore") as container:      # a title need not be UTF-8
            if not container.streams.video:
                raise VideoError(f"{path} holds no video stream; fetch this video again")
            for frame in container.decode(container.streams.video[0]):
                yield frame
                decoded += 1
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path}: decoding fails after {decoded} frames ({reason}); fetch this video again") from error
    if not decoded:
        raise VideoError(f"{path} holds no frame that can be decoded; fetch this video again")


def _iter_images(folder, wanted):
    """The images of a folder as iter_frames gives them. VideoError for one that is damaged or of another size."""
    files, size = _numbered_images(folder), None
    for k, file in enumerate(files):
        if wanted is not None and k not in wanted and k < len(files) - 1:
            yield None
            continue
        try:
            decoder = av.CodecContext.create("png", "r")
            decoder.thread_count = 1
            frame = (decoder.decode(av.Packet(file.read_bytes())) or decoder.decode(None))[0]
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            reason = getattr(error, "strerror", None) or "it holds no image"
            raise VideoError(f"{file}: decoding fails ({reason}); fetch this video again") from error
        size = size or (frame.height, frame.width)
        if (frame.height, frame.width) != size:
            raise VideoError(f"{file}: is {frame.width}x{frame.height} pixels, other images of its folder are "
                             f"{size[1]}x{size[0]}; fetch this video again")
        yield frame


def _numbered_images(folder):
    """The PNGs of a folder in the order of their numbers; VideoError where there is none, or the order is unclear."""
    numbers = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() != ".png" or file.name.startswith("."):
            continue
        digits = re.search(r"\d+$", file.stem)
        if digits is None:
            raise VideoError(f"{file}: has no frame number at the end of its name; rename it, or move it elsewhere")
        if int(digits[0]) in numbers:
            raise VideoError(f"{file}: has the same frame number as {numbers[int(digits[0])].name}; keep one of them")
        numbers[int(digits[0])] = file
    if not numbers:
        raise VideoError(f"no video at {folder}: the folder holds no PNG; fetch this video again")
    return [numbers[number] for number in sorted(numbers)]


def pixels(frame):
    """av.VideoFrame -> uint8 RGB (H,W,3)."""
    return frame.to_ndarray(format="rgb24")


def probe(path):
    """Decode all of `path`: (frames, height, width), frames counted as decoded."""
    count = 0
    for count, frame in enumerate(iter_frames(path), start=1):  # noqa: B007
        pass
    return count, frame.height, frame.width


def read_frames(path, indices, frames):
    """The frames with these indices of a video of `frames` frames: uint8 (len(indices),H,W,3).

    Indices may repeat and need not be sorted. Decodes from the start to the last one wanted.
    VideoError where it meets the end of the file more than SHORT_TAIL frames before `frames`.
    """
    wanted, last, count = set(map(int, indices)), max(map(int, indices)), 0
    kept = {}
    for count, frame in enumerate(iter_frames(path, wanted), start=1):
        if count - 1 in wanted:
            kept[count - 1] = pixels(frame)
        if count > last:
            break
    if count <= last:
        final = _check_length(path, count, frames, frame)
        kept.update(dict.fromkeys(wanted - kept.keys(), final))
    return np.stack([kept[int(i)] for i in indices])


def read_blocks(path, frames, size):
    """Yield a whole video in blocks: (start, uint8 (n,H,W,3)), n = size but for the last block. Decodes it once.

    Gives exactly `frames` frames: more are left alone, up to SHORT_TAIL missing ones repeat the last.
    """
    block, count = [], 0
    for count, frame in enumerate(iter_frames(path), start=1):
        block.append(pixels(frame))
        if count == frames:
            break
        if len(block) == size:
            yield count - size, np.stack(block)
            block = []
    if count < frames:
        final = _check_length(path, count, frames, frame)
        block += [final] * (frames - count)
    start = frames - len(block)
    while block:
        yield start, np.stack(block[:size])
        start, block = start + size, block[size:]


def _check_length(path, decoded, frames, frame):
    """The last frame's pixels, if the file is at most SHORT_TAIL frames short."""
    if decoded < frames - SHORT_TAIL:
        raise VideoError(f"{path} decodes {decoded} frames where the annotation has {frames}; the file is truncated, "
                         "fetch this video again")
    return pixels(frame)
