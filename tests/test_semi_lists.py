"""The published lists: what is labelled in them, and one clear line for those that cannot be used."""

import functools
import pickle
import shutil

import numpy as np
import pytest
from jhmdb_maker import square_masks, write_set

from datasets import toy, ucf101
from semi.lists import read_lists, read_names
from utils.runtime import UserError


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("data") / "toy", seed=3, train=12, test=6)


@pytest.fixture
def truth(videos):
    return ucf101.read_ground_truth(videos / "pyannot.pkl", videos / "testlist01.txt", "train")


def record(tube, flag=None, labelled=None):
    """(start, end inclusive, label, boxes 1-based xywh, labelled frames[, flag]) of a dense tube."""
    boxes = tube.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2] + 1
    boxes[:, :2] += 1
    labelled = tube.frames.tolist() if labelled is None else labelled
    plain = (tube.start, tube.end - 1, tube.label, boxes.astype(np.uint8), labelled)
    return plain if flag is None else (*plain, flag)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def read(tmp_path, videos, labelled, unlabelled):
    first, second = write(tmp_path / "label.pkl", labelled), write(tmp_path / "unlabel.pkl", unlabelled)
    return read_lists("ucf101", first, second, functools.partial(ucf101.find_video, videos), tmp_path / "known.jsonl")


def halves(truth):
    """(known, hidden) videos: the second of every class is hidden, so that every class is known."""
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
    assert not failed and list(labels.videos) == [v.name for v in known + hidden] and labels.classes == toy.CLASSES
    for video in known:
        ours = labels.videos[video.name]
        assert (ours.frames, ours.height, ours.width, ours.label) == (video.frames, 72, 96, video.label)
        np.testing.assert_array_equal(ours.labelled_frames, np.arange(video.frames))    # also those without action
        for tube, expected in zip(ours.tubes, video.tubes, strict=True):
            np.testing.assert_array_equal(tube.frames, expected.frames)
            np.testing.assert_array_equal(tube.boxes, expected.boxes)
    assert [v.name for v in labels.labelled()] == [v.name for v in known]


def test_of_the_unlabelled_list_nothing_but_names_is_read(tmp_path, videos, truth):
    known, hidden = halves(truth)
    nonsense = [(video.name, [("no", "tube", "at", "all")]) for video in hidden]
    labels = read(tmp_path, videos, entries(known), nonsense)[0]
    plain = read(tmp_path, videos, entries(known), [video.name for video in hidden])[0]
    assert list(labels.videos) == list(plain.videos)
    (tmp_path / "names.txt").write_text("".join(f"{video.name}.avi 3\n" for video in hidden))
    assert read_names(tmp_path / "names.txt") == [video.name for video in hidden]


def test_the_sixth_field_says_which_tubes_are_labelled(tmp_path, videos, truth):
    known, hidden = halves(truth)
    several = next(video for video in truth.videos.values() if len(video.tubes) > 1)
    known = [several, *(video for video in known if video is not several)]
    spare = next(i for i, video in enumerate(known) if [v.label for v in known].count(video.label) > 1
                 and video is not several)
    known = [several, known[spare], *(video for i, video in enumerate(known) if i not in (0, spare))]
    flagged = [(video.name, [record(tube, int(i == 0 or video is not several)) for i, tube in enumerate(video.tubes)])
               for video in known]
    flagged[1] = (known[1].name, [record(tube, 0) for tube in known[1].tubes])          # none of them
    labels = read(tmp_path, videos, flagged, [v.name for v in hidden if v is not several])[0]
    ours = labels.videos[several.name]
    assert [tube.track for tube in ours.tubes] == [1]
    np.testing.assert_array_equal(ours.labelled_frames, several.tubes[0].frames)        # of the rest nothing is known
    assert not labels.videos[known[1].name].is_labelled
    np.testing.assert_array_equal(labels.videos[known[2].name].labelled_frames, np.arange(known[2].frames))


def test_sparse_labels_stay_sparse(tmp_path, videos, truth):
    known, hidden = halves(truth)
    content = entries(known)
    tube = known[0].tubes[0]
    content[0] = (known[0].name, [record(tube, labelled=[tube.start + 3])])
    ours = read(tmp_path, videos, content, [v.name for v in hidden])[0].videos[known[0].name]
    assert ours.labelled_frames.tolist() == [tube.start + 3]
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
    gone = [next(video.name for video in known if [v.label for v in known].count(video.label) > 1), hidden[0].name]
    for name in gone:
        (copy / "videos" / f"{name}.avi").unlink()
    labels, failed = read(tmp_path, copy, entries(known), entries(hidden))
    assert sorted(failed) == sorted(gone) and not set(gone) & set(labels.videos) and len(labels.videos) == 10


# ---- one clear line ----

def refused(tmp_path, videos, labelled, unlabelled):
    with pytest.raises(UserError) as error:
        read(tmp_path, videos, labelled, unlabelled)
    assert "\n" not in str(error.value) and ".pkl" in str(error.value)
    return str(error.value)


def test_an_empty_unlabelled_list(tmp_path, videos, truth):
    assert "the unlabelled list is empty" in refused(tmp_path, videos, entries(halves(truth)[0]), [])
    (tmp_path / "empty.txt").write_text("\n")
    assert read_names(tmp_path / "empty.txt") == []


def test_a_video_in_both_lists(tmp_path, videos, truth):
    known, hidden = halves(truth)
    said = refused(tmp_path, videos, entries(known), entries([*hidden, known[2]]))
    assert known[2].name in said and "in the unlabelled list too" in said


def test_other_lists_that_cannot_be_used(tmp_path, videos, truth):
    known, hidden = halves(truth)
    names = [video.name for video in hidden]
    assert "holds a dict" in refused(tmp_path, videos, {"a": 1}, names)
    assert "not (name, tubes)" in refused(tmp_path, videos, [3], names)
    assert "listed twice" in refused(tmp_path, videos, entries(known), [*names, names[0]])
    nothing = [(video.name, [record(tube, 0) for tube in video.tubes]) for video in known]
    assert "no tube is labelled in it" in refused(tmp_path, videos, nothing, names)
    with pytest.raises(UserError, match="no such file"):
        read_lists("ucf101", tmp_path / "none.pkl", None, None, None)
    (tmp_path / "text.txt").write_text("A/v\n")
    with pytest.raises(UserError, match="says nothing of boxes"):
        read_lists("ucf101", tmp_path / "text.txt", None, None, None)


# ---- J-HMDB ----

@pytest.fixture
def clips(tmp_path):
    root = tmp_path / "jhmdb"
    write_set(root, {f"{name}/clip_{i}": (square_masks(6 + i), "train")
                     for i, name in enumerate(("catch", "wave", "catch", "wave"))})
    return root


def texts(tmp_path, labelled, unlabelled):
    paths = tmp_path / "label.txt", tmp_path / "unlabel.txt"
    for path, names in zip(paths, (labelled, unlabelled), strict=True):
        path.write_text("".join(f"{name}\n" for name in names))
    return paths


def test_jhmdb_lists_are_text_and_the_labels_masks(tmp_path, clips):
    known, hidden = ["wave/clip_3", "catch/clip_0"], ["catch/clip_2", "wave/clip_1"]
    labels, failed = read_lists("jhmdb", *texts(tmp_path, known, hidden), None, None, clips)
    assert not failed and list(labels.videos) == known + hidden and labels.dataset == "jhmdb-21"
    first = labels.videos["wave/clip_3"]
    assert labels.classes[first.label] == "wave" and first.labelled_frames.tolist() == list(range(9))
    np.testing.assert_array_equal(first.tubes[0].masks[:], square_masks(9))
    other = labels.videos["catch/clip_2"]
    assert not other.is_labelled and not other.tubes and other.label is None and other.frames == 8


def test_jhmdb_lists_that_cannot_be_used(tmp_path, clips):
    def refused(known, hidden):
        with pytest.raises(UserError) as error:
            read_lists("jhmdb", *texts(tmp_path, known, hidden), None, None, clips)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "have no puppet mask" in refused(["wave/clip_3"], ["wave/other"])
    assert "wave/clip_3" in refused(["wave/clip_3"], ["wave/clip_3"])
    assert "the unlabelled list is empty" in refused(["wave/clip_3"], [])
    assert "the labelled list is empty" in refused([], ["wave/clip_3"])
    assert "listed twice" in refused(["wave/clip_3"] * 2, ["wave/clip_1"])


def test_the_official_lists_of_jhmdb(shared_data):
    root = shared_data / "jhmdb"
    labels, _ = read_lists("jhmdb", root / "testlist_split1.txt", root / "trainlist_split1.txt", None, None, root)
    assert (len(labels.labelled()), len(labels.videos)) == (268, 928)
