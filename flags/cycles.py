"""Flags of run_cycles.py -> CyclesSettings."""

from dataclasses import dataclass

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


def parse(argv: list[str] | None = None, description: str | None = None) -> CyclesSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = new_parser(description)
    _add_run_flags(parser.add_argument_group("run").add_argument)
    data = parser.add_argument_group("data set and its ground truth").add_argument
    add_dataset_flags(data)
    data("--oracle", required=True, help=truth_words())
    add_split_flags(data)
    _add_rule_flags(parser.add_argument_group("selection").add_argument)
    _add_stop_flags(parser.add_argument_group("when to stop").add_argument)
    _add_training_flags(parser.add_argument_group("training").add_argument)
    _add_hardware_flags(parser.add_argument_group("hardware").add_argument)
    _add_script_flags(parser.add_argument_group("flags passed on to single steps").add_argument)
    args = parser.parse_args(argv)
    check_dataset(args, parser, needs_list=True)
    check_script_flags(args, parser)
    limits = [name for name in ("budget", "target") if getattr(args, name) is not None]
    check_not_negative(args, parser, limits)
    with one_line(ValueError):
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
    return CyclesSettings(**vars(args))


def _add_run_flags(add):
    add_run_flags(add, cycle=False)
    add(
        "--start-from",
        metavar="RUN",
        help="take cycle 0 (labels, weights, scores) from this other run",
    )
    add("--seed", type=whole_number, default=0, help="of every script")


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


def _add_stop_flags(add):
    add(
        "--cycles",
        type=int,
        help="stop after this many cycles, counting the random start (default: those of the "
        "schedule, without one 6)",
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
