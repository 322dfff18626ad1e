"""Steps 1-4 in a loop with a simulated annotator, until the cycles, the budget or the
target is reached.

    python run_cycles.py --run my_run --oracle pyannot.pkl --test-list testlist01.txt --cycles 6

    python run_cycles.py --run my_run --dataset jhmdb --oracle Datasets/JHMDB --cycles 10

    python run_cycles.py --run other --start-from my_run --method random --oracle … --schedule 0.25/5,0.5/10,1/20,5/80

Reads   the ground truth (only through the simulated annotator and the final scoring), the
        videos below --data
Writes  files/my_run/cycle0, cycle1, …: what claus_select.py, the training, evaluate.py and
        cluster_extract.py leave files/my_run/results.csv, curve.png: the table printed at
        the end, and its picture
Expect  a cycle to take a training and one scoring pass. Killed at any moment, the same
        command goes on from there.
Flags of the single scripts go through in one string each, e.g. --train "--steps 3000 --lr
2e-4"; a single one needs an equals sign: --train=--strict.

--schedule gives the cycles and their budgets: "A/V,A/V,…" is what is to be labeled in all
after cycle 0, 1, …, in percent of all frames / percent of the videos; a cycle buys its pair
less the one before, rounded down to whole ones. A finished run goes on where its command is
given again with more pairs at the end. --start-from takes cycle 0 from another run of the
same settings (data set, truth, seed, flags of training, extraction and evaluation, first
budget), so that rules are compared from the same labels and weights: its files are linked
into this run, their fingerprints kept in start.json and proved whenever the run goes on.
Rules that look at no score (random, equidistant, inter, intra) do not wait for a scoring
pass after cycle 0. --semi METHOD trains every cycle with train_semi.py, on the labeled
videos and on all others without their labels.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import csv
import functools
import io
import json
import shlex
import sys
import time

from claus.artifacts import handoffs
from claus.artifacts.cycle_row import ACT_COLUMNS, COLUMNS, cycle_row
from claus.artifacts.shared_start import take_start
from claus.datasets import table as which
from claus.flags.selection import INCREMENTS, METHODS, UNSCORED
from claus.selection.budget import read_schedule
from claus.selection.strategies import STRATEGIES
from claus.utils.launch import launch
from claus.utils.runtime import (
    HelpFormatter,
    UserError,
    atomic_write,
    check_alone,
    check_writable,
    run_script,
    whole_number,
    write_text,
)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    which.add_flags(add)
    which.add_truth_flags(add, required=True)
    add("--files", default="files", help="folder of all runs")
    add(
        "--cycles",
        type=int,
        help="stop after so many cycles, the random start counted (default: those of the "
        "schedule, without one 6)",
    )
    add(
        "--schedule",
        metavar="A/V,A/V,…",
        help="cumulative percent of all frames / of the videos after each cycle, "
        "e.g. 0.25/5,0.5/10,1/20",
    )
    add(
        "--method",
        choices=METHODS,
        help="selection rule of cycle 1 and later, see claus_select.py (default: claus)",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        help="hybrid, inter or intra, see claus_select.py (default: hybrid)",
    )
    add(
        "--increment",
        choices=INCREMENTS,
        help="what may be chosen from cycle 1 on, see claus_select.py (default: samples)",
    )
    add(
        "--start-from",
        metavar="RUN",
        help="take cycle 0 (labels, weights, scores) from this other run",
    )
    add("--budget", type=float, help="stop once the ledger's total cost has reached this")
    add(
        "--target",
        type=float,
        help="stop once f-mAP@.5 (capsule protocol, percent) has reached this",
    )
    add(
        "--continue-weights",
        action="store_true",
        help="start each cycle's training from the weights of the one before (default: afresh)",
    )
    add(
        "--semi",
        metavar="METHOD",
        type=lambda text: text.replace("_", "-"),
        help="train on the videos without labels as well: train_semi.py --method METHOD",
    )
    add("--seed", type=whole_number, default=0, help="of every script")
    add("--device", help="cuda, cuda:1, cpu (default: CUDA where there is one)")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="GPUs (or processes) of this machine that share training "
        "and scoring, as torchrun --nproc-per-node N would start them (default: 1)",
    )
    add("--train", default="", metavar="FLAGS", help="more flags for the training script")
    add("--extract", default="", metavar="FLAGS", help="more flags for cluster_extract.py")
    add("--select", default="", metavar="FLAGS", help="more flags for claus_select.py")
    add("--evaluate", default="", metavar="FLAGS", help="more flags for evaluate.py")
    args = parser.parse_args(argv)
    which.check_flags(args, parser, needs_list=True)
    planned = len(read_schedule(args.schedule)) if args.schedule else 6
    args.cycles = planned if args.cycles is None else args.cycles
    if args.processes < 1:
        parser.error(f"--processes must be at least 1, not {args.processes}")
    if args.processes > 1 and args.semi:
        parser.error("--semi trains in one process; leave out --processes")
    if args.cycles < 1:
        parser.error(f"--cycles must be at least 1, not {args.cycles}")
    if args.schedule and args.cycles > planned:
        parser.error(f"--schedule has {planned} pairs, --cycles asks for {args.cycles}")
    return args


def main(argv=None):
    args = parse_args(argv)
    check_alone("run_cycles.py")
    run = check_writable(handoffs.run_dir(args.run, args.files))
    commands = [step_arguments(args, cycle) for cycle in range(args.cycles)]
    check_arguments(commands, args)  # before run.json: a misspelt flag is not what the run has
    rule = script("select").parse_args(commands[-1]["select"])
    for name in ("method", "strategy", "increment", "schedule"):
        if getattr(args, name) not in (None, getattr(rule, name)):
            raise UserError(
                f"--{name} {getattr(args, name)} and --select {args.select!r} differ; "
                f"give it once"
            )
    if args.start_from:
        take_start(
            run,
            handoffs.run_dir(args.start_from, args.files),
            vars(args),
            functools.partial(first_budget, commands[0]["select"]),
            script("select").prices_of(rule),
        )
    check_same_settings(args, run / "run.json")
    rows = []
    for cycle, steps in enumerate(commands):
        rows.append(run_cycle(args, cycle, steps))
        report(rows, run)
        reason = why_stop(args, rule, rows, cycle)
        if reason:
            print(f"stopping: {reason}")
            break
        if cycle == 0 or rule.method not in UNSCORED:
            timed(args, cycle, "extract", steps["extract"])
    print(
        f"worth opening: {run / 'curve.png'}, {run / 'results.csv'}, {run / 'ledger.csv'}, "
        f"{handoffs.cycle_dir(args.run, len(rows) - 1, args.files) / 'clusters.png'}; "
        f"tensorboard --logdir {run}"
    )
    return 0


def script(name, dataset="ucf101", semi=None):
    """The module of a step's script; imported late, for torch takes seconds."""
    import claus_select
    import cluster_extract
    import evaluate
    import train_jhmdb
    import train_semi
    import train_ucf101

    train = train_semi if semi else {"ucf101": train_ucf101, "jhmdb": train_jhmdb}[dataset]
    return {
        "select": claus_select,
        "train": train,
        "evaluate": evaluate,
        "extract": cluster_extract,
    }[name]


def step_arguments(args, cycle):
    """The command line of each step of a cycle."""
    common = [
        "--run",
        args.run,
        "--cycle",
        str(cycle),
        "--files",
        args.files,
        "--data",
        args.data,
    ]
    dataset = ["--dataset", args.dataset]
    listed = ["--test-list", args.test_list] if args.test_list else ["--split", str(args.split)]
    truth = [*dataset, "--oracle", args.oracle, *listed]
    seed = ["--seed", str(args.seed)]
    device = ["--device", args.device] if args.device else []
    chosen = [
        word
        for name in ("schedule", "method", "strategy", "increment")
        if getattr(args, name) is not None
        for word in (f"--{name}", getattr(args, name))
    ]
    before = []
    if args.continue_weights and cycle:
        before = [
            "--pretrained",
            str(handoffs.cycle_dir(args.run, cycle - 1, args.files) / "detector.pt"),
        ]
    semi = [*dataset, "--method", args.semi] if args.semi else []
    return {
        "select": [*common, *truth, *seed, "--take-rest", *chosen, *shlex.split(args.select)],
        "train": [
            *common,
            *semi,
            *seed,
            *device,
            *before,
            "--resume",
            *shlex.split(args.train),
        ],
        "evaluate": [*common, *truth, *device, *shlex.split(args.evaluate)],
        "extract": [*common, *dataset, *seed, *device, *shlex.split(args.extract)],
    }


def check_arguments(commands, args):
    """Parse every step's flags before any work, so that a misspelt one is not found after
    hours.
    """
    for name, arguments in commands[0].items():
        try:
            flags = script(name, args.dataset, args.semi).parse_args(arguments)
        except SystemExit:
            print(
                f"run_cycles.py: the line above is about the flags for --{name}",
                file=sys.stderr,
            )
            raise
        if name == "train" and args.semi and flags.method != args.semi:
            raise UserError(
                f"--semi {args.semi} and --train {args.train!r} differ in the method; "
                f"give it once"
            )
        if name == "evaluate" and flags.protocol == "act":
            raise UserError(
                "--evaluate --protocol act leaves out the capsule protocol, which the "
                "table is made of; "
                "give both"
            )


def first_budget(arguments, annotations_path):
    """(videos, frames) that the random start asks for by this run's flags, of the pool of
    an annotation file.
    """
    from claus.datasets.labels import annotations

    flags = script("select").parse_args([*arguments, "--strategy", "hybrid"])
    asked = script("select").asked_budget(flags, annotations.load(annotations_path))
    return asked.videos, asked.frames


def check_same_settings(args, path):
    """A run that goes on must have the flags it began with, but for where it stops and what
    runs it.

    A schedule may have got more pairs at its end: what has been done is as it would be, and
    run.json says the longer. A run that has chosen nothing yet takes any flags: those
    before were stopped by an error in them.
    """
    free = ("run", "files", "data", "device", "processes", "cycles", "budget", "target")
    settings = {name: value for name, value in vars(args).items() if name not in free}
    longer, begun = False, any(path.parent.glob("cycle*/selection.json"))
    if path.exists() and begun:
        try:
            began = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} cannot be read; remove it, and give the flags this run began with"
            ) from error
        longer = began.get("schedule") and (settings["schedule"] or "").startswith(
            f"{began['schedule']},"
        )
        if longer:
            began["schedule"] = settings["schedule"]
        for name, value in settings.items():
            if began.get(name) != value:
                raise UserError(
                    f"{path} says this run began with --{name.replace('_', '-')} "
                    f"{began.get(name)!r}, now "
                    f"it is {value!r}; give the same flags, or another --run"
                )
    if longer or not begun or not path.exists():
        write_text(path, json.dumps(settings, indent=1) + "\n")


def run_cycle(args, cycle, steps):
    """Select, train and evaluate one cycle -> its row of the table."""
    for name in ("select", "train", "evaluate"):
        timed(args, cycle, name, steps[name])
    return cycle_row(
        handoffs.cycle_dir(args.run, cycle, args.files),
        cycle,
        handoffs.write_ledger(args.run, args.files),
    )


def timed(args, cycle, name, arguments):
    """Run one script, in this process or in --processes others; its seconds are added to
    the cycle's seconds.json.
    """
    path = handoffs.cycle_dir(args.run, cycle, args.files) / "seconds.json"
    began = time.perf_counter()
    print(f"\n== cycle {cycle}: {name}", flush=True)
    step = script(name, args.dataset, args.semi)
    if args.processes > 1 and name in ("train", "extract"):
        launch(step.__file__, arguments, args.processes)
    else:
        step.main(arguments)
    seconds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    seconds[name] = round(seconds.get(name, 0) + time.perf_counter() - began, 2)
    write_text(path, json.dumps(seconds) + "\n")


def why_stop(args, rule, rows, cycle):
    """Why no further cycle follows, or None."""
    from claus.datasets.labels import annotations

    row = rows[-1]
    if cycle == args.cycles - 1:
        return f"{args.cycles} cycles are done"
    if args.budget is not None and float(row["cost"]) >= args.budget:
        return f"the cost {row['cost']} has reached the budget {args.budget:g}"
    if args.target is not None and (row["f-mAP@.5"] or 0) >= args.target:
        return f"f-mAP@.5 {row['f-mAP@.5']} has reached the target {args.target:g}"
    labels = annotations.load(
        handoffs.cycle_dir(args.run, cycle, args.files) / "annotations.pkl"
    )
    if (
        rule.increment == "samples"
        and rule.strategy != "intra"
        and len(labels.labeled()) == len(labels.videos)
    ):
        return "every video of the pool is labeled"
    within = labels.labeled() if rule.increment == "frames" else labels.videos.values()
    if all(len(video.labeled_frames) == video.frames for video in within):
        return "every frame that may be chosen is labeled"
    return None


def report(rows, run):
    """Print the table so far; write results.csv and curve.png."""
    print(
        "\ncapsule protocol (class-agnostic masks; 'aware' also wants the right "
        "class), percent; labels cumulative"
    )
    print_columns(rows, COLUMNS)
    if any(row[ACT_COLUMNS[0]] is not None for row in rows):
        print("\nact protocol (boxes and tubes of the right class, average precision), percent")
        print_columns(rows, ("cycle", "% of frames", *ACT_COLUMNS))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *ACT_COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(run / "results.csv", text.getvalue())
    draw_curve(rows, run / "curve.png")


def print_columns(rows, columns):
    """Print these columns of the rows, aligned to the right."""
    cells = [
        columns,
        *[["-" if row[name] is None else str(row[name]) for name in columns] for row in rows],
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    print(
        "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in cells
        ),
        flush=True,
    )


def draw_curve(rows, path):
    """Scores over the share of labeled frames, with the no-model floor."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    percent = [float(row["% of frames"]) for row in rows]
    for name, style, color in (
        ("v-mAP@.5", "-", "tab:blue"),
        ("f-mAP@.5", "-", "tab:orange"),
        ("v-mAP@.5 aware", "--", "tab:blue"),
        ("f-mAP@.5 aware", "--", "tab:orange"),
        ("floor v@.5", ":", "tab:blue"),
        ("floor f@.5", ":", "tab:orange"),
    ):
        points = [
            (x, row[name])
            for x, row in zip(percent, rows, strict=True)
            if row[name] is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True),
                style,
                color=color,
                marker=None if style == ":" else "o",
                label=name,
            )
    axes.set(
        xlabel="labeled frames, % of all frames of the pool",
        ylabel="percent (capsule protocol)",
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(ncols=3, fontsize="small", loc="upper left", bbox_to_anchor=(0, 1.2))
    FigureCanvasAgg(figure)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


if __name__ == "__main__":
    run_script(main)
