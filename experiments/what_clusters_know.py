"""What clusters of the encoder's features know that clusters of the latents do not.

    python experiments/what_clusters_know.py files/jhmdb/RUN files/jhmdb/ANOTHER \\
        --dataset jhmdb --data data/JHMDB --oracle data/JHMDB --cache-dir files/jhmdb/cache \\
        --output experiments/results/jhmdb/clusters.md

Reads   the detector and features.pkl of a cycle of each run, all of one detector whose encoder
        works frame by frame and is frozen (--model laptop), the ground truth's classes, and
        the feature cache
Writes  a page: for the latents and for the encoder's features how much clusters say of the
        class (adjusted mutual information: 0 by chance, 1 all), and how many classes are among
        B videos, one from each of B clusters, beside B videos at random
Expect  a second per hundred cached videos. No training: whether such clusters choose better
        labels is not asked here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score
from tqdm import tqdm

from claus.artifacts import checkpoint
from claus.artifacts.cycle import Cycle
from claus.artifacts.scores import load_features
from claus.datasets import table as data_sets
from claus.datasets.video.feature_cache import feature_cache
from claus.flags.common import add_dataset_flags, add_split_flags, check_dataset, truth_words
from claus.models.lite import map_shapes
from claus.utils.machine import machine_line
from claus.utils.markdown import table
from claus.utils.runtime import UserError, run_script, write_text

CLUSTERS = (5, 21)  # K of the paper, and the classes of J-HMDB
PICKS = (22, 66)  # B videos
SEEDS = 10  # of k-means and of random videos
COARSE = (2, 3)  # maps of a record: strides 16 and 32


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, help="folders of runs")
    add("--cycle", type=int, default=0, help="of which cycle (default: %(default)s)")
    add_dataset_flags(add)
    add("--oracle", required=True, help=truth_words())
    add_split_flags(add)
    add("--cache-dir", type=Path, required=True, help="where the encoder's features are kept")
    add("--feature-gb", type=float, default=20, help="its limit (default: %(default)s)")
    add("--output", type=Path, help="page to write (default: print alone)")
    args = parser.parse_args(argv)
    check_dataset(args, parser, needs_list=True)
    return args


def main(argv=None):
    args = parse_args(argv)
    truth = data_sets.read_ground_truth(
        args.dataset, args.oracle, args.test_list, args.split, "train"
    )
    cycles = [Cycle.of(run.name, args.cycle, run.parent) for run in args.runs]
    latents, assigned = [], []
    names = None
    for cycle in cycles:
        features = load_features(cycle.features)
        if names not in (None, features.videos):
            raise UserError(f"{cycle.features} has other videos than {cycles[0].features}")
        names = features.videos
        latents.append(features.latents)
        assigned.append(features.clusters)
    label_N = np.array([truth.videos[name].label for name in names])
    encoded_N_C = encoder_features(cycles[0], [truth.videos[name] for name in names], args)
    page = report(latents, assigned, encoded_N_C, label_N, cycles)
    print(page)
    if args.output:
        write_text(args.output, page + "\n")
    return 0


def encoder_features(cycle, videos, args):
    """The mean over frames and places of each channel of the coarse maps, (N,C), every
    channel divided by its deviation over the videos.
    """
    trained = checkpoint.load(cycle.detector, "cpu")
    cache = feature_cache(
        trained.detector,
        trained.geometry,
        trained.pixel_range,
        args.cache_dir,
        args.feature_gb,
    )
    if cache is None:
        raise UserError(
            f"{cycle.detector}: its encoder is not a frozen one that works frame by frame; "
            f"train with --model laptop"
        )
    cache.take(trained.detector.conv1.trunk)
    find_video = data_sets.video_finder(args.dataset, args.data)
    means = []
    for video in tqdm(videos, desc="features", unit="video", disable=None):
        records = cache.records(find_video(video.name), video, range(video.frames))
        means.append(mean_of(records.float().numpy(), trained.geometry.size))
    means_N_C = np.stack(means)
    return means_N_C / np.maximum(means_N_C.std(0), 1e-6)


def mean_of(records_T_R, size):
    """Mean over frames and places of the coarse maps of records, (C,)."""
    shapes = map_shapes(size)
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    parts = []
    for at in COARSE:
        channels, height, width = shapes[at]
        begin = ends[at] - channels * height * width
        maps = records_T_R[:, begin : ends[at]].reshape(-1, channels, height * width)
        parts.append(maps.mean((0, 2)))
    return np.concatenate(parts)


def report(latents, assigned, encoded_N_C, label_N, cycles):
    """The page. latents, assigned: one array for each run."""
    rows = [
        ["latents, as the paper clusters them (all runs)", *as_assigned(assigned, label_N)],
        ["latents, k-means over the pool (all runs)", *of_kmeans(latents, label_N)],
        ["the encoder's features, k-means over the pool", *of_kmeans([encoded_N_C], label_N)],
        ["at random", *["0"] * len(CLUSTERS), *at_random(label_N)],
    ]
    known = [f"mutual information, K = {k}" for k in CLUSTERS]
    covered = [f"classes in {picks} videos" for picks in PICKS]
    return "\n\n".join(
        [
            "# What clusters know of the class",
            f"{len(label_N)} videos, {len(set(label_N.tolist()))} classes; "
            f"trained detectors: {len(cycles)}, with one frozen encoder; k-means and random "
            f"videos with {SEEDS} seeds: mean ± standard deviation over seeds and runs. Mutual "
            f"information is adjusted for chance. Videos: the one nearest to each of as many "
            f"k-means centers.",
            table(["clusters of", *known, *covered], rows),
            machine_line(),
        ]
    )


def as_assigned(assigned, label_N):
    """Cells for the clusters that the runs' features.pkl name; no videos are taken."""
    known = [adjusted_mutual_info_score(label_N, clusters_N) for clusters_N in assigned]
    cells = []
    for k in CLUSTERS:
        fits = all(int(clusters_N.max()) < k for clusters_N in assigned) and k == CLUSTERS[0]
        cells.append(spread(known, 2) if fits else "")
    return [*cells, *[""] * len(PICKS)]


def of_kmeans(spaces, label_N):
    """Cells for k-means in each of the spaces (N,D)."""
    cells = []
    for k in CLUSTERS:
        known = []
        for space in spaces:
            for seed in range(SEEDS):
                clusters_N = KMeans(k, n_init=4, random_state=seed).fit_predict(space)
                known.append(adjusted_mutual_info_score(label_N, clusters_N))
        cells.append(spread(known, 2))
    for picks in PICKS:
        found = []
        for space in spaces:
            for seed in range(SEEDS):
                distances = KMeans(picks, n_init=1, random_state=seed).fit_transform(space)
                found.append(len(set(label_N[distances.argmin(0)].tolist())))
        cells.append(spread(found, 1))
    return cells


def at_random(label_N):
    """Cells for random videos."""
    cells = []
    for picks in PICKS:
        found = []
        for seed in range(SEEDS):
            chosen = np.random.default_rng(seed).choice(len(label_N), picks, replace=False)
            found.append(len(set(label_N[chosen].tolist())))
        cells.append(spread(found, 1))
    return cells


def spread(values, digits):
    """Mean ± standard deviation."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


if __name__ == "__main__":
    run_script(main)
