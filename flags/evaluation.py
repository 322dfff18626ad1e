"""Flags of evaluate.py -> EvaluationSettings."""

import argparse
from dataclasses import dataclass

from claus.flags.common import (
    add_dataset_flags,
    add_feature_flags,
    add_hardware_flags,
    add_precision_flags,
    add_resume_flags,
    add_run_flags,
    add_split_flags,
    check_crop,
    check_dataset,
    crops,
    default_workers,
    hidden,
    new_parser,
    truth_words,
    whole_number,
)
from claus.metrics import capsule, linking, masks
from claus.metrics.detections import CLASS_SCORES, DetectionSettings

TUBE_FLAGS = ("link", "nms")  # of the act protocol: what needs whole tubes
# flags of the capsule protocol that shape the pictures too
DRAWN = ("gt", "count_empty_frames", "class_from")


@dataclass(frozen=True)
class CapsuleSettings:
    """How the capsule protocol is scored, see metrics.capsule.Switches."""

    gt: str
    absent_class: str
    count_empty_frames: bool
    class_from: str
    floor: bool


@dataclass(frozen=True)
class EvaluationSettings:
    """What steps.evaluate does: which weights, against which truth, by which protocols.

    Either ground_truth or labels is None. visualize: None draws nothing, N the charts and N
    videos of a kind.
    """

    run: str
    cycle: int
    files: str
    weights: str | None
    dataset: str
    data: str
    crop: str | None
    ground_truth: str | None
    test_list: str | None
    split: int | None
    labels: str | None
    protocol: str
    capsule: CapsuleSettings
    act: DetectionSettings
    visualize: int | None
    limit: int | None
    strict: bool
    force: bool
    device: str
    workers: int
    feature_gb: float
    cache_dir: str | None
    amp: bool = True  # these four: of utils.precision.Precision
    tf32: bool = False
    cudnn_benchmark: bool = False
    cpu_bf16: bool = False


def parse(argv: list[str] | None = None, description: str | None = None) -> EvaluationSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = new_parser(description)
    add_run_flags(parser.add_argument_group("run").add_argument)
    _add_what_flags(parser.add_argument_group("evaluation").add_argument)
    add_dataset_flags(parser.add_argument_group("data set").add_argument)
    _add_truth_flags(parser.add_argument_group("ground truth").add_argument)
    for name, add_group in PROTOCOLS.items():
        add_group(parser.add_argument_group(f"{name} protocol").add_argument)
    hardware = parser.add_argument_group("hardware").add_argument
    add_hardware_flags(hardware)
    add_precision_flags(hardware, True, "The mask logits are float32 in any case")
    add_feature_flags(hardware)
    add_resume_flags(parser.add_argument_group("resuming").add_argument, "evaluation.json")
    defaults = {name: defaults_of(add_group) for name, add_group in PROTOCOLS.items()}
    not_given = argparse.Namespace()
    for flags in defaults.values():
        vars(not_given).update(dict.fromkeys(flags))
    args = parser.parse_args(argv, not_given)
    _check_truth(args, defaults["act"], parser)
    _check_protocol(args, defaults, parser)
    check_dataset(args, parser, needs_list=not args.labels)
    if args.workers is None:
        args.workers = default_workers(args.device)
    check_crop(args, parser)
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit must be at least 1, not {args.limit}")
    return _settings(args, parser)


def _settings(args, parser):
    """EvaluationSettings of checked flags; what remains wrong ends in the parser's error."""
    flags = vars(args)
    names = {name: flags.pop(name) for name in defaults_of(add_capsule_flags)}
    no_floor = names.pop("no_floor")
    given = {name: flags.pop(name) for name in defaults_of(add_act_flags)}
    given["plus_one"] = not given.pop("no_plus_one")
    given["threshold"] = given.pop("act_threshold")
    given["strict"] = given.pop("strict_iou")
    for flag, name in (("act_threshold", "threshold"), ("nms", "nms")):
        if not 0 < given[name] <= 1:
            parser.error(
                f"--{flag.replace('_', '-')} must lie above 0 and up to 1, not {given[name]}"
            )
    if not 0 <= given["min_area"] < 1:
        parser.error(
            f"--min-area is a share of the map, from 0 to below 1, not {given['min_area']}"
        )
    return EvaluationSettings(
        capsule=CapsuleSettings(**names, floor=not no_floor),
        act=DetectionSettings(**given),
        **flags,
    )


def _add_what_flags(add):
    """Which weights are scored, by what, and what is drawn."""
    add("--weights", help="detector.pt to score instead of the cycle's")
    add(
        "--protocol",
        choices=("capsule", "act", "both"),
        default="both",
        help="what is scored: masks by hit rates (capsule, the paper's), boxes and "
        "tubes by average precision (act, the detection field's), or both",
    )
    add(
        "--visualize",
        type=whole_number,
        metavar="N",
        help="draw the N best, median and worst videos; 0: charts alone",
    )
    add(
        "--crop",
        choices=crops(),
        help="part of the frame that the capsule protocol scores; a network trained on a crop "
        "sees it alone (default: as trained; trained on whole frames: the published crop of "
        "its data set)",
    )
    add("--limit", type=int, help="score only this many test videos, evenly spread (a preview)")


def _add_truth_flags(add):
    """What is scored against."""
    add("--ground-truth", help=truth_words())
    hidden(add, "--oracle", dest="ground_truth")  # its former name
    add(
        "--labels",
        metavar="PKL",
        help="instead of --ground-truth: annotation file of test videos of your own; their "
        "labeled frames are scored, by the capsule protocol",
    )
    add_split_flags(add)


def add_capsule_flags(add):
    """The switches of the capsule protocol, by a parser's `add_argument`."""
    add(
        "--gt",
        choices=capsule.GT_MODES,
        default="union",
        help="which actors make up the truth of a frame",
    )
    add(
        "--absent-class",
        choices=capsule.ABSENT_CLASS,
        default="skip",
        help="classes without test videos",
    )
    add(
        "--count-empty-frames",
        action="store_true",
        help="count frames without ground truth of the kept clips too",
    )
    add(
        "--class-from",
        choices=capsule.CLASS_FROM,
        default="kept_clips",
        help="clips that decide a video's class: those with ground truth (published), or all",
    )
    add("--no-floor", action="store_true", help="leave out the no-model floor")


def add_act_flags(add):
    """The switches of the act protocol, by a parser's `add_argument`."""
    add(
        "--act-threshold",
        type=float,
        default=0.5,
        help="foreground probability from which a pixel belongs to a box",
    )
    add(
        "--min-area",
        type=float,
        default=masks.MIN_AREA,
        help="share of the map below which a region is dropped (default: %(default)s)",
    )
    add(
        "--connectivity",
        type=int,
        choices=(4, 8),
        default=8,
        help="neighbors of a pixel (default: 8)",
    )
    add(
        "--class-scores",
        choices=CLASS_SCORES,
        default="clip",
        help="a box's class scores: those of its clip, or the mean over the video's clips",
    )
    add(
        "--link",
        choices=linking.RULES,
        default="gaps",
        help="how boxes become tubes (default: gaps, IoU at least .5 and gaps of up to 5 "
        "frames; tubelet: the rule of the ACT detector)",
    )
    add(
        "--nms",
        type=float,
        default=0.3,
        help="tubes that overlap a better one by more are dropped; 1 keeps all",
    )
    add(
        "--strict-iou",
        action="store_true",
        help="a hit needs an IoU strictly above the threshold",
    )
    add(
        "--voc-matching",
        action="store_true",
        help="a detection may match only the ground truth it overlaps most; if that is taken, "
        "it is a false positive",
    )
    add(
        "--envelope",
        action="store_true",
        help="AP under the precision envelope (VOC) instead of the trapezoid",
    )
    add(
        "--all-classes",
        action="store_true",
        help="classes without ground truth count as 0 in the means",
    )
    add("--no-plus-one", action="store_true", help="a box's width is x1 - x0, not x1 - x0 + 1")


PROTOCOLS = {"capsule": add_capsule_flags, "act": add_act_flags}


def defaults_of(add_group) -> dict:
    """{flag: default} of the flags that a function gives to a parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add_group(parser.add_argument)
    return vars(parser.parse_args([]))


def _check_truth(args, act_flags, parser):
    """Stop unless there is one truth; of sparse labels, at what needs dense ones."""
    if bool(args.ground_truth) == bool(args.labels):
        parser.error(
            "give --ground-truth, the annotations of a data set, or --labels, an "
            "annotation file of your own"
        )
    if not args.labels:
        return
    if args.test_list or args.split:
        parser.error("--labels are of test videos alone; leave out --test-list and --split")
    given = [flag for flag in act_flags if getattr(args, flag) is not None]
    if given and args.protocol != "act":
        parser.error(
            f"--{given[0].replace('_', '-')} is of the act protocol; beside --labels give "
            f"--protocol act with it"
        )
    of_tubes = [flag for flag in given if flag in TUBE_FLAGS]
    if of_tubes:
        parser.error(
            f"--{of_tubes[0].replace('_', '-')} is of video-mAP, which needs whole tubes; "
            f"--labels are of single frames, which give frame-mAP alone"
        )
    if args.count_empty_frames:
        parser.error(
            "--count-empty-frames counts frames without labels as empty; --labels says "
            "nothing of these"
        )
    args.protocol = "act" if args.protocol == "act" else "capsule"


def _check_protocol(args, defaults, parser):
    """Stop at flags of a protocol that is not scored; fill in the defaults of those not
    given, which are None.
    """
    drawn = DRAWN if args.visualize is not None else ()
    for protocol, flags in defaults.items():
        given = [flag for flag in flags if getattr(args, flag) is not None]
        idle = [flag for flag in given if flag not in drawn]
        if idle and args.protocol not in (protocol, "both"):
            parser.error(
                f"--{idle[0].replace('_', '-')} has no effect in --protocol "
                f"{args.protocol}; leave it out, or give --protocol both"
            )
        for flag, default in flags.items():
            if getattr(args, flag) is None:
                setattr(args, flag, default)
