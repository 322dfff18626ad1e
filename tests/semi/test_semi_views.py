"""Strong views: against torchvision, clip by clip, and that they leave geometry and mean
brightness alone.
"""

import pytest
import torch
from torchvision.transforms.v2 import functional as TF

from claus.semi.views import blur, color, mirrored, strong_view


def clips(count=4, frames=2, side=24):
    return (
        torch.rand(count, frames, 3, side, side, generator=torch.Generator().manual_seed(0))
        * 255
    )


def still(count=4):
    """Clips whose frames are all the same, so that a clip's mean gray is each frame's."""
    return clips(count, 1).expand(-1, 3, -1, -1, -1)


ONE, NONE = torch.ones(4), torch.zeros(4)
FACTORS = torch.tensor([0.6, 0.9, 1.0, 1.4])


@pytest.mark.parametrize(
    "which, adjust",
    [(0, TF.adjust_brightness), (1, TF.adjust_contrast), (2, TF.adjust_saturation)],
    ids=["brightness", "contrast", "saturation"],
)
def test_each_clip_is_adjusted_as_torchvision_does(which, adjust):
    x = still()
    factors = [ONE, ONE, ONE]
    factors[which] = FACTORS
    expected = torch.stack(
        [
            adjust(clip / 255, float(factor)) * 255
            for clip, factor in zip(x, FACTORS, strict=True)
        ]
    )
    torch.testing.assert_close(color(x, *factors, NONE), expected, atol=0.02, rtol=0)


def test_saturation_zero_is_torchvisions_gray():
    x = still()
    expected = TF.rgb_to_grayscale(x / 255, 3) * 255
    torch.testing.assert_close(color(x, ONE, ONE, NONE, NONE), expected, atol=0.02, rtol=0)


def test_hue_turns_colors_and_keeps_luma():
    x = clips() / 2 + 64  # away from the ends, so nothing is clamped
    turned = color(x, ONE, ONE, ONE, torch.tensor([0.0, 30.0, -30.0, 360.0]))
    torch.testing.assert_close(turned[[0, 3]], x[[0, 3]], atol=0.02, rtol=0)
    assert ((turned - x)[1:3].abs().amax((1, 2, 3, 4)) > 10).all()
    luma = torch.tensor([0.2989, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((turned * luma).sum(2), (x * luma).sum(2), atol=0.05, rtol=0)
    back = color(turned, ONE, ONE, ONE, torch.tensor([0.0, -30.0, 30.0, 0.0]))
    torch.testing.assert_close(back, x, atol=0.2, rtol=0)
    gray = torch.full((1, 1, 3, 4, 4), 90.0)
    torch.testing.assert_close(
        color(gray, ONE[:1], ONE[:1], ONE[:1], torch.tensor([36.0])), gray, atol=0.05, rtol=0
    )


def test_blur_is_torchvisions_with_every_clips_own_sigma():
    x, sigma = clips(), torch.tensor([0.1, 0.7, 1.3, 2.0])
    expected = torch.stack(
        [
            TF.gaussian_blur(clip, [9, 9], [float(s)] * 2)
            for clip, s in zip(x, sigma, strict=True)
        ]
    )
    torch.testing.assert_close(blur(x, sigma), expected, atol=1e-3, rtol=1e-5)


def test_a_strong_view_changes_every_clip_alone_and_all_its_frames_alike():
    torch.manual_seed(0)
    x = still(8)[:1].expand(8, -1, -1, -1, -1)  # eight times the same clip
    view = strong_view(x.to(torch.uint8))
    assert view.shape == x.shape and view.min() >= 0 and view.max() <= 255
    torch.testing.assert_close(view[:, :1].expand_as(view), view)  # frames stay alike
    pairs = [(view[i] - view[j]).abs().max() for i in range(8) for j in range(i)]
    assert min(pairs) > 1  # no two clips are


def test_a_strong_view_keeps_the_geometry():
    torch.manual_seed(1)
    x = torch.zeros(16, 2, 3, 32, 32)
    x[..., 10:20, 4:9] = 200.0
    lit = strong_view(x)[:, 0].mean(1) > 60
    assert torch.equal(lit[:, 12:18, 5:8].flatten(1).all(1), torch.ones(16, dtype=torch.bool))
    assert not lit[:, :7].any() and not lit[:, :, 12:].any()


def test_the_seed_alone_decides():
    x = clips().to(torch.uint8)
    torch.manual_seed(5)
    first = strong_view(x)
    torch.manual_seed(5)
    assert torch.equal(first, strong_view(x)) and not torch.equal(first, strong_view(x))


def test_mirrored_is_its_own_inverse_and_flips_columns():
    x = torch.arange(6.0).reshape(1, 2, 3)
    assert mirrored(x)[0, 0].tolist() == [2, 1, 0] and torch.equal(mirrored(mirrored(x)), x)
