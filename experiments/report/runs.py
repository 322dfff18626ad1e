"""Sections of a report that need the runs' folders: what was picked, the classes,
uncertainty over time, detections.
"""

import functools
from pathlib import Path

import numpy as np

from claus.artifacts.cycle import Run
from claus.artifacts.identities import IdentifiedVideos
from claus.artifacts.scores import FRAME_SCORES, load_features, load_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.table import data_folder, video_finder
from claus.experiments.report import html, pictures
from claus.experiments.report.gather import read_json
from claus.utils.runtime import UserError

MOST = 8  # variants drawn beside each other; the others are named


def clusters_section(folders, seed):
    """Fig. 4 of the paper: the videos in their clusters, and what each rule picked of them.
    folders {variant: Path}.
    """
    figures, missing = [], []
    for variant, folder in list(folders.items())[:MOST]:
        try:
            features = load_features(folder / "cycle0" / "features.pkl")
            chosen = load_selection(folder / "cycle1" / "selection.json")["videos"]
            before = {
                video.name
                for video in annotation_file.load(
                    folder / "cycle0" / "annotations.pkl"
                ).labeled()
            }
        except UserError:
            missing.append(variant)
            continue
        points, shares = _plane_of(features)
        picked = {row["video"] for row in chosen}
        labeled_N = np.array([name in before for name in features.videos])
        picked_N = np.array([name in picked for name in features.videos])
        spread = len(set(features.clusters[picked_N].tolist()))
        figures.append(
            html.figure(
                pictures.cluster_scatter(
                    points, features.clusters, labeled_N, picked_N, variant
                ),
                html.PNG,
                f"{variant}: {len(picked)} picked videos among {len(features.videos)}, "
                f"lying in {spread} of {len(features.centers)} clusters; the plane shows "
                f"{100 * shares.sum():.0f}% of the variance",
            )
        )
    if not figures:
        return html.absent(
            "No cluster plot: none of the runs here has both pickles of its "
            "first cycle and a second selection."
        )
    lead = html.paragraph(
        "Each point is a video of the pool: its latent after the first cycle, projected on "
        f"two principal components (seed {seed}). Colors are clusters, squares were already "
        "labeled, stars were picked next."
    )
    return (
        lead
        + html.gallery(figures)
        + _left_out(missing, "no pickles of the first cycle or no second selection")
        + _left_out(list(folders)[MOST:], f"only the first {MOST} are drawn")
    )


@functools.cache
def _plane_by_bytes(content, shape):
    return pictures.plane(np.frombuffer(content, np.float32).reshape(shape))


def _plane_of(features):
    """Runs that share their start share the plane, and its computation."""
    return _plane_by_bytes(
        np.ascontiguousarray(features.latents, np.float32).tobytes(), features.latents.shape
    )


def classes_section(runs):
    """Fig. 9: score per class beside the share of the labels that it got. runs {variant:
    folders, one a seed}.
    """
    figures, missing = [], []
    for variant, folders in list(runs.items())[:MOST]:
        found = [result for result in map(class_scores, folders) if result]
        if not found:
            missing.append(variant)
            continue
        classes = found[0][0]
        found = [result for result in found if result[0] == classes]
        with np.errstate(all="ignore"):
            _, *values = zip(*found, strict=True)
            aware, agnostic, share = (_mean(np.stack(of_run)) for of_run in values)
        order = np.argsort(-np.nan_to_num(share), kind="stable")
        seeds = f"{len(found)} {'seed' if len(found) == 1 else 'seeds'}"
        low, high = classes[int(order[-1])], classes[int(order[0])]
        figures.append(
            html.figure(
                pictures.class_bars(
                    classes,
                    aware,
                    agnostic,
                    share,
                    f"{variant} · capsule protocol · last cycle, {seeds}",
                ),
                html.SVG,
                f"{variant}: {high} got {100 * share[order[0]]:.0f}% of the labeled frames "
                f"and scores {100 * np.nan_to_num(aware[order[0]]):.0f}% class-aware "
                f"f-AP@.5; {low} got {100 * share[order[-1]]:.0f}% and scores "
                f"{100 * np.nan_to_num(aware[order[-1]]):.0f}%",
            )
        )
    if not figures:
        return html.absent(
            "No chart of the classes: none of the runs here has an evaluation and its labels."
        )
    lead = html.paragraph(
        "Bars: class-aware f-AP@.5 on the test videos; red marks: the same "
        "regardless of class; yellow: the class's share of all labeled frames; dotted line: "
        "equal shares."
    )
    return (
        lead
        + html.gallery(figures)
        + _left_out(missing, "no evaluation or no labels")
        + _left_out(list(runs)[MOST:], f"only the first {MOST} are drawn")
    )


def _mean(values_S_C):
    """Mean over seeds, NaN where all are."""
    known = ~np.isnan(values_S_C)
    return np.where(
        known.any(0), np.nansum(values_S_C, 0) / np.maximum(known.sum(0), 1), np.nan
    )


def class_scores(folder):
    """(classes, class-aware f-AP@.5, f-AP@.5, share of labeled frames) of a run's last
    cycle; None where missing.
    """
    cycles = [
        cycle
        for cycle in Run.of(folder.resolve()).numbers()
        if (folder / f"cycle{cycle}" / "evaluation.json").exists()
    ]
    if not cycles:
        return None
    scores = read_json(folder / f"cycle{cycles[-1]}" / "evaluation.json").get("capsule")
    if not scores:
        return None
    labels = annotation_file.load(folder / f"cycle{cycles[-1]}" / "annotations.pkl")
    at, rows = (
        scores["thresholds"].index(0.5),
        {row["class"]: row for row in scores["per_class"]},
    )
    frames = np.zeros(len(labels.classes))
    for video in labels.labeled():
        frames[video.label] += len(video.labeled_frames)

    def column(key):
        values = [rows.get(name, {}).get(key) for name in labels.classes]
        return np.array(
            [np.nan if value is None or value[at] is None else value[at] for value in values],
            float,
        )

    return (
        labels.classes,
        column("f_ap_class_aware"),
        column("f_ap"),
        frames / max(frames.sum(), 1),
    )


# -------------------------------------------------------------------- uncertainty over time


def strips_section(folder, data, variant):
    """For some picked videos of the run's last choice by uncertainty: frames, uncertainty,
    and what was picked.
    """
    for cycle in reversed(Run.of(folder.resolve()).numbers()):
        paths = [
            folder / f"cycle{cycle - 1}" / name
            for name in ("uncertainty.pkl", "annotations.pkl")
        ]
        try:
            chosen = (
                load_selection(folder / f"cycle{cycle}" / "selection.json") if cycle else None
            )
        except UserError:
            continue
        scored = chosen and any(row["score"] is not None for row in chosen["videos"])
        if scored and all(path.exists() for path in paths):
            break
    else:
        return html.absent(
            "No uncertainty over time: no run here chose by uncertainty and kept its pickles."
        )
    scores, before = load_uncertainty(paths[0]), annotation_file.load(paths[1])
    name = chosen.get("settings", {}).get("frame_score", "paper")
    values = scores.frame_score(name if name in FRAME_SCORES else "paper")
    place = {video: number for number, video in enumerate(scores.videos)}
    rows = [
        row for row in chosen["videos"] if row["video"] in place and row["score"] is not None
    ]
    rows.sort(key=lambda row: -row["score"])
    figures, unread = [], []
    for number in sorted({0, len(rows) // 2, len(rows) - 1}):
        row, video = rows[number], before.videos[rows[number]["video"]]
        first = scores.offsets[place[video.name]]
        picked = [frame["frame"] for frame in row["frames"]]
        reader, problem = _reader(folder, data, video)
        arguments = (
            f"{video.name} · number {number + 1} of {len(rows)} picked",
            values[first : first + video.frames],
            picked,
            (video.labeled_frames + video.first).tolist(),
            video.first,
        )
        try:
            picture = pictures.uncertainty_strip(*arguments, reader)
        except UserError as error:
            problem, picture = str(error), pictures.uncertainty_strip(*arguments)
        unread += [problem] if problem else []
        figures.append(
            html.figure(
                picture,
                html.PNG,
                f"Uncertainty of the {video.frames} frames of {video.name}; picked: frames "
                f"{', '.join(map(str, picked))}",
                f"{video.name}: {row['reason']}; picked frames {', '.join(map(str, picked))}",
                wide=True,
            )
        )
    lead = html.paragraph(
        f"{variant}, choice for cycle {cycle}: the picked video of the highest, a middle "
        f"and the lowest score. Orange: frames picked now. Score: {name}."
    )
    note = (
        html.absent(
            f"Frames are not shown: {unread[0]}. Give --data, the folder with the videos."
        )
        if unread
        else ""
    )
    return lead + "".join(figures) + note


def _reader(folder, data, video):
    """(function that reads frames of a video, None) or (None, why it is not to be found)."""
    settings = read_json(folder / "run.json")
    dataset = settings.get("dataset", "ucf101")
    data = data or _data_of(folder) or data_folder(dataset)
    try:
        run = Run.of(folder.resolve())
        finder = video_finder(dataset, data)
        find_video = IdentifiedVideos(finder, run.identities, record=False)
        path = find_video(video.source)
        return pictures.frame_reader(path, video, run.cache), None
    except UserError as error:
        return None, str(error)


def _data_of(folder):
    """Where a cell's videos lay, by the command in its cell.json; or the folder of the
    ground truth.
    """
    words = " ".join(read_json(folder / "cell.json").get("commands", [])).split()
    if "--data" in words[:-1]:
        return words[words.index("--data") + 1]
    oracle = Path(read_json(folder / "run.json").get("oracle", ""))
    return (
        str(oracle.parent if oracle.suffix == ".pkl" else oracle)
        if oracle.exists() and str(oracle) != "."
        else None
    )


# ------------------------------------------------------------------------------- detections


def detections_section(runs):
    """The contact sheets that evaluate.py --visualize left in a run's last cycle. runs:
    folders.
    """
    for folder in runs:
        for cycle in reversed(Run.of(folder.resolve()).numbers()):
            sheets = sorted((folder / f"cycle{cycle}" / "pictures").glob("*[0-9]_*.png"))
            sheets = [sheet for sheet in sheets if sheet.name.startswith(("best", "worst"))]
            if sheets:
                return _sheets(sheets, folder, cycle)
    return html.absent(
        "No detections are shown: none of the runs here has pictures; evaluate.py "
        "--visualize 3 on a run's last cycle draws the best and the worst."
    )


def _sheets(sheets, folder, cycle):
    """best1 … and worst1 …, three of each."""
    chosen = []
    for kind in ("best", "worst"):
        chosen += [sheet for sheet in sheets if sheet.name.startswith(kind)][:3]
    figures = []
    for sheet in chosen:
        tag, _, name = sheet.stem.partition("_")
        figures.append(
            html.figure(
                pictures.as_jpeg(sheet),
                html.JPEG,
                f"Frames of {name} with ground truth (green) and prediction (orange), and "
                f"the overlap of every frame ({tag} of the test videos)",
                f"{tag}: {name}",
                wide=True,
            )
        )
    lead = html.paragraph(
        "Test videos of the highest and the lowest overlap (capsule protocol: regardless of "
        f"class), cycle {cycle} of {folder.name}. Green: ground truth; orange: prediction; "
        "dimmed: outside the crop."
    )
    return lead + "".join(figures)


def _left_out(names, reason):
    return html.absent(f"Left out: {', '.join(names)} ({reason}).") if names else ""
