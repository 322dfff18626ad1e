"""How a decoded frame becomes the picture a player shows: turned upright, mirrored, its
pixels made square.

A file says how it is to be turned in a display matrix (phones write one) or, in older
files, in the tag `rotate` of its stream; the matrix wins. Other angles than quarter turns
count as the nearest quarter turn. Where a pixel is not square, the width is multiplied by
its aspect ratio and the height stays, before turning: `scale=iw*sar:ih` of FFmpeg.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

    from claus.datasets.video.images import Picture

# a pixel more oblong than this is an error of the header, and counts as square
MOST_OBLONG = 16


@dataclass(frozen=True)
class Display:
    """Applied in this order: the width is multiplied by `aspect` (width of a pixel over its
    height), rows and columns are exchanged, then left and right, then top and bottom.
    """

    aspect: float = 1.0
    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    def width(self, frame: "VideoFrame | Picture") -> int:
        """Width of a decoded frame with square pixels, before it is turned."""
        return max(round(frame.width * self.aspect), 1)

    def size(self, frame: "VideoFrame | Picture") -> tuple[int, int]:
        """(height, width) at which a decoded frame is shown."""
        height, width = frame.height, self.width(frame)
        return (width, height) if self.transposed else (height, width)

    def turn(self, picture: np.ndarray) -> np.ndarray:
        """A picture (H,W,3) with square pixels as it is shown, contiguous."""
        if self.transposed:
            picture = picture.transpose(1, 0, 2)
        if self.left_right:
            picture = picture[:, ::-1]
        if self.top_bottom:
            picture = picture[::-1]
        return np.ascontiguousarray(picture)

    def __str__(self):
        """What is done to a frame, for messages; empty where it is shown as it is."""
        turned = {
            (False, False, False): "",
            (True, True, False): "rotated 90°",
            (False, True, True): "rotated 180°",
            (True, False, True): "rotated 270°",
        }
        parts = [turned.get((self.transposed, self.left_right, self.top_bottom), "mirrored")]
        if self.aspect != 1:
            parts.append(f"pixels {self.aspect:.3g} times as wide as high")
        return ", ".join(filter(None, parts))


def display_of(stream: "VideoStream", frame: "VideoFrame") -> Display:
    """The Display of a stream whose first decoded frame is `frame`."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        across, down = np.frombuffer(matrix, np.int32).reshape(3, 3)[:2, :2].tolist()
    else:
        across, down = _of_tag(stream.metadata)
    return Display(_aspect(stream), *_turns(across, down))


def _turns(across, down):
    """(transposed, left_right, top_bottom) of a matrix that moves a pixel one to the right
    by `across` and one down by `down`, (x, y) each.
    """
    straight = abs(across[0]) + abs(down[1])
    crossed = abs(across[1]) + abs(down[0])
    if crossed > straight:
        return True, down[0] < 0, across[1] < 0
    return False, across[0] < 0, down[1] < 0


def _of_tag(metadata):
    """The matrix of the tag `rotate`, degrees clockwise; none is no rotation."""
    tags = {name.lower(): value for name, value in metadata.items()}
    try:
        quarters = round(float(tags.get("rotate", 0)) / 90) % 4
    except (ValueError, OverflowError):
        quarters = 0
    x, y = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    return (x, y), (-y, x)


def _aspect(stream):
    """Width of a pixel over its height; 1 where the file does not say."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / MOST_OBLONG <= aspect <= MOST_OBLONG else 1.0
