"""STeW, the spatio-temporally weighted localization loss (paper Eq. 4 and 5).

L = mean over all frames and pixels of φ · BCE, plus a Dice term over the frames with τ > 0,
all their pixels alike (or weighted by φ as well, our own). φ = τ · s: τ falls with the
distance in time from a real label, s is the consistency of the pseudo-label over
neighboring frames. The weight maps are made with the labels (datasets/labels/pseudo_labels.py);
here they only multiply.
"""

import torch
import torch.nn.functional as F


def stew_loss(logits, target, weight, dice=True, weighting="paper"):
    """Localization loss of a batch.

    logits, target, weight: (B,T,H,W); target in {0,1} or [0,1], weight φ in [0,1] (all ones
    = `interp`; one on labeled frames and zero elsewhere = `frame`). weighting `paper`
    weighs the error; `authors` multiplies the logits by φ, for BCE and Dice alike, and
    leaves the error unweighted. dice: True, False, or "weighted": every pixel of its sums
    counts by φ (with `paper` only). Returns (bce, dice) scalars; dice is 0 when off.
    """
    logits, target, weight = logits.float(), target.float(), weight.float()
    if weighting == "authors":
        logits = logits * weight
        bce = F.binary_cross_entropy_with_logits(logits, target)
        seen = torch.ones_like(weight[:, :, :1, :1])
    elif weighting == "paper":
        bce = (
            weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        ).mean()
        seen = (
            weight.amax(dim=(2, 3), keepdim=True) > 0
        ).float()  # frames with τ > 0, (B, T, 1, 1)
    else:
        raise ValueError(f"weighting must be 'paper' or 'authors', not {weighting!r}")
    if not dice:
        return bce, bce.new_zeros(())
    if dice == "weighted":
        if weighting != "paper":
            raise ValueError(
                f"Dice is weighted with weighting 'paper' alone, not {weighting!r}"
            )
        return bce, dice_loss(logits.sigmoid(), target, weight)
    return bce, dice_loss(logits.sigmoid() * seen, target * seen)


def dice_loss(probability, target, weight=1.0):
    """1 - (2 Σwpt + 1) / (Σwp + Σwt + 1) per clip, mean over the batch. All (B, ...) in
    [0,1].
    """
    p, t, both = (
        (weight * values).flatten(1).sum(1)
        for values in (probability, target, probability * target)
    )
    return (1 - (2 * both + 1) / (p + t + 1)).mean()
