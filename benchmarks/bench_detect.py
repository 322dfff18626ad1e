"""detect.py from file to JSON: frames a second of each model, in torch and in onnxruntime, and
memory of a long video.

    python benchmarks/bench_detect.py              # a quarter of an hour
    python benchmarks/bench_detect.py --no-memory  # --quick: two seconds of video

Reads   a real UCF clip, enlarged to 640x480, where the real data is; else made stripes
Writes  benchmarks/results/detect.md
Expect  a table: medians of interleaved rounds, decoding, network, linking and JSON included.
        onnxruntime is left out where it is not installed. torch.compile is timed on the
        network alone with --compile: two minutes to compile.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import torch  # noqa: E402

from claus.artifacts.checkpoint import Trained  # noqa: E402
from claus.benchmarks import timing  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.video.reader import iter_frames, pixels  # noqa: E402
from claus.detection import export, files  # noqa: E402
from claus.detection.detector import Detector  # noqa: E402
from claus.detection.network import Network  # noqa: E402
from claus.losses.cluster import Clusters  # noqa: E402
from claus.models.detector import PRESETS, DetectorConfig  # noqa: E402
from claus.models.detector import Detector as Model  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402
from claus.utils.runtime import UserError  # noqa: E402

CLIP = timing.SHARED / "ucf101_24/videos/Diving/v_Diving_g01_c01.avi"
HEIGHT, WIDTH, RATE = 480, 640, 25
CLASSES = tuple(f"class {number}" for number in range(24))


class Onnx(Network):
    """The network in onnxruntime, by a file of export.py."""

    def __init__(self, trained, path, threads):
        import onnxruntime

        super().__init__(trained)
        self._trunk = None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)

    def run(self, clips):
        probs, scores = self.session.run(None, {"clips": clips.numpy()})
        return torch.from_numpy(probs).logit(1e-6), scores


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--frames", type=int, default=256, help="of the video; a quarter of them for `full`"
    )
    parser.add_argument(
        "--seconds",
        type=int,
        nargs=2,
        default=[20, 180],
        help="of the videos whose memory is measured",
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a video whose memory is measured
    args = timing.parse(parser, argv, rounds=1, frames=32, seconds=[1, 3])
    if args.one:
        print(added_memory(Path(args.one)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fps = rates(folder, args.rounds, args.frames)
        memory = [] if args.no_memory else memories(folder, args.seconds)
        compiled = compile_times() if args.compile else None
    write(fps, memory, compiled, args)
    return 0


# -------------------------------------------------------------------------------- the video


def make(path, frames):
    """A video of 640x480, H.264: a real clip as often as it is needed, or made stripes."""
    pictures = []
    if CLIP.exists():
        for frame in iter_frames(CLIP):
            pictures.append(cv2.resize(pixels(frame), (WIDTH, HEIGHT)))
    else:
        place = np.arange(WIDTH)[None] + np.arange(HEIGHT)[:, None]
        for step in range(100):
            stripes = (128 + 100 * np.sin((place + 4 * step) / 20)).astype(np.uint8)
            pictures.append(np.repeat(stripes[..., None], 3, axis=2))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            picture = pictures[number % len(pictures)]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


# ------------------------------------------------------------------------------ frames/s


def detector_of(model):
    """The shipped detector, or another model with random weights, on which time does not
    depend.
    """
    if model == "laptop":
        return Detector.open()
    config = DetectorConfig(classes=len(CLASSES), **PRESETS[model])
    torch.manual_seed(0)
    network = Model(config).eval()
    clusters = Clusters(torch.zeros(1, config.latent_size), torch.ones(1), {})
    geometry = GEOMETRY[model, "wide"]
    return Detector(Trained(network, clusters, CLASSES, "own", geometry, "-1..1", {}, "none"))


def end_to_end(detector, path, threads, settings, network=None):
    """Function of no argument: from the video to its JSON file."""

    def run():
        torch.set_num_threads(threads)
        if network is not None:
            detector._networks[True] = network
        else:
            detector._networks.clear()
        found = detector.detect(path, **settings)
        made_from = files.about(path, detector.source, {})
        files.write(path.with_suffix(f".{threads}.json"), path.stem, found, made_from)
        return found.progress.frames

    return run


def rates(folder, rounds, many):
    """{what: (frames/s, ms of processor time a frame)}, medians of interleaved rounds over a
    video of `many` frames.
    """
    few = many // 4
    long, short = make(folder / "long.mp4", many), make(folder / "short.mp4", few)
    laptop, small, full = (detector_of(model) for model in ("laptop", "small", "full"))
    crop = {"whole": False}
    sides, frames = {}, {}
    for threads in (1, 2):
        key = f"{threads} thread" + ("s" if threads > 1 else "")
        sides["laptop, torch", key] = end_to_end(laptop, long, threads, {}), many
        sides["small, torch, --crop", key] = end_to_end(small, long, threads, crop), many
        sides["small, torch", key] = end_to_end(small, long, threads, {}), many
        sides["full, torch, --crop", key] = end_to_end(full, short, threads, crop), few
    try:
        clips = export.clips_to_check(laptop.trained, [])
        onnx = folder / "laptop.onnx"
        worst = export.write_onnx(laptop.trained, onnx, clips)
        print(f"onnx: {worst:.1e} from torch")
        for threads in (1, 2):
            key = f"{threads} thread" + ("s" if threads > 1 else "")
            other = Detector.open()
            network = Onnx(other.trained, onnx, threads)
            run = end_to_end(other, long, threads, {}, network)
            sides["laptop, onnxruntime", key] = run, many
    except UserError as error:
        print(f"without onnxruntime: {error}")
    frames = {side: count for side, (_, count) in sides.items()}
    runs = {side: run for side, (run, _) in sides.items()}
    times = timing.interleaved(runs, rounds, clock=timing.both_clocks)
    wall, cpu = timing.only(times, 0), timing.only(times, 1)
    return {
        side: (
            frames[side] / timing.median(wall, side),
            1e3 * timing.median(cpu, side) / frames[side],
        )
        for side in sides
    }


def compile_times():
    """ms a frame of the laptop network alone, eager and compiled, by one thread."""
    torch.set_num_threads(1)
    trained = detector_of("laptop").trained
    network = export.Exported(trained).eval()
    clips = export.clips_to_check(trained, [])[:4]
    compiled = torch.compile(network)
    with torch.no_grad():
        began = time.perf_counter()
        compiled(clips)
        seconds = time.perf_counter() - began
        sides = {"eager": lambda: network(clips), "compiled": lambda: compiled(clips)}
        times = timing.interleaved(sides, 5)
    each = {name: 1e3 * timing.median(times, name) / 32 for name in sides}
    return {**each, "seconds": seconds}


# ---------------------------------------------------------------------------------- memory


def memories(folder, lengths):
    """[(seconds of video, MiB added)], each in a process of its own."""
    found = []
    for seconds in lengths:
        path = make(folder / f"{seconds}.mp4", seconds * RATE)
        command = [sys.executable, __file__, "--one", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found.append((seconds, float(done.stdout.split()[-1])))
    return found


def added_memory(path):
    """MiB that a detection adds to a process that has made one before."""
    torch.set_num_threads(2)
    detector = detector_of("laptop")
    short = make(path.with_name("warm.mp4"), 64)
    end_to_end(detector, short, 2, {})()
    return timing.added_memory(end_to_end(detector, path, 2, {}))


def write(fps, memory, compiled, args):
    names = list(dict.fromkeys(name for name, _ in fps))
    keys = list(dict.fromkeys(key for _, key in fps))
    rows = []
    for name in names:
        rates = [f"{fps[name, key][0]:.0f}" for key in keys]
        rows.append([name, *rates, f"{fps[name, keys[0]][1]:.1f}"])
    load = os.getloadavg()[0]
    text = f"""# detect.py, from file to JSON

`python benchmarks/bench_detect.py --rounds {args.rounds}`: {machine_line()}. Load of the machine
at the end {load:.1f}: others were working on it. Frames a second of a 640x480 H.264 video, decoding,
network, links and JSON, medians of {args.rounds} interleaved rounds. Decoding has a thread of its own,
beside those of the network. `full` and `small` have random weights; without --crop four crops
cover the frame.

{table(["", *keys, "processor ms a frame"], rows)}

The last column, of all threads together, with one for the network, is what sharing changes least: on
a core that is idle 1,000 divided by it is the rate, on two up to twice that.
"""
    if memory:
        listed = ", ".join(f"{mib:.0f} MiB for {seconds} s" for seconds, mib in memory)
        text += f"\nMemory that a detection adds (`laptop`, torch): {listed} of video.\n"
    if compiled:
        text += (
            f"\ntorch.compile does not pay: network alone, one thread, "
            f"{compiled['compiled']:.1f} ms a frame, eager {compiled['eager']:.1f}, after "
            f"{compiled['seconds']:.0f} s of compiling.\n"
        )
    timing.write_results("detect", text, args.quick, CLIP.exists())


if __name__ == "__main__":
    sys.exit(main())
