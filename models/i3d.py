"""I3D (Carreira & Zisserman, CVPR 2017) up to Mixed_4f, with the two strides the detector
changes.

Conv3d_2c_3x3 and MaxPool3d_4a_3x3 have stride (2,1,1) instead of (1,1,1) and (2,2,2), so a
clip of 8 frames ends at one time step and 1/8 of its side. Module and parameter names are
those of the public PyTorch port of the Charades weights (`Conv3d_1a_7x7.conv3d.weight`,
`Mixed_4f.b1b.bn.running_mean`, ...), so `rgb_charades.pt` loads by name.

Convolutions run frame by frame (models/frame_conv.py). In evaluation mode batch norm is part of
the convolution before it,

    γ (K*x - mean) / √(var + ε) + β = (s K)*x + (β - s mean),   s = γ / √(var + ε),

computed from the parameters at every call (they are few beside the arithmetic), so that
nothing can be out of date.
"""

import torch
import torch.nn.functional as F
from torch import nn

from claus.models.frame_conv import conv_frames, join, pointwise, pool_frames

# of mixed_4f, skip_56, skip_112
TEMPORAL_STRIDES = (8, 4, 2)
SPATIAL_STRIDES = (8, 4, 2)

# branch widths: 1x1 | 1x1 -> 3x3x3 | 1x1 -> 3x3x3 | pool -> 1x1
INCEPTION_WIDTHS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
}


class Unit3D(nn.Module):
    """Convolution with same-padding, batch norm (eps 1e-3), ReLU. (B,Cin,T,H,W) ->
    (B,Cout,T/st,H/sh,W/sw).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: tuple[int, int, int] = (1, 1, 1),
        stride: tuple[int, int, int] = (1, 1, 1),
    ):
        super().__init__()
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(channels_out, eps=1e-3, momentum=0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu_(self.linear(x))

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """All but the ReLU; same shapes."""
        if self.bn.training:
            return self.bn(self._convolve(x))
        scale = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        return self._convolve(x, self.bn.bias - scale * self.bn.running_mean, scale)

    def _convolve(self, x, bias=None, scale=None):
        if self.conv3d.kernel_size == (1, 1, 1):
            return pointwise(x, self.conv3d.weight, bias, scale)
        return join(conv_frames(x, self.conv3d.weight, bias, self.conv3d.stride, scale))


class MaxPoolSame(nn.Module):
    """Max-pooling with same-padding by zeros (its inputs are never negative):
    (B,C,T,H,W) -> (B,C,T/st,H/sh,W/sw).
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return pool_frames(x, self.kernel, self.stride)


class Inception(nn.Module):
    """Four parallel branches, concatenated: (B,Cin,T,H,W) -> (B,w0+w2+w4+w5,T,H,W)."""

    def __init__(self, channels_in: int, widths: tuple[int, ...]):
        super().__init__()
        w0, w1a, w1b, w2a, w2b, w3 = widths
        self.b0 = Unit3D(channels_in, w0)
        self.b1a = Unit3D(channels_in, w1a)
        self.b1b = Unit3D(w1a, w1b, (3, 3, 3))
        self.b2a = Unit3D(channels_in, w2a)
        self.b2b = Unit3D(w2a, w2b, (3, 3, 3))
        self.b3a = MaxPoolSame((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(channels_in, w3)
        self.channels_out = w0 + w1b + w2b + w3

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = (
            (self.b0, x),
            (self.b1b, self.b1a(x)),
            (self.b2b, self.b2a(x)),
            (self.b3b, self.b3a(x)),
        )
        outputs = [last.linear(y) for last, y in branches]
        return F.relu_(torch.cat(outputs, dim=1))  # one ReLU keeps one result


class I3D(nn.Module):
    """Clip (B,3,T,H,W) -> (mixed_4f (B,C4f,T/8,H/8,W/8), skip_56 (B,C2c,T/4,H/4,W/4),
    skip_112 (B,C1a,T/2,H/2,W/2)).

    The skips are named after their size for a 224-pixel clip. `width` scales every channel
    count: 1 is the published network (C4f, C2c, C1a = 832, 192, 64).
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        scaled = [round(w * width) for w in (64, 64, 192)]
        self.Conv3d_1a_7x7 = Unit3D(3, scaled[0], (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = MaxPoolSame((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(scaled[0], scaled[1])
        self.Conv3d_2c_3x3 = Unit3D(scaled[1], scaled[2], (3, 3, 3), (2, 1, 1))
        self.MaxPool3d_3a_3x3 = MaxPoolSame((1, 3, 3), (1, 2, 2))
        self.MaxPool3d_4a_3x3 = MaxPoolSame((3, 3, 3), (2, 1, 1))
        channels = scaled[2]
        for name, widths in INCEPTION_WIDTHS.items():
            block = Inception(channels, [round(w * width) for w in widths])
            self.add_module(name, block)
            channels = block.channels_out
        self.channels = channels, scaled[2], scaled[0]  # of the outputs of forward()

    def pretrained(self) -> nn.Module:
        """The part that starts from weights of another task: all of it."""
        return self

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        skip_112 = self.Conv3d_1a_7x7(clip)  # (B, 64, T/2, H/2, W/2)
        x = self.Conv3d_2b_1x1(self.MaxPool3d_2a_3x3(skip_112))  # (B, 64, T/2, H/4, W/4)
        skip_56 = self.Conv3d_2c_3x3(x)  # (B, 192, T/4, H/4, W/4)
        x = self.Mixed_3b(self.MaxPool3d_3a_3x3(skip_56))  # (B, 256, T/4, H/8, W/8)
        x = self.Mixed_3c(x)  # (B, 480, T/4, H/8, W/8)
        x = self.MaxPool3d_4a_3x3(x)  # (B, 480, T/8, H/8, W/8)
        for name in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
            x = getattr(self, name)(x)
        return x, skip_56, skip_112  # (B, 832, T/8, H/8, W/8)
