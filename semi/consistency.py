"""How much two predictions of one clip differ, and where that counts: temporal variance and
gradient masks.

After Kumar & Rawat, End-to-End Semi-Supervised Learning for Video Action Detection (CVPR
2022). o and p are the mask logits of a clip and, flipped back, of its mirror image, both
(B,T,H,W). A mask carries no gradient.
"""

import math

import torch

# a clip whose gradients, or variances, span less than this says nothing: the mask is 0, not
# amplified rounding
FLAT, FLAT_VARIANCE = 1e-6, 1e-12


def difference(p, o, kind="l2", predict_maps=False):
    """Elementwise difference (B,T,H,W) of two maps of logits: `l2` (p-o)², `l1` |p-o|,
    `jsd` in [0, ln 2].

    predict_maps compares probabilities in place of logits; jsd, the Jensen-Shannon
    divergence of the two Bernoulli distributions in nats, always does.
    """
    if kind == "jsd":
        return bernoulli_js(p.sigmoid(), o.sigmoid())
    if predict_maps:
        p, o = p.sigmoid(), o.sigmoid()
    if kind == "l2":
        return (p - o) ** 2
    if kind == "l1":
        return (p - o).abs()
    raise ValueError(f"kind must be 'l2', 'l1' or 'jsd', not {kind!r}")


def bernoulli_js(p, q, tiny=1e-6):
    """Jensen-Shannon divergence, in nats, of Bernoulli distributions with probabilities p
    and q, elementwise.
    """
    p, q = p.clamp(tiny, 1 - tiny), q.clamp(tiny, 1 - tiny)
    return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2


def categorical_js(p, q, tiny=1e-6):
    """The same of distributions over the last axis, which sum to 1: (..., C) -> (...)."""
    p, q = p.clamp(min=tiny), q.clamp(min=tiny)
    entropy = torch.special.entr
    return (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).sum(-1)


def _entropy(p):
    return torch.special.entr(p) + torch.special.entr(1 - p)


@torch.no_grad()
def variance_mask(o, p, n_frames=5):
    """Temporal variance mask M (B,T,H,W) in [0,1]: where the prediction changes over time.

    The 2T-2 frames o_0 … o_{T-1}, p_{T-2} … p_1 form a ring; V_t is the population variance
    of the n_frames (odd) frames around t. Folded: M_0 = 2 V_0, M_{T-1} = 2 V_{T-1}, M_k =
    V_k + V_{2T-2-k}; then min-max per clip.
    """
    if n_frames < 1 or n_frames % 2 == 0:
        raise ValueError(f"n_frames must be odd, not {n_frames}")
    length = o.shape[1]
    ring = torch.cat([o, p[:, 1:-1].flip(1)], dim=1)  # (B, 2T-2, H, W)
    # the frames around t, less frame t: exactly 0 where nothing changes; Tensor.var of
    # windows takes far longer
    around = [
        ring.roll(shift, 1) - ring for shift in range(-(n_frames // 2), n_frames // 2 + 1)
    ]
    mean = sum(around) / n_frames
    variance = sum((frames - mean) ** 2 for frames in around) / n_frames
    # V_0, V_{2T-3} … V_{T-1}
    back = torch.cat([variance[:, :1], variance[:, length - 1 :].flip(1)], dim=1)
    return min_max(variance[:, :length] + back, FLAT_VARIANCE)


@torch.no_grad()
def gradient_mask(probability, clamp=None):
    """Gradient smoothness mask G (B,T,H,W) in [0,1]: the gradient in time of the gradient
    in time, min-max per clip.

    Central differences, one-sided at both ends (as numpy.gradient), with their sign. clamp:
    (low, high) for the second gradient before it is scaled, or None.
    """
    twice = torch.gradient(torch.gradient(probability, dim=1)[0], dim=1)[0]
    return min_max(twice if clamp is None else twice.clamp(*clamp))


def min_max(x, flat=FLAT):
    """Scale every clip of x (B,T,H,W) to [0,1] by its least and greatest value; 0 where
    they differ by at most flat.
    """
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    span = high - low
    return torch.where(span > flat, (x - low) / torch.where(span > flat, span, 1), 0)


def ramp(epoch, epochs):
    """r(e) = exp(-5 (1 - e/E)²), from 0.007 at e = 0 to 1 at e = E."""
    return math.exp(-5 * (1 - min(epoch / epochs, 1)) ** 2)


def consistency_loss(o, p, options, weight):
    """L_cons of a batch, 0-dim. weight: r(e), see ramp(). options: see methods.SemiOptions.

    Plain: mean d, d = difference(p, o). bv: r·2·mean(M d) + (1-r)·mean d. gv: mean(G d), G
    of the clip's own probabilities. Both: bv_wt·bv + gv_wt·gv. `compat`: every G meets
    every clip's d (the published code adds an axis by accident); the mean over all pairs is
    that of the product of the two means over the batch.
    """
    d = difference(p, o, options.const_loss, options.predict_maps)
    bv = gv = None
    if options.bv:
        maps = (o.sigmoid(), p.sigmoid()) if options.predict_maps else (o, p)
        masked = (variance_mask(*maps, options.n_frames) * d).mean()
        bv = weight * 2 * masked + (1 - weight) * d.mean()
    if options.gv:
        mask = gradient_mask(o.sigmoid(), options.gv_clamp)
        gv = (mask.mean(0) * d.mean(0) if options.compat else mask * d).mean()
    if bv is not None and gv is not None:
        return options.bv_wt * bv + options.gv_wt * gv
    return next((loss for loss in (bv, gv) if loss is not None), d.mean())
