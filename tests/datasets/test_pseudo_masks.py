"""Dense pseudo-labels of tracks with masks: held, absent and interpolated as boxes are, and
served to training.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jhmdb_maker import square_masks, write_pngs

from claus.datasets.clips import training_clips
from claus.datasets.clips.geometry import ClipGeometry, center_crop, transform
from claus.datasets.clips.training_clips import TrainingClips
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.labels.mask_interp import interpolate
from claus.datasets.labels.pseudo_labels import (
    dense_boxes,
    dense_masks,
    pseudo_masks,
    tube_masks,
)

HEIGHT, WIDTH = 24, 32


def masked(frames, track=1, start=(4, 5)):
    """A track whose square is at its frame's number."""
    return Tube(0, track, frames, masks=square_masks(20, start=start)[list(frames)])


def position(mask):
    """Left column of a square, -1 where there is none."""
    return int(mask.any(0).argmax()) if mask.any() else -1


# ---- the rules of boxes ----


@given(st.data())
@settings(deadline=None, max_examples=80)
def test_presence_and_holding_are_those_of_boxes(data):
    labeled = sorted(data.draw(st.sets(st.integers(0, 19), min_size=1, max_size=6)))
    frames = sorted(data.draw(st.sets(st.sampled_from(labeled), min_size=1)))
    wanted = data.draw(st.lists(st.integers(0, 25), min_size=1, max_size=8))
    masks, present = dense_masks(masked(frames), np.array(labeled), wanted, "hold")
    boxes = Tube(0, 1, frames, [[4 + f, 5, 12 + f, 13] for f in frames])
    corners, expected = dense_boxes(boxes, np.array(labeled), wanted)
    assert np.array_equal(present, expected)
    for f, mask, box, here in zip(wanted, masks, corners, present, strict=True):
        assert (mask.sum() == 64) == here
        if here and box[0] == int(box[0]) and f not in range(frames[0], frames[-1]):
            assert position(mask) == box[0]
        if here:
            left, right = (
                max((a for a in frames if a <= f), default=frames[0]),
                min((a for a in frames if a >= f), default=frames[-1]),
            )
            assert position(mask) in (4 + left, 4 + right)


def test_a_track_is_held_up_to_the_frame_beside_one_that_shows_it_absent():
    tube, labeled = masked([10]), np.array([5, 10, 14])
    masks, present = dense_masks(tube, labeled, np.arange(3, 18))
    assert np.arange(3, 18)[present].tolist() == [6, 7, 8, 9, 10, 11, 12, 13]
    assert all(position(mask) == 14 for mask in masks[present]) and not masks[~present].any()


def test_labels_beyond_an_absence_play_no_part():
    """Two stretches with the actor gone between: each is filled from its own labels, spline
    and all.
    """
    tops = {0: 1, 3: 14, 6: 1, 12: 3, 15: 5, 19: 9}
    masks = np.concatenate([square_masks(20, start=(4, top))[[f]] for f, top in tops.items()])
    tube, labeled = Tube(0, 1, list(tops), masks=masks), np.array([0, 3, 6, 9, 12, 15, 19])
    found, present = dense_masks(tube, labeled, np.arange(20))
    assert np.flatnonzero(~present).tolist() == [9]
    for own in ([0, 3, 6], [12, 15, 19]):
        inside = np.arange(own[0], own[-1] + 1)
        alone = interpolate(masks[[list(tops).index(f) for f in own]], own, inside)
        assert np.array_equal(found[inside], alone)
    assert not np.array_equal(
        interpolate(masks, list(tops), [4]), found[[4]]
    )  # the others would have changed it
    assert [position(found[f]) for f in (7, 8, 10, 11)] == [
        10,
        10,
        16,
        16,
    ]  # held on both sides of the absence


@pytest.mark.parametrize("method", ["blend", "aligned", "sdf", "hold"])
def test_what_lies_between_is_the_interpolation(method):
    tube, labeled = masked([2, 9, 14]), np.array([2, 9, 14])
    masks, present = dense_masks(tube, labeled, np.arange(20), method)
    assert present.all()
    assert np.array_equal(masks, interpolate(tube.masks, tube.frames, np.arange(20), method))


def test_the_union_of_masks_and_the_rest_untouched():
    one, two = masked([0, 4]), masked([4], 2, start=(10, 14))
    video = Video("v", 9, HEIGHT, WIDTH, 0, [0, 4], (one, two))
    both = pseudo_masks(video, np.arange(9))
    assert both.dtype == np.uint8 and set(np.unique(both)) == {0, 1}
    assert np.array_equal(
        both, tube_masks(video, one, np.arange(9)) | tube_masks(video, two, np.arange(9))
    )
    assert (
        not tube_masks(video, two, [0]).any()
        and tube_masks(video, two, [1, 8]).all(0).sum() == 64
    )
    assert not pseudo_masks(Video("v", 9, HEIGHT, WIDTH, 0, [4]), np.arange(9)).any()


def test_masks_count_where_a_track_has_boxes_too():
    masks = square_masks(20)[[3]]
    video = Video("v", 9, HEIGHT, WIDTH, 0, [3], (Tube(0, 1, [3], [[0, 0, 20, 20]], masks),))
    assert np.array_equal(pseudo_masks(video, [3, 5]), masks[[0, 0]])


def test_flow_warps_where_the_others_hold_and_asks_for_pictures_only_then():
    pictures, calls = (
        np.random.default_rng(0).integers(0, 255, (20, HEIGHT, WIDTH, 3), dtype=np.uint8),
        [],
    )
    tube, labeled = masked([2, 9]), np.array([2, 9, 12])

    def read():
        calls.append(1)
        return pictures

    masks, present = dense_masks(tube, labeled, np.arange(20), "flow", read)
    assert np.flatnonzero(present).tolist() == list(range(12)) and not masks[12:].any()
    assert np.array_equal(
        masks[:12], interpolate(tube.masks, tube.frames, np.arange(12), "flow", pictures)
    )
    assert len(calls) == 1
    assert np.array_equal(
        dense_masks(tube, labeled, [9, 2, 15], "flow", read)[0][:2], tube.masks[[1, 0]]
    )
    assert len(calls) == 1  # labeled or absent: nothing to warp


# ---- training ----

GEOMETRY = ClipGeometry((28, 28), (24, 24), 24)


@pytest.fixture
def clips(tmp_path):
    """Function -> TrainingClips of one clip of 20 frames, labeled at 4 and 11, as PNGs
    below tmp_path.
    """
    rng = np.random.default_rng(0)
    write_pngs(tmp_path / "v", rng.integers(0, 255, (20, HEIGHT, WIDTH, 3), dtype=np.uint8))
    video = Video("v", 20, HEIGHT, WIDTH, 0, [4, 11], (masked([4, 11]),))
    labels = Annotations("toy", ("run",), {"v": video})
    return lambda **how: TrainingClips(labels, lambda name: tmp_path / name, GEOMETRY, 0, **how)


@pytest.mark.parametrize("how", [{}, {"interpolation": "hold"}, {"interpolation": "flow"}])
def test_training_clips_carry_interpolated_masks(clips, how):
    data = clips(**how)
    video = data.annotations.videos["v"]
    item = data.clip(video, 4)
    frames = np.arange(0, 16, 2)  # stride 2, frame 4 shifted to index 2
    assert item["on_label"].tolist() == [f in (4, 11) for f in frames]
    whole = pseudo_masks(
        video, np.arange(20), how.get("interpolation", "blend"), lambda: data._pictures(video)
    )
    expected = transform(whole[frames], GEOMETRY, center_crop(GEOMETRY))
    assert np.array_equal(item["target"].numpy(), expected.numpy()) and expected.any()


def test_masks_are_made_once_a_video(clips, monkeypatch):
    data, calls = clips(), []
    real = training_clips.pseudo_masks
    monkeypatch.setattr(
        training_clips, "pseudo_masks", lambda *a, **k: calls.append(1) or real(*a, **k)
    )
    items = [data[epoch, 0, "v"] for epoch in range(6)]
    assert len(calls) == 1 and all(item["target"].any() for item in items)


def test_masks_kept_in_memory_are_bounded(clips, monkeypatch):
    data = clips()
    video = data.annotations.videos["v"]
    first = data.pseudo_masks(video, np.arange(8))
    monkeypatch.setattr(training_clips, "IN_MEMORY", 1)  # byte: only the last video's
    others = [Video(name, 20, HEIGHT, WIDTH, 0, [4, 11], (masked([4, 11]),)) for name in "abc"]
    for other in others:
        assert np.array_equal(data.pseudo_masks(other, np.arange(8)), first)
    assert list(data._dense) == ["c"] and np.array_equal(
        data.pseudo_masks(video, np.arange(8)), first
    )


def test_pictures_of_another_size_than_the_masks_set_the_video_aside(clips, tmp_path):
    write_pngs(tmp_path / "v", np.zeros((20, HEIGHT * 2, WIDTH * 2, 3), np.uint8))
    for data in (clips(interpolation="flow"), clips()):
        assert "was labeled as 32x24, its file shows 64x48" in data[0, 0, "v"]["failed"]
