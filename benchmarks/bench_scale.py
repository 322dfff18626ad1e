"""A cycle of a large pool but for decoding, on one machine: what each stage takes of
processor, wall clock, memory and disk.

    python benchmarks/bench_scale.py                                   # 10,000 videos, a minute; --quick: 200
    python benchmarks/bench_scale.py --videos 1000000 --folder /data/scale   # 25 GB

Reads   nothing
Writes  a run below --folder (a temporary one by default), which is removed at the end; the
        table is printed
Expect  a row for each stage, each a process of its own. "open": the annotation file, names
        and frame counts. "append": made-up scores and latents of every video go to the logs of
        scoring, in the place of the network. "look": which videos are left to score, as a
        resumed scoring asks. "merge": the logs become what selection reads. "choose": whole
        claus_select.py commands, by rule. "answer": a form is filled in. "take answers in": the next annotation file.
        "next": the following cycle opens. The exit status is 1 where opening takes more than
        2 s of processor time, or choosing more than 30 s or 1.5 GiB.
"""

import argparse
import contextlib
import importlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"  # one core, before numpy is loaded
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from claus.artifacts.cycle import Cycle  # noqa: E402
from claus.benchmarks.timing import parse  # noqa: E402
from claus.utils.machine import about_machine, in_words  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

RULES = ("claus", "claus-no-clusters", "uncertainty", "entropy", "random")
LABELED = 20  # every so many-th video has labels when the cycle begins
CLASSES, CLUSTERS, TILE = 24, 5, 16
OPEN, CHOOSE, MEMORY = 2, 30, 1.5  # seconds, seconds, GiB: what is asked for a million videos
COLUMNS = ("stage", "processor s", "wall s", "peak GiB", "run on disk GiB")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=100, help="of each (default: 100)")
    parser.add_argument(
        "--width", type=int, default=408, help="numbers of a latent (default: 408, 24 classes)"
    )
    parser.add_argument("--folder", type=Path, help="where the run is made")
    parser.add_argument("--rules", default=",".join(RULES), help="(default: %(default)s)")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    args = parse(parser, argv, videos=200, frames=20, width=8, rules="claus,random")
    if args.stage:
        stage(args)
        return 0
    if args.folder is not None:
        args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench_scale.", dir=args.folder) as folder:
        rows = measure(args, folder)
    machine = in_words(about_machine())
    print(f"\n{args.videos:,} videos of {args.frames} frames; {machine}\n")
    print(table(COLUMNS, [show(row) for row in rows]))
    wrong = limits_exceeded(rows)
    print("\n".join(wrong))
    return 1 if wrong else 0


def measure(args, folder):
    """The rows of the table."""
    rules = [f"choose: {rule}" for rule in args.rules.split(",")]
    names = [
        "make",
        "open",
        "append",
        "look",
        "merge",
        *rules,
        "answer",
        "take answers in",
        "next",
    ]
    rows = []
    for name in names:
        command = [sys.executable, __file__, "--stage", name, "--folder", str(folder)]
        command += ["--videos", str(args.videos), "--frames", str(args.frames)]
        command += ["--width", str(args.width)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{name} failed: {done.stderr[-3000:]}")
        numbers = json.loads(done.stdout.splitlines()[-1])
        rows.append((name, *numbers, size_of(folder) / 2**30))
        print(" · ".join(show(rows[-1])), flush=True)
    return rows


def show(row):
    name, processor, wall, peak, disk = row
    return name, f"{processor:.1f}", f"{wall:.1f}", f"{peak:.2f}", f"{disk:.2f}"


def size_of(folder):
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def limits_exceeded(rows):
    """Texts: what took too long or too much memory, by the measure of a million videos."""
    wrong = []
    for name, processor, _, peak, _ in rows:
        if name in ("open", "next") and processor > OPEN:
            wrong.append(f"{name}: {processor:.1f} s, over {OPEN} s")
        if name.startswith("choose") and (processor > CHOOSE or peak > MEMORY):
            wrong.append(
                f"{name}: {processor:.1f} s and {peak:.2f} GiB, over {CHOOSE} s or {MEMORY} GiB"
            )
    return wrong


# --------------------------------------------------------------------------------- stages


def stage(args):
    """Do one stage in this process, and print what it took as the last line."""
    name, _, rule = args.stage.partition(": ")
    run = args.folder / "run"
    work = {
        "make": lambda: make_pool(args, run),
        "open": lambda: open_pool(run, 0),
        "append": lambda: append_parts(args, run),
        "look": lambda: look(args, run),
        "merge": lambda: merge(args, run),
        "choose": lambda: choose(run, rule),
        "take answers in": lambda: take_answers(run),
        "answer": lambda: fill_form(run),
        "next": lambda: open_pool(run, 1),
    }[name]
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    wall = time.perf_counter() - began
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 2**20
    print(json.dumps([processor_time(), wall, peak]))


def processor_time():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def make_pool(args, run):
    """Cycle 0's annotation file, with labels in every LABELED-th video."""
    from claus.datasets.labels import annotations as annotation_file
    from claus.datasets.labels.annotations import Annotations, Tube, Video

    videos, frames = {}, np.sort(np.arange(0, args.frames, max(args.frames // 5, 1)))
    boxes = np.tile([10, 20, 110, 220], (len(frames), 1))
    for number in range(args.videos):
        label = number % CLASSES
        name = f"Class{label:02d}/v_Class{label:02d}_g{number // CLASSES:06d}_c01"
        if number % LABELED:
            videos[name] = Video(name, args.frames, 240, 320)
        else:
            tube = Tube(label, 1, frames, boxes)
            videos[name] = Video(name, args.frames, 240, 320, label, frames, (tube,))
    classes = tuple(f"Class{label:02d}" for label in range(CLASSES))
    (run / "cycle0").mkdir(parents=True)
    annotation_file.save(
        Annotations("UCF-101-24", classes, videos), run / "cycle0" / "annotations.pkl"
    )


def open_pool(run, cycle):
    """The names, how many frames there are, and how much is labeled."""
    from claus.datasets.labels import annotations as annotation_file

    labels = annotation_file.load(run / f"cycle{cycle}" / "annotations.pkl")
    return list(labels.videos)[-1], labels.total_frames(), labels.counts()


def parts_of(run):
    return Cycle.of(f"{run}/", 0).extract_parts / "made-up"


def append_parts(args, run):
    """What the network would give of every video, from one small table of random numbers."""
    from claus.artifacts.part_log import PartLog
    from claus.selection.uncertainty import SCORES

    generator, tiles = np.random.default_rng(0), -(-args.frames // TILE)
    latents = generator.random((1009, tiles, args.width), np.float32)
    latents += np.arange(1009)[:, None, None] % CLUSTERS
    scores = generator.random(args.frames * 2003 + 7, np.float32)
    scores[scores < 0.3] = 0
    folder = parts_of(run)
    folder.mkdir(parents=True)
    with PartLog(folder, "0", folder.name) as log:
        for number in range(args.videos):
            arrays = {"latents": latents[number % 1009]}
            for place, name in enumerate(SCORES):
                first = (number * 5 + place) % 2003 * args.frames + number % 7
                arrays[name] = scores[first : first + args.frames]
            log.append(number, arrays)


def look(args, run):
    from claus.steps import extract

    assert extract.unscored(parts_of(run), range(args.videos)) == []


def merge(args, run):
    import torch

    from claus.datasets.labels import annotations as annotation_file
    from claus.losses.cluster import Clusters
    from claus.steps import extract

    labels = annotation_file.load(run / "cycle0" / "annotations.pkl")
    centers = torch.arange(CLUSTERS)[:, None] + 0.5 * torch.ones(1, args.width)
    clusters = Clusters(centers, [100] * CLUSTERS, {})
    trained = SimpleNamespace(source="made-up", clusters=clusters)
    cycle = Cycle.of(f"{run}/", 0)
    videos = labels.in_order()
    extract.merge(trained, videos, parts_of(run), {"passes": 10}, cycle)


def choose(run, rule):
    command = ["--run", f"{run}/", "--cycle", "1", "--force", "--method", rule]
    importlib.import_module("claus_select").main(command)


def fill_form(run):
    """Answer the request as a person would, a box in every frame."""
    path = run / "cycle1" / "request.json"
    form = json.loads(path.read_text())
    for video in form["videos"]:
        video["class"] = video["video"].partition("/")[0]
        for frame in video["frames"]:
            frame["actors"] = [{"track": 1, "box": [10, 20, 100, 200]}]
    (run / "answers.json").write_text(json.dumps(form))


def take_answers(run):
    command = ["--run", f"{run}/", "--cycle", "1", "--answers", str(run / "answers.json")]
    importlib.import_module("claus_select").main(command)


if __name__ == "__main__":
    sys.exit(main())
