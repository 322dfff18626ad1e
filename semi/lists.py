"""The published lists of semi-supervised training -> Annotations: which videos are labelled, and which are not.

UCF-101-24: pickles in the older list format (see datasets/list_format.py). J-HMDB-21: text, one `class/clip` a line;
the labels of the listed clips are their puppet masks. Of an unlabelled list nothing but the names is read.
"""

from dataclasses import replace

import numpy as np

from datasets import jhmdb, ucf101
from datasets.annotations import Video, naming
from datasets.list_format import from_records
from datasets.pool import count_frames
from datasets.safe_pickle import safe_load
from datasets.video import SHORT_TAIL
from utils.runtime import UserError


def read_lists(dataset, labelled, unlabelled, find_video, known, masks=None, strict=False):
    """(Annotations of the listed videos, failed {name: reason}).

    labelled, unlabelled: paths of the two lists; unlabelled may be None. known: see datasets.pool.read_pool. masks:
    folder with puppet_mask/, for jhmdb. A video of the labelled list of which no tube is labelled is an unlabelled one.
    Raises UserError for a list that is empty or not to be read, and for a video that is in both as labelled.
    """
    others = read_names(unlabelled) if unlabelled else []
    if unlabelled and not others:
        raise UserError(f"{unlabelled}: the unlabelled list is empty; name videos in it, or give --method supervised")
    if dataset == "jhmdb":
        return _jhmdb(read_names(labelled), others, labelled, masks), {}
    return _ucf101(read_records(labelled), others, labelled, find_video, known, strict)


def read_names(path):
    """Names of a list, in its order: of a pickle [(name, ...), ...] or [name, ...], or a text with one a line."""
    if is_text(path):
        with open(path, encoding="utf-8") as file:
            names = [line.split()[0].removesuffix(".avi") for line in file if line.strip()]
    else:
        names = [entry if isinstance(entry, str) else entry[0] for entry in read_records(path, names=True)]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise UserError(f"{path}: video {twice} is listed twice; name it once")
    return [str(name) for name in names]


def is_text(path):
    """Whether a list is text: no NUL in it, and a name with a / on its first line (or nothing at all)."""
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UserError(f"{path}: the list cannot be read: {(error.strerror or str(error)).lower()}") from error
    first = head.lstrip().partition(b"\n")[0]
    return not first or (b"/" in first and b"\0" not in head and not head.startswith(b"\x80"))


def read_records(path, names=False):
    """The entries of a pickled list, checked to be (name, ...) each, or (with `names`) plain names."""
    if not names and is_text(path):
        raise UserError(f"{path}: is text, which says nothing of boxes; give the pickle [(name, tubes), ...]")
    records = safe_load(path)
    if not isinstance(records, list | tuple):
        raise UserError(f"{path}: holds a {type(records).__name__}, not a list [(name, tubes), ...]")
    for entry in records:
        if not (names and isinstance(entry, str)) and not (
                isinstance(entry, list | tuple) and len(entry) == 2 and isinstance(entry[0], str)):
            raise UserError(f"{path}: an entry is not (name, tubes); this is not the list format")
    return list(records)


# ---------------------------------------------------------------------------------------------- UCF-101-24

def _ucf101(records, others, path, find_video, known, strict):
    """Annotations of both lists; labelled videos first. A video that cannot be decoded is left out."""
    names = [str(name) for name, _ in records]
    _check_apart({str(name) for name, tubes in records if any(map(_labelled, tubes))}, others, path)
    wanted = [*names, *(name for name in others if name not in set(names))]
    sizes, failed = count_frames(wanted, find_video, known, strict)
    records = [(str(name), tubes) for name, tubes in records if str(name) in sizes]
    with naming(str(path)):
        labels = {name: tube[2] for name, tubes in records for tube in tubes if _labelled(tube)}
        if not labels:
            reason = f" of a video that can be read ({next(iter(failed.values()))})" if failed else ""
            raise UserError(f"no tube{reason} is labelled in it; give the labelled list")
        annotations = from_records(records, ucf101.classes_of(labels), _lengthened(sizes, records), ucf101.NAME,
                                   _one_based(records))
    videos = {name: _completed(annotations.videos[name], tubes) for name, tubes in records}
    videos.update({name: Video(name, *sizes[name]) for name in wanted if name in sizes and name not in videos})
    return replace(annotations, videos=videos), failed


def _labelled(tube):
    """Whether a tube's record has labelled frames and no flag that says otherwise."""
    return isinstance(tube, list | tuple) and len(tube) in (5, 6) and len(tube[4]) > 0 and bool(tube[-1] if len(
        tube) == 6 else True)


def _one_based(records):
    """Whether boxes count pixels from 1, as in the annotations of UCF-101-24: none of the file touches row or column 0.

    Lists that this project writes count from 0.
    """
    corners = [np.asarray(tube[3])[:, :2] for _, tubes in records for tube in tubes if len(tube[3])]
    return bool(corners) and min(int(corner.min()) for corner in corners) >= 1


def _lengthened(sizes, records):
    """Sizes in which a video is as long as its tubes say, where it decodes at most SHORT_TAIL frames fewer."""
    sizes = dict(sizes)
    for name, tubes in records:
        frames, *picture = sizes[name]
        last = max((int(tube[1]) + 1 for tube in tubes if _labelled(tube)), default=0)
        if frames < last <= frames + SHORT_TAIL:
            sizes[name] = (last, *picture)
    return sizes


def _completed(video, tubes):
    """Where every tube is labelled in each of its frames, all frames of the video are: outside them is no action."""
    dense = all(_labelled(tube) and len(set(map(int, tube[4]))) == int(tube[1]) - int(tube[0]) + 1 for tube in tubes)
    return replace(video, labelled_frames=np.arange(video.frames)) if tubes and dense else video


# ---------------------------------------------------------------------------------------------- J-HMDB-21

def _jhmdb(names, others, path, root):
    """Annotations of both lists: the listed clips with all their masks, the others without any."""
    if not names:
        raise UserError(f"{path}: the labelled list is empty; name clips in it, class/clip a line")
    _check_apart(set(names), others, path)
    truth = jhmdb.read_ground_truth(root)
    unknown = [name for name in [*names, *others] if name not in truth.videos]
    if unknown:
        raise UserError(f"{path}: {len(unknown)} of the listed clips have no puppet mask below {root}, the first is "
                        f"{unknown[0]}; correct the list, or name the folder with --oracle")
    videos = {name: truth.videos[name] for name in names}
    for video in map(truth.videos.get, others):
        videos[video.name] = Video(video.name, video.frames, video.height, video.width)
    return replace(truth, videos=videos)


def _check_apart(labelled, others, path):
    both = sorted(labelled & set(others))
    if both:
        raise UserError(f"{path}: {len(both)} of its videos are in the unlabelled list too, the first is {both[0]}; "
                        "leave each in one of the two")
