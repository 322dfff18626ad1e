"""Flags of cluster_extract.py -> ScoringSettings."""

import argparse
import re
from dataclasses import dataclass

import torch

from claus.datasets import table
from claus.engine import device_name
from claus.selection.uncertainty import THRESHOLD
from claus.utils.runtime import HelpFormatter, whole_number


@dataclass(frozen=True)
class ScoringSettings:
    """What steps.extract does: which cycle, how frames are scored, and on what."""

    run: str
    cycle: int
    files: str
    dataset: str
    data: str
    passes: int
    threshold: float
    phases: int
    tail: str
    seed: int
    amp: bool
    compile: bool
    shard: tuple[int, int]  # (part, parts), the first part is 0
    strict: bool
    force: bool
    device: str
    workers: int | None


def parse(argv: list[str] | None = None, description: str | None = None) -> ScoringSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    add_place_flags(parser, strict="stop at the first video that cannot be read")
    add_data_flags(parser)
    add_score_flags(parser)
    add_hardware_flags(parser)
    add_resume_flags(parser)
    args = parser.parse_args(argv)
    table.check_flags(args, parser)
    if args.passes < 1:
        parser.error(f"--passes must be at least 1, not {args.passes}")
    if not 0 < args.threshold < 1:
        parser.error(f"--threshold must lie between 0 and 1, not {args.threshold}")
    return ScoringSettings(**vars(args))


def add_place_flags(parser, strict):
    """Where the run lies; `strict` says what --strict does."""
    add = parser.add_argument_group("run").add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    add("--strict", action="store_true", help=strict)


def add_data_flags(parser):
    """Which videos."""
    table.add_flags(parser.add_argument_group("data set").add_argument)


def add_hardware_flags(parser):
    """What computes."""
    group = parser.add_argument_group("hardware")
    group.add_argument(
        "--device",
        type=device_name,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cuda, cuda:1, cpu",
    )
    group.add_argument(
        "--workers",
        type=whole_number,
        help="processes that decode videos (default: 8, on a CPU 0)",
    )
    return group


def add_score_flags(parser):
    """How a frame is scored."""
    add = parser.add_argument_group("scores").add_argument
    add("--passes", type=int, default=10, help="R, dropout passes a clip (paper: 10)")
    add(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help="mean prediction from which a pixel counts as foreground (ours; the paper "
        "prints none)",
    )
    add(
        "--phases",
        type=int,
        choices=(1, 2),
        default=1,
        help="1: each prediction serves two frames (published code); 2: every frame has "
        "its own, at twice the cost",
    )
    add(
        "--tail",
        choices=("repeat", "shift"),
        default="repeat",
        help="the last clip of a video: padded with its last frame (published code; the "
        "picture then stands still, and a detector of motion sees less in it), or "
        "shifted back to end with the video",
    )
    add("--seed", type=whole_number, default=0, help="of the dropout masks")
    add(
        "--amp",
        action="store_true",
        help="bf16 autocast on CUDA; scores then differ in the third digit",
    )
    add(
        "--compile",
        action="store_true",
        help="score through torch.compile: a minute to start, then meant to be faster on "
        "CUDA; scores then differ in the third digit",
    )


def add_resume_flags(parser):
    """Parts of the work, and whether it is done again."""
    add = parser.add_argument_group("parts").add_argument
    add(
        "--shard",
        type=shard,
        default=(0, 1),
        metavar="I/N",
        help="score the I-th of N parts of the videos and write no pickle; for machines "
        "that share a folder and nothing else",
    )
    add("--force", action="store_true", help="score again although both pickles are there")


def shard(text: str) -> tuple[int, int]:
    """argparse type of --shard: "2/3" -> (1, 3)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no part; give 1/3, 2/3 and 3/3 to three machines"
        )
    return int(match[1]) - 1, int(match[2])
