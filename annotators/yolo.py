"""YOLO: a text file a picture, a line an actor: class x y width height, in shares of the
picture, x and y of the middle; a further sixth number may be a track. An empty file says
that nothing is there.

Has no tracks and no masks (its polygons are refused where masks are wanted: they lose
pixels). The classes stand in classes.txt, obj.names or data.yaml above the files.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from claus.annotators.actors import answers_with
from claus.annotators.found import Found
from claus.annotators.limits import check_size
from claus.annotators.pictures import picture_names
from claus.utils.runtime import UserError, write_text

LOSES = "YOLO has no tracks: who is who is guessed by overlap again; and no skipped frames"
NAMES = ("classes.txt", "obj.names", "data.yaml", "data.yml")
NOT_LABELS = {"classes.txt", "train.txt", "test.txt", "valid.txt", "val.txt", "readme.txt"}
MOST = 1_000_000  # files below a folder


def read_labels(folder: Path, found: Found, kind: str) -> None:
    """Add the labels below a folder; UserError where there are none, or no classes."""
    if kind == "masks":
        raise UserError(f"{folder}: YOLO has no masks; leave out --masks, or give CVAT or COCO")
    classes = _classes(folder)
    for name in classes:
        found.name_class(name)
    files = [
        path for path in sorted(folder.rglob("*.txt")) if path.name.lower() not in NOT_LABELS
    ]
    if not files or len(files) > MOST:
        raise UserError(f"{folder}: {len(files)} label files (*.txt) of YOLO below it")
    for path in files:
        place = found.picture(f"{path.stem}.png")
        if place is None:
            continue
        found.add(place)
        for number, line in enumerate(_lines(path), 1):
            try:
                found.add(place, _actor(line, classes))
            except (ValueError, IndexError) as error:
                found.problems.append((place[0], f"{path.name}, line {number}: {error}"))


def _lines(path):
    text = check_size(path, 1 << 22).read_text(encoding="utf-8-sig", errors="replace")
    return [line.split() for line in text.splitlines() if line.split()]


def _classes(folder):
    """Class names in their order."""
    for place in (folder, folder.parent):
        for name in NAMES:
            path = place / name
            if path.is_file():
                text = check_size(path, 1 << 20).read_text(
                    encoding="utf-8-sig", errors="replace"
                )
                names = _yaml_names(text) if name.startswith("data.") else text.splitlines()
                names = [one.strip() for one in names if one.strip()]
                if names:
                    return names
    raise UserError(f"{folder}: no class names: {', '.join(NAMES[:3])} is missing there")


def _yaml_names(text):
    """names of a data.yaml: [a, b], a list of lines, or 0: a."""
    inline = re.search(r"^names:\s*\[(.*?)\]", text, re.M | re.S)
    if inline:
        return [name.strip(" '\"\n") for name in inline[1].split(",")]
    block = re.search(r"^names:\s*\n((?:[ \t-].*\n?)+)", text, re.M)
    lines = block[1].splitlines() if block else []
    return [re.sub(r"^\s*(-|\d+:)\s*", "", line).strip(" '\"") for line in lines]


def _actor(words, classes):
    """An actor with its box still in shares of the picture."""
    if len(words) not in (5, 6):
        raise ValueError("not class x y width height (polygons are not read)")
    number = int(words[0])
    if not 0 <= number < len(classes):
        raise ValueError(f"class {number} is not in the list of {len(classes)}")
    x, y, w, h = (float(word) for word in words[1:5])
    if not all(math.isfinite(side) and -1 < side < 2 for side in (x, y, w, h)):
        raise ValueError("numbers that are no shares of a picture")
    return {"track": None, "class": classes[number], "shares": [x - w / 2, y - h / 2, w, h]}


def write_labels(
    form: Mapping, folder: Path, sizes: Mapping[str, tuple[int, int]]
) -> list[Path]:
    """Write labels/<picture>.txt for every answered frame, and classes.txt -> their paths."""
    if answers_with(form) == "masks":
        raise UserError("YOLO has no masks: export as cvat, label_studio or coco")
    keys = [(entry["video"], f["frame"]) for entry in form["videos"] for f in entry["frames"]]
    names = picture_names(keys)
    paths = [folder / "classes.txt"]
    write_text(paths[0], "".join(f"{name}\n" for name in form["classes"]))
    for entry in form["videos"]:
        height, width = sizes[entry["video"]]
        for frame in entry["frames"]:
            lines = []
            for actor in frame["actors"] or ():
                x, y, w, h = actor["box"]
                label = form["classes"].index(actor.get("class", entry["class"]))
                shares = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
                lines.append(" ".join([str(label), *(f"{share:.8f}" for share in shares)]))
            name = names[entry["video"], frame["frame"]]
            paths.append(folder / "labels" / f"{Path(name).stem}.txt")
            write_text(paths[-1], "".join(f"{line}\n" for line in lines))
    return paths
