"""The form in which frames are requested from an annotator, and in which answers come back.

A request is a form of plain dicts and lists, on disk JSON that people can read and fill in:

    {"format": "claus-request", "version": 1, "run": str, "cycle": int, "classes": [str],
     "how_to_answer": str,
     "videos": [{"video": name, "class": null, "reason": str, "score": float, "cluster": int,
                 "frames": [{"frame": 12, "score": float, "actors": null}, ...]}]}

An answer is the same form with "class" a class name and "actors" a list of {"track": 1,
"box": [x, y, w, h]} (pixels from 0, top-left corner and size; the same track number for the
same actor in all frames of a video), empty where the frame shows no action. A video with
earlier labels also carries "labelled_before", frames with actors in the same form, so that
its tracks can be continued.

A request for masks has "answer_with": "masks", and its actors are {"track": 1, "mask":
{"size": [height, width], "counts": [int, ...]}}: COCO's uncompressed run lengths, see
datasets.labels.masks.encode_rle.

A video that is a segment of a longer one also carries "segment": {"video": name of that
one, "frames": [first, last], "time": [from, to]}. All frame numbers of a form are those of
the file that people see; inside, an entry's frames count from 0 (datasets.labels.segment).
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from claus.annotators.actors import actors_in, answers_with
from claus.datasets.labels.annotations import Annotations
from claus.utils.runtime import UserError, atomic_write, parse_json

FORMAT, VERSION = "claus-request", 1
WHICH_FRAME = (
    "frame is the number of the picture in its video, from 0 as decoded; frame 12 lies "
    "in frames/<video>/frame_00012.png beside the request. "
)
SEGMENTS = (
    "A video with a segment is only that part, these frames, of a longer video: give the "
    "class of that part; its frames have the numbers and times they have in the longer video. "
)
HOW_TO_ANSWER = WHICH_FRAME + (
    "Replace every null. class: one of the names in classes. actors of a frame: a list "
    'with one {"track": 1, "box": [x, y, width, height]} for each person or animal that '
    "performs the action; whole pixels from 0, top-left corner and size; an actor keeps "
    "its track number in all frames of its video. [] where the frame shows no action. "
    "Change nothing else."
)
HOW_TO_ANSWER_WITH_MASKS = WHICH_FRAME + (
    "Replace every null. class: one of the names in classes. actors of a frame: a list "
    'with one {"track": 1, "mask": {"size": [height, width], "counts": [...]}} for each '
    "person or animal that performs the action; counts are COCO's uncompressed run "
    "lengths: pixels column by column from the top left corner, lengths of runs "
    "alternately outside and inside the mask, beginning outside; an actor keeps its "
    "track number in all frames of its video. [] where the frame shows no action. "
    "Change nothing else."
)


# ------------------------------------------------------------------------------ the request


def request_form(
    annotations: Annotations,
    picks: Sequence[Mapping],
    run: str,
    cycle: int,
    kind: str = "boxes",
) -> dict:
    """The form to fill in. picks: one dict a video, {"video", "frames", "scores", "reason",
    "score", "cluster"}.

    frames: distinct frame numbers, of the file, that are not labeled yet; scores: one per
    frame. reason, score, cluster and scores may be missing. An already labeled video has
    its class filled in and its labels enclosed. Scores that are not finite become null.
    kind: what actors are marked with, "boxes" or "masks". Picks are not changed. Raises
    UserError for a video or frame that cannot be requested.
    """
    times = Counter(pick["video"] for pick in picks)
    for name, count in times.items():
        if name not in annotations.videos:
            raise UserError(
                f"video {name}: cannot be requested, the annotation file does not have it"
            )
        if count > 1:
            raise UserError(f"video {name}: is requested twice; put its frames together")
    form = {
        "format": FORMAT,
        "version": VERSION,
        "run": str(run),
        "cycle": int(cycle),
        "classes": list(annotations.classes),
    }
    if answers_with({"answer_with": kind}) == "masks":
        form["answer_with"] = kind
        form["how_to_answer"] = HOW_TO_ANSWER_WITH_MASKS
    else:
        form["how_to_answer"] = HOW_TO_ANSWER
    if any(annotations.videos[name].segment for name in times):
        form["how_to_answer"] = SEGMENTS + form["how_to_answer"]
    form["videos"] = [_request_video(annotations, pick, kind) for pick in picks]
    return form


def _request_video(annotations, pick, kind):
    """The entry of one video in a request, from its pick."""
    video = annotations.videos[pick["video"]]
    frames = [int(frame) for frame in pick["frames"]]
    _check_frames(video, frames)
    segment = {} if video.segment is None else {"segment": video.segment.shown(video.frames)}
    scores = [None] * len(frames) if pick.get("scores") is None else pick["scores"]
    entry = {
        "video": video.name,
        **segment,
        "class": annotations.classes[video.label] if video.is_labeled else None,
        "reason": pick.get("reason", ""),
        "score": _number(pick.get("score")),
        "cluster": None if pick.get("cluster") is None else int(pick["cluster"]),
    }
    if video.is_labeled:
        before = actors_in(video, video.labeled_frames.tolist(), kind, annotations.classes)
        entry["labelled_before"] = [
            {"frame": frame + video.first, "actors": actors} for frame, actors in before.items()
        ]
    in_time = sorted(zip(frames, scores, strict=True), key=lambda pair: pair[0])
    entry["frames"] = [
        {"frame": frame, "score": _number(score), "actors": None} for frame, score in in_time
    ]
    return entry


def _check_frames(video, frames):
    """UserError unless `frames`, numbers of the file, are distinct, in the video, and not
    labeled yet.
    """
    if len(set(frames)) < len(frames) or not frames:
        raise UserError(
            f"video {video.name}: frames {frames} cannot be requested; "
            "name at least one, each once"
        )
    labeled = set((video.labeled_frames + video.first).tolist())
    known = range(video.first, video.first + video.frames)
    wrong = [frame for frame in frames if frame not in known or frame in labeled]
    if wrong:
        raise UserError(
            f"video {video.name}: frame {wrong[0]} cannot be requested, it is labeled "
            f"already or not in the video ({video.frames} frames)"
        )


def _number(value):
    """A float that JSON can hold, or None."""
    return round(float(value), 6) if value is not None and math.isfinite(value) else None


# --------------------------------------------------------------------------------- the file


def write_form(path: str | Path, form: Mapping) -> None:
    """Write a request or its answers as JSON, a line per frame, atomically. Raises
    UserError.
    """
    head = [f" {_text(key)}: {_text(form[key])}" for key in form if key != "videos"]
    videos = [_video_text(entry) for entry in form["videos"]]
    with atomic_write(path, "w") as file:
        file.write("{\n" + ",\n".join(head))
        file.write(',\n "videos": [\n' + ",\n".join(videos) + "\n ]\n}\n")


def _video_text(entry):
    """JSON of one video: its own fields on one line, then a line for each frame."""
    lists = [key for key in ("labelled_before", "frames") if key in entry]
    plain = _text({key: entry[key] for key in entry if key not in lists})
    text = f"  {plain[:-1]}"
    for key in lists:
        lines = [f"    {json.dumps(frame, allow_nan=False)}" for frame in entry[key]]
        text += f',\n   "{key}": [\n' + ",\n".join(lines) + "]"
    return text + "}"


def _text(value):
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def read_form(path: str | Path) -> dict:
    """Read a request or answers. Returns the form; raises UserError naming the file and, in
    broken JSON, the line.
    """
    try:
        form = parse_json(Path(path).read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}: {error.msg[0].lower()}{error.msg[1:]} at "
            f"column {error.colno}; correct the JSON there, or just before"
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{path}: cannot be read: {reason}; check the path") from error
    except ValueError as error:
        raise UserError(
            f"{path}: not a JSON text in UTF-8 ({error}); give the file that came from the request"
        ) from error
    if not isinstance(form, dict) or form.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a request or its answers; give the file that claus_select.py wrote"
        )
    if form.get("version") != VERSION:
        raise UserError(
            f"{path}: is a form of version {form.get('version')!r}, "
            f"this program reads {VERSION}; write the request again"
        )
    if not isinstance(form.get("videos"), list):
        raise UserError(f"{path}: 'videos' is not a list; start again from the request")
    return form
