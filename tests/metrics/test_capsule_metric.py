"""The capsule protocol against numbers of the field's own code, a slow reference, and sums
a person can work out.
"""

import json
from fractions import Fraction

import numpy as np
import pytest

from claus.metrics.capsule import (
    THRESHOLDS,
    Switches,
    VideoOverlap,
    evaluate,
    evaluation_clips,
    foreground,
    hit_counts,
    reduce_actors,
    select_actors,
)

HALF = THRESHOLDS.index(0.5)


def overlap_of(name, label, pred_F_H_W, gt_F_H_W, scores_N_C=None, clips=None):
    """A VideoOverlap filled clip by clip, as an evaluation would."""
    n_classes = None if scores_N_C is None else scores_N_C.shape[1]
    video = VideoOverlap.empty(name, label, len(gt_F_H_W), n_classes)
    for clip, frames_T in enumerate(evaluation_clips(len(gt_F_H_W))):
        if clips is None or clip in clips:
            real = (frames_T >= 0)[
                :, None, None
            ]  # what the network sees and says past the end of the video
            video.add_clip(
                clip,
                frames_T,
                np.where(real, pred_F_H_W[frames_T], True),
                np.where(real, gt_F_H_W[frames_T], False),
                None if scores_N_C is None else scores_N_C[clip],
            )
    return video


def strip(*widths):
    """Masks (F, 1, 20): in each frame the first `width` of 20 pixels are True. Widths make
    IoUs easy to see.
    """
    return np.arange(20)[None, None, :] < np.array(widths)[:, None, None]


# --- the field's own numbers --------------------------------------------------------------


@pytest.fixture(scope="module")
def golden(shared_golden):
    return dict(
        np.load(shared_golden / "capsule_protocol_three_classes.npz", allow_pickle=False)
    )


@pytest.fixture(scope="module")
def golden_videos(golden):
    shape = tuple(golden["mask_shape"])
    gt = np.unpackbits(golden["gt_packed"])[: np.prod(shape)].reshape(shape).astype(bool)
    pred = foreground(golden["pred_logit"])
    frames, clips = golden["video_offset"], golden["clip_offset"]
    return [
        overlap_of(
            str(name),
            int(golden["label"][i]),
            pred[frames[i] : frames[i + 1]],
            gt[frames[i] : frames[i + 1]],
            golden["clip_scores"][clips[i] : clips[i + 1]],
        )
        for i, name in enumerate(golden["video_name"])
    ]


CLASSES = tuple(f"class{i}" for i in range(24))


def same(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-5, rtol=0)


def test_golden_rates_and_means(golden, golden_videos):
    result = evaluate(golden_videos, CLASSES)
    assert golden["iou_thresholds"].tolist() == list(THRESHOLDS)
    present = golden["expected_n_frames_per_class"] > 0
    same(result.f_ap[present], golden["expected_fAP"][present])
    same(result.v_ap[present], golden["expected_vAP"][present])
    same(result.frames_C, golden["expected_n_frames_per_class"])
    same(result.videos_C, golden["expected_n_videos_per_class"])
    same(result.f_map, golden["own_fmAP_present_classes"])
    same(result.v_map, golden["own_vmAP_present_classes"])
    same([result.f_map[HALF], result.v_map[HALF]], [0.832822905, 0.888888889])


def test_golden_absent_classes_make_nan_where_asked(golden, golden_videos):
    result = evaluate(golden_videos, CLASSES, Switches(absent_class="nan"))
    np.testing.assert_equal(result.f_map, golden["expected_fmAP"])
    np.testing.assert_equal(result.v_map, golden["expected_vmAP"])
    same(result.f_ap, golden["expected_fAP"])
    same(result.v_ap, golden["expected_vAP"])


def test_golden_classes(golden, golden_videos):
    result = evaluate(golden_videos, CLASSES)
    assert result.correct_C.sum() == golden["expected_n_correct"]
    same(result.accuracy, golden["expected_accuracy"])
    same(result.f_map_class_aware, golden["own_fmAP_class_aware"])
    same(result.v_map_class_aware, golden["own_vmAP_class_aware"])
    correct = [
        bool(v.gt_F.any()) and v.predicted_class(Switches()) == v.label for v in golden_videos
    ]
    assert correct == golden["expected_video_correct"].tolist()


def test_golden_tells_kept_clips_from_all_clips(golden_videos):
    """One video is classified right only by clips that hold no ground truth, which the
    field's code drops.
    """
    video = next(v for v in golden_videos if v.name == "v24_two")
    assert (
        video.predicted_class(Switches())
        != video.label
        == video.predicted_class(Switches(class_from="all_clips"))
    )


def test_golden_ious(golden, golden_videos):
    frame_iou, video_iou = [], []
    for video in golden_videos:
        counted = video.counted_frames(Switches())
        inter, union = (
            np.where(counted, video.intersection_F, 0),
            np.where(counted, video.union_F, 0),
        )
        with np.errstate(invalid="ignore"):
            frame_iou.append(inter / union)
            video_iou.append(inter.sum() / union.sum())
    same(np.concatenate(frame_iou), golden["expected_frame_iou"])
    same(video_iou, golden["expected_video_iou"])


def test_golden_kept_clips(golden, golden_videos):
    kept = [
        (i, clip)
        for i, v in enumerate(golden_videos)
        for clip in np.flatnonzero(v.kept_clips(Switches()))
    ]
    assert kept == list(zip(golden["kept_clip_video"], golden["kept_clip_index"], strict=True))
    frames = [evaluation_clips(len(golden_videos[i].gt_F))[clip] for i, clip in kept]
    np.testing.assert_array_equal(frames, golden["kept_clip_frames"])


# --- a slow reference: pure Python, exact fractions, straight from masks ------------------


def reference(videos, n_classes, count_without_gt=False, class_from="kept_clips"):
    """f_map, v_map, aware f_map, aware v_map (lists of 20) and accuracy of (label, pred,
    gt, scores) videos.
    """
    table = {c: {"frames": [], "videos": []} for c in range(n_classes)}
    right_videos = all_videos = 0
    for label, pred, gt, scores in videos:
        clips, frame = [], 0
        while frame < len(gt):
            clips += [
                [f if f < len(gt) else None for f in range(frame + phase, frame + 16, 2)]
                for phase in (0, 1)
            ]
            frame += 16
        holds = [any(f is not None and gt[f].any() for f in clip) for clip in clips]
        if not any(holds):
            continue
        voters = [
            s
            for s, clip, hold in zip(scores, clips, holds, strict=True)
            if (hold if class_from == "kept_clips" else any(f is not None for f in clip))
        ]
        means = [
            sum(Fraction(float(s[c])) for s in voters) / len(voters) for c in range(n_classes)
        ]
        right = means.index(max(means)) == label
        pairs = []
        for clip, hold in zip(clips, holds, strict=True):
            for f in clip:
                if hold and f is not None and (count_without_gt or gt[f].any()):
                    pixels = list(
                        zip(pred[f].ravel().tolist(), gt[f].ravel().tolist(), strict=True)
                    )
                    pairs.append(
                        (sum(p and g for p, g in pixels), sum(p or g for p, g in pixels))
                    )
        ious = [Fraction(i, u) if u else Fraction(1) for i, u in pairs]
        table[label]["frames"] += [(iou, right) for iou in ious]
        total = Fraction(sum(i for i, _ in pairs), sum(u for _, u in pairs))
        table[label]["videos"].append((total, right))
        all_videos, right_videos = all_videos + 1, right_videos + right
    curves = []
    for aware in (False, True):
        for kind in ("frames", "videos"):
            curves.append([])
            for i in range(20):
                rates = [
                    Fraction(
                        sum(
                            iou >= Fraction(i, 20) and (r or not aware) for iou, r in row[kind]
                        ),
                        len(row[kind]),
                    )
                    for row in table.values()
                    if row[kind]
                ]
                curves[-1].append(float(sum(rates) / len(rates)) if rates else float("nan"))
    return *curves, right_videos / all_videos if all_videos else float("nan")


def random_videos(seed, n_classes):
    """Videos of 1-40 frames: empty stretches, empty predictions, masks of 4x5 pixels so
    that IoU ties with t occur.
    """
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(rng.integers(1, 7)):
        frames = int(rng.integers(1, 41))
        gt = rng.random((frames, 4, 5)) < rng.choice([0.1, 0.5, 0.9])
        gt[rng.random(frames) < rng.choice([0, 0.5, 0.95])] = False
        if rng.random() < 0.3:
            gt[16:] = False
        pred = gt ^ (rng.random(gt.shape) < rng.choice([0, 0.1, 0.4]))
        pred[rng.random(frames) < 0.2] = False
        scores = (
            rng.integers(0, 4, (-(-frames // 16) * 2, n_classes)) / 4
        )  # ties between classes occur
        videos.append((int(rng.integers(n_classes)), pred, gt, scores))
    return videos


@pytest.mark.parametrize("count_without_gt", [False, True])
@pytest.mark.parametrize("class_from", ["kept_clips", "all_clips"])
def test_equals_slow_reference(count_without_gt, class_from):
    switches = Switches(count_frames_without_gt=count_without_gt, class_from=class_from)
    for seed in range(15):
        videos = random_videos(seed, n_classes=3)
        result = evaluate(
            [overlap_of(str(i), *video) for i, video in enumerate(videos)], "abc", switches
        )
        f_map, v_map, f_aware, v_aware, accuracy = reference(
            videos, 3, count_without_gt, class_from
        )
        np.testing.assert_allclose(result.f_map, f_map, atol=1e-12, err_msg=f"seed {seed}")
        np.testing.assert_allclose(result.v_map, v_map, atol=1e-12)
        np.testing.assert_allclose(result.f_map_class_aware, f_aware, atol=1e-12)
        np.testing.assert_allclose(result.v_map_class_aware, v_aware, atol=1e-12)
        np.testing.assert_allclose(result.accuracy, accuracy)


# --- clips --------------------------------------------------------------------------------


def test_clips_of_a_long_and_a_short_video():
    assert evaluation_clips(21).tolist() == [
        [0, 2, 4, 6, 8, 10, 12, 14],
        [1, 3, 5, 7, 9, 11, 13, 15],
        [16, 18, 20, -1, -1, -1, -1, -1],
        [17, 19, -1, -1, -1, -1, -1, -1],
    ]
    assert evaluation_clips(1).tolist() == [[0] + [-1] * 7, [-1] * 8]
    assert evaluation_clips(0).shape == (0, 8)
    assert evaluation_clips(5, length=2, stride=1).tolist() == [[0, 1], [2, 3], [4, -1]]


@pytest.mark.parametrize(("length", "stride"), [(8, 2), (8, 1), (3, 3), (1, 1)])
def test_every_frame_is_in_one_clip(length, stride):
    for frames in range(60):
        clips = evaluation_clips(frames, length, stride)
        assert sorted(clips[clips >= 0].tolist()) == list(range(frames))
        real = np.diff(clips, axis=1)[(clips[:, 1:] >= 0)]
        assert (real == stride).all()


def test_impossible_clips_are_refused():
    for bad in ((-1, 8, 2), (5, 0, 2), (5, 8, 0)):
        with pytest.raises(ValueError, match="no clips"):
            evaluation_clips(*bad)


# --- sums by hand -------------------------------------------------------------------------


def test_a_video_by_hand():
    """Truth 10 pixels in 3 frames; 10, 5 and 0 of them found: IoU 1, .5, 0; video IoU
    15/30. Frame 3 has no truth.
    """
    result = evaluate([overlap_of("v", 0, strip(10, 5, 0, 20), strip(10, 10, 10, 0))], ["a"])
    assert result.frames_C.tolist() == [3]
    assert result.f_map.tolist() == [1] + [2 / 3] * 10 + [1 / 3] * 9
    assert result.v_map.tolist() == [1] * 11 + [0] * 9
    assert (
        result.accuracy is None
        and result.f_map_class_aware is None
        and result.correct_C is None
    )


def test_iou_that_equals_a_threshold_is_a_hit():
    for i in range(20):
        rate = evaluate([overlap_of("v", 0, strip(i), strip(20))], ["a"])
        assert rate.f_map.tolist() == rate.v_map.tolist() == [1] * (i + 1) + [0] * (19 - i)
    big = np.array([3_000_000 * 7]), np.array([60_000_000])  # IoU .35, and one pixel less
    assert hit_counts(np.array([0]), *big, 1)[0].sum() == 8
    assert hit_counts(np.array([0]), big[0] - 1, big[1], 1)[0].sum() == 7


def test_mean_is_over_classes_not_frames():
    videos = [
        overlap_of("a", 0, strip(*[10] * 9), strip(*[10] * 9)),
        overlap_of("b", 2, strip(1), strip(10)),
    ]
    result = evaluate(videos, ["a", "b", "c"])
    assert result.f_map[HALF] == result.v_map[HALF] == 0.5
    assert np.isnan(result.f_ap[1]).all() and result.frames_C.tolist() == [9, 0, 1]
    assert np.isnan(evaluate(videos, ["a", "b", "c"], Switches(absent_class="nan")).f_map).all()


def test_class_does_not_enter_but_for_the_class_aware_numbers():
    right, wrong = np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([[0.9, 0.1], [0.8, 0.2]])
    masks = strip(10)
    videos = [overlap_of("a", 1, masks, masks, right), overlap_of("b", 1, masks, masks, wrong)]
    result = evaluate(videos, ["a", "b"])
    assert (
        result.f_map[HALF] == 1
        and result.f_map_class_aware[HALF] == 0.5 == result.v_map_class_aware[0]
    )
    assert result.accuracy == 0.5 and result.correct_C.tolist() == [0, 1]


def test_class_is_the_mean_of_scores_not_a_vote_and_ties_go_to_the_lower_class():
    scores = np.array([[0.5, 0.4, 0], [0.5, 0.4, 0], [0, 0.4, 0.5], [0, 0.4, 0.5]])
    masks = strip(*[10] * 20)
    assert overlap_of("v", 0, masks, masks, scores).predicted_class(Switches()) == 1
    assert overlap_of("v", 0, masks, masks, np.ones((4, 3))).predicted_class(Switches()) == 0


def test_frames_without_ground_truth():
    """20 frames, truth in frame 0 alone: frames 2, 4 ... 14 share its clip, the other 12
    frames do not count.
    """
    gt, pred = strip(10, *[0] * 19), strip(10, 0, 5, *[0] * 17)
    off = evaluate([overlap_of("v", 0, pred, gt)], ["a"])
    on = evaluate([overlap_of("v", 0, pred, gt)], ["a"], Switches(count_frames_without_gt=True))
    assert off.frames_C.tolist() == [1] and off.f_map[HALF] == 1
    assert (
        on.frames_C.tolist() == [8] and on.f_map[HALF] == 7 / 8
    )  # frame 2 predicts where nothing is
    assert (
        on.v_map[THRESHOLDS.index(0.65)] == 1 and on.v_map[THRESHOLDS.index(0.7)] == 0
    )  # 10 / (10 + 5)


def test_clips_without_truth_need_not_be_added():
    masks = strip(*[10] * 16, *[0] * 16)
    scores = np.array([[0.0, 1], [0, 1], [1, 0], [1, 0]])
    everything = evaluate([overlap_of("v", 1, masks, masks, scores)], ["a", "b"])
    kept_only = evaluate([overlap_of("v", 1, masks, masks, scores, clips={0, 1})], ["a", "b"])
    assert everything.to_dict() == kept_only.to_dict() and kept_only.accuracy == 1
    with pytest.raises(ValueError, match="without class scores"):
        overlap_of("v", 1, masks, masks, scores, clips={0, 1}).predicted_class(
            Switches(class_from="all_clips")
        )


def test_sigmoid_one_half_is_foreground():
    assert foreground(np.array([-1e-3, 0.0, 1e-3, -np.inf])).tolist() == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="NaN"):
        foreground(np.array([0.0, np.nan]))


# --- whose boxes are the truth ------------------------------------------------------------


def three_actors():
    """Actors at pixels 0, 1 and 2; actor 0 is absent in frame 1, all are in frame 2."""
    masks = np.zeros((3, 4, 1, 3), dtype=bool)
    for actor in range(3):
        masks[actor, :3, 0, actor] = True
    masks[0, 1] = False
    return masks


def test_actors_union_and_first():
    masks = three_actors()
    assert reduce_actors(masks)[:, 0].tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert reduce_actors(masks, "first")[:, 0].tolist() == [
        [1, 0, 0],
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 0],
    ]


def test_actors_random_one():
    visible = np.ones((3, 300), dtype=bool)
    visible[0, 100:] = False
    chosen = select_actors(visible, "random_one", np.random.default_rng(1))
    assert (chosen.sum(axis=0) == 1).all() and not chosen[0, 100:].any()
    assert (chosen[:, :100].sum(axis=1) > 15).all() and (
        chosen[1:, 100:].sum(axis=1) > 60
    ).all()
    again = select_actors(visible, "random_one", np.random.default_rng(1))
    assert (chosen == again).all()
    assert not select_actors(
        np.zeros((2, 3), bool), "random_one", np.random.default_rng(0)
    ).any()
    assert reduce_actors(three_actors(), "random_one", np.random.default_rng(0)).sum() == 3


def test_no_actor_at_all_and_bad_modes():
    assert not reduce_actors(np.zeros((0, 4, 2, 2), bool), "first").any()
    assert reduce_actors(np.zeros((0, 4, 2, 2), bool)).shape == (4, 2, 2)
    with pytest.raises(ValueError, match="random generator"):
        select_actors(np.ones((1, 1), bool), "random_one")
    with pytest.raises(ValueError, match="gt mode is 'all'"):
        select_actors(np.ones((1, 1), bool), "all")


# --- nothing there: answers, not crashes --------------------------------------------------


def test_no_detections():
    result = evaluate([overlap_of("v", 0, strip(0, 0), strip(10, 10))], ["a"])
    assert result.f_map.tolist() == result.v_map.tolist() == [1] + [0] * 19


@pytest.mark.parametrize(
    "switches", [Switches(), Switches(absent_class="nan", count_frames_without_gt=True)]
)
def test_no_ground_truth_at_all(switches):
    video = overlap_of("v", 0, strip(10, 10), strip(0, 0), np.ones((2, 2)))
    for videos in ([], [video]):
        result = evaluate(videos, ["a", "b"], switches)
        assert np.isnan(result.f_map).all() and np.isnan(result.v_map).all()
        assert result.videos_without_gt == len(videos)
        answer = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert (
            answer["f_map"] == [None] * 20
            and answer["videos"] == 0
            and answer["accuracy"] is None
        )


def test_one_frame_video_and_video_of_no_frames():
    one = overlap_of("one", 0, strip(10), strip(10), np.array([[0.0, 1], [1, 0]]))
    none = VideoOverlap.empty("none", 1, 0, 2)
    result = evaluate([one, none], ["a", "b"], Switches(class_from="all_clips"))
    assert result.f_map[HALF] == 1 and result.videos_without_gt == 1
    assert result.accuracy == 0  # the second clip is padding alone and has no say


def test_one_class_among_absent_ones_to_json():
    result = evaluate(
        [overlap_of("v", 1, strip(10), strip(10))], ["a", "b"], Switches(crop="224x296")
    )
    answer = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert answer["protocol"] == "capsule" and answer["thresholds"][10] == 0.5
    assert answer["switches"] == {
        "crop": "224x296",
        "gt": "union",
        "absent_class": "skip",
        "count_frames_without_gt": False,
        "class_from": "kept_clips",
        "clip_length": 8,
        "clip_stride": 2,
    }
    absent, present = answer["per_class"]
    assert absent["class"] == "a" and absent["f_ap"] == [None] * 20 and absent["frames"] == 0
    assert present["v_ap"] == [1.0] * 20 and present["f_ap_class_aware"] is None


# --- mistakes of the caller ---------------------------------------------------------------


def test_refusals():
    good = overlap_of("v", 0, strip(10), strip(10))
    scored = overlap_of("w", 0, strip(10), strip(10), np.ones((2, 1)))
    with pytest.raises(ValueError, match="two videos are called v"):
        evaluate([good, good], ["a"])
    with pytest.raises(ValueError, match="others do not"):
        evaluate([good, scored], ["a"])
    with pytest.raises(ValueError, match="class 0 of 0"):
        evaluate([good], [])
    with pytest.raises(ValueError, match="rows of class scores"):
        evaluate([scored], ["a"], Switches(clip_length=1, clip_stride=1))
    with pytest.raises(ValueError, match="bool masks"):
        good.add_frames([0], strip(10).astype(float), strip(10))
    with pytest.raises(ValueError, match="not finite"):
        scored.add_clip(0, [0], strip(10), strip(10), np.array([np.nan]))
    for name in ("gt", "absent_class", "class_from"):
        with pytest.raises(ValueError, match=f"{name} is 'some'"):
            Switches(**{name: "some"})


def test_inputs_stay_untouched():
    pred, gt, scores = strip(10, 3), strip(5, 5), np.ones((2, 1))
    before = [a.copy() for a in (pred, gt, scores)]
    evaluate([overlap_of("v", 0, pred, gt, scores)], ["a"])
    assert all((a == b).all() for a, b in zip((pred, gt, scores), before, strict=True))
