"""COCO JSON: images, annotations (bbox, segmentation), categories.

Says which pictures there are, not which of those without annotation somebody has looked at,
and has no tracks but by convention (track_id). Taken in: every annotation of a picture whose
name leads to a frame. Given out: labels, with track_id, video and frame beside what COCO
knows; pictures where nothing is there are in the list of images.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from claus.annotators.actors import answers_with, shape_of
from claus.annotators.cvat import LARGEST, polygon_mask
from claus.annotators.found import Found
from claus.annotators.limits import read_json
from claus.annotators.pictures import picture_names
from claus.datasets.labels.masks import decode_rle, encode_rle, rle_problem
from claus.utils.runtime import UserError, atomic_write

LOSES = "COCO does not say which pictures somebody has looked at, nor what was skipped"


def recognizes(head: bytes, path: Path) -> bool:
    """Whether a file is JSON with an object, as COCO is."""
    return path.suffix.lower() == ".json" and head.lstrip().startswith(b"{")


def read_labels(path: Path, found: Found, kind: str) -> None:
    """Add the labels of a COCO file; UserError where it is none."""
    content = read_json(path)
    lists = [
        content.get(key) if isinstance(content, dict) else None
        for key in ("images", "annotations", "categories")
    ]
    if not all(
        isinstance(one, list) and all(isinstance(x, dict) for x in one) for one in lists
    ):
        raise UserError(f"{path}: no COCO file: images, annotations and categories are missing")
    images, annotations, categories = lists
    named = [(one, "id") for one in (*images, *categories)]
    named += [(one, name) for one in annotations for name in ("image_id", "category_id")]
    for one, name in named:
        if not isinstance(one.get(name), int | str):
            raise UserError(f"{path}: {name} is {one.get(name)!r}, no number; export it again")
    known = {image["id"] for image in images}
    labels = {one.get("id"): str(one.get("name")) for one in categories}
    for label in labels.values():
        found.name_class(label)
    places, sizes, crowds = {}, {}, 0
    for image in images:
        place = found.picture(str(image.get("file_name", "")))
        if place is not None:
            size = image.get("height"), image.get("width")
            places[image.get("id")] = place
            if all(isinstance(side, int) and 0 < side < 65536 for side in size):
                found.sizes[place] = sizes[image.get("id")] = size
    for annotation in annotations:
        number = annotation.get("image_id")
        place = places.get(number)
        if number not in known:
            found.problems.append((path.name, f"image {number!r} is not in its list"))
        if place is None:
            continue
        if annotation.get("iscrowd") and kind == "boxes":
            crowds += 1
            continue
        try:
            actor = _actor(annotation, labels, kind, sizes.get(number))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            found.problems.append((place[0], f"frame {place[1]}: {error}"))
            continue
        found.add(place, actor)
    empty = sum(place not in found.actors for place in places.values())
    if empty:
        found.warnings.append(
            ("", f"{path.name}: {empty} pictures without annotation: COCO does not say whether "
             "somebody has looked at them; they stay unlabeled")
        )  # fmt: skip
    if crowds:
        found.warnings.append(("", f"{path.name}: {crowds} crowd annotations were passed over"))


def _actor(annotation, labels, kind, size):
    label = labels.get(annotation.get("category_id"))
    if label is None:
        raise ValueError(f"category {annotation.get('category_id')!r} is not in the list")
    track = annotation.get("track_id")
    if track is None and isinstance(annotation.get("attributes"), dict):
        track = annotation["attributes"].get("track_id")
    whole = isinstance(track, int) and not isinstance(track, bool) and track > 0
    actor = {"track": track if whole else None, "class": label}
    if kind == "boxes":
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4:
            raise ValueError(f"bbox {box!r} is not x, y, width, height")
        return actor | {"box": [float(side) for side in box]}
    if size is None or size[0] * size[1] > LARGEST:
        raise ValueError("its picture has no size")
    return actor | {"mask": encode_rle(_mask(annotation.get("segmentation"), size))}


def _mask(segmentation, size):
    """Mask (H,W) bool of polygons, or of run lengths plain or packed."""
    if isinstance(segmentation, list) and segmentation:
        mask = np.zeros(size, bool)
        for flat in segmentation:
            pairs = zip(flat[::2], flat[1::2], strict=True)
            mask |= polygon_mask(";".join(f"{float(x):f},{float(y):f}" for x, y in pairs), size)
        return mask
    if not isinstance(segmentation, dict):
        raise ValueError("no segmentation, and masks are wanted")
    rle = dict(segmentation)
    if isinstance(rle.get("counts"), str):
        rle["counts"] = unpack_counts(rle["counts"])
    if wrong := rle_problem(rle, *size):
        raise ValueError(f"segmentation {wrong}")
    return decode_rle(rle)


def unpack_counts(text: str) -> list[int]:
    """COCO's packed run lengths: five bits a letter from "0" on, the sixth says that the
    number goes on; from the third on, less the one two before.
    """
    counts, at = [], 0
    while at < len(text):
        number, shift, more = 0, 0, True
        while more:
            if at >= len(text) or shift > 40:
                raise ValueError("packed run lengths that are cut short")
            letter = ord(text[at]) - 48
            number |= (letter & 31) << shift
            more, shift, at = bool(letter & 32), shift + 5, at + 1
            if not more and letter & 16:
                number -= 1 << shift
        counts.append(number + (counts[-2] if len(counts) > 2 else 0))
    return counts


def write_labels(
    form: Mapping, folder: Path, sizes: Mapping[str, tuple[int, int]]
) -> list[Path]:
    """Write coco.json of the answered frames -> its path."""
    kind = answers_with(form)
    keys = [(entry["video"], f["frame"]) for entry in form["videos"] for f in entry["frames"]]
    names = picture_names(keys)
    images, annotations = [], []
    for entry in form["videos"]:
        height, width = sizes[entry["video"]]
        for frame in entry["frames"]:
            place = entry["video"], frame["frame"]
            image = {"id": len(images) + 1, "file_name": names[place], "height": height,
                     "width": width, "video": place[0], "frame": place[1]}  # fmt: skip
            images.append(image)
            for actor in frame["actors"] or ():
                label = actor.get("class", entry["class"])
                shown = _annotation(shape_of(actor, kind))
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": image["id"], "iscrowd": 0,
                     "category_id": form["classes"].index(label) + 1,
                     "track_id": actor["track"], **shown}
                )  # fmt: skip
    categories = [{"id": k, "name": name} for k, name in enumerate(form["classes"], 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "coco.json"
    with atomic_write(path, "w") as file:
        json.dump(content, file, ensure_ascii=False)
    return [path]


def _annotation(shape):
    if shape.dtype != bool:
        x0, y0, x1, y1 = shape.tolist()
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
    rows, columns = np.nonzero(shape)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
    return {"bbox": box, "area": int(shape.sum()), "segmentation": encode_rle(shape)}
