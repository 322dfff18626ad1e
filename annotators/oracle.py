"""What is asked of the annotator, what comes back, and the annotator that simulations use
in a person's place.

A request is a form of plain dicts and lists, on disk JSON that people can read and fill in:

    {"format": "claus-request", "version": 1, "run": str, "cycle": int, "classes": [str],
    "how_to_answer": str,
     "videos": [{"video": name, "class": null, "reason": str, "score": float, "cluster": int,
                 "frames": [{"frame": 12, "score": float, "actors": null}, ...]}]}

An answer is the same form with "class" a class name and "actors" a list of {"track": 1,
"box": [x, y, w, h]} (pixels from 0, top-left corner and size; the same track number for the
same actor in all frames of a video), empty where the frame shows no action. A video with
earlier labels also carries "labeled_before", frames with actors in the same form, so that
its tracks can be continued. Ground truth enters here and in evaluation, nowhere else.

A request for masks has "answer_with": "masks", and its actors are {"track": 1, "mask":
{"size": [height, width], "counts": [int, ...]}}: COCO's uncompressed run lengths, pixels
column by column from the top left corner, counts of pixels by turns outside and inside the
mask, beginning outside (0 where the first pixel is inside).
"""

import copy
import difflib
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from claus.annotators.actors import actor_problems, actors_in, answers_with, is_whole, shape_of
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.utils.runtime import UserError, atomic_write

FORMAT, VERSION = "claus-request", 1
WHICH_FRAME = (
    "frame is the number of the picture in its video, from 0 as decoded; frame 12 lies "
    "in frames/<video>/frame_00012.png beside the request. "
)
HOW_TO_ANSWER = WHICH_FRAME + (
    "Replace every null. class: one of the names in classes. actors of a frame: a list "
    "with one "
    '{"track": 1, "box": [x, y, width, height]} for each person or animal that '
    'performs the action; whole pixels from '
    "0, top-left corner and size; an actor keeps its track number in all frames of its "
    "video. [] where the frame shows "
    "no action. Change nothing else."
)
HOW_TO_ANSWER_WITH_MASKS = WHICH_FRAME + (
    "Replace every null. class: one of the names in classes. actors of a frame: a list "
    "with one "
    '{"track": 1, "mask": {"size": [height, width], "counts": [...]}} for each person '
    'or animal that performs the '
    "action; counts are COCO's uncompressed run lengths: pixels column by column from "
    "the top left corner, lengths of "
    "runs by turns outside and inside the mask, beginning outside; an actor keeps its "
    "track number in all frames of "
    "its video. [] where the frame shows no action. Change nothing else."
)
SHOWN = 5  # problems spelled out in an error; the others are counted


# ------------------------------------------------------------------ the simulated annotator


def strip_labels(ground_truth):
    """The same videos as `ground_truth` (Annotations), without a single label: where a
    simulation starts.
    """
    videos = {
        name: Video(name, video.frames, video.height, video.width)
        for name, video in ground_truth.videos.items()
    }
    return Annotations(ground_truth.dataset, ground_truth.classes, videos)


def answer(ground_truth, request):
    """Answers to a request, in the form of a person's, out of dense ground truth
    (Annotations).

    Of a video only its class and the boxes or masks of the requested frames are looked at.
    A track is the number of the ground-truth tube, so it is the same in every cycle; of
    tubes that agree in all requested frames the first is answered. Raises UserError where
    the ground truth does not know a video or a frame.
    """
    kind = answers_with(request)
    if list(ground_truth.classes) != request.get("classes"):
        raise UserError(
            "the ground truth has other classes than the request; give the ground "
            "truth of this data set"
        )
    answers = copy.deepcopy(request)
    for entry in answers["videos"]:
        name = entry["video"]
        video = ground_truth.videos.get(name)
        if video is None or not video.is_labeled:
            raise UserError(
                f"video {name}: the ground truth does not know it; give the ground "
                f"truth of this data set"
            )
        asked = [frame["frame"] for frame in entry["frames"]]
        unknown = sorted(set(asked) - set(video.labeled_frames.tolist()))
        if unknown:
            raise UserError(
                f"video {name}: the ground truth says nothing of frame {unknown[0]} "
                f"(video of {video.frames} frames); give dense ground truth"
            )
        actors = actors_in(video, asked, kind)
        entry["class"] = ground_truth.classes[video.label]
        for frame in entry["frames"]:
            frame["actors"] = actors[frame["frame"]]
    return answers


# ------------------------------------------------------------------------------ the request


def request_form(annotations, picks, run, cycle, kind="boxes"):
    """The form to fill in. picks: one dict a video, {"video", "frames", "scores", "reason",
    "score", "cluster"}.

    frames: distinct frame numbers that are not labeled yet; scores: one per frame. reason,
    score, cluster and scores may be missing. An already labeled video has its class filled
    in and its labels enclosed. Scores that are not finite become null. kind: what actors
    are marked with, "boxes" or "masks". Raises UserError for a video or frame that cannot
    be asked for. Picks stay untouched.
    """
    videos, times = [], Counter(pick["video"] for pick in picks)
    for pick in picks:
        name = pick["video"]
        video = annotations.videos.get(name)
        if video is None:
            raise UserError(
                f"video {name}: cannot be requested, the annotation file does not have it"
            )
        if times[name] > 1:
            raise UserError(f"video {name}: is requested twice; put its frames together")
        frames = [int(frame) for frame in pick["frames"]]
        if len(set(frames)) < len(frames) or not frames:
            raise UserError(
                f"video {name}: frames {frames} cannot be requested; name at least "
                f"one, each once"
            )
        labeled = set(video.labeled_frames.tolist())
        wrong = [frame for frame in frames if not 0 <= frame < video.frames or frame in labeled]
        if wrong:
            raise UserError(
                f"video {name}: frame {wrong[0]} cannot be requested, it is labeled "
                f"already or not in the "
                f"video ({video.frames} frames)"
            )
        scores = [None] * len(frames) if pick.get("scores") is None else pick["scores"]
        entry = {
            "video": name,
            "class": annotations.classes[video.label] if video.is_labeled else None,
            "reason": pick.get("reason", ""),
            "score": _number(pick.get("score")),
            "cluster": None if pick.get("cluster") is None else int(pick["cluster"]),
        }
        if video.is_labeled:
            before = actors_in(video, video.labeled_frames.tolist(), kind)
            entry["labelled_before"] = [
                {"frame": frame, "actors": actors} for frame, actors in before.items()
            ]
        entry["frames"] = [
            {"frame": frame, "score": _number(score), "actors": None}
            for frame, score in sorted(
                zip(frames, scores, strict=True), key=lambda pair: pair[0]
            )
        ]
        videos.append(entry)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "run": str(run),
        "cycle": int(cycle),
        "classes": list(annotations.classes),
    }
    if answers_with({"answer_with": kind}) == "masks":
        return head | {
            "answer_with": kind,
            "how_to_answer": HOW_TO_ANSWER_WITH_MASKS,
            "videos": videos,
        }
    return head | {"how_to_answer": HOW_TO_ANSWER, "videos": videos}


def _number(value):
    """A float that JSON can hold, or None."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


def write_form(path, form):
    """Write a request or its answers as JSON, a line per frame, atomically. Raises
    UserError.
    """
    head = ",\n".join(
        f" {json.dumps(key)}: {json.dumps(form[key], ensure_ascii=False, allow_nan=False)}"
        for key in form
        if key != "videos"
    )
    videos = ",\n".join(_video_text(entry) for entry in form["videos"])
    with atomic_write(path, "w") as file:
        file.write(f'{{\n{head},\n "videos": [\n{videos}\n ]\n}}\n')


def _video_text(entry):
    """JSON of one video: its own fields on one line, then a line for each frame."""

    def lines(frames):
        return ",\n".join(f"    {json.dumps(frame, allow_nan=False)}" for frame in frames)

    lists = [key for key in ("labelled_before", "frames") if key in entry]
    plain = json.dumps(
        {key: entry[key] for key in entry if key not in lists},
        ensure_ascii=False,
        allow_nan=False,
    )
    return (
        f"  {plain[:-1]}"
        + "".join(f',\n   "{key}": [\n{lines(entry[key])}]' for key in lists)
        + "}"
    )


def read_form(path):
    """Read a request or answers. Returns the form; raises UserError naming the file and, in
    broken JSON, the line.
    """
    try:
        form = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: {error.msg[0].lower()}{error.msg[1:]} at "
            f"column {error.colno}; "
            "correct the JSON there, or just before"
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {(error.strerror or str(error)).lower()}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not a JSON text in UTF-8; give the file that came from the request"
        ) from error
    if not isinstance(form, dict) or form.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a request or its answers; give the file that claus_select.py wrote"
        )
    if form.get("version") != VERSION:
        raise UserError(
            f"{path}: is a form of version {form.get('version')!r}, this program reads "
            f"{VERSION}; "
            "write the request anew"
        )
    if not isinstance(form.get("videos"), list):
        raise UserError(f"{path}: 'videos' is not a list; start again from the request")
    return form


# ------------------------------------------------------------------------------ the answers


def check_answers(request, answers, annotations):
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
    if answers.get("answer_with") != request.get("answer_with"):
        problems.append(
            f"answer_with is {answers.get('answer_with')!r}, the request is for "
            f"{answers_with(request)}"
        )
    if answers.get("classes") != request.get("classes") or request.get("classes") != list(
        annotations.classes
    ):
        problems.append("the list of classes was changed")
    asked, _ = _by_video(request)
    given, twice = _by_video(answers)
    problems += twice
    problems += [f"video {name} is missing" for name in asked if name not in given]
    problems += [f"video {name} was not requested" for name in given if name not in asked]
    for name in given:
        if name in asked:
            problems += [
                f"video {name}: {text}" for text in _frame_differences(asked[name], given[name])
            ]
            found = _answer_problems(given[name], annotations, name, answers_with(request))
            problems += [f"video {name}: {text}" for text in found]
    _raise(problems)


def merge_answers(annotations, answers):
    """New Annotations: the old ones (untouched) and the labels of `answers`; tracks go on
    by number. Raises UserError.

    An answered frame without actors becomes a labeled frame that no tube has. Also checks
    what check_answers does.
    """
    check_answers(answers, answers, annotations)
    kind, videos = answers_with(answers), dict(annotations.videos)
    for entry in answers["videos"]:
        video = videos[entry["video"]]
        label = annotations.classes.index(entry["class"])
        added = {}
        for frame in entry["frames"]:
            for actor in frame["actors"]:
                added.setdefault(actor["track"], []).append(
                    (frame["frame"], shape_of(actor, kind))
                )
        old = {tube.track: tube for tube in video.tubes}
        tubes = tuple(
            _extend(old.get(track), label, track, added.get(track, []))
            for track in sorted(old | added)
        )
        labeled = sorted(
            {*video.labeled_frames.tolist(), *(frame["frame"] for frame in entry["frames"])}
        )
        videos[video.name] = replace(video, label=label, labeled_frames=labeled, tubes=tubes)
    return replace(annotations, videos=videos)


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
    frames, shapes = zip(*sorted(added, key=lambda pair: pair[0]), strict=True)
    return (
        Tube(label, track, frames, masks=np.stack(shapes))
        if masks
        else Tube(label, track, frames, np.stack(shapes))
    )


def _raise(problems):
    """UserError with the first of `problems`, if there are any."""
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        texts = [
            " ".join(text.split())[:200] for text in problems[:SHOWN]
        ]  # one line, whatever the file holds
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
            problems.append(f"video {name} is there twice")
        else:
            entries[name] = entry
    return entries, problems


def _frame_numbers(entry):
    """List of the frame numbers of a video's entry, None where it is not a whole number."""
    frames = entry.get("frames")
    numbers = [
        frame.get("frame") if isinstance(frame, dict) else None
        for frame in (frames if isinstance(frames, list) else [])
    ]
    return [number if is_whole(number) else None for number in numbers]


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
    return [f"frame {frame} is missing" for frame in missing] + [
        f"frame {frame} was not requested" for frame in surplus
    ]


def _answer_problems(entry, annotations, name, kind):
    """Texts: what is wrong with the class and the frames of one answered video."""
    video = annotations.videos.get(name)
    if video is None:
        return ["is not in the annotation file"]
    problems, label = [], entry.get("class")
    if label is None:
        problems.append("its class is missing (null)")
    elif label not in annotations.classes:
        near = difflib.get_close_matches(str(label), annotations.classes, 1)
        problems.append(f"unknown class {label!r}" + (f" (is it {near[0]}?)" if near else ""))
    elif video.is_labeled and label != annotations.classes[video.label]:
        problems.append(
            f"class {label!r}, it was labeled {annotations.classes[video.label]!r} before"
        )
    if not isinstance(entry.get("frames"), list) or not entry["frames"]:
        return [*problems, "'frames' is not a list of frames"]
    numbers, labeled = _frame_numbers(entry), set(video.labeled_frames.tolist())
    problems += [
        f"frame {number} is there twice"
        for number, times in Counter(numbers).items()
        if times > 1
    ]
    for frame in entry["frames"]:
        number = frame.get("frame") if isinstance(frame, dict) else None
        if not is_whole(number):
            problems.append(f"frame number {number!r} is not a whole number")
        elif not 0 <= number < video.frames:
            problems.append(f"frame {number} is not in the video ({video.frames} frames)")
        elif number in labeled:
            problems.append(f"frame {number} is labeled already")
        else:
            problems += [
                f"frame {number}: {text}"
                for text in actor_problems(frame.get("actors"), video, kind)
            ]
    return problems
