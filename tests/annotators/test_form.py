"""Requests, answers and the simulated annotator: nothing but what was asked for comes out,
nothing wrong goes in.
"""

import copy
import json

import numpy as np
import pytest

from claus.annotators.answers import check_answers, merge_answers
from claus.annotators.form import read_form, request_form, write_form
from claus.annotators.simulated import answer, strip_labels
from claus.datasets.labels.annotations import Annotations, Tube, Video, load, save
from claus.datasets.labels.segment import Segment
from claus.datasets.ucf101 import read_ground_truth
from claus.utils.runtime import UserError


def truth():
    """Dense ground truth: two actors that meet, a gap, an exact duplicate, and a video
    without action.
    """

    def boxes(start, end, shift=0):
        return [[f + shift, 1, f + shift + 10, 21] for f in range(start, end)]

    a = Video(
        "run/a",
        12,
        60,
        80,
        0,
        range(12),
        (
            Tube(0, 1, range(6, 12), boxes(6, 12)),
            Tube(0, 2, range(0, 4), boxes(0, 4)),
            Tube(0, 3, range(0, 8), boxes(0, 8, 30)),
            Tube(0, 4, range(0, 8), boxes(0, 8, 30)),
        ),
    )
    b = Video("walk/b", 10, 60, 80, 1, range(10), (Tube(1, 1, range(0, 10), boxes(0, 10)),))
    c = Video("walk/c", 5, 60, 80, 1, range(5))
    return Annotations("toy", ("run", "walk"), {v.name: v for v in (a, b, c)})


PICKS = [
    {
        "video": "run/a",
        "frames": np.array([7, 4, 2]),
        "scores": np.array([3.0, 2.5, np.nan]),
        "score": 2.75,
        "reason": "cluster 1",
        "cluster": np.int32(1),
    },
    {"video": "walk/c", "frames": [3]},
]


def asked():
    return request_form(strip_labels(truth()), PICKS, "demo", 1)


def answered():
    return answer(truth(), asked())


def test_strip_labels_leaves_no_label():
    hidden = strip_labels(truth())
    assert list(hidden.videos) == list(truth().videos) and hidden.classes == truth().classes
    assert (
        hidden.counts() == {"videos": 0, "frames": 0, "boxes": 0}
        and hidden.total_frames() == 27
    )
    for video in hidden.videos.values():
        assert video.label is None and video.tubes == () and len(video.labeled_frames) == 0


def test_the_request_can_be_read_by_people():
    form = asked()
    assert list(form) == [
        "format",
        "version",
        "run",
        "cycle",
        "classes",
        "how_to_answer",
        "videos",
    ]
    assert form["format"] == "claus-request" and (form["run"], form["cycle"]) == ("demo", 1)
    assert form["videos"][0] == {
        "video": "run/a",
        "class": None,
        "reason": "cluster 1",
        "score": 2.75,
        "cluster": 1,
        "frames": [
            {"frame": 2, "score": None, "actors": None},
            {"frame": 4, "score": 2.5, "actors": None},
            {"frame": 7, "score": 3.0, "actors": None},
        ],
    }
    assert form["videos"][1]["frames"] == [{"frame": 3, "score": None, "actors": None}]
    json.dumps(form, allow_nan=False)
    assert PICKS[0]["frames"].tolist() == [7, 4, 2]


@pytest.mark.parametrize(
    "pick, words",
    [
        ({"video": "x", "frames": [1]}, "the annotation file does not have it"),
        ({"video": "run/a", "frames": [1, 1]}, "name at least one, each once"),
        ({"video": "run/a", "frames": []}, "name at least one"),
        ({"video": "run/a", "frames": [12]}, "frame 12 cannot be requested"),
        ({"video": "run/a", "frames": [-1]}, "frame -1 cannot be requested"),
    ],
)
def test_what_cannot_be_requested(pick, words):
    with pytest.raises(UserError, match=words):
        request_form(strip_labels(truth()), [pick], "demo", 1)
    with pytest.raises(UserError, match="video run/a: is requested twice"):
        request_form(strip_labels(truth()), [PICKS[0], PICKS[0]], "demo", 1)


def test_the_annotator_answers_what_is_there():
    a, c = answered()["videos"]
    assert (a["class"], c["class"]) == ("run", "walk")
    third = [{"track": 3, "box": [x, 1, 10, 20]} for x in (32, 34, 37)]
    assert a["frames"][0]["actors"] == [{"track": 2, "box": [2, 1, 10, 20]}, third[0]]
    assert a["frames"][1]["actors"] == [
        third[1]
    ]  # in the gap of the others; the duplicate is answered once
    assert a["frames"][2]["actors"] == [{"track": 1, "box": [7, 1, 10, 20]}, third[2]]
    assert c["frames"] == [{"frame": 3, "score": None, "actors": []}]
    assert asked() == asked() and asked()["videos"][0]["frames"][0]["actors"] is None


def test_answers_depend_on_the_requested_frames_only():
    """Scramble every box outside the requested frames, and every other video: the answers
    stay the same.
    """
    rng, original = np.random.default_rng(0), truth()
    shown = {"run/a": [2, 4, 7], "walk/c": [3]}

    def scrambled(video):
        keep, tubes = shown.get(video.name, []), []
        for tube in video.tubes:
            here = [f for f in tube.frames.tolist() if f in keep]
            away = [f for f in range(video.frames) if f not in keep and rng.random() < 0.5]
            frames = sorted(here + away)
            if frames:
                low = rng.integers(0, 30, (len(frames), 2))
                boxes = np.concatenate([low, low + rng.integers(1, 30, low.shape)], axis=1)
                for i, frame in enumerate(frames):
                    if frame in here:
                        boxes[i] = tube.boxes[tube.frames.tolist().index(frame)]
                tubes.append(Tube(video.label, tube.track, frames, boxes))
        label = video.label if video.name in shown else 1 - video.label
        tubes = [Tube(label, t.track, t.frames, t.boxes) for t in tubes]
        return Video(
            video.name,
            video.frames,
            video.height,
            video.width,
            label,
            range(video.frames),
            tubes,
        )

    changed = 0
    for _ in range(20):
        other = Annotations(
            "toy", original.classes, {n: scrambled(v) for n, v in original.videos.items()}
        )
        assert answer(other, asked()) == answered()
        elsewhere = request_form(
            strip_labels(original), [{"video": "run/a", "frames": [0, 5, 11]}], "demo", 1
        )
        changed += answer(other, elsewhere) != answer(original, elsewhere)
    assert changed == 20  # the scrambling does change what was not asked for


def test_the_ground_truth_must_know_what_is_asked():
    with pytest.raises(UserError, match="other classes"):
        answer(Annotations("x", ("a",), {}), asked())
    with pytest.raises(UserError, match="video run/a: the ground truth does not know it"):
        answer(strip_labels(truth()), asked())
    sparse = Annotations(
        "toy", ("run", "walk"), {"run/a": Video("run/a", 12, 60, 80, 0, [2, 4])}
    )
    with pytest.raises(UserError, match="says nothing of frame 7"):
        answer(sparse, asked())
    masked = Video(
        "run/a", 12, 4, 4, 0, range(12), (Tube(0, 1, [2], None, np.ones((1, 4, 4), bool)),)
    )
    with pytest.raises(UserError, match="video run/a: has masks"):
        answer(Annotations("toy", ("run", "walk"), {"run/a": masked}), asked())


def test_merging_joins_tracks_over_the_cycles(tmp_path):
    start = strip_labels(truth())
    first = merge_answers(start, answered())
    assert start.counts()["frames"] == 0
    assert first.counts() == {"videos": 2, "frames": 4, "boxes": 5}
    assert (
        first.videos["walk/c"].labeled_frames.tolist() == [3]
        and first.videos["walk/c"].tubes == ()
    )
    form = request_form(first, [{"video": "run/a", "frames": [1, 9]}], "demo", 2)
    assert form["videos"][0]["class"] == "run"  # known already
    assert [f["frame"] for f in form["videos"][0]["labelled_before"]] == [2, 4, 7]
    assert form["videos"][0]["labelled_before"][1]["actors"] == [
        {"track": 3, "box": [34, 1, 10, 20]}
    ]
    second = merge_answers(first, answer(truth(), form))
    video = second.videos["run/a"]
    assert video.labeled_frames.tolist() == [1, 2, 4, 7, 9]
    assert [(t.track, t.frames.tolist()) for t in video.tubes] == [
        (1, [7, 9]),
        (2, [1, 2]),
        (3, [1, 2, 4, 7]),
    ]
    for tube in video.tubes:  # the boxes are those of the ground truth
        dense = next(t for t in truth().videos["run/a"].tubes if t.track == tube.track)
        assert (
            tube.boxes.tolist()
            == dense.boxes[np.searchsorted(dense.frames, tube.frames)].tolist()
        )
    assert first.counts()["frames"] == 4 and list(second.videos) == list(start.videos)
    save(second, tmp_path / "annotations.pkl")
    assert load(tmp_path / "annotations.pkl").counts() == {"videos": 2, "frames": 6, "boxes": 8}


def test_actors_that_a_later_cycle_does_not_see_are_kept():
    first = merge_answers(strip_labels(truth()), answered())
    form = request_form(first, [{"video": "run/a", "frames": [9]}], "demo", 2)
    video = merge_answers(first, answer(truth(), form)).videos["run/a"]
    assert [(t.track, t.frames.tolist()) for t in video.tubes] == [
        (1, [7, 9]),
        (2, [2]),
        (3, [2, 4, 7]),
    ]


def test_answers_for_other_classes_are_not_merged():
    answers = answered() | {"classes": ["walk", "run"]}  # would turn every label round
    with pytest.raises(UserError, match="the list of classes was changed"):
        merge_answers(strip_labels(truth()), answers)


def test_good_answers_pass_in_any_order():
    answers = answered()
    answers["videos"].reverse()
    answers["videos"][1]["frames"].reverse()
    check_answers(asked(), answers, strip_labels(truth()))
    assert merge_answers(strip_labels(truth()), answers).counts() == {
        "videos": 2,
        "frames": 4,
        "boxes": 5,
    }


@pytest.mark.parametrize("box", [[0, 0, 80, 60], [79, 59, 1, 1], [0, 0, 1, 1]])
def test_a_box_may_touch_the_edges_of_the_picture(box):
    answers = answered()
    answers["videos"][0]["frames"][1]["actors"][0]["box"] = box
    check_answers(asked(), answers, strip_labels(truth()))
    merged = merge_answers(strip_labels(truth()), answers)
    x, y, width, height = box
    corners = [x, y, x + width, y + height]
    shown = [tube.boxes.tolist() for tube in merged.videos["run/a"].tubes]
    assert any(corners in boxes for boxes in shown)


def change(path, value):
    """A function that sets answers["videos"]... at path (a tuple of keys) to value, or
    deletes it for `del`.
    """

    def apply(answers):
        place = answers
        for key in path[:-1]:
            place = place[key]
        if value is DELETE:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return apply


DELETE = object()
FRAME = ("videos", 0, "frames", 1)
BOX = (*FRAME, "actors", 0, "box")
PROBLEMS = [
    (("videos", 1), DELETE, "1 problem: video walk/c is missing"),
    (
        ("videos", 1, "video"),
        "walk/b",
        "2 problems: video walk/c is missing; video walk/b was not requested",
    ),
    (("videos", 1, "video"), "run/a", "video run/a appears twice"),
    (("videos", 1, "video"), None, "entry 2 of videos has no 'video' name"),
    (("videos", 1), 7, "entry 2 of videos has no 'video' name"),
    (FRAME, DELETE, "1 problem: video run/a: frame 4 is missing"),
    ((*FRAME, "frame"), 5, "1 problem: video run/a: frame 4 was changed to 5"),
    ((*FRAME, "frame"), 2, "frame 2 appears twice"),
    ((*FRAME, "frame"), 4.0, "frame number 4.0 is not a whole number"),
    ((*FRAME, "frame"), [4], r"frame number \[4\] is not a whole number"),
    ((*FRAME, "frame"), 12, "frame 12 is not in the video"),
    ((*FRAME, "actors"), None, "frame 4: is unanswered"),
    ((*FRAME, "actors"), {}, "frame 4: actors is {}, not a list"),
    ((*FRAME, "actors"), [[1, 2, 3, 4]], r"frame 4: actor \[1, 2, 3, 4\] is not"),
    (
        (*FRAME, "actors"),
        [{"track": 1, "box": [1, 1, 2, 2]}] * 2,
        "frame 4: track 1 appears twice",
    ),
    ((*FRAME, "actors", 0, "track"), 0, "track 0 is not a whole number from 1"),
    ((*FRAME, "actors", 0, "track"), "1", "track '1' is not"),
    ((*FRAME, "actors", 0, "track"), True, "track True is not"),
    (BOX, [1, 2, 3], r"box \[1, 2, 3\] is not four whole numbers"),
    (BOX, [1, 2, 3, 4.5], "is not four whole numbers"),
    (BOX, [1, 2, 3, None], "is not four whole numbers"),
    (BOX, [1, 2, 0, 4], r"1 problem: video run/a: frame 4: box \[1, 2, 0, 4\] has no area"),
    (BOX, [1, 2, 4, -4], "has no area"),
    (BOX, [71, 2, 10, 4], "extends outside the picture of 80x60"),
    (BOX, [1, 57, 10, 4], "extends outside the picture"),
    (BOX, [-1, 7, 10, 4], "extends outside the picture"),
    (BOX, [10**30, 7, 10, 4], "extends outside the picture"),
    (("videos", 0, "class"), None, "video run/a: its class is missing"),
    (("videos", 0, "class"), DELETE, "video run/a: its class is missing"),
    (("videos", 0, "class"), "ran", r"unknown class 'ran' \(is it run\?\)"),
    (("videos", 0, "class"), 0, "unknown class 0"),
    (("videos", 0, "frames"), [], "frame 2 is missing"),
    (("videos", 0, "frames"), None, "'frames' is not a list"),
    (("cycle",), 2, "cycle is 2, the request has 1"),
    (("run",), "other", "run is 'other', the request has 'demo'"),
    (("classes",), ["walk", "run"], "the list of classes was changed"),
]


@pytest.mark.parametrize("path, value, words", PROBLEMS)
def test_each_problem_is_named(path, value, words):
    answers = copy.deepcopy(answered())
    change(path, value)(answers)
    with pytest.raises(UserError, match=words) as error:
        check_answers(asked(), answers, strip_labels(truth()))
    assert "\n" not in str(error.value)


def test_surplus_frames_are_named():
    answers = answered()
    answers["videos"][0]["frames"].append({"frame": 9, "actors": []})
    with pytest.raises(UserError, match="1 problem: video run/a: frame 9 was not requested"):
        check_answers(asked(), answers, strip_labels(truth()))


def test_all_problems_are_counted_and_the_first_shown():
    words = "the answers have 6 problems: .*class is missing.*; and 1 more; correct"
    with pytest.raises(UserError, match=words) as error:
        check_answers(
            asked(), asked(), strip_labels(truth())
        )  # 2 classes and 4 frames are null
    assert str(error.value).count("unanswered") == 3
    with pytest.raises(UserError, match="unanswered"):
        merge_answers(strip_labels(truth()), asked())


def test_an_old_video_keeps_its_class_and_its_frames():
    first = merge_answers(strip_labels(truth()), answered())
    form = request_form(first, [{"video": "run/a", "frames": [1]}], "demo", 2)
    answers = answer(truth(), form)
    answers["videos"][0]["class"] = "walk"
    with pytest.raises(
        UserError, match="video run/a: class 'walk', it was labeled 'run' before"
    ):
        check_answers(form, answers, first)
    with pytest.raises(UserError, match="frame 2 is labeled already"):
        merge_answers(first, answered())
    with pytest.raises(UserError, match="frame 7 cannot be requested, it is labeled already"):
        request_form(first, PICKS[:1], "demo", 2)


def test_a_frame_answered_twice_is_not_merged():
    answers = answered()
    answers["videos"][1]["frames"] *= 2
    with pytest.raises(UserError, match="walk/c: frame 3 appears twice"):
        merge_answers(strip_labels(truth()), answers)


def test_text_of_the_file_cannot_break_the_line():
    answers = answered()
    answers["videos"][1]["video"] = "two\nlines" * 100
    with pytest.raises(UserError) as error:
        check_answers(asked(), answers, strip_labels(truth()))
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_cycle_on_the_real_training_videos(shared_data, tmp_path):
    """Nine frames of 114 videos come back as asked for, and every box is one of the ground
    truth.
    """
    folder = shared_data / "ucf101_24"
    dense = read_ground_truth(folder / "pyannot.pkl", folder / "testlist01.txt", "train")
    rng = np.random.default_rng(0)
    names = sorted(
        {
            "CliffDiving/v_CliffDiving_g13_c02",
            *rng.choice(list(dense.videos), 113, replace=False).tolist(),
        }
    )
    picks = [
        {"video": name, "frames": rng.choice(dense.videos[name].frames, 9, replace=False)}
        for name in names
    ]
    form = request_form(strip_labels(dense), picks, "real", 0)
    write_form(tmp_path / "answers.json", answer(dense, form))
    answers = read_form(tmp_path / "answers.json")
    check_answers(form, answers, strip_labels(dense))
    sparse = merge_answers(strip_labels(dense), answers)
    assert sparse.counts()["videos"] == len(names) and sparse.counts()["frames"] == 9 * len(
        names
    )
    for pick in picks:
        video, whole = sparse.videos[pick["video"]], dense.videos[pick["video"]]
        assert video.label == whole.label and video.labeled_frames.tolist() == sorted(
            pick["frames"].tolist()
        )
        here = {
            (f, *box)
            for t in video.tubes
            for f, box in zip(t.frames.tolist(), t.boxes.tolist(), strict=True)
        }
        there = {
            (f, *box)
            for t in whole.tubes
            for f, box in zip(t.frames.tolist(), t.boxes.tolist(), strict=True)
            if f in pick["frames"]
        }
        assert here == there
    assert (
        len(sparse.videos["CliffDiving/v_CliffDiving_g13_c02"].tubes) == 2
    )  # three, two of them the same


# -------------------------------------------------------------------------------- the files


def test_forms_survive_the_file_one_line_a_frame(tmp_path):
    first = merge_answers(strip_labels(truth()), answered())
    later = request_form(
        first, [{"video": "run/a", "frames": [1, 9], "reason": "größte"}], "demo", 2
    )
    for form in (asked(), answered(), later, answer(truth(), later), asked() | {"videos": []}):
        write_form(tmp_path / "form.json", form)
        assert read_form(tmp_path / "form.json") == form
    write_form(tmp_path / "form.json", asked())
    lines = [
        line for line in (tmp_path / "form.json").read_text().splitlines() if '{"frame"' in line
    ]
    assert len(lines) == 4 and '"frame": 2,' in lines[0]


def test_broken_json_is_named_with_its_line(tmp_path):
    path = tmp_path / "answers.json"
    write_form(path, answered())
    lines = path.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if '"frame": 4' in line)
    lines[number] = lines[number].replace('"score":', '"score"')
    path.write_text("\n".join(lines))
    with pytest.raises(
        UserError, match=f"answers.json, line {number + 1}: expecting ':' delimiter"
    ):
        read_form(path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "line 1"),
        (b"[]", "not a request"),
        (b'{"format": "claus-features"}', "not a request"),
        (b'{"format": "claus-request", "version": 2}', "version 2, this program reads 1"),
        (b'{"format": "claus-request", "version": 1, "videos": {}}', "'videos' is not a list"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[" * 100000, "not a JSON text"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not a JSON text"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    (tmp_path / "answers.json").write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read_form(tmp_path / "answers.json")
    assert "answers.json" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_form(tmp_path / "none.json")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    write_form(tmp_path / "form.json", asked())
    text = (tmp_path / "form.json").read_bytes()
    (tmp_path / "form.json").write_bytes(b"\xef\xbb\xbf" + text)
    assert read_form(tmp_path / "form.json") == asked()


# ---- segments of a longer video ----


def segments():
    """Two parts of one video: frames 100 to 111, labeled at 103 with class 0, and 200 to
    209.
    """
    tube = Tube(0, 2, [3], [[1, 1, 9, 9]])
    part = {"height": 60, "width": 80}
    first = Segment("cam/v", 100, 300, (4.0, 4.48))
    a = Video("cam/v_a", 12, **part, label=0, labeled_frames=[3], tubes=(tube,), segment=first)
    b = Video("cam/v_b", 10, **part, segment=Segment("cam/v", 200, 300))
    return Annotations("own", ("run", "walk"), {v.name: v for v in (a, b)})


def test_a_form_has_the_numbers_of_the_whole_video():
    before = segments()
    picks = [{"video": "cam/v_a", "frames": [111, 104]}, {"video": "cam/v_b", "frames": [200]}]
    request = request_form(before, picks, "mine", 1)
    a, b = request["videos"]
    assert a["segment"] == {
        "video": "cam/v",
        "frames": [100, 111],
        "time": ["0:00:04.000", "0:00:04.480"],
    }
    assert b["segment"] == {"video": "cam/v", "frames": [200, 209]}
    assert a["labelled_before"] == [
        {"frame": 103, "actors": [{"track": 2, "box": [1, 1, 8, 8]}]}
    ]
    assert [frame["frame"] for frame in a["frames"]] == [104, 111]
    for frame, box in zip(a["frames"], ([4, 0, 2, 2], [11, 0, 2, 2]), strict=True):
        frame["actors"] = [{"track": 2, "box": box}]
    b["class"], b["frames"][0]["actors"] = "walk", []
    check_answers(request_form(before, picks, "mine", 1), request, before)
    merged = merge_answers(before, request)
    video = merged.videos["cam/v_a"]
    assert video.labeled_frames.tolist() == video.tubes[0].frames.tolist() == [3, 4, 11]
    assert video.tubes[0].boxes[:, 0].tolist() == [1, 4, 11]
    other = merged.videos["cam/v_b"]
    assert (other.label, other.labeled_frames.tolist(), other.first) == (1, [0], 200)


@pytest.mark.parametrize("frame", [4, 99, 112, 103])
def test_a_frame_outside_the_segment_or_labeled_cannot_be_asked_for(frame):
    with pytest.raises(UserError, match=f"frame {frame} cannot be requested"):
        request_form(segments(), [{"video": "cam/v_a", "frames": [frame]}], "mine", 1)


def test_an_answer_outside_the_segment_is_told_where_it_is():
    request = request_form(segments(), [{"video": "cam/v_b", "frames": [205]}], "mine", 1)
    request["videos"][0]["class"] = "run"
    request["videos"][0]["frames"] = [{"frame": 5, "actors": []}]
    with pytest.raises(
        UserError, match="frame 5 is not in the video .frames 200 to 209 of cam"
    ):
        check_answers(request, request, segments())


def test_simulated_answers_have_the_numbers_of_the_whole_video():
    truth = merge_answers(
        segments(),
        filled(request_form(segments(), [{"video": "cam/v_b", "frames": [207]}], "m", 1)),
    )
    hidden = strip_labels(truth)
    assert hidden.videos["cam/v_b"].first == 200 and not hidden.labeled()
    request = request_form(hidden, [{"video": "cam/v_b", "frames": [207]}], "m", 0)
    answered = answer(truth, request)["videos"][0]
    assert answered["class"] == "walk"
    assert answered["frames"][0]["actors"] == [{"track": 1, "box": [7, 0, 5, 5]}]


def filled(form):
    for video in form["videos"]:
        video["class"] = "walk"
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [frame["frame"] - 200, 0, 5, 5]}]
    return form
