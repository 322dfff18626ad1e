"""The published lists of semi-supervised training -> Annotations: which videos are
labeled, and which are not.

UCF-101-24: pickles in the older list format (see datasets/labels/list_format.py). J-HMDB-21: text,
one `class/clip` a line; the labels of the listed clips are their puppet masks. Of an
unlabeled list nothing but the names is read; length and size of its videos are counted
from the videos.
"""

import functools
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from claus.datasets import jhmdb, ucf101
from claus.datasets.labels.annotations import Video, naming
from claus.datasets.labels.list_format import from_records, tube_records
from claus.datasets.labels.name_list import MARKS, Names, find_names, without_ending
from claus.datasets.own_videos import count_frames
from claus.datasets.video.reader import SHORT_TAIL
from claus.utils.runtime import UserError
from claus.utils.safe_pickle import safe_load


@dataclass(frozen=True)
class Lists:
    """Where the lists lie, and how they are read; see read_lists."""

    pkl_file_label: str | None
    pkl_file_unlabel: str | None
    boxes_from: int | None
    oracle: str | None  # folder with puppet_mask/, for jhmdb


def read_lists(
    dataset,
    labeled,
    unlabeled,
    find_video,
    known,
    masks=None,
    strict=False,
    boxes_from=None,
    names=None,
):
    """(Annotations of the listed videos, failed {name: reason}).

    labeled, unlabeled: paths of the two lists; unlabeled may be None. known: see
    datasets.own_videos.read_pool. masks: folder with puppet_mask/, for jhmdb. boxes_from: 0 or 1,
    the first pixel of a row in ucf101's boxes; None: 1 unless a box of the list touches 0.
    names: name_list.Names of the videos on disk (None: as find_video finds them); a line of a
    text that is none of them is an error, a name of a pickle is in `failed`.
    A video of the labeled list of which no tube is labeled is an unlabeled one; where
    only some are, the labeled frames near the others are dropped (see from_records), and a
    line says how many. Raises UserError for a list that is empty or not to be read, for a
    video that is in both as labeled, and where none of the unlabeled videos can be read.
    """
    names = names or video_names((), find_video)
    others = read_names(unlabeled, names, "unlabeled list") if unlabeled else []
    if unlabeled and not others:
        raise UserError(
            f"{unlabeled}: the unlabeled list is empty; name videos in it, or give "
            f"--method supervised"
        )
    if dataset == "jhmdb":
        labels, failed = _jhmdb(
            read_names(labeled, Names(jhmdb.mask_files(masks)), "labeled list", masks),
            others,
            labeled,
            masks,
            find_video,
            known,
            strict,
        )
    else:
        labels, failed = _ucf101(
            [(spelled(name, names), tubes) for name, tubes in read_records(labeled)],
            others,
            labeled,
            find_video,
            known,
            strict,
            boxes_from,
        )
    if others and all(video.is_labeled for video in labels.videos.values()):
        raise UserError(
            f"{unlabeled}: none of its {len(others)} videos can be read ({failed[others[0]]})"
        )
    return labels, failed


def video_names(names, find_video, root=None, layouts=()):
    """name_list.Names of videos on disk; of others find_video is asked."""
    return Names(names, root, layouts, functools.partial(_exists, find_video))


def _exists(find_video, name):
    try:
        return bool(find_video(name))
    except UserError:
        return False


def spelled(name, names):
    """A name of a pickle as the known Names have it; as it is where they do not know it."""
    found = names.find(str(name))
    return found[0] if len(found) == 1 else without_ending(str(name))


def read_names(path, names, what, masks=None):
    """Names of a list, in its order: of a pickle [(name, ...), ...] or [name, ...], or a
    text with one a line. names: the known ones, see name_list.Names; masks: folder of their
    masks, where they are those of masks.
    """
    if is_text(path):
        where = f"with a mask below {masks}" if masks else "below the folder of --data"
        fix = "correct the list, or name the folder with --oracle or --data"
        return find_names(path, names, what=what, where=where, fix=fix, once=True)
    records = read_records(path, names=True)
    listed = [entry if isinstance(entry, str) else entry[0] for entry in records]
    listed = [spelled(name, names) for name in listed]
    twice = [name for name, times in Counter(listed).items() if times > 1]
    if twice:
        raise UserError(f"{path}: video {twice[0]} is listed twice; name it once")
    return listed


def is_text(path):
    """Whether a list is text: no NUL in it, and a name with a / on its first line (or
    nothing at all).
    """
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(
            f"{path}: the list cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    if head.startswith(tuple(mark for mark, _ in MARKS)):  # of UTF-8, UTF-16 and UTF-32
        return True
    first = head.lstrip().partition(b"\n")[0]
    slash = b"/" in first or b"\\" in first
    return not first or (slash and b"\0" not in head and not head.startswith(b"\x80"))


def read_records(path, names=False):
    """The entries of a pickled list, checked to be (name, ...) each, or (with `names`)
    plain names.
    """
    if not names and is_text(path):
        raise UserError(
            f"{path}: is text, which says nothing of boxes; give the pickle [(name, tubes), "
            "...], or --dataset jhmdb, whose labels are puppet masks"
        )
    try:
        records = safe_load(path)
    except UserError as error:
        raise UserError(
            f"{error} (were it meant as text: class/clip a line)" if names else str(error)
        ) from error
    if not isinstance(records, list | tuple):
        raise UserError(
            f"{path}: holds a {type(records).__name__}, not a list [(name, tubes), ...]"
        )
    for entry in records:
        if not (names and isinstance(entry, str)) and not (
            isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)
        ):
            raise UserError(
                f"{path}: an entry is not (name, tubes); this is not the list format"
            )
    return list(records)


# ------------------------------------------------------------------------------- UCF-101-24


def _ucf101(records, others, path, find_video, known, strict, boxes_from):
    """Annotations of both lists; labeled videos first. A video that cannot be decoded is
    left out.
    """
    with naming(str(path)):
        records = [(name, tube_records(name, tubes)) for name, tubes in records]
    names = [name for name, _ in records]
    labeled = set()
    for name, tubes in records:
        if any(tube.is_labeled for tube in tubes):
            labeled.add(name)
    _check_apart(labeled, others, path)
    wanted = [*names, *(name for name in others if name not in set(names))]
    sizes, failed = count_frames(wanted, find_video, known, strict)
    records = [(name, tubes) for name, tubes in records if name in sizes]
    with naming(str(path)):
        labels = {
            name: tube.label for name, tubes in records for tube in tubes if tube.is_labeled
        }
        if not labels:
            reason = (
                f" of a video that can be read ({next(iter(failed.values()))})"
                if failed
                else ""
            )
            raise UserError(f"no tube{reason} is labeled in it; give the labeled list")
        annotations = from_records(
            records,
            ucf101.classes_of(labels),
            _lengthened(sizes, records),
            ucf101.NAME,
            _one_based(records) if boxes_from is None else boxes_from == 1,
        )
        _say_dropped(records, annotations)
    videos = {name: _completed(annotations.videos[name], tubes) for name, tubes in records}
    videos.update(
        {
            name: Video(name, *sizes[name])
            for name in wanted
            if name in sizes and name not in videos
        }
    )
    return replace(annotations, videos=videos), failed


def _one_based(records):
    """Whether boxes count pixels from 1, as in the annotations of UCF-101-24: no label of
    the file touches row or column 0. It is said, for a list that counts from 0 and comes
    nowhere near the border is taken so too.
    """
    corners = [
        tube.boxes[tube.labeled_frames - tube.start, :2]
        for _, tubes in records
        for tube in tubes
        if tube.is_labeled
    ]
    from_one = bool(corners) and min(int(corner.min()) for corner in corners) >= 1
    print(
        f"boxes are taken to count pixels from "
        f"{int(from_one)}{', as no box touches row or column 0' * from_one}; "
        "--boxes-from 0 or 1 says otherwise"
    )
    return from_one


def _lengthened(sizes, records):
    """Sizes in which a video is as long as its labeled tubes say, where it decodes at most
    SHORT_TAIL frames fewer.
    """
    sizes = dict(sizes)
    for name, tubes in records:
        frames, *picture = sizes[name]
        last = max((tube.last + 1 for tube in tubes if tube.is_labeled), default=0)
        if frames < last <= frames + SHORT_TAIL:
            sizes[name] = (last, *picture)
    return sizes


def _say_dropped(records, annotations):
    """Print how many labeled frames were dropped for an actor near them who is not
    labeled; UserError where all.
    """
    lost = {}
    for name, tubes in records:
        listed = {frame for tube in tubes for frame in tube.labeled_frames.tolist()}
        lost[name] = len(listed) - len(annotations.videos[name].labeled_frames)
    if not annotations.labeled():
        raise UserError(
            "every labeled frame has a tube that is not labeled in it, or near it in time; "
            "label all tubes of some video"
        )
    if any(lost.values()):
        print(
            f"{sum(lost.values())} labeled frames of {sum(map(bool, lost.values()))} "
            f"videos are not used: an actor "
            "whose tube is not labeled is in them, or near them in time"
        )


def _completed(video, tubes):
    """Where every tube is labeled in each of its frames, all frames of the video are:
    outside them is no action.
    """
    dense = all(len(tube.labeled_frames) == tube.last - tube.start + 1 for tube in tubes)
    return replace(video, labeled_frames=np.arange(video.frames)) if tubes and dense else video


# -------------------------------------------------------------------------------- J-HMDB-21


def _jhmdb(names, others, path, root, find_video, known, strict):
    """Annotations of both lists: the labeled clips with all their masks, the others, which
    need none, without any.

    An unlabeled clip that cannot be decoded is left out.
    """
    if not names:
        raise UserError(
            f"{path}: the labeled list is empty; name clips in it, class/clip a line"
        )
    _check_apart(set(names), others, path)
    truth = jhmdb.read_ground_truth(root, clips=names)
    unknown = [name for name in names if name not in truth.videos]
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} of the listed clips have no puppet mask below "
            f"{root}, the first is "
            f"{unknown[0]}; correct the list, or name the folder with --oracle"
        )
    sizes, failed = count_frames(others, find_video, known, strict)
    videos = {name: truth.videos[name] for name in names}
    videos.update({name: Video(name, *size) for name, size in sizes.items()})
    return replace(truth, videos=videos), failed


def _check_apart(labeled, others, path):
    both = sorted(labeled & set(others))
    if both:
        raise UserError(
            f"{path}: {len(both)} of its videos are in the unlabeled list too, the first is "
            f"{both[0]}; leave each in one of the two"
        )
