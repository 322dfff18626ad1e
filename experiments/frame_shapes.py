"""How a network should see frames of any shape: a crop, the whole frame stretched to a square,
or letterboxed.

    python experiments/frame_shapes.py data/JHMDB --data files/frame_shapes --seeds 0 1 2

Real J-HMDB clips of a few classes in three shapes: the actor fills a portrait frame (9:16) or
a wide one (2.35:1), cut around it by its masks, or the frame is as it was (4:3). One pool of
all three is trained on with every --crop; each test clip is tested in every shape, and in a
fourth, where the actor stands at an edge of the frame, by its masks in the whole frame.

Reads   puppet_mask/, the videos and the lists of split 1 below the folder of J-HMDB
Writes  below --data: the clips and their annotations, a run for each crop and seed, and its
        numbers; each is kept when it is finished, so that the work is resumable.
        experiments/results/frame_shapes.md (--output): the table
Expect  a minute a run of 240 steps on one core with --model small
"""

import argparse
import itertools
import math
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus import engine  # noqa: E402
from claus.artifacts import checkpoint  # noqa: E402
from claus.artifacts.cycle import Cycle  # noqa: E402
from claus.artifacts.parts import fingerprint, parts_dir  # noqa: E402
from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.clips.region import REGIONS  # noqa: E402
from claus.datasets.labels import annotations  # noqa: E402
from claus.datasets.labels.annotations import Annotations, Tube, Video  # noqa: E402
from claus.datasets.labels.masks import PackedMasks  # noqa: E402
from claus.datasets.sprites import write_video  # noqa: E402
from claus.datasets.video.reader import read_frames  # noqa: E402
from claus.flags import evaluation, training  # noqa: E402
from claus.metrics.capsule import Switches  # noqa: E402
from claus.models import BACKBONES  # noqa: E402
from claus.steps import evaluate, train  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402
from claus.utils.runtime import atomic_write, run_script, write_text  # noqa: E402

RESULTS = ROOT / "experiments" / "results" / "frame_shapes.md"
# (height, width); the last one is tested alone
SHAPES = {"portrait": (16, 9), "wide": (1, 2.35), "plain": None, "edge": (1, 1)}
TRAINED = ("portrait", "wide", "plain")
CROPS = ("jhmdb", "whole", "letterbox")
MARGIN = 1.15  # around the actor
NUMBERS = ("iou", "hits", "right", *SHAPES)


def main(argv=None):
    args = parse(argv)
    prepare(args)
    found = {}
    for seed, crop in itertools.product(args.seeds, args.crops):
        found[crop, seed] = run(args, crop, seed)
        print(
            crop, seed, {name: round(float(v), 3) for name, v in summary(found, crop).items()}
        )
    write_text(args.output, page(args, found))
    print(f"wrote {args.output}")
    return 0


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("source", type=Path, metavar="FOLDER", help="J-HMDB-21 in its official layout")
    add("--data", type=Path, required=True, help="folder of clips and runs")
    add("--model", choices=BACKBONES, default="small")
    add("--crops", nargs="+", default=CROPS, help="of --crop of the training scripts")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--steps", type=int, default=240)
    add("--classes", type=int, default=6, help="evenly spread over the 21")
    add("--tested", type=int, default=5, help="test clips of a class, each in every shape")
    add("--device", default="cpu")
    add("--workers", type=int, default=0)
    add("--output", type=Path, default=RESULTS)
    return parser.parse_args(argv)


# ------------------------------------------------------------------------------- the clips


def prepare(args):
    """The clips in their shapes, and train.pkl and test.pkl, unless they are there."""
    if (args.data / "test.pkl").exists():
        return
    places = np.linspace(0, len(jhmdb.CLASSES) - 1, args.classes).round().astype(int)
    classes = tuple(jhmdb.CLASSES[place] for place in places)
    for part in ("train", "test"):
        truth = jhmdb.read_ground_truth(args.source, part=part)
        videos, counts = {}, dict.fromkeys(classes, 0)
        for video in truth.videos.values():
            name = truth.classes[video.label]
            if name not in classes or (part == "test" and counts[name] == args.tested):
                continue
            shapes = SHAPES if part == "test" else [TRAINED[counts[name] % len(TRAINED)]]
            counts[name] += 1
            for shape in shapes:
                cut = written(args, video, shape, classes.index(name))
                videos[cut.name] = cut
        annotations.save(Annotations("own", classes, videos), args.data / f"{part}.pkl")


def written(args, video, shape, label):
    """A clip cut to a shape and written as a video -> its Video, every frame labeled that
    shows the actor.
    """
    masks = np.asarray(video.tubes[0].masks)
    y0, y1, x0, x1 = window(masks, shape)
    path = jhmdb.find_video(args.source, video.name)
    frames = read_frames(path, range(video.frames), video.frames)[:, y0:y1, x0:x1]
    name = f"{video.name}_{shape}"
    target = args.data / f"{name}.avi"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_video(target, frames)
    masks = masks[:, y0:y1, x0:x1]
    shown = np.flatnonzero(masks.any((1, 2)))
    tube = Tube(label, 1, shown, masks=PackedMasks.pack(masks[shown]))
    return Video(name, len(frames), *frames.shape[1:3], label, np.arange(len(frames)), (tube,))


def window(masks, shape):
    """(y0, y1, x0, x1) of even sides: the smallest of a shape around the actor of a clip,
    masks (F,H,W), or as much of it as the frame has. edge: a square of at
    least three quarters of its height, the actor at the left or right edge, as far as the
    frame allows.
    """
    height, width = masks.shape[1:]
    if shape == "plain":
        return 0, height, 0, width
    at_edge, shape = shape == "edge", SHAPES[shape]
    rows, columns = (np.flatnonzero(masks.any(axes)) for axes in ((0, 2), (0, 1)))
    actor = np.ptp(rows) + 1, np.ptp(columns) + 1
    scale = max(MARGIN * own / side for own, side in zip(actor, shape, strict=True))
    if at_edge:
        scale = max(scale, 0.75 * height / shape[0])
    scale = min(scale, height / shape[0], width / shape[1])
    sides = [2 * int(scale * side / 2) for side in shape]
    starts = []
    for places, side, whole in zip((rows, columns), sides, (height, width), strict=True):
        middle = (places[0] + places[-1] + 1 - side) // 2
        starts.append(int(np.clip(middle, 0, whole - side)))
    (y, x), (h, w) = starts, sides
    if at_edge:
        ends = np.clip([columns[0], columns[-1] + 1 - w], 0, width - w)
        gaps = columns[0] - ends[0], ends[1] + w - columns[-1] - 1
        x = int(ends[np.argmin(np.abs(gaps))])
    return y, y + h, x, x + w


# -------------------------------------------------------------------------------- the runs


def run(args, crop, seed):
    """Train and test -> {"iou", "hits", "right" (V,), "names" (V,), "train", "clip" seconds}."""
    name = f"{args.model}_{args.steps}_{crop}_{seed}"
    kept = args.data / "numbers" / f"{name}.npz"
    if kept.exists():
        with np.load(kept) as numbers:
            return dict(numbers)
    common = ["--run", name, "--cycle", "0", "--files", str(args.data / "runs")]
    common += ["--data", str(args.data), "--device", args.device]
    common += ["--workers", str(args.workers)]
    flags = ["--annotations", str(args.data / "train.pkl"), "--model", args.model]
    flags += ["--crop", crop, "--seed", str(seed), "--steps", str(args.steps)]
    flags += ["--epochs", "2", "--no-validation", "--force"]
    settings = training.parse([*common, *flags], "jhmdb")
    cycle = Cycle.of(name, 0, args.data / "runs")
    timed = cycle.folder / "seconds.txt"
    if not timed.exists():
        start = time.perf_counter()
        train.run(settings)
        write_text(timed, f"{time.perf_counter() - start:.1f}\n")
    numbers = tested(args, checkpoint.load(cycle.detector, args.device), common, cycle)
    numbers["train"] = np.array(float(timed.read_text(encoding="utf-8")))
    kept.parent.mkdir(exist_ok=True)
    with atomic_write(kept) as file:
        np.savez(file, **numbers)
    return numbers


def tested(args, trained, common, cycle):
    """The numbers of each test video, in its whole frame."""
    labels = str(args.data / "test.pkl")
    settings = evaluation.parse([*common, "--dataset", "jhmdb", "--labels", labels])
    videos = list(annotations.load(labels).videos.values())
    view = evaluate.View(trained.geometry, REGIONS["whole"])
    parts = parts_dir(cycle.evaluate_parts, [trained.source, fingerprint(labels)])
    scored = evaluate.score_videos(trained, videos, view, parts, settings)
    switches, numbers = Switches(), {"iou": [], "hits": [], "right": []}
    for overlap in scored.overlaps:
        counted = overlap.counted_frames(switches)
        iou = overlap.intersection_F[counted] / overlap.union_F[counted]
        numbers["iou"].append(iou.mean())
        numbers["hits"].append((iou >= 0.5).mean())
        numbers["right"].append(overlap.predicted_class(switches) == overlap.label)
    numbers = {name: np.array(values, float) for name, values in numbers.items()}
    numbers["names"] = np.array([video.name for video in scored.videos])
    numbers["clip"] = np.array(seconds_a_clip(trained))
    return numbers


def seconds_a_clip(trained):
    """Of a forward pass of a clip, the fastest of five."""
    size = trained.geometry.size
    clip, best = torch.zeros(1, 3, 8, size, size, dtype=torch.uint8), math.inf
    clip = clip.transpose(1, 2)
    for _ in range(5):
        start = time.perf_counter()
        engine.predict(trained.detector, clip, trained.pixel_range)
        best = min(best, time.perf_counter() - start)
    return best


# ------------------------------------------------------------------------------- the table


def mean_over_seeds(found, crop, number):
    """(V,) of the test videos."""
    return np.mean([values[number] for (name, _), values in found.items() if name == crop], 0)


def names_of(found):
    return next(iter(found.values()))["names"]


def summary(found, crop):
    """Percent: IoU of the masks, frames hit at IoU .5, classes right, and hits by shape."""
    hits, names = mean_over_seeds(found, crop, "hits"), names_of(found)
    numbers = {
        "iou": mean_over_seeds(found, crop, "iou").mean(),
        "hits": hits.mean(),
        "right": mean_over_seeds(found, crop, "right").mean(),
    }
    for shape in SHAPES:
        numbers[shape] = hits[np.char.endswith(names, f"_{shape}")].mean()
    return {name: 100 * value for name, value in numbers.items()}


def difference(found, crop, other, shape, rng):
    """crop - other in hits at .5, percent: "mean [low, high]", 95% of a bootstrap that draws
    test clips (all shapes of a clip together) and seeds.
    """
    seeds = sorted({seed for _, seed in found})
    names = names_of(found)
    kept = np.array([shape in (None, name.rpartition("_")[2]) for name in names])
    clips, clip_V = np.unique([n.rpartition("_")[0] for n in names[kept]], return_inverse=True)
    rows = []
    for seed in seeds:
        gain = found[crop, seed]["hits"] - found[other, seed]["hits"]
        rows.append(np.bincount(clip_V, gain[kept]) / np.bincount(clip_V))
    gain_S_N = 100 * np.array(rows)
    drawn = []
    for _ in range(2000):
        some = gain_S_N[rng.integers(len(seeds), size=len(seeds))]
        drawn.append(some[:, rng.integers(len(clips), size=len(clips))].mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{gain_S_N.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def page(args, found):
    """The results as Markdown."""
    rng, rows, gains = np.random.default_rng(0), [], []
    for crop in args.crops:
        numbers = summary(found, crop)
        timed = [values for (name, _), values in found.items() if name == crop]
        step = np.mean([values["train"] for values in timed]) / args.steps
        clip = np.min([values["clip"] for values in timed])
        shown = [f"{numbers[name]:.1f}" for name in NUMBERS]
        rows.append([crop, *shown, f"{step:.2f}", f"{1000 * clip:.0f}"])
    for crop, other in itertools.combinations(args.crops, 2):
        cells = [difference(found, other, crop, shape, rng) for shape in (None, *SHAPES)]
        gains.append([f"{other} - {crop}", *cells])
    head = ["crop", "IoU", "hits@.5", "class right", *(f"hits: {shape}" for shape in SHAPES)]
    return "\n".join(
        [
            "# Frames of any shape",
            "",
            f"`python experiments/frame_shapes.py data/JHMDB --data files/frame_shapes --seeds "
            f"{' '.join(map(str, args.seeds))} --model {args.model} --steps {args.steps}` "
            f"({args.classes} classes). {machine_line()}.",
            "",
            "Mean over test videos and seeds, percent, masks in the whole frame; hits: frames "
            "with IoU at least .5. Seconds are of a shared machine.",
            "",
            table([*head, "s a step", "ms a clip"], rows),
            "",
            "Differences in hits@.5, 95% over test clips and seeds:",
            "",
            table(["", "all", *SHAPES], gains),
            "",
            "Tiles that cover a frame are squares in its full resolution: 2 of a 9:16 frame, 3 "
            "of one of 2.35:1, so 2 and 3 times the time of every clip that is scored or "
            "evaluated; they were not trained.",
            "",
        ]
    )


if __name__ == "__main__":
    run_script(main)
