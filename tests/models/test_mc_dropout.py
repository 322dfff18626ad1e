"""MC dropout: what a mask depends on, and that sharing the encoder changes nothing against
R plain passes.
"""

import copy
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.input import normalize
from claus.models.mc_dropout import mc_forward, seeded_masks, tile_latents
from claus.reference.network import PlainDetector, plain_scoring


@pytest.fixture(scope="module")
def detector():
    """A small network in which every term matters: batch-norm statistics, and a decoder
    that passes on what is deep.
    """
    torch.manual_seed(0)
    network = Detector(DetectorConfig(classes=4, **PRESETS["small"])).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    with torch.no_grad():
        for layer in (network.upsample1, network.conv28, network.upsample2, network.upsample3):
            layer.weight *= 3
    return network


@pytest.fixture(scope="module")
def clip(detector):
    return 2 * torch.rand(1, 3, 8, 64, 64, generator=torch.Generator().manual_seed(1)) - 1


# ---- masks ----


def masks(detector, *, seed=0, video="Biking/v", tile=0, phase=0, passes=3):
    return torch.cat(seeded_masks(detector, seed, video, tile, phase, passes), dim=1)


def test_shapes_and_values(detector):
    masks_in, masks_out = seeded_masks(detector, 0, "v", 0, 0, 50)
    assert masks_in.shape == (50, 208) and masks_out.shape == (50, 32)  # 832 / 4 and 2 · 16
    assert set(masks_in.unique().tolist()) == set(masks_out.unique().tolist()) == {0.0, 2.0}
    kept = (torch.cat([masks_in, masks_out], 1) > 0).float().mean().item()
    assert abs(kept - 0.5) < 5 * 0.5 / (50 * 240) ** 0.5  # five standard deviations


def test_the_same_key_gives_the_same_masks_whatever_came_before(detector):
    first = masks(detector)
    np.random.seed(5)
    torch.manual_seed(5)
    masks(detector, video="another", tile=3)
    assert torch.equal(masks(detector), first)


def test_each_part_of_the_key_matters(detector):
    keys = [
        {},
        {"seed": 1},
        {"video": "Biking/w"},
        {"tile": 1},
        {"phase": 1},
        {"seed": 1, "tile": 1},
        {"tile": 2, "phase": 1},
        {"tile": 1, "phase": 2},
    ]
    rows = [row for key in keys for row in masks(detector, **key)]  # three passes of each
    for a, b in itertools.combinations(rows, 2):
        assert 0.2 < (a != b).float().mean() < 0.8  # unrelated: half the channels differ


def test_a_pass_does_not_depend_on_how_many_there_are(detector):
    assert torch.equal(masks(detector, passes=10)[:3], masks(detector, passes=3))


def test_antithetic_masks_come_in_pairs_of_opposites(detector):
    for passes in (1, 4, 5):
        pairs = torch.cat(seeded_masks(detector, 0, "v", 1, 0, passes, "antithetic"), 1)
        plain = torch.cat(seeded_masks(detector, 0, "v", 1, 0, passes), 1)
        assert len(pairs) == passes and set(pairs.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(pairs[::2], plain[::2])  # those of the published form
        assert torch.equal(pairs[1::2], 2 - pairs[::2][: passes // 2])
    with pytest.raises(ValueError, match="independent or antithetic"):
        seeded_masks(detector, 0, "v", 0, 0, 2, "paired")


def test_antithetic_masks_keep_the_expectation_and_lose_noise(detector, clip):
    """Over many seeds the mean probability of a clip is the same; over few passes it is nearer
    to that.
    """

    def means(form, seeds):
        found = []
        for seed in seeds:
            logits, _ = mc_forward(
                detector, clip, *seeded_masks(detector, seed, "v", 0, 0, 4, form)
            )
            found.append(logits.sigmoid().mean((0, 1)))
        return torch.stack(found)

    plain, pairs = means("independent", range(40)), means("antithetic", range(40, 80))
    noise = plain.std(0), pairs.std(0)
    assert noise[1].mean() < 0.8 * noise[0].mean()
    apart = (plain.mean(0) - pairs.mean(0)) / ((noise[0] ** 2 + noise[1] ** 2) / 40).sqrt()
    assert (apart**2).mean() < 3  # about 1 where the expectations are equal


def test_masks_leave_the_global_random_state_alone(detector):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    masks(detector)
    assert torch.equal(torch.rand(3), expected)


# ---- passes ----


def test_sharing_equals_plain_passes(detector, clip):
    masks_in, masks_out = seeded_masks(detector, 0, "v", 2, 1, 4)
    masks_in[1], masks_out[1] = 0, 0  # nothing left
    masks_in[2], masks_out[2] = 1, 1  # nothing dropped
    logits, latent = mc_forward(detector, clip, masks_in, masks_out)
    assert logits.shape == (4, 8, 64, 64) and not logits.requires_grad
    network = PlainDetector(detector.config).eval()
    network.load_state_dict(detector.state_dict())
    plain, plain_latent = plain_scoring(network, clip, masks_in, masks_out)
    scale = plain.std().item()
    assert (logits - plain).abs().max() < 1e-5 and scale > 1e-3
    torch.testing.assert_close(latent, plain_latent, rtol=0, atol=1e-5)
    assert (plain[0] - plain[3]).abs().max() > 0.1 * scale  # the masks do something


def test_poses_are_masked_by_the_class_that_each_pass_predicts(detector, clip):
    network = copy.deepcopy(detector)
    network.config = replace(network.config, class_masking=True)
    masks_in, masks_out = seeded_masks(network, 0, "v", 2, 1, 3)
    with torch.no_grad():
        plain = torch.cat(
            [
                network.head(network.encode(clip), i[None], o[None]).logits[:, 0]
                for i, o in zip(masks_in, masks_out, strict=True)
            ]
        )
    found = mc_forward(network, clip, masks_in, masks_out)[0]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-5)
    assert (found - mc_forward(detector, clip, masks_in, masks_out)[0]).abs().max() > 1e-3


def test_both_masks_reach_the_logits(detector, clip):
    masks_in, masks_out = seeded_masks(detector, 0, "v", 0, 0, 2)
    both = mc_forward(detector, clip, masks_in, masks_out)[0]
    for other in (
        mc_forward(detector, clip, torch.ones_like(masks_in), masks_out),
        mc_forward(detector, clip, masks_in, torch.ones_like(masks_out)),
    ):
        assert (other[0] - both).abs().max() > 0.05 * both.std()


def test_a_dropped_channel_is_dropped_in_whole(detector, clip):
    """Whatever a dropped feature channel holds, in whichever place, cannot change the
    logits of that pass.
    """
    masks_in, masks_out = seeded_masks(detector, 0, "v", 0, 0, 1)
    features = detector.encode(clip)
    changed = (
        features.mixed_4f
        + 100 * torch.rand_like(features.mixed_4f) * (masks_in == 0)[:, :, None, None]
    )
    with torch.no_grad():
        before = detector.head(features, masks_in, masks_out).logits
        after = detector.head(features._replace(mixed_4f=changed), masks_in, masks_out).logits
    torch.testing.assert_close(after, before, rtol=0, atol=0)


def test_masks_of_ones_are_the_evaluation_mode_forward(detector, clip):
    ones = [torch.ones(2, channels) for channels in detector.dropped_channels]
    logits, latent = mc_forward(detector, clip, *ones)
    with torch.no_grad():
        plain = detector(clip)
    for r in range(2):
        torch.testing.assert_close(logits[r], plain.logits[0, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(latent, plain.latent[0], rtol=0, atol=1e-5)


def test_the_latent_is_the_evaluation_mode_one_whatever_is_dropped(detector, clip):
    _, latent = mc_forward(detector, clip, *seeded_masks(detector, 0, "v", 0, 0, 3))
    with torch.no_grad():
        plain = detector(clip).latent[0]
    assert latent.shape == (17 * 4,)
    torch.testing.assert_close(latent, plain, rtol=0, atol=1e-6)


def test_scoring_in_training_mode_is_refused(detector, clip):
    detector.train()
    try:
        with pytest.raises(AssertionError, match="evaluation mode"):
            mc_forward(detector, clip, *seeded_masks(detector, 0, "v", 0, 0, 1))
    finally:
        detector.eval()


# ---- latents of tiles ----


@pytest.mark.parametrize("training", [False, True])
def test_latents_of_tiles_are_the_evaluation_mode_ones(detector, training):
    clips = torch.randint(
        0, 256, (3, 8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with torch.no_grad():
        expected = detector(normalize(clips, "-1..1")).latent.numpy()
    detector.train(training)
    try:
        latents = tile_latents(detector, clips, "-1..1")
        assert detector.training == training
    finally:
        detector.eval()
    assert latents.shape == (3, 68) and latents.dtype == np.float32
    np.testing.assert_allclose(latents, expected, atol=1e-5)
    assert all(
        torch.equal(value, before[name]) for name, value in detector.state_dict().items()
    )
