"""Flags of run_cycles.py -> CyclesSettings with --oracle, PeopleSettings without."""

import argparse
import os
import shlex
from dataclasses import dataclass, fields

from claus.artifacts.cycle import Run
from claus.artifacts.run_settings import load_settings
from claus.flags.common import (
    add_dataset_flags,
    add_run_flags,
    add_split_flags,
    check_dataset,
    check_not_negative,
    check_script_flags,
    new_parser,
    truth_words,
    whole_number,
)
from claus.flags.selection import METHODS
from claus.selection.budget import read_schedule
from claus.selection.pool import INCREMENTS
from claus.selection.strategies import STRATEGIES
from claus.utils.runtime import one_line


@dataclass(frozen=True)
class CyclesSettings:
    """What steps.cycles does. train, extract, select, evaluate: more flags for each script,
    one string each. None: as the script has it.
    """

    run: str
    dataset: str
    data: str
    oracle: str
    test_list: str | None
    split: int | None
    files: str
    cycles: int
    schedule: str | None
    method: str | None
    strategy: str | None
    increment: str | None
    start_from: str | None
    budget: float | None
    target: float | None
    continue_weights: bool
    semi: str | None
    seed: int
    device: str | None
    processes: int
    train: str
    extract: str
    select: str
    evaluate: str


@dataclass(frozen=True)
class PeopleSettings:
    """What steps.cycles_people does: the fields of CyclesSettings that mean something there,
    and those of one's own videos. All but FORGOTTEN are remembered in run.json.

    data: folder, absolute, as all paths are · classes, any_folder, segment, segments, masks:
    how the pool is made, and add_videos, add_classes, withdraw: how it grows, see
    claus_select.py · videos, frames: of a cycle · random_share:
    "1/3" · answers: files to take in, () for what lies in the cycle's folder · enough: go on
    with what is answered · test_labels, test_data: what evaluate.py scores on.
    """

    run: str
    files: str
    dataset: str
    data: str | None
    classes: str | None
    any_folder: bool
    segment: str | None
    segments: str | None
    masks: bool
    add_videos: bool
    add_classes: str | None
    withdraw: tuple[str, ...]
    test_list: str | None
    answers: tuple[str, ...]
    enough: bool
    test_labels: str | None
    test_data: str | None
    model: str
    videos: str | None
    frames: str | None
    schedule: str | None
    method: str | None
    strategy: str | None
    increment: str | None
    random_share: str | None
    cycles: int | None
    budget: float | None
    target: float | None
    continue_weights: bool
    semi: str | None
    seed: int
    device: str | None
    processes: int
    train: str
    extract: str
    select: str
    evaluate: str


# of runs that people label, where they differ from those of a simulation
PEOPLE = {"method": "claus-entropy", "model": "laptop"}
GROWTH = ("add_videos", "add_classes", "withdraw")
FORGOTTEN = ("run", "files", "answers", "enough", "device", "processes", *GROWTH)
PATHS = ("data", "segments", "test_list", "test_labels", "test_data")
# flags that mean something only with --oracle, or only without
ORACLE_ONLY = ("oracle", "split", "start_from")
UNSET = object()


def parse(
    argv: list[str] | None = None, description: str | None = None
) -> CyclesSettings | PeopleSettings:
    """Command line -> settings; description: what --help begins with.

    Without --oracle, flags that are not given are those of the calls before (run.json).
    """
    parser = _parser(description)
    names = {action.dest for action in parser._actions} - {"help"}
    given = vars(parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(names, UNSET))))
    given = {name: value for name, value in given.items() if value is not UNSET}
    known = {}
    if "oracle" not in given:
        known = _remembered(given["run"], given.get("files") or parser.get_default("files"))
    if "oracle" in given:
        return _with_oracle(given, parser)
    if known.get("oracle"):
        parser.error(
            f"run {given['run']} was begun with --oracle {shlex.quote(known['oracle'])}: give "
            "the same command again, or another --run"
        )
    return _without(known, given, parser)


def _remembered(run: str, files: str) -> dict:
    """What run.json says, by name; {} where there is none."""
    place = Run.of(run, files)
    return load_settings(place) if place.settings.exists() else {}


def _parser(description):
    parser = new_parser(description)
    _add_run_flags(parser.add_argument_group("run").add_argument)
    data = parser.add_argument_group("data set and its ground truth").add_argument
    add_dataset_flags(data)
    data(
        "--oracle",
        help=f"simulate the annotator with the {truth_words()}. Without it people label",
    )
    add_split_flags(data)
    _add_people_flags(parser.add_argument_group("people label (without --oracle)"))
    _add_rule_flags(parser.add_argument_group("selection").add_argument)
    _add_stop_flags(parser.add_argument_group("when to stop").add_argument)
    _add_training_flags(parser.add_argument_group("training").add_argument)
    _add_hardware_flags(parser.add_argument_group("hardware").add_argument)
    _add_script_flags(parser.add_argument_group("flags passed on to single steps").add_argument)
    return parser


def _with_oracle(values, parser) -> CyclesSettings:
    """The settings of a simulation."""
    people = {field.name for field in fields(PeopleSettings)}
    own = {field.name for field in fields(CyclesSettings)}
    for name in sorted(people - own):
        if name in values:
            parser.error(f"{_flag(name)} has no effect with --oracle")
    defaults = {name: parser.get_default(name) for name in own}
    args = argparse.Namespace(**{**defaults, **{n: v for n, v in values.items() if n in own}})
    check_dataset(args, parser, needs_list=True)
    _check(args, parser)
    planned = _planned(args)
    args.cycles = (planned or 6) if args.cycles is None else args.cycles
    if args.cycles < 1:
        parser.error(f"--cycles must be at least 1, not {args.cycles}")
    if planned and args.cycles > planned:
        parser.error(f"--schedule has {planned} pairs, --cycles asks for {args.cycles}")
    return CyclesSettings(**vars(args))


def _without(known, given, parser) -> PeopleSettings:
    """The settings of a run that people label."""
    for name in ORACLE_ONLY:
        if name in given:
            parser.error(f"{_flag(name)} has no effect without --oracle")
    own = {field.name for field in fields(PeopleSettings)}
    defaults = {name: parser.get_default(name) for name in own} | PEOPLE
    known = {name: value for name, value in known.items() if name in own - {*FORGOTTEN}}
    for name in PATHS:
        if given.get(name):
            given[name] = os.path.abspath(given[name])
    if given.get("classes") and os.path.exists(given["classes"]):
        given["classes"] = os.path.abspath(given["classes"])
    args = argparse.Namespace(**{**defaults, **known, **given})
    args.answers, args.withdraw = tuple(args.answers or ()), tuple(args.withdraw or ())
    if args.test_data and not args.test_labels:
        parser.error("--test-data has no effect without --test-labels")
    if args.cycles is not None and args.cycles < 1:
        parser.error(f"--cycles must be at least 1, not {args.cycles}")
    _check(args, parser)
    _planned(args)
    return PeopleSettings(**vars(args))


def _flag(name):
    return f"--{name.replace('_', '-')}"


def _check(args, parser):
    """Stop at numbers and strings that make no sense with or without --oracle."""
    check_script_flags(args, parser)
    limits = [name for name in ("budget", "target") if getattr(args, name) is not None]
    check_not_negative(args, parser, limits)
    if args.processes < 1:
        parser.error(f"--processes must be at least 1, not {args.processes}")
    if args.processes > 1 and args.semi:
        parser.error("--semi trains in one process; leave out --processes")


def _planned(args):
    """Number of pairs of the schedule, None without one."""
    with one_line(ValueError):
        return len(read_schedule(args.schedule)) if args.schedule else None


def command(run: str, files: str, script: str = "run_cycles.py", *more: str) -> str:
    """The command line that goes on with a run, quoted for a shell."""
    where = [] if files == "files" else ["--files", files]
    return shlex.join(["python", script, "--run", run, *where, *more])


def _add_run_flags(add):
    add_run_flags(add, cycle=False)
    add(
        "--start-from",
        metavar="RUN",
        help="take cycle 0 (labels, weights, scores) from this other run",
    )
    add("--seed", type=whole_number, default=0, help="of every script")


def _add_people_flags(group):
    add = group.add_argument
    add(
        "--classes",
        help="with the first call: class names, comma-separated or a file of one a line",
    )
    add(
        "--any-folder",
        action="store_true",
        help="with the first call: folders are not classes; take the videos of every folder",
    )
    cut = group.add_mutually_exclusive_group()
    cut.add_argument(
        "--segment", metavar="10s|300", help="with the first call, see claus_select.py"
    )
    cut.add_argument(
        "--segments", metavar="LIST", help="with the first call, see claus_select.py"
    )
    add("--masks", action="store_true", help="with the first call: mark actors with masks")
    for flag, more in (
        ("--add-videos", {"action": "store_true"}),
        ("--add-classes", {"metavar": "A,B"}),
        ("--withdraw", {"metavar": "VIDEO", "nargs": "+"}),
    ):
        add(flag, help="see claus_select.py; for the cycle that comes next", **more)
    add("--videos", metavar="V%|N", help="videos of a cycle (default: 5%%)")
    add("--frames", metavar="A%|N", help="frames of a cycle, see claus_select.py")
    add(
        "--random-share",
        metavar="1/3",
        help="spend this share of each cycle's budget at random: the detector's score on it, "
        "before it is trained on, says how good it is on the pool, and beside the chosen "
        "frames what the choice finds",
    )
    add("--model", help="network, see train_ucf101.py (default: laptop, which needs no GPU)")
    add(
        "--answers",
        nargs="+",
        metavar="FILE",
        help="take in these (default: the form and the page's journals in the cycle's folder)",
    )
    add(
        "--enough",
        action="store_true",
        help="go on with the frames that are answered, and leave the others out",
    )
    add("--test-labels", metavar="FILE", help="annotations.pkl of test videos: score on them")
    add("--test-data", metavar="FOLDER", help="where those videos lie (default: --data)")


def _add_rule_flags(add):
    add(
        "--schedule",
        metavar="A/V,A/V,…",
        help="cumulative percent of all frames / of the videos after each cycle, "
        "e.g. 0.25/5,0.5/10,1/20",
    )
    add(
        "--method",
        choices=METHODS,
        help="selection rule of cycle 1 and later, see claus_select.py (default: claus; "
        "people: claus-entropy)",
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


def _add_stop_flags(add):
    add(
        "--cycles",
        type=int,
        help="stop after this many cycles, counting the random start (default: those of the "
        "schedule, without one 6; people: none)",
    )
    add(
        "--budget",
        type=float,
        help="the ledger's total cost is never above this: a cycle that would exceed it is "
        "lowered to what is left, and the run stops where that buys nothing (boxes that "
        "have a price count from the cycle after)",
    )
    add(
        "--target",
        type=float,
        help="stop once f-mAP@.5 (capsule protocol, percent) has reached this",
    )


def _add_training_flags(add):
    add(
        "--continue-weights",
        action="store_true",
        help="start each cycle's training from the weights of the one before (default: from "
        "the pretrained ones)",
    )
    add(
        "--semi",
        metavar="METHOD",
        type=lambda text: text.replace("_", "-"),
        help="train on the videos without labels as well: train_semi.py --method METHOD",
    )


def _add_hardware_flags(add):
    add("--device", help="cuda, cuda:1, cpu (default: CUDA where there is one)")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="GPUs (or processes) of this machine that share training and scoring, as "
        "torchrun --nproc-per-node N would start them (default: 1)",
    )


def _add_script_flags(add):
    add("--train", default="", metavar="FLAGS", help="more flags for the training script")
    add("--extract", default="", metavar="FLAGS", help="more flags for cluster_extract.py")
    add("--select", default="", metavar="FLAGS", help="more flags for claus_select.py")
    add("--evaluate", default="", metavar="FLAGS", help="more flags for evaluate.py")
