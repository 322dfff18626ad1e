"""From R dropout passes to one score per frame (paper Eq. 1 and 2). Takes tensors, on any
device; torch is imported when it is called.

paper     U(p) = 1/R Σ_r -ln M(p,r) where the mean prediction is at least τ, else 0
          U_f = Σ_p U(p)
authors   mean over those pixels of -ln of the mean prediction; a frame without foreground
          scores -10
Stored beside them, so that every baseline reads the same file: mean foreground area,
entropy, local entropy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

THRESHOLD = 0.4  # τ; ours, the paper prints no number
NO_FOREGROUND = -10.0  # `authors` score of a frame without foreground
WINDOW = 5  # pixels: side of the window of the local entropy
TINY = -15.0  # logit below which ln M equals the logit to 3e-7
TINIEST = 3.0590221e-07  # M at TINY
FACTORS = 5  # as many times TINIEST is a float32: 2.7e-33
GRID = 8  # its cells along each side of the picture

SCORES = ("paper", "authors", "area", "entropy", "local_entropy")


def frame_scores(logits_R_T_H_W: "Tensor", threshold: float = THRESHOLD) -> dict[str, "Tensor"]:
    """Scores of the T frames of one clip from its R passes.

    logits_R_T_H_W: mask logits, any float dtype. Returns a dict of (T,) float64 tensors:
    `paper` and `authors` (above), `area` (share of pixels with mean prediction >=
    threshold, in [0,1]), `entropy` (mean binary entropy of the mean prediction, nats),
    `local_entropy` (see local_entropy).
    """
    import torch

    mean, surprise = mean_and_surprise(logits_R_T_H_W)  # (T, H, W)
    foreground = mean >= threshold
    pixels = foreground.sum((1, 2))  # (T,)
    inside = (-mean.clamp(min=1e-12).log() * foreground).sum((1, 2), dtype=torch.float64)
    authors = torch.where(pixels > 0, inside / pixels.clamp(min=1), NO_FOREGROUND)
    entropy = binary_entropy(mean)
    return {
        "paper": surprise.where(foreground, 0).sum((1, 2), dtype=torch.float64),
        "authors": authors,
        "area": foreground.double().mean((1, 2)),
        "entropy": entropy.mean((1, 2), dtype=torch.float64),
        "local_entropy": local_entropy(mean, entropy=entropy),
    }


def mean_and_surprise(logits_R_T_H_W: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Mean over the passes of M, and of -ln M, each float32 (T,H,W). A CPU takes one frame
    after the other, whose passes lie in its cache.
    """
    import torch
    import torch.nn.functional as F

    if logits_R_T_H_W.device.type != "cpu":
        logits = logits_R_T_H_W.float()
        return logits.sigmoid().mean(0), F.softplus(-logits).mean(0)
    means, surprises = [], []
    for logits in logits_R_T_H_W.unbind(1):
        logits = logits.float()
        probability = logits.sigmoid()
        means.append(probability.mean(0))
        surprises.append(_surprise(logits, probability))
    return torch.stack(means), torch.stack(surprises)


def _surprise(logits, probability):
    """Mean of -ln M over the passes (R,H,W) of a frame -> (H,W).

    On a CPU a logarithm takes as long as ten products, and softplus as fourteen logarithms.
    So M is multiplied over FACTORS passes before its logarithm is taken; what is so small
    that the product could vanish, M = exp(logit) to 3e-7, is added as it is.
    """
    low = (logits - TINY).clamp(max=0).sum(0)
    for some in probability.clamp(min=TINIEST).split(FACTORS):
        low += some.prod(0).log()
    return low / -len(logits)


def binary_entropy(p: "Tensor") -> "Tensor":
    """-p ln p - (1-p) ln(1-p) in nats, 0 at p = 0 and 1."""
    import torch

    if p.device.type != "cpu":
        return -torch.special.xlogy(p, p) - torch.special.xlogy(1 - p, 1 - p)
    smallest, q = torch.finfo(p.dtype).tiny, 1 - p  # 0 ln tiny = 0; xlogy is slow on a CPU
    return -(p * p.clamp(min=smallest).log()) - q * q.clamp(min=smallest).log()


def local_entropy(
    mean_T_H_W: "Tensor",
    window: int = WINDOW,
    grid: int = GRID,
    entropy: "Tensor | None" = None,
) -> "Tensor":
    """Entropy of the mean over a window minus the mean entropy in it; max per cell of a
    grid, mean over cells. (T,).

    It is high where neighboring pixels are sure of different things (Aghdam et al., ICCV
    2019, for detection). Windows are cut off at the border. entropy: binary_entropy of
    mean_T_H_W, where it is known.
    """
    import torch
    import torch.nn.functional as F

    if entropy is None:
        entropy = binary_entropy(mean_T_H_W)
    average = _average(torch.cat([mean_T_H_W, entropy]), window)
    mean, mean_of = average.split(len(mean_T_H_W))
    spread = (binary_entropy(mean) - mean_of).clamp(min=0)
    cells = F.adaptive_max_pool2d(spread[:, None], grid)[:, 0]
    return cells.mean((1, 2), dtype=torch.float64)


def _average(x, window):
    """Mean of maps (N,H,W) over windows that are cut off at the border, (N,H,W)."""
    import torch.nn.functional as F

    if x.device.type != "cpu":
        return F.avg_pool2d(
            x[:, None], window, stride=1, padding=window // 2, count_include_pad=False
        )[:, 0]
    ones = x.new_ones(1, *x.shape[1:])
    return _window_sums(x, window) / _window_sums(ones, window)


def _window_sums(x, window):
    """Sums of maps (N,H,W) over windows, along one axis and then the other: 2 * window
    numbers for each, where torch's pooling on a CPU reads window * window.
    """
    import torch.nn.functional as F

    half = window // 2
    for axis, padding in ((2, (half, half)), (1, (0, 0, half, half))):
        padded, size = F.pad(x, padding), x.shape[axis]
        x = padded.narrow(axis, 0, size).clone()
        for place in range(1, window):
            x += padded.narrow(axis, place, size)
    return x
