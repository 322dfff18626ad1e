"""MOT 1.1: a text file a video, frame,track,x,y,width,height,not_ignored,class,visibility.
Frames count from 1, x and y from 1 too.

Says who is who, and not which frames somebody has looked at, nor which boxes a person drew:
every box is taken for a person's. Masks cannot be said. The video is named by the file
(jump_b.txt) or the folder of gt/gt.txt; the classes stand in labels.txt beside it.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from claus.annotators.actors import answers_with
from claus.annotators.found import Found
from claus.annotators.limits import check_size
from claus.annotators.pictures import picture_name
from claus.utils.runtime import UserError, write_text

LOSES = (
    "MOT does not say which frames were looked at, frames without an action, nor what was "
    "skipped"
)
LABELS = "labels.txt"


def recognizes(head: bytes, path: Path) -> bool:
    """Whether a text file begins with at least six numbers between commas."""
    first = head.lstrip().partition(b"\n")[0].strip().split(b",")
    try:
        return path.suffix.lower() == ".txt" and len([float(part) for part in first]) >= 6
    except ValueError:
        return False


def read_labels(path: Path, found: Found, kind: str) -> None:
    """Add the labels of a MOT file; UserError where it is none, or of no video."""
    if kind == "masks":
        raise UserError(f"{path}: MOT has no masks; leave out --masks, or give CVAT or COCO")
    video = _video_of(path, found)
    labels = _labels_of(path)
    frames = set()
    with open(check_size(path), encoding="utf-8-sig", errors="replace") as file:
        for line, row in enumerate(csv.reader(file), 1):
            if not row:
                continue
            try:
                frame, track = int(float(row[0])) - 1, int(float(row[1]))
                box = [float(row[column]) for column in range(2, 6)]
                taken = len(row) < 7 or float(row[6]) != 0
                number = int(float(row[7])) if len(row) > 7 else 1
            except (ValueError, IndexError, OverflowError) as error:
                raise UserError(
                    f"{path}, line {line}: no row of MOT; export it again"
                ) from error
            if not taken:
                continue
            if not 0 <= frame < found.names.lengths[video]:
                found.problems.append(
                    (video, f"line {line}: it has no frame {frame + 1} (from 1)")
                )
                continue
            if not 1 <= number <= max(len(labels), 1):
                found.problems.append(
                    (video, f"line {line}: class {number} is not in {LABELS}")
                )
                continue
            frames.add(frame)
            label = labels[number - 1] if labels else None
            box = [box[0] - 1, box[1] - 1, *box[2:]]
            actor = {"track": track if track > 0 else None, "box": box}
            found.add((video, frame), actor | ({"class": label} if label else {}))
    found.warnings.append(
        (video, f"{path.name}: MOT does not say which boxes a person drew: all {len(frames)} "
         "frames are taken for drawn; where they were interpolated, give CVAT for video 1.1")
    )  # fmt: skip


def _video_of(path, found):
    folders = [path.parent.parent.name, path.parent.name]
    tried = [path.stem, *(folders if path.stem in ("gt", "det") else ())]
    for name in tried:
        video = found.names.find(name)
        if video is not None:
            return video
    raise UserError(
        f"{path}: which video is this? name the file as its video (jump_b.txt), or its folder "
        "(jump_b/gt/gt.txt)"
    )


def _labels_of(path):
    place = path.parent / LABELS
    if not place.is_file():
        return []
    text = check_size(place, 1 << 20).read_text(encoding="utf-8-sig", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def write_labels(
    form: Mapping, folder: Path, sizes: Mapping[str, tuple[int, int]]
) -> list[Path]:
    """Write <video>.txt for every video, and labels.txt -> their paths."""
    if answers_with(form) == "masks":
        raise UserError("MOT has no masks: export as cvat, label_studio or coco")
    paths = [folder / LABELS]
    write_text(paths[0], "".join(f"{name}\n" for name in form["classes"]))
    for entry in form["videos"]:
        rows = []
        for frame in entry["frames"]:
            for actor in frame["actors"] or ():
                x, y, w, h = actor["box"]
                label = form["classes"].index(actor.get("class", entry["class"])) + 1
                row = [frame["frame"] + 1, actor["track"], x + 1, y + 1, w, h, 1, label, 1]
                rows.append(",".join(map(str, row)))
        if rows:
            name = picture_name(entry["video"], 0).removesuffix("__frame_00000.png")
            paths.append(folder / f"{name}.txt")
            write_text(paths[-1], "\n".join(rows) + "\n")
    return paths
