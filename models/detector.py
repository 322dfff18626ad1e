"""The detector: encoder, capsules, decoder. One forward pass gives mask logits, class
scores and the latent.

encode -> (channel dropout) -> capsules -> decode -> (channel dropout) -> smooth

The two channel-dropout layers take their masks as arguments, so that training, evaluation
and MC dropout are the same code with random, absent and seeded masks.
"""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from claus.models import BACKBONES
from claus.models.capsules import POSE, ConvCaps, PrimaryCaps
from claus.models.decoder_tail import FusedTail
from claus.models.frame_conv import conv_frames, double_frames, join
from claus.models.lite import (
    FLOOR,
    FrameEncoder,
    FrameMaps,
    is_records,
    pooled,
    record_length,
)

DROPOUT = 0.5
CLASS_HEADS = ("capsule", "linear")
ClassMask = torch.Tensor | Callable[[torch.Tensor], torch.Tensor] | None


@dataclass(frozen=True)
class DetectorConfig:
    """The numbers of one network; `full` is the published one, `small` serves runs on a CPU."""

    classes: int
    width: float = 1.0  # factor on the encoder's channels, 1 = published
    capsule_types: int = 32  # primary capsule types
    kernel: int = 9  # of the primary capsules and of upsample1
    decoder: int = 64  # channels of the decoder; its last layer has twice as many
    frames: int = 8
    size: int = 224  # side of the square clip, pixels
    # decode the poses of the predicted class alone (semi-supervised training)
    class_masking: bool = False
    backbone: str = "full"  # of BACKBONES: the encoder
    # what the class scores come from. capsule: the class capsules' activations, as
    # published; linear: a linear layer on pooled features
    class_head: str = "capsule"

    def __post_init__(self):
        if self.class_head not in CLASS_HEADS:
            raise ValueError(f"no class head {self.class_head!r}; there are {CLASS_HEADS}")
        if self.backbone not in BACKBONES:
            raise ValueError(f"no backbone {self.backbone!r}; there are {', '.join(BACKBONES)}")
        frames = BACKBONES[self.backbone].temporal_strides[0]
        if self.frames != frames:
            raise ValueError(
                f"a clip has {frames} frames (the encoder's stride in time), not {self.frames}"
            )
        stride = BACKBONES[self.backbone].spatial_strides[0]
        if self.size % stride or self.size // stride < self.kernel:
            raise ValueError(
                f"clip size {self.size} must be a multiple of {stride} and leave room for "
                f"capsules of {self.kernel}x{self.kernel} after dividing by {stride}"
            )

    @property
    def latent_size(self) -> int:
        """Length of the latent: a 4x4 pose and an activation per class."""
        return self.classes * (POSE * POSE + 1)

    def to_dict(self) -> dict:
        """Its fields, as checkpoints keep them."""
        return asdict(self)


# --model -> the fields of DetectorConfig that differ from the published ones
PRESETS = {name: backbone.network for name, backbone in BACKBONES.items()}


class Features(NamedTuple):
    """What the encoder gives, before any dropout."""

    mixed_4f: torch.Tensor  # (B, 832, H/8, W/8)
    skip_56: torch.Tensor  # (B, 192, 2, H/4, W/4)
    skip_112: torch.Tensor  # (B, 64, 4, H/2, W/2)
    maps: FrameMaps | None = None  # of a frame-by-frame encoder: what the class head pools


class Detection(NamedTuple):
    """What the detector says of B clips."""

    # all float32, under bf16 autocast as well
    logits: torch.Tensor  # (B, 1, 8, H, W), foreground where >= 0
    scores: torch.Tensor  # (B, C) in (0, 1)
    # (B, 17 C): max over places of all class poses, then of all activations
    latent: torch.Tensor
    # (B, C): their softmax are the scores (linear head), or their exponentials (capsules)
    class_logits: torch.Tensor


class Detector(nn.Module):
    """Clip (B,3,8,H,W) -> Detection. Parameter names are those of the published checkpoints."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.config = config
        width = config.decoder
        self.conv1 = BACKBONES[config.backbone].encoder(config.width)
        channels_28, channels_56, channels_112 = self.conv1.channels
        self.primary_caps = PrimaryCaps(channels_28, config.capsule_types, config.kernel)
        self.conv_caps = ConvCaps(config.capsule_types, config.classes)
        self.upsample1 = nn.ConvTranspose2d(config.classes * POSE * POSE, width, config.kernel)
        self.conv28 = nn.Conv2d(channels_28, width, 3, padding=1)
        self.upsample2 = _double(2 * width, width)
        self.conv56 = nn.Conv3d(channels_56, width, 3, padding=1)
        self.upsample3 = _double(2 * width, width)
        self.conv112 = nn.Conv3d(channels_112, width, 3, padding=1)
        self.upsample4 = _double(2 * width, 2 * width)
        self.smooth = nn.ConvTranspose3d(2 * width, 1, 3, padding=1)
        stride = BACKBONES[config.backbone].spatial_strides[2]
        # pixels of a clip that a pixel of the decoder stands for, along a side
        self.enlarge = stride // 2
        side = config.size // stride
        self.tail = FusedTail(config.frames // 2, side, side)
        self.class_head: LinearHead | None = None
        if config.class_head == "linear":
            pooled_size = getattr(self.conv1, "context", channels_28)
            self.class_head = LinearHead(pooled_size, config.classes)

    @property
    def dropped_channels(self) -> tuple[int, int]:
        """Numbers that the two dropout masks drop: channels of the features, then, with a
        linear class head, what it reads; channels before the last layer.
        """
        read = self.class_head.size if self.class_head else 0
        return self.conv1.channels[0] + read, 2 * self.config.decoder

    def forward(self, clip: torch.Tensor, class_mask: ClassMask = None) -> Detection:
        """Train mode draws both channel-dropout masks at random; evaluation mode drops
        nothing.

        class_mask (B, C), a function of the scores that gives it, or None: factor on the
        class poses before decoding; where the config says class_masking, None keeps the
        predicted class alone.
        """
        features = self.encode(clip)
        mask_in, mask_out = (
            self.random_masks(len(clip), clip.device) if self.training else (None, None)
        )
        return self.head(features, mask_in, mask_out, class_mask)

    def encode(self, clip: torch.Tensor) -> Features:
        """Clip (B,3,8,H,W), or records (B,8,R) of its frames (models/lite.py) -> Features.
        Raises ValueError for another shape.
        """
        expected = (3, self.config.frames, self.config.size, self.config.size)
        if is_records(clip):
            expected = (self.config.frames, self.record_length)
        if tuple(clip.shape[1:]) != expected:
            raise ValueError(
                f"the detector takes clips of shape (B, {expected}), got {tuple(clip.shape)}"
            )
        mixed_4f, *others = self.conv1(clip)
        return Features(mixed_4f.squeeze(2), *others)

    @property
    def record_length(self) -> int:
        """Numbers of a frame's record; 0 where the encoder makes none."""
        frame_by_frame = isinstance(self.conv1, FrameEncoder)
        return record_length(self.config.size) if frame_by_frame else 0

    def head(
        self,
        features: Features,
        mask_in: torch.Tensor | None = None,
        mask_out: torch.Tensor | None = None,
        class_mask: ClassMask = None,
    ) -> Detection:
        """All after the encoder. Masks: factors (B,channels) of the dropped channels, None
        = nothing dropped.

        Features of one clip (batch 1) may meet R masks: what the masks cannot change is
        then computed once.
        """
        # (B, h, w, C, 16), (B, h, w, C)
        pose, activation = self.capsules(features.mixed_4f, mask_in)
        scores, latent = scores_and_latent(pose, activation)
        pose = self.masked(pose, scores, class_mask)
        logits = self.decode(pose, features, mask_in, mask_out)
        if self.class_head is None:
            class_logits = scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
        else:
            numbers = self.class_numbers(features, logits)
            class_logits = self.class_head(numbers, self._split(mask_in)[1])
            scores = class_logits.float().softmax(1)
        return Detection(logits, scores, latent, class_logits)

    def class_numbers(self, features: Features, logits: torch.Tensor) -> torch.Tensor:
        """What the linear class head reads of B clips, (B, class_head.size)."""
        if features.maps is not None:
            return pooled(features.maps, logits)
        return foreground_mean(features.mixed_4f, logits)

    def _split(self, mask_in):
        """Factors of the features' channels, and of what the class head reads."""
        if mask_in is None:
            return None, None
        channels = self.conv1.channels[0]
        return mask_in[:, :channels], mask_in[:, channels:]

    def masked(
        self, pose: torch.Tensor, scores: torch.Tensor, class_mask: ClassMask = None
    ) -> torch.Tensor:
        """Class poses (B,h,w,C,16) times the class mask, see forward()."""
        if class_mask is None and self.config.class_masking:
            class_mask = F.one_hot(scores.argmax(1), scores.shape[1])
        if class_mask is None:
            return pose
        factor = class_mask(scores) if callable(class_mask) else class_mask
        return pose * factor[:, None, None, :, None]

    def capsules(
        self, mixed_4f: torch.Tensor, mask_in: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B,832,H/8,W/8), channel factors (B,832) -> class poses (B,h,w,C,16),
        activations (B,h,w,C).
        """
        mask_in, _ = self._split(mask_in)
        if (
            mask_in is not None
            and len(mask_in) > len(mixed_4f)
            and mixed_4f.device.type == "cpu"
            and not torch.is_grad_enabled()
        ):  # on a GPU the plain batch keeps more of it busy (not measured)
            return self.conv_caps(*self.primary_caps.with_masks(mixed_4f, mask_in))
        return self.conv_caps(*self.primary_caps(_drop(mixed_4f, mask_in)))

    def decode(
        self,
        pose: torch.Tensor,
        features: Features,
        mask_in: torch.Tensor | None = None,
        mask_out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Class poses (B,h,w,C,16) and skips -> logits (B,1,8,H,W).

        The skips of one clip may meet R poses and masks: conv56 and conv112 and, since
        transposed convolutions are linear, their shares of upsample3 and of the last two
        layers are then computed once.
        """
        x_28 = _drop(features.mixed_4f, self._split(mask_in)[0])
        x = pose.flatten(3).permute(0, 3, 1, 2).to(x_28.dtype)  # (B, C*16, h, w)
        x = torch.cat([self.upsample1(x), self.conv28(x_28)], dim=1)  # (B, 128, H/8, W/8)
        x = join(
            double_frames(F.relu_(x).unsqueeze(2), self.upsample2.weight, self.upsample2.bias)
        )
        # (b, 64, 2, H/4, W/4)
        skip_56 = join(conv_frames(features.skip_56, self.conv56.weight, self.conv56.bias))
        frames = self._upsample3(F.relu_(x), F.relu_(skip_56))  # 4 of (B, 64, H/2, W/2)
        # 4 of (b, 64, H/2, W/2)
        skip_112 = conv_frames(features.skip_112, self.conv112.weight, self.conv112.bias)
        count = len(frames)
        if frames[0].shape[0] == skip_112[0].shape[0]:
            frames, shared = list(itertools.chain(*zip(frames, skip_112, strict=True))), None
        else:
            shared = _active_stack(skip_112, count)
        logits = self.tail(
            _active_stack(frames, count), self.upsample4, self.smooth, mask_out, shared
        )
        return enlarged(logits, self.enlarge)

    def _upsample3(self, x, skip):
        """upsample3 of x (B,64,2,...) beside skip (b,64,2,...), b = B or 1: list of 4
        frames (B,64,...).
        """
        weight, bias = self.upsample3.weight, self.upsample3.bias
        if x.shape[0] == skip.shape[0]:
            return double_frames(torch.cat([x, skip], dim=1), weight, bias)
        own, shared = (
            double_frames(x, weight[: x.shape[1]]),
            double_frames(skip, weight[x.shape[1] :], bias),
        )
        return [a.add_(b) for a, b in zip(own, shared, strict=True)]

    def random_masks(
        self, batch: int, device: torch.device | str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Channel-dropout factors, 0 or 1/(1-p): (B,832) and (B,128)."""
        keep = 1 - DROPOUT
        return tuple(
            torch.empty(batch, channels, device=device).bernoulli_(keep) / keep
            for channels in self.dropped_channels
        )


class LinearHead(nn.Module):
    """Pooled features (B,n) -> class logits (B,C): layer norm, dropout, one linear layer.

    Layer norm, for batch-norm statistics are made anew after training (engine.py).
    """

    def __init__(self, size: int, classes: int):
        super().__init__()
        self.size = size
        self.norm = nn.LayerNorm(size)
        self.linear = nn.Linear(size, classes)

    def forward(self, numbers: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """mask: factors (R,n) of the numbers, or None; one clip may meet R of them."""
        with torch.autocast(numbers.device.type, enabled=False):
            return self.linear(_drop(self.norm(numbers.float()), mask))


def foreground_mean(x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Features (B,C,h,w) -> (B,C): their mean over the foreground of the mask `logits`
    (B,1,T,S,S), of all its frames together, through which no gradient flows. The features of
    one clip may meet B masks.

    Over all places an actor of a tenth of the frame is a tenth of the mean.
    """
    foreground = logits.detach()[:, 0].float().sigmoid().mean(1, keepdim=True)  # (B,1,S,S)
    share = F.adaptive_avg_pool2d(foreground, x.shape[-2:]) + FLOOR  # (B,1,h,w)
    return (x * share).sum((2, 3)) / share.sum((2, 3))


def enlarged(logits: torch.Tensor, factor: int) -> torch.Tensor:
    """Logits (B,1,T,h,w) -> (B,1,T,factor*h,factor*w), bilinearly."""
    if factor == 1:
        return logits
    return F.interpolate(
        logits[:, 0], scale_factor=factor, mode="bilinear", align_corners=False
    )[:, None]


def scores_and_latent(
    pose: torch.Tensor, activation: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class poses (B,h,w,C,16) and activations (B,h,w,C) -> scores (B,C), the mean
    activation over places, and latent (B,17C), the maximum over places of all poses, then
    of all activations.
    """
    latent = torch.cat([pose.flatten(3), activation], dim=-1).amax(dim=(1, 2))
    return activation.mean(dim=(1, 2)), latent


def _double(channels_in, channels_out):
    """Transposed 3-D convolution that doubles time, height and width."""
    return nn.ConvTranspose3d(
        channels_in, channels_out, 3, stride=2, padding=1, output_padding=1
    )


def _active_stack(parts, frames):
    """ReLU of parts of frames, in their order -> (B,C,T,H,W), laid out as one image with
    all frames' channels.
    """
    return F.relu_(torch.cat(parts, dim=1)).unflatten(1, (frames, -1)).transpose(1, 2)


def _drop(x, mask):
    """x (B,C,...) times the channel factors (B,C); one clip may meet R rows of factors."""
    return (
        x if mask is None else x * mask.to(x.dtype).reshape(*mask.shape, *[1] * (x.dim() - 2))
    )
