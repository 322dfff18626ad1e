"""The flags of the training scripts, in groups -> training.TrainingSettings."""

import argparse
from dataclasses import fields

from claus.datasets import table
from claus.datasets.clips.training_clips import PLACES
from claus.datasets.labels.mask_interp import INTERPOLATIONS
from claus.engine import SCHEDULES
from claus.flags.common import (
    Hardware,
    Place,
    Resume,
    add_dataset_flags,
    add_feature_flags,
    add_hardware_flags,
    add_precision_flags,
    add_resume_flags,
    add_run_flags,
    build,
    check_dataset,
    check_not_negative,
    check_positive,
    default_workers,
    hidden,
    new_parser,
    whole_number,
)
from claus.losses.cluster import CENTERS
from claus.losses.criterion import LossSettings
from claus.losses.stew import PSEUDO_LABEL_LOSSES
from claus.models import BACKBONES
from claus.models.detector import CLASS_HEADS
from claus.models.input import PIXEL_RANGE
from claus.training import BATCH_NORM, OptimizerSettings, TrainingSettings

# of the published code, for every flag that is not given
AUTHORS = {
    "lr": 5e-5,
    "batch_size": 6,
    "adam_betas": (0.5, 0.999),
    "adam_eps": 1e-6,
    "last_margin": 0.2,
    "weighting": "authors",
    "pixel_range": "0..1",
    "reassign": 0,
    "centers": "training",
    "lr_schedule": "constant",
}
HEAD_LOSSES = {"capsule": "margin", "linear": "cross-entropy"}
PLAIN = {
    "batch_norm": "update",
    "reassign": 1,
    "centers": CENTERS[0],
    "adam_betas": (0.9, 0.999),
    "adam_eps": 1e-8,
    "pixel_range": "-1..1",
    "weight_decay": 0.0,
    "train_encoder": True,
}


def parse(argv=None, dataset=None, about=None):
    """The settings that the flags of a training script say. dataset: the only one that the
    script trains on; None where --dataset names it. about: the head of its --help.
    """
    parser = new_parser(about)
    named = dataset or named_dataset(argv)
    parser.set_defaults(dataset=named, mask_interp=INTERPOLATIONS[0])
    add = parser.add_argument_group("everyday").add_argument
    add_run_flags(add)
    add_dataset_flags(add, dataset)
    add_everyday_flags(add, table.DATASETS[named])
    add_loss_flags(parser.add_argument_group("loss"))
    add_optimizer_flags(parser.add_argument_group("optimizer"))
    group = parser.add_argument_group("hardware").add_argument
    add_training_hardware_flags(group)
    add_compile_flag(group)
    add_training_resume_flags(parser.add_argument_group("resuming").add_argument)
    args = parser.parse_args(argv)
    fill_in(args)
    check(args, parser)
    return settings_of(args)


def named_dataset(argv):
    """The data set that --dataset names, which decides what other flags there are."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--dataset", nargs="?")
    parser.add_argument("--data", nargs="?")  # or it would be read as short for --dataset
    name = parser.parse_known_args(argv)[0].dataset
    return name if name in table.DATASETS else "ucf101"


# -------------------------------------------------------------------------------- the groups


def add_everyday_flags(add, module):
    """What everybody sets; `module`: that of the data set."""
    add_network_flags(add)
    add("--crop", choices=module.CROPS, help=crop_words(module))
    if module.ANSWERS == "masks":
        add(
            "--mask-interp",
            choices=INTERPOLATIONS,
            default=INTERPOLATIONS[0],
            help="how masks between two labels are made; flow follows the pixels and is slow "
            "(default: %(default)s)",
        )
    add("--epochs", type=int, default=40, help="each labeled video gives two clips an epoch")
    add_steps_flag(add)
    add(
        "--train-encoder",
        action=argparse.BooleanOptionalAction,
        help="train the pretrained encoder along (default: yes; laptop: no, so that its "
        "features are computed once and kept)",
    )
    add("--clusters", type=int, default=5, help="K, clusters of videos (paper: 5)")
    add_validation_flags(add)
    add(
        "--class-head",
        choices=CLASS_HEADS,
        help="what the class scores come from. capsule: the class capsules (published); linear: "
        "a linear layer on features of the foreground, taught by cross-entropy (default: "
        "capsule; laptop: linear)",
    )
    add(
        "--authors",
        action="store_true",
        help="the published code's settings for every flag not given: lr 5e-5, batch "
        "6, betas .5 .999, eps 1e-6, margin 0.2 throughout, weight on the logits, "
        "pixels 0..1, fixed clusters, centers of the training clips",
    )


def crop_words(module):
    """What --crop says; `module`: that of a data set."""
    cuts = ""
    if "wide" in module.CROPS:
        cuts = "wide: 224x296 of 240x320, resized to a square; square: 224x224; "
    return (
        f"what the network sees of a frame. {cuts}whole: all of it, resized to a square; "
        f"letterbox: all of it in its own shape, between bars (default: {module.CROPS[0]}; "
        f"videos of your own: {table.OWN_CROP})"
    )


def add_network_flags(add):
    """The network and what it starts from."""
    add(
        "--annotations",
        help="annotation file to train on instead of the cycle's annotations.pkl",
    )
    add(
        "--model",
        choices=BACKBONES,
        default="full",
        help="full: the published network; laptop: for people without a GPU, on features "
        "of ImageNet; small: the published form in little, for tests",
    )
    files = " or ".join(backbone.weights for backbone in BACKBONES.values())
    add(
        "--pretrained",
        help=f"weights to start from (default: {files} in weights/); 'none' for a random "
        "start; a detector.pt to continue from another cycle",
    )


def add_steps_flag(add):
    add(
        "--steps",
        type=int,
        help="train for this many optimizer steps instead, in --epochs equal parts; use it to "
        "compare runs with different numbers of labels",
    )


def add_validation_flags(add):
    add(
        "--no-validation",
        dest="validate",
        action="store_false",
        help="train on every labeled video and keep the last checkpoint",
    )
    add(
        "--seed",
        type=whole_number,
        default=0,
        help="of weights, clips, crops, dropout and k-means",
    )


def add_loss_flags(group):
    """What is compared with what, and the fields of LossSettings."""
    add, dice = group.add_argument, group.add_mutually_exclusive_group().add_argument
    add_pseudo_label_flag(add)
    for field in fields(LossSettings):
        add_field(dice if field.name == "dice" else add, field)
    hidden(dice, "--no-dice", dest="dice", action="store_const", const="none")
    hidden(dice, "--weighted-dice", dest="dice", action="store_const", const="weighted")
    hidden(add, "--reassign", type=int, choices=(0, 1))  # --authors sets it
    add(
        "--centers",
        choices=CENTERS,
        help="which centers cluster_extract.py assigns the videos to. evaluation: means of "
        "the labeled videos' latents without dropout, as those of the pool are; training: "
        "those that followed the training clips, with dropout, as in the published code "
        "(default: evaluation)",
    )


def add_pseudo_label_flag(add):
    add(
        "--pseudo-label-loss",
        choices=PSEUDO_LABEL_LOSSES,
        default="stew",
        help="on the frames between labels. stew: weigh pseudo-labels by trust (paper Eq. "
        "4 and 5); interp: trust all; frame: real labels only",
    )
    add(
        "--label-place",
        choices=PLACES,
        default=PLACES[0],
        help="which frame of a training clip its labeled frame is. middle: that of index 4, as "
        "published; any: drawn anew for every clip (default: %(default)s)",
    )


def add_field(add, field, *flags, **more):
    """The flag of a field of LossSettings; `flags`: spellings that come first."""
    words = field.metadata
    own = words.get("flag", "--" + field.name.replace("_", "-"))
    kind = {"choices": words["choices"]} if "choices" in words else {"type": field.type}
    kind |= {"dest": field.name, **more}
    if words.get("hidden"):
        hidden(add, *flags, own, **kind)
        return
    small = {name: backbone.training.get(field.name) for name, backbone in BACKBONES.items()}
    others = [f"; {name}: {told(v)}" for name, v in small.items() if differs(v, field)]
    default = told(field.default)
    text = f"{words['help']} (default {default}{''.join(others)})"
    add(*flags, own, help=text, **kind)


def told(value):
    """A default as --help says it."""
    return value if isinstance(value, str) else f"{value:g}"


def loss_weights():
    """Names of the fields of LossSettings that are weights: numbers with a flag in --help."""
    numbers = [field for field in fields(LossSettings) if field.type is float]
    return [field.name for field in numbers if not field.metadata.get("hidden")]


def differs(value, field):
    """Whether a backbone has another default than the field's own."""
    return value is not None and value != field.default


def add_optimizer_flags(group):
    add, norm = group.add_argument, group.add_mutually_exclusive_group().add_argument
    add(
        "--batch-size",
        type=int,
        help="clips a step, of all processes together (default 8; laptop: 16)",
    )
    add(
        "--lr",
        type=float,
        help="Adam's learning rate (default 5e-4; small: 1e-3; laptop: 2e-3)",
    )
    add(
        "--encoder-lr",
        type=float,
        help="the same for the pretrained encoder (default: --lr where it is given, else "
        "5e-4; small: 2e-5; laptop: 2e-4)",
    )
    add(
        "--lr-schedule",
        choices=SCHEDULES,
        help="over the whole training (default constant; small: cosine to 0; laptop: "
        "warm-cosine, which rises for the first 30%%)",
    )
    add(
        "--weight-decay",
        type=float,
        help="decoupled, as in AdamW (default 0; laptop: 0.02)",
    )
    norm(
        "--batch-norm",
        choices=BATCH_NORM,
        help="statistics of batch norm. update: over each process's share of a batch; "
        "freeze: those of the pretrained weights throughout; sync: over the whole batch of "
        "several GPUs (default: update)",
    )
    add_bn_batches_flag(add)
    hidden(norm, "--freeze-bn", dest="batch_norm", action="store_const", const="freeze")
    hidden(norm, "--sync-bn", dest="batch_norm", action="store_const", const="sync")
    hidden(add, "--adam-betas", type=float, nargs=2)  # these three --authors sets
    hidden(add, "--adam-eps", type=float)
    hidden(add, "--pixel-range", choices=PIXEL_RANGE)


def add_bn_batches_flag(add):
    add(
        "--bn-batches",
        type=int,
        default=32,
        help="batches to re-estimate the batch-norm statistics from; 0: never",
    )


def add_training_hardware_flags(add):
    add_hardware_flags(add)
    add(
        "--cache-gb",
        type=float,
        default=0,
        help="keep decoded clips of labeled videos on disk, up to this many GB "
        "(1.8 MB a labeled frame); pays where decoding, not the network, is what "
        "takes the time (default 0: none)",
    )
    add_feature_flags(add)
    add_precision_flags(add, True, "The capsules are float32 in any case")


def add_compile_flag(add):
    add(
        "--compile",
        action="store_true",
        help="train through torch.compile, on one GPU as a CUDA graph: minutes to start, then "
        "meant to be faster (untried on a card; benchmarks/bench_gpu.py measures it)",
    )


def add_training_resume_flags(add):
    add("--resume", action="store_true", help="resume an interrupted training")
    add_resume_flags(add, "detector.pt")


# --------------------------------------------------------------------- defaults and settings


def fill_in(args):
    """What was not given, from the backbone, the paper or the published code."""
    chosen = {**PLAIN, **BACKBONES[args.model].training, **(AUTHORS if args.authors else {})}
    if args.lr is not None or chosen["encoder_lr"] is None:
        chosen["encoder_lr"] = args.lr or chosen["lr"]
    if args.class_head is not None:
        chosen["class_loss"] = HEAD_LOSSES[args.class_head]
    for field in fields(LossSettings):
        chosen.setdefault(field.name, field.default)
    chosen["workers"] = default_workers(args.device)
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def check(args, parser):
    """Stop at what makes no sense."""
    check_dataset(args, parser)
    check_positive(
        args,
        parser,
        ("epochs", "batch_size", "clusters", "lr", "encoder_lr", "last_margin"),
    )
    check_not_negative(
        args,
        parser,
        (*loss_weights(), "bn_batches", "adam_eps", "cache_gb", "feature_gb", "weight_decay"),
        {"localization_weight": "loc-weight"},
    )
    check_steps(args, parser)
    check_pixel_range(args, parser)
    if args.batch_norm == "sync" and not args.device.startswith("cuda"):
        parser.error(
            "--batch-norm sync needs CUDA; on the CPU give --batch-norm freeze, or a larger "
            "--batch-size"
        )
    if not all(0 <= beta < 1 for beta in args.adam_betas):
        betas = " ".join(map(str, args.adam_betas))
        parser.error(f"--adam-betas must lie from 0 to below 1, not {betas}")
    unweighted = args.weighting != "paper" or args.pseudo_label_loss != "stew"
    if args.dice == "weighted" and unweighted:
        parser.error(
            "--dice weighted weighs Dice by STeW's φ; leave out --authors, --weighting "
            "authors and --pseudo-label-loss interp or frame beside it"
        )


def check_pixel_range(args, parser):
    """Stop at pixels that a frozen encoder was not made for."""
    if not args.train_encoder and args.pixel_range != PLAIN["pixel_range"]:
        parser.error(
            f"--model {args.model} has a frozen encoder, whose weights want pixels "
            f"{PLAIN['pixel_range']}; leave out --authors and --pixel-range, or train the "
            "encoder along"
        )


def check_steps(args, parser):
    if args.steps is not None and args.steps < args.epochs:
        parser.error(
            f"--steps {args.steps} is fewer than --epochs {args.epochs}; give at least one "
            "step an epoch"
        )


def settings_of(args):
    """TrainingSettings of parsed flags with their defaults."""
    optimizer = build(OptimizerSettings, args, adam_betas=tuple(args.adam_betas))
    return build(
        TrainingSettings,
        args,
        place=build(Place, args),
        resume=build(Resume, args),
        hardware=build(Hardware, args),
        optimizer=optimizer,
        loss=build(LossSettings, args),
        reassign=bool(args.reassign),
    )
