"""The tubes of a video in the forms of other tools, each written from the JSON file.

csv         a row for each box: video, frame, time, tube, class, score, x, y, w, h
mot         MOT: frame (from 1), tube, x, y, w, h, score, class (from 1), 1; class names in a
            file beside it, one a line
coco        COCO: an image for each frame, an annotation for each box, with score and track_id
cvat        CVAT for video 1.1: a track for each tube
cvat-images CVAT for images 1.1: boxes, or masks where there are some, by the picture's name

Boxes are x, y, width, height, or corners in CVAT, in pixels from 0, half-open. A box that was
filled in between two others has a score between theirs; in CVAT it is no keyframe.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from claus.datasets.labels.masks import decode_rle
from claus.utils.runtime import write_text

HEAD = ("video", "frame", "time", "tube", "class", "score", "x", "y", "w", "h")


class Box(NamedTuple):
    """A box of one frame. found: whether it was found, and not filled in."""

    frame: int
    time: float | None
    tube: int
    name: str
    score: float
    corners: tuple[float, float, float, float]
    mask: dict | None
    found: bool


def boxes_of(tube: dict) -> Iterator[Box]:
    """The boxes of a tube of the JSON file, by frame."""
    known = [score is not None for score in tube["frame_scores"]]
    places = np.flatnonzero(known)
    given = [tube["frame_scores"][place] for place in places]
    scores = np.interp(np.arange(len(known)), places, given).tolist()
    masks = tube.get("masks") or [None] * len(known)
    rows = zip(tube["frames"], tube["times"], tube["boxes"], scores, masks, known, strict=True)
    for frame, time, corners, score, mask, found in rows:
        yield Box(frame, time, tube["tube"], tube["class"], score, tuple(corners), mask, found)


def by_frame(content: dict) -> dict[int, list[Box]]:
    """{frame: its boxes} of a JSON file, both in order."""
    frames = defaultdict(list)
    for tube in content["tubes"]:
        for box in boxes_of(tube):
            frames[box.frame].append(box)
    return dict(sorted(frames.items()))


def picture_name(video: str, frame: int) -> str:
    """Name of a frame's picture, unique without a folder, as several tools keep the name
    alone.
    """
    return f"{video.replace('/', '__')}__frame_{frame:05d}.png"


def _xywh(box):
    x0, y0, x1, y1 = box.corners
    return [round(value, 3) for value in (x0, y0, x1 - x0, y1 - y0)]


# ----------------------------------------------------------------------------------- tables


def write_csv(content: dict, path: Path) -> None:
    """One row a box, sorted by frame."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    for boxes in by_frame(content).values():
        for box in boxes:
            time = "" if box.time is None else box.time
            row = [content["video"], box.frame, time, box.tube, box.name, f"{box.score:.6g}"]
            table.writerow([*row, *_xywh(box)])
    write_text(path, text.getvalue())


def write_mot(content: dict, path: Path) -> None:
    """One line a box, and the class names beside it."""
    number = {name: place for place, name in enumerate(content["classes"], start=1)}
    lines = []
    for boxes in by_frame(content).values():
        for box in boxes:
            place = ",".join(map(str, _xywh(box)))
            score = f"{box.score:.6g}"
            lines.append(f"{box.frame + 1},{box.tube},{place},{score},{number[box.name]},1\n")
    write_text(path, "".join(lines))
    write_text(path.with_suffix(".labels.txt"), "".join(f"{n}\n" for n in content["classes"]))


# ------------------------------------------------------------------------------------- COCO


def write_coco(content: dict, path: Path) -> None:
    """A whole data set of one video; every frame is an image, also one without a box."""
    categories = [{"id": n, "name": name} for n, name in enumerate(content["classes"], 1)]
    number = {entry["name"]: entry["id"] for entry in categories}
    images, annotations = [], []
    frames = by_frame(content)
    for frame in range(content["frames"]):
        images.append(
            {
                "id": frame + 1,
                "file_name": picture_name(content["video"], frame),
                "width": content["width"],
                "height": content["height"],
                "video_id": 1,
                "frame_id": frame,
            }
        )
        for box in frames.get(frame, ()):
            place = _xywh(box)
            annotation = {
                "id": len(annotations) + 1,
                "image_id": frame + 1,
                "category_id": number[box.name],
                "bbox": place,
                "area": round(place[2] * place[3], 3),
                "iscrowd": 0,
                "score": float(f"{box.score:.6g}"),
                "track_id": box.tube,
            }
            if box.mask:
                annotation["segmentation"] = box.mask
                annotation["area"] = sum(box.mask["counts"][1::2])
            annotations.append(annotation)
    data = {
        "info": {"description": f"claus {content['claus']}, detector {content['source']}"},
        "videos": [{"id": 1, "name": content["video"]}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_text(path, json.dumps(data) + "\n")


# ------------------------------------------------------------------------------------- CVAT


def write_cvat_video(content: dict, path: Path) -> None:
    """A track for each tube, with a box that says where it ends."""
    last, lines = content["frames"] - 1, []
    lines += _cvat_head(content, "interpolation", content["frames"])
    for place, tube in enumerate(content["tubes"]):
        boxes = list(boxes_of(tube))
        lines.append(f'<track id="{place}" label={quoteattr(tube["class"])} source="auto">')
        for box in boxes:
            lines += _cvat_box(box, f'frame="{box.frame}" outside="0" keyframe="{+box.found}"')
        end = boxes[-1]._replace(frame=boxes[-1].frame + 1)
        if end.frame <= last:
            lines += _cvat_box(end, f'frame="{end.frame}" outside="1" keyframe="1"')
        lines.append("</track>")
    write_text(path, "\n".join([*lines, "</annotations>\n"]))


def write_cvat_images(content: dict, path: Path) -> None:
    """An image for each frame, with its boxes or masks."""
    frames, lines = by_frame(content), []
    lines += _cvat_head(content, "annotation", content["frames"])
    for frame in range(content["frames"]):
        name = quoteattr(picture_name(content["video"], frame))
        size = f'width="{content["width"]}" height="{content["height"]}"'
        lines.append(f'<image id="{frame}" name={name} {size}>')
        for box in frames.get(frame, ()):
            label = f'label={quoteattr(box.name)} source="auto"'
            lines += _cvat_mask(box, label) if box.mask else _cvat_box(box, label)
        lines.append("</image>")
    write_text(path, "\n".join([*lines, "</annotations>\n"]))


def _cvat_head(content, mode, frames):
    labels = []
    attributes = "".join(
        f"<attribute><name>{name}</name><mutable>True</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        for name in ("tube", "score")
    )
    for name in content["classes"]:
        labels.append(
            f"<label><name>{escape(name)}</name><attributes>{attributes}</attributes></label>"
        )
    size = f"<width>{content['width']}</width><height>{content['height']}</height>"
    return [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations><version>1.1</version>",
        f"<meta><task><name>{escape(content['video'])}</name><size>{frames}</size>"
        f"<mode>{mode}</mode><start_frame>0</start_frame><stop_frame>{frames - 1}</stop_frame>",
        f"<labels>{''.join(labels)}</labels>",
        f"<original_size>{size}</original_size></task></meta>",
    ]


def _cvat_box(box, attributes):
    names = ("xtl", "ytl", "xbr", "ybr")
    corners = zip(names, box.corners, strict=True)
    place = " ".join(f'{name}="{value:.2f}"' for name, value in corners)
    return [f'<box {attributes} occluded="0" {place} z_order="0">', *_said(box), "</box>"]


def _cvat_mask(box, attributes):
    mask = decode_rle(box.mask)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    runs = ", ".join(map(str, row_runs(part)))
    place = f'left="{left}" top="{top}" width="{part.shape[1]}" height="{part.shape[0]}"'
    head = f'<mask {attributes} occluded="0" rle="{runs}" {place} z_order="0">'
    return [head, *_said(box), "</mask>"]


def row_runs(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask row by row, outside first, as CVAT has them."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [flat.size - 1]])).tolist()


def _said(box):
    """Who it is and how sure, as attributes."""
    return [
        f'<attribute name="tube">{box.tube}</attribute>',
        f'<attribute name="score">{box.score:.6g}</attribute>',
    ]


class Format(NamedTuple):
    """Ending of a form's file, and its writer."""

    suffix: str
    write: Callable[[dict, Path], None]


FORMATS = {
    "csv": Format(".csv", write_csv),
    "mot": Format(".mot.txt", write_mot),
    "coco": Format(".coco.json", write_coco),
    "cvat": Format(".cvat.xml", write_cvat_video),
    "cvat-images": Format(".cvat-images.xml", write_cvat_images),
}
