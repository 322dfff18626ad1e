"""--model laptop: what its trunk costs, and what its features on disk save.

    python benchmarks/bench_laptop.py            # --quick: a few frames, one round

Reads   a made-up video
Writes  benchmarks/results/laptop.md
Expect  two minutes. Stops with an error where both sides do not give the same.
"""

import argparse
import copy
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import claus.utils.startup  # noqa: E402, F401  before torch

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402

from claus import engine  # noqa: E402
from claus.batch_parts import part_of_batch  # noqa: E402
from claus.benchmarks import timing  # noqa: E402
from claus.datasets.clips.geometry import GEOMETRY  # noqa: E402
from claus.datasets.labels.annotations import Video  # noqa: E402
from claus.datasets.sprites import write_video  # noqa: E402
from claus.datasets.video.feature_cache import FeatureCache  # noqa: E402
from claus.losses.cluster import Clusters  # noqa: E402
from claus.losses.criterion import LossSettings  # noqa: E402
from claus.models.detector import PRESETS, Detector, DetectorConfig  # noqa: E402
from claus.models.lite import FrameMaps, Trunk, joined  # noqa: E402
from claus.models.mc_dropout import mc_forward, seeded_masks  # noqa: E402
from claus.training import WEIGHTS  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

CLASSES, PASSES = 21, 10
SIZE = 240, 320  # of the video
CLIP = 8  # frames


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=48, help="of the made-up video")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=16, help="clips of a training step")
    args = timing.parse(parser, argv, frames=20, rounds=1, batch=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(CLASSES, **PRESETS["laptop"])).eval()
    state = torch.load(WEIGHTS / "lite2_imagenet.pt", weights_only=True)
    detector.conv1.load_state_dict(state, strict=False)
    size = detector.config.size
    frames = torch.rand(16, 3, size, size) * 2 - 1
    rows = [of_the_trunk(detector.conv1.trunk, frames, args.rounds)]
    with tempfile.TemporaryDirectory() as folder:
        rows.append(of_the_cache(detector, Path(folder), args))
    rows += of_the_network(detector, frames, args)
    torch.set_num_threads(threads)
    pieces = of_pieces(detector, args)
    timing.write_results(
        "laptop",
        f"""# `--model laptop`

`python benchmarks/bench_laptop.py`: {machine_line()}.
One thread, {size}×{size} pixels. Medians of interleaved rounds, milliseconds of processor time; × is the median of a
round's ratios. Plainly: the trunk with batch norms of their own, in PyTorch's usual layout; features
from pictures each time. Checked in the same run: maps within 1e-4 of their scale, records equal to the
rounding of half precision, logits within 2% of their scale.

{table(["work", "plainly", "ours", "×"], rows)}

A whole training step (batch, losses, gradients, Adam) of {args.batch} clips from records, {threads} threads,
wall-clock: the batch at once in all threads, against pieces of it side by side in a thread each.
Same loss, gradients within 1e-4 of their scale.

{table(["work", "at once", "in pieces", "×"], [pieces])}
""",
        args.quick,
    )
    return 0


class PlainTrunk(torch.nn.Module):
    """The trunk in the usual layout, a batch norm after every convolution."""

    def __init__(self, trunk):
        super().__init__()
        self.trunk, self.norms = Trunk(), torch.nn.ModuleList()
        self.trunk.load_state_dict(trunk.state_dict())
        for layer in self.trunk.modules():
            if hasattr(layer, "groups"):
                norm = torch.nn.BatchNorm2d(len(layer.bias), eps=0).eval()
                norm.bias.data.copy_(layer.bias)
                layer.bias.data.zero_()
                self.norms.append(norm)
                layer.register_forward_hook(_with(norm, layer))
                layer.was_linear, layer.linear = layer.linear, True

    @torch.no_grad()
    def forward(self, frames):
        x, kept = self.trunk.stem(frames), []
        for number, block in enumerate(self.trunk.blocks):
            x = block(x)
            if number in self.trunk.ends:
                kept.append(x)
        return FrameMaps(*kept)


def _with(norm, layer):
    def hook(module, inputs, output):
        output = norm(output)
        return output if layer.was_linear else output.clamp(0, 6)

    return hook


def of_the_trunk(trunk, frames, rounds):
    """A frame through the trunk."""
    plain = PlainTrunk(trunk)
    with torch.no_grad():
        for ours, theirs in zip(trunk(frames), plain(frames), strict=True):
            same(ours, theirs, 1e-4, "a map of the trunk")
        times = timing.interleaved(
            {"plain": lambda: plain(frames), "ours": lambda: trunk(frames)},
            rounds,
            clock=timing.cpu_clock,
        )
    return row("trunk, a frame", times, len(frames))


def of_the_cache(detector, folder, args):
    """The frames of a clip: decoded and computed, or read."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    write_video(
        folder / "v.avi", np.stack([np.roll(ground, k, axis=1) for k in range(args.frames)])
    )
    video, shown = Video("v", args.frames, *SIZE), 2 * np.arange(CLIP)
    geometry, trunk = GEOMETRY["laptop", "wide"], detector.conv1.trunk
    kept = FeatureCache(folder / "kept", 1, geometry, "-1..1").take(trunk)
    plain = FeatureCache(folder / "plain", 0, geometry, "-1..1").take(trunk)
    places = [shown + start for start in range(0, args.frames - 2 * CLIP, 5)]

    def through(cache):
        return [cache.records(folder / "v.avi", video, place) for place in places]

    for ours, theirs in zip(through(kept), through(plain), strict=True):
        same(ours.float(), theirs.float(), 2e-3, "a record")
    times = timing.interleaved(
        {"plain": lambda: through(plain), "ours": lambda: through(kept)},
        args.rounds,
        clock=timing.cpu_clock,
    )
    return row("features of a clip of 8 frames, from a file", times, len(places))


def of_the_network(detector, frames, args):
    """A training step, the scores of a clip and its inference: from pictures, from records."""
    clip = frames[:CLIP].transpose(0, 1)[None]
    with torch.no_grad():
        records = joined(detector.conv1.trunk(frames[:CLIP]))[None]
        same(detector(records).logits, detector(clip).logits, 0.02, "a logit")
    masks = seeded_masks(detector, 0, "v", 0, 0, PASSES)
    rows = []
    for name, work in (
        (f"scoring a clip, R = {PASSES}", lambda x: mc_forward(detector, x, *masks)),
        ("inference of a clip", lambda x: inference(detector, x)),
    ):
        times = timing.interleaved(
            {"plain": lambda work=work: work(clip), "ours": lambda work=work: work(records)},
            args.rounds,
            clock=timing.cpu_clock,
        )
        rows.append(row(name, times, 1))
    detector.train()
    many, few = clip.expand(args.batch, -1, -1, -1, -1), records.expand(args.batch, -1, -1)
    times = timing.interleaved(
        {"plain": lambda: step(detector, many), "ours": lambda: step(detector, few)},
        max(args.rounds // 2, 1),
        clock=timing.cpu_clock,
    )
    rows.append(row(f"training step, batch {args.batch}", times, 1))
    return rows


def of_pieces(detector, args):
    """A training step as training.py makes it: the batch at once, and in pieces."""
    config, made = detector.config, torch.Generator().manual_seed(1)
    shape = args.batch, CLIP, config.size, config.size
    batch = {
        "frames": torch.rand(*shape[:2], detector.record_length, generator=made).half(),
        "target": torch.rand(shape, generator=made) > 0.8,
        "weight": torch.rand(shape, generator=made),
        "label": torch.arange(args.batch) % CLASSES,
        "name": [f"v{number}" for number in range(args.batch)],
        "failed": [],
    }
    part, now = part_of_batch(batch), engine.Pace(0, 100).at(0)
    steps, first = {}, {}
    for name in ("plain", "ours"):
        network = copy.deepcopy(detector)
        steps[name] = one_step(network, batch, part, now, at_once=name == "plain")
        loss = steps[name]()
        found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
        first[name] = float(loss), found
    if abs(first["plain"][0] - first["ours"][0]) > 1e-4:
        sys.exit(f"the losses differ: {first['plain'][0]} and {first['ours'][0]}")
    largest = max(float(gradient.abs().max()) for gradient in first["plain"][1])
    for ours, theirs in zip(first["ours"][1], first["plain"][1], strict=True):
        if float(theirs.abs().max()) > 1e-7 * largest:  # the rest is rounding alone
            same(ours, theirs, 1e-4, "a gradient")
    times = timing.interleaved(steps, args.rounds)
    return row(f"training step, batch {args.batch}", times, 1)


def one_step(detector, batch, part, now, at_once):
    """A function of no argument: one training step -> its loss."""
    step = engine.ClausStep(detector, LossSettings(class_loss="cross-entropy"))
    if at_once:
        step.takes_pieces = lambda device: False
    step.begin_epoch()
    centers = torch.zeros(1, detector.config.latent_size)
    clusters = Clusters(centers, [100], dict.fromkeys(batch["name"], 0))
    groups = [
        {"params": [p for p in detector.parameters() if p.requires_grad], "base_lr": 1e-3}
    ]
    optimizer = torch.optim.Adam(groups, 1e-3, fused=True)
    return lambda: engine.train_one_step(step, clusters, batch, optimizer, now, part, "-1..1")[
        0
    ]


@torch.no_grad()
def inference(detector, clip):
    return detector(clip)


def step(detector, clip):
    """Forward and backward pass."""
    out = detector(clip)
    (out.logits.sigmoid().mean() + out.class_logits.logsumexp(1).mean()).backward()
    detector.zero_grad(set_to_none=True)


def same(ours, theirs, share, what):
    """Exit unless two tensors agree to a share of their scale."""
    scale = float(theirs.abs().max())
    worst = float((ours - theirs).abs().max())
    if not worst <= share * scale:
        sys.exit(f"{what} differs by {worst:.2g} of {scale:.2g}")


def row(name, times, count):
    """A row of the table: milliseconds of one of `count`."""
    plain, ours = (
        f"{1000 * timing.median(times, side) / count:.2f}" for side in ("plain", "ours")
    )
    return [name, plain, ours, f"×{timing.ratio(times, 'plain', 'ours'):.2f}"]


if __name__ == "__main__":
    sys.exit(main())
