"""How well masks between labeled frames are guessed: all real J-HMDB masks, every 2nd,
4th, 8th, 16th frame labeled.

    python benchmarks/bench_mask_interp.py                # ten minutes on one core; --quick: every 100th clip

Reads   ../shared/data/jhmdb (or $CLAUS_SHARED/data/jhmdb): puppet_mask/,
        testlist_split1.txt, videos/ (one clip); without them, ends
Writes  benchmarks/results/mask_interp.csv   mean IoU by method, gap and class
        benchmarks/results/mask_interp.md    the tables of it that people read
Expect  labels at frames 0, g, 2g, ...; every unlabeled frame before the last label is
        scored against its true mask, and each counts the same. `flow` needs pixels, which
        are here for one clip only: it has a table of its own.
"""

import argparse
import csv
import io
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # one core, before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from claus.benchmarks.timing import (  # noqa: E402
    RESULTS,
    SHARED,
    lacks,
    parse,
    write_results,
)
from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.labels.mask_interp import INTERPOLATIONS, interpolate  # noqa: E402
from claus.datasets.video.reader import read_frames  # noqa: E402
from claus.losses.stew import REACH  # noqa: E402
from claus.utils.machine import processor  # noqa: E402
from claus.utils.markdown import table as grid  # noqa: E402
from claus.utils.runtime import write_text  # noqa: E402

DATA = SHARED / "jhmdb"
GAPS = (2, 4, 8, 16)
# yardsticks first
WITHOUT_PIXELS = [method for method in reversed(INTERPOLATIONS) if method != "flow"]
WITH_PIXELS = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=1, help="only every so many-th clip")
    args = parse(parser, argv, every=100)
    if lacks(DATA / "puppet_mask", DATA / "testlist_split1.txt", DATA / "videos"):
        return 0
    cv2.setNumThreads(1)
    videos = jhmdb.read_ground_truth(DATA).videos
    test = set(jhmdb.read_ground_truth(DATA, part="test").videos)
    names = list(videos)[:: args.every]
    # (method, gap, class, part) -> IoUs; (method, gap) -> s
    ious, seconds = (defaultdict(list), defaultdict(float))
    for number, name in enumerate(names):
        masks = videos[name].tubes[0].masks[:]
        for gap in GAPS:
            for method in WITHOUT_PIXELS:
                began = time.perf_counter()
                found = score(masks, gap, method)
                seconds[method, gap] += time.perf_counter() - began
                ious[
                    method, gap, name.partition("/")[0], "test" if name in test else "train"
                ] += found
        if number % 100 == 99:
            print(f"{number + 1} of {len(names)} clips", flush=True)
    flow_ious, held = with_pixels(videos[WITH_PIXELS].tubes[0].masks[:])
    text = report(len(names), ious, seconds, flow_ious, held)
    if write_results("mask_interp", text, args.every > 1):
        write_text(RESULTS / "mask_interp.csv", table(ious, flow_ious))
    return 0


def score(masks, gap, method, pictures=None):
    """IoU with the true mask of each unlabeled frame before the last label, where every
    gap-th frame is labeled.
    """
    labeled = np.arange(0, len(masks), gap)
    wanted = np.setdiff1d(np.arange(labeled[-1]), labeled)
    if not len(wanted):
        return []
    return iou(interpolate(masks[labeled], labeled, wanted, method, pictures), masks[wanted])


def iou(first, second):
    return ((first & second).sum((1, 2)) / (first | second).sum((1, 2))).tolist()


def with_pixels(masks):
    """The one clip with pixels: {(method, gap): IoUs} between labels, {method: IoUs} within
    REACH of a single one.
    """
    pictures = read_frames(jhmdb.find_video(DATA, WITH_PIXELS), range(len(masks)), len(masks))
    between = {
        (method, gap): score(masks, gap, method, pictures)
        for gap in GAPS
        for method in (*WITHOUT_PIXELS, "flow")
    }
    single = defaultdict(list)
    for label in range(len(masks)):
        near = np.array([f for f in range(len(masks)) if 0 < abs(f - label) <= REACH])
        for method in ("hold", "flow"):
            single[method] += iou(
                interpolate(masks[[label]], [label], near, method, pictures), masks[near]
            )
    return between, single


# ----------------------------------------------------------------------------------- tables


def pick(ious, method, gap, of_class=None, part=None):
    """All IoUs of a method and gap, of one class or part where given."""
    return [
        value
        for (m, g, c, p), values in ious.items()
        for value in values
        if (m, g) == (method, gap) and of_class in (None, c) and part in (None, p)
    ]


def classes_of(ious):
    return sorted({key[2] for key in ious})


def table(ious, flow_ious):
    """The CSV: a row for each method, gap and class, for all classes, for each part of
    split 1, and the flow_ious clip.
    """
    rows = []
    for method in WITHOUT_PIXELS:
        for gap in GAPS:
            groups = [(c, pick(ious, method, gap, of_class=c)) for c in classes_of(ious)]
            groups += [("all", pick(ious, method, gap))]
            groups += [
                (f"all, split 1 {part}", pick(ious, method, gap, part=part))
                for part in ("train", "test")
            ]
            rows += [
                (method, gap, group, len(values), f"{np.mean(values):.4f}")
                for group, values in groups
                if values
            ]
    rows += [
        (method, gap, WITH_PIXELS, len(values), f"{np.mean(values):.4f}")
        for (method, gap), values in flow_ious.items()
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [("method", "gap", "class", "frames", "mean IoU"), *rows]
    )
    return text.getvalue()


def report(clips, ious, seconds, flow_ious, held):
    """The tables for people, Markdown."""

    def mean(values):
        return f"{np.mean(values):.3f}" if values else ""

    frames = {gap: len(pick(ious, "hold", gap)) for gap in GAPS}
    gaps = [f"gap {gap}" for gap in GAPS]
    other_gaps = [gap for gap in GAPS if gap != 8]
    overall, by_class, one = [], [], []
    for method in WITHOUT_PIXELS:
        means = [mean(pick(ious, method, gap)) for gap in GAPS]
        test = mean(pick(ious, method, 8, part="test"))
        overall.append([method, *means, test, f"{1000 * seconds[method, 8] / frames[8]:.1f}"])
    for c in classes_of(ious):
        means = [mean(pick(ious, method, 8, of_class=c)) for method in WITHOUT_PIXELS]
        means += [mean(pick(ious, "blend", gap, of_class=c)) for gap in other_gaps]
        by_class.append([c, *means])
    for method in (*WITHOUT_PIXELS, "flow"):
        one.append([method, *(mean(flow_ious[method, gap]) for gap in GAPS)])
    labeled = ", ".join(f"{frames[gap]:,}" for gap in GAPS)
    overall_table = grid(["method", *gaps, "gap 8, test", "ms a frame"], overall)
    blend = [f"blend, gap {gap}" for gap in other_gaps]
    class_table = grid(["class", *WITHOUT_PIXELS, *blend], by_class)
    one_table = grid(["method", *gaps], one)
    return f"""# Masks between labeled frames

`python benchmarks/bench_mask_interp.py`, {time.strftime("%Y-%m-%d")}, one core of {processor()}.
Mean IoU with the true mask over all unlabeled frames between labels; every gap-th frame of all {clips} J-HMDB clips
is labeled ({labeled} frames at gaps {', '.join(map(str, GAPS))}).
What the methods are says datasets/labels/mask_interp.py; `blend` is the default. Its constants were set on an eighth of the
training clips of split 1, where the score is flat around them; the column "test" is the test clips alone.

{overall_table}

By class, gap 8 (and `blend` at the others):

{class_table}

`flow` needs pixels, and one real clip is all there is of them here, a goalkeeper's jump, among the fastest
({WITH_PIXELS}):

{one_table}

With a single label in that clip there is nothing to interpolate. Within {REACH} frames of it, where the temporal
weight is not 0, the held mask has a mean IoU of {mean(held["hold"])}, the one that `flow` carries on
{mean(held["flow"])} (mean over every frame as the label).
"""


if __name__ == "__main__":
    sys.exit(main())
