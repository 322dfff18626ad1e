"""J-HMDB-21: its puppet masks in the official layout, its splits, and where its videos lie
on disk.

    <root>/puppet_mask/<class>/<clip>/puppet_mask.mat
        key part_mask, uint8 {0,1}, height x width x frames
    <root>/trainlist_split1.txt, testlist_split1.txt
        "<class>/<clip>" a line; or, as the download has it,
    <root>/splits/<class>_test_split1.txt
        "<clip>.avi 1" (training) or "<clip>.avi 2" (test) a line

A clip has one actor, in every frame, and as many frames as its mask. Split 1 has 660 clips
with 22,712 frames to train on and 268 with 9,126 to test on. A file of masks is read when
the first of its masks is needed.
"""

import functools
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import scipy.io

from claus.datasets.labels.annotations import Annotations, Tube, Video, naming
from claus.datasets.labels.masks import PackedMasks
from claus.datasets.labels.name_list import Names, find_names, read_lines, without_ending
from claus.datasets.layouts import Survey, find_below, scan_below, survey_below
from claus.utils.runtime import UserError

CLASSES = (
    "brush_hair",
    "catch",
    "clap",
    "climb_stairs",
    "golf",
    "jump",
    "kick_ball",
    "pick",
    "pour",
    "pullup",
    "push",
    "run",
    "shoot_ball",
    "shoot_bow",
    "shoot_gun",
    "sit",
    "stand",
    "swing_baseball",
    "throw",
    "walk",
    "wave",
)
KEY = "part_mask"
NAME, DATA, ANSWERS = "jhmdb-21", "data/JHMDB", "masks"
TRUTH = "the folder that holds puppet_mask/ and the splits"
# V and A of a cycle (paper): 33 clips and 34 frames of split 1
VIDEOS_PERCENT, FRAMES_PERCENT = "5", "3"
CROPS = ("jhmdb", "whole", "letterbox")  # of clips.geometry.GEOMETRY
SPLITS = (1, 2, 3)
# folders between the root and <class>/<clip>.avi or <class>/<clip>/00001.png: videos and
# images as downloads unpack
LAYOUTS = ("", "videos", "ReCompress_Videos", "JHMDB_video/ReCompress_Videos", "Rename_Images")


def read_ground_truth(
    root: str | Path,
    test_list: str | Path | None = None,
    part: str = "all",
    split: int | None = None,
    clips: Iterable[str] | None = None,
) -> Annotations:
    """Dense ground truth: every frame of every clip is labeled, its mask in one tube.

    root: folder with puppet_mask/ and, for the parts train and test, the lists of `split`
    (one of SPLITS; None: 1) in one of the two forms above. test_list: a text file with a
    "<class>/<clip>" a line, instead of these: the listed clips are the test part, all others
    the training part. clips: names to keep; the masks of all others are not opened. Returns
    Annotations, clips sorted by name; masks are checked (0 and 1, none empty) when they are
    read. Raises UserError naming the file.
    """
    if part not in ("train", "test", "all"):
        raise UserError(f"part {part!r}: give train, test or all")
    files = mask_files(root)
    names = sorted(files)
    if part != "all":
        split = SPLITS[0] if split is None else split
        names = sorted(_part(Path(root), names, test_list, part, split))
    if clips is not None:
        names = sorted(set(names) & set(clips))
    classes = tuple(sorted({name.partition("/")[0] for name in files}))
    classes = CLASSES if set(classes) <= set(CLASSES) else classes
    videos = {name: _video(name, files[name], classes) for name in names}
    return Annotations(NAME if classes == CLASSES else "own", classes, videos)


def mask_files(root: str | Path) -> dict[str, Path]:
    """{"<class>/<clip>": its puppet_mask.mat} of all clips below `root`; UserError if none."""
    files = {
        f"{path.parts[-3]}/{path.parts[-2]}": path
        for path in Path(root).glob("puppet_mask/*/*/puppet_mask.mat")
    }
    if files:
        return files
    if Path(root).is_file():
        raise UserError(f"{root} is a file; give the folder above puppet_mask/")
    raise UserError(
        f"{root}: no puppet_mask/<class>/<clip>/puppet_mask.mat there; unpack "
        "puppet_mask.zip of J-HMDB there, or correct the path"
    )


def find_video(root: str | Path, name: str) -> Path:
    """Path of a clip, `<root>/<layout>/<name>.avi` or the folder `<root>/<layout>/<name>/`
    of images; UserError if none.

    The first of LAYOUTS that has either is taken.
    """
    return find_below(root, name, LAYOUTS, images=True)


def scan_videos(root: str | Path, any_folder: bool = False) -> list[str]:
    """Sorted names "<class>/<clip>" of the clips in the first of LAYOUTS that has any;
    any_folder, and what else: see layouts.survey_below. UserError if none has.
    """
    return scan_below(root, LAYOUTS, images=True, any_folder=any_folder)


def survey_videos(root: str | Path, any_folder: bool = False) -> Survey:
    """scan_videos, with what was passed over."""
    return survey_below(root, LAYOUTS, images=True, any_folder=any_folder)


def _video(name, path, classes):
    """Video, all its frames labeled; of its masks only the header is read."""
    with naming(str(path)):
        shape = _mask_shape(path)
        label, frames = classes.index(name.partition("/")[0]), np.arange(shape[0])
        masks = PackedMasks(shape, functools.partial(read_masks, path))
        tube = Tube(label, 1, frames, masks=masks)
        return Video(name, *shape, label, frames, (tube,))


# ------------------------------------------------------------------------------------ masks


def read_masks(path: str | Path) -> np.ndarray:
    """Masks (F,H,W) bool of one puppet_mask.mat; UserError unless it is zeros and ones and
    every frame has an actor.
    """
    try:
        masks = scipy.io.loadmat(path, variable_names=[KEY])[KEY]
    except KeyError as error:
        raise UserError(
            f"{path}: has no '{KEY}'; unpack puppet_mask.zip of J-HMDB again"
        ) from error
    except Exception as error:  # a damaged file raises nearly anything
        raise _unreadable(path, error) from error
    masks = masks[..., None] if masks.ndim == 2 else masks
    if masks.ndim != 3 or masks.dtype.kind not in "bu" or masks.max() > 1:
        raise UserError(
            f"{path}: {KEY} is {masks.dtype} {masks.shape} with values up to {masks.max()}; "
            "give height x width x frames of 0 and 1"
        )
    masks = np.ascontiguousarray(masks.transpose(2, 0, 1)).astype(bool)
    empty = ~masks.any(axis=(1, 2))
    if empty.any():
        raise UserError(
            f"{path}: frame {empty.argmax()} has no actor; J-HMDB has one in every frame"
        )
    return masks


def _mask_shape(path):
    """(frames, height, width) of the masks in a file, from its first bytes where they hold
    it.
    """
    try:
        with open(path, "rb") as file:
            shape = _shape_in_header(file.read(4096))
        if shape is None:
            shapes = {name: shape for name, shape, _ in scipy.io.whosmat(path)}
            shape = shapes.get(KEY)
    except Exception as error:
        raise _unreadable(None, error) from error
    if shape is None or len(shape) not in (2, 3) or not all(shape):
        raise UserError(
            f"has no '{KEY}' of height x width x frames; unpack puppet_mask.zip of J-HMDB again"
        )
    height, width, frames = (*shape, 1)[:3]
    return frames, height, width


def _shape_in_header(head):
    """Shape of the first variable of a MATLAB 5 file, if that is `part_mask` of three
    dimensions; None otherwise.
    """
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    if order is None or len(head) < 136:
        return None
    body = head[128:]
    if struct.unpack(order + "I", body[:4])[0] == 15:  # a compressed variable
        body = zlib.decompressobj().decompress(body[8:], 256)
    if len(body) < 56 + len(KEY):
        return None
    # tags (type, bytes): the variable, 8 bytes of flags, three int32 of shape and padding,
    # the name
    tags = [struct.unpack(order + "II", body[at : at + 8]) for at in (0, 8, 24, 48)]
    kinds = tags[0][0], *tags[1:]
    if kinds != (14, (6, 8), (5, 12), (1, len(KEY))):
        return None
    if body[56 : 56 + len(KEY)] != KEY.encode():
        return None
    return struct.unpack(order + "3I", body[32:44])


def _unreadable(path, error):
    reason = getattr(error, "strerror", None) or "not a MATLAB file, or a damaged one"
    where = f"{path}: " if path else ""
    return UserError(
        f"{where}cannot be read ({reason.lower()}); unpack puppet_mask.zip of J-HMDB again"
    )


# ----------------------------------------------------------------------------------- splits


def _part(root, names, test_list, part, split):
    """Names of the clips of a part; UserError where the lists do not fit each other or the
    masks.
    """
    if test_list is not None:
        test = _read_list(test_list, names, root)
        rest = sorted(set(names) - set(test))
        lists = {"test": (test, test_list), "train": (rest, test_list)}
    else:
        lists = _official_lists(root, names, split)
    both = set(lists["train"][0]) & set(lists["test"][0])
    if both:
        raise UserError(
            f"{root}: {min(both)} is in both parts of split {split}; get the split files again"
        )
    listed, source = lists[part]
    if not listed:
        raise UserError(
            f"{source}: names no clip of the {part} part; get the split files again"
        )
    missing = sorted(set(listed) - set(names))
    if missing:
        raise UserError(
            f"{source}: {len(missing)} of {len(listed)} clips have no mask below "
            f"{root / 'puppet_mask'}, the first is {missing[0]}; "
            "unpack puppet_mask.zip again, or correct the list"
        )
    return set(listed)


def _official_lists(root, names, split):
    """part -> (names, where they come from), of split `split`."""
    known = Names(names)
    flat = {part: root / f"{part}list_split{split}.txt" for part in ("train", "test")}
    if all(path.is_file() for path in flat.values()):
        return {part: (_official_list(path, known), path) for part, path in flat.items()}
    lists, folder = {"train": [], "test": []}, root / "splits"
    for name in sorted({name.partition("/")[0] for name in names}):
        path = folder / f"{name}_test_split{split}.txt"
        if not path.is_file():
            raise UserError(
                f"{root}: neither {flat['train'].name} and {flat['test'].name} nor "
                f"splits/{path.name} is there; unpack the splits of J-HMDB there, or name "
                "a test list"
            )
        for line in _lines(path):
            found = re.fullmatch(r"(.*\S)\s+([12])", line)
            if not found:
                raise UserError(
                    f'{path}: line {line!r} is not "<clip>.avi 1" (training) or '
                    f'"<clip>.avi 2" (test)'
                )
            part = "train" if found[2] == "1" else "test"
            lists[part].append(_known(f"{name}/{found[1]}", known))
    return {part: (listed, folder) for part, listed in lists.items()}


def _official_list(path, known):
    """Names of a list of clips; those that have no mask as they are written."""
    return [_known(line, known) for line in _lines(path)]


def _known(text, known):
    found = known.find(text)
    return found[0] if len(found) == 1 else without_ending(text)


def _read_list(path, names, root):
    """Names of a list of test clips, each of which must have masks."""
    where = f"with a mask below {Path(root) / 'puppet_mask'}"
    fix = "correct the list, or unpack puppet_mask.zip again"
    known = Names(names)
    return find_names(path, known, what="list of clips", where=where, fix=fix, kind="clip")


def _lines(path):
    """Lines of an official list that are not blank, stripped."""
    lines = read_lines(path, "list of clips", "get the split files of J-HMDB again")
    return [line.text.strip() for line in lines]
