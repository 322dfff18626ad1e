"""Masks between labeled frames: by hand where a shape can be followed by hand, and on real
masks.
"""

import cv2
import numpy as np
import pytest

from claus.datasets import jhmdb
from claus.datasets.labels import mask_interp
from claus.datasets.labels.mask_interp import (
    INTERPOLATIONS,
    interpolate,
    optical_flow,
    signed_distance,
)
from claus.datasets.labels.masks import PackedMasks
from claus.datasets.video.reader import read_frames

HEIGHT, WIDTH = 60, 80
WITHOUT_PIXELS = [method for method in INTERPOLATIONS if method != "flow"]
CLIP = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"


def box(x0, y0, x1, y1):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def disc(x, y, radius=10, height=HEIGHT, width=WIDTH):
    yy, xx = np.mgrid[:height, :width]
    return (xx - x) ** 2 + (yy - y) ** 2 <= radius**2


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def moving_disc(path, radius=16, height=96, width=128, seed=0):
    """(pictures (F,H,W,3), masks): a bright textured disc that moves along `path`, centers
    (x, y), on darker ground.
    """
    rng = np.random.default_rng(seed)
    ground, actor = (
        cv2.GaussianBlur(rng.uniform(*levels, (height, width, 3)), (0, 0), 2)
        for levels in ((0, 160), (80, 255))
    )
    pictures, masks = [], []
    for x, y in path:
        mask = disc(x, y, radius, height, width)
        pictures.append(
            np.where(mask[..., None], np.roll(actor, (y, x), (0, 1)), ground).astype(np.uint8)
        )
        masks.append(mask)
    return np.stack(pictures), np.stack(masks)


# ---- all methods ----


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_labeled_frames_keep_their_masks(method):
    pictures, masks = moving_disc([(30 + 3 * f, 40) for f in range(9)])
    labeled = [0, 4, 8]
    result = interpolate(masks[labeled], labeled, np.array([8, 0, 4, 4]), method, pictures)
    assert result.dtype == bool and np.array_equal(result, masks[[8, 0, 4, 4]])


@pytest.mark.parametrize("method", WITHOUT_PIXELS)
def test_before_the_first_and_after_the_last_label_the_mask_is_held(method):
    masks = np.stack([box(5, 5, 20, 20), box(30, 30, 50, 50)])
    result = interpolate(masks, [4, 9], [0, 3, 10, 200], method)
    assert np.array_equal(result, masks[[0, 0, 1, 1]])
    assert np.array_equal(interpolate(masks[:1], [4], [0, 4, 9], method), masks[[0, 0, 0]])


@pytest.mark.parametrize("method", WITHOUT_PIXELS)
def test_what_does_not_change_stays(method):
    masks = np.stack([disc(40, 30) | box(36, 38, 40, 55)] * 3)
    assert np.array_equal(interpolate(masks, [0, 7, 9], np.arange(10), method), masks[[0] * 10])


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_the_answer_for_a_frame_does_not_depend_on_what_else_is_asked(method):
    pictures, masks = moving_disc([(20 + 3 * f, 40 + (f % 5)) for f in range(21)])
    labeled, wanted = np.array([0, 6, 12, 20]), np.array([15, 3, 7, 1, 19, 3])
    whole = interpolate(masks[labeled], labeled, np.arange(21), method, pictures)
    assert np.array_equal(
        interpolate(masks[labeled], labeled, wanted, method, pictures), whole[wanted]
    )
    packed = PackedMasks.pack(masks[labeled])
    assert np.array_equal(interpolate(packed, labeled, wanted, method, pictures), whole[wanted])


@pytest.mark.parametrize("method", INTERPOLATIONS)
def test_small_pictures_and_masks_at_the_border(method):
    masks = np.zeros((2, 6, 8), bool)
    masks[0, 0:2, 0:3] = masks[1, 4:6, 5:8] = True
    pictures = np.zeros((5, 6, 8, 3), np.uint8)
    assert interpolate(masks, [0, 4], np.arange(5), method, pictures).shape == (5, 6, 8)
    masks[:] = True  # no outline at all
    assert interpolate(masks, [0, 4], np.arange(5), method, pictures).all()


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="blend, aligned, flow, sdf, hold, not 'best'"):
        interpolate(disc(5, 5)[None], [0], [0], "best")


# ---- each method by hand ----


def test_hold_takes_the_nearer_mask_and_the_earlier_of_two():
    masks = np.stack([box(0, 0, 5, 5), box(10, 10, 20, 20)])
    result = interpolate(masks, [2, 8], [3, 4, 5, 6, 7], "hold")
    assert np.array_equal(result, masks[[0, 0, 0, 1, 1]])


def test_signed_distance_against_loops():
    mask = np.random.default_rng(1).random((9, 12)) < 0.5
    distance, (ys, xs) = signed_distance(mask), np.mgrid[:9, :12]
    for y, x in np.ndindex(mask.shape):
        other = mask != mask[y, x]
        expected = np.sqrt((ys[other] - y) ** 2 + (xs[other] - x) ** 2).min() - 0.5
        assert distance[y, x] == pytest.approx(expected if mask[y, x] else -expected, abs=1e-4)


def test_signed_distance_moves_an_edge_linearly():
    masks = np.stack([box(0, 0, 8, HEIGHT), box(0, 0, 24, HEIGHT)])
    result = interpolate(masks, [0, 8], np.arange(9), "sdf")
    for f in range(9):
        assert np.array_equal(result[f], box(0, 0, 8 + 2 * f, HEIGHT)), f


def test_alignment_moves_a_shape_where_plain_distance_loses_it():
    masks = np.stack([box(10, 10, 18, 30), box(50, 22, 58, 42)])  # they do not overlap
    result = interpolate(masks, [0, 4], [1, 2, 3], "aligned")
    for f in (1, 2, 3):
        assert np.array_equal(
            result[f - 1], box(10 + 10 * f, 10 + 3 * f, 18 + 10 * f, 30 + 3 * f)
        ), f
    assert not interpolate(masks, [0, 4], [2], "sdf").any()


def test_blend_keeps_the_area_between_the_areas():
    masks = np.stack([disc(30, 30, 8), disc(34, 30, 16)])
    areas = interpolate(masks, [0, 4], [1, 2, 3]).sum((1, 2))
    first, last = masks.sum((1, 2))
    weights = [t**1.5 / (t**1.5 + (1 - t) ** 1.5) for t in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(areas, [first + w * (last - first) for w in weights], atol=2)


def test_blend_turns_a_growing_disc_into_a_disc():
    masks = np.stack([disc(40, 30, 10), disc(40, 30, 20)])
    middle = interpolate(masks, [0, 4], [2])[0]
    radius = np.sqrt((10**2 + 20**2) / 2)
    assert iou(middle, disc(40, 30, radius)) > 0.97


def test_blend_stretches_a_turning_bar_better_than_alignment():
    """A bar that leans more and more: second moments follow it, the centroid does not move."""
    yy, xx = np.mgrid[:HEIGHT, :WIDTH] - np.array([30, 40])[:, None, None]

    def bar(degrees):
        angle = np.deg2rad(degrees)
        along, across = (
            xx * np.cos(angle) + yy * np.sin(angle),
            yy * np.cos(angle) - xx * np.sin(angle),
        )
        return (np.abs(along) < 22) & (np.abs(across) < 4)

    masks, middle = np.stack([bar(0), bar(40)]), bar(20)
    blend, aligned = (
        iou(interpolate(masks, [0, 8], [4], method)[0], middle)
        for method in ("blend", "aligned")
    )
    assert blend > 0.6 and blend > aligned + 0.1


def test_the_guesses_of_the_blend_meet_the_other_label():
    """Each way of moving one label, all the way, lands on the other, and half the way in
    the middle.
    """
    a, b = (mask_interp.LabeledMask.of(mask) for mask in (disc(24, 26, 12), disc(44, 34, 12)))
    forth, still = mask_interp._flow_between(a, b), np.zeros(2)
    for share, goal in ((1, disc(44, 34, 12)), (0.5, disc(34, 30, 12)), (0, disc(24, 26, 12))):
        assert iou(mask_interp._warp(a.distance, forth, share, still) > 0, goal) > 0.93, share
        assert (
            iou(mask_interp._affine(a, a.center + share * (b.center - a.center)) > 0, goal)
            > 0.99
        ), share
    assert (
        iou(mask_interp._warp(a.distance, forth, 0.5, np.array([3, -2])) > 0, disc(37, 28, 12))
        > 0.93
    )
    wide, tall = (
        (np.indices((HEIGHT, WIDTH)) - 30) / np.array(axes)[:, None, None]
        for axes in ((8, 20), (20, 8))
    )
    wide, tall = (mask_interp.LabeledMask.of((field**2).sum(0) <= 1) for field in (wide, tall))
    stretch = mask_interp._stretch(wide, tall)
    np.testing.assert_allclose(stretch, [[8 / 20, 0], [0, 20 / 8]], rtol=0.05, atol=0.01)
    assert iou(mask_interp._affine(wide, tall.center, stretch) > 0, tall.distance > 0) > 0.95


def test_the_flow_moves_the_part_that_moved():
    """A body whose arm sinks by six pixels: the flow takes the arm down, alignment alone
    cannot.
    """
    body = box(30, 10, 42, 50)
    high, low = (mask_interp.LabeledMask.of(body | box(42, y, 62, y + 8)) for y in (18, 24))
    flow = mask_interp._flow_between(high, low)
    warped, aligned = (
        mask_interp._warp(high.distance, flow, 1, np.zeros(2)),
        mask_interp._affine(high, low.center),
    )
    assert iou(warped > 0, low.distance > 0) > 0.9 > iou(aligned > 0, low.distance > 0) + 0.1


def test_a_stretched_mask_is_a_guess_of_the_blend():
    masks = np.stack([box(15, 25, 66, 36), box(35, 5, 46, 56)])  # lying, standing
    assert iou(interpolate(masks, [0, 8], [4])[0], box(25, 15, 56, 46)) > 0.5


def test_backwards_in_time_is_the_same():
    """A disc that moves and grows: what holds from the one label to the other holds the
    other way round.
    """
    masks = np.stack([disc(20, 30, 9), disc(46, 24, 14)])
    forth = interpolate(masks, [0, 8], np.arange(9))
    back = interpolate(masks[::-1], [0, 8], np.arange(9))[::-1]
    assert min(iou(a, b) for a, b in zip(forth, back, strict=True)) > 0.97


def test_blend_follows_a_bent_way_through_more_than_two_labels():
    frames = np.arange(25)
    masks = np.stack([disc(15 + 2 * f, 12 + 0.25 * (f - 12) ** 2, 9) for f in frames])
    labeled = frames[::8]
    wanted = np.setdiff1d(frames, labeled)
    many = interpolate(masks[labeled], labeled, wanted)
    two = np.concatenate(
        [
            interpolate(masks[[a, a + 8]], [a, a + 8], np.arange(a + 1, a + 8))
            for a in labeled[:-1]
        ]
    )
    many, two = (
        np.mean([iou(a, b) for a, b in zip(found, masks[wanted], strict=True)])
        for found in (many, two)
    )
    assert many > two + 0.03


@pytest.mark.parametrize("moved", [1, 2], ids=["stretched", "warped"])
def test_each_moved_prediction_follows_the_spline(moved, monkeypatch):
    frames = np.arange(25)
    masks = np.stack([disc(15 + 2 * f, 12 + 0.25 * (f - 12) ** 2, 9) for f in frames])
    seen, real = [], mask_interp._highest

    def highest(guesses, *rest):
        seen.append(guesses)
        return real(guesses, *rest)

    monkeypatch.setattr(mask_interp, "_highest", highest)
    labeled = frames[::8]
    interpolate(masks[labeled], labeled, [12])
    window = mask_interp._window(masks[labeled])
    for prediction in seen[0][moved]:
        assert iou(prediction > 0, masks[12][window]) > 0.6


def test_flow_follows_the_pixels_where_labels_cannot():
    path = [(20 + 4 * f, 45) for f in range(13)] + [
        (68, 45 - 3 * f) for f in range(1, 9)
    ]  # to the right, then up
    pictures, masks = moving_disc(path)
    wanted = np.arange(1, 20)
    mean = {
        method: np.mean(
            [
                iou(a, b)
                for a, b in zip(
                    interpolate(masks[[0, 20]], [0, 20], wanted, method, pictures),
                    masks[wanted],
                    strict=True,
                )
            ]
        )
        for method in ("flow", "aligned")
    }
    assert mean["flow"] > 0.85 > mean["aligned"] + 0.2
    alone = interpolate(
        masks[[10]], [10], [4, 16], "flow", pictures
    )  # one label, warped both ways
    assert iou(alone[0], masks[4]) > 0.7 and iou(alone[1], masks[16]) > 0.7
    assert iou(masks[10], masks[4]) < 0.1


def test_flow_needs_all_pictures_in_the_size_of_the_masks():
    masks = np.stack([disc(20, 20), disc(30, 30)])
    for pictures in (None, np.zeros((5, HEIGHT, WIDTH + 1, 3), np.uint8)):
        with pytest.raises(ValueError, match="needs all frames of the video"):
            interpolate(masks, [0, 4], [2], "flow", pictures)
    assert np.array_equal(
        interpolate(masks, [0, 4], [4], "flow"), masks[[1]]
    )  # nothing to warp


def test_flow_between_pictures_points_to_where_things_went():
    first = np.uint8(np.clip(signed_distance(disc(30, 30, 12)) * 5 + 128, 0, 255))
    flow = optical_flow(first, np.roll(first, (2, 5), (0, 1)))
    assert flow.shape == (HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(flow[disc(30, 30, 11)].mean(0), (5, 2), atol=0.3)


def test_the_blend_is_the_documented_sum_of_saturated_distances():
    """Computed from the docstring's formula, with the numbers as in the module's head."""
    rng = np.random.default_rng(0)
    guesses = [rng.normal(0, 4, (2, 30, 40)).astype(np.float32) for _ in range(3)]
    area_a, area_b, t = 400, 900, 0.3
    weight = t**1.5 / (t**1.5 + 0.7**1.5)
    area = round((1 - weight) * area_a + weight * area_b)
    scale = 0.08 * ((1 - weight) * area_a + weight * area_b) ** 0.5
    score = np.zeros((30, 40))
    for a, b in guesses:
        score += (1 - weight) * np.tanh(a / scale) + weight * np.tanh(b / scale)
    mask = mask_interp._highest([tuple(pair) for pair in guesses], area_a, area_b, t)
    highest = np.sort(score, axis=None)[-area:]
    assert mask.sum() == area
    assert score[mask].min() == pytest.approx(highest.min(), abs=1e-5)


def test_a_line_one_pixel_wide_has_a_spread_that_can_be_inverted():
    """A pixel is a square of variance 1/12, so no mask is infinitely thin."""
    line = box(10, 20, 40, 21)
    spread = mask_interp.LabeledMask.of(line).spread
    np.testing.assert_allclose(spread, np.diag([(30**2 / 12) ** 0.5, (1 / 12) ** 0.5]))
    below = box(10, 24, 40, 25)
    (between,) = interpolate(np.stack([line, below]), [0, 4], [2], "blend")
    assert between.sum() == 30


# ---- real masks ----


def test_real_masks_between_every_eighth(shared_data):
    """Twenty real clips; on all 928 the benchmark finds the same order."""
    videos = list(jhmdb.read_ground_truth(shared_data / "jhmdb").videos.values())
    found = {method: [] for method in WITHOUT_PIXELS}
    for video in videos[::47]:
        masks, labeled = video.tubes[0].masks[:], np.arange(0, video.frames, 8)
        wanted = np.setdiff1d(np.arange(labeled[-1]), labeled)
        for method, values in found.items():
            values += [
                iou(a, b)
                for a, b in zip(
                    interpolate(masks[labeled], labeled, wanted, method),
                    masks[wanted],
                    strict=True,
                )
            ]
    mean = {method: np.mean(values) for method, values in found.items()}
    assert mean["blend"] > mean["aligned"] > mean["sdf"] > 0.75
    assert mean["blend"] > mean["hold"] + 0.02


def test_flow_on_the_real_clip(shared_data):
    """From one label, eight frames on: the goalkeeper has left the held mask, and the flow
    still has him.
    """
    root = shared_data / "jhmdb"
    masks = jhmdb.read_ground_truth(root).videos[CLIP].tubes[0].masks
    pictures = read_frames(jhmdb.find_video(root, CLIP), range(len(masks)), len(masks))
    wanted = np.array([12, 16, 24, 28])
    flow, hold = (
        np.mean(
            [
                iou(a, b)
                for a, b in zip(
                    interpolate(masks[[20]], [20], wanted, method, pictures),
                    masks[wanted],
                    strict=True,
                )
            ]
        )
        for method in ("flow", "hold")
    )
    assert flow > 0.55 and flow > hold + 0.25
