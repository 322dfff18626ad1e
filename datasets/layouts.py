"""Where downloads put their videos: one file, or one folder of numbered PNGs, per video,
below one of a few folders.
"""

from pathlib import Path

from claus.utils.runtime import UserError

VIDEOS = (".avi", ".mp4", ".mkv", ".mov", ".webm")  # the data sets' own first


def find_below(root, name, layouts, images=False):
    """Path of the video "Class/name": `<root>/<layout>/<name>.avi` for the first of
    `layouts` that has it; where none has, the same with another of VIDEOS, in small or
    capital letters.

    With `images` also a folder `<root>/<layout>/<name>/` that holds PNGs. Raises UserError
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
            for file in (place.with_name(f"{place.name}{ending}") for ending in endings):
                if file.is_file():
                    return file
            if images and _has_images(place):
                return place
    folder = " and no folder of PNGs of that name" if images else ""
    raise UserError(
        f"video {name}: no file {places[0]}{VIDEOS[0]}{folder} (nor {_endings()}), nor in "
        f"{_others(layouts)}; name the videos' folder with --data"
    )


def scan_below(root, layouts, images=False):
    """Sorted names "Class/name" of the videos in the first of `layouts` that has an .avi,
    or else any video; UserError if none has. Two files that differ in their ending alone
    are one video, that of find_below.

    Hidden files are passed over, as find_below would not be asked for them.
    """
    others = []
    for layout in layouts:
        folder = Path(root, layout)
        files = [path for path in folder.glob("*/*") if not path.name.startswith(".")]
        videos = [path for path in files if path.suffix.lower() in VIDEOS]
        own = [path for path in files if images and _has_images(path)]
        names = {
            path.relative_to(folder).as_posix()
            for path in (*(path.with_suffix("") for path in videos), *own)
        }
        if own or any(path.suffix == VIDEOS[0] for path in videos):
            return sorted(names)
        others = others or sorted(names)
    if others:
        return others
    folder = " or folder of PNGs" if images else ""
    raise UserError(
        f"{root}: no <Class>/<name>.avi ({_endings()}){folder} there, nor in "
        f"{_others(layouts)}; "
        "name the videos' folder with --data"
    )


def _endings():
    return ", ".join(VIDEOS[1:])


def _has_images(path):
    return path.is_dir() and any(path.glob("*.png"))


def _others(layouts):
    return f"{len(layouts) - 1} other layouts ({', '.join(f'{layout}/' for layout in layouts[1:])})"
