"""Answers to a request: whether they are complete and fit, and how they become labels."""

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from claus.annotators.actors import actor_problems, answers_with, is_whole, shape_of
from claus.datasets.labels.annotations import Annotations, Tube
from claus.utils.runtime import UserError

SHOWN = 5  # problems spelled out in an error; the others are counted


# ------------------------------------------------------------------------------------ check


def check_answers(request: Mapping, answers: Mapping, annotations: Annotations) -> None:
    """Raise UserError unless `answers` are complete, well-formed answers to `request`,
    neither less nor more.

    One line with the first few problems and the number of all. annotations: as they were
    when the request was made.
    """
    problems = [
        f"{key} is {answers.get(key)!r}, the request has {request.get(key)!r}"
        for key in ("run", "cycle")
        if answers.get(key) != request.get(key)
    ]
    kind = answers_with(request)
    if answers.get("answer_with") != request.get("answer_with"):
        problems.append(
            f"answer_with is {answers.get('answer_with')!r}, the request is for {kind}"
        )
    classes = request.get("classes")
    if answers.get("classes") != classes or classes != list(annotations.classes):
        problems.append("the list of classes was changed")
    asked, _ = _by_video(request)
    given, twice = _by_video(answers)
    problems += twice
    problems += [f"video {name} is missing" for name in asked if name not in given]
    problems += [f"video {name} was not requested" for name in given if name not in asked]
    for name in given:
        if name in asked:
            found = _frame_differences(asked[name], given[name])
            found += _answer_problems(given[name], annotations, name, kind)
            problems += [f"video {name}: {text}" for text in found]
    _raise(problems)


def _raise(problems):
    """UserError with the first of `problems`, if there are any."""
    if not problems:
        return
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    # one line, whatever the file holds
    texts = [" ".join(text.split())[:200] for text in problems[:SHOWN]]
    raise UserError(
        f"the answers have {count}: {'; '.join(texts)}{more}; correct the answer file"
    )


def _by_video(form):
    """(name -> entry, problems): the entries of a form; a name that comes twice, or none at
    all, is a problem.
    """
    entries, problems = {}, []
    for i, entry in enumerate(form["videos"]):
        name = entry.get("video") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            problems.append(f"entry {i + 1} of videos has no 'video' name")
        elif name in entries:
            problems.append(f"video {name} appears twice")
        else:
            entries[name] = entry
    return entries, problems


def _frame_numbers(entry):
    """List of the frame numbers of a video's entry, None where it is not a whole number."""
    frames = entry.get("frames")
    numbers = []
    for frame in frames if isinstance(frames, list) else []:
        number = frame.get("frame") if isinstance(frame, dict) else None
        numbers.append(number if is_whole(number) else None)
    return numbers


def _frame_differences(asked, given):
    """Texts: frames of `given` that are missing, were not requested, or have become another
    frame.
    """
    wanted, have = _frame_numbers(asked), _frame_numbers(given)
    asked_for, had = set(wanted), set(have)
    differing = [(old, new) for old, new in zip(wanted, have, strict=False) if old != new]
    missing = [frame for frame in wanted if frame not in had]
    surplus = [frame for frame in have if frame not in asked_for]
    if len(wanted) == len(have) and len(differing) == len(missing):  # edited in place
        return [f"frame {old} was changed to {new}" for old, new in differing]
    return [
        *(f"frame {frame} is missing" for frame in missing),
        *(f"frame {frame} was not requested" for frame in surplus),
    ]


def _answer_problems(entry, annotations, name, kind):
    """Texts: what is wrong with the class and the frames of one answered video."""
    video = annotations.videos.get(name)
    if video is None:
        return ["is not in the annotation file"]
    problems = _class_problems(entry.get("class"), annotations, video)
    if not isinstance(entry.get("frames"), list) or not entry["frames"]:
        return [*problems, "'frames' is not a list of frames"]
    numbers = _frame_numbers(entry)
    labeled = set((video.labeled_frames + video.first).tolist())
    known = range(video.first, video.first + video.frames)
    problems += [
        f"frame {number} appears twice"
        for number, times in Counter(numbers).items()
        if times > 1
    ]
    for frame in entry["frames"]:
        number = frame.get("frame") if isinstance(frame, dict) else None
        if not is_whole(number):
            problems.append(f"frame number {number!r} is not a whole number")
        elif number not in known:
            which = f"{video.frames} frames"
            if video.segment is not None:
                which = f"frames {known[0]} to {known[-1]} of {video.source}"
            problems.append(f"frame {number} is not in the video ({which})")
        elif number in labeled:
            problems.append(f"frame {number} is labeled already")
        else:
            found = actor_problems(frame.get("actors"), video, kind)
            found += _actor_class_problems(frame.get("actors"), annotations.classes)
            problems += [f"frame {number}: {text}" for text in found]
    return problems


def _class_problems(label, annotations, video):
    """Texts: what is wrong with the class of one answered video; at most one."""
    if label is None:
        return ["its class is missing (null)"]
    if label not in annotations.classes:
        near = difflib.get_close_matches(str(label), annotations.classes, 1)
        hint = f" (is it {near[0]}?)" if near else ""
        return [f"unknown class {label!r}{hint}"]
    if video.is_labeled and label != annotations.classes[video.label]:
        before = annotations.classes[video.label]
        return [f"class {label!r}, it was labeled {before!r} before"]
    return []


def _actor_class_problems(actors, classes):
    """Texts: actors whose own class is none of the classes."""
    given = [a.get("class") for a in actors or () if isinstance(a, dict)]
    return [f"unknown class {label!r}" for label in given if label not in (None, *classes)]


# ------------------------------------------------------------------------------------ merge


def merge_answers(annotations: Annotations, answers: Mapping) -> Annotations:
    """New Annotations: the old ones (not changed) and the labels of `answers`, whose actors
    continue the tubes of the same track number. Raises UserError.

    An answered frame without actors becomes a labeled frame that no tube has. Also checks
    what check_answers does.
    """
    check_answers(answers, answers, annotations)
    kind, changed = answers_with(answers), {}
    for entry in answers["videos"]:
        name = entry["video"]
        video = changed.get(name) or annotations.videos[name]
        label = annotations.classes.index(entry["class"])
        added = _shapes_by_track(entry["frames"], kind, video.first)
        labels = _labels_by_track(entry, annotations.classes)
        old = {tube.track: tube for tube in video.tubes}
        tubes = tuple(
            _extend(old.get(track), labels.get(track, label), track, added.get(track, []))
            for track in sorted(old | added)
        )
        answered = [frame["frame"] - video.first for frame in entry["frames"]]
        labeled = sorted({*video.labeled_frames.tolist(), *answered})
        changed[name] = replace(video, label=label, labeled_frames=labeled, tubes=tubes)
    return annotations.with_changed(changed)


def _shapes_by_track(frames, kind, first):
    """track -> list of (frame number, corners or mask) of the answered frames of a video.
    first: number in the form of the video's frame 0.
    """
    shapes = {}
    for frame in frames:
        for actor in frame["actors"]:
            shape = shape_of(actor, kind)
            shapes.setdefault(actor["track"], []).append((frame["frame"] - first, shape))
    return shapes


def _labels_by_track(entry, classes):
    """track -> index of the class of its actor: its own, or the video's. UserError where
    one actor has two.
    """
    labels = {}
    for frame in entry["frames"]:
        for actor in frame["actors"]:
            label = classes.index(actor.get("class") or entry["class"])
            if labels.setdefault(actor["track"], label) != label:
                raise UserError(
                    f"video {entry['video']}: track {actor['track']} has two classes; number "
                    "them as two actors"
                )
    return labels


def _extend(tube, label, track, added):
    """`tube` (or a new one where None) with more (frame, corners or mask)."""
    if tube is not None and not added:
        return tube
    masks = added[0][1].dtype == bool
    if tube is not None:
        known = tube.masks if masks else tube.boxes
        if known is None:
            have, came = ("boxes", "masks") if masks else ("masks", "boxes")
            raise UserError(
                f"tube {track} has {have}, the answers {came}; answer with what the video has"
            )
        added = [*zip(tube.frames.tolist(), known, strict=True), *added]
    in_time = sorted(added, key=lambda pair: pair[0])
    frames, shapes = zip(*in_time, strict=True)
    if masks:
        return Tube(label, track, frames, masks=np.stack(shapes))
    return Tube(label, track, frames, np.stack(shapes))
