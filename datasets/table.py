"""DATASETS: every data set that the scripts' --dataset takes, and what is asked of all alike.

A data set is a module and one line of the table. The module declares

    NAME             what annotation files and checkpoints call it, such as "ucf101-24"
    CLASSES          class names, in the order of their labels
    DATA             default folder of its videos, "data/<folder>"
    ANSWERS          "boxes" or "masks": what actors are marked with
    VIDEOS_PERCENT   the paper's budget of a cycle, percent of the training videos, a text
    FRAMES_PERCENT   and of their frames
    CROPS            keys of clips.geometry.GEOMETRY, the default first
    SPLITS           numbers of its official splits, the default first; () where a list of
                     test videos says which they are
    TRUTH            what --oracle names, for messages

    read_ground_truth(path, test_list, part, split) -> Annotations, every frame labeled
    find_video(root, name) -> Path of a video, a file or a folder of images
    LAYOUTS          folders that may lie between root and <Class>/<name>
    scan_videos(root, any_folder) -> sorted names of the videos below root
    survey_videos(root, any_folder) -> layouts.Survey: these, and what was passed over
"""

import functools
from collections.abc import Callable
from pathlib import Path

from claus.datasets import jhmdb, ucf101
from claus.datasets.labels.annotations import Annotations
from claus.datasets.layouts import default_folder
from claus.utils.runtime import UserError

DATASETS = {"ucf101": ucf101, "jhmdb": jhmdb}
OWN_CROP = "whole"  # of videos of one's own
# training scripts by data set; train_ucf101.py --dataset NAME trains on every other
TRAINING_SCRIPTS = {"ucf101": "train_ucf101.py", "jhmdb": "train_jhmdb.py"}


def read_ground_truth(
    dataset: str,
    oracle: str | Path,
    test_list: str | Path | None = None,
    split: int | None = None,
    part: str = "all",
) -> Annotations:
    """Dense ground truth of one part ("train", "test" or "all") of a data set.

    oracle: the file or folder that TRUTH of its module describes. test_list: text file with
    the test videos, one a line; split: number of an official split (None: the first).
    Raises UserError naming the file and what to give instead.
    """
    return DATASETS[dataset].read_ground_truth(oracle, test_list, part, split)


def video_finder(dataset: str, folder: str | Path) -> Callable[[str], Path]:
    """Function from the name of a video to its path below `folder`; it raises UserError
    where there is none.
    """
    return functools.partial(DATASETS[dataset].find_video, folder)


def data_folder(dataset: str) -> str:
    """Where the videos of a data set lie if --data does not say: "data/<folder>", or
    "Datasets/<folder>" where only that exists.
    """
    return default_folder(DATASETS[dataset].DATA)


def training_script(dataset: str) -> list[str]:
    """The words of a command line that train on a data set: a script, and where it has none
    of its own, --dataset.
    """
    if dataset in TRAINING_SCRIPTS:
        return [TRAINING_SCRIPTS[dataset]]
    return [TRAINING_SCRIPTS["ucf101"], "--dataset", dataset]


def check_same(dataset: str, stored: str, path: str | Path) -> None:
    """Raise UserError where a file says it is of another data set.

    stored: NAME as the file has it; "own", or one that is not in the table, may be either.
    """
    for name, module in DATASETS.items():
        if stored == module.NAME and name != dataset:
            raise UserError(
                f"{path} is of {stored}, not of {DATASETS[dataset].NAME}; "
                f"give --dataset {name} (training: {' '.join(training_script(name))}), "
                "or another --run"
            )


def default_crop(stored: str, dataset: str | None = None) -> str:
    """The --crop of a data set, by NAME as a file has it: the published one, where its
    protocol scores; the whole frame for "own" videos. dataset: of the table, for a NAME that
    is not in it.
    """
    if stored == "own":
        return OWN_CROP
    named = [module for module in DATASETS.values() if module.NAME == stored]
    named += [DATASETS[dataset]] if dataset else []
    return named[0].CROPS[0] if named else OWN_CROP


def check_split(
    dataset: str,
    split: int | None,
    test_list: str | Path | None,
    needs_list: bool = False,
) -> int | None:
    """The split to use: `split`, or the first official one; None where there are none.

    Raises ValueError where --split and --test-list do not suit the data set. needs_list:
    a data set without splits must have a list of test videos.
    """
    splits = DATASETS[dataset].SPLITS
    if split is not None and split not in splits:
        raise ValueError(_wrong_split(dataset, splits))
    if not splits:
        if needs_list and not test_list:
            raise ValueError(
                f"--dataset {dataset} needs --test-list, the text file naming the test "
                "videos (testlist01.txt)"
            )
        return None
    if split is not None and test_list:
        raise ValueError("give --split or --test-list, not both")
    return splits[0] if split is None else split


def _wrong_split(dataset, splits):
    if splits:
        return f"--split of {dataset} is one of {', '.join(map(str, splits))}"
    others = [name for name, module in DATASETS.items() if module.SPLITS]
    return f"--split is for --dataset {' or '.join(others)}; {dataset} has --test-list"
