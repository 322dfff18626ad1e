"""How long claus_select.py takes for 10,000, 100,000 and 1,000,000 videos of 100 frames,
and whether it chooses right.

    python benchmarks/bench_select.py                  # about five minutes; --quick: 500 videos

Reads   ../shared/data/ucf101_24 (or $CLAUS_SHARED/data/ucf101_24), if it is there
Writes  benchmarks/results/select.md    the table; made-up pickles go to a temporary folder (6 GB for a million videos)
Expect  for each size, a pool with 5% of its videos labeled, latents of 408 numbers (the
        full network's), scores of every frame. Two whole commands are timed, each a process
        of its own: choosing (load and check annotations.pkl, features.pkl, uncertainty.pkl;
        select 5% x 5%; write selection.json, request.json, clusters.png) and taking the
        filled-in form back (check it, write annotations.pkl, count the ledger). Then a slow
        plain program chooses again on a sample, and the picks must agree; the exit status
        is 1 where they do not, or where time grows faster than N log N, or where a command
        takes more than LIMITS: what a million videos may need, whatever the size. Of the
        form's frames the 2,500 that are drawn on contact sheets cost some seconds, the same
        for every pool. Wall time depends on what else the machine does: read the CPU
        seconds. The same for the real UCF-101-24 pool, with the simulated annotator.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from math import log
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # one core, before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402
from golden.make_selection import extraction  # noqa: E402

from claus.artifacts.scores import (  # noqa: E402
    FRAME_ARRAYS,
    Features,
    Uncertainty,
    load_features,
    load_uncertainty,
    save_features,
    save_uncertainty,
)
from claus.artifacts.selection_file import load_selection  # noqa: E402
from claus.benchmarks.timing import SHARED, parse, write_results  # noqa: E402
from claus.datasets.labels import annotations as annotation_file  # noqa: E402
from claus.reference import selection as slow  # noqa: E402
from claus.utils.machine import about_machine, in_words  # noqa: E402
from claus.utils.runtime import gc_paused  # noqa: E402

DATA = SHARED / "ucf101_24"
SIZES = "10000,100000,1000000"
FRAMES, DIMS, CLUSTERS, CLASSES = 100, 408, 5, 24
# seconds of processor time: a choice of 50,000 of a million videos; 250,000 answered frames
# that are read, checked and merged, about half a millisecond each
LIMITS = {"choose": 60, "take answers in": 120}
MEMORY = 8  # GiB
MEASURED = """
import resource, sys, time
began = time.perf_counter()
import claus_select
claus_select.main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
status = open("/proc/self/status").read()  # ru_maxrss would count what the process that started this one had
peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
print("measured", time.perf_counter() - began, used.ru_utime + used.ru_stime, peak)
"""
HEAD = (
    "| videos | frames | command | wall s | CPU s | peak GiB | CPU s / N log N, relative |\n"
    + 7 * "| --- "
    + "|\n"
)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        default=SIZES,
        help="numbers of videos (default: %(default)s)",
    )
    args = parse(parser, argv, sizes="500")
    sizes = [int(size) for size in args.sizes.split(",")]
    rows, wrong = [], []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench_select.") as folder:
            make_run(Path(folder) / "run", size)
            rows += time_made_up(Path(folder) / "run", size)
            print(table(rows[-2:]), flush=True)
            wrong += disagreements(Path(folder) / "run", whole=size <= 1000)
    wrong += limits_exceeded(rows)
    rows += time_ucf101() if (DATA / "pyannot.pkl").exists() else []
    text = (
        "# Selection: time and memory\n\n`python benchmarks/bench_select.py`, "
        f"{in_words(about_machine())}; one thread. Each line is one process from "
        "start to end; a slow plain program made the same picks on a sample of each. Where "
        "others use the machine, wall time is theirs, too.\n\n"
    )
    write_results("select", text + table(rows), args.sizes != SIZES or bool(wrong))
    print("\n".join(wrong) or "the slow plain program makes the same picks on the samples")
    return 1 if wrong else 0


# ---------------------------------------------------------------------------- made-up pools


def make_run(run, size):
    """Write cycle0 of a run: annotations with every 20th video labeled, random latents and
    scores.
    """
    generator = np.random.default_rng(size)
    folder = run / "cycle0"
    folder.mkdir(parents=True)
    names = [
        f"Class{i % CLASSES:02d}/v_Class{i % CLASSES:02d}_g{i // CLASSES:06d}_c01"
        for i in range(size)
    ]
    classes = tuple(f"Class{i:02d}" for i in range(CLASSES))
    with gc_paused():
        videos = {name: made_up_video(name, i) for i, name in enumerate(names)}
        annotation_file.save(
            annotation_file.Annotations("UCF-101-24", classes, videos),
            folder / "annotations.pkl",
        )
        del videos
    clusters = generator.integers(0, CLUSTERS, size).astype(np.int32)
    latents, centers = (
        generator.random((count, DIMS), dtype=np.float32) for count in (size, CLUSTERS)
    )
    latents += centers[clusters]
    save_features(
        Features("made-up", names, latents, clusters, centers), folder / "features.pkl"
    )
    del latents
    scores = {name: generator.random(size * FRAMES, dtype=np.float32) for name in FRAME_ARRAYS}
    scores["paper"][scores["paper"] < 0.3] = 0
    save_uncertainty(
        Uncertainty(
            "made-up", {"passes": 10}, names, np.arange(0, size * FRAMES + 1, FRAMES), **scores
        ),
        folder / "uncertainty.pkl",
    )


def made_up_video(name, number):
    if number % 20:
        return annotation_file.Video(name, FRAMES, 240, 320)
    frames = (number // 20 + np.arange(0, FRAMES, FRAMES // 5)) % FRAMES
    tube = annotation_file.Tube(
        number % CLASSES, 1, np.sort(frames), np.tile([10, 20, 110, 220], (5, 1))
    )
    return annotation_file.Video(
        name, FRAMES, 240, 320, number % CLASSES, np.sort(frames), (tube,)
    )


def time_made_up(run, size):
    """Rows of the table: choosing, and taking the form back, filled in with one box in
    every frame.
    """
    rows = [(size, size * FRAMES, "choose", *timed(["--run", f"{run}/", "--cycle", "1"]))]
    form = json.loads((run / "cycle1" / "request.json").read_text())
    for video in form["videos"]:
        video["class"] = video["video"].partition("/")[0]
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [10, 20, 100, 200]}]
    (run / "cycle1" / "request.json").write_text(json.dumps(form))
    answers = [
        "--run",
        f"{run}/",
        "--cycle",
        "1",
        "--answers",
        str(run / "cycle1" / "request.json"),
    ]
    return [*rows, (size, size * FRAMES, "take answers in", *timed(answers))]


def timed(arguments):
    """(wall s, CPU s, peak GiB) of claus_select.py in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"claus_select.py {' '.join(arguments)} failed: {done.stderr[-2000:]}")
    return tuple(map(float, done.stdout.splitlines()[-1].split()[1:]))


# ----------------------------------------------------------------------------- is it right?


def disagreements(run, whole=False, count=150):
    """Texts: where the slow plain program of reference/selection.py would choose
    otherwise.

    Of `count` random candidates (and `count` chosen videos) it works out score and frames;
    a video must have been chosen if and only if its score is among the best of its cluster,
    as many as the cluster's exact share.
    """
    report = load_selection(run / "cycle1" / "selection.json")
    before = annotation_file.load(run / "cycle0" / "annotations.pkl").videos
    features = load_features(run / "cycle0" / "features.pkl")
    scores = load_uncertainty(run / "cycle0" / "uncertainty.pkl").paper.reshape(-1, FRAMES)
    chosen = {row["video"]: row for row in report["videos"]}
    free = np.array([not before[name].is_labeled for name in features.videos])
    quotas = slow.quotas(
        np.bincount(features.clusters[free], minlength=CLUSTERS).tolist(), len(chosen)
    )
    lowest = {}
    for cluster in range(CLUSTERS):
        inside = [row for row in chosen.values() if row["cluster"] == cluster]
        lowest[cluster] = min(row["score"] for row in inside)
    wrong = [
        f"cluster {row['cluster']}: {row['picked']} picked, {quotas[row['cluster']]} due"
        for row in report["clusters"]
        if row["picked"] != quotas[row["cluster"]]
    ]
    generator = np.random.default_rng(0)
    picked = np.array([name in chosen for name in features.videos])
    sample = {
        int(video)
        for group in (free & ~picked, picked)
        for video in generator.permutation(np.flatnonzero(group))[: None if whole else count]
    }
    for video in sorted(sample):
        name, row = features.videos[video], chosen.get(features.videos[video])
        blank = np.flatnonzero(scores[video] == 0).tolist()
        frames = [
            frame
            for frame, _ in slow.greedy(
                scores[video],
                len(row["frames"]) if row else report["frames_per_video"],
                ranked_last=blank,
            )
        ]
        score = scores[video][frames[: report["frames_per_video"]]].mean(dtype=np.float64)
        found = row and [
            frame["frame"] for frame in sorted(row["frames"], key=lambda frame: frame["choice"])
        ]
        if row and (found != frames or abs(score - row["score"]) > 1e-6):
            wrong.append(
                f"{name}: chosen frames {found}, score {row['score']}; slowly {frames}, {score}"
            )
        if not row and score > lowest[int(features.clusters[video])] + 1e-6:
            wrong.append(
                f"{name}: not chosen, though its score {score} is among the best of its cluster"
            )
    return wrong


def limits_exceeded(rows):
    """Texts: what took too long, too much memory, or grew too fast."""
    wrong = []
    for size, _, what, _, seconds, peak in rows:
        if seconds > LIMITS[what] or peak > MEMORY:
            wrong.append(
                f"{size} videos, {what}: {seconds:.0f} CPU s and {peak:.1f} GiB, over "
                f"{LIMITS[what]} s or {MEMORY} GiB"
            )
    choosing = [row for row in rows if row[2] == "choose"]
    for few, many in zip(choosing[:-1], choosing[1:], strict=True):
        # half as much again is allowed for caches; a quadratic step would be ten times too slow
        if many[4] > 1.5 * few[4] * many[0] * log(many[0]) / (few[0] * log(few[0])):
            wrong.append(
                f"from {few[0]} to {many[0]} videos CPU time grows from {few[4]:.1f} to "
                f"{many[4]:.1f} s"
            )
    return wrong


# ---------------------------------------------------------------------------- the real pool


def time_ucf101():
    """Rows for the 2,284 training videos of UCF-101-24: the random start, a later cycle; 5%
    x 5%, simulated answers.
    """
    truth = ["--oracle", str(DATA / "pyannot.pkl"), "--test-list", str(DATA / "testlist01.txt")]
    folder = Path(tempfile.mkdtemp(prefix="bench_select."))
    try:
        command = ["--run", f"{folder}/run", "--files", str(folder), *truth, "--cycle"]
        start = timed([*command, "0"])
        labels = annotation_file.load(folder / "run" / "cycle0" / "annotations.pkl")
        made = extraction(
            {name: video.frames for name, video in labels.videos.items()},
            np.random.default_rng(0),
            n_clusters=CLUSTERS,
            dims=DIMS,
        )
        save_features(made[0], folder / "run" / "cycle0" / "features.pkl")
        save_uncertainty(made[1], folder / "run" / "cycle0" / "uncertainty.pkl")
        later = timed([*command, "1"])
    finally:
        shutil.rmtree(folder)
    size = len(labels.videos), labels.total_frames()
    return [
        (*size, "UCF-101-24, cycle 0: random start", *start),
        (*size, "UCF-101-24, cycle 1: choose", *later),
    ]


def table(rows):
    """The measurements as a Markdown table; the last column is 1 for the largest pool of a
    command.
    """
    largest = {row[2]: row[4] / (row[0] * log(row[0])) for row in rows}
    lines = [
        f"| {size:,} | {frames:,} | {what} | {wall:.1f} | {cpu:.1f} | {peak:.2f} | "
        f"{cpu / (size * log(size)) / largest[what]:.2f} |\n"
        for size, frames, what, wall, cpu, peak in rows
    ]
    return HEAD + "".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
