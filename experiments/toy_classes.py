"""What the demo's class scores come from: the class head, its rates, and how the labels are
spread over videos, on toy videos.

    python experiments/toy_classes.py --data files/toy_classes --seeds 0 1 2

Each seed has toy videos of its own, and random labels: its arms differ in nothing but what
their names say, and are compared in pairs.

Writes  below --data: the videos, and a run for each arm and seed, whose evaluation.json is
        kept, so that the work is resumable
        experiments/results/toy_classes.md (--output): the table
Expect  a minute an arm and seed on one idle core
"""

import argparse
import itertools
import json
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
from claus.artifacts.cycle import Cycle  # noqa: E402
from claus.datasets import toy  # noqa: E402
from claus.experiments.report.statistics import mean_of, paired_difference  # noqa: E402
from claus.flags import evaluation, selection, training  # noqa: E402
from claus.steps import evaluate, select, train  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402
from claus.utils.runtime import run_script, write_text  # noqa: E402

RESULTS = ROOT / "experiments" / "results" / "toy_classes.md"
FIRST_SEED = 200  # of the toy videos; what was tried out before had others
TRAIN, TEST = 80, 90  # videos
LENGTH = "--model small --steps 300 --epochs 6"
# what `make demo` trains with beside LENGTH
DEMO = "--class-head linear --label-place any --lr 2e-3 --encoder-lr 2e-5"
# videos, frames: what the demo labeled before, and what it labels
FEW, MORE = (18, 66), (60, 126)
# name -> (labels, flags of the training)
ARMS = {
    "published head": (FEW, ""),
    "demo": (FEW, DEMO),
    "published head, more": (MORE, ""),
    "demo, more": (MORE, DEMO),
}
PAIRS = [("demo" + end, "published head" + end) for end in ("", ", more")]
PAIRS.append(("demo, more", "published head"))  # the demo after and before
SCORES = ("f_map", "v_map", "f_map_class_aware", "v_map_class_aware", "accuracy")
HEAD = ["f-mAP@.5", "v-mAP@.5", "class-aware", "v class-aware", "accuracy"]


def main(argv=None):
    args = parse(argv)
    found = {name: {} for name in ARMS}
    for seed, name in itertools.product(args.seeds, args.arms):
        found[name][seed] = run(args, name, seed)
        print(name, seed, found[name][seed], flush=True)
    write_text(args.output, page(args, found))
    print(f"wrote {args.output}")
    return 0


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of videos and runs")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    add("--output", type=Path, default=RESULTS)
    return parser.parse_args(argv)


# -------------------------------------------------------------------------------- the runs


def run(args, name, seed):
    """Label, train and test -> {score: percent}."""
    videos = toy.make(args.data / f"toy{seed}", FIRST_SEED + seed, TRAIN, TEST)
    cycle = Cycle.of(folder_of(name, seed), 0, args.data)
    if not cycle.evaluation.exists():
        labels, trained, tested = commands(name, seed, videos, args.data)
        select.run(selection.parse(labels))
        train.run(training.parse([*trained, "--force"]))
        evaluate.run(evaluation.parse(tested))
    return scores_of(json.loads(cycle.evaluation.read_text()))


def folder_of(name, seed):
    return f"{name}_{seed}".replace(", ", "_").replace(" ", "_")


def scores_of(evaluated):
    """The SCORES of an evaluation.json, percent."""
    capsule = evaluated["capsule"]
    half = capsule["thresholds"].index(0.5)
    values = {}
    for name in SCORES:
        value = capsule[name]
        values[name] = round(100 * (value[half] if isinstance(value, list) else value), 1)
    return values


def commands(name, seed, videos, files):
    """The flags of claus_select.py, train_ucf101.py and evaluate.py for an arm and a seed."""
    (count, frames), more = ARMS[name]
    test_list = str(videos / "testlist01.txt")
    truth = str(videos / "pyannot.pkl")
    common = ["--run", folder_of(name, seed), "--cycle", "0", "--files", str(files)]
    common += ["--data", str(videos)]
    computed = ["--device", "cpu", "--workers", "0"]
    labels = ["--oracle", truth, "--test-list", test_list, "--seed", str(seed)]
    labels += ["--videos-count", str(count), "--frames-count", str(frames)]
    trained = [*computed, "--seed", str(seed), *shlex.split(f"{LENGTH} {more}")]
    tested = [*computed, "--ground-truth", truth, "--test-list", test_list]
    return [[*common, *flags] for flags in (labels, trained, tested)]


# ------------------------------------------------------------------------------- the table


def page(args, found):
    """The results as Markdown."""
    rows, gains = [], []
    for name in args.arms:
        videos, frames = ARMS[name][0]
        rows.append([name, videos, frames, *(mean_cell(found[name], s) for s in SCORES)])
    for one, other in PAIRS:
        if one in args.arms and other in args.arms:
            cells = [difference_cell(found[one], found[other], score) for score in SCORES]
            gains.append([f"{one} - {other}", *cells])
    seeds = " ".join(map(str, args.seeds))
    if args.arms != list(ARMS):
        seeds += f" --arms {shlex.join(args.arms)}"
    return "\n".join(
        [
            "# The class on the toy videos",
            "",
            f"`python experiments/toy_classes.py --data files/toy_classes --seeds {seeds}`. "
            f"{machine_line()}.",
            "",
            f"`capsule` protocol, percent, mean ± standard deviation over {len(args.seeds)} "
            f"seeds; {TEST} test videos of each seed's own, chance 16.7. Labels are random; "
            f"every training has `{LENGTH}`, *demo* beside it `{DEMO}`. The settings were "
            "chosen on toy videos of another seed.",
            "",
            table(["", "videos", "frames", *HEAD], rows),
            "",
            "Differences, paired by seed, with the 95% interval of the mean (Student's t):",
            "",
            table(["", *HEAD], gains),
            "",
        ]
    )


def mean_cell(values, score):
    mean = mean_of([numbers[score] for numbers in values.values()])
    return f"{mean.mean:.1f} ± {mean.std:.1f}"


def difference_cell(values, others, score):
    mine, theirs = (
        {seed: numbers[score] for seed, numbers in each.items()} for each in (values, others)
    )
    gain = paired_difference(mine, theirs)
    low, high = gain.mean - gain.half, gain.mean + gain.half
    return f"{gain.mean:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    run_script(main)
