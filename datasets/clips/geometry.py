"""Which frames make a clip, and how they are cropped, resized and flipped together with
their masks; and the way back, from the network's maps to the pixels of the video.

A video's picture is resized and lies in a *frame*; a *crop* of the frame, resized to a
square of S x S pixels, is what the network sees. Nothing here sees a label: the frames
follow from the length of the video and an anchor, crop and flip from a random generator.
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from claus.datasets.labels.masks import look_up

LENGTH, STRIDE = 8, 2  # frames of a clip, and from one to the next
POSITION = 4  # index of the anchor (in training a labeled frame) in its clip
FITS = ("stretch", "whole", "letterbox")
BAR = 128  # gray level around a picture: near the zero that convolutions pad with


@dataclass(frozen=True)
class ClipGeometry:
    """A video's picture is fit into `frame`, cropped to `crop`, and the crop resized to size
    x size. All in pixels (h, w).

    fit: "stretch": the picture fills the frame whatever its shape, and a crop cuts what lies
    outside it. "whole": it fills the center crop, which shows all of it; around it, where
    only shifted crops look, is gray. "letterbox": likewise, but it keeps its shape, with
    gray bars at two sides; the crop is a square.

    Points are (x, y), and a pixel's edges are whole numbers: pixel 0 lies from 0 to 1.
    corner: (top, left) of the crop in the frame; None: the center crop.
    """

    frame: tuple[int, int]
    crop: tuple[int, int]
    size: int
    fit: str = "stretch"

    def __post_init__(self):
        object.__setattr__(self, "frame", tuple(self.frame))
        object.__setattr__(self, "crop", tuple(self.crop))
        if any(c > f for c, f in zip(self.crop, self.frame, strict=True)):
            raise ValueError(f"crop {self.crop} is larger than the frame {self.frame}")
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")
        if self.fit == "letterbox" and self.crop[0] != self.crop[1]:
            raise ValueError(f"a letterbox needs a square crop, not {self.crop}")

    def to_dict(self) -> dict:
        """For checkpoints, which had no `fit` when there was only one: it is left out."""
        words = asdict(self)
        if self.fit == "stretch":
            del words["fit"]
        return words

    @property
    def words(self) -> str:
        """The part of the frame that the center crop shows, for people."""
        if self.fit == "letterbox":
            return "whole frame, letterboxed"
        if self.fit == "whole":
            return "whole frame"
        (crop_h, crop_w), (frame_h, frame_w) = self.crop, self.frame
        return f"{crop_h}x{crop_w} of {frame_h}x{frame_w}"

    def picture(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) to which a video's picture of height x width is resized, at least 1."""
        if self.fit == "stretch":
            return self.frame
        if self.fit == "whole":
            return self.crop
        side, longer = self.crop[0], max(height, width)
        return tuple(max(round(side * length / longer), 1) for length in (height, width))

    def start(self, picture: Sequence[int]) -> tuple[int, int]:
        """(top, left) in the frame of a picture resized to `picture` (h, w)."""
        if self.fit == "stretch":
            return 0, 0
        crops = zip(center_crop(self), self.crop, picture, strict=True)
        return tuple(corner + (crop - length) // 2 for corner, crop, length in crops)

    def to_video(
        self,
        points: np.ndarray,
        height: int,
        width: int,
        corner: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """Points (..., 2) of the network's square maps -> in the pixels of a video of height
        x width, float64, not rounded. Those of bars lie outside.
        """
        scale, shift, resized = self._placed(height, width, corner)
        in_picture = np.asarray(points, np.float64) * scale / self.size + shift
        return in_picture * (width, height) / resized

    def to_map(
        self,
        points: np.ndarray,
        height: int,
        width: int,
        corner: tuple[int, int] | None = None,
    ) -> np.ndarray:
        """The inverse of to_video."""
        scale, shift, resized = self._placed(height, width, corner)
        in_picture = np.asarray(points, np.float64) * resized / (width, height)
        return (in_picture - shift) * self.size / scale

    def _placed(self, height, width, corner):
        """(crop, crop's corner in the resized picture, resized picture), each (x, y)."""
        top, left = center_crop(self) if corner is None else corner
        picture = self.picture(height, width)
        start_y, start_x = self.start(picture)
        return self.crop[::-1], (left - start_x, top - start_y), picture[::-1]

    def shown(
        self, height: int, width: int, corner: tuple[int, int] | None = None
    ) -> tuple[slice, slice]:
        """(rows, columns) of the network's maps that show the video and no bar."""
        if self.fit == "stretch":
            return slice(0, self.size), slice(0, self.size)
        corner = center_crop(self) if corner is None else corner
        slices = []
        for places in sources((height, width), self, corner):
            inside = np.flatnonzero(places >= 0)
            slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
        return tuple(slices)


# UCF-101: wide keeps nearly the whole 4:3 frame, square is the published straight crop.
# J-HMDB has one way. Whole and letterbox are for videos of any shape; the gray around the
# picture leaves training crops room to shift.
GEOMETRY = {
    ("full", "wide"): ClipGeometry((240, 320), (224, 296), 224),
    ("full", "square"): ClipGeometry((240, 320), (224, 224), 224),
    ("small", "wide"): ClipGeometry((72, 96), (66, 88), 64),
    ("small", "square"): ClipGeometry((72, 96), (64, 64), 64),
    ("full", "jhmdb"): ClipGeometry((256, 256), (224, 224), 224),
    ("small", "jhmdb"): ClipGeometry((73, 73), (64, 64), 64),
    ("full", "whole"): ClipGeometry((256, 256), (224, 224), 224, "whole"),
    ("small", "whole"): ClipGeometry((72, 72), (64, 64), 64, "whole"),
    ("full", "letterbox"): ClipGeometry((256, 256), (224, 224), 224, "letterbox"),
    ("small", "letterbox"): ClipGeometry((72, 72), (64, 64), 64, "letterbox"),
    # the whole frame without any shift, whose features are the same at every look
    ("laptop", "wide"): ClipGeometry((160, 160), (160, 160), 160, "whole"),
    ("laptop", "square"): ClipGeometry((160, 160), (160, 160), 160, "whole"),
    ("laptop", "jhmdb"): ClipGeometry((160, 160), (160, 160), 160, "whole"),
    ("laptop", "whole"): ClipGeometry((160, 160), (160, 160), 160, "whole"),
    ("laptop", "letterbox"): ClipGeometry((160, 160), (160, 160), 160, "letterbox"),
}
WHOLE = ("whole", "letterbox")  # crops of every data set, that leave out nothing


def clip_indices(
    frames: int,
    anchor: int,
    length: int = LENGTH,
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
    frames). Bars are gray in frames and empty in masks. Returns uint8 (T,3,S,S) or (T,S,S)
    torch tensors.
    """
    if clip.ndim == 4:
        return cut(resize(clip, geometry.picture(*clip.shape[1:3])), geometry, corner, flip)
    rows, columns = sources(clip.shape[1:], geometry, corner, flip)
    return torch.from_numpy(look_up(np.ascontiguousarray(clip), rows, columns))


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
    """Frames of the size geometry.picture(...), uint8 (T,h,w,3) -> cropped, resized and
    flipped, a tensor (T,3,S,S).
    """
    clip = resize(_crop(clip, geometry, corner), [geometry.size] * 2)
    planes = np.empty((len(clip), 3, geometry.size, geometry.size), np.uint8)
    for frame, plane in zip(clip, planes, strict=True):  # several times as fast as one copy
        cv2.split(cv2.flip(frame, 1) if flip else frame, list(plane))
    return torch.from_numpy(planes)


def _crop(clip, geometry, corner):
    """The crop of resized pictures (T,h,w,3), (T,*geometry.crop,3)."""
    parts, places = [slice(None)], [slice(None)]
    sides = zip(
        clip.shape[1:3], geometry.start(clip.shape[1:3]), geometry.crop, corner, strict=True
    )
    for length, start, crop, first in sides:
        low, high = max(first - start, 0), min(first + crop - start, length)
        parts.append(slice(low, high))
        places.append(slice(low + start - first, high + start - first))
    part = clip[tuple(parts)]
    if part.shape[1:3] == geometry.crop:
        return part
    crop = np.full((len(clip), *geometry.crop, 3), BAR, np.uint8)
    crop[tuple(places)] = part
    return crop


def sources(
    shape: tuple[int, int],
    geometry: ClipGeometry,
    corner: tuple[int, int],
    flip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows (S,), columns (S,)) int64: which pixel of a mask of `shape` (H,W) each pixel of
    a finished clip shows, -1 for a bar.
    """
    places = []
    picture = geometry.picture(*shape)
    sides = zip(shape, picture, geometry.start(picture), geometry.crop, corner, strict=True)
    for before, after, start, crop, first in sides:
        place = first - start + _nearest(crop, geometry.size)
        inside = (place >= 0) & (place < after)
        shown = _nearest(before, after)[np.clip(place, 0, after - 1)]
        places.append(np.where(inside, shown, -1))
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
