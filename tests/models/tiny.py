"""A tiny network of every row of the table, and a batch for it."""

import numpy as np
import torch

from claus.losses.cluster import Clusters
from claus.losses.criterion import LossSettings, total_loss
from claus.models.detector import PRESETS, Detector, DetectorConfig

CLASSES = 3
SMALLER = {
    "full": {"width": 0.125, "capsule_types": 4, "kernel": 5, "decoder": 6, "size": 64},
    "s3d": {"capsule_types": 4, "kernel": 5, "decoder": 6, "size": 64},
    "small": {"decoder": 6},
    "laptop": {"decoder": 6},
}


def tiny(name, seed=0):
    """The network `name` with fewer numbers and a smaller clip."""
    torch.manual_seed(seed)
    return Detector(DetectorConfig(classes=CLASSES, **{**PRESETS[name], **SMALLER[name]}))


def batch_of(detector, clips):
    """Batch of a loader on the detector's device, and its videos' names."""
    size, g = detector.config.size, torch.Generator().manual_seed(1)
    shape = clips, detector.config.frames, size, size
    batch = {
        "clip": 2 * torch.rand(clips, 3, *shape[1:], generator=g) - 1,
        "target": (torch.rand(shape, generator=g) > 0.5).float(),
        "weight": torch.rand(shape, generator=g),
        "label": torch.arange(clips) % CLASSES,
    }
    device = detector.smooth.weight.device
    return {key: value.to(device) for key, value in batch.items()}, [
        f"v{n}" for n in range(clips)
    ]


def clusters_of(detector, names):
    centers = np.zeros((2, detector.config.latent_size), np.float32)
    assignment = {name: number % 2 for number, name in enumerate(names)}
    return Clusters(centers, [100, 100], assignment)


def loss_of(detector, batch, masks, centers, settings=None):
    """The loss of a training step."""
    detection = detector.head(detector.encode(batch["clip"]), *masks)
    settings = settings or LossSettings()
    return total_loss(detection, batch, centers, settings, 0.5)[0], detection.latent
