"""Training clips per second from real .avi files: the published way, the same with its
decoding held to one thread, with an index, with an index and a cache.

    python benchmarks/bench_loading.py                  # --quick: a few clips of one video

Reads   three real UCF-101 files in ../shared (or where CLAUS_SHARED points); without them,
        a video made on the spot
Writes  benchmarks/results/loading.md, from real files alone
Expect  two minutes. One core, one process. Stops with an error where the sides do not give
        the same clips, or where an ffmpeg command on the PATH does not decode them.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus.benchmarks import loading_data, timing  # noqa: E402
from claus.datasets.clips.geometry import (  # noqa: E402
    GEOMETRY,
    clip_indices,
    cut,
    random_crop,
    resize,
    sources,
)
from claus.datasets.clips.training_clips import TrainingClips  # noqa: E402
from claus.datasets.labels.pseudo_labels import clip_labels  # noqa: E402
from claus.datasets.video.frame_index import IndexedVideos, build  # noqa: E402
from claus.datasets.video.reader import iter_frames, pixels, read_frames  # noqa: E402
from claus.reference import clips as plain_loading  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

ROUNDS = 5
MOST_SECONDS = 20  # a table row
# pixels that may differ further where the published way decodes with a command of its own
FEW, OTHER_VERSION = 2e-5, 2
OURS, THEIRS = ("index", "cache"), ("published", "one thread")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    args = timing.parse(parser, argv)
    torch.set_num_threads(1)
    labels, find, where = loading_data.read()
    videos, most, rounds = list(labels.videos.values()), None, ROUNDS
    if args.quick:
        videos, most, rounds = videos[:1], 2, 1
    check_command(find(videos[0].name), videos[0])
    with tempfile.TemporaryDirectory() as folder:
        exact = sum(check_frames(find(video.name)) for video in videos)
        rows = [
            measure(labels, video, find, GEOMETRY[key], folder, " ".join(key), most, rounds)
            for key, count in ((("full", "wide"), 3), (("small", "wide"), 1))
            for video in videos[:count]
        ]
        stages = by_stage(
            videos[0],
            find(videos[0].name),
            GEOMETRY["full", "wide"],
            labels,
            find,
            folder,
            most,
            rounds,
        )
    text = report(where, exact, rows, stages, rounds)
    timing.write_results("loading", text, args.quick, loading_data.real())
    return 0


def report(where, exact, rows, stages, rounds):
    """The tables for people, Markdown."""
    ratios = list(zip(*(row[-4:] for row in rows if row[0].startswith("full")), strict=True))
    index, cache, index_alone, cache_alone = (
        f"×{min(values)} to ×{max(values)}" for values in ratios
    )
    sides = [f"{side}, clips/s" for side in (*THEIRS, *OURS)]
    ratios = ["index ×", "cache ×", "index × one thread", "cache × one thread"]
    clip_table = table(["network, crop", "video", "frames", *sides, *ratios], rows)
    stage_table = table(["stage", "published", "ours"], stages)
    decoder = plain_loading.decoder()
    one_thread = f"index {index_alone}, cache {cache_alone}"
    return f"""# Training clips from video files

`python benchmarks/bench_loading.py`: {machine_line()}.
One process, {where}. Per clip: 8 frames at stride 2, random crop and flip, pseudo-labels and STeW weights. Published
way: the whole video is decoded with {decoder}, the rest as in reference/clips.py. One thread:
the published way where PyAV decodes and is told to do it with a single thread. Medians of {rounds} interleaved rounds
over the labeled frames of a video; × is the median of a round's ratios. Clips a second of one core's processor time,
of every process involved, so that others who use the machine do not count.

{clip_table}

Full network: index {index}, cache {cache}; against the published way in one thread: {one_thread}.
Checked in the same run: all {exact} frames read through the index are bit-identical to
decoding from the start; labels and weights are equal; finished pictures differ by at most one level of 255 for
each resize (one with the full network, two with the small: torchvision's bytes against float64), and not at all between
index and cache. A command of another FFmpeg than PyAV's may differ by {OTHER_VERSION} levels more in {1e6 * FEW:.0f} of a
million pixels (Debian's 5.1.9 does in two).

Where the time of a clip goes, first video, full network, milliseconds:

{stage_table}
"""


def each(function, arguments):
    """Call a function for every clip; what it returns is dropped at once, as a training
    drops a clip it has used.
    """
    for argument in arguments:
        function(argument)


def check_command(path, video):
    """Stop with one line where there is an ffmpeg command that does not decode a file: the
    published way would use it.
    """
    command = shutil.which("ffmpeg")
    if command is None:
        return
    try:
        frames = plain_loading.whole_video(path, video.height, video.width)
        fault = "" if len(frames) == video.frames else f"gives {len(frames)} frames"
    except subprocess.CalledProcessError as error:
        fault = f"ended with status {error.returncode}"
    except (OSError, ValueError) as error:  # no program; no whole frames
        fault = f"failed: {error}"
    if fault:
        sys.exit(
            f"{command} {fault} for {path} of {video.frames} frames; repair it or take it off "
            "the PATH: PyAV then decodes in its place"
        )


def check_frames(path):
    """Compare every frame of a file through the index with decoding from the start; their
    number.
    """
    videos = IndexedVideos()
    whole = [pixels(frame) for frame in iter_frames(path)]
    for start in range(17):
        wanted = range(start, len(whole), 17)
        found = videos.read_frames(path, wanted, len(whole))
        if not all(
            np.array_equal(frame, whole[k]) for frame, k in zip(found, wanted, strict=True)
        ):
            sys.exit(f"{path}: a frame is another through the index")
    return len(whole)


def measure(labels, video, find, geometry, folder, about, most=None, rounds=ROUNDS):
    """A row of the table: rates of the four ways for one video and geometry, after a check
    that they agree.

    most: so many clips at the most.
    """
    direct = TrainingClips(labels, find, geometry, 0, folder=folder)
    cached = TrainingClips(labels, find, geometry, 0, folder=folder, cache_gb=2)
    anchors = [int(f) for f in video.labeled_frames][:most]
    few = anchors[::4]
    for number, anchor in enumerate(anchors[::2]):
        check_clip(video, find(video.name), geometry, anchor, direct, cached, number)
    times = timing.interleaved(
        {
            "published": lambda: each(
                lambda anchor: plain(video, find(video.name), geometry, anchor, 1), few
            ),
            "one thread": lambda: each(
                lambda anchor: plain(video, find(video.name), geometry, anchor, 1, True), few
            ),
            "index": lambda: each(
                lambda anchor: direct.clip(video, anchor, np.random.default_rng(1)), anchors
            ),
            "cache": lambda: each(
                lambda anchor: cached.clip(video, anchor, np.random.default_rng(1)), anchors
            ),
        },
        rounds,
        most_seconds=MOST_SECONDS,
        clock=timing.cpu_clock,
    )
    a_clip = {}
    for name, values in times.items():
        count = len(few if name in THEIRS else anchors)
        a_clip[name] = [seconds / count for seconds in values]
    return [
        about,
        Path(video.name).name,
        video.frames,
        *(f"{1 / timing.median(a_clip, name):.0f}" for name in a_clip),
        *(round(timing.ratio(a_clip, side, name), 1) for side in THEIRS for name in OURS),
    ]


def plain(video, path, geometry, anchor, seed, one_thread=False):
    """The published way's clip with the crop and flip that TrainingClips.clip draws from
    this seed.
    """
    rng = np.random.default_rng(seed)
    corner, flip = random_crop(geometry, rng), bool(rng.random() < 0.5)
    return plain_loading.clip(
        path, video, clip_indices(video.frames, anchor), geometry, corner, flip, one_thread
    )


def check_clip(video, path, geometry, anchor, direct, cached, seed):
    """Stop where the four ways differ."""
    frames, target, weight = plain(video, path, geometry, anchor, seed)
    alone = plain(video, path, geometry, anchor, seed, True)
    ours, again, kept = (
        way.clip(video, anchor, np.random.default_rng(seed)) for way in (direct, cached, cached)
    )
    same = all(
        torch.equal(ours[key], clip[key])
        for key in ("frames", "target", "weight")
        for clip in (again, kept)
    )
    if not (
        same
        and np.array_equal(ours["target"], target)
        and np.array_equal(ours["weight"], weight.astype(np.float32))
    ):
        sys.exit(f"{video.name}: the clip around frame {anchor} differs")
    resizes = ((video.height, video.width) != geometry.frame) + (
        geometry.crop != (geometry.size, geometry.size)
    )
    # an ffmpeg command of another version rounds a few pixels in another way
    if not (
        alike(ours["frames"], alone[0], resizes)
        and alike(ours["frames"], frames, resizes, FEW, OTHER_VERSION)
    ):
        sys.exit(
            f"{video.name}: pixels of the clip around frame {anchor} differ by more than "
            "one level a resize"
        )


def alike(ours, theirs, levels, share=0, further=0):
    """Whether pixels differ by at most so many levels of 255, or, a share of them, by so many
    further ones.
    """
    apart = np.abs(ours.numpy().astype(int) - theirs)
    return apart.max() <= levels + further and (apart > levels).mean() <= share


def by_stage(video, path, geometry, labels, find, folder, most=None, rounds=ROUNDS):
    """Rows (stage, published ms, our ms) for one video; mean over its labeled frames,
    `most` of them.
    """
    indexed, anchors = IndexedVideos(folder), [int(f) for f in video.labeled_frames][:most]
    cached = TrainingClips(labels, find, geometry, 0, folder=folder, cache_gb=2)
    shown, corner = [clip_indices(video.frames, anchor) for anchor in anchors], (3, 5)
    clips = [read_frames(path, indices, video.frames) for indices in shown]
    places = sources((video.height, video.width), geometry, corner, True)

    def plain_augment():
        for clip in clips[:2]:
            for frame in clip:
                plain_loading.cut(
                    frame.astype(np.float64), geometry, corner, True, plain_loading.linear
                )

    def plain_labels():
        for indices in shown[:2]:
            plain_loading.weights(
                plain_loading.labels(video, indices, geometry, corner, True), video, indices
            )

    sides = {
        "one thread": lambda: plain_loading.whole_video(path, video.height, video.width, True),
        "whole": lambda: plain_loading.whole_video(path, video.height, video.width),
        "start": lambda: each(lambda indices: read_frames(path, indices, video.frames), shown),
        "index": lambda: each(
            lambda indices: indexed.read_frames(path, indices, video.frames), shown
        ),
        "cache": lambda: each(lambda indices: cached.frames(path, indices, video), shown),
        "plain augment": plain_augment,
        "augment": lambda: each(
            lambda clip: cut(resize(clip, geometry.frame), geometry, corner, True), clips
        ),
        "plain labels": plain_labels,
        "labels": lambda: each(lambda indices: clip_labels(video, indices, *places), shown),
        "build": lambda: build(path),
    }
    times = timing.interleaved(sides, rounds, most_seconds=MOST_SECONDS, clock=timing.cpu_clock)
    per = {"whole": 1, "one thread": 1, "plain augment": 2, "plain labels": 2, "build": 1}
    ms = {
        name: f"{1000 * timing.median(times, name) / per.get(name, len(shown)):.2f}"
        for name in sides
    }
    kilobytes = (
        sum(file.stat().st_size for file in Path(folder).rglob("*.json"))
        / 1000
        / len(labels.videos)
    )
    return [
        ["frames, decoded whole / through the index", ms["whole"], ms["index"]],
        ["the same whole video by PyAV, told to use one thread", ms["one thread"], ""],
        ["frames, decoded from the start to the last one wanted", "", ms["start"]],
        ["frames, from the cache", "", ms["cache"]],
        ["crop, resize, flip", ms["plain augment"], ms["augment"]],
        ["pseudo-labels and weights", ms["plain labels"], ms["labels"]],
        [
            f"making and proving the index, once a video ({kilobytes:.1f} kB kept)",
            "",
            ms["build"],
        ],
    ]


if __name__ == "__main__":
    sys.exit(main())
