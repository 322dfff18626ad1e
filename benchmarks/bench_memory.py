"""Memory of a long video: read, scored and evaluated as a stream, against all its clips at
once.

    python benchmarks/bench_memory.py                 # three minutes; --quick: six seconds
    python benchmarks/bench_memory.py --minutes 60 --streams-only --only "evaluation, boxes"

Reads   a 640x480 video at 25 frames/s made on the spot, with a box or a mask in every frame
Writes  benchmarks/results/memory.md, from three minutes or more and both sides
Expect  some minutes for three minutes. The frames are those of the full network (224x224,
        two clips a tile); the network itself is replaced by one that always sees a square,
        because what it needs does not depend on the video. Scoring keeps what is done every
        second (of an hour: every 20), evaluation too, and then reads its labels, writes its
        part and computes the numbers of both protocols and of the floor. Stops with an error
        where a stream needs LIMIT MiB or more.
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
from claus.artifacts.part_log import PartLog  # noqa: E402
from claus.artifacts.parts import Unfinished  # noqa: E402
from claus.benchmarks import timing  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.clips.tiles import TileLoader, VideoTiles  # noqa: E402
from claus.datasets.labels.annotations import Annotations, Tube, Video  # noqa: E402
from claus.datasets.labels.annotations import load as load_labels  # noqa: E402
from claus.datasets.labels.annotations import save as save_labels  # noqa: E402
from claus.datasets.labels.masks import PackedMasks  # noqa: E402
from claus.datasets.sprites import random_texture, write_video  # noqa: E402
from claus.datasets.truth import no_model_floor  # noqa: E402
from claus.flags.evaluation import parse  # noqa: E402
from claus.models.detector import Detection  # noqa: E402
from claus.steps import evaluate  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

SHORT = "short.avi"  # the warm-up's video
RATE, HEIGHT, WIDTH, LIMIT = 25, 480, 640, 300
CLASSES = tuple(f"class {number}" for number in range(24))
# seconds after which what is done of a video is kept: a minute, as the scripts do, or sooner
# in a short one
EVERY = 60
BOXES = "evaluation, boxes"
SIDES = {"stream": "as a stream", "whole": "all clips at once"}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--streams-only", action="store_true", help="leave the other side out")
    parser.add_argument("--only", choices=tuple(WORKS), help="this work alone")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # path, work, side
    args = timing.parse(parser, argv, minutes=0.1)
    torch.set_num_threads(1)
    global EVERY
    EVERY = min(60, args.minutes / 3)
    frames = round(args.minutes * 60 * RATE)
    if args.one:
        path, work, side = args.one
        print(added(Path(path), work, side))
        return 0
    sides = ["stream"] if args.streams_only else list(SIDES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.avi"
        for file, count in ((path, frames), (path.with_name(SHORT), 4 * RATE)):
            make(file, count)
            label(
                file,
                count,
                ("boxes", "masks") if args.only in (None, "evaluation, masks") else ("boxes",),
            )
        found = {
            work: [measured(path, args.minutes, work, side) for side in sides]
            for work in ([args.only] if args.only else WORKS)
        }
    rows = [[work, *(f"{mib:.0f}" for mib in values)] for work, values in found.items()]
    head = ["work", *(f"{SIDES[side]}, MiB" for side in sides)]
    text = f"""# Memory of a long video

`python benchmarks/bench_memory.py --minutes {args.minutes:g}`: {machine_line()}.
{args.minutes:g} minutes of {WIDTH}x{HEIGHT} at {RATE} frames/s, read in the process itself (`--workers 0`), for the
full network, which is replaced by one that always sees a square. Highest resident memory above that
before the work, each in a process of its own. The labels count, and in evaluation all numbers:
{frames} frames with one region each are {frames * len(CLASSES)} boxes of {len(CLASSES)} classes.

{table(head, rows)}
"""
    part = args.minutes < 3 or args.streams_only or args.only is not None
    timing.write_results("memory", text, part)
    most = max(values[0] for values in found.values())
    if most >= LIMIT:
        sys.exit(f"a stream needs {most:.0f} MiB, the limit is {LIMIT}")
    return 0


def measured(path, minutes, work, side):
    """MiB that one work on the video adds, in a process of its own."""
    command = [sys.executable, __file__, "--minutes", str(minutes)]
    command += ["--one", str(path), work, side]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def added(path, work, side):
    """MiB that a work on a video adds to this process, its labels among them."""
    function = WORKS[work]
    # what the first call alone loads
    function(path.with_name(SHORT), "stream")
    return timing.added_memory(lambda: function(path, side))


def label(path, frames, kinds):
    """Write annotation files beside a video, of the kinds "boxes" and "masks": one in every
    frame. An hour of masks takes 20 GB to write.
    """
    boxes = np.array([200, 100, 400, 380]) + (np.arange(frames) % 50)[:, None]
    every = np.arange(frames)
    for kind in kinds:
        marks = {"boxes": boxes}
        if kind == "masks":
            blocks = (drawn(boxes[start : start + 8]) for start in range(0, frames, 8))
            marks = {"masks": PackedMasks.pack_blocks(blocks)}
        tube = Tube(0, 0, every, **marks)
        video = Video("long", frames, HEIGHT, WIDTH, 0, every, (tube,))
        save_labels(Annotations("own", CLASSES, {"long": video}), path.with_suffix(f".{kind}"))


def drawn(boxes):
    """Ellipses that fill boxes (n,4), bool (n,H,W)."""
    x, y, height, width = np.arange(WIDTH), np.arange(HEIGHT)[:, None], 140, 100
    masks = [
        ((y - box[1] - 140) / height) ** 2 + ((x - box[0] - 100) / width) ** 2 for box in boxes
    ]
    return np.stack(masks) <= 1


def labels_of(path, kind):
    """The video with its labels."""
    return load_labels(path.with_suffix(f".{kind}")).videos["long"]


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


def read(path, side):
    """Clips are decoded and dropped."""
    for _ in chunks_of(path, labels_of(path, "boxes"), side):
        pass


def score(path, side):
    """The scores of cluster_extract.py, with two passes."""
    trained = SimpleNamespace(
        detector=OneActor(), pixel_range="0..1", geometry=GEOMETRY["full", "wide"]
    )
    video = None
    settings = engine.ScoreSettings(passes=2, phases=2)
    video = labels_of(path, "boxes")
    work = trained, video, chunks_of(path, video, side), settings, two_passes
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Unfinished(Path(folder), 0, EVERY)
        with PartLog(folder, "0", "scores") as log:
            part.finish(log, engine.score_video(*work, keep=part.keep))


def evaluation(kind, path, side):
    """All that evaluate.py does with a video: overlaps with the truth and regions, then the
    numbers of both protocols and the floor. kind: of labels, "boxes" or "masks".
    """
    trained = SimpleNamespace(
        detector=OneActor(), pixel_range="0..1", classes=CLASSES, amp=False
    )
    nothing = ["--run", "none", "--ground-truth", "none", "--test-list", "none"]
    settings = parse(["--device", "cpu", "--no-floor", *nothing])
    geometry, video = GEOMETRY["full", "wide"], labels_of(path, kind)
    view = evaluate.View(geometry, geometry)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        parts = Path(folder)
        part = Unfinished(parts, 0, EVERY)
        chunks = chunks_of(path, video, side)
        work = trained, video, chunks, view, settings
        with PartLog(parts, "0", parts.name) as log:
            part.finish(log, evaluate.score_video(*work, keep=part.keep))
        scored = evaluate.gather_parts([video], parts, {}, settings)
    switches = evaluate.switches_of(settings, geometry)
    evaluate.score(scored, CLASSES, view, switches, settings, None)
    no_model_floor([video], [video], CLASSES, geometry, switches)


WORKS = {
    "reading": read,
    "scoring": score,
    BOXES: functools.partial(evaluation, "boxes"),
    "evaluation, masks": functools.partial(evaluation, "masks"),
}


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
        scores = torch.full((len(clip), len(CLASSES)), 0.5)
        latent = torch.zeros(len(clip), 17 * len(CLASSES))
        return Detection(logits, scores, latent, scores.log())


def two_passes(detector, clip, *masks):
    """In place of mc_forward."""
    detection = detector(clip)
    return detection.logits[:, 0].repeat(2, 1, 1, 1), detection.latent[0]


# ---------------------------------------------------------------------------------- a video


def make(path, frames):
    """Write a video: ten seconds, coded once, as often as they are needed."""
    rng, second = np.random.default_rng(0), path.with_suffix(".once.avi")
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
