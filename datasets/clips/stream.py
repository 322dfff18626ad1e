"""A file of unknown length as a stream of tiles, for detection: its frames as the network
sees them, and when each is shown.

What VideoTiles (tiles.py) gives of a video whose length is known, without a length: headers
claim wrong ones, and to count the frames is to decode them twice. The network may see several
crops of each frame, see cover(). Times are of the container, from its start, see
video/times.py.
"""

import itertools
import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from claus.datasets.clips.geometry import STRIDE, ClipGeometry, center_crop, cut, resize
from claus.datasets.video.reader import (
    VideoError,
    iter_frames,
    open_video,
    pixels,
    video_stream,
)
from claus.utils.pyav import av

LENGTH = 8  # frames of a clip
TILE = LENGTH * STRIDE
PHASES = STRIDE  # clips of a tile: every frame is in one
# of single pictures: their demuxers in FFmpeg
STILL = ("image2", "_pipe")


class Header(NamedTuple):
    """What a file says of itself, nominal: only decoding shows what is true."""

    frames: int | None
    fps: float | None
    start: Fraction  # seconds


class Tile(NamedTuple):
    """Up to 16 frames of a video, from frame number `first` on: those of clip p are its
    frames p, p + 2, ...
    """

    first: int
    # uint8 (K,n,3,S,S): the n frames in each of the K crops
    pictures: torch.Tensor
    times: np.ndarray  # (n,) seconds, NaN where the file does not say
    size: tuple[int, int]  # (height, width) of the video as shown


def cover(geometry: ClipGeometry) -> list[tuple[int, int]]:
    """(top, left) of the fewest crops that show all of the frame, evenly spread; the center
    crop where that does.
    """
    starts = []
    for frame, crop in zip(geometry.frame, geometry.crop, strict=True):
        if geometry.fit != "stretch":  # the center crop shows the whole video
            return [center_crop(geometry)]
        count = math.ceil(frame / crop)
        spread = np.linspace(0, frame - crop, count) if count > 1 else [(frame - crop) // 2]
        starts.append([round(float(start)) for start in spread])
    return list(itertools.product(*starts))


def read_header(path: str | Path) -> Header:
    """The Header of a video. VideoError for what is no video: a pipe, a still picture, an
    empty file.
    """
    path = Path(path)
    if path.is_dir():
        return Header(None, None, Fraction(0))
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror.lower()})") from error
    if not stat.S_ISREG(mode):
        raise VideoError(f"{path}: is a pipe or a device; give a file, which has an end")
    if not os.path.getsize(path):
        raise VideoError(f"{path}: is empty")
    try:
        with open_video(path) as container:
            if any(still in container.format.name for still in STILL):
                raise VideoError(f"{path}: is a still picture; give a video")
            stream = video_stream(container)
            if stream is None:
                raise VideoError(f"{path}: holds no video stream")
            fps = stream.average_rate or stream.guessed_rate
            frames = stream.frames or _frames_of(container, stream, fps)
            start = Fraction(container.start_time or 0, av.time_base)
            return Header(frames, fps and float(fps), start)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise VideoError(f"{path}: is no video that can be opened ({reason})") from error


def _frames_of(container, stream, fps):
    """Frames by duration, for progress; None where the file does not say that either."""
    if not fps:
        return None
    if stream.duration:
        return round(float(stream.duration * stream.time_base * fps))
    return container.duration and round(container.duration / av.time_base * float(fps))


def read_tiles(
    path: str | Path,
    geometry: ClipGeometry,
    corners: Sequence[tuple[int, int]],
    start: Fraction = Fraction(0),
) -> Iterator[Tile]:
    """The tiles of a file, decoded as they are asked for. corners: of the crops. start: of
    the file, from its Header. VideoError where it cannot be decoded, also in its middle.
    """
    converter = None if Path(path).is_dir() else av.video.reformatter.VideoReformatter()
    first = 0
    frames = iter_frames(path)
    with closing(frames):
        while some := list(itertools.islice(frames, TILE)):
            size = some[0].size
            picture = geometry.picture(*size)
            # one by one, so that large frames are not held together
            resized = np.concatenate(
                [resize(pixels(frame, converter)[None], picture) for frame in some]
            )
            crops = [cut(resized, geometry, corner) for corner in corners]
            times = np.array([_time(frame.decoded, start) for frame in some])
            yield Tile(first, torch.stack(crops), times, size)
            first += len(some)


def _time(frame, start):
    """When a decoded frame is shown, in seconds; NaN where the file does not say."""
    # images have no time
    if getattr(frame, "pts", None) is None or frame.time_base is None:
        return math.nan
    return float(frame.pts * Fraction(frame.time_base) - start)


@dataclass(frozen=True)
class Clips:
    """The clips of a tile: which of its frames each shows, places (N,T), and their numbers
    in the video, frames (N,T), -1 where the tile is filled up.
    """

    places: np.ndarray
    frames: np.ndarray


def clips_of(tile: Tile, filled: int) -> Clips:
    """The clips of a tile. filled: the place of what fills up the last one of a video."""
    count = tile.pictures.shape[1]
    shown = np.arange(PHASES)[:, None] + STRIDE * np.arange(LENGTH)
    shown = shown[shown[:, 0] < count]
    inside = shown < count
    places = np.where(inside, shown, filled)
    return Clips(places, np.where(inside, shown + tile.first, -1))
