"""Frame-AP and video-AP against the field's own numbers, a slow program, and sums a person
can work out.
"""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from claus.datasets.ucf101 import CLASSES as UCF_CLASSES
from claus.datasets.ucf101 import read_ground_truth
from claus.metrics.act import RANGE, THRESHOLDS, average_precision, frame_ap, video_ap
from claus.metrics.boxes import Boxes
from claus.metrics.masks import truth as ground_truth
from claus.metrics.tubes import Tube
from claus.reference import metrics as slow

CLASSES = ("a", "b", "c", "d")
EXACT = tuple(
    Fraction(i, 20) for i in (1, 2, 4, 5, 6, 10, 15, 20)
)  # IoUs of small boxes fall on these
SWITCHES = (
    {},
    {"strict": True},
    {"voc_matching": True},
    {"envelope": True},
    {"plus_one": False},
    {"strict": True, "voc_matching": True, "envelope": True, "plus_one": False},
)


def boxes(rows, scored):
    return Boxes.from_rows(rows, scored)


def frame_score(truth, found, *thresholds, classes=CLASSES, **switches):
    return frame_ap(
        boxes(truth, False), boxes(found, True), classes, thresholds or (0.5,), **switches
    )


def as_floats(aps):
    return [np.nan if ap is None else float(ap) for ap in aps]


# --- the field's own numbers --------------------------------------------------------------


def golden(folder, name):
    data = json.loads((folder / f"{name}.json").read_text())
    result = frame_ap(
        boxes(data["gt"], False), boxes(data["det"], True), data["labels"], (0.5,)
    )
    everything = frame_ap(
        boxes(data["gt"], False),
        boxes(data["det"], True),
        data["labels"],
        (0.5,),
        all_classes=True,
    )
    return data["expected"], result, everything


def test_golden_ties(shared_golden):
    expected, result, everything = golden(shared_golden, "frame_ap_ties")
    expected = expected["act_stable_input_order"]
    np.testing.assert_allclose(
        np.nan_to_num(result.ap[:, 0]), expected["ap_per_class"], atol=1e-5, rtol=0
    )
    np.testing.assert_allclose(
        result.mean_ap, expected["map_classes_with_gt"], atol=1e-5, rtol=0
    )
    np.testing.assert_allclose(
        everything.mean_ap, expected["map_all_classes"], atol=1e-5, rtol=0
    )


def test_golden_ties_in_double_precision(shared_golden):
    expected, result, _ = golden(shared_golden, "frame_ap_ties")
    np.testing.assert_allclose(
        result.ap[:, 0], as_floats(expected["act_float64_recompute_stable"]), atol=1e-12
    )


def test_golden_class_without_ground_truth(shared_golden):
    expected, result, everything = golden(shared_golden, "frame_ap_class_without_gt")
    np.testing.assert_allclose(
        result.ap[:, 0], as_floats(expected["proposed_ap_per_class"]), atol=1e-12
    )
    np.testing.assert_allclose(
        result.mean_ap, expected["proposed_map_classes_with_gt (default)"], atol=1e-12
    )
    np.testing.assert_allclose(
        everything.mean_ap,
        expected["proposed_map_all_classes (no-GT class counted 0)"],
        atol=1e-12,
    )
    assert result.truths_C[5] == 0 and result.detections_C[5] == 2


@pytest.mark.parametrize("switches", SWITCHES)
def test_golden_input_equals_the_slow_program_under_every_switch(shared_golden, switches):
    data = json.loads((shared_golden / "frame_ap_ties.json").read_text())
    result = frame_ap(
        boxes(data["gt"], False),
        boxes(data["det"], True),
        data["labels"],
        THRESHOLDS,
        **switches,
    )
    for i, t in enumerate(THRESHOLDS):
        np.testing.assert_allclose(
            result.ap[:, i],
            as_floats(slow.frame_ap(data["gt"], data["det"], 6, t, **switches)),
            atol=1e-12,
        )


# --- the slow program on random data ------------------------------------------------------


def random_box(rng):
    x, y, w, h = rng.integers([0, 0, 1, 1], [4, 4, 6, 6]).tolist()
    return [x, y, x + w - 1, y + h - 1]


def random_rows(rng):
    """Few places and a small picture: ties of scores and IoUs, crowds, doubles, classes
    without truth or detections.
    """
    n_gt, n_det = rng.integers(0, 25), rng.integers(0, 60)
    gt_classes, det_classes = rng.integers(1, 5, 2)
    truth = [
        [*rng.integers(0, [2, 3, gt_classes]).tolist(), *random_box(rng)] for _ in range(n_gt)
    ]
    found = [
        [
            *rng.integers(0, [3, 3, det_classes]).tolist(),
            int(rng.integers(0, 5)) / 4,
            *random_box(rng),
        ]
        for _ in range(n_det)
    ]
    return truth, found


@pytest.mark.parametrize("switches", SWITCHES)
def test_frame_ap_equals_the_slow_program(switches):
    rng = np.random.default_rng(0)
    for _ in range(25):
        truth, found = random_rows(rng)
        result = frame_score(truth, found, *map(float, EXACT), **switches)
        for i, t in enumerate(EXACT):
            expected = slow.frame_ap(truth, found, 4, t, **switches)
            np.testing.assert_allclose(result.ap[:, i], as_floats(expected), atol=1e-12)
            np.testing.assert_allclose(
                result.mean_ap[i], float(slow.mean_ap(expected)), atol=1e-12
            )
            everything = frame_score(truth, found, float(t), all_classes=True, **switches)
            np.testing.assert_allclose(
                everything.mean_ap, float(slow.mean_ap(expected, True)), atol=1e-12
            )


def random_tubes(rng, n, videos, classes):
    tubes = []
    for _ in range(n):
        frames = np.flatnonzero(rng.random(5) < 0.7)
        frames = frames if len(frames) else np.array([2])
        box = random_box(rng)
        moved = [box if rng.random() < 0.7 else random_box(rng) for _ in frames]
        tubes.append(
            Tube(
                int(rng.integers(videos)),
                int(rng.integers(classes)),
                frames,
                np.array(moved, float),
                int(rng.integers(0, 5)) / 4,
            )
        )
    return tubes


def as_slow(tubes):
    return [
        (
            t.video,
            t.label,
            {int(f): tuple(map(int, b)) for f, b in zip(t.frames, t.boxes, strict=True)},
            t.score,
        )
        for t in tubes
    ]


@pytest.mark.parametrize("switches", [*SWITCHES, {"nms": None}, {"nms": 0.5, "strict": True}])
def test_video_ap_equals_the_slow_program(switches):
    rng = np.random.default_rng(1)
    exact = {**switches, **({"nms": Fraction(1, 2)} if switches.get("nms") else {})}
    for _ in range(12):
        truth = random_tubes(rng, rng.integers(0, 10), 2, rng.integers(1, 5))
        found = random_tubes(rng, rng.integers(0, 20), 3, rng.integers(1, 5))
        result = video_ap(truth, found, CLASSES, map(float, EXACT), **switches)
        for i, t in enumerate(EXACT):
            expected = slow.video_ap(as_slow(truth), as_slow(found), 4, t, **exact)
            np.testing.assert_allclose(result.ap[:, i], as_floats(expected), atol=1e-12)


# --- frame-AP by hand ---------------------------------------------------------------------

A, B, FAR = [0, 0, 9, 9], [5, 0, 14, 9], [100, 100, 109, 109]  # IoU of A and B is 1/3


def test_average_precision_by_hand():
    hits = np.array([True, False, True])  # precision 1, 1/2, 2/3 at recall 1/4, 1/4, 2/4
    assert average_precision(hits, 4) == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 4)
    assert average_precision(hits, 4, envelope=True) == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(np.array([False, True]), 1) == pytest.approx(
        (0 + 1 / 2) / 2
    )  # from (0, 0) to (1, .5)
    assert average_precision(np.array([], bool), 3) == 0 and np.isnan(
        average_precision(hits, 0)
    )


def test_a_second_detection_of_one_truth_is_false():
    result = frame_score(
        [["v", 0, 0, *A]],
        [["v", 0, 0, 0.5, *A], ["v", 0, 0, 0.9, *B], ["v", 0, 0, 0.7, *A]],
        0.5,
    )
    assert result.ap[0, 0] == pytest.approx(
        (0 + 1 / 2) / 2
    )  # B misses, A at .7 hits, A at .5 is a double
    assert result.mean_ap[0] == result.ap[0, 0]


def test_best_still_unmatched_truth_and_the_voc_switch():
    """Both detections like A best; the second can still have B at 1/3."""
    truth, found = (
        [["v", 0, 0, *B], ["v", 0, 0, *A]],
        [["v", 0, 0, 0.9, *A], ["v", 0, 0, 0.8, *A]],
    )
    assert frame_score(truth, found, 0.3).ap[0, 0] == 1
    assert frame_score(truth, found, 0.3, voc_matching=True).ap[0, 0] == 0.5
    assert frame_score(truth, found, 0.5).ap[0, 0] == 0.5


def test_a_miss_takes_nothing():
    """The first detection overlaps A by 1/3 only; the second still finds A free."""
    result = frame_score(
        [["v", 0, 0, *A]], [["v", 0, 0, 0.9, *B], ["v", 0, 0, 0.8, *A]], 0.3, 0.5
    )
    assert result.ap[0].tolist() == [1, 0.25]


def test_of_two_truths_equally_near_the_first_is_taken():
    """The better detection lies between both truths; the other one overlaps a single truth,
    which must be free.
    """
    left, right, between = [0, 0, 9, 9], [6, 0, 15, 9], [3, 0, 12, 9]
    found = [["v", 0, 0, 0.9, *between], ["v", 0, 0, 0.8, *right]]
    assert frame_score([["v", 0, 0, *left], ["v", 0, 0, *right]], found).ap[0, 0] == 1
    assert frame_score([["v", 0, 0, *right], ["v", 0, 0, *left]], found).ap[0, 0] == 0.5


def test_video_frame_and_class_must_agree():
    for other in (["w", 0, 0], ["v", 1, 0], ["v", 0, 1]):
        assert frame_score([["v", 0, 0, *A]], [[*other, 0.9, *A]]).ap[0, 0] == 0


def test_ties_are_taken_in_the_order_given():
    truth, hit, miss = [["v", 0, 0, *A]], ["v", 0, 0, 0.5, *A], ["w", 0, 0, 0.5, *A]
    assert frame_score(truth, [hit, miss]).ap[0, 0] == 1
    assert frame_score(truth, [miss, hit]).ap[0, 0] == 0.25


def test_an_iou_that_equals_the_threshold():
    for t in (0.1, 0.2, 0.3, *RANGE):
        n = round(20 * t)  # n of 20 pixels
        truth, found = [["v", 0, 0, 0, 0, 19, 0]], [["v", 0, 0, 1, 0, 0, n - 1, 0]]
        assert frame_score(truth, found, t).ap[0, 0] == 1
        assert frame_score(truth, found, t, strict=True).ap[0, 0] == 0
        tube = [
            Tube("v", 0, np.arange(7), np.tile(found[0][4:], (7, 1)), 1.0)
        ]  # a mean of seven such IoUs
        whole = [Tube("v", 0, np.arange(7), np.tile(truth[0][3:], (7, 1)))]
        assert video_ap(whole, tube, CLASSES, (t,)).ap[0, 0] == 1
        assert video_ap(whole, tube, CLASSES, (t,), strict=True).ap[0, 0] == 0


def test_without_plus_one_the_same_corners_overlap_less():
    truth, found = [["v", 0, 0, 0, 0, 9, 9]], [["v", 0, 0, 1, 0, 0, 9, 4]]
    assert frame_score(truth, found).ap[0, 0] == 1  # 50 of 100 pixels
    assert frame_score(truth, found, plus_one=False).ap[0, 0] == 0  # 4 of 9 rows


def test_mean_is_over_classes_with_truth():
    truth, found = (
        [["v", 0, 0, *A], ["v", 0, 2, *A]],
        [["v", 0, 0, 0.9, *A], ["v", 0, 1, 0.9, *A]],
    )
    result = frame_score(truth, found)
    np.testing.assert_array_equal(result.ap[:, 0], [1, np.nan, 0, np.nan])
    assert (
        result.mean_ap[0] == 0.5
        and frame_score(truth, found, all_classes=True).mean_ap[0] == 0.25
    )
    assert result.truths_C.tolist() == [1, 0, 1, 0] and result.detections_C.tolist() == [
        1,
        1,
        0,
        0,
    ]


# --- video-AP by hand ---------------------------------------------------------------------


def tube(video, frames, box, score=None, label=0):
    return Tube(
        video, label, np.array(frames), np.tile(np.array(box, float), (len(frames), 1)), score
    )


def test_doubles_are_suppressed_before_matching():
    truth = [tube("v", range(4), A), tube("v", range(4), FAR)]
    found = [
        tube("v", range(4), A, 0.9),
        tube("v", range(4), B, 0.8),
        tube("v", range(4), FAR, 0.7),
    ]
    result = video_ap(truth, found, CLASSES, (0.5,))  # B overlaps A by 1/3 > .3: it is gone
    assert result.ap[0, 0] == 1 and result.detections_C[0] == 2
    result = video_ap(truth, found, CLASSES, (0.5,), nms=None)
    assert (
        result.ap[0, 0] == pytest.approx(0.5 + (1 / 2 + 2 / 3) / 4)
        and result.detections_C[0] == 3
    )
    assert video_ap(truth, found, CLASSES, (0.5,), nms=0.4).detections_C[0] == 3


def test_suppression_follows_the_corners_too():
    found = [
        tube("v", [0], [0, 0, 1, 1], 0.9),
        tube("v", [0], [0, 0, 1, 0], 0.8),
    ]  # 2 of 4 pixels, or no area
    assert video_ap([], found, CLASSES).detections_C[0] == 1
    assert video_ap([], found, CLASSES, plus_one=False).detections_C[0] == 2


def test_time_counts_as_well_as_place():
    found = [tube("v", range(2, 8), A, 0.9)]  # 4 shared frames of 8: IoU 1/2
    assert video_ap([tube("v", range(6), A)], found, CLASSES, (0.5, 0.55)).ap[0].tolist() == [
        1,
        0,
    ]


def test_plain_tuples_and_one_frame_tubes():
    truth, found = [("v", 0, [3], [A])], [["v", 0, [3], [A], 1]]
    assert video_ap(truth, found, CLASSES, (1.0,)).mean_ap[0] == 1


def test_the_real_truth_found_exactly_scores_one(shared_data):
    """All 170,580 boxes of the UCF-101-24 test set, doubles among them; suppression would
    take overlapping actors.
    """
    folder = shared_data / "ucf101_24"
    videos = read_ground_truth(
        folder / "pyannot.pkl", folder / "testlist01.txt", "test"
    ).videos.values()
    real, tubes = ground_truth(videos)
    assert (len(real), len(tubes)) == (170_580, 1_315)
    found = replace(real, score=np.ones(len(real)))
    assert frame_ap(real, found, UCF_CLASSES, (1.0,)).ap.tolist() == [[1.0]] * 24
    scored = [t._replace(score=1.0) for t in tubes]
    assert video_ap(tubes, scored, UCF_CLASSES, (1.0,), nms=None).ap.tolist() == [[1.0]] * 24
    kept = video_ap(tubes, scored, UCF_CLASSES, (1.0,))
    assert 1_200 < kept.detections_C.sum() < 1_315 and 0.9 < kept.mean_ap[0] < 1


# --- nothing ------------------------------------------------------------------------------


def test_nothing_found_and_nothing_to_find():
    truth, found = [["v", 0, 0, *A]], [["v", 0, 0, 0.5, *A]]
    tubes, scored = [tube("v", [0], A)], [tube("v", [0], A, 0.5)]
    for result in (frame_score(truth, []), video_ap(tubes, [], CLASSES, (0.5,))):
        assert result.ap[0, 0] == 0 and result.mean_ap[0] == 0
    for result in (
        frame_score([], found),
        frame_score([], []),
        video_ap([], scored, CLASSES, (0.5,)),
        video_ap([], [], CLASSES, (0.5,)),
    ):
        assert np.isnan(result.ap).all() and np.isnan(result.mean_ap).all()
        assert result.to_dict()["mean_ap"] == [None]
    assert frame_score([], found, all_classes=True).mean_ap[0] == 0


# --- refusals and the dictionary ----------------------------------------------------------


def test_refusals():
    good = [["v", 0, 0, *A]]
    with pytest.raises(ValueError, match="detections have no scores"):
        frame_ap(boxes(good, False), boxes(good, False), CLASSES)
    with pytest.raises(ValueError, match="detections of class 4, but there are 4 classes"):
        frame_score(good, [["v", 0, 4, 0.5, *A]])
    with pytest.raises(ValueError, match="ground truth of class 7"):
        video_ap([tube("v", [0], A, label=7)], [], CLASSES)
    with pytest.raises(ValueError, match="give the names of the classes"):
        frame_score([], [], classes=())
    for t in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="give IoUs above 0"):
            frame_score(good, [], t)
    with pytest.raises(
        ValueError, match=r"tube 1 \(video v, class 0\): score nan is not finite"
    ):
        video_ap([], [tube("v", [0], A, 0.5), tube("v", [0], A, np.nan)], CLASSES)
    with pytest.raises(ValueError, match=r"tube 0 \(video v, class 0\) has no score"):
        video_ap([], [tube("v", [0], A)], CLASSES)


def test_dictionary_names_protocol_and_every_switch():
    result = frame_ap(
        boxes([["v", 0, 0, *A]], False),
        boxes([["v", 0, 0, 0.5, *B]], True),
        CLASSES,
        made_by={"threshold": 0.5},
    ).to_dict()
    assert json.loads(json.dumps(result)) == result
    assert (
        result["protocol"] == "act"
        and result["measure"] == "frame-AP"
        and result["thresholds"] == list(THRESHOLDS)
    )
    assert result["switches"] == {
        "plus_one": True,
        "strict": False,
        "voc_matching": False,
        "envelope": False,
        "all_classes": False,
        "made_by": {"threshold": 0.5},
    }
    assert result["mean_ap"] == [1, 1, 1] + [0] * 10 and result["mean_ap_50_95"] == 0
    assert result["per_class"][0] == {
        "class": "a",
        "truths": 1,
        "detections": 1,
        "ap": [1, 1, 1] + [0] * 10,
    }
    assert result["per_class"][1]["ap"] == [None] * 13 and (
        result["truths"],
        result["detections"],
    ) == (1, 1)
    result = video_ap([], [], CLASSES, (0.5,)).to_dict()
    assert result["measure"] == "video-AP" and result["switches"]["nms"] == 0.3
    assert result["mean_ap_50_95"] is None and json.loads(json.dumps(result)) == result


def test_mean_over_the_range_of_thresholds():
    truth, found = (
        [["v", 0, 0, 0, 0, 19, 0]],
        [["v", 0, 0, 1, 0, 0, 14, 0]],
    )  # IoU .75: a hit at .5 to .75
    assert frame_ap(
        boxes(truth, False), boxes(found, True), CLASSES
    ).mean_ap_50_95 == pytest.approx(0.6)
    assert np.isnan(frame_score(truth, found, 0.5, 0.75).mean_ap_50_95)


def test_nothing_given_is_changed():
    truth, found = (
        boxes([["v", 0, 0, *A]], False),
        boxes([["v", 0, 0, 0.5, *B], ["v", 0, 0, 0.9, *A]], True),
    )
    before = [
        column.copy()
        for part in (truth, found)
        for column in part.columns()
        if column is not None
    ]
    frame_ap(truth, found, CLASSES)
    after = [
        column for part in (truth, found) for column in part.columns() if column is not None
    ]
    for one, two in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, two)
