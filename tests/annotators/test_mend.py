"""What people do wrong: what is mended, what is warned of, what keeps its frame open."""

import copy
import json

import pytest

from claus.annotators.answers import merge_answers
from claus.annotators.form import request_form
from claus.annotators.mend import NONE, answered_part, fit
from claus.annotators.people import combine, complete, same
from claus.datasets.labels.annotations import Annotations, Tube, Video, load, save
from claus.utils.runtime import UserError

FRAMES = [2, 10, 20, 30]


def pool():
    videos = [Video("cam/a", 50, 60, 80), Video("cam/b", 50, 60, 80)]
    return Annotations("own", ("run", "jump"), {video.name: video for video in videos})


def request():
    picks = [{"video": name, "frames": FRAMES} for name in ("cam/a", "cam/b")]
    return request_form(pool(), picks, "mine", 0)


def answers(boxes, label="run", tracks=None):
    """The request with one actor a frame in cam/a."""
    form = request()
    form["videos"][0]["class"] = label
    tracks = tracks or [1] * len(boxes)
    for frame, box, track in zip(form["videos"][0]["frames"], boxes, tracks, strict=False):
        frame["actors"] = [{"track": track, "box": box}]
    return form


def taken(form):
    """(boxes of cam/a by frame, Notes)."""
    fitted, notes = fit(request(), form, pool())
    frames = fitted["videos"][0]["frames"]
    boxes = {f["frame"]: f["actors"][0]["box"] for f in frames if f["actors"]}
    return boxes, notes


GOOD = [[10, 10, 20, 30], [14, 10, 20, 30], [18, 10, 20, 30], [22, 10, 20, 30]]


def test_good_answers_say_nothing():
    boxes, notes = taken(answers(GOOD))
    assert list(boxes.values()) == GOOD
    assert (notes.problems, notes.warnings, notes.clipped, notes.rounded) == ([], [], 0, 0)


@pytest.mark.parametrize(
    "box, wanted, clipped, rounded",
    [
        ([-1, 0, 81, 30], [0, 0, 80, 30], 1, 0),
        ([60, 31, 22, 30], [60, 31, 20, 29], 1, 0),
        ([10.4, 10.5, 20.2, 30.0], [10, 11, 21, 30], 0, 1),
        ([-0.5, 0.0, 20.0, 30.0], [0, 0, 20, 30], 0, 1),
    ],
)
def test_a_pixel_or_two_and_fractions_are_mended_and_counted(box, wanted, clipped, rounded):
    boxes, notes = taken(answers([box]))
    assert boxes == {2: wanted} and notes.problems == []
    assert (notes.clipped, notes.rounded) == (clipped, rounded)


@pytest.mark.parametrize(
    "box, words",
    [
        ([70, 10, 20, 30], "extends outside the picture"),
        ([10, 10, 0, 30], "has no area"),
        ([10, 10, 0.3, 30], "has no area"),
        ([10, 10, float("nan"), 30], "not four whole numbers"),
        ([10, 10, True, 30], "not four whole numbers"),
        ([10, 10, 1e30, 30], "not four whole numbers"),
        ("10,10,20,30", "not four whole numbers"),
    ],
)
def test_what_cannot_be_meant_keeps_its_frame_open_alone(box, words):
    boxes, notes = taken(answers([box, *GOOD[1:]]))
    assert list(boxes) == [10, 20, 30]
    assert len(notes.problems) == 1 and words in notes.problems[0][1]
    assert notes.problems[0][1].startswith("frame 2: ")


def test_all_problems_are_told_not_five():
    form = answers(GOOD)
    form["videos"] = [{**form["videos"][0], "video": f"x{k}"} for k in range(30)]
    assert len(fit(request(), form, pool())[1].problems) == 30


@pytest.mark.parametrize(
    "form, words",
    [
        (answers([[10, 10, 30, 40], [14, 10, 34, 40], [22, 12, 42, 43]]), "corners"),
        (answers([[50, 10, 75, 50], *GOOD[1:]]), "are its last two numbers corners?"),
        (answers(GOOD, tracks=[1, 2, 3, 4]), "a new track number in every frame"),
        (answers([[10, 10, 2, 2], *GOOD[1:]]), "frame 2: track 1 has 4 pixels"),
        (answers([[2, 2, 9, 9], [50, 2, 9, 9], [26, 2, 9, 9], [70, 2, 9, 9]]), "frames 10 and 20: are their answers exchanged?"),
    ],
)  # fmt: skip
def test_what_is_often_wrong_is_warned_of_with_its_place(form, words):
    _, notes = taken(form)
    assert words in str(notes.warnings)


def test_unknown_keys_are_named():
    form = answers(GOOD)
    form["videos"][0]["frames"][1]["actors"][0]["colour"] = "red"
    form["videos"][0]["clas"] = "run"
    warned = str(taken(form)[1].warnings)
    assert "frame 10: unknown keys colour" in warned and "unknown keys clas" in warned


def test_another_run_or_changed_classes_are_refused_whole():
    for change in (
        {"run": "other"},
        {"cycle": 3},
        {"classes": ["jump", "run"]},
        {"classes": []},
    ):
        with pytest.raises(UserError):
            fit(request(), answers(GOOD) | change, pool())
    with pytest.raises(UserError, match="masks, and boxes were asked for"):
        fit(request(), answers(GOOD) | {"answer_with": "masks"}, pool())
    fit(request(), answers(GOOD) | {"classes": ["run"]}, pool())  # before one was added


# ----------------------------------------------------------------- several actions at once


def test_actors_keep_their_own_class_in_the_annotation_file(tmp_path):
    form = answers(GOOD[:2])
    form["videos"][0]["frames"][0]["actors"].append(
        {"track": 2, "box": [50, 5, 20, 20], "class": "jump"}
    )
    fitted, notes = fit(request(), form, pool())
    labels = merge_answers(pool(), answered_part(fitted))
    video = labels.videos["cam/a"]
    assert (video.label, [tube.label for tube in video.tubes]) == (0, [0, 1])
    save(labels, tmp_path / "a.pkl")
    assert [tube.label for tube in load(tmp_path / "a.pkl").videos["cam/a"].tubes] == [0, 1]
    again = request_form(labels, [{"video": "cam/a", "frames": [40]}], "mine", 1)
    before = again["videos"][0]["labelled_before"][0]["actors"]
    assert [actor.get("class") for actor in before] == [None, "jump"] and not notes.problems


def test_an_actor_that_changes_its_class_is_two_tracks():
    form = answers(GOOD)
    for frame in form["videos"][0]["frames"][2:]:
        frame["actors"][0]["class"] = "jump"
    fitted, notes = fit(request(), form, pool())
    tracks = [f["actors"][0]["track"] for f in fitted["videos"][0]["frames"]]
    assert tracks == [1, 1, 2, 2] and "track 1 is 'jump'" not in str(notes.warnings)
    assert "track 1 is 'run' and, from frame 20, 'jump'" in str(notes.warnings)
    tubes = merge_answers(pool(), answered_part(fitted)).videos["cam/a"].tubes
    assert [(t.label, t.frames.tolist()) for t in tubes] == [(0, [2, 10]), (1, [20, 30])]


def test_the_class_follows_from_the_actors_or_is_asked_for():
    form = answers(GOOD, label=None)
    for frame in form["videos"][0]["frames"]:
        frame["actors"][0]["class"] = "jump"
    fitted, notes = fit(request(), form, pool())
    entry = fitted["videos"][0]
    assert entry["class"] == "jump" and "class" not in entry["frames"][0]["actors"][0]
    for frame in form["videos"][0]["frames"]:
        frame["actors"] = []
    fitted, notes = fit(request(), form, pool())
    assert "its class is missing" in notes.problems[0][1]
    assert answered_part(fitted)["videos"] == []
    form["videos"][0]["none_of_these"] = True
    fitted, notes = fit(request(), form, pool())
    assert fitted["videos"][0]["class"] == NONE and not notes.problems


# ------------------------------------------------------------------------------- several people


def test_people_agree_within_a_pixel_or_the_frame_stays_open():
    near = [[x + 1, y, w, h - 1] for x, y, w, h in GOOD]
    far = [GOOD[0], [20, 10, 20, 30], *near[2:]]
    first, second = (fit(request(), answers(boxes), pool())[0] for boxes in (GOOD, far))
    joined, notes = combine([("ann", first), ("bob", second)])
    kept = [frame["actors"] for frame in joined["videos"][0]["frames"]]
    assert [actors and actors[0]["box"] for actors in kept] == [GOOD[0], None, *GOOD[2:]]
    assert len(notes.problems) == 1 and "frame 10: people disagree" in notes.problems[0][1]
    third = fit(request(), answers(far, tracks=[9, 9, 9, 9]), pool())[0]
    joined, notes = combine([("ann", first), ("bob", second), ("cem", third)])
    assert joined["videos"][0]["frames"][1]["actors"][0]["box"] == [20, 10, 20, 30]
    assert notes.problems == []


def test_people_who_disagree_on_the_class_leave_the_video_open():
    forms = [fit(request(), answers(GOOD, label), pool())[0] for label in ("run", "jump")]
    joined, notes = combine([("ann", forms[0]), ("bob", forms[1])])
    assert answered_part(joined)["videos"] == []
    assert "'run' by ann, 'jump' by bob" in notes.problems[0][1]


def test_two_halves_of_two_people_are_one_whole():
    halves = []
    for keep in (slice(0, 2), slice(2, 4)):
        form = request()
        source = answers(GOOD)["videos"][0]
        form["videos"][0]["class"] = "run"
        form["videos"][0]["frames"][keep] = source["frames"][keep]
        halves.append(fit(request(), form, pool())[0])
    joined, notes = combine([("ann", halves[0]), ("bob", halves[1])])
    assert joined == fit(request(), answers(GOOD), pool())[0] and not notes.problems
    assert complete(halves[0], halves[1]) == (joined, [])


def test_a_later_answer_counts_and_is_told():
    first, second = (
        fit(request(), answers(boxes), pool())[0] for boxes in (GOOD, [[30, 10, 20, 30]])
    )
    joined, changed = complete(first, second)
    assert changed == ["cam/a, frame 2"]
    boxes = [frame["actors"][0]["box"] for frame in joined["videos"][0]["frames"]]
    assert boxes == [[30, 10, 20, 30], *GOOD[1:]]
    assert json.dumps(copy.deepcopy(first)) == json.dumps(first)


def test_masks_of_two_people_agree_within_a_pixel():
    import numpy as np

    from claus.datasets.labels.masks import encode_rle

    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    wider, far = mask.copy(), mask.copy()
    wider[4:11, 4:11] = True
    far[5:10, 5:13] = True
    one, other, third = ([{"track": 1, "mask": encode_rle(m)}] for m in (mask, wider, far))
    assert same(one, other, "masks") and not same(one, third, "masks")


def test_a_track_of_an_earlier_cycle_keeps_its_class():
    tube = Tube(0, 1, [5], [[10, 10, 30, 40]])
    video = Video("cam/a", 50, 60, 80, 0, [5], (tube,))
    before = Annotations("own", ("run", "jump"), {"cam/a": video})
    form = request_form(before, [{"video": "cam/a", "frames": [20]}], "mine", 1)
    answered = copy.deepcopy(form)
    answered["videos"][0]["frames"][0]["actors"] = [
        {"track": 1, "box": [10, 10, 20, 30], "class": "jump"}
    ]
    fitted, notes = fit(form, answered, before)
    assert fitted["videos"][0]["frames"][0]["actors"][0]["track"] == 2 and notes.warnings
    tubes = merge_answers(before, answered_part(fitted)).videos["cam/a"].tubes
    assert [(tube.track, tube.label) for tube in tubes] == [(1, 0), (2, 1)]
    answered["videos"][0]["class"] = "jump"
    assert "--correct changes it" in str(fit(form, answered, before)[1].problems)
