"""When each frame of a video is shown, by the timestamps of its container: what turns "from
0:10 to 0:20" into frames, also where the frame rate varies.

Time 0 is the start of the file, as players count it (its earliest stream; a video that
begins after its sound begins later than 0).
"""

import hashlib
import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from claus.datasets.segments import Times
from claus.datasets.video.disk_cache import read_checked, signature, write_checked
from claus.datasets.video.reader import VideoError, iter_frames, open_video, unreadable
from claus.utils.pyav import av, decoder_versions

VERSION = 1


def read_times(path: str | Path, folder: str | Path | None = None) -> Times:
    """The Times of a video, decoded once to its end. VideoError where it cannot be.

    folder: where they are kept for the next time, found by path, size and modification time.
    """
    place = None
    if folder and Path(path).exists():
        about = f"{VERSION} {signature(path)} {decoder_versions()}"
        key = hashlib.sha1(about.encode(), usedforsecurity=False).hexdigest()
        place = Path(folder) / "times" / key[:2] / f"{key}.npz"
    found = _load(place) if place else None
    if found is None:
        found = _decode(path)
        if place:
            _store(found, place)
    return found


def _decode(path):
    """Times of a file or a folder of images."""
    ticks, base, size, timed = [], None, None, not Path(path).is_dir()
    for frame in iter_frames(path, wanted=set()):  # of images only the last is decoded
        if frame is not None:
            size = frame.size
            base = base or (frame.decoded.time_base if timed else None)
        ticks.append(frame.decoded.pts if timed else len(ticks))
    timed = timed and base is not None and _in_order(ticks)
    if not timed:
        return Times(*size, np.arange(len(ticks)), Fraction(1), known=False)
    start = round(_start_of(path) / Fraction(base))
    return Times(*size, np.array(ticks, np.int64) - start, Fraction(base))


def _in_order(ticks: Sequence[int | None]) -> bool:
    return None not in ticks and bool((np.diff(np.array(ticks, np.int64)) >= 0).all())


def _start_of(path):
    """Start of a file in seconds, a Fraction."""
    try:
        with open_video(path) as container:
            return Fraction(container.start_time or 0, av.time_base)
    except unreadable() as error:
        raise VideoError(f"{path}: cannot be opened again; was it moved?") from error


def _store(times, place):
    buffer = io.BytesIO()
    base = times.base.numerator, times.base.denominator
    np.savez(
        buffer,
        size=[times.height, times.width],
        steps=np.diff(times.ticks, prepend=0),
        base=base,
        known=times.known,
    )
    write_checked(place, buffer.getvalue())


def _load(place):
    """The times stored in this file, None where it is missing or damaged."""
    content = read_checked(place)
    if not len(content):
        return None
    try:
        with np.load(io.BytesIO(content.tobytes())) as stored:
            height, width = stored["size"].tolist()
            base = Fraction(*stored["base"].tolist())
            ticks = np.cumsum(stored["steps"])
            return Times(height, width, ticks, base, bool(stored["known"]))
    except Exception:  # a damaged file raises nearly anything
        return None
