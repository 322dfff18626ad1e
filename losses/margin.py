"""Class margin (spread) loss of matrix capsules (Hinton et al., ICLR 2018), with a margin
that grows over training.

Letters: B clips, C classes.
"""

import torch

FIRST_MARGIN, LAST_MARGIN = 0.2, 0.9


def margin_at(progress: float, last: float = LAST_MARGIN) -> float:
    """Margin after a share `progress` in [0,1] of training: linear from 0.2 to `last`."""
    return FIRST_MARGIN + (last - FIRST_MARGIN) * min(max(progress, 0.0), 1.0)


def margin_loss(
    scores: torch.Tensor,
    label: torch.Tensor,
    margin: float,
    counted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over the batch of Σ_{j≠y} max(0, m - (a_y - a_j))², 0-dim. scores (B,C) in (0,1),
    label (B,) int, margin m in (0,1).

    counted: (B,) bool or a weight of each clip, or None; the mean is over these clips, 0
    where there is none.
    """
    scores = scores.float()
    true = scores.gather(1, label[:, None])  # (B, 1)
    gap = torch.clamp(margin - (true - scores), min=0) ** 2  # (B, C)
    loss = gap.scatter(1, label[:, None], 0.0).sum(1)  # (B,)
    if counted is None:
        return loss.mean()
    return (loss * counted).sum() / counted.sum().clamp(min=1)
