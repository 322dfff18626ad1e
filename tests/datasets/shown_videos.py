"""Videos whose frames carry their number and colored corners, with a display matrix, pixels
that are not square, or an edit list, for the tests.
"""

import av
import numpy as np
from made_videos import gray_frames, numbers

CORNERS = {"red": (230, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 230)}
CORNERS["yellow"] = (220, 220, 30)
UPRIGHT = ["red", "green", "blue", "yellow"]  # top left, top right, bottom left, bottom right


def corner_frames(count, height=48, width=64):
    """Gray frames, see gray_frames, with a colored square a quarter of the frame high in
    each corner (see UPRIGHT).
    """
    frames, side = gray_frames(count, height, width), height // 4
    for name, rows, columns in zip(
        UPRIGHT,
        (slice(side), slice(side), slice(-side, None), slice(-side, None)),
        (slice(side), slice(-side, None)) * 2,
        strict=True,
    ):
        frames[:, rows, columns] = CORNERS[name]
    return frames


def corners_of(picture):
    """Names of the colors of the corners of a picture (H,W,3): top left, top right, bottom
    left, bottom right.
    """
    pieces = picture[:5, :5], picture[:5, -5:], picture[-5:, :5], picture[-5:, -5:]
    seen = [piece.reshape(-1, 3).mean(0) for piece in pieces]
    colors = np.array(list(CORNERS.values()))
    return [list(CORNERS)[int(np.abs(colors - color).sum(1).argmin())] for color in seen]


def numbers_inside(frames):
    """The numbers that corner frames (n,H,W,3) show in their middle."""
    height, width = frames.shape[1:3]
    rows = slice(height * 3 // 8, height * 5 // 8)
    return numbers(frames[:, rows, width * 3 // 8 : width * 5 // 8])


def write_shown(
    path, frames, codec="mpeg4", turn=None, aspect=None, tags=None, start=0, pix_fmt="yuv420p"
):
    """Write frames with a display matrix, turn: arguments of set_display_rotation; an
    aspect ratio of the pixels; tags of the stream. start: time stamp of the first frame;
    MP4 hides what is before 0 behind an edit list.
    """
    with av.open(str(path), "w") as container:
        add_shown(container, frames, codec, turn, aspect, tags, start, pix_fmt)


def add_shown(
    container,
    frames,
    codec="mpeg4",
    turn=None,
    aspect=None,
    tags=None,
    start=0,
    pix_fmt="yuv420p",
    disposition=None,
):
    """Write a stream of these frames into a container, see write_shown; of several, the
    first call adds the first stream and muxes it alone.
    """
    stream = container.add_stream(codec, rate=25, options={"bf": "0"})
    stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
    stream.codec_context.gop_size, stream.codec_context.thread_count = 12, 1
    stream.codec_context.bit_rate = 2_000_000
    if turn is not None:
        stream.set_display_rotation(*turn)
    if aspect is not None:
        stream.codec_context.sample_aspect_ratio = aspect
    stream.metadata.update(tags or {})
    if disposition is not None:
        stream.disposition = disposition
    for k, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = k + start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())
