"""The networks. BACKBONES is the table of what --model may name.

An encoder is a module: clip (B,3,T,H,W) -> (features, middle skip, fine skip), and says in
`.channels` how many channels each of the three has; one that works frame by frame gives the
frames' maps as well (lite.py). `.pretrained()` is the part that starts from weights of
another task. Another trunk is a module of its own beside i3d.py and an entry here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from claus.models import i3d, lite, s3d


@dataclass(frozen=True)
class Backbone:
    """An encoder, and the numbers of the network around it."""

    encoder: Callable[[float], nn.Module]  # from the width: a factor on its channels
    weights: str  # pretrained ones, a file in weights/
    temporal_strides: tuple[int, int, int]  # of features, middle skip, fine skip
    spatial_strides: tuple[int, int, int]
    channels: tuple[int, int, int]  # of the same, at the width that `network` has
    clips: str  # row of datasets.clips.geometry.GEOMETRY: how its clips are cut
    sha256: str | None = None  # of the file of weights, where it is shipped
    download: str | None = None  # where the file is had; its name ends with part of its hash
    # what evaluation fills the last clip of a video with, see datasets.clips.tiles.FILLS
    fill: str = "black"
    network: Mapping[str, Any] = field(default_factory=dict)  # for DetectorConfig
    training: Mapping[str, Any] = field(default_factory=dict)  # defaults of the flags


BACKBONES = {
    # the published network; the paper prints rates, batch and λ
    "full": Backbone(
        i3d.I3D,
        "rgb_charades.pt",
        i3d.TEMPORAL_STRIDES,
        i3d.SPATIAL_STRIDES,
        (832, 192, 64),
        "full",
        training={
            "lr": 5e-4,
            "encoder_lr": None,  # as lr
            "batch_size": 8,
            "margin_weight": 1.0,
            "cluster_weight": 1e-6,
            "lr_schedule": "constant",
        },
    ),
    # the published network around another encoder, whose Kinetics weights can be had
    "s3d": Backbone(
        s3d.S3D,
        "s3d_kinetics400.pth",
        i3d.TEMPORAL_STRIDES,
        i3d.SPATIAL_STRIDES,
        s3d.CHANNELS,
        "full",
        download="https://download.pytorch.org/models/s3d-d76dad2f.pth",
        network={"backbone": "s3d"},
        training={
            "lr": 5e-4,
            "encoder_lr": None,
            "batch_size": 8,
            "margin_weight": 1.0,
            "cluster_weight": 1e-6,
            "lr_schedule": "constant",
        },
    ),
    # for runs on a CPU: the same code with other numbers, chosen on the toy videos
    "small": Backbone(
        i3d.I3D,
        "small_encoder.pt",
        i3d.TEMPORAL_STRIDES,
        i3d.SPATIAL_STRIDES,
        (208, 48, 16),
        "small",
        network={
            "backbone": "small",
            "width": 0.25,
            "capsule_types": 8,
            "kernel": 5,
            "decoder": 16,
            "size": 64,
        },
        training={
            "lr": 1e-3,
            "encoder_lr": 2e-5,
            "batch_size": 8,
            "margin_weight": 0.3,
            "cluster_weight": 1e-4,
            "lr_schedule": "cosine",
        },
    ),
    # for people without a GPU: an image network that has seen ImageNet, frozen
    "laptop": Backbone(
        lite.FrameEncoder,
        "lite2_imagenet.pt",
        lite.TEMPORAL_STRIDES,
        lite.SPATIAL_STRIDES,
        (128, 192, 48),
        "laptop",
        fill="last",  # a black frame would change what the others give
        sha256="63aa2af7142d76db0180de5cbf65d8f2aad3d68a36d6eac8594d0fa23b84c09b",
        network={
            "backbone": "laptop",
            "capsule_types": 8,
            "kernel": 5,
            "decoder": 32,
            "size": 160,
            "class_head": "linear",
        },
        training={
            "lr": 2e-3,
            "encoder_lr": 2e-4,
            "batch_size": 16,
            "margin_weight": 0.5,
            "cluster_weight": 1e-6,
            "lr_schedule": "warm-cosine",
            "class_loss": "cross-entropy",
            "weight_decay": 0.02,
            "train_encoder": False,
        },
    ),
}
