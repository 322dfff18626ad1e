"""Ground truth as the network's maps show it, and the no-model floor, on made-up videos."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest

from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.truth import BLOCK, check_classes, no_model_floor, truth_masks, truth_of
from claus.metrics import floor
from claus.metrics.capsule import Switches, reduce_actors
from claus.utils.runtime import UserError

WHOLE = ClipGeometry((32, 32), (32, 32), 32)
CLASSES = ("a", "b")


def square(top, left, side=8):
    mask = np.zeros((32, 32), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def masked(*actors, frames=6):
    """A video of masks; actors: (frame numbers, mask)."""
    tubes = [
        SimpleNamespace(
            frames=np.array(numbers), masks=np.stack([mask] * len(numbers)), boxes=None
        )
        for numbers, mask in actors
    ]
    return SimpleNamespace(
        name="v", label=0, frames=frames, height=32, width=32, tubes=tuple(tubes)
    )


def boxed(name, *boxes, label=0):
    """A video of one actor, a box (x0, y0, x1, y1) a frame."""
    tube = SimpleNamespace(frames=np.arange(len(boxes)), boxes=np.array(boxes), masks=None)
    return SimpleNamespace(
        name=name, label=label, frames=len(boxes), height=32, width=32, tubes=(tube,)
    )


def centered(height, width):
    return 16 - width // 2, 16 - height // 2, 16 + width // 2, 16 + height // 2


# ---------------------------------------------------------------------------- masks


@pytest.fixture
def two_actors():
    return masked((range(0, 4), square(2, 2)), (range(2, 6), square(20, 20)))


def test_of_masks_the_union_has_every_actor(two_actors):
    masks_F_S_S = truth_masks(truth_of(two_actors, WHOLE, "union"))
    assert [mask.sum() for mask in masks_F_S_S] == [64, 64, 128, 128, 64, 64]
    np.testing.assert_array_equal(masks_F_S_S[2], square(2, 2) | square(20, 20))


def test_of_masks_the_first_is_the_first_that_is_seen(two_actors):
    masks_F_S_S = truth_masks(truth_of(two_actors, WHOLE, "first"))
    for frame, mask in enumerate(masks_F_S_S):
        expected = square(2, 2) if frame < 4 else square(20, 20)
        np.testing.assert_array_equal(mask, expected)


def test_of_masks_one_is_drawn_for_each_frame_and_drawn_alike_each_time():
    both = [range(0, 200), square(2, 2)], [range(0, 200), square(20, 20)]
    video = masked(*both, frames=200)
    masks_F_S_S = truth_masks(truth_of(video, WHOLE, "random_one"))
    first_F = masks_F_S_S[:, 2, 2]
    assert (masks_F_S_S.sum((1, 2)) == 64).all() and 60 < first_F.sum() < 140
    again = truth_masks(truth_of(video, WHOLE, "random_one"))
    np.testing.assert_array_equal(masks_F_S_S, again)
    other = SimpleNamespace(**{**vars(video), "name": "w"})
    assert (truth_masks(truth_of(other, WHOLE, "random_one")) != masks_F_S_S).any()


def test_masks_are_cropped_and_resized_as_the_videos_are():
    geometry = ClipGeometry((32, 32), (16, 16), 32)
    video = masked((range(6), square(8, 8)))  # the crop's upper left quarter
    truth = truth_of(video, geometry, "union")
    expected = np.zeros((32, 32), bool)
    expected[:16, :16] = True
    np.testing.assert_array_equal(truth_masks(truth)[0], expected)


def test_boxes_are_filled():
    truth = truth_of(boxed("v", (3, 4, 11, 12)), WHOLE, "union")
    np.testing.assert_array_equal(truth_masks(truth)[0], square(4, 3))


# ---------------------------------------------------------------------------- floor


def test_the_floor_is_chosen_on_the_training_videos_and_scored_on_the_others():
    training = [boxed("t1", centered(8, 16)), boxed("t2", centered(8, 16), label=1)]
    tested = [boxed("v1", centered(24, 24)), boxed("v2", centered(8, 16), label=1)]
    result = no_model_floor(training, tested, CLASSES, WHOLE, Switches())
    assert result["rectangle"] == {"height": 0.25, "width": 0.5}
    assert result["videos"] == 2 and result["frames"] == 2
    assert [row["f_ap"][10] for row in result["per_class"]] == [0, 1]  # at IoU .5


def test_the_floor_sees_the_actors_that_the_switches_name():
    both = (range(6), square(12, 12)), (range(6), square(0, 0, 4))
    training, tested = [masked(*both)], [masked(*both)]
    union = no_model_floor(training, tested, CLASSES, WHOLE, Switches(gt="union"))
    first = no_model_floor(training, tested, CLASSES, WHOLE, Switches(gt="first"))
    assert first["per_class"][0]["f_ap"][19] == 1 and first["switches"]["gt"] == "first"
    assert union["per_class"][0]["f_ap"][19] == 0


def test_without_an_actor_in_training_there_is_no_floor():
    assert no_model_floor([], [boxed("v", centered(8, 8))], CLASSES, WHOLE, Switches()) is None


def test_the_rectangle_is_the_best_at_iou_one_half():
    """A is hit by six frames at IoU .5 and by none at .55; B is hit exactly by five frames,
    which A misses: B is better on average over the thresholds, A at one half.
    """
    halves = [boxed(f"a{i}", centered(16, 8)) for i in range(3)]
    halves += [boxed(f"b{i}", centered(8, 16)) for i in range(3)]
    exact = [boxed(f"c{i}", centered(32, 32)) for i in range(5)]
    truths = [truth_of(video, WHOLE, "union") for video in [*halves, *exact]]
    best = floor.choose_rectangle(iter(truths), CLASSES, Switches())
    scores = {}
    for height in floor.FRACTIONS:
        for width in floor.FRACTIONS:
            result = floor.score_rectangle(
                floor.Rectangle(height, width), truths, CLASSES, Switches()
            )
            scores[height, width] = result.f_map
    at_half = {sides: f_map[10] for sides, f_map in scores.items()}
    average = {sides: f_map.mean() for sides, f_map in scores.items()}
    assert at_half[best.height, best.width] == max(at_half.values())
    on_average = max(average, key=average.get)
    assert at_half[on_average] < max(at_half.values()), "the case tells the criteria apart"


def test_classes_that_differ_are_named():
    check_classes(("a", "b"), ("a", "b"), "truth.pkl")
    with pytest.raises(UserError, match="truth.pkl has 1 classes .* for 2 .a …."):
        check_classes(("a", "b"), ("a",), "truth.pkl")


def test_the_rectangle_is_not_the_best_at_a_lower_iou():
    """A middle-sized rectangle overlaps all nine videos by a quarter, the small one five of
    them exactly.
    """
    small = [boxed(f"s{i}", centered(8, 8)) for i in range(5)]
    large = [boxed(f"l{i}", centered(32, 32)) for i in range(4)]
    truths = [truth_of(video, WHOLE, "union") for video in [*small, *large]]
    best = floor.choose_rectangle(iter(truths), CLASSES, Switches())
    assert best == floor.Rectangle(0.25, 0.25)
    middle = floor.score_rectangle(floor.Rectangle(0.5, 0.5), truths, CLASSES, Switches())
    assert (middle.f_map[4], middle.f_map[10]) == (1, 0)  # at IoU .2 and .5


@pytest.mark.parametrize("gt", ["union", "first", "random_one"])
@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_masks_of_some_frames_are_those_of_all(two_actors, kind, gt):
    video = two_actors
    if kind == "boxes":
        boxes = np.array([[2, 2, 10, 10], [3, 2, 11, 10], [0, 1, 4, 9], [9, 9, 12, 12]])
        tube = SimpleNamespace(frames=np.arange(4), boxes=boxes, masks=None)
        other = SimpleNamespace(frames=np.arange(1, 5), boxes=boxes + 10, masks=None)
        video = SimpleNamespace(**{**vars(two_actors), "tubes": (tube, other)})
    truth = truth_of(video, WHOLE, gt)
    every = truth_masks(truth)
    assert every.any() and len(every) == video.frames
    some = truth_masks(truth, np.array([4, 1, -1, 1, 0]))
    np.testing.assert_array_equal(some[[0, 1, 3, 4]], every[[4, 1, 1, 0]])
    assert not some[2].any() and some.dtype == bool


@pytest.mark.parametrize("gt", ["union", "first", "random_one"])
def test_masks_are_held_compressed_and_are_those_of_all_frames_at_once(gt):
    """A video of more frames than are unpacked at once, by the published rule for all."""
    frames, rng = 2 * BLOCK + 7, np.random.default_rng(5)
    actors = []
    for _ in range(3):
        numbers = np.flatnonzero(rng.random(frames) < 0.7)
        masks = rng.random((len(numbers), 32, 32)) < 0.3
        masks[::3] = square(-8, -8)  # outside the crop
        actors.append(SimpleNamespace(frames=numbers, masks=masks, boxes=None))
    video = SimpleNamespace(
        name="v", label=0, frames=frames, height=32, width=32, tubes=tuple(actors)
    )
    middle = ClipGeometry((32, 32), (16, 16), 16)
    whole = np.zeros((3, frames, 16, 16), bool)
    for actor, tube in enumerate(actors):
        whole[actor, tube.frames] = tube.masks[:, 8:24, 8:24]
    drawn = np.random.default_rng(zlib.crc32(b"v"))
    truth = truth_of(video, middle, gt)
    np.testing.assert_array_equal(truth_masks(truth), reduce_actors(whole, gt, drawn))
    assert truth.frames == frames and truth.masks_F_H_W.nbytes > 0
    switches = Switches(gt=gt)
    rectangle = floor.Rectangle(0.5, 0.5)
    array = floor.Truth("v", 0, (16, 16), masks_F_H_W=truth_masks(truth))
    results = [
        floor.score_rectangle(rectangle, [one], CLASSES, switches) for one in (truth, array)
    ]
    assert results[0].to_dict() == results[1].to_dict()
