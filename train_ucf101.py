"""Step 1: annotation file -> detector weights and cluster centers.

    python train_ucf101.py --run my_run --cycle 0
    torchrun --nproc-per-node 4 -- train_ucf101.py --run my_run --cycle 0     # four GPUs share every batch

Reads   files/my_run/cycle0/annotations.pkl (written by claus_select.py), the labeled
        videos below --data, weights/rgb_charades.pt where it exists
Writes  files/my_run/cycle0/detector.pt    weights, cluster centers, and all that the later scripts need to know
        files/my_run/cycle0/tensorboard/   every loss term, rates, validation scores,
                                           pictures of training clips
        files/my_run/cycle0/training.pt    the state to go on from after an interruption
                                           (--resume); gone at the end
Expect  one line per epoch; with --model small a minute on two CPU cores. --model full wants
        a GPU (no cycle of it has been timed on one yet): a CPU takes about a second a clip.
        A video that cannot be read is named and set aside.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import contextlib
import math

from torch.utils.tensorboard import SummaryWriter

from claus import engine
from claus.artifacts import checkpoint
from claus.artifacts.handoffs import cycle_dir
from claus.datasets import table as which
from claus.datasets.clips.geometry import PIXEL_RANGE
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.mask_interp import INTERPOLATIONS
from claus.losses.cluster import LAMBDA
from claus.losses.margin import LAST_MARGIN
from claus.models.detector import PRESETS
from claus.training import (
    Training,
    add_running_flags,
    check_pretrained,
    default_workers,
    nothing_to_do,
    readable,
    split_validation,
)
from claus.utils import distributed
from claus.utils.runtime import HelpFormatter, check_writable, run_script, whole_number

AGAIN = "finished epochs are kept, the same command with --resume goes on from there"
# What differs between the two networks. full: the paper's values. small: chosen on the toy
# videos, see the README.
TRAINING = {
    "full": {
        "lr": 5e-4,
        "encoder_lr": 5e-4,
        "batch_size": 8,
        "margin_weight": 1.0,
        "cluster_weight": LAMBDA,
        "lr_schedule": "constant",
    },
    "small": {
        "lr": 1e-3,
        "encoder_lr": 2e-5,
        "batch_size": 8,
        "margin_weight": 0.3,
        "cluster_weight": 1e-4,
        "lr_schedule": "cosine",
    },
}
AUTHORS = {
    "lr": 5e-5,
    "batch_size": 6,
    "adam_betas": (0.5, 0.999),
    "adam_eps": 1e-6,
    "last_margin": 0.2,
    "weighting": "authors",
    "pixel_range": "0..1",
    "reassign": 0,
    "lr_schedule": "constant",
}
PLAIN = {
    "reassign": 1,
    "adam_betas": (0.9, 0.999),
    "adam_eps": 1e-8,
    "last_margin": LAST_MARGIN,
    "weighting": "paper",
    "pixel_range": "-1..1",
}


def parse_args(argv=None, dataset="ucf101", about=__doc__):
    """The flags of the training script of `dataset`; `about` is what its --help begins with."""
    crops = which.MODULES[dataset].CROPS
    parser = argparse.ArgumentParser(description=about, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    which.add_flags(add, dataset)
    add(
        "--annotations",
        help="annotation file to train on instead of the cycle's annotations.pkl",
    )
    add(
        "--model",
        choices=PRESETS,
        default="full",
        help="full: the published network; small: for CPU runs",
    )
    add(
        "--pretrained",
        help="weights to start from (default: rgb_charades.pt or small_encoder.pt in "
        "weights/); "
        "'none' for a random start; a detector.pt to continue from another cycle",
    )
    if len(crops) > 1:
        add(
            "--crop",
            choices=crops,
            default=crops[0],
            help="224x296 resized to a square, or 224x224 straight",
        )
    if which.MODULES[dataset].ANSWERS == "masks":
        add(
            "--mask-interp",
            choices=INTERPOLATIONS,
            default=INTERPOLATIONS[0],
            help="how masks between two labels are made; flow "
            "follows the pixels and is slow (default: %(default)s)",
        )
    parser.set_defaults(dataset=dataset, crop=crops[0], mask_interp=INTERPOLATIONS[0])
    add("--pixel-range", choices=PIXEL_RANGE, help="of the network's input (default -1..1)")
    add(
        "--pseudo-label-loss",
        choices=("stew", "interp", "frame"),
        default="stew",
        help="stew: weigh pseudo-labels by trust (paper Eq. 5); interp: trust all; "
        "frame: real labels only",
    )
    add(
        "--weighting",
        choices=("paper", "authors"),
        help="where the STeW weight enters: the error, or the logits",
    )
    add("--no-dice", action="store_true", help="leave out the Dice term beside the BCE")
    add(
        "--weighted-dice",
        action="store_true",
        help="weigh the Dice term by STeW's trust as well (ours; default: "
        "every frame within eight of a label counts alike in it)",
    )
    add(
        "--margin-weight",
        type=float,
        help="weight of the class margin loss (default 1; small: 0.3)",
    )
    add(
        "--last-margin",
        type=float,
        help="margin at the end of training, from 0.2 on (default 0.9)",
    )
    add(
        "--cluster-weight",
        type=float,
        help="lambda of the cluster loss (default 1e-6; small: 1e-4)",
    )
    add("--clusters", type=int, default=5, help="K (paper: 5)")
    add(
        "--reassign",
        type=int,
        choices=(0, 1),
        help="0 keeps the first cluster of every video, as the authors do; 1 "
        "(default) reassigns every epoch",
    )
    add("--epochs", type=int, default=40, help="each labeled video gives two clips an epoch")
    add(
        "--steps",
        type=int,
        help="train for so many optimizer steps instead, in --epochs equal parts; use it to "
        "compare runs with different numbers of labels",
    )
    add("--batch-size", type=int, help="clips a step, of all processes together (default 8)")
    add("--lr", type=float, help="Adam's learning rate (default 5e-4; small: 1e-3)")
    add(
        "--encoder-lr",
        type=float,
        help="the same for the pretrained I3D (default: --lr where it is given, else 5e-4; "
        "small: 2e-5)",
    )
    add(
        "--lr-schedule",
        choices=engine.SCHEDULES,
        help="over the whole training (default constant, as in the paper; small: cosine to 0)",
    )
    add("--adam-betas", type=float, nargs=2, help="Adam's betas (default 0.9 0.999)")
    add("--adam-eps", type=float, help="Adam's epsilon (default 1e-8)")
    add(
        "--authors",
        action="store_true",
        help="the published code's settings for every flag not given: lr 5e-5, batch "
        "6, betas .5 .999, eps 1e-6, margin 0.2 throughout, weight on the logits, "
        "pixels 0..1, fixed clusters",
    )
    add(
        "--bn-batches",
        type=int,
        default=32,
        help="batches to re-estimate the batch-norm statistics from; 0: never",
    )
    add(
        "--freeze-bn",
        action="store_true",
        help="keep the batch-norm statistics of the pretrained weights in "
        "training too (then --bn-batches does nothing)",
    )
    add(
        "--sync-bn",
        action="store_true",
        help="several GPUs: batch norm over the whole batch, not each share",
    )
    add(
        "--compile",
        action="store_true",
        help="train through torch.compile: minutes to start, then meant to be "
        "faster on CUDA (benchmarks/bench_gpu.py measures it)",
    )
    add(
        "--no-validation",
        action="store_true",
        help="train on every labeled video and keep the last checkpoint",
    )
    add("--no-amp", action="store_true", help="float32 on CUDA too, instead of bf16 autocast")
    add(
        "--seed",
        type=whole_number,
        default=0,
        help="of weights, clips, crops, dropout and k-means",
    )
    add_running_flags(add)
    return with_defaults(parser.parse_args(argv), parser)


def with_defaults(args, parser):
    """Fill what was not given from the preset, and refuse what makes no sense."""
    chosen = {**TRAINING[args.model], **PLAIN, **(AUTHORS if args.authors else {})}
    if args.lr is not None or args.model == "full":
        chosen["encoder_lr"] = args.lr or chosen["lr"]
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    which.check_flags(args, parser)
    if args.workers is None:
        args.workers = default_workers(args.device)
    for name in ("epochs", "batch_size", "clusters", "lr", "encoder_lr", "last_margin"):
        if not 0 < getattr(args, name) < math.inf:
            parser.error(
                f"--{name.replace('_', '-')} must be greater than 0, not {getattr(args, name)}"
            )
    if args.steps is not None and args.steps < args.epochs:
        parser.error(
            f"--steps {args.steps} is fewer than --epochs {args.epochs}; give at least "
            f"one step an epoch"
        )
    for name in ("margin_weight", "cluster_weight", "bn_batches", "adam_eps", "cache_gb"):
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(
                f"--{name.replace('_', '-')} must be 0 or more, not {getattr(args, name)}"
            )
    if args.sync_bn and not args.device.startswith("cuda"):
        parser.error("--sync-bn needs CUDA; on the CPU give --freeze-bn, or larger shares")
    if not all(0 <= beta < 1 for beta in args.adam_betas):
        parser.error(
            f"--adam-betas must lie from 0 to below 1, not "
            f"{' '.join(map(str, args.adam_betas))}"
        )
    if args.weighted_dice and (
        args.no_dice or args.weighting != "paper" or args.pseudo_label_loss != "stew"
    ):
        parser.error(
            "--weighted-dice weighs Dice by STeW's trust; leave out --no-dice, "
            "--weighting authors and "
            "--pseudo-label-loss interp or frame beside it"
        )
    return args


def main(argv=None, dataset="ucf101", about=__doc__):
    args = parse_args(argv, dataset, about)
    args.device = distributed.own_device(args.device)
    engine.fast_convolutions(args.device)
    folder = cycle_dir(args.run, args.cycle, args.files)
    if nothing_to_do(folder, args):
        return 0
    check_pretrained(args)
    path = args.annotations or folder / "annotations.pkl"
    labels = annotation_file.load(path)
    which.check_same(dataset, labels.dataset, path)
    first = distributed.rank() == 0
    if first:
        check_writable(folder / "tensorboard")
        check_writable(folder)
    find_video = which.video_finder(args.dataset, args.data)
    names, missing = readable(labels, find_video, args)
    training, validation = split_validation(labels, names, args)
    state = Training(args, labels, training, missing, find_video, folder, validation)
    print(
        f"{len(state.names)} videos to train on, {len(state.validation)} to validate on, "
        f"{labels.counts()['frames']} labeled frames; {state.all_steps} steps in "
        f"{args.epochs} epochs; {args.model} "
        f"network on {args.device}"
    )
    print(batch_and_rate(args))
    with (
        SummaryWriter(folder / "tensorboard", purge_step=state.epoch)
        if first
        else contextlib.nullcontext() as writer
    ):
        for epoch in range(state.epoch, args.epochs):
            state.run_epoch(epoch, writer)
            if first:
                checkpoint.save(state.state_dict(epoch + 1), folder / "training.pt")
    finished = state.finished()
    if first:
        checkpoint.save(finished, folder / "detector.pt")
        (folder / "training.pt").unlink(missing_ok=True)
    if state.failed:
        print(f"{len(state.failed)} of {len(labels.labeled())} labeled videos were set aside:")
        print("\n".join(f"  {name}: {reason}" for name, reason in sorted(state.failed.items())))
    print(f"wrote {folder / 'detector.pt'}")
    return 0


def batch_and_rate(args):
    """One line that says the effective batch and the learning rate, and what each of
    several processes has of it.
    """
    n = distributed.world_size()
    shares = (
        ""
        if n == 1
        else (
            f": {args.batch_size // n} in each of {n} processes, batch norm over "
            + (
                "fixed statistics"
                if args.freeze_bn
                else "all"
                if args.sync_bn
                else "each share"
            )
        )
    )
    return (
        f"batch of {args.batch_size} clips a step{shares}; learning rate {args.lr:g}, "
        f"encoder {args.encoder_lr:g}"
        + ("" if n == 1 else " (not scaled: the same whatever the number of processes)")
    )


if __name__ == "__main__":
    run_script(distributed.together(main), AGAIN)
