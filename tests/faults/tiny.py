"""A backbone of a few tensors: the whole detector, its training and its files, in a fiftieth of
the time that a file of 530 tensors takes.
"""

import torch
from torch import nn

from claus import models
from claus.models import detector, i3d

NAME = "tiny"


class Encoder(nn.Module):
    """Clip -> (features, middle skip, fine skip), see claus.models."""

    channels = (4, 3, 2)

    def __init__(self, width: float = 1.0):
        super().__init__()
        self.fine = nn.Conv3d(3, 2, 2, stride=2)
        self.middle = nn.Conv3d(2, 3, 2, stride=2)
        self.last = nn.Conv3d(3, 4, 2, stride=2)
        self.bn = nn.BatchNorm3d(4)

    def pretrained(self):
        return self

    def forward(self, clip):
        fine = torch.relu(self.fine(clip))
        middle = torch.relu(self.middle(fine))
        return torch.relu(self.bn(self.last(middle))), middle, fine


def add():
    """From now on `--model tiny` is one of this process."""
    network = {
        "backbone": NAME,
        "capsule_types": 2,
        "kernel": 5,
        "decoder": 2,
        "size": 64,
    }
    models.BACKBONES[NAME] = models.Backbone(
        Encoder,
        "none.pt",
        i3d.TEMPORAL_STRIDES,
        i3d.SPATIAL_STRIDES,
        Encoder.channels,
        "small",
        network=network,
        training=models.BACKBONES["small"].training,
    )
    detector.PRESETS[NAME] = network
