"""The fast network and the plain one with the same random weights, for benchmarks and tests."""

import torch
from torch import nn

from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.reference.network import PlainDetector

CLASSES = 24


def pair(model="full", classes=CLASSES, seed=0, **changes):
    """(Detector, PlainDetector), both in evaluation mode; `changes` to the preset's numbers.

    Batch norm and the decoder get numbers under which every term shows in the output.
    """
    torch.manual_seed(seed)
    fast = Detector(DetectorConfig(classes, **{**PRESETS[model], **changes})).eval()
    for module in fast.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    with torch.no_grad():
        for layer in (fast.upsample1, fast.conv28, fast.upsample2, fast.upsample3):
            layer.weight *= 3
        nn.init.normal_(fast.conv_caps.beta_u)
        nn.init.normal_(fast.conv_caps.beta_a)
    plain = PlainDetector(fast.config).eval()
    plain.load_state_dict(fast.state_dict())
    return fast, plain


def clips(batch, size, seed=1):
    """Random clips (B,3,8,size,size) in [-1,1]."""
    return (
        2 * torch.rand(batch, 3, 8, size, size, generator=torch.Generator().manual_seed(seed))
        - 1
    )
