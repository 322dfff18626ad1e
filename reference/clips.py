"""A training clip, step by step: what datasets/ is tested and timed against.

The whole video is decoded for eight frames (by the ffmpeg command through a pipe where
there is one, else by PyAV); boxes are interpolated, drawn and cropped frame by frame; the
weights are made by loops over frames; the eight frames and all that belongs to them are
float64. The product does not use it.
"""

import math
import shutil
import subprocess

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from claus.datasets.video.reader import one_thread as by_one_thread
from claus.utils.pyav import av


def whole_video(path, height, width, one_thread=False):
    """All frames, uint8 (F,H,W,3). one_thread: by PyAV, told to decode and convert with a
    single thread.
    """
    if one_thread:
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            return np.stack(
                [
                    frame.to_ndarray(format="rgb24", **by_one_thread())
                    for frame in container.decode(video=0)
                ]
            )
    if shutil.which("ffmpeg"):
        command = [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            str(path),
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)
    with av.open(str(path)) as container:
        return np.stack(
            [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        )


def decoder():
    """What whole_video decodes with, in words."""
    return (
        "the ffmpeg command, through a pipe"
        if shutil.which("ffmpeg")
        else "PyAV (there is no ffmpeg command here)"
    )


def neighbor(labeled, frame, step):
    """The nearest labeled frame at or before (step -1), or at or after (step 1); None
    where there is none.
    """
    found = [a for a in labeled if (a - frame) * step >= 0]
    return min(found, key=lambda a: abs(a - frame)) if found else None


def box_at(tube, labeled, frame):
    """The box of a track at a frame, four floats, or None where the labels say that it is
    absent.
    """
    left, right = neighbor(labeled, frame, -1), neighbor(labeled, frame, 1)
    shown = {int(f): box for f, box in zip(tube.frames, tube.boxes, strict=True)}
    if left in shown and right in shown:
        share = 0.0 if left == right else (frame - left) / (right - left)
        return [
            float(a) * (1 - share) + float(b) * share
            for a, b in zip(shown[left], shown[right], strict=True)
        ]
    return shown.get(left, shown.get(right))


def mask_at(video, frame):
    """The union of all actors' boxes at a frame, float64 (H,W): a pixel is in where its
    center is.
    """
    mask = np.zeros((video.height, video.width))
    for tube in video.tubes:
        box = box_at(tube, [int(a) for a in video.labeled_frames], frame)
        if box is not None:
            x0, y0, x1, y1 = (math.ceil(corner - 0.5) for corner in box)
            mask[max(y0, 0) : y1, max(x0, 0) : x1] = 1
    return mask


def nearest(mask, height, width):
    """A mask (H,W) at another size: the pixel whose center is nearest."""
    small = torch.from_numpy(np.ascontiguousarray(mask, np.uint8))[None]
    return (
        TF.resize(small, [height, width], InterpolationMode.NEAREST_EXACT)[0]
        .numpy()
        .astype(np.float64)
    )


def cut(picture, geometry, corner, flip, resize):
    """One picture or mask resized, cropped, resized and flipped; resize: a function of
    (picture, height, width).
    """
    height, width = geometry.frame
    if geometry.fit != "stretch":
        height, width = geometry.crop
    if geometry.fit == "letterbox":
        longer = max(picture.shape[:2])
        height, width = (max(round(n * height / longer), 1) for n in picture.shape[:2])
    if picture.shape[:2] != (height, width):
        picture = resize(picture, height, width)
    picture = framed(picture, geometry)
    top, left = corner
    picture = picture[top : top + geometry.crop[0], left : left + geometry.crop[1]]
    if picture.shape[:2] != (geometry.size, geometry.size):
        picture = resize(picture, geometry.size, geometry.size)
    return picture[:, ::-1] if flip else picture


def framed(picture, geometry):
    """A picture in the middle of the center crop of an empty frame: gray, 0 for a mask."""
    if picture.shape[:2] == geometry.frame:
        return picture
    gray = 128 if picture.ndim == 3 else 0
    frame = np.full((*geometry.frame, *picture.shape[2:]), gray, picture.dtype)
    starts = []
    for whole, crop, part in zip(geometry.frame, geometry.crop, picture.shape[:2], strict=True):
        starts.append((whole - crop) // 2 + (crop - part) // 2)
    top, left = starts
    frame[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return frame


def linear(picture, height, width):
    """A float64 picture (H,W,3) resized bilinearly with antialiasing."""
    planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
    return TF.resize(planes, [height, width], antialias=True).numpy().transpose(1, 2, 0)


def labels(video, frames, geometry, corner, flip):
    """Pseudo-label masks of a clip, float64 (T,S,S), frame by frame."""
    return np.stack(
        [cut(mask_at(video, int(f)), geometry, corner, flip, nearest) for f in frames]
    )


def weights(masks, video, frames, sigma=8 / 3, reach=8, window=2):
    """STeW weights φ = τ·s of a clip (paper Eq. 4 and 5), float64 (T,S,S), frame by frame."""
    result = np.zeros(masks.shape)
    labeled = [int(a) for a in video.labeled_frames]
    for t in range(len(frames)):
        tau = 0.0
        for a in labeled:
            distance = abs(int(frames[t]) - a)
            if distance <= reach:
                tau = max(tau, math.exp(-(distance**2) / (2 * sigma**2)))
        total, count = np.zeros(masks.shape[1:]), 0
        for w in range(t - window, t + window + 1):
            if 0 <= w < len(frames):
                total, count = total + masks[w], count + 1
        mean = total / count
        certain = np.logical_or(mean <= 0.1, mean >= 0.9)
        consistency = np.where(certain, 1.0, mean)
        if int(frames[t]) in labeled:
            consistency = np.ones_like(mean)
        result[t] = tau * consistency
    return result


def clip(path, video, frames, geometry, corner, flip, one_thread=False):
    """One training clip: (frames float64 (T,3,S,S) in 0…255, masks (T,S,S), weights
    (T,S,S)).
    """
    whole = whole_video(path, video.height, video.width, one_thread)
    pictures = np.stack(
        [cut(whole[int(f)].astype(np.float64), geometry, corner, flip, linear) for f in frames]
    )
    masks = labels(video, frames, geometry, corner, flip)
    return pictures.transpose(0, 3, 1, 2), masks, weights(masks, video, frames)
