"""The localization loss against loops over every pixel, and its limits by hand."""

import math

import numpy as np
import pytest
import torch

from claus.losses.stew import consistency, dice_loss, stew_loss


def random_batch(seed=0, shape=(2, 4, 3, 5)):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(shape, generator=generator)
    target = (torch.rand(shape, generator=generator) < 0.4).float()
    weight = torch.rand(shape, generator=generator)
    weight[0, 1], weight[1, 3] = 0, 0  # two frames far from any label
    return logits, target, weight


def slow_loss(logits, target, weight, weighting):
    """BCE and Dice by loops, from p = sigmoid(logit)."""
    shape = logits.shape
    total = 0.0
    sums = [[0.0, 0.0, 0.0] for _ in range(shape[0])]
    for b, t, y, x in torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        phi, z, truth = (float(value[b, t, y, x]) for value in (weight, logits, target))
        p = 1 / (1 + math.exp(-z * (phi if weighting == "authors" else 1)))
        error = -truth * math.log(p) - (1 - truth) * math.log(1 - p)
        total += error * (1 if weighting == "authors" else phi)
        if weighting == "authors" or bool((weight[b, t] > 0).any()):
            sums[b] = [s + add for s, add in zip(sums[b], (p * truth, p, truth), strict=True)]
    dice = sum(1 - (2 * pt + 1) / (p + t + 1) for pt, p, t in sums) / shape[0]
    return total / logits.numel(), dice


@pytest.mark.parametrize("weighting", ["paper", "authors"])
def test_against_loops(weighting):
    batch = random_batch()
    bce, dice = stew_loss(*batch, weighting=weighting)
    slow_bce, slow_dice = slow_loss(*batch, weighting)
    assert bce.item() == pytest.approx(slow_bce, rel=1e-5)
    assert dice.item() == pytest.approx(slow_dice, rel=1e-5)


def test_a_pixel_by_hand():
    zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    bce, dice = stew_loss(
        zero, one, 0.25 * one
    )  # p = ½: BCE ln 2; Dice 1 - (2·½ + 1) / (½ + 1 + 1)
    assert bce.item() == pytest.approx(0.25 * math.log(2)) and dice.item() == pytest.approx(0.2)
    bce, dice = stew_loss(one, one, 0.5 * one, weighting="authors")
    p = 1 / (1 + math.exp(-0.5))
    assert bce.item() == pytest.approx(-math.log(p)) and dice.item() == pytest.approx(
        1 - (2 * p + 1) / (p + 2)
    )


def test_the_mean_is_over_all_pixels_also_those_of_weight_0():
    logits, target = torch.zeros(1, 8, 2, 2), torch.zeros(1, 8, 2, 2)
    weight = torch.zeros(1, 8, 2, 2)
    weight[:, 3] = 1  # the `frame` ablation: one labeled frame of eight
    assert stew_loss(logits, target, weight)[0].item() == pytest.approx(math.log(2) / 8)
    assert stew_loss(logits, target, torch.ones_like(weight))[0].item() == pytest.approx(
        math.log(2)
    )


def test_dice_sees_only_frames_near_a_label():
    logits, target, weight = random_batch()
    _, dice = stew_loss(logits, target, weight)
    logits[0, 1], target[0, 1] = 9, 0  # as wrong as can be, where the weight is 0
    assert stew_loss(logits, target, weight)[1].item() == pytest.approx(dice.item())
    weight[0, 1, 0, 0] = 1e-3
    assert stew_loss(logits, target, weight)[1].item() > dice.item() + 0.05


def test_dice_does_not_depend_on_the_size_of_the_weight():
    logits, target, weight = random_batch()
    assert (
        stew_loss(logits, target, weight)[1].item()
        == stew_loss(logits, target, weight / 10)[1].item()
    )


def test_no_label_near_no_loss_and_no_gradient():
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    bce, dice = stew_loss(logits, torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    (bce + dice).backward()
    assert bce.item() == 0 and dice.item() == 0 and not logits.grad.any()


def test_dice_of_each_clip_counts_alike():
    target = torch.zeros(2, 1, 4, 4)
    target[0], target[1, 0, 0, 0] = 1, 1  # 16 pixels of foreground, and one
    right, wrong = target[:1], 1 - target[:1]
    large_wrong = dice_loss(torch.cat([wrong, target[1:]]), target)
    assert large_wrong.item() == pytest.approx((1 - 1 / 17) / 2)  # mean of 16/17 and 0
    small_missed = dice_loss(torch.cat([right, torch.zeros(1, 1, 4, 4)]), target)
    assert small_missed.item() == pytest.approx((1 - 1 / 2) / 2)


def test_dice_can_be_left_out():
    batch = random_batch()
    for weighting in ("paper", "authors"):
        bce, dice = stew_loss(*batch, dice="none", weighting=weighting)
        assert (
            dice.item() == 0 and bce.item() == stew_loss(*batch, weighting=weighting)[0].item()
        )


def test_weighted_dice_counts_pixels_by_their_weight():
    logits, target, weight = random_batch()
    probability = logits.double().sigmoid()
    expected = [
        1 - (2 * (w * p * t).sum() + 1) / ((w * p).sum() + (w * t).sum() + 1)
        for p, t, w in zip(probability, target.double(), weight.double(), strict=True)
    ]
    bce, dice = stew_loss(logits, target, weight, dice="weighted")
    assert dice.item() == pytest.approx(sum(expected).item() / len(expected), abs=1e-6)
    assert bce.item() == stew_loss(logits, target, weight)[0].item()
    hard = (weight > 0.5).float()  # where φ is 0 or 1 in whole frames it is the plain one
    hard = hard[:, :, :1, :1].expand_as(hard)
    weighted, plain = (
        stew_loss(logits, target, hard, dice)[1].item() for dice in ("weighted", "plain")
    )
    assert weighted == pytest.approx(plain)
    with pytest.raises(ValueError, match="'paper' alone"):
        stew_loss(logits, target, weight, "weighted", "authors")


def test_the_authors_gradient_is_scaled_by_the_weight_the_papers_too():
    _, target, weight = random_batch()
    logits = torch.zeros(2, 4, 3, 5, requires_grad=True)
    for weighting in ("paper", "authors"):  # at logit 0 both have gradient φ (½ - t) / pixels
        (gradient,) = torch.autograd.grad(
            stew_loss(logits, target, weight, "none", weighting)[0], logits
        )
        torch.testing.assert_close(gradient, weight * (0.5 - target) / target.numel())


def test_extreme_logits_in_half_precision_stay_finite():
    logits = torch.tensor([3e4, -3e4]).to(torch.bfloat16).view(1, 1, 1, 2)
    bce, dice = stew_loss(
        logits, torch.tensor([0, 1], dtype=torch.uint8).view(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    )
    assert (
        bce.dtype == torch.float32
        and bce.item() == pytest.approx(3e4, rel=0.01)
        and math.isfinite(dice.item())
    )


def test_an_unknown_weighting_is_refused():
    with pytest.raises(ValueError, match="'paper' or 'authors'"):
        stew_loss(*random_batch(), weighting="mine")


@pytest.mark.parametrize(
    "ones, expected", [(0, 1), (1, 1), (2, 0.2), (8, 0.8), (9, 1), (10, 1)]
)
def test_a_pixel_counts_as_settled_at_the_limits_themselves(ones, expected):
    """Ten frames in one window: m = 0.1 and m = 0.9 are settled, 0.2 and 0.8 are not."""
    masks = np.zeros((10, 1, 1), np.uint8)
    masks[:ones] = 1
    s = consistency(masks, np.zeros(10, bool), window=9)
    assert s.ravel().tolist() == pytest.approx([expected] * 10)


def test_an_unknown_dice_is_refused():
    with pytest.raises(ValueError, match="'plain', 'weighted' or 'none'"):
        stew_loss(*random_batch(), dice="half")
