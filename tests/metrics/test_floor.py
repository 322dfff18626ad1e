"""The no-model floor: exact areas, the chosen rectangle, and what it scores on real ground
truth.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from claus.metrics import floor
from claus.metrics.capsule import THRESHOLDS, Switches, VideoOverlap, evaluate, reduce_actors

HALF, FIFTH = THRESHOLDS.index(0.5), THRESHOLDS.index(0.2)


def video(name, label, size, frames, *tubes):
    """An annotated video; tubes are (frame numbers, boxes)."""
    tubes = tuple(
        SimpleNamespace(frames=np.array(f), boxes=np.array(b).reshape(-1, 4)) for f, b in tubes
    )
    return SimpleNamespace(
        name=name, label=label, frames=frames, height=size[0], width=size[1], tubes=tubes
    )


def random_video(rng, name, size=(24, 30), actors=4):
    """Up to 12 frames, boxes in and out of the frame's crop, actors overlapping, absent, or
    twice the same.
    """
    frames, tubes = int(rng.integers(1, 13)), []
    for _ in range(rng.integers(0, actors + 1)):
        there = np.flatnonzero(rng.random(frames) < 0.7)
        corners = rng.integers(0, (size[1] - 1, size[0] - 1), (len(there), 2))
        ends = corners + rng.integers(1, (size[1], size[0]), (len(there), 2))
        tubes.append((there, np.concatenate([corners, np.minimum(ends, size[::-1])], axis=1)))
    if tubes and rng.random() < 0.3:
        tubes.append(tubes[0])
    return video(name, int(rng.integers(3)), size, frames, *tubes)


def drawn(annotated, crop, gt="union", rng=None):
    """Slow reference of video_truth: boxes drawn as masks into the whole frame, then
    cropped.
    """
    masks = np.zeros(
        (len(annotated.tubes), annotated.frames, annotated.height, annotated.width), dtype=bool
    )
    for actor, tube in enumerate(annotated.tubes):
        for frame, (x0, y0, x1, y1) in zip(tube.frames, tube.boxes, strict=True):
            masks[actor, frame, y0:y1, x0:x1] = True
    top, left = (annotated.height - crop[0]) // 2, (annotated.width - crop[1]) // 2
    return reduce_actors(masks[:, :, top : top + crop[0], left : left + crop[1]], gt, rng)


def rectangle_mask(rectangle, crop):
    x0, y0, x1, y1 = rectangle.edges(crop)
    mask = np.zeros(crop, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_rectangle_by_hand():
    assert floor.Rectangle(0.5, 0.25).edges((8, 16)) == (6, 2, 10, 6)
    assert floor.Rectangle(1, 1).edges((7, 5)) == (0, 0, 5, 7)
    assert floor.Rectangle(0.01, 0.01).edges((7, 5)) == (2, 3, 3, 4)
    assert floor.rectangle_areas((8, 16), [0.5, 1], [0.25]).tolist() == [[16], [32]]


def test_score_by_hand():
    """Crop 4x4 of a 4x8 frame is columns 2-5; the rectangle is the middle 2x2 of it,
    columns 3-4, rows 1-2.
    """
    truth = floor.video_truth(
        video("v", 0, (4, 8), 4, ([0, 1, 2], [[3, 1, 5, 3], [0, 0, 8, 4], [6, 0, 8, 4]])),
        (4, 4),
    )
    result = floor.score_rectangle(floor.Rectangle(0.5, 0.5), [truth], ["a"])
    assert result.frames_C.tolist() == [2]  # frame 2 lies outside the crop, frame 3 has no box
    assert result.f_ap[0, HALF] == 0.5  # IoU 1 and 4/16
    assert (
        result.v_ap[0, THRESHOLDS.index(0.4)] == 1
        and result.v_ap[0, THRESHOLDS.index(0.45)] == 0
    )  # 8/20


def test_pieces_do_not_overlap_and_cover_the_union():
    cross = np.array([[[2, 0, 4, 6]], [[0, 2, 6, 4]]])  # 12 + 12 - 4 pixels
    pieces, frames = floor.disjoint_pieces(cross)
    assert sorted(map(tuple, pieces)) == [
        (0, 2, 2, 4),
        (2, 0, 4, 6),
        (4, 2, 6, 4),
    ] and frames.tolist() == [0, 0, 0]
    hole = np.array([[[2, 2, 4, 4]], [[0, 0, 6, 6]]])
    pieces, _ = floor.disjoint_pieces(hole)
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in pieces) == 36 and len(pieces) == 5


@pytest.mark.parametrize("crop", [(24, 30), (20, 21), (9, 14)])
def test_boxes_and_masks_have_the_areas_of_drawn_pixels(crop):
    rng = np.random.default_rng(5)
    heights, widths = [0.1, 0.5, 0.85, 1], [0.05, 0.3, 1]
    for i in range(25):
        annotated = random_video(rng, str(i))
        masks = drawn(annotated, crop)
        from_boxes = floor.intersections(floor.video_truth(annotated, crop), heights, widths)
        from_masks = floor.intersections(
            floor.Truth(str(i), 0, crop, masks_F_H_W=masks), heights, widths
        )
        expected = np.array(
            [
                [
                    [(mask & rectangle_mask(floor.Rectangle(h, w), crop)).sum() for w in widths]
                    for h in heights
                ]
                for mask in masks
            ]
        )
        for shared, area_F in (from_boxes, from_masks):
            np.testing.assert_array_equal(shared, expected)
            np.testing.assert_array_equal(area_F, masks.sum(axis=(1, 2)))


@pytest.mark.parametrize("kind", [("full", "wide"), ("small", "wide"), ("small", "square")])
def test_resized_boxes_have_the_areas_of_resized_masks(kind):
    """The whole way of a mask through the pictures' own pipeline: resize, crop, resize."""
    clips = pytest.importorskip("claus.datasets.clips.geometry")
    geometry, rng = clips.GEOMETRY[kind], np.random.default_rng(8)
    heights, widths, size = [0.3, 0.75], [0.4, 1], (geometry.size, geometry.size)
    for size_of_video in ((240, 320), (72, 96), (101, 77)):
        annotated = random_video(rng, "v", size_of_video)
        masks = (
            clips.transform(
                drawn(annotated, size_of_video).astype(np.uint8),
                geometry,
                clips.center_crop(geometry),
            )
            .numpy()
            .astype(bool)
        )
        truth = floor.video_truth(annotated, geometry.crop, frame=geometry.frame, size=size)
        for fast, slow in zip(
            floor.intersections(truth, heights, widths),
            floor.intersections(floor.Truth("v", 0, size, masks_F_H_W=masks), heights, widths),
            strict=True,
        ):
            np.testing.assert_array_equal(fast, slow)
        assert masks.any()


@pytest.mark.parametrize(
    "switches",
    [
        Switches(),
        Switches(gt="first"),
        Switches(gt="random_one"),
        Switches(count_frames_without_gt=True, absent_class="nan"),
    ],
)
def test_score_equals_the_protocol_on_drawn_masks(switches):
    crop, rectangle, rng = (20, 22), floor.Rectangle(0.6, 0.45), np.random.default_rng(6)
    truths, overlaps = [], []
    for i in range(12):
        annotated = random_video(rng, str(i))
        gt = drawn(annotated, crop, switches.gt, np.random.default_rng(i))
        truths.append(floor.video_truth(annotated, crop, switches.gt, np.random.default_rng(i)))
        overlaps.append(VideoOverlap.empty(str(i), annotated.label, len(gt)))
        overlaps[-1].add_frames(
            np.arange(len(gt)), np.tile(rectangle_mask(rectangle, crop), (len(gt), 1, 1)), gt
        )
    fast = floor.score_rectangle(rectangle, truths, "abc", switches)
    assert fast.to_dict() == evaluate(overlaps, "abc", switches).to_dict()
    assert 0 < fast.frames_C.sum() and fast.accuracy is None


@pytest.mark.parametrize("switches", [Switches(), Switches(count_frames_without_gt=True)])
def test_choice_is_the_best_of_all_rectangles(switches):
    rng, crop, fractions = np.random.default_rng(7), (20, 22), (0.2, 0.4, 0.5, 0.7, 1.0)
    truths = [floor.video_truth(random_video(rng, str(i)), crop) for i in range(20)]
    chosen = floor.choose_rectangle(truths, "abc", switches, fractions)
    ranks = {}
    for height in fractions:
        for width in fractions:
            result = floor.score_rectangle(
                floor.Rectangle(height, width), truths, "abc", switches
            )
            ranks[height, width] = (
                round(result.f_map[HALF], 12),
                round(result.f_map.mean(), 12),
                -height * width,
            )
    assert ranks[chosen.height, chosen.width] == max(ranks.values())
    assert len(set(ranks.values())) > 5


def test_choice_finds_the_rectangle_that_the_truth_is():
    box = [40 - 12, 20 - 14, 40 + 12, 20 + 14]  # 28 x 24 of a 40 x 80 frame
    truth = floor.video_truth(video("v", 0, (40, 80), 5, (range(5), [box] * 5)), (40, 80))
    chosen = floor.choose_rectangle([truth], ["a"])
    assert (chosen.height, chosen.width) == (0.7, 0.3)
    assert floor.score_rectangle(chosen, [truth], ["a"]).f_map.tolist() == [1] * 20


@pytest.mark.parametrize("count_empty", [False, True])
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_choice_is_the_same_in_pieces(monkeypatch, kind, count_empty):
    switches = Switches(
        count_frames_without_gt=count_empty, clip_length=2, clip_stride=2, gt="union"
    )
    given, intersections = [], floor.intersections

    def watched(truth, *fractions):
        given.append(truth.frames)
        return intersections(truth, *fractions)

    monkeypatch.setattr(floor, "intersections", watched)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        videos = [random_video(rng, str(i)) for i in range(6)]
        truths = [floor.video_truth(video, (20, 24)) for video in videos]
        if kind == "masks":
            truths = [
                floor.Truth(
                    truth.name,
                    truth.label,
                    truth.size,
                    masks_F_H_W=rng.random((truth.frames, *truth.size)) < rng.random(),
                )
                for truth in truths
            ]
        monkeypatch.setattr(floor, "BLOCKS", 99)
        whole = floor.choose_rectangle(truths, "abc", switches)
        given.clear()
        monkeypatch.setattr(floor, "BLOCKS", 1)
        assert floor.choose_rectangle(truths, "abc", switches) == whole
        assert max(given) <= 4 and sum(given) == sum(truth.frames for truth in truths)


def test_choice_averages_over_classes():
    """Counted by frames the small boxes win 9 to 2, counted by classes the large ones 2 to
    1.
    """
    small, large = [[4, 4, 6, 6]], [[0, 0, 10, 10]]
    truths = [
        floor.video_truth(video(str(label), label, (10, 10), n, (range(n), box * n)), (10, 10))
        for label, n, box in ((0, 9, small), (1, 1, large), (2, 1, large))
    ]
    chosen = floor.choose_rectangle(truths, "abc", fractions=(0.2, 1.0))
    assert (chosen.height, chosen.width) == (1.0, 1.0)


def test_ties_go_to_higher_thresholds_then_smaller_rectangle_then_lower():
    def choose(fractions, *boxes):
        annotated = video("v", 0, (10, 10), len(boxes), (range(len(boxes)), boxes))
        chosen = floor.choose_rectangle(
            [floor.video_truth(annotated, (10, 10))], "a", fractions=fractions
        )
        return chosen.height, chosen.width

    assert choose((0.8, 0.9), [0, 0, 10, 10]) == (0.9, 0.9)  # IoU .64 and .81, both hits at .5
    assert choose((0.8, 0.4, 0.2), [0, 0, 1, 1]) == (
        0.2,
        0.2,
    )  # nothing reaches that corner: all equally bad
    assert choose((0.8, 0.2), [1, 4, 9, 6], [4, 1, 6, 9]) == (
        0.2,
        0.8,
    )  # a lying and a standing box


def test_nothing_there():
    empty = floor.video_truth(video("v", 0, (10, 10), 3), (10, 10))
    assert empty.frames == 3
    assert floor.choose_rectangle([], ["a"]) is None
    assert floor.choose_rectangle([empty], ["a"]) is None
    result = floor.score_rectangle(floor.Rectangle(0.5, 0.5), [empty], ["a"])
    assert result.videos_without_gt == 1 and np.isnan(result.f_map).all()
    with pytest.raises(ValueError, match="a crop of 12x10 from 10x10"):
        floor.video_truth(video("v", 0, (10, 10), 3), (12, 10))


# --- real ground truth: all of UCF-101-24 in seconds --------------------------------------


@pytest.fixture(scope="module")
def real_parts(shared_data):
    ucf101 = pytest.importorskip("claus.datasets.ucf101")
    folder = shared_data / "ucf101_24"
    return [
        ucf101.read_ground_truth(folder / "pyannot.pkl", folder / "testlist01.txt", part)
        for part in ("train", "test")
    ]


@pytest.mark.parametrize(
    ("crop", "about", "exact"),
    [
        ((224, 224), (18, 60, 15), (18.19, 62.40, 15.08)),
        ((224, 296), (16, 60, 13), (16.86, 61.25, 13.50)),
    ],
)
def test_floor_of_real_ground_truth(real_parts, crop, about, exact):
    train, test = (
        [floor.video_truth(v, crop) for v in part.videos.values()] for part in real_parts
    )
    classes, switches = real_parts[1].classes, Switches(crop=f"{crop[0]}x{crop[1]}")
    rectangle = floor.choose_rectangle(train, classes, switches)
    result = floor.score_rectangle(rectangle, test, classes, switches)
    assert (len(train), result.videos_C.sum(), result.videos_without_gt) == (2284, 910, 0)
    scores = 100 * np.array([result.f_map[HALF], result.v_map[FIFTH], result.v_map[HALF]])
    np.testing.assert_allclose(scores, about, atol=2.5)
    np.testing.assert_allclose(scores, exact, atol=0.01)
    assert floor.to_dict(rectangle, result)["rectangle"]["height"] == 0.75
