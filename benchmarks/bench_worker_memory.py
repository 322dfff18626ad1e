"""Memory of a loading process over an epoch of 2,000 clips of 250 videos: it must not grow.

    python benchmarks/bench_worker_memory.py                    # --quick: 130 clips

Reads   a real UCF-101 file in ../shared under 250 names, and 60 J-HMDB videos with masks
        where they are at hand; without them, a video made on the spot
Writes  benchmarks/results/worker_memory.md, from real files alone
Expect  a minute or two. Stops with an error where the process grows by 50 MiB or more after
        its first 100 clips.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import torch  # noqa: E402

from claus.benchmarks import loading_data, timing  # noqa: E402
from claus.datasets import jhmdb  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.clips.training_clips import ClipSampler, TrainingClips, loader  # noqa: E402
from claus.datasets.labels.annotations import Annotations, Tube, Video  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

VIDEOS, MASKED, WARM, LIMIT = 250, 60, 100, 50
BATCH = (
    2  # small: what a batch holds in memory that both processes share would else hide the rest
)
WITH_PIXELS = "catch/Goal_Keeping_Tips_catch_f_cm_np1_fr_med_2"


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=2000)
    args = timing.parse(parser, argv, clips=130)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for about, labels, find, geometry, options in runs(Path(folder)):
            rows.append(
                [about, args.clips, *grown(labels, find, geometry, args.clips, options)]
            )
    text = f"""# Memory of a loading process

`python benchmarks/bench_worker_memory.py`: {machine_line()}.
One process loads an epoch of clips of the full network (DataLoader with one worker). Resident memory of that process
in MiB after {WARM} clips, at its highest afterwards, and after the last.

{table(["videos", "clips", f"after {WARM}", "highest", "at the end", "growth"], rows)}
"""
    timing.write_results("worker_memory", text, args.clips < 2000, loading_data.real())
    return int(any(float(row[-1]) >= LIMIT for row in rows))


def runs(folder):
    """(name, labels, find_video, geometry, options of TrainingClips) of each run."""
    labels, find, _ = loading_data.read()
    original = next(iter(labels.videos.values()))
    named = {}
    for k in range(VIDEOS):
        (folder / f"{k}.avi").symlink_to(find(original.name).resolve())
        named[str(k)] = Video(
            str(k),
            original.frames,
            original.height,
            original.width,
            original.label,
            original.labeled_frames,
            original.tubes,
        )
    boxes = Annotations(labels.dataset, labels.classes, named)
    found = functools.partial(below, folder)
    yield f"{VIDEOS}, boxes", boxes, found, GEOMETRY["full", "wide"], {"folder": folder / "a"}
    yield (
        f"{VIDEOS}, boxes, with a cache of 1 GB",
        boxes,
        found,
        GEOMETRY["full", "wide"],
        {"folder": folder / "b", "cache_gb": 1},
    )
    if all(
        (loading_data.SHARED / "jhmdb" / part).is_dir() for part in ("puppet_mask", "videos")
    ):
        truth = jhmdb.read_ground_truth(loading_data.SHARED / "jhmdb")
        long = truth.videos[WITH_PIXELS].frames
        fitting = [video for video in truth.videos.values() if video.frames == long]
        masked = {video.name: few_masks(video) for video in fitting[:MASKED]}
        one_video = jhmdb.find_video(loading_data.SHARED / "jhmdb", WITH_PIXELS)
        yield (
            f"{MASKED}, masks",
            Annotations(truth.dataset, truth.classes, masked),
            functools.partial(always, one_video),
            GEOMETRY["full", "jhmdb"],
            {"folder": folder / "c"},
        )


def below(folder, name):
    return folder / f"{name}.avi"


def always(path, name):
    """One J-HMDB video for every name: memory does not depend on what is
    on it.
    """
    return path


def few_masks(video, every=9):
    tube = video.tubes[0]
    frames = tube.frames[::every]
    return Video(
        video.name,
        video.frames,
        video.height,
        video.width,
        video.label,
        frames,
        (Tube(tube.label, tube.track, frames, masks=tube.masks[slice(None, None, every)]),),
    )


def grown(labels, find, geometry, clips, options):
    """MiB of the loading process, in words: after WARM clips, highest afterwards, at the
    end, growth to the highest.
    """
    dataset = TrainingClips(labels, find, geometry, 0, **options)
    batches = iter(loader(dataset, ClipSampler(list(labels.videos), 0, clips), BATCH, 1))
    held, process = [], batches._workers[0].pid
    for number, batch in enumerate(batches):
        if batch["failed"]:
            sys.exit(batch["failed"][0][1])
        if (
            number * BATCH >= WARM and number * BATCH < clips - 6 * BATCH
        ):  # while it is sure to live
            held.append(resident(process))
    return *(
        f"{value:.0f}" for value in (held[0], max(held), held[-1])
    ), f"{max(held) - held[0]:.0f}"


def resident(process):
    """MiB that a process holds."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) / 1024


if __name__ == "__main__":
    sys.exit(main())
