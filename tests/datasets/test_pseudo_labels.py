"""Few labeled frames to dense masks, and the STeW weight of each pixel, by hand and
against loops.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claus.datasets.clips.geometry import (
    GEOMETRY,
    ClipGeometry,
    clip_indices,
    random_crop,
    sources,
)
from claus.datasets.labels.annotations import Tube, Video
from claus.datasets.labels.pseudo_labels import (
    clip_labels,
    dense_boxes,
    neighbors,
    pseudo_masks,
    tube_masks,
)
from claus.datasets.ucf101 import read_ground_truth
from claus.losses.stew import clip_weight, consistency, label_distance, temporal_weight
from claus.reference import clips as plain_loading


def tube(frames, boxes, track=1):
    return Tube(0, track, np.array(frames), np.array(boxes))


# ---- boxes between labeled frames ----


def test_between_two_labels_the_corners_move_linearly():
    actor = tube([10, 20], [[0, 10, 20, 30], [10, 0, 40, 50]])
    boxes, present = dense_boxes(actor, np.array([10, 20]), np.array([10, 11, 15, 18, 20]))
    np.testing.assert_allclose(
        boxes,
        [[0, 10, 20, 30], [1, 9, 22, 32], [5, 5, 30, 40], [8, 2, 36, 46], [10, 0, 40, 50]],
    )
    assert present.all()


def test_before_the_first_and_after_the_last_label_the_box_is_held():
    actor = tube([10, 20], [[0, 10, 20, 30], [10, 0, 40, 50]])
    boxes, present = dense_boxes(actor, np.array([10, 20]), np.array([0, 9, 21, 300]))
    assert boxes.tolist() == [[0, 10, 20, 30]] * 2 + [[10, 0, 40, 50]] * 2 and present.all()


def test_neighbors_are_numbers_of_the_track_s_labels_and_a_share_between_them():
    actor = tube([10, 20], [[0, 10, 20, 30], [10, 0, 40, 50]])
    frames = np.array([0, 9, 10, 12, 20, 33])
    expected = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0.2, 0, 0]
    found = neighbors(actor, np.array([10, 20]), frames)
    for values, wanted in zip(found[:3], expected, strict=True):
        assert values.tolist() == wanted
    assert found[3].all()


def test_a_track_is_held_up_to_the_frame_beside_one_that_shows_it_absent():
    actor = tube([10], [[1, 2, 3, 4]])  # labeled and without this actor: 5 and 14
    frames = np.arange(3, 18)
    boxes, present = dense_boxes(actor, np.array([5, 10, 14]), frames)
    assert frames[present].tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert (boxes[present] == [1, 2, 3, 4]).all()


def test_a_gap_with_a_label_in_it_is_not_bridged():
    actor = tube([0, 20], [[0, 0, 10, 10], [20, 0, 30, 10]])
    frames = np.arange(0, 21)
    boxes, present = dense_boxes(actor, np.array([0, 8, 12, 20]), frames)  # absent in 8 and 12
    assert frames[~present].tolist() == [8, 9, 10, 11, 12]
    assert (boxes[:8] == [0, 0, 10, 10]).all() and (boxes[13:] == [20, 0, 30, 10]).all()
    assert dense_boxes(actor, np.array([0, 20]), frames)[1].all()  # without those labels it is


def test_a_single_label_is_held_through_the_whole_video():
    boxes, present = dense_boxes(tube([7], [[1, 2, 3, 4]]), np.array([7]), np.arange(50))
    assert present.all() and (boxes == [1, 2, 3, 4]).all()


def slow_boxes(actor, labeled, frames):
    """The rule frame by frame: (box or None)."""
    shown = dict(zip(actor.frames.tolist(), actor.boxes.tolist(), strict=True))
    result = []
    for f in frames:
        left = max((a for a in labeled if a <= f), default=None)
        right = min((a for a in labeled if a >= f), default=None)
        if left in shown and right in shown:
            share = 0 if left == right else (f - left) / (right - left)
            result.append(
                [a + share * (b - a) for a, b in zip(shown[left], shown[right], strict=True)]
            )
        else:
            result.append(shown.get(left, shown.get(right)))
    return result


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_dense_boxes_against_loops(data):
    labeled = sorted(data.draw(st.sets(st.integers(0, 25), min_size=1, max_size=7)))
    frames = sorted(data.draw(st.sets(st.sampled_from(labeled), min_size=1)))
    corners = st.tuples(
        st.integers(0, 40), st.integers(0, 40), st.integers(41, 80), st.integers(41, 80)
    )
    actor = tube(frames, [data.draw(corners) for _ in frames])
    wanted = data.draw(
        st.lists(st.integers(0, 30), min_size=1, max_size=8)
    )  # in any order, twice, too
    boxes, present = dense_boxes(actor, np.array(labeled, np.int32), np.array(wanted))
    for box, here, expected in zip(
        boxes, present, slow_boxes(actor, labeled, wanted), strict=True
    ):
        assert here == (expected is not None)
        if here:
            np.testing.assert_allclose(box, expected)


def test_interpolated_boxes_on_real_tracks_are_as_good_as_known(shared_data):
    """UCF-101-24's training tracks, every g-th frame from a track's first labeled, scored
    on the frames between.

    A track's other frames are unlabeled. Boxes are compared as the file has them (x, y, w,
    h, not made half-open).
    """
    root = shared_data / "ucf101_24"
    truth = read_ground_truth(root / "pyannot.pkl", root / "testlist01.txt", "train")
    actors = [actor for video in truth.videos.values() for actor in video.tubes]
    for gap, known in ((10, 0.863), (20, 0.788), (50, 0.671), (100, 0.587)):
        total, count = 0.0, 0
        for actor in actors:
            few, between = actor.frames[::gap], np.arange(len(actor.frames)) % gap > 0
            between &= actor.frames < few[-1]
            if between.any():
                boxes, present = dense_boxes(
                    tube(few, actor.boxes[::gap]), few, actor.frames[between]
                )
                assert present.all()
                total += file_iou(boxes, actor.boxes[between]).sum()
                count += between.sum()
        assert abs(total / count - known) < 0.0006, (gap, total / count)


def file_iou(a, b):
    """IoU of boxes (n,4) whose last column and row of pixels are left out, as the file's w
    = x2 - x1 does.
    """
    a, b = a - [0, 0, 1, 1], b - [0, 0, 1, 1]
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    inside = sides.prod(1)
    return inside / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inside)


# ---- masks ----


def test_a_pixel_is_in_where_its_center_is():
    actor = tube([0, 4], [[0, 0, 2, 2], [2, 1, 6, 4]])
    video = Video("v", 5, 6, 8, 0, np.array([0, 4]), (actor,))
    masks = tube_masks(video, actor, np.arange(5))
    assert masks.dtype == np.uint8 and masks.shape == (5, 6, 8)

    def filled(y0, y1, x0, x1):
        mask = np.zeros((6, 8), np.uint8)
        mask[y0:y1, x0:x1] = 1
        return mask

    np.testing.assert_array_equal(masks[0], filled(0, 2, 0, 2))
    # frame 1: x 0.5 … 3, y 0.25 … 2.5; centers at .5: columns 0 (0.5 counts), 1, 2; rows 0
    # (0.5), 1; 2.5 is outside
    np.testing.assert_array_equal(masks[1], filled(0, 2, 0, 3))
    # frame 2: x 1 … 4, y 0.5 … 3
    np.testing.assert_array_equal(masks[2], filled(0, 3, 1, 4))
    # frame 3: x 1.5 … 5, y 0.75 … 3.5; row 0 (0.5) is outside, column 1 (1.5) just inside,
    # row 3 (3.5) just outside
    np.testing.assert_array_equal(masks[3], filled(1, 3, 1, 5))
    np.testing.assert_array_equal(masks[4], filled(1, 4, 2, 6))


def test_masks_of_several_tracks_are_joined():
    left, right = tube([0, 10], [[0, 0, 4, 4]] * 2, 1), tube([10], [[2, 2, 8, 8]], 2)
    video = Video("v", 20, 10, 10, 0, np.array([0, 10]), (left, right))
    masks = pseudo_masks(video, np.array([0, 5, 10]))
    assert masks[0].sum() == 16  # the second actor is absent in frame 0 …
    assert masks[1].sum() == masks[2].sum() == 16 + 36 - 4  # … and held up to frame 1
    assert set(np.unique(masks)) == {0, 1}


def test_a_labeled_frame_without_action_is_empty_and_so_is_what_follows_it():
    actor = tube([4], [[0, 0, 5, 5]])
    video = Video("v", 20, 10, 10, 0, np.array([4, 9]), (actor,))
    assert pseudo_masks(video, np.array([4, 8, 9, 12])).sum((1, 2)).tolist() == [25, 25, 0, 0]


def test_no_actor_no_mask():
    video = Video("v", 20, 10, 10, 0, np.array([4]), ())
    assert not pseudo_masks(video, np.arange(8)).any()


# ---- τ ----


def test_distance_to_the_nearest_label():
    assert label_distance(np.array([4, 10], np.int32), [0, 4, 6, 7, 8, 10, 19]).tolist() == [
        4,
        0,
        2,
        3,
        2,
        0,
        9,
    ]


def test_temporal_weight_by_hand():
    tau = temporal_weight([0, 2, 4, 8, 9, 100])
    expected = [
        1,
        math.exp(-4 * 9 / 128),
        math.exp(-16 * 9 / 128),
        math.exp(-4.5),
        0,
        0,
    ]  # 2σ² = 128/9
    np.testing.assert_allclose(tau, expected, rtol=1e-12)


# ---- s ----


def column(*values):
    """One pixel over time: (T,1,1)."""
    return np.array(values, np.uint8)[:, None, None]


NO_LABEL = np.zeros(8, bool)


@pytest.mark.parametrize(
    "label, expected",
    [
        # means over t-2 … t+2: 3/3 4/4 4/5 3/5 2/5 1/5 0/4 0/3
        ((1, 1, 1, 1, 0, 0, 0, 0), (1, 1, 0.8, 0.6, 0.4, 0.2, 1, 1)),
        # 1/3 1/4 1/5, then none
        ((1, 0, 0, 0, 0, 0, 0, 0), (1 / 3, 0.25, 0.2, 1, 1, 1, 1, 1)),
        # 2/3 3/4 4/5 4/5 4/5 5/5 4/4 3/3
        ((1, 0, 1, 1, 1, 1, 1, 1), (2 / 3, 0.75, 0.8, 0.8, 1, 1, 1, 1)),
        ((0,) * 8, (1,) * 8),
        ((1,) * 8, (1,) * 8),
    ],
)
def test_consistency_of_the_paper_by_hand(label, expected):
    s = consistency(column(*label), NO_LABEL)
    assert s.dtype == np.float32 and s.shape == (8, 1, 1)
    np.testing.assert_allclose(s.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "label, expected",
    [
        # index 0 looks at frames 6 and 7, index 1 at frame 7, the others at all eight; only
        # a mean of 0 is certain
        ((1, 1, 1, 1, 0, 0, 0, 0), (1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)),
        ((0, 0, 0, 0, 0, 0, 0, 1), (0.5, 1, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125)),
        ((0, 0, 0, 0, 0, 0, 1, 0), (0.5, 1, 0.125, 0.125, 0.125, 0.125, 0.125, 0.125)),
        ((1, 1, 1, 1, 1, 1, 1, 0), (0.5, 1, 0.875, 0.875, 0.875, 0.875, 0.875, 0.875)),
        ((0,) * 8, (1,) * 8),
    ],
)
def test_consistency_of_the_authors_by_hand(label, expected):
    np.testing.assert_allclose(
        consistency(column(*label), NO_LABEL, "authors").ravel(), expected
    )


def slow_consistency(masks, on_label, rule):
    length = len(masks)
    result = np.zeros(masks.shape)
    for t, y, x in np.ndindex(*masks.shape):
        if rule == "paper":
            window = [w for w in range(t - 2, t + 3) if 0 <= w < length]
        else:
            window = {0: [length - 2, length - 1], 1: [length - 1]}.get(t, list(range(length)))
        m = sum(float(masks[w, y, x]) for w in window) / len(window)
        sure = (m <= 0.1 or m >= 0.9) if rule == "paper" else m == 0
        result[t, y, x] = 1 if sure or on_label[t] else m
    return result


@pytest.mark.parametrize("rule", ["paper", "authors"])
@pytest.mark.parametrize(
    "length, share", [(8, 0.6), (24, 0.07), (3, 0.5)]
)  # 24: means below .1 and above 0, too
def test_consistency_against_loops(rule, length, share):
    rng = np.random.default_rng(0)
    masks, on_label = (
        (rng.random((length, 6, 5)) < share).astype(np.uint8),
        rng.random(length) < 0.3,
    )
    np.testing.assert_allclose(
        consistency(masks, on_label, rule), slow_consistency(masks, on_label, rule), atol=1e-6
    )


def test_a_labeled_frame_is_trusted_everywhere():
    on_label = np.array([0, 0, 0, 1, 0, 0, 0, 0], bool)
    for rule in ("paper", "authors"):
        assert consistency(column(1, 0, 1, 0, 1, 0, 1, 0), on_label, rule)[3] == 1
        assert consistency(column(1, 0, 1, 0, 1, 0, 1, 0), on_label, rule)[4] < 1


def test_unknown_rules_are_refused():
    with pytest.raises(ValueError, match="'paper' or 'authors'"):
        consistency(column(0), [False], "mine")
    with pytest.raises(ValueError, match="'stew', 'interp' or 'frame'"):
        clip_weight(column(0), np.array([0]), np.array([0]), "mine")


# ---- φ ----

FRAMES, LABELS = np.arange(30, 46, 2), np.array([34, 60])  # distances 4 2 0 2 4 6 8 10
MASKS = column(1, 1, 1, 1, 0, 0, 0, 0)


def test_stew_weight_is_tau_times_s():
    tau = [math.exp(-d * d * 9 / 128) if d <= 8 else 0 for d in (4, 2, 0, 2, 4, 6, 8, 10)]
    s = (1, 1, 1, 0.6, 0.4, 0.2, 1, 1)  # frame 34, index 2, is labeled
    weight = clip_weight(MASKS, LABELS, FRAMES)
    assert weight.dtype == np.float32 and weight.shape == MASKS.shape
    np.testing.assert_allclose(weight.ravel(), np.multiply(tau, s), rtol=1e-6)
    s = (1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5)
    np.testing.assert_allclose(
        clip_weight(MASKS, LABELS, FRAMES, "stew", "authors").ravel(),
        np.multiply(tau, s),
        rtol=1e-6,
    )


def test_weights_of_the_ablations():
    assert clip_weight(MASKS, LABELS, FRAMES, "interp").ravel().tolist() == [1] * 8
    assert clip_weight(MASKS, LABELS, FRAMES, "frame").ravel().tolist() == [
        0,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
    ]
    for loss in ("interp", "frame"):
        weight = clip_weight(np.ones((8, 3, 2), np.uint8), LABELS, FRAMES, loss)
        assert (
            weight.shape == (8, 3, 2) and weight.dtype == np.float32 and weight.flags.writeable
        )


def test_two_labels_in_one_clip_count_by_the_nearer():
    weight = clip_weight(column(*[1] * 8), np.array([30, 44]), FRAMES).ravel()
    np.testing.assert_allclose(
        weight, [math.exp(-d * d * 9 / 128) for d in (0, 2, 4, 6, 6, 4, 2, 0)], rtol=1e-6
    )


# ---- a clip at once ----

ODD = ClipGeometry((30, 41), (23, 37), 29)


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_a_clip_at_once_is_the_clip_frame_by_frame(data):
    """Labels and weights of a finished clip against loops over frames, actors, rows and
    windows: exactly equal.
    """
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    height, width, frames = (
        int(rng.integers(8, 40)),
        int(rng.integers(8, 50)),
        int(rng.integers(1, 60)),
    )
    labeled = np.sort(rng.choice(frames, min(frames, int(rng.integers(1, 6))), replace=False))
    tubes = []
    for track in range(int(rng.integers(0, 4))):
        own = np.sort(
            rng.choice(labeled, int(rng.integers(1, len(labeled) + 1)), replace=False)
        )
        low = rng.integers(0, (width - 1, height - 1), (len(own), 2))
        tubes.append(
            Tube(
                0, track, own, np.hstack([low, rng.integers(low + 1, (width + 1, height + 1))])
            )
        )
    video = Video("v", frames, height, width, 0, labeled, tuple(tubes))
    geometry = data.draw(st.sampled_from([ODD, GEOMETRY["small", "wide"]]))
    corner, flip = random_crop(geometry, rng), bool(rng.integers(2))
    shown = clip_indices(frames, int(rng.choice(labeled)))
    target, weight = clip_labels(
        video, shown, *sources((height, width), geometry, corner, flip)
    )
    slow_target = plain_loading.labels(video, shown, geometry, corner, flip)
    assert target.dtype == np.uint8 and weight.dtype == np.float32
    assert np.array_equal(target, slow_target)
    assert np.array_equal(
        weight, plain_loading.weights(slow_target, video, shown).astype(np.float32)
    )


def test_a_clip_of_real_labels_with_several_actors(shared_data):
    name, geometry, rng = (
        "Biking/v_Biking_g02_c05",
        GEOMETRY["full", "wide"],
        np.random.default_rng(0),
    )
    dense = read_ground_truth(shared_data / "ucf101_24" / "pyannot.pkl").videos[name]
    labeled = np.array([4, 40, 77, 120])
    tubes = [
        Tube(t.label, t.track, t.frames[own], t.boxes[own])
        for t in dense.tubes
        if (own := np.isin(t.frames, labeled)).any()
    ]
    video = Video(name, dense.frames, 240, 320, dense.label, labeled, tuple(tubes))
    assert len(tubes) > 1
    for anchor in labeled:
        corner, shown = random_crop(geometry, rng), clip_indices(video.frames, int(anchor))
        target, weight = clip_labels(video, shown, *sources((240, 320), geometry, corner, True))
        slow_target = plain_loading.labels(video, shown, geometry, corner, True)
        assert np.array_equal(target, slow_target) and target.any()
        assert np.array_equal(
            weight, plain_loading.weights(slow_target, video, shown).astype(np.float32)
        )


@pytest.mark.parametrize(
    "loss, rule",
    [("stew", "paper"), ("stew", "authors"), ("interp", "paper"), ("frame", "paper")],
)
def test_masks_and_boxes_take_the_same_way(loss, rule):
    video = Video(
        "v",
        30,
        24,
        32,
        0,
        np.array([4, 12]),
        (tube([4, 12], [[2, 3, 12, 20], [8, 3, 30, 22]]),),
    )
    shown, (rows, columns) = clip_indices(30, 4), sources((24, 32), ODD, (3, 2), True)
    by_boxes = clip_labels(video, shown, rows, columns, loss, rule)
    by_masks = clip_labels(video, shown, rows, columns, loss, rule, pseudo_masks(video, shown))
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(by_boxes, by_masks, strict=True)
    )
