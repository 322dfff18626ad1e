"""EfficientNet-Lite2, an image network, frame by frame, and time mixed after it: the encoder
of `--model laptop`.

The network is that of Tan and Le (EfficientNet, ICML 2019) in its Lite variants
(https://github.com/tensorflow/tpu, models/official/efficientnet/lite): inverted residual
blocks with ReLU6, no squeeze-and-excitation, a stem and a last stage of fixed depth, and
padding as TensorFlow's SAME. It ends at its last block. Batch norm is part of the
convolution before it (weights/make_lite.py folds it in), so there is none here.

Four maps of every frame are kept, at strides 4, 8, 16 and 32. Side by side they are the
frame's *record*, R numbers in half precision; where the trunk is frozen a record never
changes, and datasets/video/feature_cache.py keeps it on disk.

Letters: B clips, T = 8 frames, N frames, S pixels a side, R numbers of a record.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

# of the features, the middle and the fine skip
TEMPORAL_STRIDES = (8, 4, 2)
SPATIAL_STRIDES = (16, 8, 4)
FRAMES = 8
# kernel, stride, expansion, channels, blocks of each stage of Lite0; Lite2 is wider and deeper
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
WIDTH, DEPTH = 1.1, 1.2
KEPT = (1, 2, 4, 6)  # stages whose last block gives a map
MAP_STRIDES = (4, 8, 16, 32)
STEM = 32  # channels
REDUCED = 64  # channels of a frame before time is mixed
FEATURES = 128  # channels after it
CEILING = 6.0  # of ReLU6
FLOOR = 1e-3  # weight of the background where features are averaged over the foreground


def scaled(channels: int) -> int:
    """Channels of a stage of Lite2: a multiple of 8, at most a tenth below the product."""
    wanted = channels * WIDTH
    rounded = int(wanted + 4) // 8 * 8
    return rounded + 8 if rounded < 0.9 * wanted else rounded


CHANNELS = [scaled(STAGES[stage][3]) for stage in KEPT]  # of the maps: 24, 48, 120, 352


class FrameMaps(NamedTuple):
    """What the trunk gives of N frames, or, with T beside B, of clips."""

    stride_4: torch.Tensor  # (N, 24, S/4, S/4)
    stride_8: torch.Tensor  # (N, 48, S/8, S/8)
    stride_16: torch.Tensor  # (N, 120, S/16, S/16)
    stride_32: torch.Tensor  # (N, 352, S/32, S/32)


class Convolution(nn.Module):
    """Convolution with bias and SAME padding, then ReLU6 unless `linear`. (N,Cin,H,W) ->
    (N,Cout,ceil(H/stride),ceil(W/stride)).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        linear: bool = False,
    ):
        super().__init__()
        shape = channels_out, channels_in // groups, kernel, kernel
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.stride, self.groups, self.linear = stride, groups, linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, padding = self.weight.shape[-1], 0
        if self.stride == 1:
            padding = kernel // 2
        else:
            x = F.pad(x, _same(x.shape[3], kernel) + _same(x.shape[2], kernel))
        y = F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return y if self.linear else y.clamp_(0.0, CEILING)


def _same(size, kernel, stride=2):
    """TensorFlow's SAME padding of one side: (before, after), the larger part after."""
    whole = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return whole // 2, whole - whole // 2


class Block(nn.Module):
    """Inverted residual: 1x1 expansion, depthwise convolution, 1x1 projection."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int
    ):
        super().__init__()
        middle = channels_in * expansion
        self.expand = nn.Identity()
        if expansion > 1:
            self.expand = Convolution(channels_in, middle, 1)
        self.depthwise = Convolution(middle, middle, kernel, stride, groups=middle)
        self.project = Convolution(middle, channels_out, 1, linear=True)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N,Cin,H,W) -> (N,Cout,H/stride,W/stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return y + x if self.residual else y


class Trunk(nn.Module):
    """Frames (N,3,S,S) in [-1,1] -> FrameMaps. S a multiple of 32."""

    def __init__(self):
        super().__init__()
        self.stem = Convolution(3, STEM, 3, stride=2)
        blocks, channels, self.ends = [], STEM, []
        for stage, (kernel, stride, expansion, unscaled, count) in enumerate(STAGES):
            fixed = stage in (0, len(STAGES) - 1)
            for number in range(count if fixed else math.ceil(count * DEPTH)):
                block_stride = stride if number == 0 else 1
                blocks.append(
                    Block(channels, scaled(unscaled), kernel, block_stride, expansion)
                )
                channels = scaled(unscaled)
            if stage in KEPT:
                self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, frames: torch.Tensor) -> FrameMaps:
        x = self.stem(frames.contiguous(memory_format=torch.channels_last))
        kept = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ends:
                kept.append(x)
        return FrameMaps(*kept)


class FrameEncoder(nn.Module):
    """The trunk, and time mixed after it: an encoder of models.BACKBONES.

    Clips (B,3,T,S,S), or records (B,T,R) of their frames -> features (B,128,1,S/16,S/16), middle
    skip (B,192,2,S/8,S/8), fine skip (B,48,4,S/4,S/4), and the FrameMaps of the clips (B,T,...)
    that the class head pools. A skip's time steps have the channels of their frames side by
    side.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        if width != 1.0:
            raise ValueError(f"the encoder has one width, 1, not {width}")
        self.trunk = Trunk()
        fine, middle, *coarse = CHANNELS
        self.reduce = nn.Conv2d(sum(coarse), REDUCED, 1)
        self.mix = nn.Conv2d(FRAMES * REDUCED, FEATURES, 3, padding=1)
        for layer in (self.reduce, self.mix):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.channels = FEATURES, middle * TEMPORAL_STRIDES[1], fine * TEMPORAL_STRIDES[2]
        self.context = CONTEXTS * sum(coarse)  # numbers that pooled() gives
        self.freeze(True)

    def freeze(self, frozen: bool) -> None:
        """Whether the trunk stays as it is in training."""
        self.trunk.requires_grad_(not frozen)

    @property
    def frozen(self) -> bool:
        return not self.trunk.stem.weight.requires_grad

    def pretrained(self) -> nn.Module:
        """The part that starts from weights of another task."""
        return self.trunk

    def forward(
        self, clip: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, FrameMaps]:
        if is_records(clip):
            maps = split_records(clip)
        else:
            maps = self.maps(clip)
        fine, middle, *coarse = maps
        coarse = [_computable(x) for x in coarse]
        features = self.mix(self._reduced(*coarse).flatten(1, 2)).relu()
        return (
            features.unsqueeze(2),
            _stacked(middle, TEMPORAL_STRIDES[1]),
            _stacked(fine, TEMPORAL_STRIDES[2]),
            FrameMaps(fine, middle, *coarse),
        )

    def maps(self, clip: torch.Tensor) -> FrameMaps:
        """Clips (B,3,T,S,S) in [-1,1] -> the FrameMaps of their frames, each (B,T,...)."""
        frames = clip.transpose(1, 2).flatten(0, 1)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.trunk(frames)
        return FrameMaps(*(x.unflatten(0, (clip.shape[0], -1)) for x in maps))

    def _reduced(self, stride_16, stride_32):
        """Both coarse maps (B,T,...) -> (B,T,64,S/16,S/16)."""
        enlarged = stride_32.repeat_interleave(2, 3).repeat_interleave(2, 4)
        coarse = torch.cat([stride_16, enlarged], 2)
        return self.reduce(coarse.flatten(0, 1)).relu().unflatten(0, coarse.shape[:2])


CONTEXTS = 4  # numbers that pooled() makes of a channel


def pooled(maps: FrameMaps, logits: torch.Tensor) -> torch.Tensor:
    """What the class is read from: the coarse maps of clips (B,T,C,h,w) -> (B,4C), C the
    channels of both maps together.

    Of every channel its mean; its maximum over places, averaged over frames; how much it
    changes from frame to frame; and its mean over the foreground of the mask `logits`
    (B,1,T,S,S), through which no gradient flows. The maps of one clip may meet B masks.
    """
    numbers = []
    foreground = logits.detach()[:, 0].float().sigmoid()  # (B,T,S,S)
    for x in maps[2:]:
        # (B,T,1,h,w)
        share = F.adaptive_avg_pool2d(foreground, x.shape[-2:])[:, :, None] + FLOOR
        numbers += [
            x.mean((1, 3, 4)),
            x.amax((3, 4)).mean(1),
            (x[:, 1:] - x[:, :-1]).abs().mean((1, 3, 4)),
            (x * share).sum((1, 3, 4)) / share.sum((1, 3, 4)),
        ]
    return torch.cat([number.expand(logits.shape[0], -1) for number in numbers], 1)


def _stacked(x, frames):
    """Maps (B,T,C,h,w) -> (B, frames * C, T / frames, h, w), laid out as frame_conv.py likes
    it, in one copy.
    """
    x = x.unflatten(1, (-1, frames)).permute(0, 1, 4, 5, 2, 3)  # channels innermost
    x = torch.empty(x.shape, dtype=_dtype(x), device=x.device).copy_(x)
    return x.flatten(4).permute(0, 4, 1, 2, 3)


def _computable(x):
    return x.to(_dtype(x))


def _dtype(x):
    """What a map is computed in: one that was kept in half precision in float32."""
    return torch.float32 if x.dtype == torch.float16 else x.dtype


# ---------------------------------------------------------------------------------- records


def map_shapes(size: int) -> list[tuple[int, int, int]]:
    """(channels, h, w) of the four maps of a frame of size x size pixels."""
    return [(c, size // s, size // s) for c, s in zip(CHANNELS, MAP_STRIDES, strict=True)]


def record_length(size: int) -> int:
    """R, numbers of a frame's record."""
    return sum(math.prod(shape) for shape in map_shapes(size))


def is_records(clips: torch.Tensor) -> bool:
    """Whether clips are records (B,T,R) of their frames, and not pictures."""
    return clips.dim() == 3


def joined(maps: FrameMaps) -> torch.Tensor:
    """FrameMaps (N,...) -> records (N,R), half precision."""
    return torch.cat([x.flatten(1).half() for x in maps], 1)


def split_records(records: torch.Tensor) -> FrameMaps:
    """Records (...,R) -> FrameMaps (...,C,h,w) of the same numbers, half precision."""
    # R = Σ C (S / stride)²
    cell = sum(c * (32 // s) ** 2 for c, s in zip(CHANNELS, MAP_STRIDES, strict=True))
    cells = math.isqrt(records.shape[-1] // cell)  # S / 32
    if cells * cells * cell != records.shape[-1]:
        raise ValueError(f"{records.shape[-1]} numbers are no record of a square frame")
    sides = [cells * 32 // stride for stride in MAP_STRIDES]
    lengths = [c * side * side for c, side in zip(CHANNELS, sides, strict=True)]
    parts = records.split(lengths, -1)
    return FrameMaps(
        *(
            part.unflatten(-1, (c, side, side))
            for part, c, side in zip(parts, CHANNELS, sides, strict=True)
        )
    )


def flipped(records: torch.Tensor) -> torch.Tensor:
    """Records (N,R) of frames -> the same with every map mirrored left to right."""
    return joined(FrameMaps(*(x.flip(-1) for x in split_records(records))))
