"""What a selection came to, for people: the content of selection.json, the table on screen,
the picture of clusters.
"""

import numpy as np


def make_report(run, cycle, settings, prices, pool, chosen, asked, pool_videos):
    """The content of selection.json, plain dicts and lists: what was chosen and why, of
    what, and what was asked for.

    `pool`: the Pool (selection_pool.py); `chosen`: the Selection; `asked`: the Budget as it
    was before it was fitted to what is left; `pool_videos`: N.
    """
    notes = list(chosen.budget.notes)
    if chosen.spent < chosen.budget.frames:
        left = chosen.budget.frames - chosen.spent
        notes.append(
            f"{left} frames of the budget are left: "
            + (
                "no further whole video fits"
                if settings.get("strategy") == "inter"
                else f"the chosen videos hold {chosen.spent} eligible frames only"
            )
        )
    measure = (
        "uncertainty newly covered"
        if settings.get("damping") == "coverage"
        else "mean uncertainty"
    )
    return {
        "run": run,
        "cycle": cycle,
        "settings": settings,
        "prices": prices,
        "source": pool.source,
        "asked": {"videos": asked.videos, "frames": asked.frames},
        "spent": {"videos": len(chosen.videos), "frames": chosen.spent},
        "new_videos": int((~pool.labeled_N[chosen.videos]).sum()),
        "shortfall": {
            "videos": max(0, asked.videos - len(chosen.videos)),
            "frames": asked.frames - chosen.spent,
        },
        "frames_per_video": chosen.budget.per_video,
        "notes": notes,
        "pool_videos": pool_videos,
        "candidates": int(pool.candidates_N.sum()),
        "set_aside": dict(sorted(pool.set_aside.items())),
        "clusters": [] if chosen.quotas is None else _cluster_rows(pool, chosen),
        "videos": [
            _video_row(pool, chosen, place, measure) for place in range(len(chosen.videos))
        ],
    }


def request_picks(report):
    """The chosen videos of a report (or of a selection.json) as the request form takes them."""
    return [
        {
            "video": row["video"],
            "reason": row["reason"],
            "score": row["score"],
            "cluster": row["cluster"],
            "frames": [frame["frame"] for frame in row["frames"]],
            "scores": [frame.get("score") for frame in row["frames"]],
        }
        for row in report["videos"]
    ]


def print_report(report):
    """Print the budget, the table of clusters, and whatever was cut or set aside."""
    asked, spent, settings = report["asked"], report["spent"], report["settings"]
    unusual = [
        settings[name]
        for name, usual in (("strategy", "hybrid"), ("increment", "samples"))
        if settings.get(name, usual) != usual
    ]
    old = spent["videos"] - report["new_videos"]
    print(
        f"cycle {report['cycle']} of {report['run']}, "
        f"{', '.join([settings['method'], *unusual])}: picked "
        f"{spent['videos']} of {report['candidates']} candidate videos (budget "
        f"{asked['videos']}), {spent['frames']} "
        f"frames (budget {asked['frames']})"
        + (f"; {old} of the videos had labels already" if old else "")
    )
    if report["clusters"]:
        columns = list(report["clusters"][0])
        total = {name: sum(row[name] for row in report["clusters"]) for name in columns} | {
            "cluster": "all"
        }
        print("  " + "  ".join(columns))
        for row in [*report["clusters"], total]:
            print("  " + "  ".join(f"{row[name]:>{len(name)}}" for name in columns))
    for note in report["notes"]:
        print(f"note: {note}")
    if report["set_aside"]:
        count, (name, reason) = (
            len(report["set_aside"]),
            next(iter(report["set_aside"].items())),
        )
        print(
            f"set aside: {count} {'video' if count == 1 else 'videos'} that could not be read, "
            f"{'' if count == 1 else 'the first '}{name}: {reason}"
        )


def draw_picture(path, report, pool, chosen):
    """Write clusters.png; nothing where the rule knows no clusters."""
    if pool.clusters_N is None:
        return
    from claus.utils.cluster_plot import (
        draw_clusters,
    )  # here: plotting libraries take a second to import

    picked_N = np.zeros(len(pool.names), bool)
    picked_N[chosen.videos] = True
    title = (
        f"{report['run']}, cycle {report['cycle']}: {len(chosen.videos)} of "
        f"{report['candidates']} "
        "candidate videos picked"
    )
    draw_clusters(
        path,
        pool.latents_N_D,
        pool.clusters_N,
        pool.centers_K_D,
        pool.labeled_N,
        picked_N,
        title,
    )


def _cluster_rows(pool, chosen):
    """One dict per cluster: its videos, how many were labeled, how many may be chosen,
    quota, picked.
    """
    n_clusters = len(chosen.quotas)
    videos_K = np.bincount(pool.clusters_N, minlength=n_clusters)
    picked_K = np.bincount(pool.clusters_N[chosen.videos], minlength=n_clusters)
    labeled_K = np.bincount(pool.clusters_N[pool.labeled_N], minlength=n_clusters)
    columns = (
        range(n_clusters),
        videos_K,
        labeled_K,
        chosen.candidates,
        chosen.quotas,
        picked_K,
    )
    names = ("cluster", "videos", "labelled", "candidates", "quota", "picked")
    return [dict(zip(names, map(int, row), strict=True)) for row in zip(*columns, strict=True)]


def _video_row(pool, chosen, place, measure):
    """One chosen video: name, reason in words, score, cluster, rank, and its frames by
    number with their scores.

    measure: what the score is, in words.
    """
    video, frames = int(chosen.videos[place]), chosen.frames[place].tolist()
    cluster = None if pool.clusters_N is None else int(pool.clusters_N[video])
    if chosen.scores is None:
        return {
            "video": pool.names[video],
            "cluster": cluster,
            "rank": None,
            "score": None,
            "reason": f"drawn at random, number {place + 1} of {len(chosen.videos)}",
            "frames": [{"frame": frame} for frame in sorted(frames)],
        }
    rank, score = int(chosen.ranks[place]), _short(chosen.scores[place])
    if chosen.quotas is None:
        reason = f"rank {rank} of {chosen.candidates[0]}"
    else:
        reason = f"cluster {cluster}: rank {rank} of {chosen.candidates[cluster]}, quota {chosen.quotas[cluster]}"
    before = pool.scores[pool.offsets[video] + chosen.frames[place]].tolist()
    rows = [
        {"frame": frame, "choice": choice, "score": _short(raw), "damped_score": _short(damped)}
        for choice, (frame, raw, damped) in enumerate(
            zip(frames, before, chosen.damped[place], strict=True), 1
        )
    ]
    return {
        "video": pool.names[video],
        "cluster": cluster,
        "rank": rank,
        "score": score,
        "reason": f"{reason}; {measure} {score:.5g}",
        "frames": sorted(rows, key=lambda row: row["frame"]),
    }


def _short(number):
    """A score with seven digits, as many as a float32 has."""
    return float(f"{number:.7g}")
