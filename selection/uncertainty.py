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

    logits = logits_R_T_H_W.float()
    probability = logits.sigmoid()
    mean = probability.mean(0)  # (T, H, W)
    foreground = mean >= threshold
    # -ln M = -x where M is tiny. On a CPU softplus takes ten times as long
    surprise = -torch.where(logits < TINY, logits, probability.log()).mean(0)  # 1/R Σ -ln M
    pixels = foreground.sum((1, 2))  # (T,)
    inside = (-mean.clamp(min=1e-12).log() * foreground).sum((1, 2), dtype=torch.float64)
    authors = torch.where(pixels > 0, inside / pixels.clamp(min=1), NO_FOREGROUND)
    return {
        "paper": surprise.where(foreground, 0).sum((1, 2), dtype=torch.float64),
        "authors": authors,
        "area": foreground.double().mean((1, 2)),
        "entropy": binary_entropy(mean).mean((1, 2), dtype=torch.float64),
        "local_entropy": local_entropy(mean),
    }


def binary_entropy(p: "Tensor") -> "Tensor":
    """-p ln p - (1-p) ln(1-p) in nats, 0 at p = 0 and 1."""
    import torch

    return -torch.special.xlogy(p, p) - torch.special.xlogy(1 - p, 1 - p)


def local_entropy(mean_T_H_W: "Tensor", window: int = WINDOW, grid: int = GRID) -> "Tensor":
    """Entropy of the mean over a window minus the mean entropy in it; max per cell of a
    grid, mean over cells. (T,).

    It is high where neighboring pixels are sure of different things (Aghdam et al., ICCV
    2019, for detection). Windows are cut off at the border.
    """
    import torch
    import torch.nn.functional as F

    def average(x):
        return F.avg_pool2d(
            x[:, None], window, stride=1, padding=window // 2, count_include_pad=False
        )[:, 0]

    of_mean = binary_entropy(average(mean_T_H_W))
    mean_of = average(binary_entropy(mean_T_H_W))
    spread = (of_mean - mean_of).clamp(min=0)
    cells = F.adaptive_max_pool2d(spread[:, None], grid)[:, 0]
    return cells.mean((1, 2), dtype=torch.float64)
