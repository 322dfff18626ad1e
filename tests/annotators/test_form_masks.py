"""Requests and answers with masks: the rules of boxes, in run lengths."""

import copy
import json

import numpy as np
import pytest
from jhmdb_maker import square_masks

from claus.annotators.answers import check_answers, merge_answers
from claus.annotators.form import read_form, request_form, write_form
from claus.annotators.simulated import answer, strip_labels
from claus.datasets import jhmdb
from claus.datasets.labels.annotations import Annotations, Tube, Video, load, save
from claus.datasets.labels.masks import encode_rle
from claus.utils.runtime import UserError

HEIGHT, WIDTH = 24, 32


def truth():
    """Dense masks: two actors, the second only in frames 2 to 5; and a video of boxes
    beside it.
    """
    first = Tube(0, 1, range(8), masks=square_masks(8))
    second = Tube(0, 2, range(2, 6), masks=square_masks(4, start=(1, 14)))
    return Annotations(
        "toy",
        ("run", "walk"),
        {
            "run/a": Video("run/a", 8, HEIGHT, WIDTH, 0, range(8), (first, second)),
            "walk/b": Video(
                "walk/b",
                5,
                HEIGHT,
                WIDTH,
                1,
                range(5),
                (Tube(1, 1, range(4), masks=square_masks(4)),),
            ),
        },
    )


PICKS = [{"video": "run/a", "frames": [1, 4, 7]}, {"video": "walk/b", "frames": [3, 4]}]


def asked():
    return request_form(strip_labels(truth()), PICKS, "demo", 0, kind="masks")


def answered():
    return answer(truth(), asked())


def test_the_request_says_that_it_wants_masks():
    form = asked()
    assert list(form) == [
        "format",
        "version",
        "run",
        "cycle",
        "classes",
        "answer_with",
        "how_to_answer",
        "videos",
    ]
    assert (
        form["answer_with"] == "masks"
        and '"mask"' in form["how_to_answer"]
        and "COCO" in form["how_to_answer"]
    )
    boxes = request_form(strip_labels(truth()), PICKS, "demo", 0)
    assert "answer_with" not in boxes and form["videos"] == boxes["videos"]
    with pytest.raises(UserError, match="answer_with is 'outlines'"):
        request_form(strip_labels(truth()), PICKS, "demo", 0, kind="outlines")


def test_the_annotator_answers_with_masks():
    a, b = answered()["videos"]
    assert (a["class"], b["class"]) == ("run", "walk")
    expected = [
        [(1, square_masks(8)[1])],
        [(1, square_masks(8)[4]), (2, square_masks(4, start=(1, 14))[2])],
        [(1, square_masks(8)[7])],
    ]
    for frame, actors in zip(a["frames"], expected, strict=True):
        assert frame["actors"] == [
            {"track": track, "mask": encode_rle(mask)} for track, mask in actors
        ]
    assert b["frames"][1]["actors"] == []
    json.dumps(answered(), allow_nan=False)


def test_a_duplicate_actor_is_answered_once():
    video = truth().videos["run/a"]
    twice = (*video.tubes, Tube(0, 3, range(8), masks=square_masks(8)))
    dense = Annotations(
        "toy",
        ("run", "walk"),
        {
            "run/a": Video("run/a", 8, HEIGHT, WIDTH, 0, range(8), twice),
            "walk/b": truth().videos["walk/b"],
        },
    )
    assert answer(dense, asked()) == answered()


def test_merged_masks_are_those_of_the_ground_truth(tmp_path):
    start = strip_labels(truth())
    write_form(tmp_path / "answers.json", answered())
    answers = read_form(tmp_path / "answers.json")
    assert answers == answered()
    check_answers(asked(), answers, start)
    first = merge_answers(start, answers)
    assert (
        first.counts() == {"videos": 2, "frames": 5, "boxes": 5}
        and start.counts()["frames"] == 0
    )
    assert first.videos["walk/b"].labeled_frames.tolist() == [3, 4]  # 4 shows no action
    form = request_form(first, [{"video": "run/a", "frames": [2, 6]}], "demo", 1, kind="masks")
    assert [f["frame"] for f in form["videos"][0]["labelled_before"]] == [1, 4, 7]
    assert (
        form["videos"][0]["labelled_before"][1]["actors"]
        == answered()["videos"][0]["frames"][1]["actors"]
    )
    second = merge_answers(first, answer(truth(), form))
    video = second.videos["run/a"]
    assert [(t.track, t.frames.tolist()) for t in video.tubes] == [
        (1, [1, 2, 4, 6, 7]),
        (2, [2, 4]),
    ]
    save(second, tmp_path / "annotations.pkl")
    for tube in load(tmp_path / "annotations.pkl").videos["run/a"].tubes:
        dense = next(t for t in truth().videos["run/a"].tubes if t.track == tube.track)
        assert tube.boxes is None
        assert np.array_equal(
            tube.masks[:], dense.masks[np.searchsorted(dense.frames, tube.frames)]
        )


MASK = encode_rle(square_masks(1)[0])
PROBLEMS = [
    (
        [{"track": 1, "box": [1, 1, 4, 4]}],
        r"actor .* is not \{\"track\": 1, \"mask\": \{...\}\}",
    ),
    ([{"mask": MASK}], "is not"),
    ([{"track": 1, "mask": MASK}] * 2, "track 1 appears twice"),
    ([{"track": 0, "mask": MASK}], "track 0 is not a whole number from 1"),
    ([{"track": 1, "mask": None}], "mask of track 1 is not"),
    ([{"track": 1, "mask": MASK | {"size": [32, 24]}}], r"mask of track 1 has size \[32, 24\]"),
    (
        [{"track": 1, "mask": MASK | {"counts": "abc"}}],
        "mask of track 1 has counts that are not",
    ),
    (
        [{"track": 1, "mask": MASK | {"counts": MASK["counts"][:-1]}}],
        "mask of track 1 has counts that sum to",
    ),
    (
        [{"track": 1, "mask": {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}}],
        "mask of track 1 is empty",
    ),
    (None, "is unanswered"),
]


@pytest.mark.parametrize("actors, words", PROBLEMS)
def test_each_problem_is_named(actors, words):
    answers = copy.deepcopy(answered())
    answers["videos"][0]["frames"][1]["actors"] = actors
    with pytest.raises(
        UserError, match=f"the answers have 1 problem: video run/a: frame 4: .*{words}"
    ) as error:
        check_answers(asked(), answers, strip_labels(truth()))
    assert "\n" not in str(error.value)
    with pytest.raises(UserError):
        merge_answers(strip_labels(truth()), answers)


def test_boxes_and_masks_are_not_mixed():
    with pytest.raises(UserError, match="video run/a: has masks, the request is for boxes"):
        answer(truth(), request_form(strip_labels(truth()), PICKS, "demo", 0))
    with pytest.raises(UserError, match="answer_with is None, the request is for masks"):
        check_answers(
            asked(),
            {k: v for k, v in answered().items() if k != "answer_with"},
            strip_labels(truth()),
        )
    merged = merge_answers(strip_labels(truth()), answered())
    with pytest.raises(UserError, match="has masks, the request is for boxes"):
        request_form(merged, [{"video": "run/a", "frames": [2]}], "demo", 1)
    boxes = request_form(strip_labels(truth()), [{"video": "run/a", "frames": [2]}], "demo", 1)
    boxes["videos"][0] |= {
        "class": "run",
        "frames": [{"frame": 2, "actors": [{"track": 1, "box": [1, 1, 4, 4]}]}],
    }
    with pytest.raises(UserError, match="tube 1 has masks, the answers boxes"):
        merge_answers(merged, boxes)


def test_a_box_in_answers_with_boxes_is_what_counts():
    form = request_form(strip_labels(truth()), [{"video": "run/a", "frames": [2]}], "demo", 0)
    actor = {"track": 1, "box": [1, 2, 4, 5], "mask": "whatever a tool wrote"}
    form["videos"][0] |= {"class": "run", "frames": [{"frame": 2, "actors": [actor]}]}
    (tube,) = merge_answers(strip_labels(truth()), form).videos["run/a"].tubes
    assert tube.masks is None and tube.boxes.tolist() == [[1, 2, 5, 7]]


def test_a_cycle_on_the_real_masks(shared_data):
    """34 masks of 33 clips come back as asked for; only those clips' files are opened."""
    dense = jhmdb.read_ground_truth(shared_data / "jhmdb", part="train")
    rng = np.random.default_rng(0)
    chosen = rng.choice(list(dense.videos), 33, replace=False)
    picks = [
        {
            "video": name,
            "frames": rng.choice(dense.videos[name].frames, 1 + (i == 0), replace=False),
        }
        for i, name in enumerate(chosen)
    ]
    form = request_form(strip_labels(dense), picks, "real", 0, kind="masks")
    sparse = merge_answers(strip_labels(dense), answer(dense, form))
    assert sparse.counts() == {"videos": 33, "frames": 34, "boxes": 34}
    for pick in picks:
        video, whole = sparse.videos[pick["video"]], dense.videos[pick["video"]]
        assert (
            video.labeled_frames.tolist() == sorted(pick["frames"].tolist())
            and video.label == whole.label
        )
        assert np.array_equal(
            video.tubes[0].masks[:], whole.tubes[0].masks[video.labeled_frames]
        )
    assert sum(video.tubes[0].masks._rows is not None for video in dense.videos.values()) == 33
