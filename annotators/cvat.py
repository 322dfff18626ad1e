"""CVAT for images 1.1, a full round trip.

<image name width height> with <box xtl ytl xbr ybr>, <mask rle left top width
height>, <polygon points> and <tag>, each with a label, a source and <attribute name="track">.
Corners are half-open; a mask's rle is the run lengths row by row inside its own rectangle,
background first. Pictures are found by their names (pictures.py). An image without anything
may be one that nobody has looked at, so these are tags:

    no action here · none of these classes · skipped · accepted (of all proposals on it) ·
    a class, which is the video's where no actor says it

A shape whose source is "auto" is a proposal or was interpolated: no person's label.

Video 1.1 is in cvat_video.py.
"""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from skimage.draw import polygon2mask

from claus.annotators.actors import answers_with, shape_of
from claus.annotators.limits import Node, read_xml
from claus.annotators.mend import NONE
from claus.annotators.pictures import Pictures, picture_names
from claus.annotators.proposals import proposals_of, proposed_shape
from claus.datasets.labels.masks import encode_rle
from claus.utils.runtime import UserError, atomic_write

EMPTY, SKIPPED, ACCEPTED = "no action here", "skipped", "accepted"
TAGS = (EMPTY, NONE, SKIPPED, ACCEPTED)
ROOT = "annotations"
LARGEST = 1 << 26  # pixels of a picture


def recognizes(head: bytes) -> bool:
    """Whether a file begins as XML or a zip does."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    return start.startswith((b"<", b"PK\x03\x04", b"PK\x05\x06"))


# ------------------------------------------------------------------------------------ reading


def read_answers(path: str | Path, request: Mapping) -> dict:
    """A copy of `request` with the answers of CVAT for images 1.1; UserError naming the
    file. Actors may have no track yet: see mend.fit.
    """
    form = copy.deepcopy(dict(request))
    kind, notes = answers_with(form), []
    frames = {
        (entry["video"], frame["frame"]): (entry, frame)
        for entry in form["videos"]
        for frame in entry["frames"]
    }
    pictures, found, proposed = Pictures(frames), 0, 0
    for node in read_xml(path, ROOT):
        if node.name == "track":
            raise UserError(f"{path}: is CVAT for video 1.1; export as 'CVAT for images 1.1'")
        if node.name != "image":
            continue
        name = node.attributes.get("name", "")
        place = pictures.find(name)
        if place is None:
            notes.append((name[:100], "problem", "a picture of no frame that was asked for"))
            continue
        found += 1
        entry, frame = frames[place]
        image = read_image(node, kind)
        notes += [(place[0], "problem", f"frame {place[1]}: {text}") for text in image.problems]
        proposed += image.proposed
        _put(entry, frame, image, notes)
    if not found:
        raise UserError(
            f"{path}: none of its pictures is one that was asked for; name them as --export "
            "cvat does (video__frame_00005.png)"
        )
    if proposed:
        notes.append(
            ("", "warning", f"{proposed} proposals were left as they are and are no labels; "
             f"tag a picture {ACCEPTED!r} where all of them are right")
        )  # fmt: skip
    form["notes"] = notes
    return form


class Image:
    """What CVAT says of a picture: actors, tags {label: reason or ""}, problems, and how
    many shapes are only proposed.
    """

    def __init__(self):
        self.actors, self.tags, self.problems, self.proposed = [], {}, [], 0
        self.size = None


def read_image(node: Node, kind: str) -> Image:
    """The Image of an <image> element; what cannot be read is among its problems."""
    image = Image()
    for tag in node.all("tag"):
        reason = _attribute(tag, "reason") or ""
        image.tags[tag.attributes.get("label", "")] = reason
    taken = ACCEPTED in image.tags
    try:
        size = number_of(node, "height", whole=True), number_of(node, "width", whole=True)
        if min(size) < 1 or size[0] * size[1] > LARGEST:
            raise ValueError(f"a picture of {size[1]}x{size[0]} pixels")
        image.size = size
        for shape in node.children:
            if shape.name in ("tag", "attribute"):
                continue
            auto = shape.attributes.get("source") == "auto"
            if auto and not taken:
                image.proposed += 1
                continue
            actor = _actor(shape, size, kind)
            actor["origin"] = "accepted" if auto else "drawn"
            if shape.attributes.get("source") == "semi-auto":
                actor["origin"] = "moved"
            image.actors.append(actor)
    except (ValueError, OverflowError) as error:
        image.problems.append(str(error))
    return image


def _put(entry, frame, image, notes):
    """Put a picture's answer, and what it says of its video's class, into a form."""
    video, number, tags = entry["video"], frame["frame"], image.tags
    classes = [label for label in tags if label not in TAGS]
    if NONE in tags:
        entry["class"] = NONE
    elif classes:
        entry["class"] = classes[0]
    if SKIPPED in tags:
        frame["skipped"] = tags[SKIPPED] or "skipped in CVAT"
        return
    if image.problems:
        return
    if image.actors and (EMPTY in tags or NONE in tags):
        notes.append(
            (video, "problem", f"frame {number}: {EMPTY!r}, and yet actors are marked")
        )
    elif image.actors or EMPTY in tags or NONE in tags:
        frame["actors"] = image.actors


def _attribute(node, name):
    """The text of an element's <attribute name=…>, None where it has none."""
    for child in node.all("attribute"):
        if child.attributes.get("name") == name:
            return child.text.strip() or None
    return None


def number_of(node: Node, name: str, whole: bool = False) -> float:
    """An attribute as a number; ValueError naming it."""
    text = node.attributes.get(name, "")
    pattern = r"-?\d{1,7}" if whole else r"-?\d{1,7}(\.\d{1,9})?"
    if not re.fullmatch(pattern, text):
        raise ValueError(f"<{node.name}>: {name} is {text[:40]!r}, no number")
    return int(text) if whole else float(text)


def track_of(node: Node) -> int | None:
    """The number in the attribute "track", None where there is none."""
    text = _attribute(node, "track")
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) and int(text) else None


def _actor(node, size, kind):
    """The actor of a shape; ValueError where it is not of the kind that is asked for."""
    actor = {"track": track_of(node), "class": node.attributes.get("label", "")}
    if kind == "masks":
        actor["mask"] = encode_rle(_mask(node, size))
    else:
        actor["box"] = box_of(node)
    return actor


def box_of(node: Node) -> list[float]:
    """[x, y, w, h] of a <box>; ValueError where it is none."""
    if node.name != "box":
        raise ValueError(f"<{node.name}>: mark actors with boxes, as was asked for")
    if float(node.attributes.get("rotation") or 0) % 360:
        raise ValueError("<box>: is rotated; mark the actor with an upright box")
    x0, y0, x1, y1 = (number_of(node, name) for name in ("xtl", "ytl", "xbr", "ybr"))
    return [round(side, 6) for side in (x0, y0, x1 - x0, y1 - y0)]


def _mask(node, size):
    """Mask (H,W) bool of a <mask> or <polygon>."""
    if node.name == "polygon":
        return polygon_mask(node.attributes.get("points", ""), size)
    if node.name != "mask":
        raise ValueError(f"<{node.name}>: mark actors with masks or polygons, as was asked for")
    left, top, width, height = (
        number_of(node, name, whole=True) for name in ("left", "top", "width", "height")
    )
    inside = 0 <= left <= left + width <= size[1] and 0 <= top <= top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise ValueError("<mask>: lies outside its picture")
    text = node.attributes.get("rle", "")
    if not re.fullmatch(r"[\d\s,]*", text):
        raise ValueError("<mask>: its rle is not a list of numbers")
    counts = [int(word) for word in re.findall(r"\d{1,9}", text)]
    if sum(counts) != width * height:
        raise ValueError("<mask>: its rle does not fill its rectangle")
    part = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    mask = np.zeros(size, bool)
    mask[top : top + height, left : left + width] = part
    return mask


def polygon_mask(points: str, size: tuple[int, int]) -> np.ndarray:
    """Mask (H,W) bool of "x,y;x,y;…" in pixels: a pixel is in it if its center is."""
    if not re.fullmatch(r"\s*(-?[\d.]+,-?[\d.]+;?\s*){3,10000}", points):
        raise ValueError("<polygon>: its points are not x,y;x,y;x,y")
    pairs = [pair.split(",") for pair in points.split(";") if pair.strip()]
    corners = np.array([(float(y), float(x)) for x, y in pairs]) - 0.5
    return polygon2mask(size, corners)


# ------------------------------------------------------------------------------------ writing


def write_tasks(
    request: Mapping,
    folder: Path,
    frames: Path,
    sizes: Mapping[str, tuple[int, int]],
    proposals: Mapping | None = None,
) -> list[Path]:
    """Write annotations.xml (to upload as "CVAT 1.1"), labels.json (for the task's raw
    labels) -> their paths. Pictures are linked beside them by steps/exchange.py.

    request: also with answers in it. frames: unused, the pictures go in by name. sizes:
    {video: (height, width)}. proposals: become shapes with source="auto".
    """
    clash = sorted(set(request["classes"]) & set(TAGS))
    if clash:
        raise UserError(
            f"a class is called {clash[0]!r}, which is a tag here; export another way"
        )
    kind = answers_with(request)
    keys = [(e["video"], f["frame"]) for e in request["videos"] for f in e["frames"]]
    names, number = picture_names(keys), 0
    paths = [folder / "annotations.xml", folder / "labels.json"]
    with atomic_write(paths[0], "w") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write("  <version>1.1</version>\n")
        file.write(_meta(request["classes"], len(keys)))
        for entry in request["videos"]:
            height, width = sizes[entry["video"]]
            for frame in entry["frames"]:
                name = quoteattr(names[entry["video"], frame["frame"]])
                head = f'  <image id="{number}" name={name} width="{width}" height="{height}">'
                proposed = proposals_of(proposals, entry["video"], frame["frame"])
                lines = _lines(entry, frame, kind, height, width, proposed)
                file.write("\n".join([head, *lines, "  </image>\n"]))
                number += 1
        file.write("</annotations>\n")
    with atomic_write(paths[1], "w") as file:
        file.write(_labels(request["classes"]))
    return paths


def _meta(classes, size):
    """<meta> with the labels, as CVAT writes it; readers look the labels up there."""
    track = (
        "<attribute><name>track</name><mutable>False</mutable><input_type>number</input_type>\
<default_value></default_value><values>1;100000;1</values></attribute>"
    )
    reason = (
        "<attribute><name>reason</name><mutable>False</mutable><input_type>text</input_type>\
<default_value></default_value><values></values></attribute>"
    )
    labels = [(name, track) for name in classes]
    labels += [(tag, reason if tag == SKIPPED else "") for tag in TAGS]
    lines = [
        f"<label><name>{escape(name)}</name><attributes>{attributes}</attributes></label>"
        for name, attributes in labels
    ]
    return (
        f"  <meta><task><size>{size}</size><mode>annotation</mode><labels>\n    "
        + "\n    ".join(lines)
        + "\n  </labels></task></meta>\n"
    )


def _labels(classes):
    """The labels of a task in the form of CVAT's "raw" tab."""
    track = {"name": "track", "input_type": "number", "mutable": False,
             "values": ["1", "100000", "1"], "default_value": "1"}  # fmt: skip
    reason = {"name": "reason", "input_type": "text", "mutable": False, "values": [""]}
    labels = [{"name": name, "attributes": [track]} for name in classes]
    labels += [
        {"name": tag, "type": "tag", "attributes": [reason] if tag == SKIPPED else []}
        for tag in TAGS
    ]
    return json.dumps(labels, ensure_ascii=False, indent=1) + "\n"


def _lines(entry, frame, kind, height, width, proposed):
    """The elements of one picture."""
    lines = []
    if frame.get("skipped"):
        attribute = f'<attribute name="reason">{escape(frame["skipped"])}</attribute>'
        return [f'    <tag label="{SKIPPED}" source="manual">{attribute}</tag>']
    if frame["actors"] is None:
        for actor in proposed:
            shape = proposed_shape(actor, kind, height, width)
            if shape is not None:
                lines.append(_shape(shape, str(actor["class"]), None, "auto"))
        return lines
    for actor in frame["actors"]:
        label = actor.get("class", entry["class"])
        lines.append(_shape(shape_of(actor, kind), label, actor["track"], "manual"))
    if entry["class"] == NONE:
        lines.append(_tag(NONE))
        return lines
    if not frame["actors"]:
        lines.append(_tag(EMPTY))
    if entry["class"] is not None:
        lines.append(_tag(entry["class"]))
    return lines


def _tag(label):
    return f'    <tag label={quoteattr(label)} source="manual"></tag>'


def _shape(shape, label, track, source):
    """<box> or <mask> of corners (4,) or a mask (H,W)."""
    common = f'label={quoteattr(label)} source="{source}" occluded="0"'
    inner = "" if track is None else f'<attribute name="track">{track}</attribute>'
    if shape.dtype != bool:
        sides = zip(("xtl", "ytl", "xbr", "ybr"), shape.tolist(), strict=True)
        place = " ".join(f'{name}="{side:.2f}"' for name, side in sides)
        return f'    <box {common} {place} z_order="0">{inner}</box>'
    rows, columns = np.nonzero(shape)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    counts = row_runs(shape[top:bottom, left:right])
    place = f'left="{left}" top="{top}" width="{right - left}" height="{bottom - top}"'
    return (
        f'    <mask {common} rle="{", ".join(map(str, counts))}" {place} z_order="0">'
        f"{inner}</mask>"
    )


def row_runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs of a mask (H,W), row by row, alternately outside and inside,
    beginning outside.
    """
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [flat.size - 1]])).tolist()
