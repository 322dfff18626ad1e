"""The learning curve of a run that people label: points with intervals, what the next labels
may bring, and what the choice finds; printed, and curve.json for the page.

A point's score is f-mAP@.5 on test labels where there are any. Otherwise it is the mean
agreement (metrics/agreement.py) of the cycle's detector with the labels of the random share
of the next cycle, which it was not trained on: frames drawn at random from the unlabeled
pool, so the mean over their videos estimates that over all unlabeled videos.

Random frames of videos that have labels already are easier, so points of such cycles are
marked ("old_videos") and not mixed with others in what is said of the next labels.
"""

import json
from collections.abc import Mapping

import numpy as np

from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.cycle_row import ACT_COLUMNS, COLUMNS, cycle_row, minutes_of, percent_at
from claus.artifacts.evaluation_file import load_evaluation
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.metrics.agreement import LEVEL, mean_interval
from claus.metrics.forecast import LEAST, predict_score
from claus.steps.proposals import load_predictions
from claus.steps.second_look import compare
from claus.utils.runtime import write_text

POOL_COLUMNS = ("pool agreement", "pool low", "pool high", "chosen agreement")
LITTLE = 2.0  # percent; a gain below it is called little


def learning_curve(
    run: Run, ledger: list[dict], coming: int | None, shared: bool = False
) -> dict:
    """Write curve.json -> its content: {"source", "points": [{"cycle", "frames", "score",
    "low", "high", …}], "next": {"frames", "low", "high"} or None, "choice": of choice_of,
    "message"}; scores in percent.

    ledger: rows of ledger.count_ledger. coming: frames that the next labels add, None where
    nothing is asked for. shared: whether a share is drawn at random, which gives a first score
    with the labels of cycle 1.
    """
    frames = {int(row["cycle"]): int(row["total_frames"]) for row in ledger}
    choice = [row for cycle in run.cycles() if (row := choice_of(cycle)) is not None]
    points = [
        point
        for cycle in run.cycles()
        if (point := _evaluated(cycle, frames[cycle.number])) is not None
    ]
    source = "test labels"
    if not points:
        source = "random share"
        points = [
            {"cycle": row["cycle"], "frames": frames[row["cycle"]], **row["random"]}
            for row in choice
            if row["random"] is not None
        ]
    alike = [p for p in points if p.get("old_videos") == points[-1].get("old_videos")]
    following = _next_point(alike, frames, coming)
    content = {
        "source": source if points else None,
        "points": points,
        "next": following,
        "choice": choice,
        "message": _message(alike, following, coming, shared),
    }
    write_text(run.learning_curve, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    return content


def _evaluated(cycle, frames):
    """The point of a cycle that was scored on test labels, or None."""
    if not cycle.evaluation.exists():
        return None
    content = load_evaluation(cycle.evaluation)
    score = percent_at(content.get("capsule") or {}, "f_map", 0.5)
    if score is None:
        return None
    low, high = mean_interval(score / 100, max(int(content.get("test_videos") or 1), 1))
    limits = {"low": _percent(low), "high": _percent(high)}
    return {"cycle": cycle.number, "frames": frames, "score": score, **limits}


def _next_point(points, frames, coming):
    """{"frames", "low", "high"} after the next labels, None where nothing can be said."""
    if not coming or len(points) < LEAST:
        return None
    at = max(frames.values()) + coming
    interval = predict_score(
        [point["frames"] for point in points],
        [point["score"] / 100 for point in points],
        [(point["low"] / 100, point["high"] / 100) for point in points],
        at,
    )
    if interval is None:
        return None
    return {"frames": at, "low": _percent(interval[0]), "high": _percent(interval[1])}


def _message(points, following, coming, shared):
    """The curve in a line for a person."""
    if not points and shared:
        return "no score yet: the first comes with the labels of the next random share"
    if not points:
        return (
            "no score yet: give --random-share 1/3, or --test-labels, to see what labels bring"
        )
    last = points[-1]
    limits = f"{last['low']:g} to {last['high']:g}"
    now = f"score {last['score']:g} ({limits}) with {last['frames']} labeled frames"
    if following is None:
        if len(points) < LEAST:
            return f"{now}; what more labels may bring can be said from {LEAST} points on"
        return f"{now}; what more labels may bring cannot be said"
    gain = (
        "" if following["high"] >= last["score"] + LITTLE else "; more labels may bring little"
    )
    return (
        f"{now}; {coming} frames more may bring {following['low']:g} to {following['high']:g} "
        f"({100 * LEVEL:g}% interval, no promise){gain}"
    )


def choice_of(cycle: Cycle) -> dict | None:
    """What a cycle's detector made of the frames of the next cycle, before it was trained on
    them: {"cycle", "random", "chosen"}, each {"score", "low", "high", "videos", "labels",
    "old_videos"} in percent, or None where there is none. None where nothing can be compared.

    Read from the labels as they are now. Skipped frames do not count.
    """
    following = cycle.run.cycle(cycle.number + 1)
    paths = (cycle.proposals, following.selection, following.annotations)
    if not all(path.exists() for path in paths):
        return None
    found = load_predictions(cycle.proposals)
    labels = annotation_file.load(following.annotations)
    before = annotation_file.load(cycle.annotations).videos
    groups, old = {"random": [], "chosen": []}, {"random": False, "chosen": False}
    for row in load_selection(following.selection)["videos"]:
        scores = _agreements(labels, row, found)
        if scores:
            name = "random" if row.get("random") else "chosen"
            groups[name].append(scores)
            old[name] |= row["video"] in before and before[row["video"]].is_labeled
    if not any(groups.values()):
        return None
    means = {name: _mean(scores, old[name]) for name, scores in groups.items()}
    return {"cycle": cycle.number, **means}


def _agreements(labels: Annotations, row: Mapping, found: Mapping) -> list[float]:
    """frame_agreement of the labeled ones of the frames that were picked of a video."""
    video, scores = labels.videos.get(row["video"]), []
    if video is None:
        return scores
    labeled = set(video.labeled_frames.tolist())
    for pick in row["frames"]:
        actors = found.get(video.name, {}).get(pick["frame"])
        frame = pick["frame"] - video.first
        if actors is not None and frame in labeled:
            scores.append(compare(video, frame, actors))
    return scores


def _mean(videos, old):
    """Mean over videos of the mean over their frames, in percent, with its interval. old:
    whether one of them had labels before.
    """
    if not videos:
        return None
    mean = float(np.mean([np.mean(scores) for scores in videos]))
    low, high = mean_interval(mean, len(videos))
    return {
        "score": _percent(mean),
        "low": _percent(low),
        "high": _percent(high),
        "videos": len(videos),
        "labels": sum(map(len, videos)),
        "old_videos": old,
    }


def _percent(share):
    return round(100 * share, 1)


def rows_of(run: Run, ledger: list[dict], choice: list[dict]) -> list[dict]:
    """The rows of results.csv: COLUMNS, ACT_COLUMNS and POOL_COLUMNS; None where there is no
    score. choice: of learning_curve.
    """
    by_cycle, rows = {row["cycle"]: row for row in choice}, []
    for cycle in run.cycles():
        if cycle.evaluation.exists():
            row = cycle_row(cycle, ledger)
        else:
            row = dict.fromkeys((*COLUMNS, *ACT_COLUMNS))
            spent = next(r for r in ledger if int(r["cycle"]) == cycle.number)
            row |= {
                "cycle": cycle.number,
                "videos": spent["total_videos"],
                "frames": spent["total_frames"],
                "boxes": spent["total_boxes"],
                "% of frames": spent["percent_of_frames"],
                "cost": spent["total_cost"],
                "minutes": minutes_of(cycle),
            }
        known = by_cycle.get(cycle.number, {})
        drawn, chosen = known.get("random") or {}, known.get("chosen") or {}
        values = (*(drawn.get(name) for name in ("score", "low", "high")), chosen.get("score"))
        rows.append(row | dict(zip(POOL_COLUMNS, values, strict=True)))
    return rows


def print_choice(choice: list[dict]) -> None:
    """What the detector got right of random and of chosen frames, for the last cycle."""
    both = [row for row in choice if row["random"] and row["chosen"]]
    if not both:
        return
    row = both[-1]
    texts = []
    for name in ("random", "chosen"):
        part = row[name]
        videos = "1 video" if part["videos"] == 1 else f"{part['videos']} videos"
        texts.append(
            f"{part['score']:g}% ({part['low']:g} to {part['high']:g}) on {name} ones "
            f"({part['labels']} of {videos})"
        )
    print(
        f"agreement of cycle {row['cycle']}'s detector with the labels of frames it had not "
        f"seen: {', '.join(texts)}"
    )
