"""On a pretended card nothing of a training step's forward and backward pass and of a scored
tile makes the host wait, and the number of launches does not grow with the batch.
"""

import pytest
import torch
from no_waits import no_waits, pretended_cuda
from tiny import batch_of, clusters_of, loss_of, tiny

from claus.losses.criterion import LossSettings
from claus.models import BACKBONES
from claus.models.mc_dropout import mc_forward, seeded_masks

NETWORKS = tuple(BACKBONES)


def training_step(detector, clips, amp=True, settings=None):
    """Seen of a forward and a backward pass on the card, and of the clusters that follow."""
    batch, names = batch_of(detector, clips)
    clusters = clusters_of(detector, names)
    detector.train()
    detector.zero_grad()
    with no_waits() as seen:
        masks = detector.random_masks(clips, "cuda")
        centers = clusters.of(names, "cuda")
        with torch.autocast("cuda", torch.bfloat16, enabled=amp):
            loss, latent = loss_of(detector, batch, masks, centers, settings)
        loss.backward()
        clusters.follow(names, latent)
        clusters.of(names, "cuda")
    assert all(p.grad.is_cuda for p in detector.parameters() if p.grad is not None)
    assert any(p.grad is not None for p in detector.parameters())
    return seen


def scored_tile(detector, passes, amp=True):
    clip = batch_of(detector, 1)[0]["clip"]
    detector.eval()
    with no_waits() as seen, torch.autocast("cuda", torch.bfloat16, enabled=amp):
        masks = seeded_masks(detector, 0, "v", 0, 0, passes)
        masks = [mask.to("cuda", non_blocking=True) for mask in masks]
        logits, _ = mc_forward(detector, clip, *masks)
    assert logits.is_cuda and len(logits) == passes
    return seen


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_and_a_scored_tile_do_not_wait(name):
    with pretended_cuda():
        detector = tiny(name).to("cuda")
        assert training_step(detector, 2).operators.total() > 100
        assert scored_tile(detector, 3).operators.total() > 100


def test_other_losses_do_not_wait_either():
    settings = LossSettings(class_loss="cross-entropy", dice="weighted")
    with pretended_cuda():
        training_step(tiny("laptop").to("cuda"), 2, amp=False, settings=settings)


def test_launches_do_not_grow_with_the_batch():
    """Training and scoring: as many operators for five clips, or passes, as for two."""
    with pretended_cuda():
        detector = tiny("laptop").to("cuda")
        few, many = (training_step(detector, clips).operators for clips in (2, 5))
        assert few == many
        few, many = (scored_tile(detector, passes).operators for passes in (2, 5))
        assert few == many
    assert few["aten.convolution.default"] < 100
