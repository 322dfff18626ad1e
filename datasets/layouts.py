"""Where downloads put their videos: one file, or one folder of numbered images, per video,
below one of a few folders.
"""

from collections.abc import Sequence
from pathlib import Path

from claus.datasets.video.images import has_images
from claus.utils.runtime import UserError

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm")  # the data sets' own first
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
    for endings in (VIDEOS[:1], (*VIDEOS[1:], *map(str.upper, VIDEOS))):
        for place in places:
            for ending in endings:
                file = place.with_name(f"{place.name}{ending}")
                if _is(Path.is_file, file):
                    return file
            if images and has_images(place):
                return place
    folder = " and no folder of images of that name" if images else ""
    raise UserError(
        f"video {name}: no file {places[0]}{VIDEOS[0]}{folder} (nor {_endings()}), "
        f"nor in {_others(layouts)}; {_advice(root)}"
    )


def scan_below(root: str | Path, layouts: Sequence[str], images: bool = False) -> list[str]:
    """Sorted names "Class/name" of the videos in the first of `layouts` that has an .avi,
    or else any video; UserError if none has. Two files that differ in their ending alone
    are one video, that of find_below.

    Hidden files are ignored, as find_below is never asked for them.
    """
    others = []
    for layout in layouts:
        folder = Path(root, layout)
        files = [path for path in folder.glob("*/*") if not path.name.startswith(".")]
        videos = [path for path in files if path.suffix.lower() in VIDEOS]
        folders = [path for path in files if images and has_images(path)]
        stems = [path.with_suffix("") for path in videos]
        names = {path.relative_to(folder).as_posix() for path in (*stems, *folders)}
        if folders or any(path.suffix == VIDEOS[0] for path in videos):
            return sorted(names)
        others = others or sorted(names)
    if others:
        return others
    folder = " or folder of images" if images else ""
    raise UserError(
        f"{root}: no <Class>/<name>.avi ({_endings()}){folder} there, "
        f"nor in {_others(layouts)}; {_advice(root)}"
    )


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
