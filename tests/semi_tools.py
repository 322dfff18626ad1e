"""A network of a second's training, and a batch for it, for the tests of semi-supervised
training.
"""

import torch

from claus.models.detector import Detector, DetectorConfig
from claus.models.input import normalize

CLASSES = 3


def tiny_detector(seed=0):
    torch.manual_seed(seed)
    return Detector(
        DetectorConfig(CLASSES, width=0.125, capsule_types=4, kernel=3, decoder=4, size=32)
    )


def batch(labeled=2, unlabeled=2, seed=0):
    """Labeled clips first: a square of foreground, of which half the frames count."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.randint(
        0, 256, (labeled + unlabeled, 8, 3, 32, 32), generator=g, dtype=torch.uint8
    )
    target = torch.zeros(labeled, 8, 32, 32, dtype=torch.uint8)
    target[:, :, 8:20, 10:24] = 1
    weight = torch.ones(labeled, 8, 32, 32)
    weight[:, 4:] = 0.5
    weight[:, 7] = 0
    return {
        "frames": frames,
        "clip": normalize(frames, "-1..1"),
        "target": target,
        "weight": weight,
        "label": torch.arange(labeled) % CLASSES,
        "name": [f"video{i}" for i in range(labeled)],
        "failed": [],
    }
