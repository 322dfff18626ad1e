"""The flags of train_semi.py, in groups -> semi.recipe.SemiSettings.

Defaults are those of the published command line; what the small network needs in their
place is in models.BACKBONES.
"""

import re
import sys
from dataclasses import fields

from claus.datasets import table
from claus.datasets.labels.mask_interp import INTERPOLATIONS
from claus.engine import SCHEDULES
from claus.flags.common import (
    add_dataset_flags,
    add_run_flags,
    build,
    check_crop,
    check_dataset,
    check_not_negative,
    check_positive,
    crops,
    default_workers,
    hidden,
    new_parser,
)
from claus.flags.training import (
    add_bn_batches_flag,
    add_field,
    add_network_flags,
    add_pseudo_label_flag,
    add_steps_flag,
    add_training_hardware_flags,
    add_training_resume_flags,
    add_validation_flags,
    check_pixel_range,
    check_steps,
    loss_weights,
    settings_of,
)
from claus.losses.criterion import LossSettings
from claus.models import BACKBONES
from claus.models.input import PIXEL_RANGE
from claus.semi.lists import Lists
from claus.semi.methods import METHODS, USES, SemiOptions
from claus.semi.recipe import SemiSettings

OPTIONS = {field.name: field.default for field in fields(SemiOptions)}
LOSS = {field.name: field.default for field in fields(LossSettings)}
# of the published command line, where it differs from CLAUS's
PUBLISHED = {
    "lr": 1e-4,
    "encoder_lr": 1e-4,
    "lr_schedule": "plateau",
}
FIXED = {
    "adam_betas": (0.9, 0.999),
    "adam_eps": 1e-6,
    "weighting": "paper",
    "last_margin": 0.2,
    "reassign": 1,
    "centers": "evaluation",
    "batch_norm": "update",
    "compile": False,
    "class_head": None,
}
# flags that do something only beside others
BESIDE = {
    "n_frames": ("bv",),
    "gv_clamp": ("gv",),
    "compat": ("gv",),
    "bv_wt": ("bv", "gv"),
    "gv_wt": ("bv", "gv"),
}
# settings that are not called as their flag
FLAGS = {"margin_weight": "wt-cls", "localization_weight": "wt-loc"}


def parse(argv=None, about=None):
    """The settings that the flags say; `about` is what --help begins with.

    Flags may be written with dashes or underscores.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = new_parser(about)
    add_everyday_flags(parser.add_argument_group("everyday").add_argument)
    add_list_flags(parser.add_argument_group("lists").add_argument)
    add_method_flags(parser.add_argument_group("method").add_argument)
    add_loss_flags(parser.add_argument_group("loss").add_argument)
    add_optimizer_flags(parser.add_argument_group("optimizer").add_argument)
    add_training_hardware_flags(parser.add_argument_group("hardware").add_argument)
    add_training_resume_flags(parser.add_argument_group("resuming").add_argument)
    parser.set_defaults(**{name: LOSS[name] for name in LOSS.keys() - set(loss_weights())})
    parser.set_defaults(**FIXED)
    args = parser.parse_args([dashed(word) for word in words])
    check_used(args, parser)
    fill_in(args, parser)
    check(args, parser)
    if args.labeled_half:
        args.batch_size //= 2
    return SemiSettings(
        settings_of(args),
        build(Lists, args),
        args.method,
        bool(args.labeled_half),
        build(SemiOptions, args),
    )


def dashed(text):
    """A flag with dashes for its underscores; its value, after an equals sign, as it is."""
    return re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), text)


# -------------------------------------------------------------------------------- the groups


def add_everyday_flags(add):
    add_run_flags(lambda flag, **more: add(*names_of(flag), **more))
    add_dataset_flags(add)
    add_network_flags(add)
    add(
        "--crop",
        choices=crops(),
        help="what the network sees of a frame, see train_ucf101.py --help (default: the "
        f"published crop of the data set; videos of your own: {table.OWN_CROP})",
    )
    add(
        "--mask-interp",
        choices=INTERPOLATIONS,
        help="how masks between two labels are made; flow follows the pixels and is slow "
        f"(default: {INTERPOLATIONS[0]}); jhmdb alone",
    )
    add(
        "--pixel-range",
        choices=PIXEL_RANGE,
        default=OPTIONS["pixel_range"],
        help="of the network's input",
    )
    add(
        "--epochs",
        type=int,
        help="passes over the unlabeled videos, in supervised training as many steps as "
        "these would be (default 100; with --steps 40)",
    )
    add_steps_flag(add)
    add("--clusters", type=int, default=5, help="K of the clusters that selection uses")
    add_validation_flags(add)


def names_of(flag):
    """--run is also spelled --exp-id, as the published command line has it."""
    return (flag, "--exp-id") if flag == "--run" else (flag,)


def add_list_flags(add):
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
        help="with the lists of ucf101: number of the first pixel of a row or column in "
        "their boxes (default: 1, as in UCF-101-24's annotations, unless a box touches 0)",
    )
    add(
        "--oracle",
        help="with the lists of jhmdb: folder that holds puppet_mask/ (default: --data)",
    )


def add_method_flags(add):
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
        help="--method supervised with half of --bs in a batch: as many labeled clips a "
        "step as the other methods see",
    )
    hidden(add, "--labelled-half", dest="labeled_half", action="store_true", default=None)
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
    add_mask_flags(add)
    add(
        "--confidence",
        type=float,
        help="probability from which a pixel's prediction is believed (default 0.7)",
    )


def add_mask_flags(add):
    """Where the two views are compared, and how."""

    def switch(flag, words):
        add(flag, action="store_true", default=None, help=words)

    switch("--bv", "temporal variance mask on the consistency")
    switch("--gv", "gradient smoothness mask on the consistency")
    add("--n-frames", type=int, help="window of the temporal variance, odd (default 5)")
    switch("--predict-maps", "compare probabilities instead of logits")
    both = "mask's term where both are used (default 0.5)"
    add("--bv-wt", type=float, help=f"weight of the variance {both}")
    add("--gv-wt", type=float, help=f"weight of the gradient {both}")
    add(
        "--gv-clamp",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="clamp of the second gradient (default: none)",
    )
    switch(
        "--compat",
        "--gv as the published code has it: every clip's mask on every clip's error",
    )


def add_loss_flags(add):
    add_pseudo_label_flag(add)
    add(
        "--loc-loss",
        choices=("dice", "iou"),
        default=OPTIONS["loc_loss"],
        help="overlap term beside the BCE",
    )
    spellings = {"localization_weight": ["--wt-loc"], "margin_weight": ["--wt-cls"]}
    weights = loss_weights()
    for field in fields(LossSettings):
        if field.name in weights:
            add_field(add, field, *spellings.get(field.name, []))


def add_optimizer_flags(add):
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
        help="the same for the pretrained encoder (default: --lr; small: 2e-5)",
    )
    add(
        "--lr-schedule",
        choices=("plateau", *SCHEDULES),
        help="plateau: a tenth after 5 epochs without better training loss (default), "
        "whose terms for unlabeled clips set in late or grow: watch it in TensorBoard; "
        "small: cosine to 0",
    )
    add_bn_batches_flag(add)


# ---------------------------------------------------------------------- defaults and checks


def fill_in(args, parser):
    """What was not given, from the published command line or the backbone."""
    if args.epochs is None:
        args.epochs = 40 if args.steps else 100
    if args.thresh_epoch is None:
        args.thresh_epoch = believes_from(args.epochs)
    for name, value in OPTIONS.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    check_dataset(args, parser)
    check_crop(args, parser)
    if args.mask_interp and table.DATASETS[args.dataset].ANSWERS != "masks":
        parser.error("--mask-interp is for --dataset jhmdb, whose labels are masks")
    chosen = {
        "weight_decay": 0.0,
        "train_encoder": True,
        **BACKBONES[args.model].training,
        **(PUBLISHED if args.model == "full" else {}),
        "mask_interp": INTERPOLATIONS[0],
        "workers": default_workers(args.device),
    }
    for name in loss_weights():
        chosen.setdefault(name, LOSS[name])
    if args.lr is not None or chosen["encoder_lr"] is None:
        chosen["encoder_lr"] = args.lr or chosen["lr"]
    if args.pkl_file_label:
        chosen["cluster_weight"] = 0.0  # no selection follows published lists
    for name, value in chosen.items():
        if getattr(args, name, None) is None:
            setattr(args, name, value)
    args.dice = "plain" if args.loc_loss == "dice" else "none"


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
            parser.error(f"--{name.replace('_', '-')} has no effect without --{missing[0]}")
    if args.thresh_epoch is not None and not args.class_mask and args.method != "pseudo-label":
        parser.error(
            "--thresh-epoch has no effect beside --no-class-mask for --method "
            f"{args.method}: no pose is masked in any epoch"
        )
    if args.predict_maps and args.const_loss == "jsd" and not args.bv:
        parser.error(
            "--predict-maps has no effect beside --const-loss jsd, which compares "
            "probabilities anyway"
        )


def check(args, parser):
    """Stop at numbers that are out of range, and at lists that do not go together."""
    if args.n_frames < 1 or args.n_frames % 2 == 0:
        parser.error(f"--n-frames {args.n_frames} has no middle frame; give an odd number")
    least = 1 if args.method == "supervised" and not args.labeled_half else 2
    if args.batch_size < least:
        parser.error(
            f"--bs must be at least {least} (half labeled, half unlabeled), not "
            f"{args.batch_size}"
        )
    if args.labeled_half and args.batch_size % 2:
        parser.error(f"--labeled-half halves --bs, which must be even, not {args.batch_size}")
    check_steps(args, parser)
    check_pixel_range(args, parser)
    check_positive(args, parser, ("epochs", "clusters", "lr", "encoder_lr", "thresh_epoch"))
    check_not_negative(args, parser, loss_weights(), FLAGS)
    check_not_negative(args, parser, ("wt_cons", "bv_wt", "gv_wt", "bn_batches", "cache_gb"))
    check_believing(args, parser)
    if not 0.5 <= args.confidence <= 1:
        parser.error(f"--confidence must lie from 0.5 to 1, not {args.confidence}")
    if args.gv_clamp and not args.gv_clamp[0] < args.gv_clamp[1]:
        parser.error("--gv-clamp takes the lower number first")
    check_lists(args, parser)


def check_believing(args, parser):
    """Stop, or say so, where the network would never believe its own predictions."""
    if args.thresh_epoch <= args.epochs:
        return
    never = f"--thresh-epoch {args.thresh_epoch} is never reached in {args.epochs} epochs"
    if args.method == "pseudo-label":
        parser.error(
            f"{never}, so --method pseudo-label would use no video without labels; lower it"
        )
    if args.class_mask and args.method != "supervised":
        print(
            f"note: {never}: the predicted class masks no pose in training, and does at "
            "test time"
        )


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
