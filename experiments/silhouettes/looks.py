"""Do the looks of the silhouette benchmark tell the class? A random forest on colors and
texture, without any shape.

    python experiments/silhouettes/looks.py          # a minute on one core

Prints the accuracy on the test part of a forest trained on the training part: from the mean
and deviation of colors, and the strength of edges, inside and outside of the actor in the
middle frame. Beside it the same with shuffled labels, which is what chance gives, and the
share of the most frequent class. More would mean that looks give the class away.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.layouts import default_folder  # noqa: E402
from claus.datasets.video.reader import read_frames  # noqa: E402
from claus.utils.runtime import run_script  # noqa: E402

SHUFFLES = 5


def looks_of(frame, mask):
    """Frame (H,W,3) uint8 and the actor's mask (H,W) bool -> features (20,): nothing of
    where or what shape it is.
    """
    frame = frame.astype(np.float32)
    hsv = cv2.cvtColor(frame / 255, cv2.COLOR_RGB2HSV)
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    return np.concatenate(
        [
            np.concatenate(
                [
                    frame[where].mean(0),
                    hsv[where].mean(0),
                    frame[where].std(0),
                    edges[where].mean(keepdims=True),
                ]
            )
            for where in (mask, ~mask)
        ]
    )


def features(root, part):
    """(looks (N,20), labels (N,)) of the middle frames of a part."""
    videos = jhmdb.read_ground_truth(root, part=part).videos.values()
    looks = [
        looks_of(
            read_frames(jhmdb.find_video(root, video.name), [video.frames // 2], video.frames)[
                0
            ],
            video.tubes[0].masks[:][video.frames // 2],
        )
        for video in tqdm(videos, desc=part, disable=None)
    ]
    return np.stack(looks), np.array([video.label for video in videos])


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        default=default_folder("data/silhouettes"),
        help="the rendered data set (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    (looks, labels), (test_looks, test_labels) = (
        features(args.data, part) for part in ("train", "test")
    )

    def accuracy(labels, seed):
        forest = RandomForestClassifier(300, random_state=seed, n_jobs=1).fit(looks, labels)
        return 100 * forest.score(test_looks, test_labels)

    rng = np.random.default_rng(0)
    found = [accuracy(labels, seed) for seed in range(3)]
    chance = [accuracy(rng.permutation(labels), seed) for seed in range(SHUFFLES)]
    print(
        f"class from looks: {np.mean(found):.1f}% of {len(test_labels)} test videos; with "
        f"shuffled labels {np.mean(chance):.1f} ± {np.std(chance, ddof=1):.1f}%; most "
        f"frequent class {100 * np.bincount(test_labels).max() / len(test_labels):.1f}%"
    )
    return 0


if __name__ == "__main__":
    run_script(main, "nothing is kept, start again")
