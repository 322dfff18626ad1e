"""Why a selection rule does what it does: what its scores measure, and what it picks, by
the ground truth.

    python experiments/explain_selection.py experiments/results/silhouettes.csv --dataset jhmdb \\
        --data data/silhouettes --oracle data/silhouettes \\
        --output experiments/results/silhouettes_why.md

Reads   a table of experiments/run.py and the folders of its runs, the ground truth, all
        training videos below --data
Writes  a page of tables: for every frame score its rank correlation with the detector's
        true error, with the actor's size and contrast and with the size predicted; the
        scores over a video's tiles; for every rule and cycle how large, how visible, how
        wrong and how varied the videos are that it picked, and how much of them its labels
        let STeW trust
Expect  one pass of the detector over the training videos for each seed: 25 s a seed with
        the silhouettes on a CPU, and 10 s for the contrast. The ground truth is read to
        explain a selection afterwards; no rule sees it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import tempfile

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion
from scipy.stats import spearmanr
from sklearn.metrics import normalized_mutual_info_score

from claus.artifacts import checkpoint
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import (
    FRAME_SCORES,
    check_same_source,
    load_features,
    load_uncertainty,
)
from claus.artifacts.selection_file import load_selection
from claus.datasets import table as data_sets
from claus.datasets.clips.geometry import STRIDE
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.pseudo_labels import pseudo_masks
from claus.datasets.video.reader import read_frames
from claus.experiments.report.gather import SETTING, read_table
from claus.flags import evaluation
from claus.flags.common import (
    add_dataset_flags,
    add_split_flags,
    check_dataset,
    truth_words,
)
from claus.losses.stew import temporal_weight
from claus.steps import evaluate
from claus.utils.machine import machine_line
from claus.utils.markdown import table
from claus.utils.runtime import UserError, run_script, write_text

TILE = 8 * STRIDE  # frames
RING = 6  # pixels around an actor that its contrast is with


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("table", type=Path, help="CSV of experiments/run.py")
    add("--experiment", default="table2", help="whose runs (default: %(default)s)")
    add_dataset_flags(add)
    add("--oracle", required=True, help=truth_words())
    add_split_flags(add)
    add("--device", default="cpu")
    add("--output", type=Path, help="page to write (default: print alone)")
    args = parser.parse_args(argv)
    check_dataset(args, parser, needs_list=True)
    return args


def main(argv=None):
    args = parse_args(argv)
    rows = [
        row
        for row in read_table(args.table)
        if row["experiment"] == args.experiment and row["run"] is not None
    ]
    if not rows:
        raise UserError(
            f"{args.table} has no run of {args.experiment} whose folder is on this machine"
        )
    settings = sorted({str(tuple(map(row.get, SETTING))) for row in rows})
    if len(settings) > 1:
        raise UserError(
            f"{args.table} has runs of {args.experiment} with different settings "
            f"({', '.join(SETTING)}): {' and '.join(settings)}; give a table of one"
        )
    truth = data_sets.read_ground_truth(
        args.dataset, args.oracle, args.test_list, args.split, "train"
    )
    starts, contrasts, runs = {}, {}, {}
    for row in rows:
        # the same for runs with a shared start
        source = fingerprint(row["run"] / "cycle0" / "detector.pt")
        runs[row["run"]] = row["variant"], source
        if source not in starts:
            starts[source] = Start(row["run"] / "cycle0", truth, contrasts, args)
    page = "\n\n".join(
        [
            heading(args, starts),
            scores_table(starts),
            tiles_table(starts),
            picks_table(runs, starts),
        ]
    )
    print(page)
    if args.output:
        write_text(args.output, page + "\n")
    return 0


class Start:
    """What the detector of a seed's shared first cycle thinks of the pool, and what is
    true. Arrays over N videos.

    error_N: 1 - IoU of all masks of a video, in its crop; size_N: the actor's share of the
    crop, predicted_N: that of the prediction; contrast_N, see contrast(); label_N; fresh_N
    bool: without labels; scores: name -> (total,) per frame with `offsets`.
    """

    def __init__(self, folder, truth, contrasts, args):
        """contrasts: {video: contrast} as far as known; what is missing is added."""
        self.features = load_features(folder / "features.pkl")
        self.uncertainty = load_uncertainty(folder / "uncertainty.pkl")
        check_same_source(
            self.features, self.uncertainty, folder / "features.pkl", folder / "uncertainty.pkl"
        )
        labels = annotation_file.load(folder / "annotations.pkl")
        self.names = self.features.videos
        self.place = {name: number for number, name in enumerate(self.names)}
        if unknown := [name for name in self.names if name not in truth.videos]:
            raise UserError(
                f"{args.oracle} has no training video {unknown[0]}, which "
                f"{folder / 'features.pkl'} has; give the ground truth and the split of "
                "these runs"
            )
        self.videos = [truth.videos[name] for name in self.names]
        self.offsets, self.lengths_N = (
            self.uncertainty.offsets,
            np.diff(self.uncertainty.offsets),
        )
        self.scores = {name: self.uncertainty.frame_score(name) for name in FRAME_SCORES}
        self.label_N = np.array([video.label for video in self.videos])
        self.fresh_N = np.array([not labels.videos[name].is_labeled for name in self.names])
        self.error_N, self.size_N, self.predicted_N = errors(folder, self.videos, args)
        find_video = data_sets.video_finder(args.dataset, args.data)
        for video in self.videos:
            if video.name not in contrasts:
                contrasts[video.name] = contrast(video, find_video(video.name))
        self.contrast_N = np.array([contrasts[name] for name in self.names])

    def mean_score(self, name):
        """Mean of a frame score over each video (N,)."""
        return (
            np.add.reduceat(self.scores[name].astype(np.float64), self.offsets[:-1])
            / self.lengths_N
        )


def errors(folder, videos, args):
    """(1 - IoU, actor's share of the crop, predicted share), each (N,), by the detector of
    a cycle.
    """
    flags = [
        "--run",
        str(folder.parent),
        "--dataset",
        args.dataset,
        "--oracle",
        args.oracle,
        "--data",
        str(args.data),
        "--device",
        args.device,
        "--protocol",
        "capsule",
        "--strict",
    ]
    flags += ["--test-list", args.test_list] if args.test_list else ["--split", str(args.split)]
    how = evaluation.parse(flags)
    trained = checkpoint.load(folder / "detector.pt", args.device)
    view = evaluate.view_of(trained, how.crop)
    find_video = data_sets.video_finder(how.dataset, how.data)
    with tempfile.TemporaryDirectory() as parts:
        overlaps = evaluate.score_videos(
            trained, videos, view, find_video, Path(parts), how
        ).overlaps
    sums = []
    for video in overlaps:
        counted = video.gt_F > 0
        parts = video.intersection_F, video.union_F, video.gt_F
        sums.append([part[counted].sum(dtype=np.float64) for part in parts])
    both, any_, true = np.transpose(sums)
    pixels = np.array([(video.gt_F > 0).sum() for video in overlaps]) * float(
        view.region.size**2
    )
    with np.errstate(invalid="ignore"):
        return 1 - both / any_, true / pixels, (any_ - true + both) / pixels


def contrast(video, path):
    """How far the actors' mean color is from that of a ring around them, in standard
    deviations of both; or NaN.

    Mean over three frames at a quarter, a half and three quarters of the video.
    """
    frames = np.unique(np.array([1, 2, 3]) * video.frames // 4)
    labeled = video.height, video.width
    found = []
    for picture, mask in zip(
        np.asarray(read_frames(path, frames, video.frames, labeled), float),
        pseudo_masks(video, frames) > 0.5,
        strict=True,
    ):
        inside = picture[binary_erosion(mask)]
        around = picture[binary_dilation(mask, iterations=RING) & ~binary_dilation(mask)]
        if len(inside) > 1 and len(around) > 1:
            spread = np.sqrt((inside.var(0).sum() + around.var(0).sum()) / 2)
            found.append(np.linalg.norm(inside.mean(0) - around.mean(0)) / max(spread, 1.0))
    return float(np.mean(found)) if found else np.nan


# ----------------------------------------------------------------------------------- tables


def heading(args, starts):
    return (
        f"# Why the rules choose as they do: {args.experiment} of "
        f"{args.table.name}\n\n{machine_line()}\n\n"
        f"`python experiments/explain_selection.py {args.table} --experiment "
        f"{args.experiment} --dataset "
        f"{args.dataset} --data … --oracle …`; means over {len(starts)} "
        f"first cycle{'s' if len(starts) > 1 else ''}. "
        "The error of a video is 1 - IoU of its masks under the detector of the shared "
        "first cycle, measured with "
        "the ground truth, which no rule sees."
    )


def scores_table(starts):
    """Rank correlation over the unlabeled videos of each mean frame score with what it may
    measure.
    """
    rows = []
    for name in FRAME_SCORES:
        values = []
        for start in starts.values():
            score = start.mean_score(name)[start.fresh_N]
            known = start.error_N, start.size_N, start.contrast_N, start.predicted_N
            values.append([correlation(score, truth_N[start.fresh_N]) for truth_N in known])
        rows.append([f"`{name}`", *(f"{value:+.2f}" for value in np.mean(values, 0))])
    purity = np.mean(
        [
            [
                normalized_mutual_info_score(start.features.clusters, start.label_N),
                len(np.unique(start.features.clusters)),
            ]
            for start in starts.values()
        ],
        0,
    )
    return (
        "## What the scores measure\n\nRank correlation over the unlabeled videos, "
        "mean of a video's frame "
        "scores.\n\n"
        + table(
            [
                "frame score",
                "error",
                "size of the actor",
                "contrast of the actor",
                "size predicted",
            ],
            rows,
        )
        + f"\n\nClusters: {purity[1]:.1f} that hold a video; normalized mutual "
        f"information with the class {purity[0]:.3f} (1: the same, 0: nothing in common)."
    )


def correlation(values, others):
    """Rank correlation, without what is not known."""
    return spearmanr(values, others, nan_policy="omit").statistic


def tiles_table(starts):
    """Frame scores by the place in a tile, and in the last tile where it is filled up with
    a repeated frame.
    """
    rows = []
    for name in ("paper", "per-pixel", "local_entropy", "area"):
        row = []
        for start in starts.values():
            frame = np.arange(start.offsets[-1]) - np.repeat(
                start.offsets[:-1], start.lengths_N
            )
            length = np.repeat(start.lengths_N, start.lengths_N)
            whole = frame // TILE < length // TILE
            usual = start.scores[name][whole].mean(dtype=np.float64)
            parts = [
                whole & (frame % TILE < 4),
                whole & (frame % TILE >= TILE - 4),
                *(
                    ~whole & (length % TILE > low) & (length % TILE <= high)
                    for low, high in ((0, 8), (8, 16))
                ),
            ]
            row.append(
                [
                    start.scores[name][part].mean(dtype=np.float64) / usual
                    if part.any()
                    else np.nan
                    for part in parts
                ]
            )
        rows.append([f"`{name}`", *(f"{value:.2f}" for value in np.mean(row, 0))])
    tail = [start.uncertainty.settings.get("tail", "repeat") for start in starts.values()]
    return (
        "## Scores over a tile\n\nMean score as a multiple of that over all whole "
        "tiles of 16 frames; last tiles "
        f"`{'`, `'.join(sorted(set(tail)))}`.\n\n"
        + table(
            [
                "frame score",
                "first 4 frames",
                "last 4 frames",
                "last tile with up to 8 frames of its own",
                "with more",
            ],
            rows,
        )
    )


def picks_table(runs, starts):
    """What each rule's picks of each cycle are like, beside the pool of unlabeled videos."""
    cells = {}
    for folder, (variant, source) in runs.items():
        for path in sorted(
            folder.glob("cycle[1-9]*/selection.json"),
            key=lambda path: int(path.parent.name[5:]),
        ):
            cells.setdefault((int(path.parent.name[5:]), variant), []).append(
                of_picks(load_selection(path), starts[source])
            )
    rows = []
    for (cycle, variant), values in sorted(cells.items()):
        means = [f"{value:.2f}" for value in np.mean(values, 0)]
        rows.append([str(cycle), variant, str(len(values)), *means])
    return (
        "## What was picked\n\nSize, contrast and error as multiples of those of the "
        "pool (error: of the shared "
        "first cycle's detector); trusted: mean weight that STeW gives the frames of "
        "the picked videos by their "
        "labels; position: 0 the first, 1 the last frame.\n\n"
        + table(
            [
                "cycle",
                "rule",
                "runs",
                "size of the actor",
                "contrast",
                "error",
                "effective classes",
                "frames a video",
                "trusted",
                "position",
                "its deviation",
            ],
            rows,
        )
    )


def of_picks(selection, start):
    """One row of picks_table."""
    picks = []
    for row in selection["videos"]:
        if row["video"] in start.place:
            frames = np.array([frame["frame"] for frame in row["frames"]])
            picks.append((start.place[row["video"]], frames))
    videos = np.array([video for video, _ in picks])
    position = np.concatenate(
        [frames / max(start.lengths_N[video] - 1, 1) for video, frames in picks]
    )
    trusted = np.mean(
        [
            temporal_weight(
                np.abs(np.arange(start.lengths_N[video])[:, None] - frames).min(1)
            ).mean()
            for video, frames in picks
        ]
    )
    share = np.bincount(start.label_N[videos]) / len(videos)
    share = share[share > 0]
    beside_pool = [
        np.nanmean(values_N[videos]) / np.nanmean(values_N[start.fresh_N])
        for values_N in (start.size_N, start.contrast_N, start.error_N)
    ]
    return [
        *beside_pool,
        np.exp(-(share * np.log(share)).sum()),
        len(position) / len(videos),
        trusted,
        position.mean(),
        position.std(),
    ]


if __name__ == "__main__":
    run_script(main)
