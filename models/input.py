"""What a network sees: pixels as bytes -> floats in the range that it was trained on."""

import torch

from claus.models.lite import is_records

# name -> (scale, shift) of pixels in [0,1]; -1..1 is what the I3D weights were trained on
PIXEL_RANGE = {
    "-1..1": (2.0, -1.0),
    "0..1": (1.0, 0.0),
}


def normalize(frames: torch.Tensor, pixel_range: str) -> torch.Tensor:
    """Frames (B,T,3,S,S), uint8 or float in 0…255, on any device -> float clips (B,3,T,S,S)
    in `pixel_range`, one of PIXEL_RANGE. Records (B,T,R) of frames stay as they are.
    """
    if is_records(frames):
        return frames
    scale, shift = PIXEL_RANGE[pixel_range]
    return frames.transpose(1, 2).float() * (scale / 255) + shift
