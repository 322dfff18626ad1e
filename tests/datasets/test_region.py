"""Tests of claus.datasets.clips.region: the published crop, cut out of what a network says of
the whole frame.
"""

import numpy as np
import pytest
import torch

from claus.datasets.clips.geometry import GEOMETRY, ClipGeometry, center_crop, transform
from claus.datasets.clips.region import REGIONS, region_of, to_region
from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.truth import truth_masks, truth_of

SIZES = [(240, 320), (320, 180), (136, 320), (480, 480)]  # 4:3, portrait, 2.35:1, square


def in_every_frame(height, width, box):
    tubes = (Tube(1, 0, np.arange(2), boxes=np.array([box] * 2)),)
    return Video("v", 2, height, width, 0, np.arange(2), tubes)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("fit", ["whole", "letterbox"])
@pytest.mark.parametrize("crop", ["wide", "square", "jhmdb", "whole"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_perfect_map_of_the_whole_frame_is_the_truth_of_the_region(fit, crop, height, width):
    """The same pixels of the same ground truth as of a network that sees the crop alone."""
    geometry, region = GEOMETRY["full", fit], REGIONS[crop]
    box = np.array([0.1 * width, 0.15 * height, 0.5 * width, 0.9 * height]).astype(int)
    video = in_every_frame(height, width, box)
    x0, y0, x1, y1 = box
    masks = np.zeros((2, height, width), np.uint8)
    masks[:, y0:y1, x0:x1] = 1
    seen = transform(masks, geometry, center_crop(geometry))
    logits = torch.where(seen > 0, 9.0, -9.0)
    found = to_region(logits, geometry, region, height, width).numpy() >= 0
    truth = truth_masks(truth_of(video, region, "union"))
    assert found.shape == truth.shape == (2, 224, 224) and truth.any()
    assert iou(found, truth) > 0.96  # an edge may lie a pixel off
    if crop != "whole":  # nothing is seen of what lies outside
        assert region_of(GEOMETRY["full", crop], "wide") == GEOMETRY["full", crop]


def test_what_a_network_sees_of_a_crop_is_scored_as_it_is():
    geometry = GEOMETRY["small", "wide"]
    logits = torch.rand(3, 64, 64)
    assert region_of(geometry, "square") is geometry
    assert to_region(logits, geometry, geometry, 240, 320) is logits


def test_a_map_moves_to_the_region_by_hand():
    """Map 8x8 of a whole frame of 8x8, region its middle 4x4 in 4x4 pixels."""
    geometry = ClipGeometry((8, 8), (8, 8), 8, "whole")
    maps = torch.arange(64.0).reshape(1, 8, 8)
    middle = to_region(maps, geometry, ClipGeometry((8, 8), (4, 4), 4), 8, 8)
    assert torch.equal(middle, maps[:, 2:6, 2:6])
    twice = to_region(maps, geometry, ClipGeometry((8, 8), (4, 4), 8), 80, 80)
    assert twice[0, 0].tolist() == pytest.approx(  # a quarter of a pixel from the centers
        [17.75 + 8 * -0.25 + 0.5 * n for n in range(8)]
    )


@pytest.mark.parametrize("fit", ["whole", "letterbox"])
def test_no_truth_is_made_in_what_a_network_sees_with_bars(fit):
    video = in_every_frame(320, 180, [10, 10, 50, 50])
    for geometry in (GEOMETRY["small", fit], ClipGeometry((8, 8), (8, 8), 8, "letterbox")):
        with pytest.raises(ValueError, match="give a region, see region_of"):
            truth_of(video, geometry, "union")


def test_what_is_not_seen_is_no_foreground():
    maps, whole = torch.full((1, 4, 4), 5.0), ClipGeometry((8, 8), (8, 8), 8, "whole")
    found = to_region(maps, ClipGeometry((8, 8), (4, 4), 4), whole, 16, 16)[0]
    assert (found[2:6, 2:6] == 5).all() and (found == 5).sum() == 16 and found.min() < -1e9


def test_bars_are_not_looked_at():
    """A wide frame of 4:1 in a square of 8: two rows of picture."""
    geometry = ClipGeometry((8, 8), (8, 8), 8, "letterbox")
    assert geometry.shown(2, 8) == (slice(3, 5), slice(0, 8))
    maps = torch.full((1, 8, 8), 99.0)
    maps[:, 3:5] = torch.tensor([1.0, 3.0])[:, None]
    region = ClipGeometry((8, 8), (8, 8), 8, "whole")
    rows = to_region(maps, geometry, region, 2, 8)[0, :, 0]
    assert rows.tolist() == pytest.approx([1, 1, 1.25, 1.75, 2.25, 2.75, 3, 3])


def test_a_published_protocol_has_its_crop_and_own_videos_the_whole_frame():
    from claus.datasets.table import default_crop
    from claus.steps.evaluate import View, view_of

    class Trained:
        def __init__(self, geometry, dataset):
            self.geometry, self.dataset = geometry, dataset

    whole, wide = GEOMETRY["small", "whole"], GEOMETRY["small", "wide"]
    assert [default_crop(n) for n in ("ucf101-24", "jhmdb-21")] == ["wide", "jhmdb"]
    assert default_crop("charades", "jhmdb") == "jhmdb"
    assert default_crop("own", "ucf101") == default_crop("own", "jhmdb") == "whole"
    assert view_of(Trained(whole, "ucf101-24"), None) == View(whole, REGIONS["wide"])
    assert view_of(Trained(whole, "ucf101-24"), "square") == View(whole, REGIONS["square"])
    assert view_of(Trained(whole, "own"), None).region.words == "whole frame"
    square = GEOMETRY["small", "square"]
    assert view_of(Trained(wide, "own"), None) == View(wide, wide)
    assert view_of(Trained(wide, "ucf101-24"), "square") == View(square, square)
    assert len(View(wide, wide).to_list()) == 1 and len(View(whole, wide).to_list()) == 2
