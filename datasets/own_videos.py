"""The videos on disk as a pool without labels: where a run starts that has no ground truth
to simulate with.
"""

import json
from pathlib import Path

from tqdm import tqdm

from claus.datasets import ucf101
from claus.datasets.labels.annotations import Annotations, Video
from claus.utils.runtime import UserError


def read_pool(
    root, classes, test_list=None, *, known, strict=False, dataset=ucf101, any_folder=False
):
    """Every readable video `<Class>/<name>` below `root` whose class is in `classes` ->
    (Annotations, failed).

    Videos named in `test_list` (a text file, one a line) stay out. Each video is decoded
    once to count its frames; the counts go line by line to the file `known`, so that an
    interrupted count goes on where it was and a second one costs nothing. A video that
    cannot be read is left out: failed is {name: reason}; with `strict` it raises instead.
    dataset: the module that knows where the videos lie (see which.py). any_folder: folders
    are not classes; videos of all of them are in the pool. Raises UserError where no video
    is found.
    """
    hidden = _listed(test_list) if test_list else set()
    names = [
        name
        for name in dataset.scan_videos(root)
        if name not in hidden and (any_folder or name.partition("/")[0] in classes)
    ]
    if not names:
        named = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
        raise UserError(
            f"{root}: no video of the classes "
            f"{named}{' that is not in the test list' if hidden else ''}; "
            "videos lie in folders named as their classes, <class>/<video>.avi: name "
            "the folder above with "
            "--data and the classes with --classes, or give --any-folder where folders "
            "are not classes"
        )
    sizes, failed = count_frames(
        names, lambda name: dataset.find_video(root, name), known, strict
    )
    videos = {name: Video(name, *size) for name, size in sizes.items()}
    if not videos:
        raise UserError(
            f"none of the {len(names)} videos below {root} can be read: "
            f"{next(iter(failed.values()))}"
        )
    return Annotations(
        dataset.NAME if tuple(classes) == dataset.CLASSES else "own", classes, videos
    ), failed


def count_frames(names, find_video, known, strict=False):
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
        except UserError as error:
            if strict:
                raise
            failed[name] = str(error)
            continue
        if new:
            _append(known, json.dumps([name, *counted[name]]))
        sizes[name] = tuple(counted[name][2:])
    return sizes, failed


def read_classes(text, dataset=ucf101):
    """Class names from a comma-separated list, or a text file with one name a line; those
    of `dataset` for None.
    """
    if text is None:
        return dataset.CLASSES
    if Path(text).is_file():
        names = Path(text).read_text(encoding="utf-8").splitlines()
    else:
        names = text.split(",")
    names = tuple(name.strip() for name in names if name.strip())
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"--classes {text}: give class names (the videos' folders), each once, or "
            f"a file of one a line"
        )
    return names


def _probe(path):
    from claus.datasets.video.reader import (
        probe,
    )  # here, so that runs with ground truth need no video library

    return probe(path)


def _read_known(path):
    """name -> [bytes, mtime, frames, height, width] of an earlier count; a last line cut
    short is passed over.
    """
    counted = {}
    if Path(path).is_file():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                name, *numbers = json.loads(line)
            except (ValueError, TypeError):
                continue
            if len(numbers) == 5:
                counted[name] = numbers
    return counted


def _append(path, line):
    """Add a line to a file; it starts on a line of its own even where the one before was
    cut short.
    """
    try:
        with open(path, "a+b") as file:
            if file.tell() and (file.seek(-1, 2), file.read(1))[1] != b"\n":
                line = "\n" + line
            file.write(line.encode() + b"\n")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}"
        ) from error


def _listed(path):
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: the list of test videos cannot be read; give testlist01.txt"
        ) from error
    return {line.split()[0].removesuffix(".avi") for line in lines if line.strip()}
