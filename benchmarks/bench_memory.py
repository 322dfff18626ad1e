"""Memory of a long video: read, scored and evaluated as a stream, against all its clips at
once.

    python benchmarks/bench_memory.py                 # --minutes 60 for an hour

Reads   a 640x480 video at 25 frames/s made on the spot
Writes  benchmarks/results/memory.md, from three minutes or more and both sides
Expect  a minute or two for three minutes. The frames are those of the full network (224x224,
        two clips a tile); the network itself is replaced by one that always sees a square,
        because what it needs does not depend on the video. Stops with an error where a
        stream needs LIMIT MiB or more.
"""

import argparse
import functools
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import av  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus import engine  # noqa: E402
from claus.benchmarks import timing  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.clips.tiles import TileLoader, VideoTiles  # noqa: E402
from claus.datasets.labels.annotations import Tube, Video  # noqa: E402
from claus.datasets.sprites import random_texture, write_video  # noqa: E402
from claus.metrics.detections import DetectionSettings  # noqa: E402
from claus.models.detector import Detection  # noqa: E402
from claus.steps import evaluate  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

SHORT = "short.avi"  # the warm-up's video
RATE, HEIGHT, WIDTH, CLASSES, LIMIT = 25, 480, 640, 24, 300
SIDES = {"stream": "as a stream", "whole": "all clips at once"}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--streams-only", action="store_true", help="leave the other side out")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # path, work, side
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    frames = round(args.minutes * 60 * RATE)
    if args.one:
        path, work, side = args.one
        print(added(Path(path), frames, WORKS[work], side))
        return 0
    sides = ["stream"] if args.streams_only else list(SIDES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.avi"
        make(path, frames)
        make(path.with_name(SHORT), 4 * RATE)
        found = {
            work: [measured(path, args.minutes, work, side) for side in sides] for work in WORKS
        }
    rows = [[work, *(f"{mib:.0f}" for mib in values)] for work, values in found.items()]
    head = ["work", *(f"{SIDES[side]}, MiB" for side in sides)]
    text = f"""# Memory of a long video

`python benchmarks/bench_memory.py --minutes {args.minutes:g}`: {machine_line()}.
{args.minutes:g} minutes of {WIDTH}x{HEIGHT} at {RATE} frames/s, read in the process itself (`--workers 0`), for the
full network, which is replaced by one that always sees a square. Highest resident memory above that
before the work, each in a process of its own.

{table(head, rows)}
"""
    if args.minutes >= 3 and not args.streams_only:
        timing.write_results("memory", text)
    else:
        print(text)
    most = max(values[0] for values in found.values())
    if most >= LIMIT:
        sys.exit(f"a stream needs {most:.0f} MiB, the limit is {LIMIT}")
    return 0


def measured(path, minutes, work, side):
    """MiB that one work on the video adds, in a process of its own."""
    command = [sys.executable, __file__, "--minutes", str(minutes)]
    command += ["--one", str(path), work, side]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def added(path, frames, work, side):
    """MiB that a work on a video of `frames` frames adds to this process."""
    short = made_up(4 * RATE)
    # what the first call alone loads
    work(short, chunks_of(path.with_name(SHORT), short, "stream"))
    video = made_up(frames)
    return timing.added_memory(lambda: work(video, chunks_of(path, video, side)))


def made_up(frames):
    """A video with one actor in every frame."""
    every = np.arange(frames)
    boxes = np.array([200, 100, 400, 380]) + (every % 50)[:, None]
    return Video("long", frames, HEIGHT, WIDTH, 0, every, (Tube(0, 0, every, boxes=boxes),))


def chunks_of(path, video, side):
    """Chunks of a video's clips; on the side "whole" a single one."""
    size = {"chunk": 2 * video.frames} if side == "whole" else {}
    find_video = functools.partial(always, path)
    tiles = VideoTiles([video], find_video, GEOMETRY["full", "wide"], 2, "black", **size)
    for _, chunks in TileLoader(tiles, workers=0):
        yield from chunks


def always(path, name):
    """The one video there is."""
    return path


# ------------------------------------------------------------------------------------ works


def read(video, chunks):
    """Clips are decoded and dropped."""
    for _ in chunks:
        pass


def score(video, chunks):
    """The scores of cluster_extract.py, with two passes."""
    trained = SimpleNamespace(
        detector=OneActor(), pixel_range="0..1", geometry=GEOMETRY["full", "wide"]
    )
    settings = engine.ScoreSettings(passes=2, phases=2)
    engine.score_video(trained, video, chunks, settings, two_passes)


def evaluation(video, chunks):
    """Both protocols of evaluate.py: overlaps with the truth, and boxes."""
    trained = SimpleNamespace(
        detector=OneActor(), pixel_range="0..1", classes=tuple(range(CLASSES))
    )
    settings = SimpleNamespace(
        weights=None,
        protocol="both",
        capsule=SimpleNamespace(gt="union"),
        act=DetectionSettings(),
    )
    view = evaluate.View(GEOMETRY["full", "wide"], GEOMETRY["full", "wide"])
    evaluate.score_video(trained, video, chunks, view, settings)


WORKS = {"reading": read, "scoring": score, "evaluation": evaluation}


class OneActor(torch.nn.Module):
    """In place of the detector: a square in the middle is foreground."""

    dropped_channels = (832, 128)

    def __init__(self):
        super().__init__()
        square = torch.full((224, 224), -1.0)
        square[60:160, 60:160] = 1
        self.square = torch.nn.Parameter(square)

    def forward(self, clip):
        logits = self.square + 0.1 * clip[:, :1]
        scores = torch.full((len(clip), CLASSES), 0.5)
        return Detection(logits, scores, torch.zeros(len(clip), 17 * CLASSES), scores.log())


def two_passes(detector, clip, *masks):
    """In place of mc_forward."""
    detection = detector(clip)
    return detection.logits[:, 0].repeat(2, 1, 1, 1), detection.latent[0]


# ---------------------------------------------------------------------------------- a video


def make(path, frames):
    """Write a video: ten seconds, coded once, as often as they are needed."""
    rng, second = np.random.default_rng(0), path.with_name("short.avi")
    ground = random_texture(rng, HEIGHT + 250, WIDTH + 250, grain=3)
    pictures = [ground[f : f + HEIGHT, f : f + WIDTH] for f in range(min(frames, 10 * RATE))]
    write_video(second, np.stack(pictures).astype(np.uint8), RATE)
    with av.open(str(second)) as source, av.open(str(path), "w") as target:
        (stream,) = source.streams.video
        packets = [bytes(p) for p in source.demux(stream) if p.size]
        copy = target.add_stream_from_template(stream)
        for number in range(frames):
            content = packets[number % len(packets)]
            packet = av.Packet(content)
            packet.stream, packet.time_base = copy, stream.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = number % len(packets) % 12 == 0
            target.mux(packet)


if __name__ == "__main__":
    sys.exit(main())
