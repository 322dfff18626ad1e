"""The fast network against the published way, layer by layer (reference/network.py):
outputs and gradients.
"""

import copy
import math
import statistics

import pytest
import torch
from torch import nn

from claus.models import capsules, decoder_tail
from claus.models.capsules import ConvCaps, PrimaryCaps
from claus.models.decoder_tail import FusedTail
from claus.models.mc_dropout import mc_forward
from claus.reference.network import ConvCaps as PlainConvCaps
from claus.reference.pair import clips, pair


def loss_of(out):
    """Something of every output, its weights all different."""
    g = torch.Generator().manual_seed(0)
    return sum(
        (x * torch.rand(x.shape, generator=g, dtype=torch.float64).to(x.dtype)).sum()
        for x in out
    )


def masks_of(network, batch, kept):
    factors = {
        "all": torch.ones,
        "none": torch.zeros,
        "random": lambda *size: (
            2 * torch.rand(*size, generator=torch.Generator().manual_seed(3)).round()
        ),
    }[kept]
    return [
        factors(batch, channels).to(network.smooth.weight.dtype)
        for channels in network.dropped_channels
    ]


def outputs(network, clip, masks):
    """(logits, scores, latent) of either network under given masks."""
    if hasattr(network, "head"):
        return tuple(network.head(network.encode(clip), *masks))[:3]
    return tuple(network(clip, *masks))


def gradients(network, clip, masks):
    """{parameter: gradient} of the loss; parameters it does not depend on are left out."""
    parameters = dict(network.named_parameters())
    found = torch.autograd.grad(loss_of(outputs(network, clip, masks)), parameters.values())
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "size, kernel, classes, kept", [(64, 5, 4, "random"), (72, 4, 3, "none"), (56, 5, 2, "all")]
)
def test_outputs_and_gradients_in_float64(training, size, kernel, classes, kept):
    fast, plain = (
        network.double().train(training)
        for network in pair("small", classes, size=size, kernel=kernel, width=0.125, decoder=6)
    )
    clip, masks = clips(2, size).double(), masks_of(fast, 2, kept)
    for a, b in zip(outputs(fast, clip, masks), outputs(plain, clip, masks), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    ours, theirs = gradients(fast, clip, masks), gradients(plain, clip, masks)
    biggest = max(float(g.abs().max()) for g in theirs.values())
    for name in theirs:
        torch.testing.assert_close(
            ours[name],
            theirs[name],
            rtol=1e-6,
            atol=1e-11 * biggest,
            msg=lambda m, n=name: n + m,
        )
    ours, theirs = fast.state_dict(), plain.state_dict()
    for name in theirs:  # the running statistics among them
        a, b = ours[name], theirs[name]
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("kept", ["all", "none", "random"])
def test_outputs_in_float32(kept):
    fast, plain = pair("small", 5)
    clip, masks = clips(3, 64), masks_of(fast, 3, kept)
    with torch.no_grad():
        for a, b in zip(outputs(fast, clip, masks), outputs(plain, clip, masks), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_float32_gradients_are_as_good_as_the_plain_ones(training):
    """Relative distance from a float64 run, median over parameters, geometric mean over
    five networks.

    One ReLU that tips over moves a gradient by more than all other rounding, on either
    side, and batch norm over channels-last tensors is PyTorch's less exact one (1.4 to 1.8
    times the distance here; none for the full network's layers, see
    benchmarks/bench_train_step.py): hence the factor 3. A wrong gradient is hundreds of
    times farther.
    """
    far = {"fast": 0, "plain": 0}
    for seed in range(5):
        fast, plain = pair("small", 5, seed)
        exact = copy.deepcopy(plain).double()
        clip, masks = clips(2, 64, seed), masks_of(fast, 2, "random")
        for network in (fast, plain, exact):
            network.train(training)
        truth = gradients(exact, clip.double(), [mask.double() for mask in masks])
        for which, network in (("fast", fast), ("plain", plain)):
            found = gradients(network, clip, masks)
            middle = statistics.median(
                float((found[n].double() - g).norm() / g.norm()) for n, g in truth.items()
            )
            far[which] += math.log(middle) / 5
    assert far["fast"] < far["plain"] + math.log(3), far


def test_folded_batch_norm_follows_the_weights():
    fast, plain = pair("small", 3)
    clip = clips(1, 64)

    def same():
        plain.load_state_dict(fast.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(fast(clip).logits, plain(clip).logits, rtol=0, atol=1e-5)
            return fast(clip).logits

    first = same()
    optimizer = torch.optim.Adam(fast.parameters(), 1e-3, fused=True)
    fast.train()
    loss_of(fast(clip)).backward()
    optimizer.step()
    fast.eval()
    second = same()
    assert (first - second).abs().max() > 1e-3
    other, _ = pair("small", 3, seed=5)
    fast.load_state_dict(other.state_dict())
    assert (same() - second).abs().max() > 1e-3
    fast.conv1.Mixed_4f.b0.bn.running_var.data.mul_(4)  # even what autograd does not see
    same()


def test_evaluation_mode_has_gradients_of_batch_norm_too():
    fast, plain = (network.double() for network in pair("small", 2, width=0.125, decoder=6))
    clip, masks = clips(1, 64).double(), masks_of(fast, 1, "all")
    name = "conv1.Mixed_4b.b1a.bn.weight"
    ours, theirs = gradients(fast, clip, masks)[name], gradients(plain, clip, masks)[name]
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=0)


def test_bf16_autocast_trains_and_keeps_capsules_and_logits_in_float32():
    fast, _ = pair("small", 4)
    clip, masks = clips(2, 64), masks_of(fast, 2, "random")
    with torch.no_grad():
        exact = outputs(fast, clip, masks)
    seen = {}
    for name in ("conv1", "primary_caps", "conv_caps", "conv28", "tail"):
        fast.get_submodule(name).register_forward_hook(
            lambda module, inputs, out, name=name: seen.update({name: out})
        )
    with torch.autocast("cpu", torch.bfloat16):
        out = outputs(fast, clip, masks)
    low = [seen["conv1"][0], seen["conv28"]]
    assert {x.dtype for x in low} == {torch.bfloat16}
    high = [*seen["primary_caps"], *seen["conv_caps"], seen["tail"], *out]
    assert {x.dtype for x in high} == {torch.float32}
    # the arithmetic is float32 as well, not its results alone
    given = seen["conv1"][0].detach().squeeze(2), masks[0]
    plain = fast.capsules(given[0].float(), given[1])
    with torch.autocast("cpu", torch.bfloat16):
        again = fast.capsules(*given)
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))
    loss_of(out).backward()
    assert all(
        torch.isfinite(p.grad).all() and p.grad.dtype == p.dtype for p in fast.parameters()
    )
    assert (out[0] - exact[0]).abs().max() < 0.1 * exact[0].abs().max()
    fast.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(fast(clip).logits).all()


def test_scoring_under_bf16_keeps_capsules_and_logits_in_float32():
    fast, _ = pair("small", 4)
    clip, masks = clips(1, 64), masks_of(fast, 3, "random")
    exact, _ = mc_forward(fast, clip, *masks)
    dtypes = []
    fast.conv_caps.register_forward_hook(
        lambda module, inputs, out: dtypes.extend(x.dtype for x in [*inputs, *out])
    )
    with torch.autocast("cpu", torch.bfloat16):
        logits, latent = mc_forward(fast, clip, *masks)
    assert {*dtypes, logits.dtype, latent.dtype} == {torch.float32}
    assert (logits - exact).abs().max() < 0.1 * exact.abs().max()


# ---- routing ----


@pytest.mark.parametrize("places_at_once", [1, 2, 5, 7, 100])
def test_routing_in_parts(monkeypatch, places_at_once):
    """Seven places, one or more at a time, against weights repeated for each place."""
    torch.manual_seed(0)
    layer, plain = ConvCaps(3, 4).double(), PlainConvCaps(3, 4).double()
    nn.init.normal_(layer.beta_u)
    nn.init.normal_(layer.beta_a)
    plain.load_state_dict(layer.state_dict())
    monkeypatch.setitem(capsules.VOTES_AT_ONCE, "cpu", places_at_once * 16 * 3 * 4)
    pose, activation = torch.randn(1, 1, 7, 3, 16).double(), torch.rand(1, 1, 7, 3).double()
    results = []
    for network, shape in ((layer, (16,)), (plain, (4, 4))):
        inputs = [
            pose.clone().unflatten(-1, shape).requires_grad_(),
            activation.clone().requires_grad_(),
        ]
        out = network(*inputs)
        found = torch.autograd.grad(loss_of(out), [*inputs, *network.parameters()])
        results.append([*out, found[0].reshape(pose.shape), *found[1:]])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("places", [1, 7])
def test_routing_in_reused_buffers_gives_the_same_bytes(places):
    torch.manual_seed(0)
    layer, pose, activation = ConvCaps(3, 4), torch.randn(places, 3, 16), torch.rand(places, 3)
    arguments = pose, activation, layer.weights, torch.randn(4, 16), torch.randn(4), 3
    with torch.no_grad():
        plain = capsules.route(*arguments)
        buffers = capsules.Buffers.of(pose, layer.weights)
        for buffer in buffers:
            buffer.fill_(math.nan)
        for _ in range(2):
            again = capsules.route(*arguments, buffers)
            assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True))


def test_routing_in_parts_gradcheck(monkeypatch):
    torch.manual_seed(0)
    layer = ConvCaps(2, 2).double()
    monkeypatch.setitem(capsules.VOTES_AT_ONCE, "cpu", 2 * 16 * 2 * 2)
    pose = torch.randn(1, 1, 3, 2, 16, dtype=torch.float64, requires_grad=True)
    activation = (0.1 + 0.8 * torch.rand(1, 1, 3, 2, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, a: layer(p, a)[0], (pose, activation), atol=1e-4)


def test_routing_keeps_no_votes(monkeypatch):
    """What is held for the backward pass is a small part of the votes of all places."""
    layer, held = ConvCaps(4, 5), []
    monkeypatch.setitem(capsules.VOTES_AT_ONCE, "cpu", 10 * 16 * 4 * 5)
    pose = torch.randn(1, 10, 10, 4, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: held.append(t.nbytes) or t, lambda t: t
    ):
        layer(pose, torch.rand(1, 10, 10, 4))
    assert sum(held) < 0.4 * 100 * 4 * 5 * 16 * 4


# ---- primary capsules under many masks ----


@pytest.mark.parametrize("channels, kernel", [(5, 3), (16, 2), (35, 4)])
def test_capsules_of_many_masks(channels, kernel):
    torch.manual_seed(0)
    layer, x = (
        PrimaryCaps(channels, 3, kernel).double(),
        torch.randn(1, channels, 6, 7).double(),
    )
    masks = torch.cat(
        [torch.zeros(1, channels), torch.ones(1, channels), 2 * torch.rand(4, channels).round()]
    ).double()
    with torch.no_grad():
        for a, b in zip(
            layer.with_masks(x, masks), layer(x * masks[:, :, None, None]), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


# ---- the last two layers with channels that all masks share ----


@pytest.mark.parametrize("size", [(4, 5, 7), (1, 1, 1), (2, 1, 3)])
def test_shared_channels_of_the_tail(size):
    torch.manual_seed(0)
    up, smooth = (
        nn.ConvTranspose3d(5, 4, 3, 2, 1, 1).double(),
        nn.ConvTranspose3d(4, 1, 3, 1, 1).double(),
    )
    x, shared = torch.randn(3, 2, *size).double(), torch.randn(1, 3, *size).double()
    mask = torch.tensor([[0, 2, 0, 2], [0, 0, 0, 0], [1, 1, 1, 1]]).double()
    both = torch.cat([x, shared.expand(3, *shared.shape[1:])], dim=1)
    plain = smooth(up(both) * mask[:, :, None, None, None])
    tail = FusedTail(*size).double()
    torch.testing.assert_close(tail(x, up, smooth, mask, shared), plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        tail(x, up, smooth, None, shared), smooth(up(both)), rtol=0, atol=1e-12
    )
    with pytest.raises(ValueError, match="the tail takes"):
        tail(torch.randn(1, 5, 9, 2, 2), up, smooth)


@pytest.mark.parametrize("grad", [True, False])
def test_the_grouped_convolution_of_a_card_equals_the_loop_over_clips(monkeypatch, grad):
    torch.manual_seed(0)
    up = nn.ConvTranspose3d(5, 4, 3, 2, 1, 1).double()
    smooth = nn.ConvTranspose3d(4, 1, 3, 1, 1).double()
    x = torch.randn(3, 5, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[0, 2, 0, 2], [0, 0, 0, 0], [1, 1, 1, 1]]).double()
    tail = FusedTail(4, 5, 7).double()

    def found():
        with torch.set_grad_enabled(grad):
            y = tail(x, up, smooth, mask)
        leaves = [x, up.weight, up.bias, smooth.weight]
        return (y, *torch.autograd.grad(loss_of([y]), leaves)) if grad else (y,)

    loop, calls = found(), []
    each = decoder_tail._kernel_each

    def grouped(parts, kernels):
        calls.append(1)
        return each(parts, kernels)

    monkeypatch.setattr(decoder_tail, "_kernel_each", grouped)
    monkeypatch.setattr(decoder_tail, "LOOPS_OVER_CLIPS", ())
    for a, b in zip(found(), loop, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert calls == [1]
