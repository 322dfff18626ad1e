"""The detector: I3D encoder, capsules, decoder. One forward pass gives mask logits, class scores and the latent.

encode -> (channel dropout) -> capsules -> decode -> (channel dropout) -> smooth

The two channel-dropout layers take their masks as arguments, so that training, evaluation and MC dropout are the same
code with random, absent and seeded masks.
"""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from models.capsules import POSE, ConvCaps, PrimaryCaps
from models.fused_tail import fused_tail
from models.i3d import I3D, SPATIAL_STRIDE, TEMPORAL_STRIDE

DROPOUT = 0.5


@dataclass(frozen=True)
class DetectorConfig:
    """The numbers of one network; `full` is the published one, `small` serves runs on a CPU."""

    classes: int
    width: float = 1.0          # of the I3D, 1 = published
    capsule_types: int = 32     # primary capsule types
    kernel: int = 9             # of the primary capsules and of upsample1
    decoder: int = 64           # channels of the decoder; its last layer has twice as many
    frames: int = TEMPORAL_STRIDE
    size: int = 224             # side of the square clip, pixels

    def __post_init__(self):
        if self.frames != TEMPORAL_STRIDE:
            raise ValueError(f"a clip has {TEMPORAL_STRIDE} frames (the encoder's stride in time), not {self.frames}")
        if self.size % SPATIAL_STRIDE or self.size // SPATIAL_STRIDE < self.kernel:
            raise ValueError(f"clip size {self.size} must be a multiple of {SPATIAL_STRIDE} and leave room for "
                             f"capsules of {self.kernel}x{self.kernel} after dividing by {SPATIAL_STRIDE}")

    @property
    def latent_size(self):
        """Length of the latent: a 4x4 pose and an activation per class."""
        return self.classes * (POSE * POSE + 1)

    def to_dict(self):
        return asdict(self)


PRESETS = {
    "full": {},
    "small": {"width": 0.25, "capsule_types": 8, "kernel": 5, "decoder": 16, "size": 64},
}


class Features(NamedTuple):
    """What the encoder gives, before any dropout."""

    mixed_4f: torch.Tensor      # (B, 832, H/8, W/8)
    skip_56: torch.Tensor       # (B, 192, 2, H/4, W/4)
    skip_112: torch.Tensor      # (B, 64, 4, H/2, W/2)


class Detection(NamedTuple):
    logits: torch.Tensor        # (B, 1, 8, H, W), foreground where >= 0
    scores: torch.Tensor        # (B, C) in (0, 1)
    latent: torch.Tensor        # (B, 17 C): max over places of all class poses, then of all activations


class Detector(nn.Module):
    """Clip (B,3,8,H,W) -> Detection. Parameter names are those of the published checkpoints."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.decoder
        self.conv1 = I3D(config.width)
        self.primary_caps = PrimaryCaps(self.conv1.channels_28, config.capsule_types, config.kernel)
        self.conv_caps = ConvCaps(config.capsule_types, config.classes)
        self.upsample1 = nn.ConvTranspose2d(config.classes * POSE * POSE, width, config.kernel)
        self.conv28 = nn.Conv2d(self.conv1.channels_28, width, 3, padding=1)
        self.upsample2 = _double(2 * width, width)
        self.conv56 = nn.Conv3d(self.conv1.channels_56, width, 3, padding=1)
        self.upsample3 = _double(2 * width, width)
        self.conv112 = nn.Conv3d(self.conv1.channels_112, width, 3, padding=1)
        self.upsample4 = _double(2 * width, 2 * width)
        self.smooth = nn.ConvTranspose3d(2 * width, 1, 3, padding=1)

    @property
    def dropped_channels(self):
        """Number of channels of the two channel-dropout layers."""
        return self.conv1.channels_28, 2 * self.config.decoder

    def forward(self, clip, class_mask=None):
        """Train mode draws both channel-dropout masks at random; evaluation mode drops nothing.

        class_mask (B, C) or None: factor on the class poses before decoding (semi-supervised training).
        """
        features = self.encode(clip)
        mask_in, mask_out = self.random_masks(len(clip), clip.device) if self.training else (None, None)
        return self.head(features, mask_in, mask_out, class_mask)

    def encode(self, clip):
        """Clip (B,3,8,H,W) -> Features."""
        expected = (3, self.config.frames, self.config.size, self.config.size)
        if tuple(clip.shape[1:]) != expected:
            raise ValueError(f"the detector takes clips of shape (B, {expected}), got {tuple(clip.shape)}")
        mixed_4f, skip_56, skip_112 = self.conv1(clip)
        return Features(mixed_4f.squeeze(2), skip_56, skip_112)

    def head(self, features, mask_in=None, mask_out=None, class_mask=None):
        """All after the encoder. Masks: factors (B,channels) of the dropped channels, None = nothing dropped.

        Features of one clip (batch 1) may meet R masks: what the masks cannot change is then computed once.
        """
        x_28 = _drop(features.mixed_4f, mask_in)
        pose, activation = self.capsules(x_28)                                   # (B, h, w, C, 16), (B, h, w, C)
        scores, latent = scores_and_latent(pose, activation)
        if class_mask is not None:
            pose = pose * class_mask[:, None, None, :, None]
        x = self.decode(pose, x_28, features)                                    # (B, 128, 4, H/2, W/2)
        return Detection(fused_tail(x, self.upsample4, self.smooth, mask_out), scores, latent)

    def capsules(self, x_28):
        """Dropped-out features (B,832,H/8,W/8) -> class poses (B,h,w,C,16) and activations (B,h,w,C)."""
        return self.conv_caps(*self.primary_caps(x_28))

    def decode(self, pose, x_28, features):
        """Class poses and skips -> what upsample4 takes, (B,128,4,H/2,W/2); fused_tail does the rest."""
        x = pose.flatten(3).permute(0, 3, 1, 2).to(x_28.dtype)                   # (B, C*16, h, w)
        x = F.relu(self.upsample1(x))                                            # (B, 64, H/8, W/8)
        x = _concat(x, F.relu(self.conv28(x_28))).unsqueeze(2)                   # (B, 128, 1, H/8, W/8)
        x = F.relu(self.upsample2(x))                                            # (B, 64, 2, H/4, W/4)
        x = _concat(x, F.relu(self.conv56(features.skip_56)))
        x = F.relu(self.upsample3(x))                                            # (B, 64, 4, H/2, W/2)
        return _concat(x, F.relu(self.conv112(features.skip_112)))

    def random_masks(self, batch, device):
        """Channel-dropout factors, 0 or 1/(1-p): (B,832) and (B,128)."""
        keep = 1 - DROPOUT
        return tuple(torch.empty(batch, channels, device=device).bernoulli_(keep) / keep
                     for channels in self.dropped_channels)


def scores_and_latent(pose, activation):
    """Scores (B,C): mean activation over places. Latent (B,17C): max over places of all poses, then activations."""
    latent = torch.cat([pose.flatten(3), activation], dim=-1).amax(dim=(1, 2))
    return activation.mean(dim=(1, 2)), latent


def _double(channels_in, channels_out):
    """Transposed 3-D convolution that doubles time, height and width."""
    return nn.ConvTranspose3d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)


def _concat(x, skip):
    """Join x (B,C,...) and a skip (B,C',...) along the channels; a skip of one clip serves all of x."""
    return torch.cat([x, skip.to(x.dtype).expand(len(x), *skip.shape[1:])], dim=1)


def _drop(x, mask):
    """x (B,C,...) times the channel factors (B,C); one clip may meet R rows of factors."""
    return x if mask is None else x * mask.to(x.dtype).reshape(*mask.shape, *[1] * (x.dim() - 2))
