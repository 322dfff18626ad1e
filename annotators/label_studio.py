"""Label Studio: image tasks, one a frame. Its JSON export comes back whole, so that names
need no parsing.

    task        {"data": {"image", "video", "frame", "reason"}, "annotations": [...],
                 "predictions": [...]}
    box         x, y, width, height in percent of the picture, `rectanglelabels`
    mask        `brushlabels`, {"format": "rle", "rle": bytes}: see unpack_rle
    track       a `number` result with the id of its region
    no action   the choice "no action here"; none of the classes, another
    class       of the video, where its boxes do not say it: the choice "class: jump"
    skipped     was_cancelled, or the choice "skipped"

Several annotations of a task are several people (completed_by). Only annotations are
labels: predictions, as proposals are given in, are not.
"""

import base64
import copy
import io
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from claus.annotators.actors import answers_with, shape_of
from claus.annotators.found import Found
from claus.annotators.limits import read_json
from claus.annotators.mend import NONE
from claus.annotators.pictures import Pictures, picture_names
from claus.annotators.proposals import proposals_of, proposed_shape
from claus.datasets.labels.masks import encode_rle
from claus.utils.runtime import UserError, atomic_write, write_text

EMPTY, SKIPPED, CLASS = "no action here", "skipped", "class: "
ORIGINS = {"manual": "drawn", "prediction": "accepted", "prediction-changed": "moved"}


def recognizes(head: bytes) -> bool:
    """Whether a file begins as a Label Studio export does: a JSON list."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


# ------------------------------------------------------------------------------------ reading


def read_tasks(path: str | Path) -> list[dict]:
    """The tasks of an export; UserError where it is none."""
    tasks = read_json(path)
    good = isinstance(tasks, list) and all(
        isinstance(task, dict) and isinstance(task.get("data"), dict) for task in tasks
    )
    if not good:
        raise UserError(
            f"{path}: not a Label Studio export of tasks; choose JSON (not JSON-MIN, COCO or "
            "YOLO) as the export format"
        )
    return tasks


def read_answers(path: str | Path, request: Mapping) -> list[tuple[str, dict]]:
    """[(who, a copy of `request` with that person's answers)]; UserError naming the file.
    Boxes are fractions of pixels still, and actors may have no track: see mend.fit.
    """
    people, notes, done = {}, [], set()
    asked = frames_of(request)
    pictures = Pictures(asked)
    kind = answers_with(request)
    for number, task in enumerate(read_tasks(path), 1):
        place = place_of(task["data"], asked, pictures)
        if place is None:
            said = task["data"].get("video") or task["data"].get("image") or f"task {number}"
            notes.append((str(said)[:100], "problem", "a task of no frame that was asked for"))
            continue
        for annotation in _annotations(task):
            who = f"person {annotation.get('completed_by', 1)}"
            if isinstance(annotation.get("completed_by"), dict):
                who = str(annotation["completed_by"].get("email", "a person"))
            if (who, place) in done:
                notes.append(
                    (place[0], "warning", f"frame {place[1]}: labeled twice by {who}; the last "
                     "counts")
                )  # fmt: skip
            done.add((who, place))
            form = people.setdefault(who, copy.deepcopy(dict(request)))
            _put(form, place, frame_of(annotation, task, place, kind, notes))
    if not people:
        people = {Path(path).name: copy.deepcopy(dict(request))}
    forms = list(people.items())
    forms[0][1]["notes"] = notes
    return forms


def frames_of(request: Mapping) -> list[tuple[str, int]]:
    """(video, frame) of everything that a request asks for, in order."""
    return [
        (entry["video"], frame["frame"])
        for entry in request["videos"]
        for frame in entry["frames"]
    ]


def place_of(data: Mapping, asked: Sequence, pictures: Pictures) -> tuple[str, int] | None:
    """(video, frame) of a task, by its data, or by the name of its picture."""
    video, frame = data.get("video"), data.get("frame")
    if isinstance(frame, str) and re.fullmatch(r"\d{1,9}", frame):
        frame = int(frame)
    if isinstance(video, str) and isinstance(frame, int):
        return (video, frame) if (video, frame) in set(asked) else None
    image = data.get("image")
    return pictures.find(image[-1000:]) if isinstance(image, str) else None


def _annotations(task):
    """The annotations of a task that are whole, oldest first."""
    given = task.get("annotations") or task.get("completions") or []
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _put(form, place, answer):
    """Put one frame's answer, and what it says of its video's class, into a form."""
    entry = next(one for one in form["videos"] if one["video"] == place[0])
    frame = next(one for one in entry["frames"] if one["frame"] == place[1])
    label = answer.pop("class", None)
    if label is not None:
        entry["class"] = label
    for key in ("skipped", "seconds", "by"):
        frame.pop(key, None)
    frame.update(answer)


def frame_of(
    annotation: Mapping, task: Mapping, place: tuple[str, int], kind: str, notes: list
) -> dict:
    """What an annotation says of its frame: {"actors", "skipped", "seconds", "class"}, as
    far as it says them. What cannot be read is added to notes and leaves the frame open.
    """
    video, number = place
    results = annotation.get("result")
    results = [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []
    answer, seconds = {"actors": None}, annotation.get("lead_time")
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        answer["seconds"] = seconds
    choices, numbers = set(), {}
    for result in results:
        value = result.get("value") if isinstance(result.get("value"), dict) else {}
        if result.get("type") == "choices" and isinstance(value.get("choices"), list):
            choices |= {str(choice) for choice in value["choices"]}
        if result.get("type") == "number" and isinstance(result.get("id"), str | int):
            numbers[result["id"]] = value.get("number")
    if annotation.get("was_cancelled") or SKIPPED in choices:
        return answer | {"skipped": "skipped in Label Studio"}
    actors, problems = [], []
    for result in results:
        try:
            actor = _actor(result, numbers, task, kind)
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            problems.append(f"a region that cannot be read ({error})")
            continue
        if isinstance(actor, str):
            problems.append(actor)
        elif actor is not None:
            if actor.pop("turned", False):
                notes.append(
                    (video, "warning", f"frame {number}: a rotated box: the box around it "
                     "was taken")
                )  # fmt: skip
            actors.append(actor)
    named = [choice.removeprefix(CLASS) for choice in choices if choice.startswith(CLASS)]
    if NONE in choices:
        answer["class"] = NONE
    elif named:
        answer["class"] = named[0]
    if len(named) > 1:
        problems.append(f"two classes of the video: {' and '.join(sorted(named))}")
    if actors and EMPTY in choices:
        problems.append(f"{EMPTY!r}, and yet actors are marked")
    if not (actors or problems or EMPTY in choices or NONE in choices):
        problems.append(f"nothing is marked and {EMPTY!r} is not chosen: which is it?")
    notes += [(video, "problem", f"frame {number}: {text}") for text in problems]
    if not problems:
        answer["actors"] = actors
    return answer


def _actor(result, numbers, task, kind):
    """The actor of a result, None where it is none, or a text: what is wrong with it."""
    value, what = result.get("value"), result.get("type")
    if what not in ("rectanglelabels", "rectangle", "brushlabels", "brush"):
        shapes = ("polygonlabels", "ellipselabels", "keypointlabels", "videorectangle")
        return (
            f"{what} is not read: mark actors with boxes or brushes" * (what in shapes) or None
        )
    if result.get("image_rotation"):
        return "the picture was turned in Label Studio: turn it back and mark it again"
    mask = what.startswith("brush")
    if mask != (kind == "masks"):
        return f"{'a mask' if mask else 'a box'}, and {kind} were asked for"
    width, height = _size(result)
    actor = {"track": _whole(numbers.get(result.get("id")))}
    if mask:
        actor["mask"] = encode_rle(unpack_rle(value["rle"], height, width))
        labels = value.get("brushlabels")
    else:
        actor["box"], turned = box_of(value, width, height)
        actor |= {"turned": True} if turned else {}
        labels = value.get("rectanglelabels")
    if isinstance(labels, list) and labels:
        actor["class"] = str(labels[0])
    actor["origin"] = _origin(result, task)
    return actor


def _size(result):
    width, height = result["original_width"], result["original_height"]
    if not all(isinstance(side, int) and 0 < side <= 65536 for side in (width, height)):
        raise ValueError(f"a picture of {width}x{height}")
    return width, height


def _whole(number):
    """A track number, None where it is none."""
    whole = isinstance(number, int | float) and float(number).is_integer() and number >= 1
    return int(number) if whole else None


def box_of(value: Mapping, width: int, height: int) -> tuple[list[float], bool]:
    """([x, y, w, h] in pixels, whether it was rotated: then the box around it)."""
    x, y, w, h = (float(value[key]) for key in ("x", "y", "width", "height"))
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError("a box that is no number")
    x, y, w, h = x * width / 100, y * height / 100, w * width / 100, h * height / 100
    turn = math.radians(float(value.get("rotation") or 0) % 360)
    if not turn:
        return [_near(side) for side in (x, y, w, h)], False
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]])
    c, s = math.cos(turn), math.sin(turn)
    around = corners @ np.array([[c, s], [-s, c]]) + [x, y]
    low, high = around.min(0), around.max(0)
    return [_near(side) for side in (*low, *(high - low))], True


def _near(side):
    """A side without the error of its percents."""
    return round(side, 6)


def _origin(result, task):
    """Drawn, moved or accepted: as the result says, or by the prediction of its id."""
    if result.get("origin") in ORIGINS:
        return ORIGINS[result["origin"]]
    given = task.get("predictions")
    predictions = [p for p in given if isinstance(p, dict)] if isinstance(given, list) else []
    for annotation in _annotations(task):
        if isinstance(annotation.get("prediction"), dict):
            predictions.append(annotation["prediction"])
    for prediction in predictions:
        proposed = prediction.get("result")
        for other in proposed if isinstance(proposed, list) else []:
            if not isinstance(other, dict) or other.get("id") != result.get("id"):
                continue
            if other.get("type") == result.get("type"):
                same = other.get("value") == result.get("value")
                return "accepted" if same else "moved"
    return "drawn"


# ------------------------------------------------------------------- labels that were there


def read_labels(path: Path, found: Found, kind: str, constant: Callable[[str], bool]) -> None:
    """Add the labels of an export to a Found; of several annotations of a task the last.

    constant: whether the frames of a video, by name, are shown at a constant rate: boxes
    over time (VideoRectangle) are not exact otherwise, and left out.
    """
    unseen = 0
    for task in read_tasks(path):
        data, done = task["data"], [a for a in _annotations(task) if not a.get("was_cancelled")]
        if not done:
            unseen += 1
            continue
        results = done[-1].get("result")
        results = (
            [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []
        )
        if any(result.get("type") == "videorectangle" for result in results):
            _add_video(data, results, found, constant)
            continue
        place = _frame_by_data(data, found) or found.picture(_picture_of(data))
        if place is None:
            continue
        notes = []
        answer = frame_of(done[-1], task, place, kind, notes)
        for video, what, text in notes:
            (found.problems if what == "problem" else found.warnings).append((video, text))
        if answer.get("class") not in (None, NONE):
            found.video_classes.setdefault(place[0], answer["class"])
        if answer["actors"] is None or "skipped" in answer:
            continue
        found.add(place)
        for actor in answer["actors"]:
            found.add(place, actor)
        sizes = [(r.get("original_height"), r.get("original_width")) for r in results]
        sizes = [size for size in sizes if all(isinstance(side, int) for side in size)]
        if sizes:
            found.sizes[place] = sizes[0]
    if unseen:
        found.warnings.append(("", f"{path.name}: {unseen} tasks without an annotation"))


def _frame_by_data(data, found):
    """(video, frame) by the task's own data, None where it does not say."""
    video, frame = data.get("video"), data.get("frame")
    name = found.names.find(video) if isinstance(video, str) else None
    if name is None or not isinstance(frame, int) or isinstance(frame, bool):
        return None
    return (name, frame) if 0 <= frame < found.names.lengths[name] else None


def _picture_of(data):
    """Name of a task's picture, or of what stands in its place."""
    for key in ("picture", "image", "img"):
        if isinstance(data.get(key), str) and not data[key].startswith("data:"):
            return data[key][-1000:].partition("?d=")[2] or data[key][-1000:]
    return ""


def _add_video(data, results, found, constant):
    """Add the keyframes of VideoRectangle results: frames from 1, boxes in percent."""
    given = next((data[k] for k in ("video", "video_url") if isinstance(data.get(k), str)), "")
    video = found.names.find(re.sub(r"/[0-9a-f]{8}-", "/", given))
    if video is None:
        found.problems.append((given[:100], "no video of the pool"))
        return
    if not constant(video):
        found.problems.append(
            (video, "its frames are not shown at a constant rate, where Label Studio's video "
             "tag numbers frames wrongly: left out; label pictures instead")
        )  # fmt: skip
        return
    for track, result in enumerate(results, 1):
        value = result.get("value")
        if result.get("type") != "videorectangle" or not isinstance(value, dict):
            continue
        labels, sequence = value.get("labels"), value.get("sequence")
        label = str(labels[0]) if isinstance(labels, list) and labels else None
        for key in sequence if isinstance(sequence, list) else ():
            try:
                if key.get("auto"):
                    continue
                frame = int(key["frame"]) - 1
                sides = [float(key[side]) / 100 for side in ("x", "y", "width", "height")]
                if not 0 <= frame < found.names.lengths[video]:
                    raise ValueError(f"the video has no frame {frame}")
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                found.problems.append((video, f"a box that cannot be read ({error})"))
                continue
            found.add((video, frame), {"track": track, "class": label, "shares": sides})


# -------------------------------------------------------------------------------- brush masks


def unpack_rle(code: Sequence[int], height: int, width: int) -> np.ndarray:
    """Mask (H,W) bool of a brush: the alpha values of an RGBA picture, bit-packed.

    32 bits: number of values; 5: bits of a value less 1; 4 x 4: bits, less 1, of the four
    kinds of length; then blocks: 1 bit, whether one value is repeated; 2 bits, the kind;
    the length less 1; the value, or as many values. ValueError where it is none.
    """
    if not isinstance(code, list) or not all(isinstance(byte, int) for byte in code):
        raise ValueError("a mask without its bytes")
    bits = np.unpackbits(np.array(code, np.uint8))
    at = 0

    def take(count):
        nonlocal at
        piece = bits[at : at + count]
        if len(piece) < count:
            raise ValueError("a mask that is cut short")
        at += count
        return int("".join(map(str, piece.tolist())) or "0", 2)

    total, size = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    if total != height * width * 4 or size != 8:
        raise ValueError(f"a mask of another picture than {width}x{height}")
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeated, kind = take(1), take(2)
        count = take(lengths[kind]) + 1
        if done + count > total:
            raise ValueError("a mask longer than its picture")
        if repeated:
            values[done : done + count] = take(8)
        else:
            piece = bits[at : at + 8 * count]
            if len(piece) < 8 * count:
                raise ValueError("a mask that is cut short")
            values[done : done + count] = np.packbits(piece)
            at += 8 * count
        done += count
    return values[3::4].reshape(height, width) > 127


def pack_rle(mask: np.ndarray) -> list[int]:
    """The bytes of a mask (H,W) bool, see unpack_rle: runs alone."""
    flat = np.asarray(mask, bool).ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    ends = np.concatenate([edges, [flat.size]])
    text = [f"{flat.size * 4:032b}", f"{7:05b}", *(f"{bits:04b}" for bits in (2, 7, 15, 15))]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        left, value = 4 * (end - start), 255 * int(flat[start])
        while left:
            count = min(left, 1 << 16)
            kind = next(k for k, bits in enumerate((3, 8, 16)) if count <= 1 << bits)
            text.append(f"1{kind:02b}{count - 1:0{(3, 8, 16)[kind]}b}{value:08b}")
            left -= count
    bits = "".join(text)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


# ------------------------------------------------------------------------------------ writing


def labeling_config(classes: Sequence[str], kind: str) -> str:
    """The labelling interface to paste into Label Studio's settings."""
    shape = "RectangleLabels" if kind == "boxes" else "BrushLabels"
    labels = [f"    <Label value={quoteattr(name)}/>" for name in classes]
    choices = [EMPTY, NONE, *(f"{CLASS}{name}" for name in classes)]
    lines = [
        "<View>",
        '  <Text name="reason" value="$reason"/>',
        '  <Image name="image" value="$image"/>',
        f'  <{shape} name="actor" toName="image">',
        *labels,
        f"  </{shape}>",
        '  <Number name="track" toName="image" perRegion="true" min="1" step="1"/>',
        '  <Choices name="empty" toName="image" choice="multiple">',
        *(f"    <Choice value={quoteattr(choice)}/>" for choice in choices),
        "  </Choices>",
        "</View>",
    ]
    return "\n".join(lines) + "\n"


def write_tasks(
    request: Mapping,
    folder: Path,
    frames: Path,
    sizes: Mapping[str, tuple[int, int]],
    proposals: Mapping | None = None,
) -> list[Path]:
    """Write tasks.json, with the pictures in it, and config.xml -> their paths.

    request: also with answers in it, which become annotations. frames: folder of the
    pictures. sizes: {video: (height, width)}. proposals: see docs/exchange.md; they become
    predictions.
    """
    kind, tasks = answers_with(request), []
    names = picture_names(frames_of(request))
    for entry in request["videos"]:
        height, width = sizes[entry["video"]]
        for frame in entry["frames"]:
            place = entry["video"], frame["frame"]
            picture = frames / entry["video"] / f"frame_{frame['frame']:05d}.png"
            data = {
                "image": _inline(picture) or names[place],
                "video": place[0],
                "frame": place[1],
                "reason": str(entry.get("reason", "")),
                "picture": names[place],
            }
            task = {"data": data}
            answer = _annotation(entry, frame, width, height, kind)
            if answer is not None:
                task["annotations"] = [answer]
            proposed = proposals_of(proposals, *place)
            if proposed:
                task["predictions"] = [_prediction(proposed, place, width, height, kind)]
            tasks.append(task)
    paths = [folder / "tasks.json", folder / "config.xml"]
    with atomic_write(paths[0], "w") as file:
        json.dump(tasks, file, ensure_ascii=False)
    write_text(paths[1], labeling_config(request["classes"], kind))
    return paths


def _inline(picture):
    """A picture inside the file: "data:image/jpeg;base64,…"; None where it is missing."""
    if not picture.exists():
        return None
    packed = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").save(packed, format="JPEG", quality=92)
    return f"data:image/jpeg;base64,{base64.b64encode(packed.getvalue()).decode()}"


def _annotation(entry, frame, width, height, kind):
    """The annotation of an answered or skipped frame, None of one that waits."""
    if frame.get("skipped"):
        return {"result": [], "was_cancelled": True, "completed_by": 1}
    if frame["actors"] is None:
        return None
    results = []
    for place, actor in enumerate(frame["actors"]):
        label = actor.get("class", entry["class"])
        shape = shape_of(actor, kind)
        results += _region(f"a{place}", shape, label, actor["track"], width, height)
    choices = [] if frame["actors"] else [NONE if entry["class"] == NONE else EMPTY]
    if entry["class"] not in (None, NONE):
        choices.append(f"{CLASS}{entry['class']}")
    if choices:
        results.append(_choice(choices))
    annotation = {"result": results, "was_cancelled": False, "completed_by": 1}
    if frame.get("seconds") is not None:
        annotation["lead_time"] = frame["seconds"]
    return annotation


def _choice(choices):
    value = {"choices": choices}
    return {"from_name": "empty", "to_name": "image", "type": "choices", "value": value}


def _region(region, shape, label, track, width, height):
    """The results of one actor: its box or mask, and its track number where it has one."""
    common = {"id": region, "to_name": "image", "original_width": width,
              "original_height": height, "image_rotation": 0}  # fmt: skip
    if shape.dtype == bool:
        value = {"format": "rle", "rle": pack_rle(shape), "brushlabels": [label]}
        what, place = "brushlabels", {}
    else:
        x0, y0, x1, y1 = shape.tolist()
        place = {"x": 100 * x0 / width, "y": 100 * y0 / height, "rotation": 0,
                 "width": 100 * (x1 - x0) / width, "height": 100 * (y1 - y0) / height}  # fmt: skip
        value, what = {**place, "rectanglelabels": [label]}, "rectanglelabels"
    results = [{**common, "from_name": "actor", "type": what, "value": value}]
    if track is not None:
        number = {**place, "number": track}
        results.append({**common, "from_name": "track", "type": "number", "value": number})
    return results


def _prediction(proposed, place, width, height, kind):
    results = []
    for number, actor in enumerate(proposed):
        shape = proposed_shape(actor, kind, height, width)
        if shape is not None:
            label = str(actor.get("class"))
            results += _region(f"p{place[1]}_{number}", shape, label, None, width, height)
    score = max((float(actor.get("score") or 0) for actor in proposed), default=0.0)
    return {"model_version": "claus", "score": score, "result": results}
