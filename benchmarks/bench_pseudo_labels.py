"""Few labels to the dense pseudo-labels and STeW weights of a clip: at once, and by loops
over frames.

    python benchmarks/bench_pseudo_labels.py        # --quick: one video, one round

Reads   labels of real UCF-101 videos in ../shared (or where CLAUS_SHARED points); without
        them, made-up ones
Writes  benchmarks/results/pseudo_labels.md, from real labels alone
Expect  half a minute. Stops with an error where both do not give exactly the same.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus.benchmarks import loading_data, timing  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY, clip_indices, sources  # noqa: E402
from claus.datasets.labels.pseudo_labels import clip_labels, pseudo_masks  # noqa: E402
from claus.datasets.video.frame_index import IndexedVideos  # noqa: E402
from claus.reference import clips as plain_loading  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

CORNER = (5, 7)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    args = timing.parse(parser, argv, rounds=1)
    torch.set_num_threads(1)
    labels, find, where = loading_data.read()
    geometry, rows = GEOMETRY["full", "wide"], []
    for video in [*labels.videos.values()][: 1 if args.quick else None]:
        rows.append(measure(video, find(video.name), geometry, args.rounds))
    timing.write_results(
        "pseudo_labels",
        f"""# Dense pseudo-labels and weights of a clip

`python benchmarks/bench_pseudo_labels.py`: {machine_line()}.
One thread; labels every {loading_data.EVERY} frames ({where}); clips of 8×224×224 with crop and flip. Medians of
interleaved rounds over the clips of all labeled frames, milliseconds of processor time a clip; × is the median of a
round's ratios. By loops: reference/clips.py, float64, frame by frame. Through masks: the same labels as
drawn masks, as data sets with masks have them, once they are there. Checked in the same run: labels and weights (as
float32) are exactly equal.

{table(["video", "actors", "by loops", "at once", "×", "through masks", "decoding its 8 frames"], rows)}
""",
        args.quick,
        loading_data.real(),
    )
    return 0


def measure(video, path, geometry, rounds):
    """A row of the table for one video, after a check that all ways agree."""
    shown = [clip_indices(video.frames, int(anchor)) for anchor in video.labeled_frames]
    places, videos = (
        sources((video.height, video.width), geometry, CORNER, True),
        IndexedVideos(),
    )
    masks = [pseudo_masks(video, indices) for indices in shown]
    for indices, drawn in zip(shown, masks, strict=True):
        slow_target, slow_weight = by_loops(video, indices, geometry)
        for target, weight in (
            clip_labels(video, indices, *places),
            clip_labels(video, indices, *places, masks=drawn),
        ):
            if not (
                np.array_equal(target, slow_target)
                and np.array_equal(weight, slow_weight.astype(np.float32))
            ):
                sys.exit(
                    f"{video.name}: labels or weights of the clip at frame {indices[0]} differ"
                )
    times = timing.interleaved(
        {
            "loops": lambda: each(lambda indices: by_loops(video, indices, geometry), shown),
            "at once": lambda: each(
                lambda indices: clip_labels(video, indices, *places), shown
            ),
            "masks": lambda: each(
                lambda indices, drawn: clip_labels(video, indices, *places, masks=drawn),
                shown,
                masks,
            ),
            "decode": lambda: each(
                lambda indices: videos.read_frames(path, indices, video.frames), shown
            ),
        },
        rounds,
        most_seconds=30,
        clock=timing.cpu_clock,
    )
    ms = {name: f"{1000 * timing.median(times, name) / len(shown):.2f}" for name in times}
    if timing.median(times, "at once") > timing.median(times, "decode"):
        print(f"WARNING: {video.name}: labels take longer than decoding")
    return [
        Path(video.name).name,
        len(video.tubes),
        ms["loops"],
        ms["at once"],
        f"{timing.ratio(times, 'loops', 'at once'):.0f}",
        ms["masks"],
        ms["decode"],
    ]


def each(function, *arguments):
    """Call a function for every clip; what it returns is dropped at once, as a training
    drops a clip it has used.
    """
    for values in zip(*arguments, strict=True):
        function(*values)


def by_loops(video, indices, geometry):
    masks = plain_loading.labels(video, indices, geometry, CORNER, True)
    return masks, plain_loading.weights(masks, video, indices)


if __name__ == "__main__":
    sys.exit(main())
