"""The content of selection.json: what a cycle has chosen, and the reason in words.

Plain dicts and lists; artifacts/selection_file.py writes and reads them.
"""

from collections.abc import Mapping

import numpy as np

from claus.artifacts.pool_reader import NamedPool
from claus.datasets.labels.annotations import Video
from claus.selection.budget import Budget
from claus.selection.choice import Selection
from claus.selection.rules import RuleSettings


def make_report(
    head: dict,
    rule: RuleSettings,
    known: NamedPool,
    chosen: Selection,
    asked: Budget,
    videos: Mapping[str, Video],
) -> dict:
    """What was chosen and why, of what, and what was asked for.

    head: what the report begins with, see load_selection: run, cycle, settings (of
    settings_record), prices · asked: the Budget before it was fitted to what is left ·
    videos: all of the annotation file, by name. Frames have the numbers of their files, see
    datasets/labels/segment.py.
    """
    pool = known.pool
    picked = len(chosen.videos)
    newly_covered = rule.scorings[0].damping == "coverage"
    measure = "uncertainty newly covered" if newly_covered else "mean uncertainty"
    return {
        **head,
        "source": known.source,
        "asked": {"videos": asked.videos, "frames": asked.frames},
        "spent": {"videos": picked, "frames": chosen.spent},
        "new_videos": int((~pool.labeled_N[chosen.videos]).sum()),
        "shortfall": {
            "videos": max(0, asked.videos - picked),
            "frames": asked.frames - chosen.spent,
        },
        "frames_per_video": chosen.budget.per_video,
        "notes": _notes(chosen, rule.strategy),
        "pool_videos": len(videos),
        "candidates": int(pool.candidates_N.sum()),
        "set_aside": dict(sorted(known.unreadable.items())),
        "clusters": [] if chosen.quotas is None else _cluster_rows(known, chosen),
        "videos": [
            _video_row(videos[known.names[int(video)]], known, chosen, place, measure)
            for place, video in enumerate(chosen.videos)
        ],
    }


def settings_record(
    settings: RuleSettings, cycle: int, seed: int, extraction: dict | None
) -> dict:
    """The settings that shaped a choice, by the names of their flags, and how the scores
    were made.
    """
    record = {"method": settings.method, "strategy": settings.strategy}
    if cycle == 0:
        return record | {"seed": seed}
    record["increment"] = settings.increment
    if settings.video_rule != settings.frame_rule:
        record |= {"video_rule": settings.video_rule, "frame_rule": settings.frame_rule}
    if not all(scoring.score for scoring in settings.scorings):
        record["seed"] = seed  # a half of the rule may draw
    if not settings.scores:
        return record
    shaping = {name: getattr(settings, name) for name in settings.options}
    if settings.damping == "none":
        shaping.pop("sigma", None)
    if len(settings.scores) == 1:
        shaping["frame_score"] = min(settings.scores)
    record |= dict(sorted(shaping.items()))
    return record | {"extraction": extraction}


def request_picks(report: dict) -> list[dict]:
    """The chosen videos of a report (or of a selection.json) as the request form takes them."""
    picks = []
    for row in report["videos"]:
        pick = {"video": row["video"], "reason": row.get("reason", "")}
        pick |= {name: row.get(name) for name in ("score", "cluster")}
        pick["frames"] = [frame["frame"] for frame in row["frames"]]
        pick["scores"] = [frame.get("score") for frame in row["frames"]]
        picks.append(pick)
    return picks


def add_random(
    report: dict, known: NamedPool, drawn: Selection, videos: Mapping[str, Video]
) -> None:
    """Add to a report of make_report, in place, what --random-share drew beside the choice;
    each such video has "random": true.
    """
    rows = []
    for place, video in enumerate(drawn.videos):
        row = _video_row(videos[known.names[int(video)]], known, drawn, place, "")
        row["reason"] += " (the random share)"
        rows.append({**row, "random": True})
    report["videos"] += rows
    spent = report["spent"]
    spent["videos"] += len(rows)
    spent["frames"] += drawn.spent
    asked = report["asked"]
    report["shortfall"] = {
        "videos": max(0, asked["videos"] - spent["videos"]),
        "frames": asked["frames"] - spent["frames"],
    }
    report["new_videos"] += int((~known.pool.labeled_N[drawn.videos]).sum())
    report["candidates"] = int(known.pool.candidates_N.sum())
    report["notes"].append(
        f"{len(rows)} of the videos and {drawn.spent} of the frames were drawn at random"
    )


def _notes(chosen: Selection, strategy: str) -> list[str]:
    """What was cut from the budget, and what of it is left, in words."""
    notes = list(chosen.budget.notes)
    left = chosen.budget.frames - chosen.spent
    if left > 0:
        why = f"the chosen videos hold {chosen.spent} eligible frames only"
        if strategy == "inter":
            why = "no further whole video fits"
        notes.append(f"{left} frames of the budget are left: {why}")
    return notes


def _cluster_rows(known: NamedPool, chosen: Selection) -> list[dict]:
    """One dict per cluster: its videos, how many were labeled, how many may be chosen,
    quota, picked.
    """
    pool, n_clusters = known.pool, len(chosen.quotas)

    def count(videos):
        return np.bincount(pool.clusters_N[videos], minlength=n_clusters)

    columns = {
        "cluster": range(n_clusters),
        "videos": count(slice(None)),
        "labelled": count(pool.labeled_N),
        "candidates": chosen.candidates,
        "quota": chosen.quotas,
        "picked": count(chosen.videos),
    }
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, map(int, row), strict=True)) for row in rows]


def _video_row(
    entry: Video, known: NamedPool, chosen: Selection, place: int, measure: str
) -> dict:
    """One chosen video: name, which part of which video it is (where it is one), reason in
    words, score, cluster, rank, and its frames by number with their scores.

    measure: what the score is, in words.
    """
    video = int(chosen.videos[place])
    clusters_N = known.pool.clusters_N
    cluster = None if clusters_N is None else int(clusters_N[video])
    rank = score = None
    if chosen.scores is not None:
        rank, score = int(chosen.ranks[place]), _short(chosen.scores[place])
        candidates = chosen.candidates
        if chosen.quotas is None:
            where = f"rank {rank} of {candidates[0]}"
        else:
            where = (
                f"cluster {cluster}: rank {rank} of {candidates[cluster]}, "
                f"quota {chosen.quotas[cluster]}"
            )
        reason = f"{where}; {measure} {score:.5g}"
    elif chosen.reasons is not None:
        reason = chosen.reasons[video]
    else:
        reason = f"drawn at random, number {place + 1} of {len(chosen.videos)}"
    segment = {} if entry.segment is None else {"segment": entry.segment.shown(entry.frames)}
    return {
        "video": entry.name,
        **segment,
        "cluster": cluster,
        "rank": rank,
        "score": score,
        "reason": reason,
        "frames": _frame_rows(chosen, place, entry.first),
    }


def _frame_rows(chosen: Selection, place: int, first: int) -> list[dict]:
    """The frames of a chosen video by number, with their scores where there are any. first:
    number of its first frame.
    """
    frames = (chosen.frames[place] + first).tolist()
    if chosen.frame_scores is None:
        return [{"frame": frame} for frame in sorted(frames)]
    scores = chosen.frame_scores[place].tolist()
    damped = chosen.damped[place].tolist()
    rows = [
        {
            "frame": frame,
            "choice": choice,
            "score": _short(score),
            "damped_score": _short(left),
        }
        for choice, (frame, score, left) in enumerate(
            zip(frames, scores, damped, strict=True), 1
        )
    ]
    return sorted(rows, key=lambda row: row["frame"])


def _short(number: float) -> float:
    """A score with seven digits, as many as a float32 has."""
    return float(f"{number:.7g}")
