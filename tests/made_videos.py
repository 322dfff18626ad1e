"""Tiny videos whose frames say which they are, for the tests."""

from fractions import Fraction

import av
import numpy as np
import torch

STEP, FIRST = 6, 8


def gray_frames(count, height=48, width=64):
    """uint8 (count,H,W,3), count at most 40: frame k is plain gray of level 6k + 8."""
    levels = (FIRST + STEP * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def numbers(frames):
    """The frame numbers that gray frames (n,...) show after coding, list of int; black
    gives -1.
    """
    levels = np.asarray(frames).reshape(len(frames), -1).mean(1)
    return np.rint((levels - FIRST) / STEP).astype(int).tolist()


def white_square_frames(count, height=72, width=96, side=24):
    """A white square on black, moving right 1 and down 1 pixel a frame: (frames (n,H,W,3)
    uint8, boxes (n,4) int).
    """
    frames, boxes = np.zeros((count, height, width, 3), np.uint8), []
    for f in range(count):
        x, y = 20 + f, 10 + f
        frames[f, y : y + side, x : x + side] = 255
        boxes.append((x, y, x + side, y + side))
    return frames, np.array(boxes)


def write_with_b_frames(path, frames, codec):
    """An .avi whose stored order of frames is not the shown one."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2", "b_strategy": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = 2, 12
        stream.codec_context.bit_rate = 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def counted_frames(numbers, height=48, width=64):
    """uint8 (n,H,W,3): each frame has its number, below 4096, written as twelve light or
    dark blocks, four in a row.
    """
    bits = np.asarray(numbers)[:, None] >> np.arange(12) & 1
    blocks = np.where(bits, 225, 30).astype(np.uint8).reshape(-1, 3, 4)
    levels = blocks.repeat(height // 3, axis=1).repeat(width // 4, axis=2)
    return np.repeat(levels[..., None], 3, axis=3)


def counts_shown(frames):
    """The numbers that counted_frames (n,H,W,3), or clips of them (n,3,S,S), show after
    coding, cropping and resizing; list of int.
    """
    frames = np.asarray(frames, float)
    gray = frames.mean(1) if frames.shape[1] == 3 else frames.mean(3)
    height, width = gray.shape[1:]
    rows = (np.arange(3) * 2 + 1) * height // 6
    columns = (np.arange(4) * 2 + 1) * width // 8
    bits = gray[:, rows][:, :, columns].reshape(len(gray), 12) > 127
    return (bits << np.arange(12)).sum(1).tolist()


def write_counted(path, count, codec="libx264", ticks=None, gop=50, params=""):
    """A video of counted_frames at 25 frames a second. ticks: when each frame is shown, in
    thousandths of a second. params: of x264.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        options = {"x264-params": params} if params else {"preset": "ultrafast"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, 1000)
        for k in range(count):
            picture = counted_frames([k])[0]
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = 40 * k if ticks is None else ticks[k]
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def whole(chunks):
    """The chunks of a video (see VideoTiles) as one, of all its clips."""
    chunks = list(chunks)
    joined = {"name": chunks[0]["name"]}
    joined["clips"] = torch.cat([chunk["clips"] for chunk in chunks])
    for key in ("frames", "tile", "phase"):
        joined[key] = np.concatenate([chunk[key] for chunk in chunks])
    return joined
