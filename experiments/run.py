"""The paper's experiments, one command each: a grid of runs, several at once, and one tidy
table.

    python experiments/run.py --list
    python experiments/run.py table2 --data data/toy --oracle data/toy/pyannot.pkl \\
        --test-list data/toy/testlist01.txt \\
        --model small --seeds 0,1,2 --jobs 2 --device cpu
    python experiments/run.py table2 fig6 … --dry-run     # what would run, for how long

Reads   the videos below --data, the ground truth (only for the simulated annotator and the
        final scoring)
Writes  <--files>/<cell>/   each cell a run of run_cycles.py in its own folder, with
                            cell.json and log.txt
        <--csv>             a row per cell and cycle: rule, loss, seed, labels, cost, every
                            metric, seconds
        <--csv>_seeds.md    how many seeds of each variant are in, beside the table
Expect  all cells of a seed to share the first cycle: the same random labels, the same
        weights (trained once for each training loss, K, weight of the cluster loss and
        semi-supervised method), then the same number of optimizer steps in every cycle.
        Stopped at any moment (even by kill -9), the same command continues with what
        is not finished. A cell that fails is named, and the others continue. A folder is
        named after everything its result depends on: other flags make other folders, and
        cells that two experiments have in common run once. To run a cell again, remove its
        folder. With more pairs at the end of --schedule, finished cells are extended.
        The order is that of the names, in each seed by seed, so that a stop in the middle
        leaves the same seeds of every variant. report.py makes a page of the table,
        experiments/answers.py tests and figures of spread, step, curve, fig6 and table2.
"""

import argparse
import itertools
import shlex
import sys
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from claus.experiments import commands, progress, table  # noqa: E402
from claus.experiments.grids import (  # noqa: E402
    ABOUT,
    CURVE,
    PAPER_STEP,
    SHORT,
    STEP,
    TABLE1,
    cells_of,
)
from claus.experiments.runner import (  # noqa: E402
    Setup,
    estimate,
    run_tasks,
    tasks_of,
    with_device,
)
from claus.flags.common import (  # noqa: E402
    add_dataset_flags,
    add_split_flags,
    check_dataset,
    check_script_flags,
    truth_words,
    whole_number,
)
from claus.utils.runtime import UserError, check_writable, run_script  # noqa: E402

# optimizer steps of every training, whatever the number of labels
STEPS = {"full": 4000, "laptop": 400, "small": 300}
EPOCHS = {"full": 40, "laptop": 4, "small": 6}
VARIED = {
    "select": (
        "--method",
        "--start-frames",
        "--videos",
        "--frames",
        "--video-rule",
        "--frame-rule",
        "--strategy",
        "--increment",
        "--schedule",
    ),  # what cells and table say themselves
    "train": ("--pseudo-label-loss", "--model", "--steps", "--epochs", "--seed"),
    "extract": ("--seed",),
}
INSTEAD = {
    "--schedule": ", and give --schedule to experiments/run.py itself",
    "--model": ", and give it to experiments/run.py",
    "--steps": ", and give it to experiments/run.py",
    "--epochs": ", and give it to experiments/run.py",
    "--seed": ", and give --seeds to experiments/run.py itself",
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=f"experiments: {', '.join(ABOUT)}")
    add("--list", action="store_true", help="say what each experiment is, and stop")
    add(
        "--dry-run",
        action="store_true",
        help="print the cells, their commands and how long they would take, and stop",
    )
    add_dataset_flags(add)
    add("--oracle", help=truth_words())
    add_split_flags(add)
    add(
        "--data-name",
        help="what the table calls the data set (default: the name of the folder --data)",
    )
    add(
        "--seeds",
        help="such as 0,1,2 or 100-119, of every variant (default: the experiment's own: 0, 1 "
        "and 2; of spread 5, of step 20 of claus and random and 5 of the others)",
    )
    add(
        "--schedule",
        help="cumulative percent of frames / percent of videos of each cycle, such as "
        "\"0.25/5,1/20\" (default: the experiment's; a report of several experiments needs "
        "the same for all)",
    )
    add(
        "--values",
        help="of K or R, factors of lambda, or videos x frames of spread (22x3), "
        "comma-separated (default: the experiment's)",
    )
    add(
        "--only",
        help="only these variants, comma-separated; * stands for anything: "
        "claus,random or K=1*",
    )
    add(
        "--model",
        choices=tuple(STEPS),
        help="small: for CPU runs on toy data (default: laptop where there is one, else full)",
    )
    add(
        "--steps",
        type=int,
        help="optimizer steps of every training (default: full 4000, laptop 400, small 300)",
    )
    add(
        "--epochs",
        type=int,
        help="equal parts of these steps, each with a validation (default: full 40, laptop "
        "4, small 6)",
    )
    add(
        "--jobs",
        "--processes",
        type=int,
        default=1,
        help="cells at once, each a process; on a CPU they share the cores "
        "(default: %(default)s)",
    )
    add(
        "--threads",
        type=int,
        help="of each of these processes (default: OMP_NUM_THREADS, else the cores shared out)",
    )
    add(
        "--device",
        default="",
        help="cpu, cuda, or several, comma-separated, taken in turn (default: CUDA where there "
        "is one)",
    )
    add(
        "--files",
        default="files/experiments",
        help="folder of all cells (default: %(default)s)",
    )
    add("--csv", help="the table (default: results.csv below --files)")
    for step, script in (
        ("train", "the training script"),
        ("select", "claus_select.py"),
        ("extract", "cluster_extract.py"),
        ("evaluate", "evaluate.py"),
    ):
        add(f"--{step}", default="", metavar="FLAGS", help=f"more flags for {script}")
    args = parser.parse_intermixed_args(argv)  # names may stand among the flags
    if args.list:
        return args
    if not args.names:
        parser.error(f"name an experiment: {', '.join(ABOUT)} (--list says what they are)")
    if unknown := [name for name in args.names if name not in ABOUT]:
        parser.error(f"{unknown[0]} is not an experiment; choose from {', '.join(ABOUT)}")
    if not args.oracle:
        parser.error(
            "--oracle is needed: the ground truth, for the simulated annotator and the "
            "final scoring"
        )
    check_dataset(args, parser, needs_list=True)
    return with_defaults(args, parser)


def with_defaults(args, parser):
    """Fill what was not given, and refuse what makes no sense."""
    args.model = args.model or usual_model()
    args.steps = args.steps or STEPS[args.model]
    args.epochs = args.epochs or min(EPOCHS[args.model], args.steps)
    args.csv = args.csv or str(Path(args.files) / "results.csv")
    args.data_name = args.data_name or Path(args.data).resolve().name
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {args.jobs}")
    if args.threads is not None and args.threads < 1:
        parser.error(f"--threads must be at least 1, not {args.threads}")
    try:
        args.seeds = read_seeds(args.seeds) if args.seeds else None
    except (ValueError, argparse.ArgumentTypeError):
        parser.error(f"--seeds must be like 0,1,2 or 100-119, not {args.seeds}")
    if args.values and not {"k", "r", "lambda", "spread"} & set(args.names):
        parser.error(f"--values is for k, r, lambda and spread; not for {args.names[0]}")
    if args.schedule and "spread" in args.names:
        parser.error("--schedule has no effect on spread, which labels once; give --values")
    args.values = args.values.split(",") if args.values else None
    check_script_flags(args, parser)
    check_varied(args, parser)
    return args


def usual_model():
    """The network for a person without a GPU, where this version has one."""
    from claus.models import BACKBONES  # here: torch takes seconds

    return "laptop" if "laptop" in BACKBONES else "full"


def read_seeds(text):
    """Seeds of "0,1,2" or "100-119"; ValueError or ArgumentTypeError for other words."""
    seeds = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        first, last = whole_number(first), whole_number(last or first)
        if last < first:
            raise ValueError(part)
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


def check_varied(args, parser):
    """Refuse flags of a step that say once for all cells what tells the cells apart: the
    table would name the wrong.
    """
    for step, varied in VARIED.items():
        flags = argparse.ArgumentParser(add_help=False, exit_on_error=False)
        for name in varied:
            flags.add_argument(name, nargs="?", const="")
        try:
            given = vars(flags.parse_known_args(shlex.split(getattr(args, step)))[0])
        except argparse.ArgumentError as error:
            parser.error(f"--{step}: {error}")
        for name in varied:
            if given[name[2:].replace("-", "_")] is not None:
                parser.error(
                    f"--{step} \"{name} …\" would be that of every cell, whatever the table "
                    f"says of it; leave it out{INSTEAD.get(name, '')}"
                )


def main(argv=None):
    args = parse_args(argv)
    if args.list:
        print_list()
        return 0
    setup = setup_of(args)
    devices = args.device.split(",")
    cells = wanted_cells(args)
    tasks, task_of = tasks_of(cells, setup)
    cells, elsewhere = left_to_run(cells, task_of, args.csv)
    tasks, task_of = tasks_of(cells, setup)
    if not all(task.finished for task in tasks):
        check_data(setup)
        check_commands(tasks, devices)
    if args.dry_run:
        print_plan(tasks, devices, args.jobs)
        return 0
    for folder in (args.files, Path(args.csv).parent):
        check_writable(folder, clear=False)  # another experiments/run.py may be writing there
    print(
        f"{len(cells)} cells, {len(tasks)} runs with their starts, "
        f"{sum(task.finished for task in tasks)} finished; {remaining(tasks, args.jobs)}; "
        f"{elsewhere} more have their rows in the table: {args.csv}",
        flush=True,
    )

    def keep(task):
        of_task = [cell for cell in cells if task_of[cell] is task]
        write_rows(args.csv, of_task, task_of, setup)
        progress.write(args.csv, wanted_cells(args))

    for task in tasks:
        if task.finished:
            keep(task)
    failed = run_tasks(tasks, args.jobs, devices, keep, args.threads)
    if "r" in args.names:
        compare_passes(args.csv, cells, task_of, setup)
    for folder, reason in failed.items():
        print(f"failed: {folder}: {reason}", file=sys.stderr)
    following = "no table yet"
    if Path(args.csv).exists():
        following = f"table: {args.csv}; next: python report.py {shlex.quote(str(args.csv))}"
    print(f"{len(tasks) - len(failed)} of {len(tasks)} runs are finished; {following}")
    return 1 if failed else 0


def setup_of(args):
    """What all cells have in common, of parsed flags."""
    return Setup(**{field.name: getattr(args, field.name) for field in fields(Setup)})


def wanted_cells(args):
    """The cells of the experiments named, those that --only leaves."""
    cells = []
    for name in args.names:
        cells += cells_of(
            name, args.seeds, args.dataset, args.model, args.schedule, args.values
        )
    if not args.only:
        return cells
    wanted = args.only.split(",")
    left = []
    for cell in cells:
        if any(fnmatchcase(cell.variant, name) for name in wanted):
            left.append(cell)
    if not left:
        raise UserError(f"--only {args.only} leaves no cell; --dry-run without it names them")
    return left


def left_to_run(cells, task_of, csv):
    """(cells, number left out): without those whose rows are in the table, and whose folder
    is not here: they were run elsewhere, or their folder was deleted. They are known by the
    name of their folder, which says everything that their result depends on.
    """
    named = {Path(row["run"]).name for row in table.read(csv)}  # first of all: is it ours?
    left = []
    for cell in cells:
        task = task_of[cell]
        if task.finished or task.folder.name not in named:
            left.append(cell)
    return left, len(cells) - len(left)


def check_data(setup):
    """UserError where the videos or the ground truth are not where the flags say."""
    one_file = setup.dataset == "ucf101"
    for flag, path, is_file, what in (
        ("--data", setup.data, False, "the videos"),
        ("--oracle", setup.oracle, one_file, "the ground truth of all videos"),
        ("--test-list", setup.test_list, True, "the names of the test videos"),
    ):
        there = not path or (Path(path).is_file() if is_file else Path(path).is_dir())
        if not there:
            kind = "file" if is_file else "folder"
            raise UserError(f"there is no {kind} {path}; give {flag}, the {kind} with {what}")


def check_commands(tasks, devices):
    """Parse the commands of what is not finished as the scripts will."""
    unfinished = [task for task in tasks if not task.finished]
    for task in unfinished:
        for command, device in itertools.product(task.commands, devices):
            script, *words = with_device(command, device)[1:]
            try:
                commands.check(script, words)
            except UserError as error:
                used = [f"{cell.experiment}: {cell.variant}" for cell in task.cells]
                raise UserError(
                    f"{task.folder.name} ({', '.join(used) or 'its first cycle'}) cannot "
                    f"run: {error}; correct --train, --select, --extract, --evaluate or "
                    "--device"
                ) from None


def write_rows(csv, cells, task_of, setup):
    """The rows of finished cells into the table; those that compare passes wait for all of
    them.
    """
    written = [cell for cell in cells if cell.kind != "passes"]
    rows = []
    for cell in written:
        rows += table.rows_of(cell, task_of[cell], setup)
    if rows:
        continued = {task_of[cell].record().get("goes_on_from") for cell in written}
        table.merge(csv, rows, continued)


def compare_passes(csv, cells, task_of, setup):
    """Experiment r: the choice with each number of passes against that with the most."""
    rows = []
    for cell in cells:
        if cell.kind == "passes" and task_of[cell].finished:
            rows += table.rows_of(cell, task_of[cell], setup)
    table.merge(csv, table.with_agreement(rows))


def print_list():
    for name, about in ABOUT.items():
        print(f"{name:8}{about}")
    print(
        "\nschedules (cumulative percent of frames / percent of videos), --schedule "
        "replaces them:"
    )
    for dataset in SHORT:
        print(
            f"  {dataset}: {SHORT[dataset]}; table1: {TABLE1[dataset]}; fig7: the same "
            f"without the last; step: {STEP}; curve: {CURVE[dataset]}"
        )
    print(f"  jhmdb: table2 {PAPER_STEP}; fig6 {STEP}")


def print_plan(tasks, devices, jobs):
    """What would run: a line for each folder, its commands below it."""
    for task in tasks:
        used = (
            ", ".join(f"{cell.experiment}: {cell.variant}" for cell in task.cells)
            or "shared first cycle"
        )
        print(
            f"{'finished' if task.finished else 'to run  '}  {task.folder}  ({used}; seed "
            f"{task.settings['seed']})"
        )
        if not task.finished:
            print(
                "".join(
                    f"    {shlex.join(with_device(command, devices[0]))}\n"
                    for command in task.commands
                ),
                end="",
            )
    if len(devices) > 1:
        print(f"the runs take {', '.join(devices)} in turn, not {devices[0]} alone")
    print(
        f"{sum(task.finished for task in tasks)} of {len(tasks)} runs are finished; "
        f"{remaining(tasks, jobs)}"
    )


def remaining(tasks, jobs):
    """How long the rest will take, in words."""
    if all(task.finished for task in tasks):
        return "nothing is left to run"
    seconds, known = estimate(tasks, jobs)
    if seconds is None:
        return "no estimate of the time before a cell has been run"
    length = f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"
    return f"about {length} left with {jobs} at once, by {known} finished runs"


if __name__ == "__main__":
    run_script(main)
