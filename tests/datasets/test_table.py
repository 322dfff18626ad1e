"""The table of data sets: what each declares, how its truth and videos are found, and the
default folders.
"""

import argparse
import inspect
import pickle

import numpy as np
import pytest
from jhmdb_maker import square_masks, write_set

from claus.datasets import jhmdb, table, ucf101
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.layouts import default_folder, find_below, scan_below
from claus.flags.common import add_dataset_flags, add_split_flags, truth_words
from claus.steps import cycles
from claus.utils.runtime import UserError


@pytest.fixture
def ucf(tmp_path):
    """(pyannot.pkl, testlist01.txt) of two videos, of which one is a test video."""
    tube = {"sf": 0, "ef": 2, "label": 2, "boxes": np.full((2, 4), 5, np.uint8)}
    entry = {"numf": 4, "label": 2, "annotations": [tube]}
    path, test_list = tmp_path / "pyannot.pkl", tmp_path / "testlist01.txt"
    path.write_bytes(pickle.dumps({"Biking/a": entry, "Biking/b": entry}))
    test_list.write_text("Biking/b\n")
    return path, test_list


@pytest.mark.parametrize("name", table.DATASETS)
def test_every_data_set_declares_all_that_is_asked_of_it(name):
    module = table.DATASETS[name]
    assert module.NAME.startswith(name) and len(set(module.CLASSES)) == len(module.CLASSES)
    assert module.DATA.startswith("data/") and module.ANSWERS in ("boxes", "masks")
    for crop in module.CROPS:
        assert ("full", crop) in GEOMETRY and ("small", crop) in GEOMETRY
    for percent in (module.VIDEOS_PERCENT, module.FRAMES_PERCENT):
        assert isinstance(percent, str) and 0 < float(percent) <= 100
    asked = list(inspect.signature(module.read_ground_truth).parameters)
    assert asked[1:4] == ["test_list", "part", "split"]
    assert list(inspect.signature(module.find_video).parameters) == ["root", "name"]
    for asked in (module.scan_videos, module.survey_videos):
        assert list(inspect.signature(asked).parameters) == ["root", "any_folder"]


def test_truth_of_boxes_comes_from_a_list_and_truth_of_masks_from_a_split(ucf, tmp_path):
    names = {}
    for part in ("train", "test", "all"):
        names[part] = list(table.read_ground_truth("ucf101", *ucf, None, part).videos)
    assert names == {
        "train": ["Biking/a"],
        "test": ["Biking/b"],
        "all": ["Biking/a", "Biking/b"],
    }
    clips = {"run/x": (square_masks(9), "train"), "wave/y": (square_masks(9), "test")}
    write_set(tmp_path, clips)
    test = table.read_ground_truth("jhmdb", tmp_path, None, 1, "test")
    assert list(test.videos) == ["wave/y"]
    with pytest.raises(UserError, match="split2"):
        table.read_ground_truth("jhmdb", tmp_path, None, 2, "test")
    with pytest.raises(UserError, match="has none; give a list"):
        table.read_ground_truth("ucf101", *ucf, 2, "test")
    with pytest.raises(UserError, match="is a folder.*--dataset jhmdb"):
        table.read_ground_truth("ucf101", tmp_path)


def test_a_video_is_found_below_the_folder_given(tmp_path):
    (tmp_path / "videos" / "Biking").mkdir(parents=True)
    path = tmp_path / "videos" / "Biking" / "a.avi"
    path.touch()
    assert table.video_finder("ucf101", tmp_path)("Biking/a") == path
    with pytest.raises(UserError, match="video Biking/b: no file"):
        table.video_finder("jhmdb", tmp_path)("Biking/b")


@pytest.mark.parametrize(
    "stored, refused",
    [("jhmdb-21", True), ("ucf101-24", False), ("own", False), ("charades", False)],
)
def test_a_file_of_another_data_set_of_the_table_is_refused(stored, refused):
    if not refused:
        table.check_same("ucf101", stored, "detector.pt")
        return
    with pytest.raises(UserError, match="detector.pt is of jhmdb-21.*--dataset jhmdb"):
        table.check_same("ucf101", stored, "detector.pt")


@pytest.mark.parametrize(
    "dataset, split, test_list, needs_list, expected",
    [
        ("ucf101", None, "list.txt", True, None),
        ("ucf101", None, None, False, None),
        ("ucf101", None, None, True, "needs --test-list"),
        ("ucf101", 1, None, False, "--split is for --dataset jhmdb"),
        ("jhmdb", None, None, True, 1),
        ("jhmdb", 3, None, True, 3),
        ("jhmdb", None, "list.txt", True, 1),
        ("jhmdb", 2, "list.txt", True, "not both"),
        ("jhmdb", 4, None, True, "one of 1, 2, 3"),
    ],
)
def test_split_and_test_list_suit_the_data_set(dataset, split, test_list, needs_list, expected):
    asked = dataset, split, test_list, needs_list
    if not isinstance(expected, str):
        assert table.check_split(*asked) == expected
        return
    with pytest.raises(ValueError, match=expected):
        table.check_split(*asked)


def test_data_lie_in_data_and_in_the_older_folder_where_only_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert table.data_folder("ucf101") == "data/UCF101" == default_folder(ucf101.DATA)
    (tmp_path / "Datasets" / "UCF101").mkdir(parents=True)
    assert table.data_folder("ucf101") == "Datasets/UCF101"
    assert table.data_folder("jhmdb") == "data/JHMDB" == jhmdb.DATA
    (tmp_path / "data" / "UCF101").mkdir(parents=True)
    assert table.data_folder("ucf101") == "data/UCF101", "the new folder comes first"


@pytest.mark.parametrize("root", ["data/UCF101", "Datasets/UCF101"])
def test_a_missing_default_folder_is_named_with_the_other_one(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    both = "data/UCF101 or Datasets/UCF101, or name their folder with --data"
    with pytest.raises(UserError, match=both):
        scan_below(root, ucf101.LAYOUTS)
    with pytest.raises(UserError, match=both):
        find_below(root, "Biking/a", ucf101.LAYOUTS)
    with pytest.raises(UserError, match="; name the videos' folder with --data"):
        scan_below(tmp_path, ucf101.LAYOUTS)


def test_the_flags_take_every_data_set_of_the_table():
    parser = argparse.ArgumentParser()
    add_dataset_flags(parser.add_argument)
    add_split_flags(parser.add_argument)
    shown = " ".join(parser.format_help().split())
    for name, module in table.DATASETS.items():
        assert name in shown and module.DATA in shown and module.TRUTH in truth_words()


def test_a_data_set_without_a_script_is_trained_by_the_first(monkeypatch):
    monkeypatch.setitem(table.DATASETS, "mine", table.DATASETS["ucf101"])
    assert table.training_script("jhmdb") == ["train_jhmdb.py"]
    assert table.training_script("mine") == ["train_ucf101.py", "--dataset", "mine"]
    train = cycles.step("train", "mine")
    assert train.script.name == "train_ucf101.py"
    words = ["--run", "r", "--device", "cpu", "--dataset", "mine"]
    assert train.parse(words).place.dataset == "mine"
