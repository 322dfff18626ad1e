"""How much of a frame's score is the seed's doing: --masks independent against antithetic.

    python benchmarks/seed_noise.py [--clips 12] [--seeds 12]

Reads   weights/laptop_jhmdb.pt, the shipped detector; the first J-HMDB clip of each class
Writes  benchmarks/results/seed_noise.md
Expect  a minute on one core

The noise of a score is its standard deviation over seeds, root mean square over frames,
divided by the standard deviation over frames of the mean score: 1 would be all noise.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus.artifacts import checkpoint, shipped  # noqa: E402
from claus.benchmarks import timing  # noqa: E402
from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.clips.tiles import VideoTiles  # noqa: E402
from claus.models.input import normalize  # noqa: E402
from claus.models.lite import FrameMaps, joined  # noqa: E402
from claus.models.mc_dropout import MASKS, mc_forward, seeded_masks  # noqa: E402
from claus.selection.uncertainty import frame_scores  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

PASSES = (4, 10)
SHOWN = ("paper", "area", "local_entropy")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=12)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    trained = checkpoint.load(shipped.default_detector())
    tiles = list(first_tiles(trained, timing.SHARED / "jhmdb", args.clips))
    rows = []
    for passes in PASSES:
        for form in MASKS:
            noises = seed_noise(trained, tiles, passes, form, args.seeds)
            rows.append((passes, form, *(f"{noises[name]:.3f}" for name in SHOWN)))
    text = table(["R", "masks", *SHOWN], rows)
    print(text)
    timing.write_results(
        "seed_noise",
        f"""# What the seed does to a score

`python benchmarks/seed_noise.py --clips {args.clips} --seeds {args.seeds}`
{machine_line()}

Shipped detector, first tile of {len(tiles)} J-HMDB clips of different classes, {args.seeds} seeds.
Standard deviation of a frame's score over seeds, as a share of its standard deviation over frames.

{text}
""",
    )


@torch.no_grad()
def first_tiles(trained, root, count):
    """(video, records of its first clip (1,T,R)); one video of a class."""
    classes = {}
    for name in sorted(jhmdb.scan_videos(root)):
        classes.setdefault(name.split("/")[0], name)
    names = [*classes.values()][:count]
    videos = [*jhmdb.read_ground_truth(root, clips=names).videos.values()]
    tiles = VideoTiles(videos, lambda name: jhmdb.find_video(root, name), trained.geometry)
    for number, video in enumerate(videos):
        clip = next(tiles.chunks(number))["clips"][:1]
        maps = trained.detector.conv1.maps(normalize(clip, trained.pixel_range))
        records = joined(FrameMaps(*(x.flatten(0, 1) for x in maps)))
        yield video, records[None]


def seed_noise(trained, tiles, passes, form, seeds):
    """{score: its noise} of R passes with masks of a form."""
    found = {name: [] for name in SHOWN}
    for seed in range(seeds):
        scores = {name: [] for name in SHOWN}
        for video, records in tiles:
            rows, columns = trained.geometry.shown(video.height, video.width)
            masks = seeded_masks(trained.detector, seed, video.name, 0, 0, passes, form)
            logits, _ = mc_forward(trained.detector, records, *masks)
            of_clip = frame_scores(logits[..., rows, columns])
            for name in SHOWN:
                scores[name].append(of_clip[name].numpy())
        for name in SHOWN:
            found[name].append(np.concatenate(scores[name]))
    noises = {}
    for name, values in found.items():
        values = np.stack(values)  # (seeds, frames)
        of_seeds = np.sqrt(values.var(0, ddof=1).mean())
        noises[name] = of_seeds / values.mean(0).std(ddof=1)
    return noises


if __name__ == "__main__":
    main()
