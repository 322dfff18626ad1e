"""The network against the published one's numbers, and each layer's arithmetic against slow
plain loops.
"""

import importlib.util
import math
import zlib

import numpy as np
import pytest
import torch

from claus.models import BACKBONES
from claus.models.capsules import ConvCaps
from claus.models.decoder_tail import FusedTail
from claus.models.detector import PRESETS, Detector, DetectorConfig, scores_and_latent
from claus.models.i3d import MaxPoolSame, Unit3D


@pytest.fixture(scope="module")
def published(shared_golden):
    """The full network with the made-up fill, and what the published network computes with
    it.
    """
    folder = shared_golden / "network"
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    rows = [line.split("\t") for line in (folder / "keys.tsv").read_text().splitlines()[1:]]
    keys = {
        row[0]: () if row[1] == "scalar" else tuple(map(int, row[1].split("x"))) for row in rows
    }
    network = Detector(DetectorConfig(classes=24)).eval()
    state = {
        key: torch.from_numpy(np.asarray(fill.fill(key, shape))) for key, shape in keys.items()
    }
    used = {key: value for key, value in state.items() if not key.startswith("conv_cluster.")}
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == {
        k: tuple(v.shape) for k, v in used.items()
    }
    network.load_state_dict(used)
    return network, torch.from_numpy(fill.clip()), np.load(folder / "eval_forward.npz")


def test_full_network_equals_the_published_one(published):
    network, clip, golden = published
    with torch.no_grad():
        features = network.encode(clip)
        pose, activation = network.primary_caps(features.mixed_4f)
        primary = torch.cat([pose.flatten(3), activation], -1)
        class_pose, class_activation = network.conv_caps(pose, activation)
        caps = torch.cat([class_pose.flatten(3), class_activation], -1)
        out = network(clip)
    close = {
        "i3d_4f_slice": (features.mixed_4f[0, ::16, ::4, ::4], 1e-4),
        "i3d_56_slice": (features.skip_56[0, ::16, :, ::8, ::8], 1e-4),
        "i3d_112_slice": (features.skip_112[0, ::8, :, ::16, ::16], 1e-4),
        "primary_slice": (primary[0, ::4, ::4], 1e-4),
        "caps_slice": (caps[0, ::4, ::4], 2e-4),
        "caps_mean": (caps[0].mean((0, 1)), 2e-4),
        "class_act": (out.scores, 1e-4),
        "latent": (out.latent, 2e-4),
        "logits_s8": (out.logits[:, 0, :, ::8, ::8], 5e-4),
        "logits_firstrow": (out.logits[:, 0, :, 0, ::8], 5e-4),
        "logits_lastrow": (out.logits[:, 0, :, -1, ::8], 5e-4),
        "logits_firstcol": (out.logits[:, 0, :, ::8, 0], 5e-4),
        "logits_lastcol": (out.logits[:, 0, :, ::8, -1], 5e-4),
        "logits_frame_sum": (out.logits[:, 0].sum((2, 3)), 0.3),
        "prob_frame_sum": (out.logits[:, 0].sigmoid().sum((2, 3)), 0.3),
    }
    for name, (value, limit) in close.items():
        assert np.abs(value.double().numpy() - golden[name]).max() < limit, name


def slow_unit(x, unit):
    """Convolution, batch norm and ReLU of one Unit3D by loops over every output number."""
    weight, stride = unit.conv3d.weight, unit.conv3d.stride
    out_size = [-(-n // s) for n, s in zip(x.shape[1:], stride, strict=True)]
    result = torch.zeros(len(weight), *out_size, dtype=x.dtype)
    low = [
        max((o - 1) * s + k - n, 0) // 2
        for o, s, k, n in zip(out_size, stride, weight.shape[2:], x.shape[1:], strict=True)
    ]
    for place in np.ndindex(*out_size):
        for tap in np.ndindex(*weight.shape[2:]):
            at = [p * s + k - lo for p, s, k, lo in zip(place, stride, tap, low, strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
                result[(slice(None), *place)] += (
                    weight[(slice(None), slice(None), *tap)] @ x[(slice(None), *at)]
                )
    bn = unit.bn
    shape = (-1, 1, 1, 1)
    result = (result - bn.running_mean.view(shape)) / torch.sqrt(
        bn.running_var.view(shape) + 1e-3
    )
    return (result * bn.weight.view(shape) + bn.bias.view(shape)).clamp(min=0)


@pytest.mark.parametrize(
    "size, kernel, stride",
    [
        ((4, 5, 6), (3, 3, 3), (2, 1, 1)),
        ((5, 6, 7), (7, 7, 7), (2, 2, 2)),
        ((2, 3, 3), (1, 1, 1), (1, 1, 1)),
    ],
)
def test_unit3d_against_loops(size, kernel, stride):
    torch.manual_seed(0)
    unit = Unit3D(2, 3, kernel, stride).double().eval()
    torch.nn.init.normal_(unit.bn.weight)
    torch.nn.init.normal_(unit.bn.running_mean)
    x = torch.randn(2, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(unit(x[None])[0], slow_unit(x, unit))


def test_max_pool_pads_the_high_side_first():
    x = torch.arange(4.0).view(
        1, 1, 1, 1, 4
    )  # kernel 3, stride 2 on 4: one zero, on the high side
    assert MaxPoolSame((1, 1, 3), (1, 1, 2))(x).flatten().tolist() == [2, 3]


def slow_routing(layer, pose, activation):
    """EM routing of one place by loops, from the formulas. pose (I,16), activation (I,)."""
    weights = layer.weights[0].double().numpy()
    beta_u, beta_a = (
        layer.beta_u.detach().double().numpy(),
        layer.beta_a.detach().double().numpy(),
    )
    types, classes = weights.shape[:2]
    votes = np.array(
        [
            [(pose[i].reshape(4, 4) @ weights[i, c]).ravel() for c in range(classes)]
            for i in range(types)
        ]
    )
    r = np.full((types, classes), 1 / classes)
    for iteration in range(3):
        r = r * activation[:, None]
        r = r / (r.sum(1, keepdims=True) + 1e-8)
        mu, variance, cost = np.zeros((classes, 16)), np.zeros((classes, 16)), np.zeros(classes)
        for c in range(classes):
            share = r[:, c] / (r[:, c].sum() + 1e-8)
            mu[c] = sum(share[i] * votes[i, c] for i in range(types))
            variance[c] = (
                sum(share[i] * (votes[i, c] - mu[c]) ** 2 for i in range(types)) + 1e-8
            )
            cost[c] = ((beta_u[c] + np.log(np.sqrt(variance[c]))) * r[:, c].sum()).sum()
        a = 1 / (1 + np.exp(-1e-6 * (beta_a - (cost.mean() - cost) / (1e-4 + 1e-8))))
        if iteration < 2:
            for i in range(types):
                log = [
                    -0.5
                    * (
                        (votes[i, c] - mu[c]) ** 2 / variance[c]
                        + np.log(2 * np.pi * variance[c])
                    ).sum()
                    + np.log(a[c] + 1e-8)
                    for c in range(classes)
                ]
                r[i] = np.exp(log - np.max(log)) / np.exp(log - np.max(log)).sum()
    return mu, a


def test_em_routing_against_loops():
    torch.manual_seed(1)
    layer = ConvCaps(types=3, classes=4).double()
    torch.nn.init.normal_(layer.beta_u)
    torch.nn.init.normal_(layer.beta_a)
    pose, activation = torch.randn(2, 1, 2, 3, 16).double(), torch.rand(2, 1, 2, 3).double()
    with torch.no_grad():
        mu, a = layer(pose, activation)
        for b, y, x in np.ndindex(2, 1, 2):
            slow_mu, slow_a = slow_routing(
                layer, pose[b, y, x].numpy(), activation[b, y, x].numpy()
            )
            np.testing.assert_allclose(mu[b, y, x].numpy(), slow_mu, atol=1e-9)
            np.testing.assert_allclose(a[b, y, x].numpy(), slow_a, atol=1e-12)


def small(classes=5):
    torch.manual_seed(0)
    return Detector(DetectorConfig(classes=classes, **PRESETS["small"]))


def test_small_network_has_the_same_parameter_names():
    names = set(small().state_dict())
    with torch.device("meta"):
        assert names == set(Detector(DetectorConfig(classes=24)).state_dict())


@pytest.mark.parametrize("classes", [2, 5])
def test_shapes(classes):
    network = small(classes)
    out = network(torch.rand(2, 3, 8, 64, 64))
    assert out.logits.shape == (2, 1, 8, 64, 64) and out.scores.shape == (2, classes)
    assert out.latent.shape == (2, network.config.latent_size) == (2, 17 * classes)


def test_explicit_masks_are_what_training_dropout_does():
    network = small().train()
    clip = torch.rand(2, 3, 8, 64, 64)
    torch.manual_seed(3)
    random = network(clip)
    torch.manual_seed(3)
    features = network.encode(clip)
    masks = network.random_masks(2, "cpu")
    assert set(masks[0].unique().tolist()) == {0.0, 2.0} and masks[1].shape == (2, 32)
    for a, b in zip(random, network.head(features, *masks), strict=True):
        torch.testing.assert_close(a, b)


def test_class_mask_removes_a_class_from_the_decoder():
    network = small().eval()
    clip = torch.rand(1, 3, 8, 64, 64)
    ones, without = torch.ones(1, 5), torch.tensor([[1.0, 1, 0, 1, 1]])
    torch.testing.assert_close(network(clip).logits, network(clip, ones).logits)
    masked = network(clip, without).logits
    assert (masked - network(clip).logits).abs().max() > 1e-6
    with torch.no_grad():
        network.upsample1.weight[2 * 16 : 3 * 16] = (
            0  # the channels that class 2's pose occupies
        )
    torch.testing.assert_close(network(clip).logits, masked)


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match="multiple of 8"):
        DetectorConfig(classes=5, size=60)
    with pytest.raises(ValueError, match="frames"):
        DetectorConfig(classes=5, frames=16)
    with pytest.raises(ValueError, match="clips of shape"):
        small()(torch.rand(1, 3, 8, 32, 32))


def fused_tail(x, up, *others):
    return FusedTail(*x.shape[2:]).to(x.dtype)(x, up, *others)


def plain_tail(x, up, smooth, mask):
    """The two layers and the channel dropout between them, one after the other."""
    return smooth(up(x) * mask[:, :, None, None, None])


@pytest.mark.parametrize("size", [(4, 5, 7), (2, 3, 4), (1, 1, 1), (4, 1, 2)])
@pytest.mark.parametrize("kept", ["all", "none", "random"])
def test_fused_tail_equals_the_two_layers(size, kept):
    torch.manual_seed(0)
    up = torch.nn.ConvTranspose3d(3, 5, 3, 2, 1, 1).double()
    smooth = torch.nn.ConvTranspose3d(5, 1, 3, 1, 1).double()
    mask = {
        "all": torch.ones(2, 5),
        "none": torch.zeros(2, 5),
        "random": 2 * torch.rand(2, 5).round(),
    }[kept].double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    inputs = [x, *up.parameters(), *smooth.parameters()]
    fast, plain = fused_tail(x, up, smooth, mask), plain_tail(x, up, smooth, mask)
    torch.testing.assert_close(fast, plain, atol=1e-12, rtol=0)
    weight = torch.randn_like(plain)
    gradients = [torch.autograd.grad((y * weight).sum(), inputs) for y in (fast, plain)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        fused_tail(x[:1], up, smooth, mask),
        plain_tail(x[:1].expand(2, -1, -1, -1, -1), up, smooth, mask),
        atol=1e-12,
        rtol=0,
    )


def test_fused_tail_gradcheck():
    torch.manual_seed(0)
    up = torch.nn.ConvTranspose3d(2, 3, 3, 2, 1, 1).double()
    smooth = torch.nn.ConvTranspose3d(3, 1, 3, 1, 1).double()
    x = torch.randn(1, 2, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: fused_tail(x, up, smooth, torch.tensor([[2.0, 0, 2]]).double()), (x,)
    )


# ---- without anything that is not in the repository ----


def made_up(name, shape):
    """A weight of the small network that follows from its name and shape alone."""
    size = max(math.prod(shape), 1)
    wave = np.sin(zlib.crc32(name.encode()) % 1000 + 1.7 * np.arange(size)).reshape(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name.endswith("running_var"):
        return torch.from_numpy(1 + 0.3 * wave)
    if len(shape) > 1:
        return torch.from_numpy(1.5 * wave * math.sqrt(2 * shape[0] / size))
    return torch.from_numpy((1.0 if name.endswith("bn.weight") else 0.0) + 0.2 * wave)


@pytest.fixture(scope="module")
def known():
    """(small network with made-up weights, clip), both float64."""
    network = Detector(DetectorConfig(classes=3, **PRESETS["small"])).double().eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    network.load_state_dict({name: made_up(name, shape) for name, shape in shapes.items()})
    clip = np.sin(0.37 * np.arange(3 * 8 * 64 * 64)).reshape(1, 3, 8, 64, 64)
    return network, torch.from_numpy(clip)


def test_the_numbers_of_a_small_network_with_made_up_weights(known):
    """Kept when the full network matched the published one (above) to within 1e-4."""
    network, clip = known
    with torch.no_grad():
        features = network.encode(clip)
        pose, activation = network.primary_caps(features.mixed_4f)
        out = network(clip)
    numbers = {
        "features": [part.abs().mean().item() for part in features[:3]],
        "capsules": [pose.abs().mean().item(), activation.mean().item()],
        "scores": out.scores[0].tolist(),
        "latent": out.latent[0, ::10].tolist(),
        "logits": [out.logits.mean().item(), *out.logits[0, 0, ::3, 10, 20].tolist()],
    }
    for name, some in numbers.items():
        assert some == pytest.approx(KNOWN[name], abs=2e-6), name


KNOWN = {
    "features": [0.218356, 0.147256, 0.146257],
    "capsules": [0.133395, 0.489888],
    "scores": [0.50646, 0.50321, 0.490224],
    "latent": [0.003828, 0.0169, 0.007207, 0.007388, 0.013957, 0.620777],
    "logits": [0.096092, 0.745955, -0.568424, 0.499265],
}


def test_a_score_is_the_mean_over_places_and_the_latent_their_maximum():
    """Two places, one class: .2 and .6 of activation; 16 numbers of its pose."""
    activation = torch.tensor([0.2, 0.6]).view(1, 1, 2, 1)
    pose = torch.stack([torch.arange(16.0), 20 - torch.arange(16.0)]).view(1, 1, 2, 1, 16)
    scores, latent = scores_and_latent(pose, activation)
    assert scores.tolist() == [[pytest.approx(0.4)]]
    expected = [max(p, 20 - p) for p in range(16)]
    assert latent.tolist() == [[*expected, pytest.approx(0.6)]]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_what_the_table_says(name):
    backbone = BACKBONES[name]
    config = DetectorConfig(classes=2, **backbone.network)
    encoder, side = backbone.encoder(config.width), 32
    with torch.no_grad():
        outputs = encoder(torch.zeros(1, 3, config.frames, side, side))
    assert encoder.channels == backbone.channels
    for place, output in enumerate(outputs[:3]):
        frames = config.frames // backbone.temporal_strides[place]
        pixels = side // backbone.spatial_strides[place]
        assert output.shape == (1, backbone.channels[place], frames, pixels, pixels)


def test_a_checkpoint_from_before_the_table_of_backbones_builds_the_same_network():
    before = {"classes": 2, **PRESETS["small"]}
    del before["backbone"]
    shapes = {k: v.shape for k, v in Detector(DetectorConfig(**before)).state_dict().items()}
    today = Detector(DetectorConfig(classes=2, **PRESETS["small"])).state_dict()
    assert shapes == {k: v.shape for k, v in today.items()}
    with pytest.raises(ValueError, match="no backbone 'vit'"):
        DetectorConfig(classes=2, backbone="vit")
