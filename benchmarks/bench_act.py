"""How long the `act` protocol takes on the whole UCF-101-24 test set, and whether it is
still right.

    python benchmarks/bench_act.py                # --quick: every 50th video

Reads   ../shared/data/ucf101_24 (or $CLAUS_SHARED/data/ucf101_24): pyannot.pkl,
        testlist01.txt; without them, ends
Expect  about half a minute. Twenty detections in each of 159,289 frames are made by
        jittering the truth: twenty slots a video, each following one actor at a fixed
        offset with noise on top, four in five of the right class. They are scored as boxes
        at six thresholds (limit 20 s), linked to tubes by both rules, and the tubes scored
        (limit 60 s), all in one process on one core (limit 3 GiB). Then a slow plain
        program scores some of it again, and the two must agree; the exit status is 1 where
        they do not. Wall time depends on what else the machine does: read the CPU seconds.
"""

import argparse
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # one core, before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from claus.benchmarks import timing  # noqa: E402
from claus.datasets import ucf101  # noqa: E402
from claus.metrics.act import frame_ap, video_ap  # noqa: E402
from claus.metrics.boxes import Boxes  # noqa: E402
from claus.metrics.linking import RULES, LinkRule, link  # noqa: E402
from claus.metrics.masks import truth as ground_truth  # noqa: E402
from claus.reference import metrics as slow  # noqa: E402

DATA = timing.SHARED / "ucf101_24"
SLOTS, SIX = 20, (0.1, 0.2, 0.3, 0.5, 0.75, 0.9)
SAMPLED = 5  # videos that the slow program scores too
SAMPLE_SLOTS = 6


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args = timing.parse(parser, argv)
    annotations, test_list = DATA / "pyannot.pkl", DATA / "testlist01.txt"
    if timing.lacks(annotations, test_list):
        return 0
    videos = list(ucf101.read_ground_truth(annotations, test_list, "test").videos.values())
    videos = videos[:: 50 if args.quick else 1]
    truth, truth_tubes = ground_truth(videos)
    found = Boxes.concat([jittered(i, video) for i, video in enumerate(videos)], scored=True)
    print(
        f"{len(videos)} videos, {sum(v.frames for v in videos):,} frames; truth "
        f"{len(truth):,} boxes in {len(truth_tubes):,} tubes; {len(found):,} detections; "
        f"peak memory so far {peak():.2f} GiB"
    )
    result = timed(
        "frame-AP at six thresholds (limit 20 s)", frame_ap, truth, found, ucf101.CLASSES, SIX
    )
    show("frame-mAP", result)
    for rule in RULES:
        tubes = timed(f"linking, rule {rule}", link, found, rule)
        result = timed(
            f"video-AP of {len(tubes):,} tubes at six thresholds (limit with linking 60 s)",
            video_ap,
            truth_tubes,
            tubes,
            ucf101.CLASSES,
            SIX,
        )
        show("video-mAP", result)
    ceilings(truth, truth_tubes)
    print(f"peak memory {peak():.2f} GiB (limit 3)")
    sample = range(0, len(videos), -(-len(videos) // SAMPLED))
    return 0 if agrees(truth, truth_tubes, found, sample) else 1


def jittered(number, video, seed=0):
    """SLOTS detections in every frame of a video."""
    rng = np.random.default_rng([seed, number])
    boxes_S_F_4 = np.empty((SLOTS, video.frames, 4))
    for slot in range(SLOTS):
        tube = video.tubes[slot % len(video.tubes)]
        nearest = np.searchsorted(tube.frames, np.arange(video.frames)).clip(
            max=len(tube.frames) - 1
        )
        boxes_S_F_4[slot] = tube.boxes[nearest] - (0, 0, 1, 1)
    size = np.tile(boxes_S_F_4[..., 2:] - boxes_S_F_4[..., :2] + 1, 2)
    offset = rng.normal(0, 0.1, (SLOTS, 1, 4)) + rng.normal(0, 0.03, (SLOTS, video.frames, 4))
    boxes_S_F_4 = boxes_S_F_4 + size * offset
    boxes_S_F_4[..., 2:] = np.maximum(boxes_S_F_4[..., 2:], boxes_S_F_4[..., :2])
    label_S = np.where(
        rng.random(SLOTS) < 0.8, video.label, rng.integers(0, len(ucf101.CLASSES), SLOTS)
    )
    score_S_F = np.exp(-5 * np.abs(offset).mean(axis=-1)) * rng.uniform(0.5, 1, (SLOTS, 1))
    n = SLOTS * video.frames
    return Boxes(
        np.full(n, number),
        np.tile(np.arange(video.frames), SLOTS),
        np.repeat(label_S, video.frames),
        boxes_S_F_4.reshape(n, 4),
        score_S_F.ravel(),
    )


def timed(what, function, *args):
    wall, cpu = time.perf_counter(), time.process_time()
    result = function(*args)
    print(
        f"{what}: {time.process_time() - cpu:.1f} s CPU, {time.perf_counter() - wall:.1f} s "
        f"wall, peak memory {peak():.2f} GiB",
        flush=True,
    )
    return result


def peak():
    """Largest resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(name, result):
    print(
        f"    {name} "
        + "  ".join(
            f"@{t:g} {100 * value:.2f}"
            for t, value in zip(result.thresholds, result.mean_ap, strict=True)
        )
    )


def ceilings(truth, truth_tubes):
    """What the steps after a perfect detector cost: the true boxes as detections of equal
    score.
    """
    print("the truth as detections:")
    show(
        "video-mAP, true tubes, suppression alone",
        video_ap(
            truth_tubes, [tube._replace(score=1.0) for tube in truth_tubes], ucf101.CLASSES, SIX
        ),
    )
    found = replace(truth, score=np.ones(len(truth)))
    for name, rule in (*RULES.items(), ("gaps with min_iou .1", LinkRule(min_iou=0.1))):
        tubes = link(found, rule)
        show(
            f"video-mAP, true boxes linked by {name}",
            video_ap(truth_tubes, tubes, ucf101.CLASSES, SIX),
        )


def agrees(truth, truth_tubes, found, sample):
    """Score a few videos (numbers; of these a few slots) with the slow program as well; print
    and return the verdict.
    """
    n = len(ucf101.CLASSES)
    truth = truth[np.isin(truth.video, sample)]
    found = found[np.isin(found.video, sample)]
    order = np.lexsort((found.frame, found.video))
    found = found[np.sort(order[np.arange(len(order)) % SLOTS < SAMPLE_SLOTS])]
    rows = [
        [*map(int, (v, f, c)), *map(float, b)]
        for v, f, c, b in zip(truth.video, truth.frame, truth.label, truth.box, strict=True)
    ]
    found_rows = [
        [*map(int, (v, f, c)), float(s), *map(float, b)]
        for v, f, c, s, b in zip(
            found.video, found.frame, found.label, found.score, found.box, strict=True
        )
    ]
    worst = 0
    fast = frame_ap(truth, found, ucf101.CLASSES, SIX)
    for i, t in enumerate(SIX):
        worst = max(worst, difference(fast.ap[:, i], slow.frame_ap(rows, found_rows, n, t)))
    truth_tubes = [tube for tube in truth_tubes if tube.video in sample]
    slow_truth = [as_slow(tube) for tube in truth_tubes]
    for name, rule in RULES.items():
        tubes = link(found, rule)
        slow_tubes = slow.link(
            found_rows,
            rule.min_iou,
            rule.max_gap,
            rule.prefer,
            rule.soft_nms,
            rule.keep,
            rule.min_score,
            rule.min_length,
        )
        same = [sorted(as_slow(tube)[2]) for tube in tubes] == [
            sorted(tube[2]) for tube in slow_tubes
        ]
        print(
            f"sample: rule {name} makes {len(tubes)} tubes, the slow program "
            f"{'the same' if same else 'OTHERS'}"
        )
        fast = video_ap(truth_tubes, tubes, ucf101.CLASSES, SIX)
        kept = slow.tube_nms(slow_tubes, 0.3)
        for i, t in enumerate(SIX):
            worst = max(
                worst,
                difference(fast.ap[:, i], slow.video_ap(slow_truth, kept, n, t, nms=None)),
            )
        worst = worst if same else np.inf
    print(
        f"sample: {len(sample)} videos, {len(found):,} boxes; largest difference of an AP "
        f"from the slow program: {worst:.1e}"
    )
    return worst < 1e-9


def as_slow(tube):
    boxes = {int(f): tuple(map(float, b)) for f, b in zip(tube.frames, tube.boxes, strict=True)}
    return tube.video, tube.label, boxes, tube.score


def difference(fast_C, slow_C):
    """Largest difference between APs; infinite where one is defined and the other is not."""
    slow_C = np.array([np.nan if ap is None else float(ap) for ap in slow_C])
    return (
        np.inf
        if (np.isnan(fast_C) != np.isnan(slow_C)).any()
        else float(np.nanmax(np.abs(fast_C - slow_C)))
    )


if __name__ == "__main__":
    sys.exit(main())
