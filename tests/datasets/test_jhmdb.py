"""J-HMDB-21: its masks, splits and videos, in small copies of the layout and in the real
thing.
"""

import pickle

import numpy as np
import pytest
import scipy.io
from jhmdb_maker import square_masks, write_mat, write_pngs, write_set
from made_videos import gray_frames, numbers

from claus.annotators.simulated import strip_labels
from claus.datasets import jhmdb
from claus.datasets.clips.geometry import GEOMETRY, ClipGeometry
from claus.datasets.labels.annotations import load, save
from claus.datasets.sprites import write_video
from claus.datasets.video.reader import probe, read_frames
from claus.selection.budget import BudgetSettings, cycle_budget
from claus.utils.runtime import UserError

CLIPS = {
    "run/fast_run_1": "train",
    "catch/ball_(2)": "train",
    "catch/@20_!": "test",
    "wave/x": "test",
}
FRAMES = {name: 15 + i for i, name in enumerate(CLIPS)}


@pytest.fixture
def root(tmp_path):
    write_set(
        tmp_path, {name: (square_masks(FRAMES[name]), part) for name, part in CLIPS.items()}
    )
    return tmp_path


def mat(root, name="wave/x"):
    return root / "puppet_mask" / name / "puppet_mask.mat"


# ---- the masks ----


def test_every_frame_of_a_clip_is_labeled_with_its_mask(root):
    truth = jhmdb.read_ground_truth(root)
    assert (
        truth.dataset == "jhmdb-21"
        and truth.classes == jhmdb.CLASSES
        and len(jhmdb.CLASSES) == 21
    )
    assert list(truth.videos) == sorted(CLIPS)
    assert truth.counts() == {
        "videos": 4,
        "frames": sum(FRAMES.values()),
        "boxes": sum(FRAMES.values()),
    }
    video = truth.videos["run/fast_run_1"]
    assert (video.frames, video.height, video.width, video.label) == (
        15,
        24,
        32,
        jhmdb.CLASSES.index("run"),
    )
    assert video.labeled_frames.tolist() == list(range(15))
    (tube,) = video.tubes
    assert (tube.label, tube.track, tube.boxes) == (video.label, 1, None)
    assert np.array_equal(tube.masks[:], square_masks(15))


def test_masks_are_read_when_they_are_looked_at_and_not_before(root):
    whole = mat(root).read_bytes()
    mat(root).write_bytes(whole[:300])  # the header says the shape
    video = jhmdb.read_ground_truth(root).videos["wave/x"]
    assert video.frames == 18
    with pytest.raises(UserError, match=r"wave/x/puppet_mask\.mat: cannot be read") as error:
        video.tubes[0].masks[0]
    assert "\n" not in str(error.value)
    mat(root).write_bytes(whole)
    assert video.tubes[0].masks[0].sum() == 64


def test_the_pool_without_labels_reads_no_mask(root, monkeypatch):
    monkeypatch.setattr(scipy.io, "loadmat", lambda *_, **__: pytest.fail("a mask was read"))
    hidden = strip_labels(jhmdb.read_ground_truth(root, part="train"))
    assert hidden.total_frames() == 15 + 16 and hidden.counts()["frames"] == 0


@pytest.mark.parametrize("others", [{}, {"category": "wave"}])
@pytest.mark.parametrize("compressed", [True, False])
def test_other_ways_to_write_the_same_file(root, compressed, others):
    write_mat(mat(root), square_masks(20), compressed=compressed, **others)
    video = jhmdb.read_ground_truth(root).videos["wave/x"]
    assert video.frames == 20 and np.array_equal(video.tubes[0].masks[:], square_masks(20))


def test_a_single_frame(root):
    scipy.io.savemat(mat(root), {"part_mask": square_masks(1)[0].astype(np.uint8)})
    video = jhmdb.read_ground_truth(root).videos["wave/x"]
    assert video.frames == 1 and np.array_equal(video.tubes[0].masks[:], square_masks(1))


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"not a mask" * 100), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:150]), "cannot be read"),
        (lambda path: write_mat(path, square_masks(3), key="mask"), "has no 'part_mask'"),
        (
            lambda path: scipy.io.savemat(
                path, {"part_mask": np.zeros((2, 2, 2, 2), np.uint8)}
            ),
            "has no 'part_mask'",
        ),
    ],
)
def test_a_damaged_header_is_named(root, spoil, words):
    spoil(mat(root))
    with pytest.raises(UserError, match=words) as error:
        jhmdb.read_ground_truth(root)
    assert str(mat(root)) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "masks, words",
    [
        (2 * square_masks(5).astype(np.uint8), "values up to 2"),
        (square_masks(5) & (np.arange(5) != 3)[:, None, None], "frame 3 has no actor"),
    ],
)
def test_masks_that_are_none_are_named_when_they_are_read(root, masks, words):
    write_mat(mat(root), masks)
    video = jhmdb.read_ground_truth(root).videos["wave/x"]
    with pytest.raises(UserError, match=words) as error:
        video.tubes[0].masks[0]
    assert str(mat(root)) in str(error.value)


def test_real_numbers_are_no_mask(root):
    scipy.io.savemat(mat(root), {"part_mask": square_masks(5).transpose(1, 2, 0) * 0.5})
    with pytest.raises(UserError, match="is float64"):
        jhmdb.read_masks(mat(root))


def test_other_folders_are_other_classes(tmp_path):
    write_set(
        tmp_path, {"juggle/a": (square_masks(3), "train"), "catch/b": (square_masks(3), "test")}
    )
    truth = jhmdb.read_ground_truth(tmp_path)
    assert truth.classes == ("catch", "juggle") and truth.dataset == "own"


def test_the_annotation_file_keeps_masks(root, tmp_path):
    truth = jhmdb.read_ground_truth(root)
    save(truth, tmp_path / "annotations.pkl")
    again = load(tmp_path / "annotations.pkl")
    for name, video in truth.videos.items():
        assert np.array_equal(again.videos[name].tubes[0].masks[:], video.tubes[0].masks[:])
    assert (
        pickle.loads(pickle.dumps(truth)).videos["wave/x"].tubes[0].masks[17].sum() == 64
    )  # to worker processes


# ---- splits ----


def names(truth):
    return set(truth.videos)


def test_the_two_forms_of_the_split_files(root):
    train, test = (
        names(jhmdb.read_ground_truth(root, part=part)) for part in ("train", "test")
    )
    assert train == {"run/fast_run_1", "catch/ball_(2)"} and test == {"catch/@20_!", "wave/x"}
    for part in ("train", "test"):
        (root / f"{part}list_split1.txt").unlink()
    folder = root / "splits"
    folder.mkdir()
    for name in ("run", "catch", "wave"):
        lines = [
            f"{clip.partition('/')[2]}.avi {1 if part == 'train' else 2}\n"
            for clip, part in CLIPS.items()
            if clip.startswith(name)
        ]
        (folder / f"{name}_test_split1.txt").write_text("".join(lines))
        (folder / f"{name}_test_split2.txt").write_text(
            "".join(lines).translate(str.maketrans("12", "21", ""))
        )
    assert names(jhmdb.read_ground_truth(root, part="train")) == train
    assert names(jhmdb.read_ground_truth(root, part="test")) == test


def test_split_numbers_pick_their_files(root):
    for part, listed in (("train", "wave/x\n"), ("test", "run/fast_run_1.avi\n\n")):
        (root / f"{part}list_split2.txt").write_text(listed)
    assert names(jhmdb.read_ground_truth(root, part="train", split=2)) == {"wave/x"}
    assert names(jhmdb.read_ground_truth(root, part="test", split=2)) == {"run/fast_run_1"}


def test_an_own_test_list_leaves_the_others_to_train_on(root):
    (root / "mine.txt").write_text("wave/x\n")
    assert names(jhmdb.read_ground_truth(root, root / "mine.txt", "test")) == {"wave/x"}
    assert names(jhmdb.read_ground_truth(root, root / "mine.txt", "train")) == set(CLIPS) - {
        "wave/x"
    }


def test_what_is_wrong_with_splits_is_named(root):
    def error(part="train", **how):
        with pytest.raises(UserError) as caught:
            jhmdb.read_ground_truth(root, part=part, **how)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "part 'val'" in error("val")
    assert (
        "trainlist_split3.txt and testlist_split3.txt nor splits/catch_test_split3.txt"
        in error(split=3)
    )
    (root / "testlist_split1.txt").write_text("wave/x\nrun/fast_run_1\n")
    assert "run/fast_run_1 is in both parts" in error()
    (root / "testlist_split1.txt").write_text("wave/y\n")
    assert "1 of 1 clips have no mask" in error("test") and "wave/y" in error("test")
    (root / "testlist_split1.txt").write_text("\n")
    assert "names no clip of the test part" in error("test")
    (root / "testlist_split1.txt").write_bytes(b"\xff\xfea")
    assert "cannot be read" in error("test")
    assert "cannot be read" in error("test", test_list=root / "none.txt")
    for part in ("train", "test"):
        (root / f"{part}list_split1.txt").unlink()
    (root / "splits").mkdir()
    for line in ("ball_(2).avi 3", "ball_(2).avi", "1", "a b 12"):
        (root / "splits" / "catch_test_split1.txt").write_text(line)
        assert f"line '{line}' is not" in error()


def test_no_mask_at_all(tmp_path):
    with pytest.raises(UserError, match="no puppet_mask/<class>/<clip>/puppet_mask.mat there"):
        jhmdb.read_ground_truth(tmp_path)


# ---- videos ----


@pytest.mark.parametrize(
    "layout", ["", "videos", "ReCompress_Videos", "JHMDB_video/ReCompress_Videos"]
)
def test_videos_are_found_as_the_download_unpacks(tmp_path, layout):
    (tmp_path / layout / "catch").mkdir(parents=True)
    write_video(tmp_path / layout / "catch" / "ball_(2).avi", gray_frames(3))
    path = jhmdb.find_video(tmp_path, "catch/ball_(2)")
    assert path == tmp_path / layout / "catch" / "ball_(2).avi" and probe(path) == (3, 48, 64)
    assert jhmdb.scan_videos(tmp_path) == ["catch/ball_(2)"]


@pytest.mark.parametrize("layout", ["", "Rename_Images"])
def test_images_are_found_too(tmp_path, layout):
    write_pngs(tmp_path / layout / "catch" / "ball", gray_frames(12))
    write_pngs(tmp_path / layout / "catch" / ".hidden", gray_frames(1))
    path = jhmdb.find_video(tmp_path, "catch/ball")
    assert probe(path) == (12, 48, 64) and numbers(read_frames(path, [11, 2], 12)) == [11, 2]
    assert jhmdb.scan_videos(tmp_path) == ["catch/ball"]


def test_a_missing_video_is_named_with_where_it_was_looked_for(tmp_path):
    (tmp_path / "catch" / "ball").mkdir(parents=True)  # no PNG in it
    with pytest.raises(
        UserError, match="video catch/ball: no file .*catch/ball.avi and no folder of images"
    ) as error:
        jhmdb.find_video(tmp_path, "catch/ball")
    assert "Rename_Images/" in str(error.value) and "--data" in str(error.value)
    with pytest.raises(UserError, match="or folder of images there"):
        jhmdb.scan_videos(tmp_path)
    for name in ("../secret", "catch/../../x", "a\\b", "/etc/passwd"):
        with pytest.raises(UserError, match="leads out of"):
            jhmdb.find_video(tmp_path, name)


def test_the_geometry_is_resize_and_crop():
    assert GEOMETRY["full", jhmdb.CROPS[0]] == ClipGeometry((256, 256), (224, 224), 224)
    small = GEOMETRY["small", jhmdb.CROPS[0]]
    assert small.size == GEOMETRY["small", "wide"].size == small.crop[0] == small.crop[1]
    assert small.frame[0] / small.size == pytest.approx(256 / 224, abs=0.01)


# ---- the real thing ----


@pytest.fixture(scope="module")
def real(shared_data):
    return {
        part: jhmdb.read_ground_truth(shared_data / "jhmdb", part=part)
        for part in ("train", "test", "all")
    }


def test_counts_of_the_real_split(real):
    assert {part: len(truth.videos) for part, truth in real.items()} == {
        "train": 660,
        "test": 268,
        "all": 928,
    }
    assert {part: truth.total_frames() for part, truth in real.items()} == {
        "train": 22712,
        "test": 9126,
        "all": 31838,
    }
    assert names(real["train"]) | names(real["test"]) == names(real["all"])
    lengths = [video.frames for video in real["all"].videos.values()]
    assert (min(lengths), max(lengths)) == (15, 40)
    assert {(v.height, v.width) for v in real["all"].videos.values()} == {(240, 320)}
    assert {v.label for v in real["train"].videos.values()} == set(range(21))


def test_the_budget_of_a_cycle(real):
    train = real["train"]
    budget = cycle_budget(
        len(train.videos),
        train.total_frames(),
        BudgetSettings(f"{jhmdb.VIDEOS_PERCENT}%", f"{jhmdb.FRAMES_PERCENT}%"),
    )
    assert (budget.videos, budget.frames) == (33, 34)


def test_real_masks_are_those_of_the_files(real, shared_data):
    for name in list(real["all"].videos)[::150]:
        masks = scipy.io.loadmat(shared_data / "jhmdb/puppet_mask" / name / "puppet_mask.mat")[
            "part_mask"
        ]
        (tube,) = real["all"].videos[name].tubes
        assert np.array_equal(tube.masks[:], masks.transpose(2, 0, 1).astype(bool))


def test_the_real_clip_has_as_many_frames_as_its_mask(real, shared_data):
    name = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"
    video = real["all"].videos[name]
    path = jhmdb.find_video(shared_data / "jhmdb", name)
    assert probe(path) == (video.frames, video.height, video.width) == (40, 240, 320)
