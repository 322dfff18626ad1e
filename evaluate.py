"""Step 4: weights -> scores on the test split by the protocols `capsule`, with the no-model
floor beside it, and `act`.

    python evaluate.py --run my_run --cycle 0 --oracle pyannot.pkl --test-list testlist01.txt
    python evaluate.py --run my_run --cycle 0 --dataset jhmdb --oracle Datasets/JHMDB --visualize 3
    python evaluate.py --run mine --cycle 0 --data my_test_videos --labels files/test_set/cycle0/annotations.pkl

The last form takes test videos of your own, of which people have labeled some frames
(claus_select.py --cycle 0 asks for random ones): the capsule protocol on these frames
alone.

Reads   files/my_run/cycle0/detector.pt, the ground truth, the test videos below --data
Writes  files/my_run/cycle0/evaluation.json: every number with its protocol and switches
        files/my_run/cycle0/pictures/         with --visualize: overlay videos, contact
                                              sheets, charts of the classes
Expect  a table on screen for each protocol; numbers of one are not comparable with those of
        the other. In `capsule` the mask decides a hit, not the class: so accuracy and
        class-aware scores stand beside. Each video is kept as it is finished
        (cycle0/evaluate.parts/): an interrupted run goes on where it was.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from claus.artifacts import checkpoint
from claus.artifacts.handoffs import cycle_dir, fingerprint, parts_dir, save_part
from claus.datasets import table as which
from claus.datasets.clips.geometry import GEOMETRY, normalize
from claus.datasets.clips.tiles import VideoTiles, tile_loader
from claus.datasets.labels.pseudo_labels import pseudo_masks
from claus.datasets.truth import (
    check_classes,
    no_model_floor,
    read_truth,
    truth_masks,
    truth_of,
)
from claus.datasets.video.reader import read_blocks
from claus.engine import autocast, device_name
from claus.metrics import capsule
from claus.metrics import detections as act_scoring
from claus.metrics.boxes import Boxes
from claus.metrics.tables import act_table, capsule_table
from claus.utils.runtime import (
    HelpFormatter,
    UserError,
    check_alone,
    check_writable,
    run_script,
    whole_number,
    write_text,
)

OVERLAP = (
    "intersection_F",
    "union_F",
    "gt_F",
    "clip_scores",
)  # arrays of a capsule.VideoOverlap
BOXES = ("frame", "label", "box", "score")  # arrays of act_boxes.Boxes, but for the video
DRAWN = (
    "gt",
    "count_empty_frames",
    "class_from",
)  # flags of the capsule protocol that shape the pictures too
SHAPING = (
    "protocol",
    "gt",
    "act_threshold",
    "min_area",
    "connectivity",
    "class_scores",
)  # flags a video's arrays see


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    which.add_flags(add)
    which.add_truth_flags(add, required=False)
    add(
        "--labels",
        metavar="PKL",
        help="instead of --oracle: annotation file of test videos of your own; their "
        "labeled frames are scored, by the capsule protocol",
    )
    add("--weights", help="detector.pt to score instead of the cycle's")
    add(
        "--protocol",
        choices=("capsule", "act", "both"),
        default="both",
        help="what is scored: masks by rates of hits "
        "(capsule, the paper's), boxes and tubes by average precision (act, the "
        "detection field's), or both",
    )
    add(
        "--visualize",
        type=whole_number,
        metavar="N",
        help="draw the N best, median and worst videos; 0: charts alone",
    )
    add(
        "--crop",
        choices=which.MODULES["ucf101"].CROPS,
        help="ucf101: part of the frame that is seen and scored (default: as trained)",
    )
    for name, add_group in PROTOCOLS.items():
        add_group(parser.add_argument_group(f"{name} protocol").add_argument)
    add(
        "--limit", type=int, help="score only so many test videos, evenly spread (a quick look)"
    )
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    add("--force", action="store_true", help="evaluate again although evaluation.json is there")
    add(
        "--device",
        type=device_name,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cuda, cuda:1, cpu",
    )
    add(
        "--workers",
        type=whole_number,
        help="processes that decode videos (default: 8, on a CPU 0)",
    )
    defaults = {name: defaults_of(add_group) for name, add_group in PROTOCOLS.items()}
    not_given = argparse.Namespace(
        **{flag: None for flags in defaults.values() for flag in flags}
    )
    args = parser.parse_args(argv, not_given)
    check_truth(args, defaults["act"], parser)
    check_protocol(args, defaults, parser)
    which.check_flags(args, parser, needs_list=not args.labels)
    act_scoring.check_flags(args, parser)
    if args.crop and args.crop not in which.MODULES[args.dataset].CROPS:
        parser.error(f"--crop is for ucf101; {args.dataset} has one crop")
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit must be at least 1, not {args.limit}")
    return args


def check_truth(args, act_flags, parser):
    """Stop unless there is one truth; of sparse labels, at what needs dense ones."""
    if bool(args.oracle) == bool(args.labels):
        parser.error(
            "give --oracle, the ground truth of a data set, or --labels, an annotation "
            "file of your own"
        )
    if not args.labels:
        return
    if args.test_list or args.split:
        parser.error("--labels are of test videos alone; leave out --test-list and --split")
    if args.protocol == "act":
        parser.error("--protocol act needs every frame labeled; --labels are scored by capsule")
    idle = [
        f"--{flag.replace('_', '-')}" for flag in act_flags if getattr(args, flag) is not None
    ]
    if idle:
        parser.error(
            f"{idle[0]} is of the act protocol, which needs every frame labeled; it "
            f"plays no part beside "
            "--labels"
        )
    if args.count_empty_frames:
        parser.error(
            "--count-empty-frames counts frames without labels as empty; --labels says "
            "nothing of these"
        )
    args.protocol = "capsule"


def capsule_flags(add):
    """The switches of the protocol, by a parser's `add_argument`."""
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


PROTOCOLS = {"capsule": capsule_flags, "act": act_scoring.add_flags}


def defaults_of(add_group):
    """{flag: default} of the flags that a function gives to a parser."""
    parser = argparse.ArgumentParser(add_help=False)
    add_group(parser.add_argument)
    return vars(parser.parse_args([]))


def check_protocol(args, defaults, parser):
    """Stop at flags of a protocol that is not scored; fill in the defaults of those not
    given, which are None.
    """
    for protocol, flags in defaults.items():
        drawn = DRAWN if args.visualize is not None else ()
        idle = [flag for flag in flags if getattr(args, flag) is not None and flag not in drawn]
        if idle and args.protocol not in (protocol, "both"):
            parser.error(
                f"--{idle[0].replace('_', '-')} plays no part in --protocol "
                f"{args.protocol}; leave it out, or "
                "give --protocol both"
            )
        for flag, default in flags.items():
            if getattr(args, flag) is None:
                setattr(args, flag, default)


def main(argv=None):
    args = parse_args(argv)
    check_alone("evaluate.py")
    folder = cycle_dir(args.run, args.cycle, args.files)
    if args.labels and not Path(args.labels).is_file():
        raise UserError(
            f"--labels {args.labels}: no such file; claus_select.py writes it when "
            f"answers are taken in"
        )
    finished = not args.force and evaluated_already(
        folder / "evaluation.json", args.weights or folder / "detector.pt", args.labels
    )
    if finished and (args.visualize is None or (folder / "pictures").exists()):
        print_tables(json.loads((folder / "evaluation.json").read_text(encoding="utf-8")))
        print(f"{folder / 'evaluation.json'} is there already; --force evaluates again")
        return 0
    trained = checkpoint.load(args.weights or folder / "detector.pt", args.device)
    which.check_same(args.dataset, trained.dataset, args.weights or folder / "detector.pt")
    truth = read_truth(args, folder)
    check_classes(trained, truth, args)
    check_writable(folder)
    geometry = (
        trained.geometry
        if args.crop is None
        else next(
            g
            for (_, crop), g in GEOMETRY.items()
            if crop == args.crop and g.size == trained.geometry.size
        )
    )
    switches = capsule.Switches(
        f"{geometry.crop[0]}x{geometry.crop[1]} of {geometry.frame[0]}x{geometry.frame[1]}",
        args.gt,
        args.absent_class,
        args.count_empty_frames,
        args.class_from,
    )
    videos = list(truth.videos.values())
    if args.limit:
        videos = [
            videos[i]
            for i in np.linspace(0, len(videos) - 1, min(args.limit, len(videos))).astype(int)
        ]
    given = args.labels or args.oracle
    parts = check_writable(
        parts_dir(
            folder / "evaluate.parts",
            [
                trained.source,
                fingerprint(given) if Path(given).is_file() else given,
                geometry.to_dict(),
                [(video.name, video.frames) for video in videos],
                {name: getattr(args, name) for name in SHAPING},
            ],
        )
    )
    scored = score_videos(trained, videos, geometry, parts, args)
    report = {"capsule": None, "act": None, "floor": None}
    if args.protocol != "act":
        report["capsule"] = capsule.evaluate(scored.overlaps, truth.classes, switches).to_dict()
        if not args.no_floor:
            report["floor"] = no_model_floor(
                args, folder, truth.classes, scored.videos, geometry, switches
            )
    if args.protocol != "capsule":
        report["act"] = act_scoring.report(
            scored.videos, scored.boxes, truth.classes, switches.crop, args
        )
    print_tables(report)
    if args.visualize is not None:
        draw_pictures(trained, scored, report, truth.classes, geometry, switches, args, folder)
    report |= {
        "failed": scored.failed,
        "source": trained.source,
        "dataset": truth.dataset,
        "run": str(args.run),
        "cycle": args.cycle,
        "test_videos": len(videos),
        "labels": args.labels and fingerprint(args.labels),
        "labels_path": args.labels,
    }
    if not finished:  # else only the pictures were wanting; flags may differ this time
        write_text(folder / "evaluation.json", json.dumps(report, indent=1) + "\n")
    shutil.rmtree(folder / "evaluate.parts")
    print(
        f"{folder / 'evaluation.json'} stays as it was"
        if finished
        else f"wrote {folder / 'evaluation.json'}"
    )
    return 0


def print_tables(report):
    """The tables of an evaluation.json, each protocol's by itself."""
    if report.get("capsule"):
        print(capsule_table(report["capsule"], report.get("floor")))
    if report.get("act"):
        print(act_table(report["act"]["frame"], report["act"]["video"]))


def evaluated_already(path, weights, labels=None):
    """Whether evaluation.json is there, whole, and of these weights (and --labels, if any)
    as they are now.
    """
    if not path.exists():
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        source, scored_on = content["source"], content.get("labels")
    except (OSError, ValueError, KeyError, TypeError):
        source = scored_on = None
    if (labels and fingerprint(labels)) != scored_on:
        print(
            f"{path} was scored on other labels than {labels or 'the ground truth'}: "
            f"evaluating again"
        )
        return False
    if Path(weights).is_file() and source != fingerprint(weights):
        print(f"{path} is of other weights than {weights} now: evaluating again")
        return False
    return True


@dataclass(eq=False)
class Scored:
    """The videos that could be read, with a capsule.VideoOverlap and (protocol act) Boxes
    for each; {name: reason}.
    """

    videos: list = field(default_factory=list)
    overlaps: list = field(default_factory=list)
    boxes: list = field(default_factory=list)
    failed: dict = field(default_factory=dict)


def score_videos(trained, videos, geometry, parts, args):
    """Run the detector over the videos -> Scored. Each is kept in the folder `parts` as it
    is finished.
    """
    places = {video.name: place for place, video in enumerate(videos)}
    workers = (
        args.workers if args.workers is not None else 8 if args.device.startswith("cuda") else 0
    )
    todo = [
        video for place, video in enumerate(videos) if not (parts / f"{place}.npz").exists()
    ]
    tiles = VideoTiles(
        todo, which.video_finder(args.dataset, args.data), geometry, phases=2, fill="black"
    )
    scored = Scored()
    for item in tqdm(
        tile_loader(tiles, workers), desc="evaluate", unit="video", leave=False, disable=None
    ):
        if "failed" in item:
            if args.strict:
                raise UserError(item["failed"])
            scored.failed[item["name"]] = item["failed"]
            continue
        place = places[item["name"]]
        save_part(
            parts / f"{place}.npz", score_video(trained, videos[place], item, geometry, args)
        )
    for place, video in enumerate(videos):
        if video.name not in scored.failed:
            with np.load(parts / f"{place}.npz") as part:
                scored.overlaps.append(
                    capsule.VideoOverlap(video.name, video.label, *(part[k] for k in OVERLAP))
                )
                if args.protocol != "capsule":
                    where = np.full(len(part["score"]), len(scored.videos))
                    scored.boxes.append(Boxes(where, *(part[k] for k in BOXES)))
            scored.videos.append(video)
    if not scored.videos:
        raise UserError(
            f"none of the {len(videos)} test videos can be read: "
            f"{next(iter(scored.failed.values()), '')}"
        )
    if scored.failed:
        print(
            f"{len(scored.failed)} of {len(videos)} test videos were set aside and are "
            f"not in the numbers:"
        )
        print("\n".join(f"  {reason}" for reason in scored.failed.values()))
    return scored


def score_video(trained, video, item, geometry, args):
    """What the protocols need of one video, as arrays: see OVERLAP and, but for --protocol
    capsule, BOXES.
    """
    prediction = predict(trained, item)
    if not (
        prediction.logits_N_T_S_S.isfinite().all() and np.isfinite(prediction.scores_N_C).all()
    ):
        raise UserError(
            f"{args.weights or 'detector.pt'} gives numbers that are not finite for "
            f"{video.name}; its "
            "training diverged, train again with a lower --lr"
        )
    overlap = overlap_of(
        video, item, prediction, truth_masks(truth_of(video, geometry, args.gt))
    )
    result = {name: getattr(overlap, name) for name in OVERLAP}
    if args.protocol != "capsule":
        boxes = act_scoring.boxes_of(0, video, prediction, geometry, args)
        result |= {name: getattr(boxes, name) for name in BOXES}
    return result


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the detector says of the N clips of a video: frames (N,T), -1 = black; logits
    (N,T,S,S); scores (N,C).
    """

    frames_N_T: np.ndarray
    logits_N_T_S_S: torch.Tensor
    scores_N_C: np.ndarray


@torch.no_grad()
def predict(trained, item, batch=8):
    """Prediction for the clips of a video (see VideoTiles)."""
    device = next(trained.detector.parameters()).device
    logits, scores = [], []
    for clips in item["clips"].split(batch):
        with autocast(device):
            detection = trained.detector(normalize(clips.to(device), trained.pixel_range))
        logits.append(detection.logits[:, 0].float().cpu())
        scores.append(detection.scores.float().cpu())
    return Prediction(item["frames"], torch.cat(logits), torch.cat(scores).numpy())


def overlap_of(video, item, prediction, truth_F_S_S):
    """Pixel counts and class scores of one video."""
    overlap = capsule.VideoOverlap.empty(
        video.name, video.label, video.frames, prediction.scores_N_C.shape[1]
    )
    for clip, frames in enumerate(prediction.frames_N_T):
        truth = truth_F_S_S[frames] & (frames >= 0)[:, None, None]
        overlap.add_clip(
            2 * item["tile"][clip] + item["phase"][clip],
            frames,
            capsule.foreground(prediction.logits_N_T_S_S[clip]),
            truth,
            prediction.scores_N_C[clip],
        )
    return overlap


# --------------------------------------------------------------------------------- pictures


def draw_pictures(trained, scored, report, classes, geometry, switches, args, folder):
    """Charts of the classes, and --visualize N of the best, median and worst videos, into
    `folder`/pictures.
    """
    from claus.utils import overlays as visualize

    place = check_writable(folder / "pictures")
    kept = [overlap for overlap in scored.overlaps if overlap.gt_F.any()]
    charts = charts_of(kept, report, classes, switches)
    with SummaryWriter(folder / "tensorboard") as writer:
        for name, picture in charts.items():
            visualize.write_png(place / f"{name}.png", picture)
            writer.add_image(f"evaluation/{name}", picture, args.cycle, dataformats="HWC")
    iou_V = [
        overlap.intersection_F[counted].sum() / max(overlap.union_F[counted].sum(), 1)
        if overlap.gt_F.any()
        else np.nan
        for overlap in scored.overlaps
        for counted in [overlap.counted_frames(switches)]
    ]
    find_video = which.video_finder(args.dataset, args.data)
    for tag, index in visualize.pick_examples(iou_V, args.visualize):
        video, overlap = scored.videos[index], scored.overlaps[index]
        item = VideoTiles([video], find_video, geometry, phases=2, fill="black")[0]
        if "failed" in item:
            raise UserError(item["failed"])
        example = example_of(
            video, overlap, predict(trained, item), iou_V[index], classes, geometry, switches
        )
        blocks = (
            (start, block, pseudo_masks(video, np.arange(start, start + len(block))))
            for start, block in read_blocks(find_video(video.name), video.frames, 16)
        )
        visualize.draw_example(place / f"{tag}_{video.name.replace('/', '_')}", example, blocks)
    print(f"drew {place}")


def charts_of(overlaps, report, classes, switches):
    """name -> picture: confusion matrix, and bars of every class, a chart for each protocol."""
    from claus.utils import overlays as visualize

    result, lowest, act = report["capsule"], report["floor"], report["act"]
    where = f"crop {switches.crop}, class from {switches.class_from}"
    charts = {
        "confusion": visualize.confusion_chart(
            [overlap.label for overlap in overlaps],
            [overlap.predicted_class(switches) for overlap in overlaps],
            classes,
            f"predicted classes of {len(overlaps)} test videos\n{where}",
        )
    }

    def rates(result, key, threshold):
        at = result["thresholds"].index(threshold)
        return [None if row[key] is None else row[key][at] for row in result["per_class"]]

    if result:
        settings = ", ".join(f"{name} {value}" for name, value in result["switches"].items())
        charts["classes_capsule"] = visualize.class_chart(
            classes,
            [
                ("f-AP@.5", rates(result, "f_ap", 0.5)),
                ("v-AP@.5", rates(result, "v_ap", 0.5)),
                (
                    "accuracy",
                    [
                        row["correct"] / row["videos"] if row["videos"] else None
                        for row in result["per_class"]
                    ],
                ),
            ],
            f"capsule protocol, class-agnostic masks\n{settings}",
            []
            if lowest is None
            else [
                ("no-model floor f@.5", rates(lowest, "f_ap", 0.5)),
                ("no-model floor v@.5", rates(lowest, "v_ap", 0.5)),
            ],
        )
    if act:
        made_by = act["video"]["switches"]["made_by"]
        chosen = {**act["video"]["switches"], **made_by, "link": made_by["link"]["rule"]}
        settings = ", ".join(
            f"{name} {value}" for name, value in chosen.items() if name != "made_by"
        )
        charts["classes_act"] = visualize.class_chart(
            classes,
            [
                ("frame-AP@.5", rates(act["frame"], "ap", 0.5)),
                ("video-AP@.2", rates(act["video"], "ap", 0.2)),
                ("video-AP@.5", rates(act["video"], "ap", 0.5)),
            ],
            f"act protocol, boxes and tubes\n{settings}",
        )
    return charts


def example_of(video, overlap, prediction, video_iou, classes, geometry, switches):
    """visualize.Example of a scored video."""
    from claus.utils.overlays import Example

    counted = overlap.counted_frames(switches)
    iou_F = np.where(counted, overlap.intersection_F / np.maximum(overlap.union_F, 1), np.nan)
    probs_F_S_S = np.zeros((video.frames, geometry.size, geometry.size), np.float16)
    for frames_T, logits in zip(prediction.frames_N_T, prediction.logits_N_T_S_S, strict=True):
        probs_F_S_S[frames_T[frames_T >= 0]] = torch.sigmoid(logits[frames_T >= 0]).numpy()
    predicted = overlap.predicted_class(switches)
    score = float(np.nanmean(overlap.clip_scores[:, predicted]))
    return Example(
        video.name,
        classes[video.label],
        classes[predicted],
        score,
        video_iou,
        iou_F,
        probs_F_S_S,
        geometry,
    )


if __name__ == "__main__":
    run_script(main)
