"""The video with its tubes drawn over it: at its own size, with its own timestamps.

Each tube has a color, its number, its class and the score of the frame's box. H.264 where
PyAV has it, else MPEG-4. Pictures of an odd width or height get one more column or row, the
last one again, which both codecs need. Sound is left out.
"""

import colorsys
import contextlib
import functools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from claus.datasets.labels.masks import decode_rle
from claus.datasets.video.reader import iter_frames, pixels
from claus.detection.formats import Box, by_frame
from claus.utils.picture_text import text_picture
from claus.utils.pyav import av
from claus.utils.runtime import UserError, open_temporary, put_in_place

CODECS = ("libx264", "mpeg4")
OPTIONS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}
RATE = 25  # frames/s of pictures without times
GOLDEN = 0.61803398875  # hues this far apart stay apart


def color_of(tube: int) -> tuple[int, int, int]:
    """RGB of a tube, far from those of the tubes before it."""
    part = colorsys.hsv_to_rgb((0.08 + GOLDEN * tube) % 1, 0.75, 1.0)
    return tuple(round(255 * value) for value in part)


def draw(picture: np.ndarray, boxes: list[Box]) -> np.ndarray:
    """Boxes and, where there are some, masks over a copy of a picture uint8 (H,W,3)."""
    picture = picture.copy()
    height, width = picture.shape[:2]
    thick = max(round(min(height, width) / 160), 2)
    for box in boxes:
        color = color_of(box.tube)
        if box.mask:
            mask = decode_rle(box.mask)
            picture[mask] = (0.6 * picture[mask] + 0.4 * np.array(color)).astype(np.uint8)
        corners = [round(value) for value in box.corners]
        _rectangle(picture, corners, color, thick)
    for box in boxes:  # words lie over all boxes
        _words(picture, box, max(round(min(height, width) / 24), 11))
    return picture


def _rectangle(picture, corners, color, thick):
    x0, y0, x1, y1 = corners
    for grown, shade in ((1, (0, 0, 0)), (0, color)):  # a dark rim is seen on any ground
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), shade, thick + 2 * grown)


def _words(picture, box, size):
    label = _label(f"{box.tube} {box.name} {box.score:.2f}", size, color_of(box.tube))
    height, width = label.shape[:2]
    x = min(max(round(box.corners[0]), 0), max(picture.shape[1] - width, 0))
    y = round(box.corners[1]) - height
    y = min(max(y, 0), max(picture.shape[0] - height, 0))
    part = picture[y : y + height, x : x + width]
    part[:] = label[: part.shape[0], : part.shape[1]]


@functools.lru_cache(maxsize=512)
def _label(text, size, color):
    """A text on a ground of this color, uint8 (h,w,3)."""
    return np.asarray(text_picture(text, size, color))


def drawn(content: dict, path: Path) -> Iterator[tuple[np.ndarray, Fraction | None]]:
    """(picture uint8 (H,W,3), seconds or None) of every frame, tubes drawn over it.
    content: of the JSON file. path: of the video.
    """
    boxes, converter = by_frame(content), None
    if not path.is_dir():
        converter = av.video.reformatter.VideoReformatter()
    for number, frame in enumerate(iter_frames(path)):
        pts = getattr(frame.decoded, "pts", None)  # images have no time
        known = pts is not None and frame.decoded.time_base is not None
        seconds = pts * Fraction(frame.decoded.time_base) if known else None
        yield draw(pixels(frame, converter), boxes.get(number, [])), seconds


def write_overlay(content: dict, path: Path, target: Path) -> str:
    """Write the overlay video -> the codec. UserError where it cannot be written."""
    codec = next(name for name in CODECS if name in av.codecs_available)
    base = _time_base(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = open_temporary(target)
    os.close(descriptor)
    try:
        with av.open(temporary, "w", format="mp4") as container:
            _encode(container, codec, base, drawn(content, path), content["nominal_fps"])
        put_in_place(temporary, target)
    except (OSError, av.error.FFmpegError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UserError(f"cannot write {target}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):  # it has been put in place
            os.unlink(temporary)
    return codec


def _encode(container, codec, base, pictures, fps):
    stream, first, last = None, None, -1
    for number, (picture, seconds) in enumerate(pictures):
        picture = _even(picture)
        if stream is None:
            stream = container.add_stream(codec, rate=_rate(fps), options=OPTIONS[codec])
            stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
            stream.codec_context.time_base = base
            stream.codec_context.thread_count = 1
            first = seconds
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        tick = number if seconds is None or first is None else (seconds - first) / base
        last = max(round(tick), last + 1)  # encoders want rising times
        frame.pts, frame.time_base = last, base
        container.mux(stream.encode(frame))
    if stream is not None:
        container.mux(stream.encode())


def _rate(fps):
    return Fraction(fps or RATE).limit_denominator(1001)


def _time_base(path):
    """Unit of a file's times; MPEG-4 and .mp4 want one of at most 65535 in a second."""
    base = None
    for frame in () if Path(path).is_dir() else iter_frames(path):
        base = frame.decoded.time_base
        base = Fraction(base) if base and frame.decoded.pts is not None else None
        break
    if base is None:
        return Fraction(1, RATE)
    return base if base.denominator <= 65535 else Fraction(1, 60000)


def _even(picture):
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
