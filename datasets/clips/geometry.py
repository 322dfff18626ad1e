"""Which frames make a clip, and how they are cropped, resized and flipped together with
their masks.

Nothing here sees a label: the frames follow from the length of the video and an anchor,
crop and flip from a random generator.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

STRIDE = 2
POSITION = 4  # index of the anchor (in training a labeled frame) in its clip


@dataclass(frozen=True)
class ClipGeometry:
    """A frame is resized to `frame`, cropped to `crop`, and the crop resized to size x
    size. All in pixels (h, w).
    """

    frame: tuple[int, int]
    crop: tuple[int, int]
    size: int

    def __post_init__(self):
        object.__setattr__(self, "frame", tuple(self.frame))
        object.__setattr__(self, "crop", tuple(self.crop))
        if any(c > f for c, f in zip(self.crop, self.frame, strict=True)):
            raise ValueError(f"crop {self.crop} is larger than the frame {self.frame}")

    def to_dict(self) -> dict:
        return asdict(self)


# UCF-101: wide keeps nearly the whole 4:3 frame, square is the published straight crop.
# J-HMDB has one way.
GEOMETRY = {
    ("full", "wide"): ClipGeometry((240, 320), (224, 296), 224),
    ("full", "square"): ClipGeometry((240, 320), (224, 224), 224),
    ("small", "wide"): ClipGeometry((72, 96), (66, 88), 64),
    ("small", "square"): ClipGeometry((72, 96), (64, 64), 64),
    ("full", "jhmdb"): ClipGeometry((256, 256), (224, 224), 224),
    ("small", "jhmdb"): ClipGeometry((73, 73), (64, 64), 64),
    # the whole frame, whose features are then the same at every look
    ("laptop", "wide"): ClipGeometry((160, 160), (160, 160), 160),
    ("laptop", "square"): ClipGeometry((160, 160), (160, 160), 160),
    ("laptop", "jhmdb"): ClipGeometry((160, 160), (160, 160), 160),
}


def clip_indices(
    frames: int,
    anchor: int,
    length: int = 8,
    stride: int = STRIDE,
    position: int = POSITION,
) -> np.ndarray:
    """Frame indices (length,) of the clip with `anchor` at `position`, int64 in [0,
    frames).

    A clip that leaves the video is shifted by whole strides, so that the anchor stays among
    its frames; where no such clip exists the stride is 1, and where the video is too short
    even for that its last frame is repeated.
    """
    if not 0 <= anchor < frames:
        raise ValueError(f"anchor {anchor} is not a frame of a video of {frames}")
    for step in (stride, 1):
        start, span = anchor - position * step, (length - 1) * step
        start += max(0, -(start // step)) * step  # up to the first start >= 0
        room = frames - 1 - span - start
        start -= max(0, -(room // step)) * step  # down until the end fits
        if 0 <= start and start + span < frames:
            return start + step * np.arange(length)
    return np.minimum(np.arange(length), frames - 1)


def random_crop(geometry: ClipGeometry, rng: np.random.Generator) -> tuple[int, int]:
    """(top, left) of a crop drawn uniformly, int."""
    sides = zip(geometry.frame, geometry.crop, strict=True)
    return tuple(int(rng.integers(frame - crop + 1)) for frame, crop in sides)


def center_crop(geometry: ClipGeometry) -> tuple[int, int]:
    """(top, left) of the centered crop, int."""
    sides = zip(geometry.frame, geometry.crop, strict=True)
    return tuple((frame - crop) // 2 for frame, crop in sides)


def transform(
    clip: np.ndarray,
    geometry: ClipGeometry,
    corner: tuple[int, int],
    flip: bool = False,
) -> torch.Tensor:
    """Resize, crop, resize and flip frames, masks, or both, jointly.

    clip: uint8 frames (T,H,W,3) or masks (T,H,W); corner (top, left) in the resized frame.
    Frames are interpolated bilinearly with antialiasing, masks take the pixel nearest by
    centers ("nearest-exact": plain "nearest" would shift them half a pixel against the
    frames). Returns uint8 (T,3,S,S) or (T,S,S) torch tensors.
    """
    if clip.ndim == 4:
        return cut(resize(clip, geometry.frame), geometry, corner, flip)
    rows, columns = sources(clip.shape[1:], geometry, corner, flip)
    return torch.from_numpy(np.ascontiguousarray(clip).take(columns, 2).take(rows, 1))


def resize(clip: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Frames uint8 (T,H,W,3) -> (T,h,w,3), bilinearly with antialiasing; the same array
    where they have that size.
    """
    if clip.shape[1:3] == tuple(size):
        return clip
    channels_last = torch.from_numpy(clip).permute(0, 3, 1, 2)
    resized = TF.resize(channels_last, list(size), InterpolationMode.BILINEAR)
    return resized.permute(0, 2, 3, 1).numpy()


def cut(
    clip: np.ndarray,
    geometry: ClipGeometry,
    corner: tuple[int, int],
    flip: bool = False,
) -> torch.Tensor:
    """Frames of the size geometry.frame, uint8 (T,h,w,3) -> cropped, resized and flipped, a
    tensor (T,3,S,S).
    """
    (top, left), (height, width) = corner, geometry.crop
    clip = resize(clip[:, top : top + height, left : left + width], [geometry.size] * 2)
    planes = np.empty((len(clip), 3, geometry.size, geometry.size), np.uint8)
    for frame, plane in zip(clip, planes, strict=True):  # several times as fast as one copy
        cv2.split(cv2.flip(frame, 1) if flip else frame, list(plane))
    return torch.from_numpy(planes)


def sources(
    shape: tuple[int, int],
    geometry: ClipGeometry,
    corner: tuple[int, int],
    flip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows (S,), columns (S,)) int64: which pixel of a mask of `shape` (H,W) each pixel of
    a finished clip shows.
    """
    places = []
    for before, frame, crop, start in zip(
        shape, geometry.frame, geometry.crop, corner, strict=True
    ):
        places.append(_nearest(before, frame)[start + _nearest(crop, geometry.size)])
    return places[0], places[1][::-1] if flip else places[1]


@functools.cache
def _nearest(before, after):
    """Which of `before` places each of `after` shows, int64 (after,), as torch's
    nearest-exact resize of uint8 does.
    """
    places = torch.arange(before)
    digits = []
    for part in (places % 256, places // 256):
        column = part.to(torch.uint8)[None, :, None]
        resized = TF.resize(column, [after, 1], InterpolationMode.NEAREST_EXACT)
        digits.append(resized[0, :, 0].numpy().astype(np.int64))
    return digits[0] + 256 * digits[1]
