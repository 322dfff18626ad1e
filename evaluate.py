"""Step 4: weights -> f-mAP and v-mAP on the test split (the `capsule` protocol), with the no-model floor beside them.

    python evaluate.py --run my_run --cycle 0 --oracle pyannot.pkl --test-list testlist01.txt

Reads   files/my_run/cycle0/detector.pt, the ground truth, the test videos below --data
Writes  files/my_run/cycle0/evaluation.json: every number with its protocol and switches
Expect  a table on screen. The mask decides a hit, not the class: so accuracy and class-aware scores stand beside.
"""

import utils.cpu  # noqa: F401  before torch

# isort: split
import argparse
import functools
import json
import zlib

import numpy as np
import torch
from tqdm import tqdm

from datasets import ucf101
from datasets.clips import GEOMETRY, normalise
from datasets.tiles import VideoTiles, tile_loader
from engine import autocast
from utils import checkpoint
from utils.handoffs import cycle_dir
from utils.metrics import capsule, floor
from utils.metrics.tables import capsule_table
from utils.runtime import UserError, check_writable, run_script, whole_number, write_text


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    add("--data", default="Datasets/UCF101", help="folder with the videos, as the download unpacks")
    add("--oracle", required=True, help="ground truth of all videos (pyannot.pkl)")
    add("--test-list", required=True, help="text file naming the test videos (testlist01.txt)")
    add("--weights", help="detector.pt to score instead of the cycle's")
    add("--crop", choices=("wide", "square"), help="part of the frame that is seen and scored (default: as trained)")
    add("--gt", choices=capsule.GT_MODES, default="union", help="which actors make up the truth of a frame")
    add("--absent-class", choices=capsule.ABSENT_CLASS, default="skip", help="classes without test videos")
    add("--count-empty-frames", action="store_true", help="count frames without ground truth of the kept clips too")
    add("--class-from", choices=capsule.CLASS_FROM, default="kept_clips",
        help="clips that decide a video's class: those with ground truth (published), or all")
    add("--no-floor", action="store_true", help="leave out the no-model floor")
    add("--limit", type=int, help="score only so many test videos, evenly spread (a quick look)")
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    add("--force", action="store_true", help="evaluate again although evaluation.json is there")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda, cuda:1, cpu")
    add("--workers", type=int, help="processes that decode videos (default: 8, on a CPU 0)")
    args = parser.parse_args(argv)
    if args.limit is not None and args.limit < 1:
        parser.error(f"--limit must be at least 1, not {args.limit}")
    return args


def main(argv=None):
    args = parse_args(argv)
    folder = cycle_dir(args.run, args.cycle, args.files)
    if (folder / "evaluation.json").exists() and not args.force:
        print(f"{folder / 'evaluation.json'} is there already; --force evaluates again")
        return 0
    trained = checkpoint.load(args.weights or folder / "detector.pt", args.device)
    truth = ucf101.read_ground_truth(args.oracle, args.test_list, "test")
    check_classes(trained, truth, args)
    check_writable(folder)
    geometry = trained.geometry if args.crop is None else next(
        g for (_, crop), g in GEOMETRY.items() if crop == args.crop and g.size == trained.geometry.size)
    switches = capsule.Switches(f"{geometry.crop[0]}x{geometry.crop[1]} of {geometry.frame[0]}x{geometry.frame[1]}",
                                args.gt, args.absent_class, args.count_empty_frames, args.class_from)
    videos = list(truth.videos.values())
    if args.limit:
        videos = [videos[i] for i in np.linspace(0, len(videos) - 1, min(args.limit, len(videos))).astype(int)]
    overlaps, failed = score_videos(trained, videos, geometry, args)
    result = capsule.evaluate(overlaps, truth.classes, switches).to_dict()
    lowest = None if args.no_floor else no_model_floor(args, truth.classes, videos, failed, geometry, switches)
    print(capsule_table(result, lowest))
    report = {"capsule": result, "floor": lowest, "failed": failed, "source": trained.source, "dataset": truth.dataset,
              "run": str(args.run), "cycle": args.cycle, "test_videos": len(videos)}
    write_text(folder / "evaluation.json", json.dumps(report, indent=1) + "\n")
    print(f"wrote {folder / 'evaluation.json'}")
    return 0


def check_classes(trained, truth, args):
    if tuple(trained.classes) != tuple(truth.classes):
        raise UserError(f"{args.oracle} has {len(truth.classes)} classes ({truth.classes[0]} …), the detector was "
                        f"trained for {len(trained.classes)} ({trained.classes[0]} …); give the ground truth of the "
                        "data set it was trained on")


def score_videos(trained, videos, geometry, args):
    """Run the detector over the videos: ([VideoOverlap], {name: reason} of those that could not be read)."""
    by_name = {video.name: video for video in videos}
    workers = args.workers if args.workers is not None else 8 if args.device.startswith("cuda") else 0
    tiles = VideoTiles(videos, functools.partial(ucf101.find_video, args.data), geometry, phases=2, fill="black")
    overlaps, failed = [], {}
    for item in tqdm(tile_loader(tiles, workers), desc="evaluate", unit="video", leave=False, disable=None):
        if "failed" in item:
            if args.strict:
                raise UserError(item["failed"])
            failed[item["name"]] = item["failed"]
        else:
            overlaps.append(score_video(trained, by_name[item["name"]], item, geometry, args.gt))
    if not overlaps:
        raise UserError(f"none of the {len(videos)} test videos can be read: {next(iter(failed.values()), '')}")
    if failed:
        print(f"{len(failed)} of {len(videos)} test videos were set aside and are not in the numbers:")
        print("\n".join(f"  {reason}" for reason in failed.values()))
    return overlaps, failed


@torch.no_grad()
def score_video(trained, video, item, geometry, gt="union", batch=8):
    """Pixel counts and class scores of one video from its clips (see VideoTiles)."""
    device = next(trained.detector.parameters()).device
    overlap = capsule.VideoOverlap.empty(video.name, video.label, video.frames, len(trained.classes))
    truth = truth_of(video, geometry, gt)
    for start in range(0, len(item["clips"]), batch):
        part = slice(start, start + batch)
        with autocast(device):
            detection = trained.detector(normalise(item["clips"][part].to(device), trained.pixel_range))
        masks, scores = (detection.logits[:, 0] >= 0).cpu().numpy(), detection.scores.float().cpu().numpy()
        for row, clip in enumerate(range(start, min(start + batch, len(item["clips"])))):
            frames = item["frames"][clip]
            number = 2 * item["tile"][clip] + item["phase"][clip]
            overlap.add_clip(number, frames, masks[row], truth_masks(truth, frames), scores[row])
    return overlap


def truth_of(video, geometry, gt):
    """Ground truth of a video inside the centre crop, at the network's resolution; `gt` says which actors count."""
    rng = np.random.default_rng(zlib.crc32(video.name.encode()))
    return floor.video_truth(video, geometry.crop, gt, rng, geometry.frame, (geometry.size, geometry.size))


def truth_masks(truth, frames):
    """Union of the boxes of a floor.Truth at these frames: bool (T,S,S); empty under frame number -1."""
    masks = np.zeros((len(frames), *truth.size), bool)
    for t, frame in enumerate(frames):
        for x0, y0, x1, y1 in truth.boxes_A_F_4[:, frame] if frame >= 0 else ():
            masks[t, y0:y1, x0:x1] = True
    return masks


def no_model_floor(args, classes, videos, failed, geometry, switches):
    """The best centred rectangle of the training split, scored on the same test videos."""
    def truths(videos):
        return (truth_of(video, geometry, args.gt) for video in videos)

    training = ucf101.read_ground_truth(args.oracle, args.test_list, "train")
    rectangle = floor.choose_rectangle(truths(training.videos.values()), classes, switches)
    if rectangle is None:
        return None
    return floor.to_dict(rectangle, floor.score_rectangle(
        rectangle, truths([v for v in videos if v.name not in failed]), classes, switches))


if __name__ == "__main__":
    run_script(main)
