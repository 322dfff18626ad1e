"""The averaged teacher (Tarvainen & Valpola, Mean Teachers, NeurIPS 2017)."""

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY = 0.99


class Teacher(AveragedModel):
    """Exponential average of a network's weights, begun at its weights as they are now.

    .module is the averaged network. follow(network) after every step: θ' ← decay θ' +
    (1-decay) θ. Buffers (batch norm's averages) are the network's own. Its parameters take
    no gradient.
    """

    def __init__(self, network, decay=DECAY):
        super().__init__(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.requires_grad_(False)
        self.n_averaged.fill_(1)  # else the first update would forget the weights it began with

    follow = AveragedModel.update_parameters


@torch.no_grad()
def teach(detector, clip, class_mask=None):
    """Detection of a teacher without channel dropout; batch norm as the mode of `detector`
    says.
    """
    return detector.head(detector.encode(clip), class_mask=class_mask)
