"""The videos on disk as a pool without labels: where a run starts that has no ground truth
to simulate with.
"""

import difflib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from claus.datasets import ucf101
from claus.datasets.labels.annotations import Annotations, Video, is_name
from claus.datasets.labels.name_list import Names, find_names, key_of, read_class_names
from claus.datasets.segments import Cut, cut_video, rows_by_video
from claus.utils.runtime import UserError, append_line, parse_json, shown
from claus.utils.words import many


def read_pool(
    root: str | Path,
    classes: Sequence[str],
    test_list: str | Path | None = None,
    *,
    known: str | Path,
    strict: bool = False,
    dataset: ModuleType = ucf101,
    any_folder: bool = False,
    cut: Cut | None = None,
    cache: str | Path | None = None,
) -> tuple[Annotations, dict[str, str]]:
    """Every readable video `<Class>/<name>` below `root` whose class is in `classes` ->
    (Annotations, failed).

    Videos named in `test_list` (see labels/name_list.py) are left out. Each video is decoded
    once to count its frames; the counts are appended to the file `known`, so an interrupted
    count is resumable and a second one costs nothing. A video that cannot be read is skipped:
    failed is {name: reason}; with `strict` it raises instead. dataset: one of table.DATASETS,
    which knows where the videos lie. any_folder: folders are not classes; videos of all of
    them, at any depth, are in the pool. cut: the entries are segments of these videos, see
    datasets/segments.py; cache: folder for their times and indices. Says what lies below
    `root` and is passed over. Raises UserError where no video is found, a line of the list
    is no video, or a class that is not the data set's own is no folder.
    """
    survey = dataset.survey_videos(root, any_folder)
    tested = listed_tests(test_list, survey.names, root, dataset) if test_list else set()
    passed = [survey.told()] if survey.passed else []
    names = survey.names
    if not any_folder:
        names, outside = _of_classes(names, classes)
        if not names:
            raise UserError(_no_video(root, classes))
        if tuple(classes) != dataset.CLASSES:
            _check_folders(root, classes, survey.names)
        if outside:
            some = shown(", ".join(sorted(outside)[:3]))
            total = many(sum(outside.values()), "video")
            passed.append(f"{total} in {many(len(outside), 'folder')} of no class ({some})")
    if passed:
        print(f"note: passed over below {root}: {'; '.join(passed)}")
    names = [name for name in names if name not in tested]
    if not names:
        raise UserError(f"{test_list}: names every video below {root}; none is left to label")
    names, unnamed = _with_names(names, strict)

    def find_video(name):
        return dataset.find_video(root, name)

    if cut is not None:
        videos, failed = cut_videos(names, find_video, cut, cache, strict)
    else:
        sizes, failed = count_frames(names, find_video, known, strict)
        videos = {name: Video(name, *size) for name, size in sizes.items()}
    failed = {**unnamed, **failed}
    if not videos:
        raise UserError(
            f"none of the {len(names) + len(unnamed)} videos below {root} can be read: "
            f"{next(iter(failed.values()))}"
        )
    name = dataset.NAME if tuple(classes) == dataset.CLASSES else "own"
    return Annotations(name, classes, videos), failed


def _with_names(names, strict):
    """(names that labels and forms can hold, {another name, as it is shown: reason})."""
    usable = [name for name in names if is_name(name)]
    failed = {}
    for name in sorted(set(names) - set(usable)):
        reason = f"video {shown(name)}: its name has characters that no text holds; rename it"
        if strict:
            raise UserError(reason)
        failed[shown(name)] = reason
    return usable, failed


def _of_classes(names, classes):
    """(names in a folder that is called as a class, {another folder: its videos})."""
    keys, found, outside = {key_of(name) for name in classes}, [], Counter()
    for name in names:
        folders = name.split("/")[:-1]
        if any(key_of(folder) in keys for folder in folders):
            found.append(name)
        else:
            outside["/".join(folders) or "."] += 1
    return found, outside


def _check_folders(root, classes, names):
    """UserError for a class that no folder with videos is called as."""
    folders = dict.fromkeys(part for name in names for part in name.split("/")[:-1])
    keys = {key_of(folder) for folder in folders}
    missing = [name for name in classes if key_of(name) not in keys]
    if not missing:
        return
    told = []
    for name in missing[:5]:
        near = difflib.get_close_matches(name.casefold(), [f.casefold() for f in folders], 1)
        near = [folder for folder in folders if folder.casefold() in near]
        told.append(f"{name!r}" + (f" (is it {near[0]!r}?)" if near else ""))
    raise UserError(
        f"{root}: no folder with videos is called {', '.join(told)}, of --classes; correct "
        "the names, or give --any-folder where folders are not classes"
    )


def _no_video(root, classes):
    named = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return (
        f"{root}: no video of the classes {named}; videos lie in folders named as "
        "their classes, <class>/<video>.avi: name the folder above with --data and the "
        "classes with --classes, or give --any-folder where folders are not classes"
    )


def cut_videos(
    names: Sequence[str],
    find_video: Callable[[str], Path],
    cut: Cut,
    cache: str | Path | None = None,
    strict: bool = False,
) -> tuple[dict[str, Video], dict[str, str]]:
    """The entries that a Cut makes of the videos `names` -> ({name: Video}, failed {name of
    a video: reason}); says what they come to.

    Each video is decoded once for the times of its frames, and one that is cut twice more
    for its index, without which its middle could not be read; both are kept below `cache`.
    Raises UserError for a part that cannot be, and where an entry has the name of a video.
    """
    # here, so that runs with ground truth need no video library
    from claus.datasets.video.frame_index import IndexedVideos
    from claus.datasets.video.times import read_times

    rows = rows_by_video(cut, names) if cut.length is None else dict.fromkeys(names, ())
    videos, failed, slow, indexed = {}, {}, [], IndexedVideos(cache)
    for name in tqdm(rows, desc="reading frame times", unit="video", disable=None):
        try:
            path = find_video(name)
            times = read_times(path, cache)
        except UserError as error:
            if strict:
                raise
            failed[name] = str(error)
            continue
        entries = cut_video(name, path, times, cut, rows[name])
        if entries[0].segment is not None and path.is_file():
            index = indexed.index(path)
            slow += [name] if index is None or not index.groups else []
        for entry in entries:
            if entry.name in videos or (entry.segment is not None and entry.name in names):
                raise UserError(
                    f"a segment of {name} and another video are both called {entry.name}; "
                    "rename that video"
                )
            videos[entry.name] = entry
    _say_cut(videos, slow)
    return videos, failed


def _say_cut(videos, slow):
    """Say what the entries come to. slow: videos that cannot be read from their middle."""
    segments = [video for video in videos.values() if video.segment is not None]
    whole, of = len(videos) - len(segments), len({video.source for video in segments})
    lengths = sorted({video.frames for video in segments})
    each = " to ".join(str(length) for length in lengths[:1] + lengths[1:][-1:])
    print(
        f"pool: {many(len(segments), 'segment')} of {many(of, 'video')}"
        + (f", {each} frames each" if segments else "")
        + (f", and {many(whole, 'whole video')}" if whole else "")
        + "; a segment counts as a video in budgets and costs"
    )
    if slow:
        print(
            f"note: {many(len(slow), 'video')} can only be decoded from the start (the first "
            f"is {slow[0]}), so that training on its segments is slow: re-encode it with closed "
            "groups of pictures (ffmpeg: -c:v libx264 -g 50), or train with --cache-gb 2"
        )


def count_frames(
    names: Iterable[str],
    find_video: Callable[[str], Path],
    known: str | Path,
    strict: bool = False,
) -> tuple[dict[str, tuple[int, int, int]], dict[str, str]]:
    """Decode each video once -> ({name: (frames, height, width)}, failed {name: reason});
    known: see read_pool.
    """
    counted, sizes, failed = _read_known(known), {}, {}
    for name in tqdm(names, desc="counting frames", unit="video", disable=None):
        try:
            path = find_video(name)
            state = [path.stat().st_size, path.stat().st_mtime_ns]
            new = counted.get(name, ())[:2] != state
            if new:
                counted[name] = [*state, *_probe(path)]
        except OSError as error:
            if strict:
                raise UserError(f"video {name}: {error.strerror}") from error
            failed[name] = f"video {name}: {error.strerror}"
            continue
        except UserError as error:
            if strict:
                raise
            failed[name] = str(error)
            continue
        if new:
            append_line(known, json.dumps([name, *counted[name]]))
        sizes[name] = tuple(counted[name][2:])
    return sizes, failed


def read_classes(text: str | None, dataset: ModuleType = ucf101) -> tuple[str, ...]:
    """Class names from a comma-separated list, or a text file with one name a line; those
    of `dataset` for None.
    """
    return dataset.CLASSES if text is None else tuple(read_class_names(text))


def _probe(path):
    # here, so that runs with ground truth need no video library
    from claus.datasets.video.reader import probe

    return probe(path)


def _read_known(path):
    """name -> [bytes, mtime, frames, height, width] of an earlier count; an incomplete last
    line is ignored.
    """
    counted = {}
    if Path(path).is_file():
        for line in Path(path).read_bytes().split(b"\n"):
            try:
                row = parse_json(line)
            except ValueError:
                continue
            if isinstance(row, list) and len(row) == 6 and _is_count(*row):
                counted[row[0]] = row[1:]
    return counted


def _is_count(name, nbytes, changed, *size):
    """Whether a line says how long a video is and how large: else it is counted again."""
    whole = all(type(number) is int for number in (nbytes, changed, *size))
    return isinstance(name, str) and whole and all(0 < number < 2**31 for number in size)


def listed_tests(
    path: str | Path, names: Iterable[str], root: str | Path, dataset: ModuleType
) -> set[str]:
    """Those of the videos `names` below `root` that a list of test videos names; UserError
    for a line that is none of them.
    """
    known = Names(names, root, dataset.LAYOUTS)
    fix = "correct the list, or leave out --test-list where no video is for testing"
    where = f"below {root}"
    return set(find_names(path, known, what="list of test videos", where=where, fix=fix))
