"""Regions of foreground to boxes, boxes back to the video's pixels, and ground truth in the
same form.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from claus.datasets.clips.geometry import GEOMETRY, ClipGeometry, center_crop, transform
from claus.datasets.labels.masks import PackedMasks
from claus.metrics import detections
from claus.metrics.act import frame_ap
from claus.metrics.boxes import Boxes
from claus.metrics.masks import mask_boxes, scored_boxes, to_video_pixels, truth

PLAIN = ClipGeometry((20, 20), (20, 20), 20)


def maps(*pictures):
    """Probability maps from pictures of digits (tenths)."""
    return np.array(
        [[[int(c) / 10 for c in row] for row in picture.split()] for picture in pictures]
    )


def test_regions_by_hand():
    probs = maps(
        "90000 09000 00000 00056 00050",
        "00000 00000 00400 00000 00000",
        "55500 00000 00000 00000 00009",
    )
    where, boxes, mean = mask_boxes(probs, min_area=0)
    assert where.tolist() == [0, 0, 2, 2]  # .4 is no foreground, .5 is
    assert boxes.tolist() == [[0, 0, 2, 2], [3, 3, 5, 5], [0, 0, 3, 1], [4, 4, 5, 5]]
    np.testing.assert_allclose(mean, [0.9, 1.6 / 3, 0.5, 0.9])
    where, boxes, _ = mask_boxes(probs, min_area=0, connectivity=4)
    assert boxes.tolist()[:2] == [[0, 0, 1, 1], [1, 1, 2, 2]] and where.tolist() == [
        0,
        0,
        0,
        2,
        2,
    ]
    assert mask_boxes(probs, min_area=0, threshold=0.55)[0].tolist() == [0, 0, 2]


def test_area_floor_is_a_share_of_the_map_bound_inside():
    probs = maps("55500 00000 00000 00000 00055")
    assert mask_boxes(probs, min_area=3 / 25)[1].tolist() == [[0, 0, 3, 1]]
    assert mask_boxes(probs, min_area=3.1 / 25)[1].shape == (0, 4)


def test_regions_do_not_reach_across_maps():
    probs = np.ones((3, 4, 4))
    where, boxes, mean = mask_boxes(probs)
    assert (
        where.tolist() == [0, 1, 2]
        and boxes.tolist() == [[0, 0, 4, 4]] * 3
        and mean.tolist() == [1, 1, 1]
    )


def test_no_foreground_and_no_map():
    for probs in (np.zeros((2, 4, 4)), np.zeros((0, 4, 4))):
        where, boxes, mean = mask_boxes(probs)
        assert where.shape == (0,) and boxes.shape == (0, 4) and mean.shape == (0,)


def test_regions_equal_a_flood_fill():
    rng = np.random.default_rng(0)
    for connectivity in (4, 8):
        probs = rng.random((6, 9, 11)).astype(np.float32)
        where, boxes, mean = mask_boxes(probs, min_area=2 / 99, connectivity=connectivity)
        expected = [
            region
            for t in range(6)
            for region in flood(probs[t], t, connectivity)
            if region[-1] >= 2
        ]
        found = sorted(
            (t, *box, round(m, 5))
            for t, box, m in zip(where.tolist(), boxes.tolist(), mean, strict=True)
        )
        assert found == sorted((*region[:5], round(region[5], 5)) for region in expected)


def flood(probs, t, connectivity):
    """(map, x0, y0, x1, y1, mean, area) of each region, pixel by pixel."""
    todo = {(y, x) for y, x in np.ndindex(probs.shape) if probs[y, x] >= 0.5}
    while todo:
        region, edge = [], [todo.pop()]
        while edge:
            y, x = edge.pop()
            region.append((y, x))
            for dy, dx in np.ndindex(3, 3):
                other = y + dy - 1, x + dx - 1
                if other in todo and (connectivity == 8 or 1 in (dy, dx)):
                    todo.remove(other)
                    edge.append(other)
        ys, xs = zip(*region, strict=True)
        yield (
            t,
            min(xs),
            min(ys),
            max(xs) + 1,
            max(ys) + 1,
            float(np.mean([probs[p] for p in region])),
            len(region),
        )


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.5])
def test_what_is_no_probability_is_refused_by_place(bad):
    probs = np.zeros((2, 4, 4))
    probs[1, 2, 3] = bad
    with pytest.raises(ValueError, match=f"map 1, pixel x 3 y 2: {bad} is not a probability"):
        mask_boxes(probs)
    with pytest.raises(ValueError, match="video Biking/v_1: map 1"):
        scored_boxes("Biking/v_1", [0, 1], probs, [0.5], PLAIN, 20, 20)


def test_other_refusals():
    with pytest.raises(ValueError, match="give maps"):
        mask_boxes(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="connectivity 6"):
        mask_boxes(np.zeros((1, 4, 4)), connectivity=6)
    with pytest.raises(ValueError, match=r"video 3, frame 5, class 1\): score nan"):
        scored_boxes(3, [5], np.ones((1, 4, 4)), [0.5, np.nan], PLAIN, 20, 20)


# --- geometry -----------------------------------------------------------------------------


def test_way_back_by_hand():
    """224x296 of 240x320, seen as 224x224: one map pixel is 296/224 pixels wide; 12 columns
    and 8 rows are cut off.
    """
    wide = GEOMETRY["full", "wide"]
    assert to_video_pixels([[0, 0, 224, 224]], wide, 240, 320).tolist() == [[12, 8, 308, 232]]
    assert to_video_pixels([[112, 0, 168, 56]], wide, 240, 320).tolist() == [[160, 8, 234, 64]]
    assert to_video_pixels([[0, 0, 224, 224]], wide, 480, 640).tolist() == [
        [24, 16, 616, 464]
    ]  # a larger video
    assert to_video_pixels([[0, 0, 224, 224]], wide, 240, 320, corner=(0, 24)).tolist() == [
        [24, 0, 320, 224]
    ]
    assert to_video_pixels([], wide, 240, 320).shape == (0, 4)


@pytest.mark.parametrize("name", GEOMETRY)
@pytest.mark.parametrize("size", [(240, 320), (120, 200)])
def test_way_back_undoes_the_clip_transform(name, size):
    """A box drawn into the video, seen by the network's eyes, and brought back: within two
    pixels of its grid.
    """
    geometry, rng = GEOMETRY[name], np.random.default_rng(0)
    tolerance = (
        2
        * max(size[0] / geometry.frame[0], size[1] / geometry.frame[1])
        * max(geometry.crop)
        / geometry.size
    )
    for _ in range(10):
        y0, x0 = (int(rng.integers(0.35 * side, 0.45 * side)) for side in size)
        y1, x1 = (int(rng.integers(0.55 * side, 0.65 * side)) for side in size)
        mask = np.zeros((1, *size), dtype=np.uint8)
        mask[0, y0:y1, x0:x1] = 1
        _, boxes, _ = mask_boxes(
            transform(mask, geometry, center_crop(geometry)).numpy().astype(float)
        )
        np.testing.assert_allclose(
            to_video_pixels(boxes, geometry, *size), [[x0, y0, x1, y1]], atol=tolerance
        )


# --- whole frames -------------------------------------------------------------------------


def test_every_region_gets_a_row_for_every_class():
    probs = np.zeros((3, 20, 20), dtype=np.float32)
    probs[0, 2:7, 3:9], probs[0, 10:15, 10:15], probs[1, 0:5, 0:5], probs[2] = 0.5, 1, 0.75, 1
    boxes = scored_boxes("v", [8, 10, -1], probs, [0.2, 0.6], PLAIN, 20, 20)
    assert boxes.video.tolist() == ["v"] * 6 and boxes.frame.tolist() == [
        8,
        8,
        8,
        8,
        10,
        10,
    ]  # -1 is padding
    assert boxes.label.tolist() == [0, 1] * 3
    np.testing.assert_allclose(boxes.score, [0.1, 0.3, 0.2, 0.6, 0.15, 0.45])
    assert boxes.box[::2].tolist() == [
        [3, 2, 8, 6],
        [10, 10, 14, 14],
        [0, 0, 4, 4],
    ]  # inclusive corners
    boxes = scored_boxes("v", [8, 10, -1], probs, [[0.2], [1], [np.nan]], PLAIN, 20, 20)
    np.testing.assert_allclose(boxes.score, [0.1, 0.2, 0.75])


def test_nothing_in_a_video():
    boxes = scored_boxes(0, [0, 1], np.zeros((2, 4, 4)), [0.2, 0.8], PLAIN, 20, 20)
    padded = scored_boxes(0, [-1], np.ones((1, 4, 4)), [0.2, 0.8], PLAIN, 20, 20)
    assert len(boxes) == len(padded) == len(Boxes.concat([boxes, padded], scored=True)) == 0


def test_truth_of_boxes_and_masks():
    masks = np.zeros((2, 6, 8), dtype=bool)
    masks[0, 2:5, 1:4] = masks[1, 5, 7] = masks[1, 0, 3] = True
    one = SimpleNamespace(
        tubes=(
            SimpleNamespace(
                label=2, frames=np.array([3, 4], np.int32), masks=masks, boxes=None
            ),
        )
    )
    two = SimpleNamespace(
        tubes=(
            SimpleNamespace(label=0, frames=[7], boxes=[[1, 2, 11, 22]], masks=None),
            SimpleNamespace(label=0, frames=[7], boxes=[[0, 0, 1, 1]], masks=None),
        )
    )
    empty = SimpleNamespace(tubes=())
    boxes, tubes = truth([one, empty, two])
    assert boxes.video.tolist() == [0, 0, 2, 2] and boxes.frame.tolist() == [3, 4, 7, 7]
    assert boxes.label.tolist() == [2, 2, 0, 0] and boxes.score is None
    assert boxes.box.tolist() == [[1, 2, 3, 4], [3, 0, 7, 5], [1, 2, 10, 21], [0, 0, 0, 0]]
    assert [(t.video, t.label, t.frames.tolist(), t.score) for t in tubes] == [
        (0, 2, [3, 4], None),
        (2, 0, [7], None),
        (2, 0, [7], None),
    ]
    nothing, none = truth([empty])
    assert len(nothing) == 0 and none == []


def test_a_perfect_mask_of_the_whole_picture_scores_one():
    """From drawn masks to frame-AP: the two conventions of corners meet without losing a
    pixel.
    """
    probs = np.zeros((1, 20, 20))
    probs[0, 4:9, 5:15] = 1
    video = SimpleNamespace(
        tubes=(SimpleNamespace(label=1, frames=[0], boxes=[[5, 4, 15, 9]], masks=None),)
    )
    found = scored_boxes(0, [0], probs, [0.1, 0.9], PLAIN, 20, 20)
    assert frame_ap(truth([video])[0], found, ("a", "b"), (1.0,)).mean_ap[0] == 1


def scipy_boxes(probs_T_H_W, threshold, min_area, connectivity):
    """mask_boxes by scipy.ndimage, all maps at once."""
    touching = np.zeros((3, 3, 3), dtype=bool)
    touching[1] = ndimage.generate_binary_structure(2, 2 if connectivity == 8 else 1)
    region, n = ndimage.label(probs_T_H_W >= threshold, touching)
    area_N = np.bincount(region.ravel(), minlength=n + 1)[1:]
    sum_N = np.bincount(region.ravel(), probs_T_H_W.ravel(), minlength=n + 1)[1:]
    large_N = area_N >= min_area * probs_T_H_W[0].size
    places = [
        (t.start, x.start, y.start, x.stop, y.stop) for t, y, x in ndimage.find_objects(region)
    ]
    places_N_5 = np.array(places).reshape(-1, 5)[large_N]
    return places_N_5[:, 0], places_N_5[:, 1:], sum_N[large_N] / area_N[large_N]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("smooth", [0, 1, 4])
def test_regions_of_random_maps_are_exactly_those_of_scipy(connectivity, smooth):
    rng = np.random.default_rng(smooth)
    for dtype in (np.float32, np.float64):
        probs = ndimage.gaussian_filter(rng.random((6, 40, 56)), (0, smooth, smooth))
        probs = ((probs - probs.min()) / np.ptp(probs)).astype(dtype)
        probs[3] = 0
        for threshold, min_area in ((0.5, 0), (0.55, 0.001), (0.7, 0.01)):
            made = mask_boxes(
                probs, threshold=threshold, min_area=min_area, connectivity=connectivity
            )
            expected = scipy_boxes(probs, threshold, min_area, connectivity)
            for one, other in zip(made, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            assert len(made[0]) or smooth == 0


# --------------------------------------------------------------------------- some at a time


@pytest.mark.parametrize("link", ["gaps", "tubelet"])
def test_classes_at_a_time_are_all_classes_at_once(monkeypatch, link):
    """Videos of several actors and classes, some without truth, some without detections."""
    rng, classes = np.random.default_rng(0), tuple("abcde")
    settings = detections.DetectionSettings(link=link)
    videos, regions, boxes = [], [], []
    for number in range(4):
        tubes = []
        for label in (0, number % 2, 3):
            corner = rng.integers(0, 30, 2) + np.arange(20)[:, None]
            around = np.concatenate([corner, corner + rng.integers(9, 20, 2)], axis=1)
            tubes.append(
                SimpleNamespace(label=label, frames=np.arange(20), boxes=around, masks=None)
            )
        videos.append(SimpleNamespace(tubes=tubes))
        frames, none = np.repeat(np.arange(20), 3), np.zeros(60, int)
        near = np.stack([tube.boxes for tube in tubes], axis=1).reshape(60, 4)
        near = near + rng.integers(-1, 2, (60, 4))
        found = Boxes(none, frames, none, near, rng.random(60).round(1))
        scores = rng.random((3, 5)).round(1)
        regions.append(detections.Regions(found, scores, frames % 3))
        boxes.append(regions[-1].of_classes(number, range(5)))
        assert len(boxes[-1]) == len(regions[-1]) == 300
    at_once = detections.report(videos, boxes, classes, "all", settings)
    assert at_once["frame"]["detections"] == 1200 and at_once["frame"]["mean_ap"][0] > 0
    assert at_once["video"]["detections"] > 20
    for rows in (1, 500):  # one class at a time, two
        monkeypatch.setattr(detections, "ROWS", rows)
        assert detections.report(videos, boxes, classes, "all", settings) == at_once
        assert detections.report(videos, regions, classes, "all", settings) == at_once


def test_masks_are_looked_at_in_blocks(monkeypatch):
    masks = np.random.default_rng(0).random((7, 9, 11)) < 0.1
    masks[:, 4, 5] = True
    tube = SimpleNamespace(label=0, frames=np.arange(7), boxes=None, masks=masks)
    whole, _ = truth([SimpleNamespace(tubes=[tube])])
    monkeypatch.setattr("claus.metrics.masks.BLOCK", 3)
    tube.masks = PackedMasks.pack(masks)
    blocks, _ = truth([SimpleNamespace(tubes=[tube])])
    np.testing.assert_array_equal(blocks.box, whole.box)
    rows, columns = np.nonzero(masks[6])
    assert blocks.box[6].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
