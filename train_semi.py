"""Step 1 with the unlabeled videos as well: labeled and unlabeled list -> detector
weights and cluster centers.

    python train_semi.py --run my_run --cycle 0 --method stable-mean-teacher

    python train_semi.py --exp_id my_run --epochs 100 --bs 8 --loc_loss dice --lr 1e-4 --pkl_file_label labeled.pkl \\
        --pkl_file_unlabel unlabeled.pkl --wt_loc 1 --wt_cls 1 --wt_cons 0.1 --const_loss l2 --bv --n_frames 5 \\
        --thresh_epoch 11

The first form takes the labels of an active-learning cycle, and every video without labels
as unlabeled; the second the published lists. Flags may be written with dashes or
underscores.

Reads   files/my_run/cycle0/annotations.pkl, or the two lists (for jhmdb text, "class/clip"
        a line, and the puppet masks below --oracle); the videos below --data;
        weights/rgb_charades.pt where it exists
Writes  files/my_run/cycle0/   what train_ucf101.py writes: detector.pt, tensorboard/, training.pt while it runs; from
        lists also annotations.pkl, so that every later step finds what it looks for
Expect  one line per epoch. An epoch is one pass over the unlabeled videos, half of each
        batch being labeled clips.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import math
import re
import sys
from dataclasses import fields

from torch.utils.tensorboard import SummaryWriter

from claus import engine
from claus.artifacts import checkpoint
from claus.artifacts.handoffs import cycle_dir, run_dir
from claus.datasets import table as which
from claus.datasets.clips.geometry import PIXEL_RANGE
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.mask_interp import INTERPOLATIONS
from claus.losses.cluster import LAMBDA
from claus.models.detector import PRESETS
from claus.semi.lists import read_lists
from claus.semi.methods import METHODS, USES, SemiOptions
from claus.semi.training import SemiTraining
from claus.training import (
    add_running_flags,
    check_pretrained,
    default_workers,
    nothing_to_do,
    readable,
    split_validation,
)
from claus.utils.runtime import (
    HelpFormatter,
    UserError,
    check_alone,
    check_writable,
    run_script,
    whole_number,
)
from train_ucf101 import AGAIN, TRAINING

# What the published command line has, and what the small network needs in its place (chosen
# on the toy videos).
DEFAULTS = {
    "full": {
        "lr": 1e-4,
        "encoder_lr": 1e-4,
        "margin_weight": 1.0,
        "lr_schedule": "plateau",
        "cluster_weight": LAMBDA,
    },
    "small": {
        name: TRAINING["small"][name]
        for name in ("lr", "encoder_lr", "margin_weight", "lr_schedule", "cluster_weight")
    },
}
FIXED = {
    "adam_betas": (0.9, 0.999),
    "adam_eps": 1e-6,
    "weighting": "paper",
    "reassign": 1,
    "last_margin": 0.2,
    "compile": False,
    "sync_bn": False,
    "freeze_bn": False,
    "weighted_dice": False,
}
SCHEDULES = ("plateau", *engine.SCHEDULES)
OPTIONS = {field.name: field.default for field in fields(SemiOptions)}


def parse_args(argv=None):
    argv = [dashed(text) for text in (sys.argv[1:] if argv is None else argv)]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_place(parser.add_argument)
    add_training(parser.add_argument)
    add_method(parser.add_argument)
    return with_defaults(parser.parse_args(argv), parser)


def dashed(text):
    """A flag with dashes for its underscores; its value, after an equals sign, as it is."""
    return re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), text)


def add_place(add):
    add(
        "--run",
        "--exp-id",
        required=True,
        help="name of the run (a folder below --files), or a path",
    )
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    which.add_flags(add)
    add(
        "--pkl-file-label",
        help="list of the labeled videos: pickle [(name, tubes), ...]; jhmdb: text",
    )
    add(
        "--pkl-file-unlabel",
        help="list of the unlabeled videos, of which only the names are read",
    )
    add(
        "--boxes-from",
        type=int,
        choices=(0, 1),
        help="with the lists of ucf101: number of the first pixel of "
        "a row or column in their boxes (default: 1, as in UCF-101-24's annotations, "
        "unless a box touches 0)",
    )
    add(
        "--oracle",
        help="with the lists of jhmdb: folder that holds puppet_mask/ (default: --data)",
    )
    add(
        "--annotations",
        help="annotation file to train on instead of the cycle's annotations.pkl",
    )
    add(
        "--seed",
        type=whole_number,
        default=0,
        help="of weights, clips, crops, views, dropout and k-means",
    )
    add_running_flags(add)


def add_training(add):
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
    add(
        "--crop",
        choices=which.MODULES["ucf101"].CROPS,
        help="224x296 resized to a square (default), or 224x224 straight; ucf101 alone",
    )
    add(
        "--mask-interp",
        choices=INTERPOLATIONS,
        help="how masks between two labels are made; flow follows the pixels "
        f"and is slow (default: {INTERPOLATIONS[0]}); jhmdb alone",
    )
    add(
        "--pixel-range",
        choices=PIXEL_RANGE,
        default=OPTIONS["pixel_range"],
        help="of the network's input",
    )
    add(
        "--pseudo-label-loss",
        choices=("stew", "interp", "frame"),
        default="stew",
        help="on sparsely labeled videos: "
        "weigh the frames between labels by trust, trust all, real labels only; all "
        "one where every frame is labeled",
    )
    add(
        "--epochs",
        type=int,
        help="passes over the unlabeled videos, in supervised training as many steps as "
        "these would be (default 100; with --steps 40)",
    )
    add(
        "--steps",
        type=int,
        help="train for so many optimizer steps instead, in --epochs equal parts; use it to "
        "compare runs with different numbers of labels",
    )
    add(
        "--bs",
        "--batch-size",
        dest="batch_size",
        type=int,
        default=8,
        help="clips a step, half of them unlabeled",
    )
    add("--lr", type=float, help="Adam's learning rate (default 1e-4; small: 1e-3)")
    add(
        "--encoder-lr",
        type=float,
        help="the same for the pretrained I3D (default: --lr; small: 2e-5)",
    )
    add(
        "--lr-schedule",
        choices=SCHEDULES,
        help="plateau: a tenth after 5 epochs without better training loss "
        "(default), whose terms for unlabeled clips set in late or grow: watch it in "
        "TensorBoard; small: cosine to 0",
    )
    add(
        "--loc-loss",
        choices=("dice", "iou"),
        default=OPTIONS["loc_loss"],
        help="overlap term beside the BCE",
    )
    add("--wt-loc", type=float, default=1.0, help="weight of BCE and overlap")
    add(
        "--wt-cls",
        "--margin-weight",
        type=float,
        dest="margin_weight",
        help="weight of the class margin loss (default 1; small: 0.3)",
    )
    add(
        "--cluster-weight",
        type=float,
        help="lambda of CLAUS's cluster loss (default 1e-6; small: 1e-4; with lists 0)",
    )
    add("--clusters", type=int, default=5, help="K of the clusters that selection uses")
    add(
        "--bn-batches",
        type=int,
        default=32,
        help="batches to re-estimate the batch-norm statistics from; 0: never",
    )
    add(
        "--no-validation",
        action="store_true",
        help="train on every labeled video and keep the last checkpoint",
    )
    add("--no-amp", action="store_true", help="float32 on CUDA too, instead of bf16 autocast")


def add_method(add):
    add(
        "--method",
        choices=METHODS,
        default="consistency",
        help="what is done with the unlabeled videos",
    )
    add(
        "--labeled-half",
        action="store_true",
        default=None,
        help="--method supervised with half of --bs in a batch: "
        "as many labeled clips a step as the other methods see",
    )
    add("--wt-cons", type=float, help="weight of their term (default 0.1)")
    add(
        "--thresh-epoch",
        type=int,
        help="epoch from which the predicted class masks the capsule poses of unlabeled "
        "clips (before: none is masked), and pseudo-labels are used (default: the "
        "published 11 of 100, in proportion)",
    )
    add(
        "--no-class-mask",
        action="store_false",
        dest="class_mask",
        help="never mask the capsule poses by class",
    )
    add(
        "--const-loss",
        choices=("l1", "l2", "jsd"),
        help="difference of the two views' masks (default l2)",
    )
    add(
        "--bv",
        action="store_true",
        default=None,
        help="temporal variance mask on the consistency",
    )
    add(
        "--gv",
        action="store_true",
        default=None,
        help="gradient smoothness mask on the consistency",
    )
    add("--n-frames", type=int, help="window of the temporal variance, odd (default 5)")
    add(
        "--predict-maps",
        action="store_true",
        default=None,
        help="compare probabilities instead of logits",
    )
    add(
        "--bv-wt",
        type=float,
        help="weight of the variance mask's term where both are used (default 0.5)",
    )
    add(
        "--gv-wt",
        type=float,
        help="weight of the gradient mask's term where both are used (default 0.5)",
    )
    add(
        "--gv-clamp",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="clamp of the second gradient (default: none)",
    )
    add(
        "--compat",
        action="store_true",
        default=None,
        help="--gv as the published code has it: every clip's mask on every clip's error",
    )
    add(
        "--confidence",
        type=float,
        help="probability from which a pixel's prediction is believed (default 0.7)",
    )


# flags that do something only beside others
BESIDE = {
    "n_frames": ("bv",),
    "gv_clamp": ("gv",),
    "compat": ("gv",),
    "bv_wt": ("bv", "gv"),
    "gv_wt": ("bv", "gv"),
}


def with_defaults(args, parser):
    """Refuse flags that the method does not read or that make no sense; fill in the others."""
    check_used(args, parser)
    if args.epochs is None:
        args.epochs = 40 if args.steps else 100
    if args.thresh_epoch is None:
        args.thresh_epoch = believes_from(args.epochs)
    for name, value in OPTIONS.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    which.check_flags(args, parser)
    crops = which.MODULES[args.dataset].CROPS
    if args.crop and args.crop not in crops:
        parser.error("--crop is for --dataset ucf101")
    if args.mask_interp and which.MODULES[args.dataset].ANSWERS != "masks":
        parser.error("--mask-interp is for --dataset jhmdb, whose labels are masks")
    chosen = {
        **DEFAULTS[args.model],
        **FIXED,
        "crop": crops[0],
        "mask_interp": INTERPOLATIONS[0],
        "workers": default_workers(args.device),
    }
    if args.lr is not None:
        chosen["encoder_lr"] = args.lr
    if args.pkl_file_label:
        chosen["cluster_weight"] = 0.0
    for name, value in chosen.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    args.no_dice, args.amp = args.loc_loss != "dice", not args.no_amp
    check_numbers(args, parser)
    check_lists(args, parser)
    if args.labeled_half and args.batch_size % 2:
        parser.error(f"--labeled-half halves --bs, which must be even, not {args.batch_size}")
    if args.labeled_half:
        args.batch_size //= 2
    return args


def believes_from(epochs):
    """The epoch from which a training of `epochs` believes its own predictions: 11 of 100,
    but not the first.
    """
    return min(max(-(-11 * epochs // 100), 2), epochs)


def check_used(args, parser):
    """Stop at a flag that the method, or the other flags given, leave without any effect."""
    for name, methods in USES.items():
        if getattr(args, name) is not None and args.method not in methods:
            parser.error(
                f"--{name.replace('_', '-')} is for --method {' or '.join(methods)}, "
                f"not for {args.method}"
            )
    for name, others in BESIDE.items():
        missing = [other for other in others if not getattr(args, other)]
        if getattr(args, name) is not None and missing:
            parser.error(f"--{name.replace('_', '-')} does nothing without --{missing[0]}")
    if args.thresh_epoch is not None and not args.class_mask and args.method != "pseudo-label":
        parser.error(
            f"--thresh-epoch does nothing beside --no-class-mask for --method "
            f"{args.method}: no pose is "
            "masked in any epoch"
        )
    if args.predict_maps and args.const_loss == "jsd" and not args.bv:
        parser.error(
            "--predict-maps does nothing beside --const-loss jsd, which compares "
            "probabilities anyway"
        )


def check_numbers(args, parser):
    """Stop at numbers that are out of range."""
    if args.n_frames < 1 or args.n_frames % 2 == 0:
        parser.error(f"--n-frames {args.n_frames} has no middle frame; give an odd number")
    least = 1 if args.method == "supervised" and not args.labeled_half else 2
    if args.batch_size < least:
        parser.error(
            f"--bs must be at least {least} (half labeled, half unlabeled), not "
            f"{args.batch_size}"
        )
    if args.steps is not None and args.steps < args.epochs:
        parser.error(
            f"--steps {args.steps} is fewer than --epochs {args.epochs}; give at least "
            f"one step an epoch"
        )
    for name in ("epochs", "clusters", "lr", "encoder_lr", "thresh_epoch"):
        if not 0 < getattr(args, name) < math.inf:
            parser.error(
                f"--{name.replace('_', '-')} must be greater than 0, not {getattr(args, name)}"
            )
    for name in (
        "wt_loc",
        "margin_weight",
        "wt_cons",
        "bv_wt",
        "gv_wt",
        "cluster_weight",
        "bn_batches",
        "cache_gb",
    ):
        if not 0 <= getattr(args, name) < math.inf:
            flag = {"margin_weight": "wt-cls"}.get(name, name.replace("_", "-"))
            parser.error(f"--{flag} must be 0 or more, not {getattr(args, name)}")
    if args.method == "pseudo-label" and args.thresh_epoch > args.epochs:
        parser.error(
            f"--thresh-epoch {args.thresh_epoch} is never reached in {args.epochs} "
            f"epochs, so --method "
            "pseudo-label would use no video without labels; lower it"
        )
    if args.class_mask and args.method != "supervised" and args.thresh_epoch > args.epochs:
        print(
            f"note: --thresh-epoch {args.thresh_epoch} is never reached in "
            f"{args.epochs} epochs: the predicted class "
            "masks no pose in training, and does at test time"
        )
    if not 0.5 <= args.confidence <= 1:
        parser.error(f"--confidence must lie from 0.5 to 1, not {args.confidence}")
    if args.gv_clamp and not args.gv_clamp[0] < args.gv_clamp[1]:
        parser.error("--gv-clamp takes the lower number first")


def check_lists(args, parser):
    """Stop unless both lists are given, or none; --method supervised needs only the first."""
    if args.pkl_file_unlabel and not args.pkl_file_label:
        parser.error("--pkl-file-unlabel needs --pkl-file-label")
    if args.pkl_file_label and not args.pkl_file_unlabel and args.method != "supervised":
        parser.error(f"--method {args.method} needs --pkl-file-unlabel beside --pkl-file-label")
    if args.pkl_file_label and args.annotations:
        parser.error("give --annotations or the lists, not both")
    if args.boxes_from is not None and (not args.pkl_file_label or args.dataset == "jhmdb"):
        parser.error("--boxes-from is for the lists of --dataset ucf101")
    if args.oracle and not (args.pkl_file_label and args.dataset == "jhmdb"):
        parser.error(
            "--oracle is for the lists of --dataset jhmdb; ucf101's lists hold their boxes"
        )


def main(argv=None):
    args = parse_args(argv)
    check_alone("train_semi.py")
    engine.fast_convolutions(args.device)
    folder = cycle_dir(args.run, args.cycle, args.files)
    if nothing_to_do(folder, args):
        return 0
    check_pretrained(args)
    check_writable(folder / "tensorboard")
    check_writable(folder)
    find_video = which.video_finder(args.dataset, args.data)
    path = args.annotations or folder / "annotations.pkl"
    left_out = take_lists(args, path, find_video) if args.pkl_file_label else {}
    labels = annotation_file.load(path)
    which.check_same(args.dataset, labels.dataset, path)
    names, missing = readable(labels, find_video, args)
    training, validation = split_validation(labels, names, args)
    unlabeled, more = usable_unlabeled(args, labels, find_video)
    state = SemiTraining(
        args,
        labels,
        training,
        unlabeled,
        {**left_out, **missing, **more},
        find_video,
        folder,
        validation,
    )
    unused = (
        ", which set the length of an epoch alone"
        if args.method == "supervised" and unlabeled
        else ""
    )
    print(
        f"{args.method}: {len(state.names)} labeled videos to train on, "
        f"{len(state.validation)} to validate on, "
        f"{len(unlabeled)} without labels{unused}; {state.all_steps} steps in "
        f"{args.epochs} epochs; {args.model} "
        f"network on {args.device}"
    )
    with SummaryWriter(folder / "tensorboard", purge_step=state.epoch) as writer:
        for epoch in range(state.epoch, args.epochs):
            state.run_epoch(epoch, writer)
            checkpoint.save(state.state_dict(epoch + 1), folder / "training.pt")
    checkpoint.save(state.finished(), folder / "detector.pt")
    (folder / "training.pt").unlink(missing_ok=True)
    if state.failed:
        print(
            f"{len(state.failed)} of {len(labels.videos) + len(left_out)} videos were "
            f"set aside:"
        )
        print("\n".join(f"  {name}: {reason}" for name, reason in sorted(state.failed.items())))
    print(f"wrote {folder / 'detector.pt'}")
    return 0


def take_lists(args, path, find_video):
    """Write the two lists as the cycle's annotation file, unless it is that already; {name:
    reason} of lost videos.
    """
    known = run_dir(args.run, args.files) / "frame_counts.jsonl"
    labels, failed = read_lists(
        args.dataset,
        args.pkl_file_label,
        args.pkl_file_unlabel,
        find_video,
        known,
        args.oracle or args.data,
        args.strict,
        args.boxes_from,
    )
    fresh = path.with_name(".annotations.lists.tmp")
    annotation_file.save(labels, fresh)
    try:
        if path.exists() and not args.force and fresh.read_bytes() != path.read_bytes():
            raise UserError(
                f"{path} has other labels than the lists; give another --run, or "
                f"--force to replace it"
            )
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return failed


def usable_unlabeled(args, labels, find_video):
    """(names of the videos without labels whose file exists, {name: reason} of the others).

    Where a cycle has labeled every video, none is left: the training then is supervised,
    and says so. To supervised training they only say how long an epoch is, so that it asks
    for none of them.
    """
    supervised = args.method == "supervised"
    waiting = [video.name for video in labels.videos.values() if not video.is_labeled]
    if not waiting and not supervised:
        print(
            f"WARNING: every video is labeled, so --method {args.method} has nothing "
            f"to use; training supervised"
        )
        args.method = "supervised"
        return [], {}
    names, missing = [], {}
    for name in waiting:
        try:
            find_video(name)
            names.append(name)
        except UserError as error:
            if args.strict and not supervised:
                raise
            missing[name] = str(error)
    if supervised:
        return names, {}
    if not names:
        raise UserError(
            f"none of the {len(waiting)} videos without labels is there: "
            f"{next(iter(missing.values()))}"
        )
    return names, missing


if __name__ == "__main__":
    run_script(main, AGAIN)
