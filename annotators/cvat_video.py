"""Labels of CVAT that were there before a run, images or video 1.1; video 1.1 as it is written.

Video 1.1: <track label> with <box frame keyframe outside …>, frames from 0 of the video as
decoded. Only boxes with keyframe="1" and outside="0" of tracks that no machine made are a
person's labels; what lies between is interpolated. It cannot say that somebody has looked at
a frame and found nothing, nor which frames of a video were asked for. Track ids are
renumbered by CVAT: an attribute "track" says who it is. Of masks only those of single
pictures survive, so masks are refused.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from claus.annotators.actors import answers_with
from claus.annotators.cvat import (
    EMPTY,
    ROOT,
    SKIPPED,
    TAGS,
    box_of,
    number_of,
    read_image,
    track_of,
)
from claus.annotators.found import Found
from claus.annotators.limits import Node, read_xml
from claus.annotators.pictures import picture_name
from claus.utils.runtime import UserError, write_text

LOSES = (
    "CVAT for video does not say which frames were looked at or skipped; frames without an "
    "action are said by outside=1 only"
)


def read_labels(path: Path, found: Found, kind: str) -> None:
    """Add the labels of a CVAT file, images or video 1.1; UserError where it is none."""
    meta, tracks, proposed, unseen = None, [], 0, 0
    for node in read_xml(path, ROOT):
        if node.name == "meta":
            meta = node
            for label in labels_of(node):
                if label not in TAGS:
                    found.name_class(label)
        elif node.name == "track":
            tracks.append(node)
        elif node.name == "image":
            image = read_image(node, kind)
            place = found.picture(node.attributes.get("name", ""), source_of(meta))
            if place is None:
                continue
            found.problems += [(place[0], f"frame {place[1]}: {t}") for t in image.problems]
            proposed += image.proposed
            found.sizes[place] = image.size
            for tag in image.tags:
                if tag not in TAGS:
                    found.video_classes.setdefault(place[0], tag)
            if image.problems or SKIPPED in image.tags:
                continue
            if image.actors or EMPTY in image.tags:
                found.add(place)
                for actor in image.actors:
                    found.add(place, actor)
            else:
                unseen += 1
    if tracks:
        proposed += read_tracks(path, meta, tracks, found, kind)
    if proposed:
        found.warnings.append(
            ("", f"{path.name}: {proposed} shapes are interpolated or proposed by a machine: no "
             "person's labels, left out")
        )  # fmt: skip
    if unseen:
        found.warnings.append(
            ("", f"{path.name}: {unseen} pictures without a person's shape and without the tag "
             f"{EMPTY!r}: they stay unlabeled")
        )  # fmt: skip


def labels_of(meta: Node) -> list[str]:
    """Names of the labels in <meta>, of a task, a job or a project."""
    for holder in ("task", "job", "project"):
        labels = meta.first(holder, "labels")
        if labels is not None:
            named = [label.first("name") for label in labels.all("label")]
            return [
                name.text.strip() for name in named if name is not None and name.text.strip()
            ]
    return []


def source_of(meta: Node | None) -> str | None:
    """Name of the video that a task was made of, None where <meta> does not say."""
    if meta is None:
        return None
    for path in (("source",), ("task", "source"), ("job", "source")):
        node = meta.first(*path)
        if node is not None and node.text.strip():
            return node.text.strip()
    return None


def read_tracks(path: Path, meta: Node | None, tracks: Sequence[Node], found: Found, kind: str):
    """Add the keyframes of a video's tracks; how many boxes are no person's. UserError where
    the file does not say which video it is of.
    """
    if kind == "masks":
        raise UserError(
            f"{path}: CVAT for video keeps no masks but the first; export as 'CVAT for images "
            "1.1', or leave out --masks"
        )
    video = found.names.find(source_of(meta) or "") or found.names.find(path.stem)
    if video is None:
        raise UserError(
            f"{path}: which video is this? its <source> is {source_of(meta)!r}, no video of "
            "the pool; name the file as its video (jump_b.xml)"
        )
    machine = 0
    for number, track in enumerate(tracks, 1):
        by_machine = track.attributes.get("source") == "auto"
        for box in track.children:
            if box.name != "box":
                if box.attributes.get("keyframe") == "1":
                    found.problems.append((video, f"<{box.name}> is not read: boxes are"))
                continue
            if box.attributes.get("outside") == "1":
                continue
            if by_machine or box.attributes.get("keyframe") != "1":
                machine += 1
                continue
            _add_box(box, track, number, video, found)
    return machine


def _add_box(box, track, number, video, found):
    """One keyframe."""
    try:
        frame = number_of(box, "frame", whole=True)
        if not 0 <= frame < found.names.lengths[video]:
            raise ValueError(f"the video has no frame {frame}")
        own = track_of(box) or track_of(track) or number
        label = track.attributes.get("label", "")
        actor = {"track": own, "class": label, "box": box_of(box)}
    except (ValueError, OverflowError) as error:
        found.problems.append((video, str(error)))
        return
    found.add((video, frame), actor)


def write_labels(
    form: Mapping, folder: Path, sizes: Mapping[str, tuple[int, int]]
) -> list[Path]:
    """Write <video>.xml for every video -> their paths."""
    if answers_with(form) == "masks":
        raise UserError("CVAT for video keeps no masks: export as cvat, label_studio or coco")
    paths = []
    for entry in form["videos"]:
        height, width = sizes[entry["video"]]
        labels = "".join(f"<label><name>{escape(n)}</name></label>" for n in form["classes"])
        last = entry["video"].rpartition("/")[2]
        lines = [
            '<?xml version="1.0" encoding="utf-8"?>',
            "<annotations>",
            "  <version>1.1</version>",
            f"  <meta><task><labels>{labels}</labels><original_size><width>{width}</width>"
            f"<height>{height}</height></original_size></task><source>{escape(last)}</source>"
            "</meta>",
            *_tracks(entry),
            "</annotations>",
        ]
        name = picture_name(entry["video"], 0).removesuffix("__frame_00000.png")
        paths.append(folder / f"{name}.xml")
        write_text(paths[-1], "\n".join(lines) + "\n")
    return paths


def _tracks(entry):
    """<track> elements: the labels as keyframes, and where the actor is gone."""
    tracks = {}
    for frame in entry["frames"]:
        for actor in frame["actors"] or ():
            tracks.setdefault(actor["track"], {})[frame["frame"]] = actor
    labeled = [frame["frame"] for frame in entry["frames"] if frame["actors"] is not None]
    for number, (track, actors) in enumerate(sorted(tracks.items())):
        label = next(iter(actors.values())).get("class", entry["class"])
        yield f'  <track id="{number}" label={quoteattr(label)} source="manual">'
        before = None
        for frame in labeled:
            actor = actors.get(frame)
            if actor is not None:
                before = actor["box"]
                yield _box_line(frame, before, track, 0)
            elif before is not None:
                yield _box_line(frame, before, track, 1)
                before = None
        yield "  </track>"


def _box_line(frame, box, track, outside):
    x, y, w, h = box
    return (
        f'    <box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" '
        f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + w:.2f}" ybr="{y + h:.2f}" z_order="0">'
        f'<attribute name="track">{track}</attribute></box>'
    )
