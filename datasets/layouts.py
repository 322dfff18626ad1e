"""Where downloads put their videos: one file, or one folder of numbered images, per video,
below one of a few folders.
"""

import contextlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from claus.datasets.video.images import has_images, is_image
from claus.utils.runtime import UserError
from claus.utils.words import many

# endings of video files, the data sets' own first
VIDEOS = (
    *(".avi", ".mp4", ".mkv", ".mov", ".webm", ".m4v", ".ts", ".mts", ".m2ts", ".3gp"),
    *(".wmv", ".mpg", ".mpeg", ".flv", ".gif"),
)
# of files that lie beside videos and are none
BESIDE = {
    *("", ".txt", ".md", ".csv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".pdf"),
    *(".mat", ".pkl", ".npy", ".npz", ".zip", ".rar", ".gz", ".tar", ".py", ".ini", ".db"),
    *(".png", ".jpg", ".jpeg", ".bmp", ".srt", ".log", ".wav", ".mp3", ".thm", ".sha256"),
}
DEEPEST = 12  # folders below each other
DATA, OLD_DATA = "data", "Datasets"  # folders of data sets; the second is still found


def default_folder(folder: str) -> str:
    """`folder`, "data/<name>"; "Datasets/<name>" where only that exists."""
    old = Path(OLD_DATA, Path(folder).name)
    if old.is_dir() and not Path(folder).is_dir():
        return old.as_posix()
    return folder


def find_below(
    root: str | Path, name: str, layouts: Sequence[str], images: bool = False
) -> Path:
    """Path of the video "Class/name": `<root>/<layout>/<name>.avi` for the first of
    `layouts` that has it; where none has, the same with another of VIDEOS, in small or
    capital letters.

    With `images` also a folder `<root>/<layout>/<name>/` that holds images. Raises UserError
    naming what was looked for.
    """
    parts = name.split("/")
    if "\\" in name or "\0" in name or not all(part.strip(". ") for part in parts):
        raise UserError(
            f"video {name!r}: the name leads out of {root}; give Class/name, as in the data set"
        )
    places = [Path(root, layout, *parts) for layout in layouts]
    there = [place for place in places if _is(Path.is_dir, place.parent)]
    for endings in (VIDEOS[:1], (*VIDEOS[1:], *map(str.upper, VIDEOS))):
        for place in there:
            for ending in endings:
                file = place.with_name(f"{place.name}{ending}")
                if _is(Path.is_file, file):
                    return file
            if images and _is(has_images, place):
                return place
    for place in there:
        for file in _with_any_case(place):
            return file
    folder = " and no folder of images of that name" if images else ""
    raise UserError(
        f"video {name}: no file {places[0]}{VIDEOS[0]}{folder} (nor {_endings()}), "
        f"nor in {_others(layouts)}; {_advice(root)}"
    )


@dataclass(frozen=True)
class Survey:
    """The videos below a folder. names: "Class/name", sorted; passed: {reason: files or folders
    that are not among them}.
    """

    names: list[str]
    passed: dict[str, list[str]]

    def told(self) -> str:
        """What was passed over, in a few words; empty where nothing was."""
        parts = []
        for reason, files in self.passed.items():
            noun, _, rest = reason.partition(" ")
            parts.append(f"{many(len(files), noun)} {rest} (first {files[0]!r})")
        return "; ".join(parts)


def scan_below(
    root: str | Path, layouts: Sequence[str], images: bool = False, any_folder: bool = False
) -> list[str]:
    """The names of survey_below."""
    return survey_below(root, layouts, images, any_folder).names


def survey_below(
    root: str | Path, layouts: Sequence[str], images: bool = False, any_folder: bool = False
) -> Survey:
    """The videos "Class/name" in the first of `layouts` that has an .avi, or else any video;
    where none has, or with `any_folder`, those in all folders at any depth. UserError where
    there is none. Two files that differ in their ending alone are one video, that of
    find_below.

    With `images` folders of images are videos too. Hidden files are ignored, as find_below is
    never asked for them.
    """
    tree = _walk(Path(root))
    folders = tree.folders if images else []
    chosen = _choose(tree, folders, layouts)
    deep = any_folder or chosen is None
    within = f"{chosen}/" if chosen else ""
    stems = [(path, os.path.splitext(path)[0]) for path in tree.videos]
    names, seconds = {}, []
    for path, stem in (*stems, *zip(folders, folders, strict=True)):
        if path.startswith(within) and (deep or _lies_in(path, within)):
            name = stem.removeprefix(within)
            seconds += [path] if name in names else []
            names[name] = None
    passed = _passed_over(tree, names, chosen, deep, images, layouts)
    passed["file of the same name as another"] = seconds
    passed = {reason: files for reason, files in passed.items() if files}
    survey = Survey(sorted(names), passed)
    if names:
        return survey
    folder = " or folder of images" if images else ""
    beside = f" (there are {survey.told()})" if passed else ""
    raise UserError(
        f"{root}: no <Class>/<name>.avi ({_endings()}){folder} there{beside}, "
        f"nor in {_others(layouts)}; {_advice(root)}"
    )


@dataclass(frozen=True)
class _Tree:
    """Paths below a folder, as text relative to it."""

    videos: list[str]
    folders: list[str]  # that hold images
    others: list[str]
    closed: list[str]


def _walk(root):
    """Everything below a folder, hidden files and folders left out; links are followed but
    for those to a folder above.
    """
    tree = _Tree([], [], [], [])
    waiting = [(root, "", frozenset({os.path.realpath(root)}))]
    while waiting:
        folder, inside, above = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        except OSError:
            tree.closed.append(inside or ".")
            continue
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        if inside and any(is_image(Path(entry.name)) for entry in entries):
            tree.folders.append(inside.removesuffix("/"))
        for entry in entries:
            path, ending = f"{inside}{entry.name}", os.path.splitext(entry.name)[1].lower()
            if _is_folder(entry):
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in above and path.count("/") < DEEPEST:
                    waiting.append((entry.path, f"{path}/", above | {real}))
            elif ending in VIDEOS:
                tree.videos.append(path)
            elif ending not in BESIDE:
                tree.others.append(path)
    for files in (tree.videos, tree.folders, tree.others):
        files.sort()
    return tree


def _is_folder(entry):
    with contextlib.suppress(OSError):
        return entry.is_dir()
    return False


def _choose(tree, folders, layouts):
    """The layout whose videos are taken; None where no video lies as in any of them."""
    others = []
    for layout in layouts:
        within = f"{layout}/" if layout else ""
        files = [path for path in tree.videos if _lies_in(path, within)]
        if any(_lies_in(path, within) for path in folders):
            return layout
        if any(path.endswith(VIDEOS[0]) for path in files):
            return layout
        others += [layout] if files else []
    return others[0] if others else None


def _lies_in(path, within):
    """Whether a path is <within><Class>/<name>."""
    return path.startswith(within) and path.count("/") == within.count("/") + 1


def _passed_over(tree, names, chosen, deep, images, layouts):
    """{reason: what is not among the videos}; the same names in another layout are none."""
    within, found = f"{chosen}/" if chosen else "", defaultdict(list)
    for path in tree.videos:
        name = os.path.splitext(path)[0]
        if path.startswith(within) and name.removeprefix(within) in names:
            continue
        homes = [f"{layout}/" if layout else "" for layout in layouts]
        homes = [home for home in homes if home != within and _lies_in(path, home)]
        if any(name.removeprefix(home) in names for home in homes):
            continue
        if homes:
            reason = f"video beside {within or 'the class folders'} in another folder layout"
        elif "/" not in path.removeprefix(within):
            reason = "video beside the class folders"
        else:
            reason = "video in deeper folders than <class>/<video>"
        found[reason].append(path)
    if not images:
        inside = [path for path in tree.folders if deep or _lies_in(path, within)]
        found["folder of images, which --dataset jhmdb reads"] = inside
    endings = sorted({os.path.splitext(path)[1] for path in tree.others})[:3]
    found[f"file with other endings, {', '.join(endings)}"] = tree.others
    found["folder that cannot be opened"] = tree.closed
    return found


def _is(asked, path):
    """asked(path); False where the disk does not say: no permission, a name too long."""
    try:
        return asked(path)
    except (OSError, ValueError):
        return False


def _with_any_case(place):
    """Files of a name with an ending such as .Mp4."""
    with contextlib.suppress(OSError, ValueError):
        for file in sorted(place.parent.iterdir()):
            if file.stem == place.name and file.suffix.lower() in VIDEOS and file.is_file():
                yield file


def _endings():
    return ", ".join(VIDEOS[1:])


def _is(asked, path):
    """asked(path); False where the disk does not say: no permission, a name too long."""
    try:
        return asked(path)
    except (OSError, ValueError):
        return False


def _others(layouts):
    names = ", ".join(f"{layout}/" for layout in layouts[1:])
    return f"{len(layouts) - 1} other layouts ({names})"


def _advice(root):
    """What to do where a video is not found; both default folders where `root` is one."""
    root = Path(root)
    if root.parent.as_posix() not in (DATA, OLD_DATA):
        return "name the videos' folder with --data"
    places = " or ".join(f"{place}/{root.name}" for place in (DATA, OLD_DATA))
    return f"put the videos below {places}, or name their folder with --data"
