"""A small 3-D U-Net that corrects a map of mask probabilities (error recovery of Stable
Mean Teacher, AAAI 2025).
"""

import torch
import torch.nn.functional as F
from torch import nn

# by --model; full: published
WIDTHS = {"full": (16, 32, 64, 128), "laptop": (8, 16, 32, 64), "small": (8, 16, 32, 64)}


class UNet3D(nn.Module):
    """Probabilities (B,T,H,W) -> corrected logits (B,T,H,W); H and W of 9 pixels or more.

    Four levels; on each, two 3x3x3 convolutions with instance norm and ReLU; halved by
    max-pooling (odd sizes are rounded up), doubled by trilinear interpolation, joined with
    the skip of the same size.
    """

    def __init__(self, widths=WIDTHS["full"]):
        super().__init__()
        self.down = nn.ModuleList(
            _block(a, b) for a, b in zip((1, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            _block(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.out = nn.Conv3d(widths[0], 1, 1)

    def forward(self, probability):
        x, skips = probability[:, None], []
        for block in self.down:
            if skips:
                x = F.max_pool3d(x, 2, ceil_mode=True)
            x = block(x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = F.interpolate(x, skip.shape[2:], mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skip], dim=1))
        return self.out(x)[:, 0]


def _block(channels_in, channels_out):
    layers = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv3d(channels, channels_out, 3, padding=1),
            nn.InstanceNorm3d(channels_out, affine=True),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
