"""Flags of cluster_extract.py -> ScoringSettings."""

import argparse
import re
from dataclasses import dataclass

from claus.flags.common import (
    add_dataset_flags,
    add_feature_flags,
    add_hardware_flags,
    add_precision_flags,
    add_resume_flags,
    add_run_flags,
    check_dataset,
    check_not_negative,
    default_device,
    default_workers,
    new_parser,
    whole_number,
)
from claus.selection.uncertainty import THRESHOLD

RAY_ADDRESS = re.compile(r"local|auto|([\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}")


@dataclass(frozen=True)
class RaySettings:
    """Who scores a pool on a Ray cluster. None: as the cluster's resources allow."""

    address: str  # "local", "auto" or host:port
    actors: int | None
    cpus: int | None  # of each actor
    block: int | None  # videos that an actor is given at once


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
    masks: str  # of models.mc_dropout.MASKS
    amp: bool
    compile: bool
    shard: tuple[int, int]  # (part, parts), the first part is 0
    strict: bool
    force: bool
    device: str  # with ray "cpu" or "cuda"; "" for what the cluster has
    workers: int | None  # None: with ray, by the processors of an actor
    feature_gb: float
    cache_dir: str | None
    propose: bool = False
    pickles: bool = False
    tf32: bool = False  # as amp: of utils.precision.Precision
    cudnn_benchmark: bool = False
    cpu_bf16: bool = False
    ray: RaySettings | None = None


def parse(argv: list[str] | None = None, description: str | None = None) -> ScoringSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = new_parser(description)
    add_run_flags(parser.add_argument_group("run").add_argument)
    add_dataset_flags(parser.add_argument_group("data set").add_argument)
    add_score_flags(parser.add_argument_group("scores").add_argument)
    hardware = parser.add_argument_group("hardware").add_argument
    add_hardware_flags(hardware)
    add_precision_flags(hardware, False, "Scores then differ in the third digit")
    add_feature_flags(hardware)
    group = parser.add_argument_group("resuming").add_argument
    add_shard_flag(group)
    add_resume_flags(group, "features.pkl")
    group(
        "--pickles",
        action="store_true",
        help="write features.pkl and uncertainty.pkl of a large pool too (10 million frames "
        "and more), for other programs; ours read the columns (pool.columns/)",
    )
    add_ray_flags(parser.add_argument_group("a Ray cluster").add_argument)
    group = parser.add_argument_group("single frames").add_argument
    group(
        "--propose",
        action="store_true",
        help="instead of scoring: what the detector sees in the frames that the next cycle's "
        "request asks for (proposals.json), and the labels it disagrees with most "
        "(review.json). run_cycles.py does it after each choice",
    )
    parser.set_defaults(device=None)  # on a cluster its machines say what they have
    args = parser.parse_args(argv)
    check_dataset(args, parser)
    take_ray(args, parser)
    if args.ray is None:
        args.device = args.device or default_device()
        if args.workers is None:
            args.workers = default_workers(args.device)
    check_not_negative(args, parser, ["feature_gb"])
    if args.passes < 1:
        parser.error(f"--passes must be at least 1, not {args.passes}")
    if not 0 < args.threshold < 1:
        parser.error(f"--threshold must lie between 0 and 1, not {args.threshold}")
    return ScoringSettings(**vars(args))


def add_score_flags(add):
    """How a frame is scored."""
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
        "--masks",
        choices=("independent", "antithetic"),
        default="independent",
        help="dropout masks of a clip's passes: each drawn by itself (published), or in "
        "pairs of opposites (antithetic, ours): the same expectation with less noise",
    )
    add(
        "--compile",
        action="store_true",
        help="score through torch.compile, on CUDA as a CUDA graph: a minute to start, then "
        "meant to be faster (untried on a card); scores then differ in the third digit",
    )


def add_shard_flag(add):
    """Parts of the work, for machines."""
    add(
        "--shard",
        type=shard,
        default=(0, 1),
        metavar="I/N",
        help="score the I-th of N parts of the videos and write no pickle; for machines "
        "that share a folder and nothing else",
    )


def add_ray_flags(add):
    """Several machines as one: Ray Data."""
    add(
        "--ray",
        type=ray_address,
        metavar="ADDRESS",
        help="score on a Ray cluster (pip install '.[ray]'): host:port of the one that this "
        "machine belongs to, auto to find it, local to start one here for this command. All "
        "machines see the run folder and the videos at the same paths",
    )
    add(
        "--ray-actors",
        type=int,
        help="processes that score, each with its network (default: one a GPU, without GPUs "
        "one for each --ray-cpus of the processors)",
    )
    add(
        "--ray-cpus",
        type=int,
        help="processors of each (default: 1; beside a GPU its share, at most 9)",
    )
    add(
        "--ray-block",
        type=int,
        help="videos given out at once (default: by the number of videos, at most 64)",
    )


def ray_address(text: str) -> str:
    """argparse type of --ray: "local", "auto" or host:port."""
    if text.startswith("ray://"):
        raise argparse.ArgumentTypeError(
            f"{text!r} is for programs outside the cluster; run this script on one of its "
            "machines, with --ray auto"
        )
    if not RAY_ADDRESS.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: give local, auto or host:port")
    return text


def take_ray(args, parser):
    """The flags of a cluster become args.ray, RaySettings or None; stop at what does not go
    with it.
    """
    given = {name: vars(args).pop(f"ray_{name}") for name in ("actors", "cpus", "block")}
    for name, number in given.items():
        if number is None:
            continue
        if args.ray is None:
            parser.error(f"--ray-{name} is for --ray; give --ray local to start a cluster here")
        if number < 1:
            parser.error(f"--ray-{name} must be at least 1, not {number}")
    if args.ray is None:
        return
    if args.shard[1] > 1:
        parser.error("--shard and --ray both share the videos out; give one of them")
    if args.device not in (None, "cpu", "cuda"):
        parser.error(f"--device {args.device} is for one machine; with --ray give cuda or cpu")
    if args.propose:  # a few frames: in this process, also where run_cycles.py has a cluster
        args.ray = None
        return
    args.device = args.device or ""
    args.ray = RaySettings(args.ray, **given)


def shard(text: str) -> tuple[int, int]:
    """argparse type of --shard: "2/3" -> (1, 3)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a shard; give 1/3, 2/3 and 3/3 to three machines"
        )
    return int(match[1]) - 1, int(match[2])
