"""What claus_select.py shows of a selection: the table on screen, the picture of clusters;
and the form that it does not overwrite.
"""

import itertools
from pathlib import Path

import numpy as np

from claus.artifacts.selection_file import CLUSTER
from claus.selection.choice import Selection
from claus.selection.pool import Pool
from claus.utils.runtime import parse_json

USUAL = {"strategy": "hybrid", "increment": "samples"}


def print_report(report: dict) -> None:
    """Print the budget, the table of clusters, and whatever was cut or skipped."""
    asked, spent, settings = report["asked"], report["spent"], report["settings"]
    values = [settings.get(name, usual) for name, usual in USUAL.items()]
    unusual = [value for value in values if value not in USUAL.values()]
    rule = ", ".join([settings["method"], *unusual])
    old = spent["videos"] - report["new_videos"]
    print(
        f"cycle {report['cycle']} of {report['run']}, {rule}: picked {spent['videos']} of "
        f"{report['candidates']} candidate videos (budget {asked['videos']}), "
        f"{spent['frames']} frames (budget {asked['frames']})"
        + (f"; {old} of the videos had labels already" if old else "")
    )
    if report["clusters"]:
        print_clusters(report["clusters"])
    for note in report["notes"]:
        print(f"note: {note}")
    skipped = report["set_aside"]
    if skipped:
        name, reason = next(iter(skipped.items()))
        videos = "1 video" if len(skipped) == 1 else f"{len(skipped)} videos"
        first = "" if len(skipped) == 1 else "the first "
        print(f"skipped: {videos} that could not be read, {first}{name}: {reason}")


def print_clusters(rows: list[dict]) -> None:
    """Print a row of counts for each cluster, and their sum."""
    columns = list(CLUSTER)
    table = np.array([[row[name] for name in columns] for row in rows])
    total = dict(zip(columns, table.sum(0).tolist(), strict=True)) | {"cluster": "all"}
    print("  " + "  ".join(columns).replace("labelled", " labeled"))
    for row in [*rows, total]:
        print("  " + "  ".join(f"{row[name]:>{len(name)}}" for name in columns))


def draw_picture(path: Path, report: dict, pool: Pool, chosen: Selection) -> None:
    """Write clusters.png; nothing where the rule has no clusters."""
    if pool.clusters_N is None:
        return
    # here: plotting libraries take a second to import
    from claus.utils.cluster_plot import draw_clusters

    picked_N = np.zeros(len(pool.clusters_N), bool)
    picked_N[chosen.videos] = True
    draw_clusters(
        path,
        pool.latents_N_D,
        pool.clusters_N,
        pool.centers_K_D,
        pool.labeled_N,
        picked_N,
        f"{report['run']}, cycle {report['cycle']}: {len(chosen.videos)} of "
        f"{report['candidates']} candidate videos picked",
    )


def keep_filled_form(path: Path) -> None:
    """A request that is partly answered is renamed, not overwritten: it is a
    person's work.
    """
    if not path.exists() or not _has_answers(path):
        return
    for number in itertools.count(1):
        kept = path.with_name(f"request.replaced{number}.json")
        if not kept.exists():
            break
    path.rename(kept)
    print(f"{path} holds answers: kept as {kept.name}")


def _has_answers(path: Path) -> bool:
    """Whether a form has an answer; also where it cannot be read, being edited just now."""
    try:
        videos = parse_json(path.read_bytes())["videos"]
        frames = itertools.chain.from_iterable(video["frames"] for video in videos)
        return any(frame["actors"] is not None for frame in frames)
    except (OSError, ValueError, KeyError, TypeError):
        return True
