"""The toy data set: reproducible, in UCF-101-24's conventions, told apart by motion only,
made whole or not at all.
"""

import errno
import os
import pickle
import subprocess

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from claus.datasets import sprites, toy
from claus.datasets.ucf101 import find_video, read_ground_truth
from claus.utils.runtime import UserError


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return toy.make(tmp_path_factory.mktemp("toy") / "set", seed=3, train=8, test=6)


@pytest.fixture(scope="module")
def drawn_videos():
    """Fifteen test videos of each class, not written to disk: list of (Plan, frames,
    record).
    """
    plans = [item for item in toy.plan(6, 90) if item.test]
    return [(item, *toy.draw_video(5, index, item)) for index, item in enumerate(plans)]


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def half_open(boxes):
    """x, y, w, h of 1-based inclusive corners → x0, y0, x1, y1, the way a reader has to do
    it.
    """
    x, y, w, h = boxes.astype(np.int32).T
    return np.stack([x - 1, y - 1, x + w, y + h], 1)


def action(record):
    """(F,) int: how many annotated actors each frame has."""
    count = np.zeros(int(record["numf"]), int)
    for tube in record["annotations"]:
        count[tube["sf"] : tube["ef"]] += 1
    return count


# ---- reproducible ----


def test_the_same_seed_makes_the_same_bytes_and_another_seed_does_not(small, tmp_path):
    again, other = toy.make(tmp_path / "again", 3, 8, 6), toy.make(tmp_path / "other", 4, 8, 6)
    assert files_of(again) == files_of(small)
    assert files_of(other).keys() == files_of(small).keys()
    assert all(
        data != files_of(small)[name]
        for name, data in files_of(other).items()
        if name.endswith(".avi")
    )


# ---- the conventions of the real data ----


def test_every_video_decodes_as_many_frames_as_its_record_says_and_shows_what_was_drawn(small):
    records = pickle.loads((small / "pyannot.pkl").read_bytes())
    for index, item in enumerate(toy.plan(8, 6)):
        with av.open(str(small / "videos" / f"{item.name}.avi")) as container:
            assert container.streams.video[0].codec_context.name == "mpeg4"
            pictures = list(container.decode(video=0))
        assert len(pictures) == int(records[item.name]["numf"])
        drawn, record = toy.draw_video(3, index, item)
        decoded = np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])
        assert np.abs(decoded.astype(int) - drawn).mean() < 8
        for made, read in zip(
            record["annotations"], records[item.name]["annotations"], strict=True
        ):
            np.testing.assert_array_equal(made["boxes"], read["boxes"])
        kinds = [PictureType(picture.pict_type).name for picture in pictures]
        assert set(kinds) == {"I", "P"} and all(kind == "I" for kind in kinds[::12])


def test_names_classes_and_split_are_consistent(small):
    records = pickle.loads((small / "pyannot.pkl").read_bytes())
    test_names = (small / "testlist01.txt").read_text().split()
    assert (
        len(records) == 14
        and len(test_names) == len(set(test_names)) == 6
        and set(test_names) <= set(records)
    )
    assert {name.split("/")[0] for name in test_names} == set(toy.CLASSES)
    for name, record in records.items():
        kind, video = name.split("/")
        assert video.startswith(f"v_{kind}_g")
        assert record["label"] == toy.CLASSES.index(kind) and record["annotations"]
        assert (record["height"], record["width"]) == (72, 96)
        for tube in record["annotations"]:
            assert tube["label"] == record["label"] and tube["boxes"].dtype == np.uint8
            assert (
                0 <= tube["sf"] < tube["ef"] <= record["numf"]
                and len(tube["boxes"]) == tube["ef"] - tube["sf"]
            )


def test_the_reader_of_the_real_data_reads_it(small):
    truth = read_ground_truth(small / "pyannot.pkl", small / "testlist01.txt", "train")
    records = pickle.loads((small / "pyannot.pkl").read_bytes())
    assert truth.classes == toy.CLASSES and len(truth.videos) == 8
    for name, video in truth.videos.items():
        assert (video.frames, video.height, video.width) == (int(records[name]["numf"]), 72, 96)
        assert find_video(small, name).is_file()
        for tube, made in zip(video.tubes, records[name]["annotations"], strict=True):
            assert tube.boxes.tolist() == half_open(made["boxes"]).tolist()
            assert (tube.start, tube.end) == (made["sf"], made["ef"])


def test_a_square_gets_the_box_a_person_works_out():
    square = sprites.Actor(
        np.full((20, 20, 3), 255, np.float32), np.ones((20, 20), np.float32)
    )  # 10 by 10 pixels
    poses = [[(20.5, 30.5, 1, 0), (20.5, 30.5, 2, np.pi / 2), (94, 30.5, 1, 0), (np.nan,) * 4]]
    frames, masks, visible = sprites.render(
        np.zeros((80, 110, 3), np.float32), [square], poses, np.full((4, 2), 3.0), (72, 96)
    )
    assert sprites.tight_boxes(masks[0]).tolist() == [
        [16, 26, 26, 36],
        [11, 21, 31, 41],
        [89, 26, 96, 36],
        [0] * 4,
    ]
    np.testing.assert_allclose(visible[0], [1, 1, 0.7, 0])
    assert (frames[0] > 0).any(-1).sum() == 100 and not frames[3].any()
    record = toy.record(2, 4, (72, 96), masks, np.array([[True, True, True, False]]))
    assert [tube["boxes"].tolist() for tube in record["annotations"]] == [
        [[17, 27, 9, 9], [12, 22, 19, 19], [90, 27, 6, 9]]
    ]


def test_an_actor_in_front_hides_what_is_behind():
    square = sprites.Actor(np.full((20, 20, 3), 255, np.float32), np.ones((20, 20), np.float32))
    poses = [[(20.5, 30.5, 1, 0)], [(26.5, 30.5, 1, 0)]]
    _, masks, visible = sprites.render(
        np.zeros((80, 110, 3), np.float32), [square, square], poses, [(0, 0)], (72, 96)
    )
    assert sprites.tight_boxes(masks[:, 0]).tolist() == [[16, 26, 22, 36], [22, 26, 32, 36]]
    np.testing.assert_allclose(visible[:, 0], [0.6, 1])


def test_runs_become_tubes_and_wide_boxes_uint16():
    masks = np.zeros((1, 6, 20, 400), bool)
    masks[0, :4, 5:9, 10:14] = True
    masks[0, 5, 5:9, 390:394] = True
    tubes = toy.record(1, 6, (20, 400), masks, np.array([[1, 1, 0, 1, 0, 1]], bool))[
        "annotations"
    ]
    assert [(tube["sf"], tube["ef"], str(tube["boxes"].dtype)) for tube in tubes] == [
        (0, 2, "uint8"),
        (3, 4, "uint8"),
        (5, 6, "uint16"),
    ]
    assert half_open(tubes[2]["boxes"]).tolist() == [[390, 5, 394, 9]]


def test_boxes_are_tight_around_what_is_visible(monkeypatch):
    kept = {}
    monkeypatch.setattr(
        toy,
        "render",
        lambda *args, **more: kept.setdefault("rendered", sprites.render(*args, **more)),
    )
    for index, item in enumerate(toy.plan(6, 6)[:6]):
        kept.clear()
        _, record = toy.draw_video(1, index, item)
        masks = kept["rendered"][1]
        for tube in record["annotations"]:
            for f, (x0, y0, x1, y1) in zip(
                range(tube["sf"], tube["ef"]), half_open(tube["boxes"]), strict=True
            ):
                assert 0 <= x0 < x1 <= 96 and 0 <= y0 < y1 <= 72

                def tight(mask, x0=x0, y0=y0, x1=x1, y1=y1):
                    inside = mask[y0:y1, x0:x1]
                    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
                    return (
                        mask.any()
                        and inside.sum() == mask.sum()
                        and all(edge.any() for edge in edges)
                    )

                assert any(tight(mask) for mask in masks[:, f])


# ---- a fair miniature of the problem ----


def test_each_class_moves_in_its_own_way_and_enough_in_sixteen_frames():
    moved = {
        "Bounce": [1],
        "Circle": [0, 1],
        "Pulse": [2],
        "Rock": [3],
        "Spin": [3],
        "Sway": [0],
    }
    least = np.array([9, 8, np.log(1.35), np.radians(45)])
    for kind in toy.CLASSES:
        for phase in np.linspace(0, 2 * np.pi, 13):
            slowest = 26 if kind == "Spin" else 18
            spread = np.ptp(
                toy.motion(kind, np.arange(0, 16, 2), slowest, 0.0, -1, phase), axis=0
            )
            still = [axis for axis in range(4) if axis not in moved[kind]]
            assert (spread[moved[kind]] >= least[moved[kind]]).all(), (kind, spread)
            assert (spread[still] == 0).all()
    angle = toy.motion("Spin", [0, 20], 20, 0.5, 1, 0.3)[:, 3]
    assert angle[1] - angle[0] == pytest.approx(2 * np.pi)


def test_one_picture_does_not_tell_the_class_but_the_boxes_in_time_do(drawn_videos):
    looks, moves, labels = [], [], []
    for _, frames, record in drawn_videos:
        tube = max(record["annotations"], key=lambda item: len(item["boxes"]))
        boxes = half_open(tube["boxes"])
        x0, y0, x1, y1 = boxes[0]
        frame = frames[tube["sf"]].astype(float)
        actor = frame[y0:y1, x0:x1]
        looks.append(
            [
                *frame.mean((0, 1)),
                *frame.std((0, 1)),
                *actor.mean((0, 1)),
                *actor.std((0, 1)),
                x1 - x0,
                y1 - y0,
                x0 + x1,
                y0 + y1,
                len(frames),
                len(record["annotations"]),
            ]
        )
        corners = boxes[:16].astype(float)
        middle, side = corners[:, :2] + corners[:, 2:], corners[:, 2:] - corners[:, :2]
        moves.append(
            [
                *middle.std(0),
                *side.std(0),
                np.corrcoef(side.T + 1e-3 * np.arange(len(side)))[0, 1],
            ]
        )
        labels.append(record["label"])

    def accuracy(features):
        guess = cross_val_predict(
            LinearDiscriminantAnalysis(), np.array(features), labels, cv=LeaveOneOut()
        )
        return (guess == labels).mean()

    assert accuracy(looks) < 0.28  # chance is 1/6 with a standard deviation of 0.04
    assert accuracy(moves) > 0.6


def test_videos_are_untrimmed_with_one_to_three_actors_and_gaps(drawn_videos):
    counts = [action(record) for _, _, record in drawn_videos]
    assert all(40 <= len(count) <= 80 and (count > 0).sum() >= 15 for count in counts)
    assert np.mean([(count == 0).any() for count in counts]) > 0.7
    assert 0.55 < np.concatenate([count > 0 for count in counts]).mean() < 0.9
    assert {count.max() for count in counts} == {1, 2, 3}
    gaps = [(np.diff(np.r_[0, count > 0]) == 1).sum() > 1 for count in counts]
    assert 0.02 < np.mean(gaps) < 0.4


def test_an_actor_stands_still_in_a_minority_of_cases():
    rng = np.random.default_rng(0)
    lines = [toy._timeline(rng, length) for length in rng.integers(40, 81, 400)]
    assert all(not (acting & ~shown).any() and acting.sum() >= 20 for acting, shown in lines)
    assert 0.1 < np.mean([(shown & ~acting).any() for acting, shown in lines]) < 0.35


def test_the_training_part_has_a_long_tail_and_shares_no_group_with_the_test_part():
    plans = toy.plan(80, 30)
    train = [item.kind for item in plans if not item.test]
    counts = {kind: train.count(kind) for kind in toy.CLASSES}
    assert counts == {
        "Bounce": 20,
        "Spin": 18,
        "Sway": 12,
        "Circle": 10,
        "Pulse": 10,
        "Rock": 10,
    }
    assert [sum(item.test and item.kind == kind for item in plans) for kind in toy.CLASSES] == [
        5
    ] * 6
    part = {True: set(), False: set()}
    for item in plans:
        part[item.test].update([item.name.rsplit("_", 1)[0], item.group])
    assert not part[True] & part[False]
    frequent = [item for item in plans if item.kind in toy.FREQUENT and not item.test]
    assert len({item.group for item in frequent}) == 7
    hardest = {
        kind: [item.difficulty for item in plans if item.test and item.kind == kind]
        for kind in toy.CLASSES
    }
    assert all(ranges == hardest["Rock"] for ranges in hardest.values())


def test_a_frequent_group_repeats_one_scene_and_other_groups_do_not():
    bounce = [
        (i, item)
        for i, item in enumerate(toy.plan(80, 30))
        if item.kind == "Bounce" and not item.test
    ]
    (first, other), last = bounce[:2], bounce[-1]
    assert first[1].group == other[1].group != last[1].group
    a, b, c = (
        toy.draw_video(0, *video)[0].astype(float).mean(0) for video in (first, other, last)
    )

    def alike(p, q):
        return np.corrcoef(p.ravel(), q.ravel())[0, 1]

    assert alike(a, b) > 0.7 > alike(a, c) + 0.2
    assert not np.array_equal(a, b)


# ---- the folder ----


@pytest.mark.parametrize("total", [6, 7, 11, 80])
def test_every_count_is_met_with_every_class(total):
    plans = toy.plan(total, total)
    for test in (True, False):
        kinds = [item.kind for item in plans if item.test == test]
        assert len(kinds) == total and set(kinds) == set(toy.CLASSES)
    assert len({item.name for item in plans}) == 2 * total


def test_making_it_twice_does_nothing(small):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    assert toy.make(small, seed=3, train=8, test=6) == small
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before


def test_other_parameters_are_refused_by_name(small):
    before = files_of(small)
    with pytest.raises(UserError, match="seed 3 instead of 4.*delete the folder"):
        toy.make(small, seed=4, train=8, test=6)
    with pytest.raises(UserError, match="train 8 instead of 80, test 6 instead of 30"):
        toy.make(small, seed=3)
    assert files_of(small) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": 5},
        {"test": 0},
        {"seed": -1},
        {"size": (71, 96)},
        {"size": (40, 96)},
        {"train": 8.5},
        {"size": (72, 96, 3)},
    ],
)
def test_parameters_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(UserError) as error:
        toy.make(tmp_path / "set", **wrong)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="something other than a toy data set"):
        toy.make(tmp_path / "set", train=6, test=6)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="something other than a toy data set"):
        toy.make(tmp_path / "file", train=6, test=6)
    assert sorted(files_of(tmp_path)) == ["file", "set/thesis.txt"]


@pytest.mark.parametrize(
    "stop, seen",
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), UserError),
    ],
)
def test_an_interrupted_make_leaves_nothing_half(tmp_path, monkeypatch, stop, seen):
    written = []

    def write_two(path, frames):
        if len(written) == 2:
            raise stop
        written.append(path)
        sprites.write_video(path, frames)

    monkeypatch.setattr(toy, "write_video", write_two)
    with pytest.raises(seen):
        toy.make(tmp_path / "set", train=6, test=6)
    assert len(written) == 2 and not list(tmp_path.iterdir())


def test_what_a_killed_make_left_is_cleared_and_a_running_one_is_not(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    for number in (dead.pid, os.getpid()):
        (tmp_path / f".set.{number}.abc.tmp" / "videos").mkdir(parents=True)
    toy._remove_leftovers(tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [f".set.{os.getpid()}.abc.tmp"]


def test_the_command_makes_it_in_an_empty_folder_and_in_any_size(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    toy.main([str(tmp_path / "set"), "--train", "6", "--test", "6"])
    assert "6 training and 6 test videos" in capsys.readouterr().out
    frames, record = toy.draw_video(0, 0, toy.plan(6, 6)[0], size=(120, 160))
    assert frames.shape == (int(record["numf"]), 120, 160, 3)
