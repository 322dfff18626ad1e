"""The two sides that bench_gpu.py measures, ours and the published way, on the same weights
and made-up data.
"""

import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from claus import engine
from claus.benchmarks.timing import interleaved
from claus.datasets.clips.geometry import ClipGeometry
from claus.engine import ScoreSettings, score_video
from claus.losses.cluster import FIRST_COUNT, Clusters
from claus.losses.criterion import LossSettings, total_loss
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.input import normalize
from claus.models.mc_dropout import mc_forward, seeded_masks
from claus.reference import network as plain_network
from claus.utils.precision import Precision, autocast

DEFAULT = Precision()  # the scripts' own
CLASSES, PIXELS = 24, "-1..1"
VIDEOS, FRAMES, TILES = 2284, 395_868, 25_743  # UCF-101-24, training part; tiles of 16 frames
TEST_TILES = 914 * TILES // VIDEOS  # of its 914 test videos, which are as long


@dataclass(frozen=True)
class Settings:
    """How much is measured. passes: R of scoring; rounds: turns of each side; minutes: start
    no part that would not end by then; tiny: the small network and little of everything.
    """

    device: str
    batch_size: int
    passes: int
    rounds: int
    minutes: float
    tiny: bool
    annotations: str | None
    data: str | None
    workers: int


class Bench:
    """What all parts share: the networks with the same weights, made-up batches, and the
    time that is left.
    """

    def __init__(self, settings):
        self.settings, self.began = settings, time.perf_counter()
        self.device = torch.device(settings.device)
        self.cuda = self.device.type == "cuda"
        Precision().take(self.device)  # the scripts' own
        self.losses = LossSettings()
        torch.manual_seed(0)
        self.config = DetectorConfig(CLASSES, **PRESETS["small" if settings.tiny else "full"])
        self.detector = Detector(self.config).to(self.device)
        self.batches = [self.batch(seed) for seed in range(1 if settings.tiny else 10)]
        engine.reestimate_batch_norm(self.detector, self.batches, PIXELS, 4, amp=False)
        self.plain = plain_network.PlainDetector(self.config).to(self.device)
        self.plain.load_state_dict(self.detector.state_dict())
        self.problems = []

    def batch(self, seed):
        """A training batch as the loader gives it: uint8 frames in pinned memory."""
        b, size = self.settings.batch_size, self.config.size
        generator = torch.Generator().manual_seed(seed)
        batch = {
            "frames": patches(b, size, generator),
            "target": (torch.rand(b, 8, size, size, generator=generator) < 0.1).to(torch.uint8),
            "weight": torch.rand(b, 8, size, size, generator=generator),
            "label": torch.randint(CLASSES, (b,), generator=generator),
        }
        if self.cuda:
            batch = {key: value.pin_memory() for key, value in batch.items()}
        return {**batch, "name": [f"video{i}" for i in range(b)], "failed": []}

    def clusters(self):
        return Clusters(
            torch.zeros(5, self.config.latent_size),
            [FIRST_COUNT] * 5,
            {f"video{i}": i % 5 for i in range(self.settings.batch_size)},
        )

    def autocast(self, enabled=True):
        """engine's autocast; on a CPU PyTorch's own, so that a trial goes the same way."""
        if self.cuda:
            return autocast(self.device, enabled)
        return torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    def time_left(self, what, seconds=0):
        """Whether a part that takes about so long would end within --minutes; says so where
        it would not.
        """
        left = 60 * self.settings.minutes - (time.perf_counter() - self.began)
        if seconds < left or self.settings.tiny:
            return True
        print(
            f"{what}: left out, it takes about {seconds:g} s and {max(left, 0):.0f} of "
            f"--minutes {self.settings.minutes:g} are left",
            flush=True,
        )
        return False

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, sides):
        """Seconds of each side's rounds, in turns, the device awaited."""

        def awaited(function):
            return lambda: (function(), self.wait())

        warmup = 0 if self.settings.tiny else 2
        return interleaved(
            {name: awaited(f) for name, f in sides.items()}, self.settings.rounds, warmup
        )

    def peak(self, function):
        """GiB of device memory at the peak of one call, all that is held included, as text;
        "-" on the CPU.
        """
        if not self.cuda:
            return "-"
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        function()
        self.wait()
        return f"{torch.cuda.max_memory_allocated() / 2**30:.2f}"

    def agree(self, what, difference, limit):
        print(f"agreement, {what}: {difference:.2g} (at most {limit:g})", flush=True)
        if not difference <= limit:
            self.problems.append(f"{what} differ by {difference:.2g}")


def patches(clips, size, generator):
    """Clips uint8 (n,8,3,S,S) of colored patches: of noise in single pixels a network sees
    little but the mean.
    """
    coarse = torch.rand(clips * 8, 3, 7, 7, generator=generator) * 255
    frames = F.interpolate(coarse, (size, size), mode="bilinear").to(torch.uint8)
    return frames.reshape(clips, 8, 3, size, size)


# ---- the sides of training and scoring ----


def ours(bench, precision=DEFAULT, forward=None):
    """A function that trains one pass over the made-up batches with engine.train_one_epoch.

    forward: of engine.Forward, where it is compiled.
    """
    detector = bench.detector
    groups = [{"params": detector.parameters(), "base_lr": 1e-6}]
    optimizer = torch.optim.Adam(groups, 1e-6, fused=True)
    clusters = bench.clusters()
    step = engine.ClausStep(detector, forward=forward, amp=precision.amp)

    def epoch():
        precision.take(bench.device)
        engine.train_one_epoch(
            step, clusters, bench.batches, optimizer, engine.Pace(0, 100), PIXELS
        )
        clusters.forget()
        DEFAULT.take(bench.device)

    return epoch


def training_step(bench):
    """(a function that takes one step on a batch, a batch), by engine.train_one_step."""
    groups = [{"params": bench.detector.parameters(), "base_lr": 1e-6}]
    optimizer = torch.optim.Adam(groups, 1e-6, fused=True)
    clusters, step = bench.clusters(), engine.ClausStep(bench.detector)
    now = engine.Pace(0, 100).at(0)

    def one(batch):
        step.begin_epoch()
        part = engine.part_of_batch(batch)
        engine.train_one_step(step, clusters, batch, optimizer, now, part, PIXELS)
        clusters.forget()

    return one, bench.batches[0]


def published(bench, amp):
    """The same batches the published way."""
    network, clusters, options = bench.plain.train(), bench.clusters(), LossSettings()
    optimizer = plain_network.plain_adam(network, 1e-6)

    def epoch():
        for batch in bench.batches:
            batch = engine.to_device(batch, bench.device, PIXELS)
            masks = bench.detector.random_masks(len(batch["label"]), bench.device)
            centers = clusters.of(batch["name"], bench.device)
            with autocast(bench.device, amp):
                plain_network.plain_step(
                    network,
                    optimizer,
                    batch["clip"],
                    masks,
                    lambda out, batch=batch, c=centers: total_loss(out, batch, c, options, 0.5)[
                        0
                    ],
                )

    return epoch


def video(bench, seed=0):
    """(trained, video, chunks) of a made-up video of mean length, as cluster_extract.py has
    them.
    """
    tiles = 1 if bench.settings.tiny else round(TILES / VIDEOS)
    size = bench.config.size
    geometry = ClipGeometry((size, size), (size, size), size)
    frames = patches(tiles, size, torch.Generator().manual_seed(seed))
    item = {
        "clips": frames.pin_memory() if bench.cuda else frames,
        "tile": np.arange(tiles),
        "phase": np.zeros(tiles, int),
    }
    return (
        SimpleNamespace(
            detector=bench.detector,
            pixel_range=PIXELS,
            geometry=geometry,
            classes=tuple(f"class {number}" for number in range(CLASSES)),
            amp=bench.cuda,
        ),
        SimpleNamespace(name="made/up", frames=16 * tiles, height=240, width=320),
        [item],
    )


def scoring(bench, precision=DEFAULT, forward=mc_forward):
    """A function that scores one made-up video with score_video."""
    settings = ScoreSettings(passes=bench.settings.passes, amp=precision.amp)
    work = video(bench)

    def score():
        precision.take(bench.device)
        bench.detector.eval()
        score_video(*work, settings, forward)
        DEFAULT.take(bench.device)

    return score


def published_scoring(bench, amp):
    """The same video with R full passes a clip; without the frame scores, which take nearly
    nothing.
    """
    _, about, (item,) = video(bench)

    def score():
        bench.plain.eval()
        for tile, clip in enumerate(item["clips"].to(bench.device)):
            masks = seeded_masks(bench.detector, 0, about.name, tile, 0, bench.settings.passes)
            with autocast(bench.device, amp):
                plain_network.plain_scoring(
                    bench.plain,
                    normalize(clip[None], PIXELS),
                    *(mask.to(bench.device) for mask in masks),
                )

    return score
