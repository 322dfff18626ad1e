"""STeW, the spatio-temporally weighted localization loss: the weights and the loss.

    φ = τ · s                                     weight of a pixel of a frame
    τ = max over labeled frames a of exp(-(f - a)² / 2σ²)               Eq. 4, temporal
    s = how steadily the pseudo-label says the same of the pixel        Eq. 5, spatial
    L = mean over all frames and pixels of φ · BCE

The paper prints neither τ's form nor σ, the window of s, or the reach: these are ours. So
is the Dice term beside the BCE, which the published code has and the paper does not.

The weights are made with the labels, in NumPy; the loss multiplies them in, in PyTorch.
Only the loss imports torch.

Letters: T frames of a clip, H x W pixels, B clips.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch

SIGMA = 8 / 3  # of τ, video frames
REACH = 8  # beyond this many video frames τ is 0
FAR = 2**31  # distance to a label where there is none
WINDOW = 2  # s looks at this many sampled frames to each side
P_LOW, P_HIGH = 0.1, 0.9  # the mean label from which a pixel counts as settled (Eq. 5)

PSEUDO_LABEL_LOSSES = ("stew", "interp", "frame")
WEIGHTINGS = ("paper", "authors")
DICE = ("plain", "weighted", "none")


# --------------------------------------------------------------------------------- weights


def label_distance(labeled: NDArray, frames: ArrayLike) -> NDArray:
    """Distance of each frame (T,) to the nearest labeled frame, in video frames, int; FAR
    where none is labeled. `labeled` (n,) is sorted.
    """
    frames = np.asarray(frames)
    if not len(labeled):
        return np.full(len(frames), FAR)
    at = np.searchsorted(labeled, frames)
    before = labeled[np.maximum(at - 1, 0)]
    after = labeled[np.minimum(at, len(labeled) - 1)]
    return np.minimum(np.abs(frames - before), np.abs(after - frames))


def temporal_weight(distance: ArrayLike, sigma: float = SIGMA, reach: int = REACH) -> NDArray:
    """τ (T,) in [0,1] at these distances from a label, video frames (Eq. 4):
    exp(-d² / 2σ²), and 0 beyond `reach`.
    """
    distance = np.asarray(distance, np.float64)
    return np.where(distance <= reach, np.exp(-(distance**2) / (2 * sigma**2)), 0.0)


def consistency(
    masks_T_H_W: ArrayLike, on_label_T: ArrayLike, rule: str = "paper", window: int = WINDOW
) -> NDArray:
    """s (T,H,W) float32 in [0,1] of a clip's pseudo-labels {0,1} (Eq. 5).

    m is the mean label over the clip's frames t-window … t+window that exist. `paper`:
    s = m, but 1 where m ≤ 0.1 or m ≥ 0.9. `authors`: s = 1 only where m = 0, and the window
    is the whole clip for t ≥ 2, the last two frames for t = 0, the last for t = 1. A labeled
    frame has s = 1 everywhere. Raises ValueError for another rule.
    """
    return _weigh(masks_T_H_W, np.ones(len(on_label_T)), on_label_T, rule, window)


def clip_weight(
    masks_T_H_W: ArrayLike,
    labeled: NDArray,
    frames: ArrayLike,
    loss: str = "stew",
    rule: str = "paper",
) -> NDArray:
    """φ (T,H,W) float32 in [0,1] of a clip's pseudo-labels {0,1} at video frames `frames`.

    loss: `stew` τ·s; `interp` 1 everywhere; `frame` 1 on labeled frames, 0 elsewhere. All
    0 without any label. Raises ValueError for another loss or rule.
    """
    distance = label_distance(labeled, frames)
    shape = np.shape(masks_T_H_W)
    if loss == "interp":
        return np.full(shape, len(labeled) > 0, np.float32)
    if loss == "frame":
        return np.broadcast_to((distance == 0)[:, None, None], shape).astype(np.float32)
    if loss != "stew":
        raise ValueError(f"loss must be 'stew', 'interp' or 'frame', not {loss!r}")
    return _weigh(masks_T_H_W, temporal_weight(distance), distance == 0, rule)


def _weigh(masks_T_H_W, tau_T, on_label_T, rule, window=WINDOW):
    """φ = τ·s (T,H,W) float32: looked up by how many frames of its window say 1 of a pixel,
    T numbers at most.
    """
    masks, length = np.asarray(masks_T_H_W), len(masks_T_H_W)
    low, high, steady = _windows(length, rule, window)
    count = np.uint8 if length < 256 else np.int64
    total = np.zeros((length + 1, *masks.shape[1:]), count)  # of the frames before t
    for t in range(length):  # much faster than cumsum along time
        np.add(total[t], masks[t], out=total[t + 1], casting="unsafe")
    ones = total[high] - total[low]
    s = np.where(np.asarray(on_label_T)[:, None], 1, steady)
    table = (np.asarray(tau_T)[:, None] * s).astype(np.float32)
    weight = np.empty(masks.shape, np.float32)
    for t in range(length):
        table[t].take(ones[t], out=weight[t], mode="clip")
    return weight


@functools.lru_cache(maxsize=16)
def _windows(length, rule, window):
    """Windows of a clip's frames, [low, high), and s of a pixel of which n frames of the
    window say 1: (T, length+1).
    """
    times = np.arange(length)
    if rule == "paper":
        low, high = np.maximum(times - window, 0), np.minimum(times + window + 1, length)
    elif rule == "authors":
        low = np.where(times < window, length - window + times, 0)
        high = np.full(length, length)
    else:
        raise ValueError(f"rule must be 'paper' or 'authors', not {rule!r}")
    mean = np.arange(length + 1) / (high - low)[:, None]
    settled = (mean <= P_LOW) | (mean >= P_HIGH) if rule == "paper" else mean == 0
    return low, high, np.where(settled, 1, mean)


# ------------------------------------------------------------------------------------ loss


def stew_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor,
    dice: str = "plain",
    weighting: str = "paper",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Localization loss of a batch: (bce, dice), both 0-dim, dice 0 where it is off.

    logits, target, weight: (B,T,H,W); target in {0,1} or [0,1], weight φ in [0,1] (all ones
    = `interp`; one on labeled frames and zero elsewhere = `frame`).
    weighting `paper` weighs the error; `authors` multiplies the logits by φ, for BCE and
    Dice alike, and leaves the error unweighted.
    dice `plain`: every pixel of the frames with τ > 0 counts alike; `weighted`: by φ (ours,
    with weighting `paper` alone); `none`: no Dice term, the paper's loss.
    Raises ValueError for other values.
    """
    from claus.losses.cross_entropy import binary_cross_entropy

    if dice not in DICE:
        raise ValueError(f"dice must be 'plain', 'weighted' or 'none', not {dice!r}")
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting must be 'paper' or 'authors', not {weighting!r}")
    if dice == "weighted" and weighting != "paper":
        raise ValueError(f"Dice is weighted with weighting 'paper' alone, not {weighting!r}")
    logits, target, weight = logits.float(), target.float(), weight.float()
    if weighting == "authors":
        logits = logits * weight
        bce = binary_cross_entropy(logits, target).mean()
    else:
        bce = (weight * binary_cross_entropy(logits, target)).mean()
    if dice == "none":
        return bce, bce.new_zeros(())
    if dice == "weighted":
        return bce, dice_loss(logits.sigmoid(), target, weight)
    near = weight.amax(dim=(2, 3), keepdim=True) > 0  # frames with τ > 0, (B,T,1,1)
    seen = near.float() if weighting == "paper" else near.new_ones(near.shape).float()
    return bce, dice_loss(logits.sigmoid() * seen, target * seen)


def dice_loss(
    probability: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """1 - (2 Σwpt + 1) / (Σwp + Σwt + 1) per clip, mean over the batch, 0-dim in [0,1).

    All (B, ...) in [0,1]; the sums are over everything but the clips.
    """
    p = (weight * probability).flatten(1).sum(1)
    t = (weight * target).flatten(1).sum(1)
    both = (weight * (probability * target)).flatten(1).sum(1)
    return (1 - (2 * both + 1) / (p + t + 1)).mean()
