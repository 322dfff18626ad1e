"""The loss of the class, in three forms.

Letters: B clips, C classes.
"""

from typing import Protocol

import torch
import torch.nn.functional as F

from claus.losses.margin import LAST_MARGIN, margin_at, margin_loss

# form -> name of its term in logs
CLASS_LOSSES = {
    "margin": "margin",
    "mean-margin": "margin",
    "cross-entropy": "cross-entropy",
}
SMOOTHING = 0.1  # of the true class, towards all classes alike


class Classified(Protocol):
    """What is looked at of a detector's output."""

    scores: torch.Tensor  # (B,C) in (0,1)
    class_logits: torch.Tensor  # (B,C)


def class_loss(
    detection: Classified,
    label: torch.Tensor,
    form: str,
    progress: float = 0.0,
    last_margin: float = LAST_MARGIN,
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over the batch of the class loss, 0-dim. label (B,) int; form: of CLASS_LOSSES.

    margin: the published one, summed over the C - 1 rivals (margin.py; progress and
    last_margin as there). mean-margin: divided by C - 1, so that many classes do not drown
    the mask's loss. cross-entropy: of the class logits, labels smoothed by .1. counted: (B,)
    bool, or a weight of each clip, or None; the mean is over these clips, 0 where there is
    none.
    """
    if form not in CLASS_LOSSES:
        raise ValueError(f"no class loss {form!r}; there are {', '.join(CLASS_LOSSES)}")
    if form == "cross-entropy":
        losses = F.cross_entropy(
            detection.class_logits.float(), label, reduction="none", label_smoothing=SMOOTHING
        )
        if counted is None:
            return losses.mean()
        return (losses * counted).sum() / counted.sum().clamp(min=1)
    loss = margin_loss(detection.scores, label, margin_at(progress, last_margin), counted)
    if form == "mean-margin":
        loss = loss / max(detection.scores.shape[1] - 1, 1)
    return loss
