"""Step 2: weights and centers -> a latent and a cluster per video, and the uncertainty of
every frame.

    python cluster_extract.py --run my_run --cycle 0
    torchrun --nproc-per-node 4 -- cluster_extract.py --run my_run --cycle 0   # shares the videos out, same result
    python cluster_extract.py --run my_run --cycle 0 --shard 2/3               # one of three machines that share files/

Reads   files/my_run/cycle0/detector.pt and annotations.pkl (names and lengths alone), all
        training videos below --data
Writes  files/my_run/cycle0/features.pkl     latent and cluster of every video
        files/my_run/cycle0/uncertainty.pkl  of every frame: both frame scores, foreground
                                             area, entropies
Expect  one pass over the videos: each decoded once, its encoder run once per clip, then R
        dropout passes of the head. Each video is kept as it is finished
        (cycle0/extract.parts/): an interrupted run goes on where it was, whatever the
        number of processes or shards. When all shards have ended, the first command,
        without --shard, scores what a machine that failed has left undone, and writes the
        pickles.
"""

import claus.utils.startup  # noqa: F401  before torch

# isort: split
import argparse
import re
import shutil
import time

import numpy as np
import torch
from tqdm import tqdm

from claus.artifacts import checkpoint
from claus.artifacts.handoffs import (
    Features,
    Uncertainty,
    cycle_dir,
    fingerprint,
    load_features,
    load_uncertainty,
    parts_dir,
    save_features,
    save_part,
    save_uncertainty,
)
from claus.datasets import table as which
from claus.datasets.clips.tiles import VideoTiles, tile_loader
from claus.datasets.labels import annotations as annotation_file
from claus.engine import device_name, fast_convolutions
from claus.losses.cluster import vote
from claus.models.mc_dropout import mc_forward
from claus.scoring import score_video
from claus.selection.uncertainty import SCORES, THRESHOLD
from claus.utils import distributed
from claus.utils.runtime import (
    HelpFormatter,
    UserError,
    check_writable,
    run_script,
    whole_number,
    write_text,
)


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    which.add_flags(add)
    add("--passes", type=int, default=10, help="R, dropout passes a clip (paper: 10)")
    add(
        "--threshold",
        type=float,
        default=THRESHOLD,
        help="mean prediction from which a pixel counts (paper: 0.4)",
    )
    add(
        "--phases",
        type=int,
        choices=(1, 2),
        default=1,
        help="1: each prediction serves two frames (published); "
        "2: every frame has its own, at twice the cost",
    )
    add(
        "--tail",
        choices=("repeat", "shift"),
        default="repeat",
        help="the last tile of a video: filled up with "
        "its last frame (published; the picture then stands still, and a detector of "
        "motion sees less in it), or "
        "shifted back to end with the video",
    )
    add("--seed", type=whole_number, default=0, help="of the dropout masks")
    add(
        "--amp",
        action="store_true",
        help="bf16 autocast on CUDA; scores then differ in the third digit",
    )
    add(
        "--compile",
        action="store_true",
        help="score through torch.compile: a minute to start, then meant to be "
        "faster on CUDA; scores then differ in the third digit",
    )
    add(
        "--shard",
        type=shard,
        default=(0, 1),
        metavar="I/N",
        help="score the I-th of N parts of the videos and write "
        "no pickle; for machines that share a folder and nothing else",
    )
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    add("--force", action="store_true", help="score again although both pickles are there")
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
    args = parser.parse_args(argv)
    which.check_flags(args, parser)
    if args.passes < 1:
        parser.error(f"--passes must be at least 1, not {args.passes}")
    if not 0 < args.threshold < 1:
        parser.error(f"--threshold must lie between 0 and 1, not {args.threshold}")
    return args


def shard(text):
    """argparse type of --shard: "2/3" -> (1, 3)."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no part; give 1/3, 2/3 and 3/3 to three machines"
        )
    return int(match[1]) - 1, int(match[2])


def main(argv=None):
    args = parse_args(argv)
    device, first = distributed.own_device(args.device), distributed.rank() == 0
    folder = cycle_dir(args.run, args.cycle, args.files)
    if not args.force and distributed.broadcast_from_rank0(first and scored_already(folder)):
        print(f"{folder} has both pickles already; --force scores again")
        return 0
    trained = checkpoint.load(folder / "detector.pt", device)
    labels = annotation_file.load(folder / "annotations.pkl")
    which.check_same(args.dataset, trained.dataset, folder / "detector.pt")
    which.check_same(args.dataset, labels.dataset, folder / "annotations.pkl")
    videos = list(labels.videos.values())
    settings = {
        "passes": args.passes,
        "threshold": args.threshold,
        "phases": args.phases,
        "seed": args.seed,
        "amp": args.amp,
        "compile": args.compile,
    } | ({"tail": args.tail} if args.tail != "repeat" else {})
    lengths = [(video.name, video.frames) for video in videos]
    parts = parts_dir(folder / "extract.parts", [trained.source, settings, lengths])
    part, of = args.shard
    if first:
        check_writable(parts, clear=of == 1)  # other machines may be writing there
    share = range(part, len(videos), of)
    left = distributed.broadcast_from_rank0(
        [index for index in share if not (parts / f"{index}.npz").exists()]
    )
    print(
        f"{len(left)} of {len(share)} videos to score"
        + (f" in shard {part + 1} of {of}" if of > 1 else "")
        + (f", by {distributed.world_size()} processes" if distributed.world_size() > 1 else "")
        + f", {args.passes} passes, on {device}"
    )
    extract(
        trained,
        videos,
        left[distributed.rank() :: distributed.world_size()],
        parts,
        args,
        device,
    )
    distributed.barrier()
    if of > 1:
        print(
            f"shard {part + 1} of {of} is done; when all are, the same command without "
            f"--shard writes the pickles"
        )
    elif first:
        merge(trained, videos, parts, settings, folder)
    return 0


def scored_already(folder):
    """Whether both pickles are there, whole, and made from the cycle's detector.pt as it is
    now.
    """
    paths = [folder / "features.pkl", folder / "uncertainty.pkl"]
    if not all(path.exists() for path in paths):
        return False
    try:
        sources = {load_features(paths[0]).source, load_uncertainty(paths[1]).source}
    except UserError as error:
        print(f"{error}: scoring again")
        return False
    detector = folder / "detector.pt"
    if detector.exists() and sources != {fingerprint(detector)}:
        print(
            f"{paths[0]} and {paths[1].name} are of other weights than {detector.name} "
            f"now: scoring again"
        )
        return False
    return True


def extract(trained, videos, mine, parts, args, device):
    """Score the videos with these numbers and keep each as it is finished; failures are
    named in a file each.
    """
    for index in mine:
        (parts / f"{index}.failed").unlink(missing_ok=True)
    fast_convolutions(device)
    forward = torch.compile(mc_forward, dynamic=False) if args.compile else mc_forward
    workers = (
        args.workers if args.workers is not None else 8 if device.startswith("cuda") else 0
    )
    tiles = VideoTiles(
        [videos[index] for index in mine],
        which.video_finder(args.dataset, args.data),
        trained.geometry,
        args.phases,
        fill=args.tail,
    )
    for index, item in zip(
        mine,
        tqdm(tile_loader(tiles, workers), desc="score", unit="video", disable=None),
        strict=True,
    ):
        if "failed" in item:
            if args.strict:
                raise UserError(item["failed"])
            write_text(parts / f"{index}.failed", item["failed"])
            continue
        result = score_video(trained, videos[index], item, args, forward)
        save_part(parts / f"{index}.npz", result)


def was_scored(parts, index, patience=120):
    """Whether a video has been scored, or has failed; a file of another machine may take
    seconds to be seen here.
    """
    ends = time.monotonic() + patience
    while time.monotonic() < ends:
        for suffix, scored in ((".npz", True), (".failed", False)):
            if (parts / f"{index}{suffix}").exists():
                return scored
        time.sleep(1)
    raise UserError(
        f"{parts} has nothing of video {index}, which another process has scored; do "
        f"all processes have "
        "the same --files folder? The same command goes on from there"
    )


def merge(trained, videos, parts, settings, folder):
    """Write both pickles from the finished videos, then remove the parts."""
    names, latents, clusters, offsets, failed = [], [], [], [0], {}
    scores = {name: [] for name in SCORES}
    centers = trained.clusters.centers.numpy()
    for index, video in enumerate(videos):
        path = parts / f"{index}.npz"
        if not was_scored(parts, index):
            failed[video.name] = (parts / f"{index}.failed").read_text(encoding="utf-8")
            continue
        with np.load(path) as part:
            names.append(video.name)
            latents.append(part["latents"].mean(0))
            clusters.append(vote(part["latents"], centers))
            offsets.append(offsets[-1] + video.frames)
            for name in SCORES:
                scores[name].append(part[name])
    if not names:
        raise UserError(
            f"none of the {len(videos)} videos can be read: {next(iter(failed.values()))}"
        )
    save_features(
        Features(
            trained.source,
            names,
            np.stack(latents),
            np.array(clusters, np.int32),
            centers,
            failed,
        ),
        folder / "features.pkl",
    )
    save_uncertainty(
        Uncertainty(
            trained.source,
            settings,
            names,
            np.array(offsets, np.int64),
            **{name: np.concatenate(values) for name, values in scores.items()},
        ),
        folder / "uncertainty.pkl",
    )
    shutil.rmtree(folder / "extract.parts")
    if failed:
        print(f"{len(failed)} of {len(videos)} videos were set aside and cannot be selected:")
        print("\n".join(f"  {name}: {reason}" for name, reason in failed.items()))
    sizes = np.bincount(clusters, minlength=len(centers))
    print(
        f"{len(names)} videos, {offsets[-1]} frames scored; videos per cluster: "
        f"{', '.join(map(str, sizes))}"
    )
    print(f"wrote {folder / 'features.pkl'} and uncertainty.pkl")


if __name__ == "__main__":
    run_script(distributed.together(main))
