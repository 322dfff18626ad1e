"""Flags of detect.py -> DetectSettings, and of export.py -> ExportSettings."""

import argparse
from dataclasses import dataclass

from claus.detection.formats import FORMATS
from claus.detection.tubes import TubeSettings
from claus.flags.common import (
    add_precision_flags,
    check_positive,
    default_device,
    device_name,
    new_parser,
    whole_number,
)
from claus.utils.precision import Precision


@dataclass(frozen=True)
class DetectSettings:
    """What steps.detect does. formats: of detection.formats.FORMATS, beside the JSON that
    is always written.
    """

    videos: tuple[str, ...]
    weights: str | None
    out: str
    formats: tuple[str, ...]
    overlay: bool
    tubes: TubeSettings
    strict: bool
    force: bool
    device: str
    precision: Precision = Precision()


@dataclass(frozen=True)
class ExportSettings:
    """What steps.export does: which detector becomes which files, None where not asked for.

    videos: whose clips it is checked on; none: made ones.
    """

    weights: str | None
    onnx: str | None
    pt2: str | None
    videos: tuple[str, ...]


def parse(argv: list[str] | None = None, description: str | None = None) -> DetectSettings:
    """Command line -> settings; description: what --help begins with."""
    parser = new_parser(description)
    add = parser.add_argument_group("videos and results").add_argument
    add("videos", nargs="+", metavar="VIDEO", help="files, folders of them, or patterns")
    _add_weights_flag(add)
    add("--out", default="detections", help="folder of the results")
    add(
        "--format",
        type=_formats,
        default=("csv",),
        metavar="NAME,...",
        help=f"beside the JSON, which is always written: {', '.join(FORMATS)}, or json for "
        "it alone (default: csv)",
    )
    add("--overlay", action="store_true", help="write the video with its tubes drawn over it")
    add("--masks", action="store_true", help="masks as well as boxes")
    add = parser.add_argument_group("detection").add_argument
    defaults = TubeSettings()
    add(
        "--crop",
        action="store_true",
        help="see the center crop alone, as evaluate.py does, and not the whole frame",
    )
    add(
        "--threshold",
        type=float,
        default=defaults.threshold,
        help="foreground probability from which a pixel belongs to a region",
    )
    add(
        "--min-area",
        type=float,
        default=defaults.min_area,
        help="share of the picture below which a region is dropped",
    )
    add(
        "--link-iou",
        type=float,
        default=defaults.min_iou,
        help="least overlap of a tube's next box with its last one",
    )
    add(
        "--max-gap",
        type=whole_number,
        default=defaults.max_gap,
        help="frames in a row that a tube may miss; they are filled in",
    )
    add(
        "--min-score",
        type=float,
        default=defaults.min_score,
        help="tubes with a lower score are dropped",
    )
    add(
        "--min-length",
        type=whole_number,
        default=defaults.min_length,
        help="tubes of fewer frames are dropped",
    )
    add = parser.add_argument_group("hardware and resuming").add_argument
    add("--device", type=device_name, default=default_device(), help="cuda, cuda:1, cpu")
    add_precision_flags(add, True, "The mask logits are float32 in any case")
    add("--force", action="store_true", help="detect again where the results are there")
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    args = parser.parse_args(argv)
    for name, flag in (("threshold", "threshold"), ("link_iou", "link-iou")):
        if not 0 < getattr(args, name) <= 1:
            parser.error(f"--{flag} must lie above 0 and up to 1, not {getattr(args, name)}")
    for name, flag in (("min_area", "min-area"), ("min_score", "min-score")):
        if not 0 <= getattr(args, name) < 1:
            parser.error(f"--{flag} must lie from 0 to below 1, not {getattr(args, name)}")
    check_positive(args, parser, ["min_length"])
    tubes = TubeSettings(
        threshold=args.threshold,
        min_area=args.min_area,
        min_iou=args.link_iou,
        max_gap=args.max_gap,
        min_score=args.min_score,
        min_length=args.min_length,
        masks=args.masks,
        whole=not args.crop,
    )
    return DetectSettings(
        tuple(args.videos),
        args.weights,
        args.out,
        args.format,
        args.overlay,
        tubes,
        args.strict,
        args.force,
        args.device,
        Precision.of(args),
    )


def parse_export(
    argv: list[str] | None = None, description: str | None = None
) -> ExportSettings:
    """Command line of export.py -> settings."""
    parser = new_parser(description)
    add = parser.add_argument
    _add_weights_flag(add)
    add("--onnx", metavar="FILE", help="write an ONNX file (pip install 'claus[onnx]')")
    add("--pt2", metavar="FILE", help="write a file of torch.export")
    add(
        "--check",
        nargs="+",
        default=(),
        metavar="VIDEO",
        help="videos whose clips the file is compared on (default: made ones)",
    )
    args = parser.parse_args(argv)
    if not (args.onnx or args.pt2):
        parser.error("give --onnx FILE, --pt2 FILE, or both")
    return ExportSettings(args.weights, args.onnx, args.pt2, tuple(args.check))


def _add_weights_flag(add):
    add(
        "--weights",
        help="detector.pt, or a run, whose last cycle is taken (default: the detector that "
        "comes with the program, 21 everyday actions of J-HMDB)",
    )


def _formats(text):
    """argparse type of --format: "csv,coco" -> ("csv", "coco"); json is written anyhow."""
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in FORMATS and name != "json"]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r} is no format; there are json, {', '.join(FORMATS)}"
        )
    return tuple(dict.fromkeys(name for name in names if name != "json"))
