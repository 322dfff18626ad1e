"""Journals: what is read out of them, cut off or not, of one person and of several."""

import json

import pytest

from claus.annotators import journal
from claus.annotators.journal import Journal, agreement_report, read_answers, read_journal
from claus.utils.runtime import UserError

REQUEST = {
    "format": "claus-request",
    "version": 1,
    "run": "mine",
    "cycle": 2,
    "classes": ["run", "walk"],
    "videos": [
        {"video": "a/1", "class": None, "frames": [{"frame": 3, "actors": None}, {"frame": 9, "actors": None}]},
        {"video": "a/2", "class": None, "frames": [{"frame": 0, "actors": None}]},
    ],
}  # fmt: skip


def writer(tmp_path, who, kind="answers", **head):
    return Journal(tmp_path, {"kind": kind, "run": "mine", "cycle": 2, "who": who, **head})


def frame(video, number, *boxes, state="done", **more):
    actors = [
        {"track": k, "box": list(box), "origin": "drawn"} for k, box in enumerate(boxes, 1)
    ]
    about = {"do": "frame", "video": video, "frame": number, "size": [60, 80]}
    return {**about, "state": state, "actors": actors, **more}


def named(video, label):
    return {"do": "class", "video": video, "class": label}


def test_the_last_word_counts_and_what_was_begun_does_not(tmp_path):
    mine = writer(tmp_path, "ann")
    for line in (
        named("a/1", "run"),
        named("a/1", "walk"),
        frame("a/1", 3, [0, 0, 9, 9]),
        frame("a/1", 3, [1, 1, 9, 9], seconds=4.5),
        frame("a/1", 9, [0, 0, 5, 5], state="open"),
        frame("a/2", 0, state="skipped", reason="dark"),
        frame("other", 7, [0, 0, 5, 5]),
    ):
        mine.append(line)
    before = json.dumps(REQUEST)
    first, second = read_answers([mine.path], REQUEST)["videos"]
    assert first == {
        "video": "a/1",
        "class": "walk",
        "frames": [
            {
                "frame": 3,
                "actors": [{"track": 1, "box": [1, 1, 9, 9], "origin": "drawn"}],
                "by": "ann",
                "seconds": 4.5,
            },
            {"frame": 9, "actors": None},
        ],
    }
    assert second["class"] is None
    assert second["frames"] == [{"frame": 0, "actors": None, "by": "ann", "skipped": "dark"}]
    assert json.dumps(REQUEST) == before


def test_a_line_that_was_cut_off_is_left_out_and_others_are_named(tmp_path):
    """Wherever it was cut: also behind the brace of an actor."""
    mine = writer(tmp_path, "ann")
    mine.append(frame("a/1", 3, [1, 1, 9, 9]))
    whole = mine.path.read_text()
    for length in range(len(whole.split("\n")[0]) + 2, len(whole) - 1):
        mine.path.write_text(whole[:length])
        assert read_journal(mine.path)[1].frames == {}
        mine.append(named("a/1", "run"))  # after the power came back
        assert read_journal(mine.path)[1].classes["a/1"]["class"] == "run"
    mine.path.write_text(whole.split("\n")[0] + '\n{"do": "frame"}\n' + whole.split("\n")[1])
    with pytest.raises(UserError, match=r"ann.jsonl, line 2: not a line of a journal"):
        read_journal(mine.path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a journal of label.py"),
        ('{"claus_journal": 2}\n', "version 2, this program reads 1"),
        ('{"claus_journal": 1, "run": "other"}\n', "is of run 'other', the request of 'mine'"),
        ('{"claus_journal": 1, "run\n', "not a journal of label.py"),
        ('{"format": "claus-request"}\n', "not a journal"),
    ],
)
def test_other_files(tmp_path, text, words):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_answers([path], REQUEST)
    assert journal.recognizes(text.encode()) == text.startswith('{"claus')


def test_none_of_the_classes_answers_the_whole_video(tmp_path):
    mine = writer(tmp_path, "ann")
    mine.append({**named("a/1", None), "none": True})
    first = read_answers([mine.path], REQUEST)["videos"][0]
    assert first["none_of_these"] is True and first["class"] is None
    assert [one["actors"] for one in first["frames"]] == [[], []]


def test_the_third_decides_where_two_disagree(tmp_path):
    ann, bob, eve = (writer(tmp_path, who) for who in ("ann", "bob", "eve"))
    ann.append(named("a/1", "run"))
    ann.append(frame("a/1", 3, [0, 0, 10, 10], [20, 20, 10, 10]))
    bob.append(named("a/1", "run"))
    bob.append(frame("a/1", 3, [20, 20, 10, 10], [0, 0, 10, 5]))
    paths = [ann.path, bob.path]
    works = [read_journal(path)[1] for path in paths]
    report = agreement_report(works, [("a/1", 3), ("a/1", 9)], "boxes")
    assert (report["frames"], report["iou"], report["to_third"]) == (1, 0.75, 0)  # any order
    assert read_answers(paths, REQUEST)["videos"][0]["frames"][0]["by"] == "ann"
    bob.append(named("a/1", "walk"))
    works = [read_journal(path)[1] for path in paths]
    report = agreement_report(works, [("a/1", 3)], "boxes")
    assert (report["same_class"], report["to_third"]) == (0, 1)
    eve.append(named("a/1", "walk"))
    eve.append(frame("a/1", 3, [1, 0, 10, 10]))
    first = read_answers([*paths, eve.path], REQUEST)["videos"][0]
    assert first["frames"][0]["by"] == "eve" and first["class"] == "walk"


def test_a_box_that_only_one_has_drawn_counts_as_nothing():
    works = [journal.Work("ann"), journal.Work("bob")]
    one, other = frame("a/1", 3, [0, 0, 10, 10]), frame("a/1", 3)
    assert journal.agreement(works, {**one, "who": "ann"}, {**other, "who": "bob"}, "boxes") == (0.0, True)  # fmt: skip
    both = [{**other, "who": who} for who in ("ann", "bob")]
    assert journal.agreement(works, *both, "boxes") == (1.0, True)


@pytest.mark.parametrize("name", ["山田", "Jürgen-2", "a_b", "أحمد"])
def test_names_of_people(name, tmp_path):
    assert journal.annotator_name(name) == name
    assert writer(tmp_path, name).path.parent == tmp_path


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a.b", "a b", "x" * 41, "a\0", "~"]
)
def test_names_that_are_none(name, tmp_path):
    with pytest.raises(UserError, match="is no name of an annotator"):
        writer(tmp_path, name)
