"""From the name of a data set, as the scripts' --dataset takes it, to the module that reads
it.

Such a module has NAME (as annotation files and checkpoints call it), CLASSES, DATA (default
folder), VIDEOS_PERCENT and FRAMES_PERCENT (the paper's budget of a cycle), CROPS (of
datasets.clips.GEOMETRY, the default first), ANSWERS (what actors are marked with, see
oracle.request_form), read_ground_truth, find_video and scan_videos.
"""

import functools
from pathlib import Path

from claus.datasets import jhmdb, ucf101
from claus.utils.runtime import UserError

MODULES = {"ucf101": ucf101, "jhmdb": jhmdb}
SPLITS = (1, 2, 3)  # of J-HMDB; UCF-101-24 has one list of test videos


def add_flags(add, dataset=None):
    """Give a parser, by its `add_argument`, the flags that say which data set (if it is not
    known), and where it is.
    """
    if dataset is None:
        add(
            "--dataset",
            choices=MODULES,
            default="ucf101",
            help="data set (default: %(default)s)",
        )
    add(
        "--data",
        help="folder with the videos, as the download unpacks (default: "
        f"{', '.join(MODULES[name].DATA for name in MODULES if dataset in (None, name))})",
    )


def add_truth_flags(add, required):
    """The flags that say where the ground truth lies, and what of it is the test part."""
    add(
        "--oracle",
        required=required,
        help="ground truth of all videos: pyannot.pkl; for jhmdb the folder that holds "
        "puppet_mask/ and the splits",
    )
    add_split_flags(add)


def add_split_flags(add):
    add(
        "--test-list",
        help="text file naming the test videos (testlist01.txt); for jhmdb, instead of a split",
    )
    add("--split", type=int, choices=SPLITS, help="official split, jhmdb alone (default: 1)")


def check_flags(args, parser, needs_list=False):
    """Fill in --data where it was not given; stop where flags do not belong to the data set."""
    args.data = args.data or MODULES[args.dataset].DATA
    if not hasattr(args, "split"):
        return
    if args.dataset == "ucf101":
        if args.split is not None:
            parser.error("--split is for --dataset jhmdb; ucf101 has --test-list")
        if needs_list and not args.test_list:
            parser.error(
                "--dataset ucf101 needs --test-list, the text file naming the test "
                "videos (testlist01.txt)"
            )
    elif args.split is None:
        args.split = 1
    elif args.test_list:
        parser.error("give --split or --test-list, not both")


def read_ground_truth(args, part):
    """Dense ground truth, part "train", "test" or "all", as --dataset, --oracle,
    --test-list and --split say.
    """
    if args.dataset == "ucf101" and Path(args.oracle).is_dir():
        raise UserError(
            f"{args.oracle} is a folder, --dataset ucf101 reads the file pyannot.pkl; "
            f"give that, or "
            "--dataset jhmdb for a folder with puppet_mask/"
        )
    more = {} if args.split is None else {"split": args.split}
    return MODULES[args.dataset].read_ground_truth(args.oracle, args.test_list, part, **more)


def video_finder(args):
    """Function from a video's name to its path below --data."""
    return functools.partial(MODULES[args.dataset].find_video, args.data)


def check_same(dataset, stored, path):
    """UserError where a file says it is of another data set; "own", or one not known here,
    may be either.
    """
    for name, module in MODULES.items():
        if stored == module.NAME and name != dataset:
            raise UserError(
                f"{path} is of {stored}, not of {MODULES[dataset].NAME}; give "
                f"--dataset {name} (training: "
                f"train_{name}.py), or another --run"
            )
