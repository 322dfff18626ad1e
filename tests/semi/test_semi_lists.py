"""The published lists: what is labeled in them, and one clear line for those that cannot
be used.
"""

import functools
import pickle
import shutil

import numpy as np
import pytest
from jhmdb_maker import square_masks, write_set

from claus.datasets import jhmdb, toy, ucf101
from claus.datasets.labels.name_list import Names
from claus.datasets.sprites import write_video
from claus.losses.stew import REACH
from claus.semi import lists
from claus.semi.lists import read_lists
from claus.utils.runtime import UserError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("data") / "toy", seed=3, train=12, test=6)


@pytest.fixture
def truth(videos):
    return ucf101.read_ground_truth(videos / "pyannot.pkl", videos / "testlist01.txt", "train")


def record(tube, flag=None, labeled=None):
    """(start, end inclusive, label, boxes 1-based xywh, labeled frames[, flag]) of a dense
    tube.
    """
    boxes = tube.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2] + 1
    boxes[:, :2] += 1
    labeled = tube.frames.tolist() if labeled is None else labeled
    plain = (tube.start, tube.end - 1, tube.label, boxes.astype(np.uint8), labeled)
    return plain if flag is None else (*plain, flag)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def read(tmp_path, videos, labeled, unlabeled):
    first, second = (
        write(tmp_path / "label.pkl", labeled),
        write(tmp_path / "unlabel.pkl", unlabeled),
    )
    return read_lists(
        "ucf101",
        first,
        second,
        functools.partial(ucf101.find_video, videos),
        tmp_path / "known.jsonl",
    )


def halves(truth):
    """(known, hidden) videos: the second of every class is hidden, so that every class is
    known.
    """
    by_class = {}
    for video in truth.videos.values():
        by_class.setdefault(video.label, []).append(video)
    hidden = [videos[1] for videos in by_class.values() if len(videos) > 1]
    return [video for video in truth.videos.values() if video not in hidden], hidden


def entries(chosen):
    return [(video.name, [record(tube) for tube in video.tubes]) for video in chosen]


def test_dense_lists_give_back_the_ground_truth_and_hide_the_rest(tmp_path, videos, truth):
    known, hidden = halves(truth)
    labels, failed = read(tmp_path, videos, entries(known), entries(hidden))
    assert (
        not failed
        and list(labels.videos) == [v.name for v in known + hidden]
        and labels.classes == toy.CLASSES
    )
    for video in known:
        ours = labels.videos[video.name]
        assert (ours.frames, ours.height, ours.width, ours.label) == (
            video.frames,
            72,
            96,
            video.label,
        )
        np.testing.assert_array_equal(
            ours.labeled_frames, np.arange(video.frames)
        )  # also those without action
        for tube, expected in zip(ours.tubes, video.tubes, strict=True):
            np.testing.assert_array_equal(tube.frames, expected.frames)
            np.testing.assert_array_equal(tube.boxes, expected.boxes)
    assert [v.name for v in labels.labeled()] == [v.name for v in known]


def test_of_the_unlabeled_list_nothing_but_names_is_read(tmp_path, videos, truth):
    known, hidden = halves(truth)
    nonsense = [(video.name, [("no", "tube", "at", "all")]) for video in hidden]
    labels = read(tmp_path, videos, entries(known), nonsense)[0]
    plain = read(tmp_path, videos, entries(known), [video.name for video in hidden])[0]
    assert list(labels.videos) == list(plain.videos)
    (tmp_path / "names.txt").write_text("".join(f"{video.name}.avi 3\n" for video in hidden))
    listed = [video.name for video in hidden]
    assert read_names(tmp_path / "names.txt", listed) == listed


def test_the_sixth_field_says_which_tubes_are_labeled(tmp_path, videos, truth, capsys):
    known, hidden = halves(truth)
    several = next(video for video in truth.videos.values() if len(video.tubes) > 1)
    known = [several, *(video for video in known if video is not several)]
    spare = next(
        i
        for i, video in enumerate(known)
        if [v.label for v in known].count(video.label) > 1 and video is not several
    )
    known = [
        several,
        known[spare],
        *(video for i, video in enumerate(known) if i not in (0, spare)),
    ]
    flagged = [
        (
            video.name,
            [
                record(tube, int(i == 0 or video is not several))
                for i, tube in enumerate(video.tubes)
            ],
        )
        for video in known
    ]
    first = several.tubes[0]
    begin = int(first.frames[len(first.frames) // 2])
    flagged[0] = (
        several.name,
        [flagged[0][1][0], (begin, first.end - 1, several.label, None, None, 0)],
    )
    flagged[1] = (known[1].name, [record(tube, 0) for tube in known[1].tubes])  # none of them
    labels = read(tmp_path, videos, flagged, [v.name for v in hidden if v is not several])[0]
    ours, kept = (
        labels.videos[several.name],
        [f for f in first.frames.tolist() if f < begin - REACH],
    )
    assert kept and [tube.track for tube in ours.tubes] == [1]
    assert ours.labeled_frames.tolist() == kept  # of the rest nothing is known
    assert (
        f"{len(first.frames) - len(kept)} labeled frames of 1 videos are not used"
        in capsys.readouterr().out
    )
    assert not labels.videos[known[1].name].is_labeled
    np.testing.assert_array_equal(
        labels.videos[known[2].name].labeled_frames, np.arange(known[2].frames)
    )


def test_where_no_labeled_frame_can_be_used_it_says_so(tmp_path, videos, truth):
    known, hidden = halves(truth)
    both = [
        (video.name, [record(video.tubes[0]), (*record(video.tubes[0]), 0)]) for video in known
    ]
    assert "label all tubes of some video" in refused(
        tmp_path, videos, both, [video.name for video in hidden]
    )


def test_boxes_that_are_not_labeled_are_not_looked_at(tmp_path, videos, truth):
    """A hidden box at 0, in a tube flagged 0 or in a frame between labels, does not make
    the others count from 0.
    """
    known, hidden = halves(truth)
    spare = next(
        i for i, video in enumerate(known) if [v.label for v in known].count(video.label) > 1
    )
    content = entries(known)
    plain = read(tmp_path, videos, content, [video.name for video in hidden])[0]
    touching = (0, 3, known[spare].label, np.zeros((2, 4), int), [0], 0)  # and too few of them
    content[spare] = (known[spare].name, [touching])
    other = (spare + 1) % len(known)
    start, end, label, boxes, _ = content[other][1][0]
    boxes = boxes.copy()
    boxes[1, :2] = 0
    content[other] = (known[other].name, [(start, end, label, boxes, [start])])
    labels = read(tmp_path, videos, content, [video.name for video in hidden])[0]
    assert not labels.videos[known[spare].name].is_labeled
    for i, video in enumerate(known):
        if i != spare:
            ours, expected = (
                labels.videos[video.name].tubes[0],
                plain.videos[video.name].tubes[0],
            )
            np.testing.assert_array_equal(ours.boxes[0], expected.boxes[0])


def test_sparse_labels_stay_sparse(tmp_path, videos, truth):
    known, hidden = halves(truth)
    content = entries(known)
    tube = known[0].tubes[0]
    content[0] = (known[0].name, [record(tube, labeled=[tube.start + 3])])
    ours = read(tmp_path, videos, content, [v.name for v in hidden])[0].videos[known[0].name]
    assert ours.labeled_frames.tolist() == [tube.start + 3]
    assert ours.tubes[0].boxes.tolist() == [tube.boxes[3].tolist()]


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_old_pickles_are_told_from_text(tmp_path, protocol):
    path = write(tmp_path / "list", [("A/v", [(0, 1, 0, np.zeros((2, 4)), [0])])], protocol)
    assert read_names(path) == ["A/v"]


def test_frame_counts_are_kept(tmp_path, videos, truth):
    known, hidden = halves(truth)
    read(tmp_path, videos, entries(known), entries(hidden))
    lines = (tmp_path / "known.jsonl").read_text().splitlines()
    assert len(lines) == 12
    read(tmp_path, videos, entries(known), entries(hidden))
    assert (tmp_path / "known.jsonl").read_text().splitlines() == lines


def test_a_video_that_cannot_be_read_is_left_out(tmp_path, videos, truth):
    known, hidden = halves(truth)
    copy = shutil.copytree(videos, tmp_path / "copy")
    gone = [
        next(video.name for video in known if [v.label for v in known].count(video.label) > 1),
        hidden[0].name,
    ]
    for name in gone:
        (copy / "videos" / f"{name}.avi").unlink()
    labels, failed = read(tmp_path, copy, entries(known), entries(hidden))
    assert (
        sorted(failed) == sorted(gone)
        and not set(gone) & set(labels.videos)
        and len(labels.videos) == 10
    )


def test_where_no_unlabeled_video_can_be_read_it_says_so(tmp_path, videos, truth):
    known, _ = halves(truth)
    said = refused(tmp_path, videos, entries(known), ["Gone/v_1", "Gone/v_2"])
    assert "unlabel.pkl: none of its 2 videos can be read (video Gone/v_1: no file" in said


# ---- one clear line ----


def refused(tmp_path, videos, labeled, unlabeled):
    with pytest.raises(UserError) as error:
        read(tmp_path, videos, labeled, unlabeled)
    assert "\n" not in str(error.value) and ".pkl" in str(error.value)
    return str(error.value)


def test_an_empty_unlabeled_list(tmp_path, videos, truth):
    assert "the unlabeled list is empty" in refused(
        tmp_path, videos, entries(halves(truth)[0]), []
    )
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="the list is empty"):
        read_names(tmp_path / "empty.txt")


def test_a_video_in_both_lists(tmp_path, videos, truth):
    known, hidden = halves(truth)
    said = refused(tmp_path, videos, entries(known), entries([*hidden, known[2]]))
    assert known[2].name in said and "in the unlabeled list too" in said


def test_other_lists_that_cannot_be_used(tmp_path, videos, truth):
    known, hidden = halves(truth)
    names = [video.name for video in hidden]
    assert "holds a dict" in refused(tmp_path, videos, {"a": 1}, names)
    assert "not (name, tubes)" in refused(tmp_path, videos, [3], names)
    assert "listed twice" in refused(tmp_path, videos, entries(known), [*names, names[0]])
    nothing = [(video.name, [record(tube, 0) for tube in video.tubes]) for video in known]
    assert "no tube is labeled in it" in refused(tmp_path, videos, nothing, names)
    with pytest.raises(UserError, match="no such file"):
        read_lists("ucf101", tmp_path / "none.pkl", None, None, None)
    (tmp_path / "text.txt").write_text("A/v\n")
    with pytest.raises(UserError, match="says nothing of boxes.*--dataset jhmdb"):
        read_lists("ucf101", tmp_path / "text.txt", None, None, None)


@pytest.mark.parametrize(
    "tubes, said",
    [
        (None, "its tubes are a NoneType"),
        (3, "its tubes are a int"),
        ([(0, 1)], "tube 1 is not (start, end"),
        ([(0, 1, 0, None, [0])], "tube 1: boxes is None"),
        ([(0, 1, 0, np.ones(8, int), [0])], "tube 1: boxes have shape"),
        ([(0, 1, 0, np.ones((2, 4), int), 3)], "tube 1: labeled_frames is 3"),
        ([(0, 1, 0, np.ones((2, 4), int), [0], "no")], "tube 1: the sixth field is a str"),
    ],
)
def test_a_tube_that_cannot_be_read_is_named_before_any_video_is(tmp_path, truth, tubes, said):
    content = entries(halves(truth)[0])
    content[2] = (content[2][0], tubes)
    told = refused(tmp_path, tmp_path / "no videos", content, ["A/v"])
    assert (
        f"label.pkl: video {content[2][0]}: {said}" in told
        and not (tmp_path / "known.jsonl").exists()
    )


@pytest.mark.parametrize("boxes_from, shift", [(None, 0), (1, 0), (0, 1)])
def test_what_boxes_count_from_is_said_and_can_be_told(
    tmp_path, videos, truth, boxes_from, shift, capsys
):
    """A list that counts from 0 and comes nowhere near the border looks like one that
    counts from 1.
    """
    known, hidden = halves(truth)
    content = [(f"{name}.avi", tubes) for name, tubes in entries(known)]
    first, second = (
        write(tmp_path / "label.pkl", content),
        write(tmp_path / "unlabel.pkl", [f"{hidden[0].name}.avi"]),
    )
    labels, _ = read_lists(
        "ucf101",
        first,
        second,
        functools.partial(ucf101.find_video, videos),
        tmp_path / "known.jsonl",
        boxes_from=boxes_from,
    )
    assert hidden[0].name in labels.videos
    for video in known:
        for ours, tube in zip(labels.videos[video.name].tubes, video.tubes, strict=True):
            assert np.array_equal(ours.boxes[:, :2], tube.boxes[:, :2] + shift)
    said = capsys.readouterr().out
    assert ("taken to count pixels from 1" in said and "--boxes-from" in said) == (
        boxes_from is None
    )


def test_a_list_an_editor_has_marked_as_utf_8(tmp_path):
    (tmp_path / "list.txt").write_text("A/v\r\nA/w.avi\r\n", encoding="utf-8-sig")
    assert read_names(tmp_path / "list.txt") == ["A/v", "A/w"]


def test_names_without_their_class_are_no_list(tmp_path):
    (tmp_path / "list.txt").write_text("clip_1\nclip_2\n")
    with pytest.raises(UserError, match="were it meant as text: class/clip a line"):
        read_names(tmp_path / "list.txt")


def test_a_list_in_another_encoding(tmp_path):
    (tmp_path / "list.txt").write_bytes("A/vidéo\n".encode("latin1"))
    with pytest.raises(UserError, match="is not text in UTF-8"):
        read_names(tmp_path / "list.txt")


# ---- J-HMDB ----


@pytest.fixture
def clips(tmp_path):
    """Four clips with their masks; the videos are as long."""
    root = tmp_path / "jhmdb"
    clips = {
        f"{name}/clip_{i}": (square_masks(6 + i), "train")
        for i, name in enumerate(("catch", "wave", "catch", "wave"))
    }
    write_set(root, clips)
    for name, (masks, _) in clips.items():
        (root / name).parent.mkdir(exist_ok=True)
        write_video(
            root / f"{name}.avi", np.repeat(masks[..., None] * np.uint8(200), 3, axis=-1)
        )
    return root


def read_names(path, known=("A/v", "A/w")):
    return lists.read_names(path, Names(known), "list")


def read_texts(tmp_path, clips, labeled, unlabeled):
    return read_lists(
        "jhmdb",
        *texts(tmp_path, labeled, unlabeled),
        functools.partial(jhmdb.find_video, clips),
        tmp_path / "known.jsonl",
        clips,
    )


def texts(tmp_path, labeled, unlabeled):
    paths = tmp_path / "label.txt", tmp_path / "unlabel.txt"
    for path, names in zip(paths, (labeled, unlabeled), strict=True):
        path.write_text("".join(f"{name}\n" for name in names))
    return paths


def test_jhmdb_lists_are_text_and_the_labels_masks(tmp_path, clips):
    known, hidden = ["wave/clip_3", "catch/clip_0"], ["catch/clip_2", "wave/clip_1"]
    labels, failed = read_texts(tmp_path, clips, known, hidden)
    assert not failed and list(labels.videos) == known + hidden and labels.dataset == "jhmdb-21"
    first = labels.videos["wave/clip_3"]
    assert labels.classes[first.label] == "wave" and first.labeled_frames.tolist() == list(
        range(9)
    )
    np.testing.assert_array_equal(first.tubes[0].masks[:], square_masks(9))
    other = labels.videos["catch/clip_2"]
    assert not other.is_labeled and not other.tubes and other.label is None
    assert (other.frames, other.height, other.width) == (8, 24, 32)


def test_masks_of_unlabeled_clips_of_jhmdb_are_not_looked_at(tmp_path, clips):
    """Missing, damaged, or of another length and size: the video says what there is. One
    that cannot be read is named.
    """
    known, hidden = (
        ["wave/clip_3", "catch/clip_0"],
        ["catch/clip_2", "wave/clip_1"],
    )
    (clips / "wave" / "gone.avi").write_bytes(b"nonsense")
    hidden.append("wave/gone")
    shutil.rmtree(clips / "puppet_mask" / "catch" / "clip_2")
    (clips / "puppet_mask" / "wave" / "clip_1" / "puppet_mask.mat").write_bytes(b"nonsense")
    labels, failed = read_texts(tmp_path, clips, known, hidden)
    assert list(labels.videos) == known + hidden[:2] and list(failed) == ["wave/gone"]
    assert [(labels.videos[name].frames, labels.videos[name].width) for name in hidden[:2]] == [
        (8, 32),
        (7, 32),
    ]


def test_jhmdb_lists_that_cannot_be_used(tmp_path, clips):
    def refused(known, hidden):
        with pytest.raises(UserError) as error:
            read_texts(tmp_path, clips, known, hidden)
        assert "\n" not in str(error.value)
        return str(error.value)

    said = refused(["wave/other"], ["wave/clip_3"])
    assert "1 of 1 name matches no video with a mask below" in said
    said = refused(["wave/clip_3"], ["wave/clip_1", "wave/other"])
    assert "unlabel.txt: 1 of 2 names matches no video below" in said and "'wave/other'" in said
    assert "wave/clip_3" in refused(["wave/clip_3"], ["wave/clip_3"])
    assert "the unlabeled list is empty" in refused(["wave/clip_3"], [])
    assert "the labeled list is empty" in refused([], ["wave/clip_3"])
    assert "listed twice" in refused(["wave/clip_3"] * 2, ["wave/clip_1"])


def test_the_official_lists_of_jhmdb(shared_data, monkeypatch):
    root = shared_data / "jhmdb"
    monkeypatch.setattr(
        lists, "count_frames", lambda names, *_: ({name: (40, 240, 320) for name in names}, {})
    )
    labels, _ = read_lists(
        "jhmdb",
        root / "testlist_split1.txt",
        root / "trainlist_split1.txt",
        None,
        None,
        root,
        names=Names(jhmdb.mask_files(root)),
    )
    assert (len(labels.labeled()), len(labels.videos)) == (268, 928)
