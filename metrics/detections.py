"""From a detector's maps of the test videos to the numbers of the `act` protocol: its
flags, boxes, tubes, results.
"""

from dataclasses import asdict

import numpy as np
import torch

from claus.metrics import act
from claus.metrics import linking as act_links
from claus.metrics import masks as act_masks
from claus.metrics.boxes import Boxes

CLASS_SCORES = ("clip", "video")


def add_flags(add):
    """The switches of the protocol, by a parser's `add_argument`."""
    add(
        "--act-threshold",
        type=float,
        default=0.5,
        help="foreground probability from which a pixel belongs to a box",
    )
    add(
        "--min-area",
        type=float,
        default=act_masks.MIN_AREA,
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
        choices=act_links.RULES,
        default="gaps",
        help="how boxes become tubes (default: gaps, IoU at least "
        ".5 and gaps of up to 5 frames; tubelet: the rule of the ACT detector)",
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
        help="a hit needs an IoU above the threshold, not at least",
    )
    add(
        "--voc-matching",
        action="store_true",
        help="a detection looks at the nearest ground truth only, taken or not",
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


def check_flags(args, parser):
    """Stop at values that make no sense."""
    for name, most in (("act_threshold", 1), ("nms", 1)):
        if not 0 < getattr(args, name) <= most:
            parser.error(
                f"--{name.replace('_', '-')} must lie above 0 and up to {most}, not "
                f"{getattr(args, name)}"
            )
    if not 0 <= args.min_area < 1:
        parser.error(
            f"--min-area is a share of the map, from 0 to below 1, not {args.min_area}"
        )


def boxes_of(number, video, prediction, geometry, args):
    """Scored boxes of one video, numbered `number`, from its clips' maps (a Prediction of
    evaluate.py).
    """
    scores_N_C = np.asarray(prediction.scores_N_C, np.float64)
    if args.class_scores == "video":
        scores_N_C = np.broadcast_to(scores_N_C.mean(axis=0), scores_N_C.shape)
    how = {
        "threshold": args.act_threshold,
        "min_area": args.min_area,
        "connectivity": args.connectivity,
    }
    return Boxes.concat(
        [
            act_masks.scored_boxes(
                number,
                frames_T,
                torch.sigmoid(logits).numpy(),
                scores_C,
                geometry,
                video.height,
                video.width,
                **how,
            )
            for frames_T, logits, scores_C in zip(
                prediction.frames_N_T, prediction.logits_N_T_S_S, scores_N_C, strict=True
            )
        ],
        scored=True,
    )


def report(videos, boxes, classes, crop, args):
    """{"frame", "video"}: both results as dicts. videos: those of the boxes' numbers;
    boxes: a list of Boxes.
    """
    found = Boxes.concat(boxes, scored=True)
    truth_boxes, truth_tubes = act_masks.truth(videos)
    switches = {
        "plus_one": not args.no_plus_one,
        "strict": args.strict_iou,
        "voc_matching": args.voc_matching,
        "envelope": args.envelope,
        "all_classes": args.all_classes,
    }
    made_by = {
        "crop": crop,
        "threshold": args.act_threshold,
        "min_area": args.min_area,
        "connectivity": args.connectivity,
        "class_scores": args.class_scores,
    }
    tubes = act_links.link(found, args.link, plus_one=not args.no_plus_one)
    rule = {"rule": args.link, **asdict(act_links.RULES[args.link])}
    return {
        "frame": act.frame_ap(
            truth_boxes, found, classes, **switches, made_by=made_by
        ).to_dict(),
        "video": act.video_ap(
            truth_tubes,
            tubes,
            classes,
            nms=None if args.nms == 1 else args.nms,
            **switches,
            made_by={**made_by, "link": rule},
        ).to_dict(),
    }
