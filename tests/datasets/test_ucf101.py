"""UCF-101-24: every trap of the corrected annotations, on made-up entries and on the real
file.
"""

import copy
import pickle

import numpy as np
import pytest

from claus.datasets.ucf101 import CLASSES, find_video, read_ground_truth, scan_videos
from claus.utils.runtime import UserError


def tube(start, end, label=2, box=(10, 20, 30, 40), dtype=np.uint8):
    return {
        "sf": start,
        "ef": end,
        "label": label,
        "boxes": np.array([box] * (end - start), dtype),
    }


def entry(*tubes, numf=20, label=2):
    return {"numf": np.uint8(numf), "label": label, "annotations": list(tubes)}


def truth_of(tmp_path, videos, **options):
    path = tmp_path / "pyannot.pkl"
    path.write_bytes(pickle.dumps(videos, protocol=2))
    return read_ground_truth(path, **options)


def one(tmp_path, *tubes, **options):
    return truth_of(tmp_path, {"Biking/v_a": entry(*tubes, **options)}).videos["Biking/v_a"]


def refusal(tmp_path, videos, **options):
    with pytest.raises(UserError) as error:
        truth_of(tmp_path, videos, **options)
    assert "\n" not in str(error.value) and "pyannot.pkl" in str(error.value)
    return str(error.value)


# ----------------------------------------------------------------------- the traps, made up


def test_a_full_width_box_becomes_the_whole_width(tmp_path):
    video = one(tmp_path, tube(0, 3, box=(1, 1, 319, 239), dtype=np.uint16))
    assert video.tubes[0].boxes.tolist() == [[0, 0, 320, 240]] * 3


def test_uint8_boxes_do_not_wrap(tmp_path):
    assert np.array([200], np.uint8) + np.array([100], np.uint8) == [
        44
    ]  # what the file's own type would say
    video = one(tmp_path, tube(0, 1, box=(200, 100, 100, 130)))
    assert (
        video.tubes[0].boxes.tolist() == [[199, 99, 300, 230]]
        and video.tubes[0].boxes.dtype == np.int32
    )


def test_numf_is_a_plain_int(tmp_path):
    assert np.array([251], np.uint8) + np.array([8], np.uint8) == [3]
    video = one(tmp_path, tube(240, 251), numf=251)
    assert type(video.frames) is int and video.frames + 8 == 259
    assert video.tubes[0].end == 251 and video.labeled_frames.tolist() == list(range(251))


def test_two_types_in_one_video(tmp_path):
    video = one(
        tmp_path,
        tube(0, 2, box=(200, 1, 100, 9)),
        tube(2, 4, box=(200, 1, 100, 9), dtype=np.uint16),
    )
    assert [t.boxes.tolist() for t in video.tubes] == [[[199, 0, 300, 10]] * 2] * 2
    assert {t.boxes.dtype for t in video.tubes} == {np.dtype(np.int32)}


def test_the_end_is_exclusive_and_every_frame_is_labeled(tmp_path):
    video = one(tmp_path, tube(3, 5), tube(9, 20))
    assert [t.frames.tolist() for t in video.tubes] == [[3, 4], list(range(9, 20))]
    assert video.labeled_frames.tolist() == list(
        range(20)
    )  # 0-2 and the gap 5-8 say: no action


def test_tubes_keep_the_order_of_the_file_and_their_number(tmp_path):
    video = one(
        tmp_path, tube(9, 12), tube(0, 3), tube(0, 3)
    )  # out of time order, with an exact duplicate
    assert [(t.track, t.start, t.end) for t in video.tubes] == [
        (1, 9, 12),
        (2, 0, 3),
        (3, 0, 3),
    ]


def test_a_short_tube_and_a_video_without_tubes(tmp_path):
    assert len(one(tmp_path, tube(19, 20)).tubes[0].frames) == 1
    video = one(tmp_path)
    assert video.tubes == () and video.is_labeled and video.label == 2


def test_videos_are_sorted_and_split_by_the_list(tmp_path):
    videos = {
        f"{c}/v_{i}": entry(label=CLASSES.index(c))
        for c in ("Diving", "Biking")
        for i in (2, 1, 3)
    }
    (tmp_path / "test.txt").write_text("Diving/v_1.avi\n\n  Biking/v_3 3\r\nBiking/v_3.avi\n")
    for part, names in (
        ("test", ["Biking/v_3", "Diving/v_1"]),
        ("train", ["Biking/v_1", "Biking/v_2", "Diving/v_2", "Diving/v_3"]),
        ("all", sorted(videos)),
    ):
        annotations = truth_of(tmp_path, videos, test_list=tmp_path / "test.txt", part=part)
        assert list(annotations.videos) == names
    assert list(truth_of(tmp_path, videos).videos) == sorted(videos)


def test_classes_of_a_part_are_all_24_and_of_a_toy_its_own(tmp_path):
    assert truth_of(tmp_path, {"Diving/v": entry(label=5)}).classes == CLASSES
    toy = truth_of(tmp_path, {"spin/v": entry(label=1), "drift/v": entry(label=0)})
    assert toy.classes == ("drift", "spin") and toy.videos["spin/v"].label == 1
    assert len(CLASSES) == 24 and list(CLASSES) == sorted(CLASSES)


def test_sizes_may_be_given(tmp_path):
    small = entry(tube(0, 2, box=(1, 1, 63, 47))) | {"height": np.uint8(48), "width": 64}
    video = truth_of(tmp_path, {"Biking/v": small}).videos["Biking/v"]
    assert (video.height, video.width) == (48, 64) and video.tubes[0].boxes[0].tolist() == [
        0,
        0,
        64,
        48,
    ]
    assert (one(tmp_path).height, one(tmp_path).width) == (240, 320)


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "bad, words",
    [
        (entry(tube(0, 21)), "tube 1 covers frames 0 to 21 (exclusive) of 20"),
        (entry(tube(5, 5)), "tube 1 covers frames 5 to 5"),
        (entry(tube(0, 2), tube(0, 2, label=3)), "tube 2 has label 3, the video 2"),
        (entry(tube(0, 2) | {"ef": 5}), "tube 1 has 2 boxes for the 5 frames"),
        (entry(tube(0, 2) | {"boxes": np.zeros((2, 5), int)}), "boxes have shape (2, 5)"),
        (entry(tube(0, 2) | {"boxes": np.zeros((2, 4))}), "boxes are float64"),
        (entry(tube(0, 2) | {"sf": -1}), "sf is -1"),
        (entry({"sf": 0, "ef": 2}), "tube 1 lacks the keys"),
        (entry(tube(0, 2, box=(0, 5, 9, 9))), "extends outside the picture"),
        (
            entry(tube(0, 2, box=(2, 1, 319, 9), dtype=np.uint16)),
            "extends outside the picture of 320x240",
        ),
        (entry(tube(0, 2, box=(1, 2, 9, 239))), "extends outside the picture"),
        (entry() | {"numf": np.uint8(0)}, "numf is 0"),
        ({"numf": 3, "label": 2}, "has no 'annotations'"),
        ({"numf": 3, "annotations": []}, "has no 'label'"),
        (entry() | {"annotations": 3}, "annotations is a int"),
        (entry() | {"numf": 3.5}, "numf is 3.5"),
        (entry(label="Biking"), "label is 'Biking'"),
        (entry(label=-1), "label is -1"),
    ],
)
def test_a_bad_entry_names_the_file_and_the_video(tmp_path, bad, words):
    text = refusal(tmp_path, {"Biking/v_good": entry(), "Biking/v_bad": bad})
    assert "video Biking/v_bad: " in text and words in text


def test_labels_that_disagree(tmp_path):
    assert "label 2 is Biking in other videos" in refusal(
        tmp_path, {"Biking/v": entry(), "Diving/v": entry()}
    )
    assert "other videos of Biking have 2" in refusal(
        tmp_path, {"Biking/v": entry(), "Biking/w": entry(label=3)}
    )
    assert "unknown label 24; the 2 classes" in refusal(
        tmp_path, {"Biking/v": entry(label=0), "X/w": entry(label=24)}
    )
    assert "has no class folder" in refusal(tmp_path, {"v_Biking": entry()})


def test_files_of_another_kind(tmp_path):
    for content in ([("A/v", [])], {}, {3: 4}, 5):
        assert "not ground truth" in refusal(tmp_path, content)
    assert "has no 'label'" in refusal(tmp_path, {"A/v": 3})


def test_the_test_list_must_belong_to_the_file(tmp_path):
    videos, listed = {"Biking/v": entry()}, tmp_path / "test.txt"
    listed.write_text("Biking/v\nBiking/x\nBiking/y\n")
    assert "2 of 3 names match no video of" in (
        text := refusal(tmp_path, videos, test_list=listed, part="test")
    )
    assert text.startswith(str(listed)) and "Biking/x" in text
    listed.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        truth_of(tmp_path, videos, test_list=listed, part="test")
    with pytest.raises(UserError, match="none.txt: the list of test videos cannot be read"):
        truth_of(tmp_path, videos, test_list=tmp_path / "none.txt", part="train")
    with pytest.raises(UserError, match="needs the list"):
        truth_of(tmp_path, videos, part="train")
    with pytest.raises(UserError, match="give train, test or all"):
        truth_of(tmp_path, videos, part="trian")


# --------------------------------------------------------------------------- videos on disk


@pytest.mark.parametrize("layout", ["", "UCF-101", "UCF101_Videos", "videos"])
def test_videos_are_found_in_every_layout(tmp_path, layout):
    for name in ("Diving/v_b", "Biking/v_a"):
        path = tmp_path / layout / f"{name}.avi"
        path.parent.mkdir(parents=True)
        path.touch()
        assert find_video(tmp_path, name) == path
    (path.parent / "._v_a.avi").touch()  # what some archives leave behind
    (path.parent / "notes.txt").touch()
    assert scan_videos(tmp_path) == ["Biking/v_a", "Diving/v_b"]


def test_a_name_with_a_dot_keeps_it(tmp_path):
    (tmp_path / "Biking").mkdir()
    (tmp_path / "Biking" / "v_1.5.avi").touch()
    assert scan_videos(tmp_path) == ["Biking/v_1.5"]
    assert find_video(tmp_path, "Biking/v_1.5").name == "v_1.5.avi"


def test_a_missing_video_is_named_with_what_was_tried(tmp_path):
    with pytest.raises(UserError) as error:
        find_video(tmp_path, "Biking/v_a")
    text = str(error.value)
    assert (
        f"{tmp_path}/Biking/v_a.avi" in text
        and "3 other layouts" in text
        and "--data" in text
        and "\n" not in text
    )
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="--data"):
            scan_videos(root)


@pytest.mark.parametrize(
    "name",
    [
        "../v",
        "Biking/../../v",
        "/etc/v",
        "Biking//v",
        "..",
        "",
        "Biking\\v",
        "Bi\0king/v",
        "./v",
    ],
)
def test_a_name_does_not_lead_out_of_the_root(tmp_path, name):
    (tmp_path / "v.avi").touch()
    (tmp_path / "root").mkdir()
    with pytest.raises(UserError, match="leads out of"):
        find_video(tmp_path / "root", name)


# ---------------------------------------------------------------------------- the real file


@pytest.fixture(scope="module")
def real(shared_data):
    """part -> Annotations, and "raw", the pickle as it is."""
    folder = shared_data / "ucf101_24"
    parts = {
        part: read_ground_truth(folder / "pyannot.pkl", folder / "testlist01.txt", part)
        for part in ("train", "test", "all")
    }
    return parts | {
        "raw": pickle.loads((folder / "pyannot.pkl").read_bytes(), encoding="latin1")
    }


def actors_per_frame(video):
    count = np.zeros(video.frames, int)
    for t in video.tubes:
        count[t.frames] += 1
    return count


@pytest.mark.parametrize(
    "part, videos, frames, with_action, boxes, tubes",
    [
        ("train", 2284, 395868, 340336, 403282, 3143),
        ("test", 910, 159289, 138527, 170580, 1315),
    ],
)
def test_counts_of_the_real_splits(real, part, videos, frames, with_action, boxes, tubes):
    annotations = real[part]
    assert annotations.classes == CLASSES
    assert annotations.counts() == {"videos": videos, "frames": frames, "boxes": boxes}
    assert annotations.total_frames() == frames
    assert (
        sum(int((actors_per_frame(v) > 0).sum()) for v in annotations.videos.values())
        == with_action
    )
    assert sum(len(v.tubes) for v in annotations.videos.values()) == tubes
    assert (
        {type(v.name) for v in annotations.videos.values()}
        == {type(k) for k in annotations.videos}
        == {str}
    )


def test_the_splits_share_nothing_and_leave_nothing(real):
    train, test = set(real["train"].videos), set(real["test"].videos)
    assert not train & test and train | test == set(real["all"].videos) == set(real["raw"])


def test_no_box_of_the_real_file_wraps(real):
    wraps = 0
    for name, raw in real["raw"].items():
        for old, new in zip(raw["annotations"], real["all"].videos[name].tubes, strict=True):
            in_own_type, true = (
                old["boxes"][:, :2] + old["boxes"][:, 2:],
                old["boxes"].astype(int),
            )
            true = true[:, :2] + true[:, 2:]
            wraps += int((in_own_type != true).any(axis=1).sum())
            assert np.array_equal(new.boxes[:, 2:], true)
            assert np.array_equal(new.boxes[:, :2], old["boxes"].astype(int)[:, :2] - 1)
    assert wraps == 60072


def test_full_width_boxes_of_the_real_file(real):
    full = sum(
        int(((t.boxes[:, 0] == 0) & (t.boxes[:, 2] == 320)).sum())
        for v in real["all"].videos.values()
        for t in v.tubes
    )
    raw = sum(
        int(((a["boxes"][:, 0] == 1) & (a["boxes"][:, 2].astype(int) == 319)).sum())
        for v in real["raw"].values()
        for a in v["annotations"]
    )
    assert full == raw == 41


def test_the_shape_of_the_real_problem(real):
    videos = list(real["all"].videos.values())
    counts = [actors_per_frame(v) for v in videos]
    assert sum(len(v.tubes) > 1 for v in videos) == 715
    assert max(len(v.tubes) for v in videos) == 10 and min(len(v.tubes) for v in videos) == 1
    assert sum(int(c.max() > 1) for c in counts) == 505
    assert (
        sum([t.start for t in v.tubes] != sorted(t.start for t in v.tubes) for v in videos)
        == 136
    )
    assert sum(int((c == 0).any()) for c in counts) == 1249
    assert sum(int((np.trim_zeros(c) == 0).any()) for c in counts) == 218
    assert (
        sum(len({a["boxes"].dtype for a in v["annotations"]}) > 1 for v in real["raw"].values())
        == 47
    )


def test_short_tubes_and_duplicates_of_the_real_file(real):
    videos = real["all"].videos
    assert sum(len(t.frames) < 8 for v in videos.values() for t in v.tubes) == 35
    assert min(len(t.frames) for v in videos.values() for t in v.tubes) == 4
    spans = {name: int((actors_per_frame(v) > 0).sum()) for name, v in videos.items()}
    shortest = min(spans, key=spans.get)
    assert (spans[shortest], videos[shortest].frames) == (6, 171)
    keys = {
        name: [(t.frames.tobytes(), t.boxes.tobytes()) for t in v.tubes]
        for name, v in videos.items()
    }
    assert sorted(name for name, key in keys.items() if len(set(key)) < len(key)) == [
        "CliffDiving/v_CliffDiving_g13_c02",
        "CricketBowling/v_CricketBowling_g02_c04",
    ]


def test_the_three_real_clips_are_found(shared_data, real):
    root = shared_data / "ucf101_24"
    names = scan_videos(root)
    assert names == [
        "Biking/v_Biking_g01_c03",
        "Biking/v_Biking_g02_c05",
        "Diving/v_Diving_g01_c01",
    ]
    assert all(find_video(root, name).is_file() for name in names)
    assert [real["all"].videos[name].frames for name in names][:2] == [151, 180]
    some = {name: copy.deepcopy(real["raw"][name]) for name in names}
    assert {np.dtype("uint8"), np.dtype("uint16")} == {
        a["boxes"].dtype for a in some[names[1]]["annotations"]
    }
