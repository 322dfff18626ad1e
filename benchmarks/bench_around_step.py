"""What a training does around its steps: its clips read by one loader and by fresh ones, and
how much of the time training.pt takes.

    OMP_NUM_THREADS=1 python benchmarks/bench_around_step.py      # three minutes on two cores; --quick: the small network, few clips

Reading, without a network: EPOCHS epochs, each with its training clips, the 32 batches of
which batch norm is re-estimated, and the clips that are validated on. Fresh: a loader for the
training clips that stays, and one each epoch for the two others, as it was before. One: one
loader for all three (Clips), and the re-estimation on the frames that were just decoded
(KeptFrames). Both give the same bytes, or the exit status is 1. Then training.pt of the full
network is written once, and what follows from it said.
Writes  benchmarks/results/around_step.md
"""

import argparse
import hashlib
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import torch  # noqa: E402

from claus.artifacts import checkpoint  # noqa: E402
from claus.benchmarks import loading_data  # noqa: E402
from claus.benchmarks.timing import (  # noqa: E402
    cpu_clock,
    interleaved,
    median,
    parse,
    ratio,
    write_results,
)
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.clips.training_clips import (  # noqa: E402
    Clips,
    ClipSampler,
    LabeledFrames,
    TrainingClips,
    collate,
    in_batches,
)
from claus.models.detector import PRESETS, Detector, DetectorConfig  # noqa: E402
from claus.steps.train import SAVING_SHARE  # noqa: E402
from claus.training import KeptFrames  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

EPOCHS, BATCHES, BATCH, VALIDATED = 3, 32, 8, 32


class Reading:
    """The two ways to read; each gives digests of what a training would be given."""

    def __init__(self, clips, workers):
        self.clips, self.workers = clips, workers
        self.labels, self.find, self.where = loading_data.read()
        common = self.labels, self.find, GEOMETRY["full", "wide"], 0
        folder = tempfile.mkdtemp()
        self.sets = {
            "training": (TrainingClips(*common, folder=folder), collate),
            "validation": (LabeledFrames(*common, folder=folder), collate),
        }
        self.sampler = ClipSampler(list(self.labels.videos), 0, clips)
        videos = self.labels.videos.values()
        shown = [(video.name, int(f)) for video in videos for f in video.labeled_frames]
        self.validated = shown[:VALIDATED]

    def plan(self, name, epoch):
        """Keys of the batches of a data set in an epoch."""
        self.sampler.epoch = epoch
        return list(in_batches(self.validated if name == "validation" else self.sampler, BATCH))

    def fresh(self, digest):
        """Loaders of their own for batch norm and validation in every epoch."""
        training = Clips(self.sets, self.workers)
        for epoch in range(EPOCHS):
            for batch in training.batches("training", self.plan("training", epoch)):
                digest(batch["frames"])
            for name, count in (("training", BATCHES), ("validation", None)):
                other = Clips(self.sets, self.workers)
                for batch in other.batches(name, self.plan(name, epoch)[:count]):
                    digest(batch["frames"])

    def one(self, digest):
        """One loader, and the frames that were just decoded."""
        clips = Clips(self.sets, self.workers)
        for epoch in range(EPOCHS):
            kept = KeptFrames(BATCHES)
            for batch in clips.batches("training", self.plan("training", epoch)):
                kept.add(batch)
                digest(batch["frames"])
            for batch in kept.whole(min(BATCHES, len(self.plan("training", epoch)))):
                digest(batch["frames"])
            for batch in clips.batches("validation", self.plan("validation", epoch)):
                digest(batch["frames"])


def digest_of(way):
    """SHA-256 of all that a way of reading gives."""
    found = hashlib.sha256()
    way(lambda frames: found.update(frames.numpy().data))
    return found.hexdigest()


def writing(model):
    """(bytes, seconds) of a training.pt of a network, written once."""
    detector = Detector(DetectorConfig(24, **PRESETS[model]))
    weights = detector.state_dict()
    moments = {name: (torch.zeros_like(x), torch.zeros_like(x)) for name, x in weights.items()}
    state = {"detector": weights, "optimizer": moments}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "training.pt"
        times = interleaved({"write": lambda: checkpoint.save(state, path)}, 3, 0)
    return nbytes(state), median(times, "write")


def nbytes(state):
    """Bytes of the tensors in a state of dicts and lists."""
    if isinstance(state, torch.Tensor):
        return state.nbytes
    if isinstance(state, dict):
        state = state.values()
    elif not isinstance(state, list | tuple):
        return 0
    return sum(map(nbytes, state))


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=128, help="training clips an epoch")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--model", default="full", help="whose training.pt is written")
    args = parse(parser, argv, rounds=1, clips=16, model="small")
    reading = Reading(args.clips, args.workers)
    same = digest_of(reading.fresh) == digest_of(reading.one)
    ways = {"fresh": reading.fresh, "one": reading.one}
    sides = {name: lambda way=way: way(len) for name, way in ways.items()}
    wall = interleaved(sides, args.rounds, 0)
    processor = interleaved(sides, args.rounds, 0, clock=cpu_clock)
    size, seconds = writing(args.model)
    rows = [
        [
            name,
            f"{median(wall, name) / EPOCHS:.2f}",
            f"{median(processor, name) / EPOCHS:.2f}",
            f"×{ratio(processor, 'fresh', name):.2f}",
        ]
        for name in sides
    ]
    head = ["loaders", "s an epoch", "processor s an epoch", "against fresh"]
    write_results(
        "around_step",
        f"""# Around a training step

`OMP_NUM_THREADS=1 python benchmarks/bench_around_step.py`
{machine_line()}

Reading alone, {reading.where}, 224x224, {args.clips} training clips an epoch, {BATCHES} batches of {BATCH} for batch
norm, {len(reading.validated)} clips to validate on, --workers {args.workers}; medians of {args.rounds} interleaved
rounds. Frames of both: {"the same bytes" if same else "NOT the same"}.

{table(head, rows)}

training.pt of the {args.model} network: {size / 1e6:.0f} MB, {seconds:.1f} s a write. At most {100 * SAVING_SHARE:.0f}% of the
time: one in {seconds / SAVING_SHARE:.0f} s. After each epoch of 10 s it took {100 * seconds / (10 + seconds):.0f}%.
""",
        args.quick,
        loading_data.real(),
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
