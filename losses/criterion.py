"""The sum of the losses: L = L_cluster + L_loc + L_cls (Eq. 6), and what is set in it.

The fields of LossSettings make the flags of the training scripts: a field's metadata has
the flag's words for --help, its choices and, where it is not the field's own, its name. A
new term is its own module beside this one, a line in total_loss and a field here.

Letters: B clips, T frames of S x S pixels, D numbers of a latent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from claus.losses.classes import CLASS_LOSSES, class_loss
from claus.losses.cluster import LAMBDA, cluster_loss
from claus.losses.margin import LAST_MARGIN
from claus.losses.stew import DICE, WEIGHTINGS, stew_loss


class Detected(Protocol):
    """What the losses look at of a detector's output."""

    logits: torch.Tensor  # (B,1,T,S,S)
    scores: torch.Tensor  # (B,C) in (0,1)
    latent: torch.Tensor  # (B,D)
    class_logits: torch.Tensor  # (B,C), for the cross-entropy


def _setting(default, words, **more):
    return field(default=default, metadata={"help": words, **more})


@dataclass(frozen=True)
class LossSettings:
    """Weights and switches of the loss."""

    dice: str = _setting(
        "plain",
        "Dice term beside the BCE, which the field's code has and the paper does not. "
        "plain: every frame within eight of a label counts alike; weighted: by STeW's φ "
        "(ours); none: the paper's loss",
        choices=DICE,
    )
    weighting: str = _setting(
        "paper",
        "where STeW's φ enters: the error (Eq. 5), or the logits, as in the published code",
        choices=WEIGHTINGS,
        hidden=True,  # --authors sets it
    )
    localization_weight: float = _setting(
        1.0, "weight of BCE and Dice together", flag="--loc-weight"
    )
    margin_weight: float = _setting(1.0, "weight of the class loss")
    class_loss: str = _setting(
        "margin",
        "what teaches the class. margin: the margin loss, summed over the rivals "
        "(published); mean-margin: its mean over them; cross-entropy",
        choices=CLASS_LOSSES,
    )
    cluster_weight: float = _setting(LAMBDA, "λ of the cluster loss (Eq. 3)")
    last_margin: float = _setting(
        LAST_MARGIN,
        "margin at the end of training, which rises from 0.2",
        hidden=True,  # --authors sets it
    )


def total_loss(
    detection: Detected,
    batch: Mapping[str, torch.Tensor],
    centers: torch.Tensor,
    settings: LossSettings,
    progress: float,
    clips: float = 1.0,
    actions: float = 1.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Sum of the losses of one batch, and its terms by name (0-dim tensors, unweighted but
    for `cluster` and `total`).

    batch: target, weight (B,T,S,S), label (B,). centers (B,D): the center of each clip's
    video. progress in [0,1]. clips, actions: the share of the whole batch's clips, and of
    its clips that show action, which this part of it has. Each term is a mean over the one
    or the other (`cluster`: a sum), so the parts' terms add up to the whole batch's.
    """
    bce, dice = stew_loss(
        detection.logits[:, 0],
        batch["target"],
        batch["weight"],
        settings.dice,
        settings.weighting,
    )
    counted = shows_action(batch)
    margin = class_loss(
        detection, batch["label"], settings.class_loss, progress, settings.last_margin, counted
    )
    cluster = cluster_loss(detection.latent, centers, settings.cluster_weight)
    bce, dice, margin = clips * bce, clips * dice, actions * margin
    localization = settings.localization_weight * (bce + dice)
    total = localization + settings.margin_weight * margin + cluster
    terms = {
        "total": total,
        "bce": bce,
        "dice": dice,
        CLASS_LOSSES[settings.class_loss]: margin,
        "cluster": cluster,
    }
    return total, terms


def shows_action(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Which clips (B,) have any foreground in their labels, bool; one without has no class
    to learn from.
    """
    return batch["target"].flatten(1).amax(1) > 0  # any() takes ten times as long
