"""S3D (Xie et al., Rethinking spatiotemporal feature learning, ECCV 2018) up to its block 4f,
as torchvision has it, with I3D's two changed strides: the encoder of `--model s3d`.

It is I3D with every 3-D convolution split into one over space and one over time, and torchvision
has weights of Kinetics-400 for it. Parameter names are torchvision's (`features.0.0.0.weight`,
...), so its file loads by name.
"""

import torch
from torch import nn
from torchvision.models.video import s3d

# how torchvision's weights saw colors, in [0, 1]
MEAN = (0.43216, 0.394666, 0.37645)
DEVIATION = (0.22803, 0.22145, 0.216989)
BLOCKS = 13  # of torchvision's `features`, up to 4f
FINE, MIDDLE = 0, 3  # blocks whose outputs are the skips
# blocks with I3D's strides in place of their own
SECOND, THIRD = 3, 7
CHANNELS = (832, 192, 64)


class S3D(nn.Module):
    """Clip (B,3,T,H,W) in [-1,1] -> (features (B,832,T/8,H/8,W/8), middle skip
    (B,192,T/4,H/4,W/4), fine skip (B,64,T/2,H/2,W/2)).
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        if width != 1.0:
            raise ValueError(f"the encoder has one width, 1, not {width}")
        self.features = s3d(weights=None).features[:BLOCKS]
        self.features[SECOND][1][0].stride = (2, 1, 1)  # its convolution over time
        self.features[THIRD].stride = (2, 1, 1)
        self.channels = CHANNELS
        # [-1, 1] -> what the weights were trained on: x · scale + shift
        mean, deviation = (torch.tensor(x).view(3, 1, 1, 1) for x in (MEAN, DEVIATION))
        self.register_buffer("scale", 0.5 / deviation, persistent=False)
        self.register_buffer("shift", (0.5 - mean) / deviation, persistent=False)

    def pretrained(self) -> nn.Module:
        """The part that starts from weights of another task: all of it."""
        return self

    def forward(self, clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, kept = clip * self.scale + self.shift, {}
        for number, block in enumerate(self.features):
            x = block(x)
            if number in (FINE, MIDDLE):
                kept[number] = x
        return x, kept[MIDDLE], kept[FINE]
