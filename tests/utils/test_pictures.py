"""The picture of a training clip, pixel by pixel on a made-up one."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps

from claus.utils.clip_sheet import OUTLINE, _edge, clip_sheet

T, S = 3, 16


@pytest.fixture
def clip():
    """Gray frames; a 6 x 6 square in frame 1, which is the labeled one; weight 0, 1, ½;
    prediction 0, 0, 1.
    """
    target = torch.zeros(T, S, S, dtype=torch.uint8)
    target[1, 5:11, 5:11] = 1
    weight = torch.tensor([0, 1, 0.5])[:, None, None].expand(T, S, S)
    probability = torch.tensor([0.0, 0, 1])[:, None, None].expand(T, S, S)
    return {
        "frames": torch.full((T, 3, S, S), 100, dtype=torch.uint8),
        "target": target,
        "weight": weight,
        "probability": probability,
        "on_label": torch.tensor([False, True, False]),
    }


def cells(clip):
    """[row][column] of (S,S,3) pictures."""
    sheet = clip_sheet(**clip)
    assert sheet.shape == (3, 4 * S, T * S) and sheet.dtype == torch.uint8
    picture = sheet.permute(1, 2, 0).numpy()
    return [
        [picture[row * S : (row + 1) * S, t * S : (t + 1) * S] for t in range(T)]
        for row in range(4)
    ]


def color(colormap, value):
    return np.array(colormaps[colormap](value)[:3]) * 255


def test_the_labeled_frame_has_a_border_and_the_outline_of_its_label(clip):
    plain, labeled, after = cells(clip)[0]
    assert (plain == 100).all() and (after == 100).all()
    green = (labeled == OUTLINE).all(-1)
    expected = np.ones((S, S), bool)
    expected[2:-2, 2:-2] = False  # two pixels of border
    expected[5:11, 5:11] = True
    expected[6:10, 6:10] = False  # and the square's outermost pixels
    np.testing.assert_array_equal(green, expected)
    assert (labeled[~green] == 100).all()


def test_the_pseudo_label_is_tinted_where_it_is(clip):
    _, tinted, _ = cells(clip)[1]
    inside = np.zeros((S, S), bool)
    inside[5:11, 5:11] = True
    assert (tinted[~inside] == 100).all()
    np.testing.assert_allclose(
        tinted[inside], np.tile(0.4 * 100 + 0.6 * color("winter", 1.0), (36, 1)), atol=2
    )


def test_the_weight_goes_from_dark_to_bright(clip):
    for cell, value in zip(cells(clip)[2], (0.0, 1.0, 0.5), strict=True):
        np.testing.assert_allclose(
            cell.reshape(-1, 3), np.tile(color("magma", value), (S * S, 1)), atol=2
        )


def test_the_prediction_is_tinted_by_its_probability(clip):
    nothing, _, sure = cells(clip)[3]
    assert (nothing == 100).all()
    expected = 0.4 * 100 + 0.6 * color("autumn", 1.0)
    np.testing.assert_allclose(sure.reshape(-1, 3), np.tile(expected, (S * S, 1)), atol=2)


def test_the_inputs_stay_as_they_are(clip):
    before = {name: value.clone() for name, value in clip.items()}
    clip_sheet(**clip)
    assert all(torch.equal(value, before[name]) for name, value in clip.items())


def test_no_label_and_a_label_on_the_whole_frame(clip):
    clip["target"][:] = 1
    clip["on_label"][:] = False
    assert (np.array(cells(clip)[0]) == 100).all()
    clip["on_label"][:] = True
    first = cells(clip)[0][0]
    assert (first[2:-2, 2:-2] == 100).all() and (first[:2] == OUTLINE).all()


def test_the_outline_is_what_four_shifted_masks_leave_of_a_mask():
    rng = np.random.default_rng(0)
    for density in (0.2, 0.7, 0.95, 1):
        mask = rng.random((23, 31)) < density
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        np.testing.assert_array_equal(_edge(mask), mask & ~inner)
