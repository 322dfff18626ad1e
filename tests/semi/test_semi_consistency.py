"""Consistency losses and their masks, against slow versions written from the formulas."""

import math

import numpy as np
import pytest
import torch

from claus.semi.consistency import (
    categorical_js,
    consistency_loss,
    difference,
    gradient_mask,
    min_max,
    ramp,
    variance_mask,
)
from claus.semi.methods import SemiOptions

B, T, H, W = 3, 8, 4, 5


def maps(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, T, H, W, generator=g) * 3, torch.randn(B, T, H, W, generator=g) * 3


# ---- slow references ----


def slow_scaled(clip):
    low, high = clip.min(), clip.max()
    return (clip - low) / (high - low) if high > low else np.zeros_like(clip)


def slow_variance(o, p, n):
    """One clip (T,H,W): loops over ring, window and frames."""
    length = len(o)
    ring = [o[t] for t in range(length)] + [p[t] for t in range(length - 2, 0, -1)]
    assert len(ring) == 2 * length - 2
    variance = []
    for t in range(len(ring)):
        window = [ring[(t + k) % len(ring)] for k in range(-(n // 2), n // 2 + 1)]
        mean = sum(window) / n
        variance.append(sum((frame - mean) ** 2 for frame in window) / n)
    folded = []
    for k in range(length):
        folded.append(
            2 * variance[k]
            if k in (0, length - 1)
            else variance[k] + variance[2 * length - 2 - k]
        )
    return slow_scaled(np.stack(folded))


def slow_gradient(probability, clamp=None):
    twice = np.gradient(np.gradient(probability, axis=0), axis=0)
    return slow_scaled(twice if clamp is None else np.clip(twice, *clamp))


def test_small_changes_of_confident_probabilities_still_make_a_variance_mask():
    """Sure background that moves by a hundredth of a logit; where nothing moves but the
    last bits, none.
    """
    g = torch.Generator().manual_seed(1)
    logits = -6 + 0.01 * torch.randn(1, T, H, W, generator=g)
    mask = variance_mask(logits.sigmoid(), logits.sigmoid())
    expected = slow_variance(*[logits[0].double().sigmoid().numpy()] * 2, 5)
    assert mask.max() == 1
    np.testing.assert_allclose(mask[0].numpy(), expected, atol=1e-3)
    still = torch.full((1, T, H, W), 0.3) + 3e-8 * torch.rand(1, T, H, W, generator=g)
    assert not variance_mask(still, still).any()
    assert not gradient_mask(still + 0.4).any()  # rounding near 1 is 6e-8


@pytest.mark.parametrize("n", [1, 3, 5, 7, 13, 15, 17])
def test_variance_mask_is_that_of_the_formula(n):
    o, p = (x.double() for x in maps())
    expected = np.stack(
        [slow_variance(a.numpy(), b.numpy(), n) for a, b in zip(o, p, strict=True)]
    )
    np.testing.assert_allclose(variance_mask(o, p, n).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("clamp", [None, (-0.05, 0.1)])
def test_gradient_mask_is_that_of_the_formula(clamp):
    probability = maps()[0].double().sigmoid()
    expected = np.stack([slow_gradient(clip.numpy(), clamp) for clip in probability])
    np.testing.assert_allclose(gradient_mask(probability, clamp).numpy(), expected, atol=1e-12)


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match="odd"):
        variance_mask(*maps(), 4)


@pytest.mark.parametrize("level", [0.0, 7.3, -41.7])
def test_a_constant_video_has_no_variance_and_no_gradient(level):
    still = torch.full((B, T, H, W), level)
    assert not variance_mask(still, still).any() and not gradient_mask(still.sigmoid()).any()
    picture = torch.randn(B, 1, H, W).expand(B, T, H, W)  # a still picture is as constant
    assert not variance_mask(picture, picture).any()


def test_a_clip_that_changes_keeps_its_mask_beside_a_constant_one():
    o, p = maps()
    o[1], p[1] = 2.5, 2.5
    mask = variance_mask(o, p)
    assert not mask[1].any() and mask[0].max() == 1 and mask[2].min() == 0


def test_a_moving_edge_lights_up_where_it_passes():
    """An edge that passes column t at frame t: the columns it never reaches stay dark,
    those it crosses light up.
    """
    o = torch.full((1, 8, 3, 14), -4.0)
    for t in range(8):
        o[0, t, :, : t + 1] = 4.0
    mask = variance_mask(o, o, 3)
    assert (
        not mask[..., 8:].any() and not mask[..., 0].any()
    )  # background, and always foreground
    for t in range(1, 7):  # it enters column t at frame t
        lit = mask[0, :, 0, t] > 0
        assert (
            lit[t - 1] and lit[t] and not lit[: max(t - 2, 0)].any() and not lit[t + 2 :].any()
        )
    smooth = gradient_mask(o.sigmoid())
    flat = smooth[0, 0, 0, 13]  # no change at all: the zero of the scale
    assert (smooth[..., 8:] == flat).all() and (smooth[..., 1:8] != flat).any(1).all()
    assert smooth[0, 2, 0, 4] > flat > smooth[0, 5, 0, 4]  # signed: before and after it enters


def test_min_max_is_per_clip():
    x = torch.stack(
        [torch.arange(8.0).reshape(2, 2, 2), 100 + 10 * torch.arange(8.0).reshape(2, 2, 2)]
    )
    expected = torch.arange(8.0).reshape(2, 2, 2) / 7
    torch.testing.assert_close(min_max(x), torch.stack([expected, expected]))


# ---- the differences ----


def test_every_kind_of_difference_is_what_it_says():
    o, p = maps()
    torch.testing.assert_close(difference(p, o, "l2"), (p - o).square())
    torch.testing.assert_close(difference(p, o, "l1"), (p - o).abs())
    torch.testing.assert_close(
        difference(p, o, "l2", True), (p.sigmoid() - o.sigmoid()).square()
    )
    from scipy.spatial.distance import jensenshannon

    a, b = p[0, 0, 0, 0].sigmoid().item(), o[0, 0, 0, 0].sigmoid().item()
    expected = jensenshannon([a, 1 - a], [b, 1 - b]) ** 2  # scipy gives the root
    assert difference(p, o, "jsd")[0, 0, 0, 0].item() == pytest.approx(expected, rel=1e-4)
    far = difference(torch.tensor(-80.0), torch.tensor(80.0), "jsd")
    assert far.item() == pytest.approx(math.log(2), abs=1e-4)
    with pytest.raises(ValueError, match="'l2'"):
        difference(p, o, "mse")


def test_divergence_of_class_scores():
    from scipy.spatial.distance import jensenshannon

    p, q = (
        torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]),
        torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]]),
    )
    expected = [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(categorical_js(p, q).numpy(), expected, atol=1e-6)


def test_ramp():
    assert ramp(0, 100) == pytest.approx(math.exp(-5)) and ramp(100, 100) == 1
    assert ramp(50, 100) == pytest.approx(math.exp(-1.25)) and ramp(120, 100) == 1


# ---- the loss ----


def loss(o, p, weight=0.3, **options):
    return consistency_loss(o, p, SemiOptions(**options), weight)


def slow_loss(o, p, weight, options):
    """From the formulas, clip by clip."""
    o, p = o.numpy(), p.numpy()
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    a, b = (sigmoid(o), sigmoid(p)) if options.predict_maps else (o, p)
    d = (b - a) ** 2 if options.const_loss == "l2" else np.abs(b - a)
    bv = (
        weight
        * 2
        * np.mean(
            [slow_variance(x, y, options.n_frames) * e for x, y, e in zip(a, b, d, strict=True)]
        )
    )
    bv += (1 - weight) * d.mean()
    masks = [slow_gradient(x) for x in sigmoid(o)]
    if options.compat:
        gv = np.mean([[mask * error for mask in masks] for error in d])
    else:
        gv = np.mean([mask * error for mask, error in zip(masks, d, strict=True)])
    if options.bv and options.gv:
        return options.bv_wt * bv + options.gv_wt * gv
    return bv if options.bv else gv if options.gv else d.mean()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"const_loss": "l1"},
        {"predict_maps": True},
        {"bv": True},
        {"bv": True, "const_loss": "l1", "n_frames": 3},
        {"bv": True, "predict_maps": True},
        {"gv": True},
        {"gv": True, "compat": True},
        {"bv": True, "gv": True, "bv_wt": 0.2, "gv_wt": 0.9},
        {"bv": True, "gv": True, "predict_maps": True},
    ],
    ids=lambda options: ",".join(options) or "plain",
)
def test_the_loss_is_that_of_the_formula(options):
    o, p = (x.double() for x in maps())
    expected = slow_loss(o, p, 0.3, SemiOptions(**options))
    assert loss(o, p, **options).item() == pytest.approx(expected, rel=1e-9)


def test_each_clip_has_its_own_gradient_mask_unless_compat():
    """Only clip 0 changes over time, only clip 1 has an error: nothing is left, but for the
    published broadcast.
    """
    o = torch.zeros(2, T, H, W)
    o[0, 3] = 5.0
    p = o.clone()
    p[1] += 1.0
    assert loss(o, p, gv=True).item() == 0
    assert loss(o, p, gv=True, compat=True).item() > 0


@pytest.mark.parametrize("options", [{"bv": True}, {"gv": True}], ids=["bv", "gv"])
def test_no_gradient_flows_into_the_masks(options):
    """The gradient is the mask, as it is, times that of the squared error."""
    o, p = (x.double().requires_grad_() for x in maps())
    loss(o, p, 1.0, **options).backward()
    with torch.no_grad():
        mask = 2 * variance_mask(o, p) if "bv" in options else gradient_mask(o.sigmoid())
        torch.testing.assert_close(p.grad, mask * 2 * (p - o) / o.numel())
        torch.testing.assert_close(o.grad, -p.grad)
