"""The network on a GPU: training, scoring, peak memory, share of the roofline, and what a
full cycle would take.

    python benchmarks/bench_gpu.py                          # nothing to do, and says so, where there is no CUDA device
    python benchmarks/bench_gpu.py --quick      # --device cpu --tiny: the same way through, in a minute; the figures mean little

Reads   nothing: clips and weights are made up here. Needs torch, torchvision, NumPy, OpenCV
        and tqdm; no network. With --annotations and --data (and PyAV) the training clips
        come from real videos, through the loader.
Writes  benchmarks/results/gpu.md (not for --tiny)
Expect  under ten minutes on one H200, most of it compiling; a part that would not end within
        --minutes is left out aloud, and each table is in the file as soon as it is made. Our
        training is engine.train_one_epoch itself, our scoring engine.score_video itself. The
        published side is reference/network.py: two forward passes a step, R full passes a
        clip. Both sides must agree, and neither a training step nor a scored tile may wait
        for the GPU, or the exit status is 1. Also: kernels a step, what bf16 and TF32 do to
        gradients and to the choice of frames, evaluation, torch.compile and CUDA graphs.
"""

# ruff: noqa: E402
import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import claus.utils.startup  # noqa: F401  before torch

# isort: split
import torch
from torch.utils.flop_counter import FlopCounterMode

from claus import engine
from claus.benchmarks import gpu_checks, gpu_costs
from claus.benchmarks.gpu_checks import WAYS
from claus.benchmarks.gpu_sides import (
    FRAMES,
    PIXELS,
    TEST_TILES,
    TILES,
    VIDEOS,
    Bench,
    Settings,
    ours,
    published,
    published_scoring,
    scoring,
    training_step,
    video,
)
from claus.benchmarks.timing import RESULTS, median, parse, ratio
from claus.models.detector import Features
from claus.models.input import normalize
from claus.models.mc_dropout import mc_forward, seeded_masks
from claus.reference import network as plain_network
from claus.utils.machine import machine_line
from claus.utils.markdown import table
from claus.utils.precision import Precision, autocast
from claus.utils.runtime import write_text

EPOCHS, CLIPS_A_VIDEO, BN_BATCHES = 40, 2, 32  # of a training; batch-norm batches of each epoch
TOLERANCE = 2e-3  # of the mean probability, between the two networks in float32 without TF32


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cuda", help="cuda, or cpu with --tiny")
    add(
        "--tiny",
        action="store_true",
        help="the small network and little of everything, to prove the way through",
    )
    add("--batch-size", type=int, default=8, help="clips a training step")
    add("--passes", type=int, default=10, help="R, dropout passes of scoring")
    add("--rounds", type=int, default=5, help="times each side takes its turn")
    add("--minutes", type=float, default=9, help="start no part that would not end by then")
    add(
        "--annotations",
        help="annotation file of videos below --data, to measure training with the loader",
    )
    add("--data", help="folder of these videos")
    add("--workers", type=int, default=os.cpu_count(), help="processes that decode them")
    args = parse(parser, argv, device="cpu", tiny=True)
    del args.quick  # which is --device cpu --tiny
    if (args.annotations is None) != (args.data is None):
        parser.error("--annotations and --data belong together")
    return args


# ---- parts ----


def check(bench):
    """Both networks are the same function: mean probability of R passes and latent, float32
    without TF32.
    """
    Precision().take(bench.device)
    clip = normalize(bench.batches[0]["frames"][:1].to(bench.device), PIXELS)
    masks = [
        mask.to(bench.device)
        for mask in seeded_masks(bench.detector, 0, "check", 0, 0, bench.settings.passes)
    ]
    bench.detector.eval()
    bench.plain.eval()
    fast, latent = mc_forward(bench.detector, clip, *masks)
    slow, plain_latent = plain_network.plain_scoring(bench.plain, clip, *masks)
    bench.agree(
        "mean probability",
        float((fast.sigmoid().mean(0) - slow.sigmoid().mean(0)).abs().max()),
        TOLERANCE,
    )
    bench.agree(
        "latent",
        float((latent - plain_latent).abs().max() / plain_latent.abs().max()),
        TOLERANCE,
    )
    with autocast(bench.device, bench.cuda):
        half, _ = mc_forward(bench.detector, clip, *masks)
    difference = float((half.float().sigmoid() - fast.sigmoid()).mean(0).abs().max())
    print(
        f"bf16 against float32, mean probability: {difference:.2g} (made-up weights; "
        "nothing is asked of it)"
    )


def training_table(bench):
    """Clips a second and peak memory of a training step, all sides in turns. -> (table,
    {side: clips a second}).
    """
    sides = {
        "published, fp32": published(bench, False),
        "published, bf16": published(bench, True),
        "ours, fp32": ours(bench, WAYS["float32"]),
        "ours, TF32": ours(bench, WAYS["TF32"]),
        "ours, bf16": ours(bench),
        "ours, bf16, cudnn.benchmark": ours(bench, Precision(cudnn_benchmark=True)),
    }
    return rates_table(bench, sides, clips_of(bench), "clips/s", "published, bf16")


def scoring_table(bench):
    """Videos a second and peak memory of scoring. -> (table, {side: videos a second})."""
    sides = {
        "published, fp32": published_scoring(bench, False),
        "published, bf16": published_scoring(bench, True),
        "ours, fp32": scoring(bench, WAYS["float32"]),
        "ours, TF32": scoring(bench, WAYS["TF32"]),
        "ours, bf16": scoring(bench),
    }
    return rates_table(bench, sides, 1, "videos/s", "published, bf16")


def clips_of(bench):
    """Clips of one pass over the made-up batches."""
    return len(bench.batches) * bench.settings.batch_size


def compiled_training(bench):
    """Eager against torch.compile and a CUDA graph: as training_table."""
    forwards = {
        "ours, bf16, torch.compile": engine.Forward(bench.detector, compiled=True),
        "ours, bf16, CUDA graph": engine.Forward(bench.detector, True, graphs=bench.cuda),
    }
    made = {name: ours(bench, forward=forward) for name, forward in forwards.items()}
    sides = {"ours, bf16": ours(bench), **working(bench, "training", made)}
    return rates_table(bench, sides, clips_of(bench), "clips/s", "ours, bf16")


def compiled_scoring(bench):
    """Eager against torch.compile and a CUDA graph: as scoring_table."""
    forwards = {
        "ours, bf16, torch.compile": engine.scoring_forward(True, "cpu"),
        "ours, bf16, CUDA graph": engine.scoring_forward(True, bench.device),
    }
    made = {name: scoring(bench, forward=forward) for name, forward in forwards.items()}
    sides = {"ours, bf16": scoring(bench), **working(bench, "scoring", made)}
    return rates_table(bench, sides, 1, "videos/s", "ours, bf16")


def working(bench, what, sides):
    """Those of the compiled sides that compile; the others are said."""
    found = {}
    for name, side in sides.items():
        try:
            if bench.settings.tiny:  # a compiler takes minutes
                print(f"{name}, {what}: left out of a trial", flush=True)
                continue
            side()
            bench.wait()
        except Exception as error:  # of any of its many layers
            reason = str(error).partition(chr(10))[0]
            print(f"{name}, {what}: failed: {type(error).__name__}: {reason}", flush=True)
            continue
        found[name] = side
    return found


def rates_table(bench, sides, work, unit, yardstick):
    times = bench.timed(sides)
    rates = {name: work / median(times, name) for name in sides}
    rows = [
        [
            name,
            f"{rates[name]:.3g}",
            f"{1000 * median(times, name) / work:.3g}",
            f"×{ratio(times, yardstick, name):.2f}",
            bench.peak(sides[name]),
        ]
        for name in sides
    ]
    return table(
        ["", unit, f"ms a {unit[:-3]}", f"against {yardstick}", "peak GiB"], rows
    ), rates


def parts_table(bench, rates):
    """Encoder, capsules and decoder, forward and backward, in bf16: measured against what
    the roofline allows.
    """
    detector, batch = (
        bench.detector.train(),
        engine.to_device(bench.batches[0], bench.device, PIXELS),
    )
    masks = detector.random_masks(bench.settings.batch_size, bench.device)

    def backward(outputs, inputs):
        outputs = [x for x in outputs if x is not None and x.requires_grad]
        torch.autograd.grad(
            outputs, inputs, [torch.ones_like(x) for x in outputs], allow_unused=True
        )

    def leaves(tensors):
        return [x.detach().requires_grad_() for x in tensors]

    with autocast(bench.device, bench.cuda):
        made = leaves(detector.encode(batch["clip"])[:3])
    features = Features(*made)

    def encoder():
        with autocast(bench.device, bench.cuda):
            out = detector.encode(batch["clip"])
        backward(out, list(detector.conv1.parameters()))

    def capsules():
        with autocast(bench.device, bench.cuda):
            out = detector.capsules(features.mixed_4f)
        backward(
            out,
            [*detector.primary_caps.parameters(), *detector.conv_caps.parameters(), made[0]],
        )

    def head():
        with autocast(bench.device, bench.cuda):
            out = detector.head(features, *masks)
        rest = [p for name, p in detector.named_parameters() if not name.startswith("conv1.")]
        backward(out, [*rest, *made])

    parts = {"encoder": encoder, "capsules": capsules, "capsules and decoder": head}
    times = bench.timed(parts)
    costs = {name: gpu_costs.Costs.of(part) for name, part in parts.items()}
    seconds = {name: median(times, name) for name in parts}
    least = {name: cost.seconds(*rates) for name, cost in costs.items()}
    for values in (seconds, least):
        values["decoder"] = values["capsules and decoder"] - values["capsules"]
        values["encoder and decoder"] = values["encoder"] + values["decoder"]
    rows = [
        [
            name,
            f"{1000 * seconds[name]:.2f}",
            f"{1000 * least[name]:.2f}",
            f"{100 * least[name] / seconds[name]:.0f}%",
        ]
        for name in ("encoder", "capsules", "decoder", "encoder and decoder")
    ]
    return table(["part, forward and backward", "ms a batch", "roofline, ms", "share"], rows)


def kernels_table(bench):
    """Kernels of one training step and of one scored tile, and how long the GPU is busy."""
    step, batch = training_step(bench)
    tiles = len(video(bench)[2][0]["clips"])
    works = {"training step": (lambda: step(batch), 1), "scored tile": (scoring(bench), tiles)}
    rows, profiles = [], []
    for name, (work, count) in works.items():
        work()
        busy, kernels, top = gpu_costs.profile(work, bench.cuda)
        rows.append([name, f"{kernels / count:.0f}", f"{1000 * busy / count:.2f}"])
        profiles.append(f"Longest operations, {name} (own time):\n\n{top}")
    kind = "kernels" if bench.cuda else "operators"
    head = ["", kind, "GPU busy, ms" if bench.cuda else "busy, ms"]
    return table(head, rows), profiles


def step_table(bench, rates, clips_a_second):
    """Arithmetic and traffic of whole training steps and of scoring, against what the
    roofline allows.
    """
    rows = []
    steps = len(bench.batches)
    works = {
        "training step": (ours(bench), steps, bench.settings.batch_size / clips_a_second[0]),
        "scoring a video": (scoring(bench), 1, 1 / clips_a_second[1]),
    }
    for name, (work, count, seconds) in works.items():
        with FlopCounterMode(display=False) as counter:
            work()
        least = gpu_costs.Costs.of(work).seconds(*rates) / count
        rows.append(
            [
                name,
                f"{1000 * seconds:.2f}",
                f"{counter.get_total_flops() / count / 1e12:.3f}",
                f"{1000 * least:.2f}",
                f"{100 * least / seconds:.0f}%",
            ]
        )
    return table(["", "ms", "TFLOP", "roofline, ms", "share"], rows)


def encoder_rate(bench):
    """Clips a second through the encoder without gradient: batch-norm statistics and first
    latents.
    """
    clip = normalize(bench.batches[0]["frames"].to(bench.device), PIXELS)
    bench.detector.eval()

    def encode():
        with torch.no_grad(), autocast(bench.device, bench.cuda):
            bench.detector.encode(clip)

    return len(clip) / median(bench.timed({"encode": encode}), "encode")


def loader_rate(bench):
    """Training clips a second from real videos, decoded by --workers processes, through the
    whole step.
    """
    from claus.datasets import ucf101
    from claus.datasets.clips.geometry import GEOMETRY
    from claus.datasets.clips.training_clips import ClipSampler, TrainingClips, loader
    from claus.datasets.labels import annotations

    labels = annotations.load(bench.settings.annotations)
    names = [video.name for video in labels.labeled()]
    geometry = GEOMETRY["small" if bench.settings.tiny else "full", "wide"]
    clips = TrainingClips(
        labels, lambda name: ucf101.find_video(bench.settings.data, name), geometry, 0
    )
    sampler = ClipSampler(names, 0, len(bench.batches) * bench.settings.batch_size)
    batches = loader(clips, sampler, bench.settings.batch_size, bench.settings.workers)
    detector, clusters = bench.detector, bench.clusters()
    clusters.assignment = dict.fromkeys(names, 0)
    optimizer = torch.optim.Adam(
        [{"params": detector.parameters(), "base_lr": 1e-6}], 1e-6, fused=True
    )
    rates = []
    for epoch in range(3):
        sampler.epoch = epoch
        result = engine.train_one_epoch(
            engine.ClausStep(detector),
            clusters,
            batches,
            optimizer,
            engine.Pace(0, 100),
            PIXELS,
        )
        rates.append(result.rate)
    return sorted(rates)[1]


def cycle_table(train_rate, score_rate, encode_rate, batch_size, clip_ms):
    """Minutes of one cycle on the whole of UCF-101-24 from measured rates, at several
    shares of labeled videos. clip_ms: of evaluation.
    """
    rows = []
    evaluated = 2 * TEST_TILES * clip_ms / 1000 / 60  # two clips a tile
    for percent in (5, 20, 100):
        videos = int(VIDEOS * percent / 100)
        clips = EPOCHS * CLIPS_A_VIDEO * videos
        train, score = clips / train_rate / 60, VIDEOS / score_rate / 60
        encoded = (
            EPOCHS * min(BN_BATCHES * batch_size, CLIPS_A_VIDEO * videos)
            + TILES * videos / VIDEOS
        )
        other = encoded / encode_rate / 60
        minutes = [train, other, score, evaluated, train + other + score + evaluated]
        rows.append([f"{percent}%", videos, clips, *(f"{value:.1f}" for value in minutes)])
    return table(
        [
            "labeled videos",
            "number",
            "training clips",
            "training, min",
            "batch norm, clusters, min",
            "scoring all, min",
            "evaluation, min",
            "cycle, min",
        ],
        rows,
    )


def best_of_ours(rates):
    """The highest of {side: rate} among our own sides."""
    return max(rate for side, rate in rates.items() if side.startswith("ours"))


def main(argv=None):
    args = parse_args(argv)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(
            "bench_gpu: no CUDA device here, so nothing was measured (--device cpu --tiny "
            "proves the way through)"
        )
        return 0
    if args.tiny:
        args.batch_size, args.passes, args.rounds = 2, 2, 1
    bench = Bench(Settings(**vars(args)))
    name = (
        torch.cuda.get_device_name()
        if bench.cuda
        else "CPU, tiny network: the figures mean nothing"
    )
    rates = gpu_costs.roofline(bench.device, args.tiny)
    text = [
        f"# One GPU: {name}",
        f"{machine_line()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
        f"`python benchmarks/bench_gpu.py {' '.join(argv or sys.argv[1:])}`",
        f"Measured in the same call: bf16 matrix product {rates[0] / 1e12:.3g} TFLOP/s, "
        f"copy {rates[1] / 1e12:.3g} TB/s (read and written).",
    ]
    print("\n".join(text), flush=True)
    check(bench)

    def add(*parts):
        """Each table is in the file as soon as it is made."""
        print(*parts, sep="\n\n", flush=True)
        text.extend(parts)
        if not args.tiny:
            write_text(RESULTS / "gpu.md", "\n\n".join(text) + "\n")

    add("Does anything wait for the GPU?", gpu_checks.waits_table(bench))
    counted, profiles = kernels_table(bench)
    add("Launches, eager, bf16:", counted)
    trained, train_rates = training_table(bench)
    add(f"Training, batch {args.batch_size}, data in memory:", trained)
    scored, score_rates = scoring_table(bench)
    frames = FRAMES / VIDEOS
    add(
        f"Scoring, R = {args.passes}, videos of {frames:.0f} frames "
        f"({TILES / VIDEOS:.1f} tiles), data in memory:",
        scored,
    )
    if bench.time_left("gradients by TF32 and bf16", 20):
        add(gpu_checks.gradients_table(bench))
    if bench.time_left("choices by TF32 and bf16", 30):
        add(gpu_checks.selection_table(bench))
    clip_ms = None
    if bench.time_left("evaluation", 30):
        clip_ms = gpu_checks.evaluation_rate(bench)
        add(f"Evaluation, both protocols, frames in memory: {clip_ms:.2f} ms a clip.")
    if bench.time_left("torch.compile of training", 200):
        faster, more = compiled_training(bench)
        train_rates |= more
        add("Training, eager, compiled and as a CUDA graph:", faster)
    if bench.time_left("torch.compile of scoring", 120):
        faster, more = compiled_scoring(bench)
        score_rates |= more
        add("Scoring, eager, compiled and as a CUDA graph:", faster)
    best_train, best_score = best_of_ours(train_rates), best_of_ours(score_rates)
    if clip_ms is not None and bench.time_left("the rate of the encoder, for a cycle", 5):
        rate = encoder_rate(bench)
        add(
            f"A cycle on UCF-101-24 ({VIDEOS} videos, {FRAMES} frames, {EPOCHS} epochs) at "
            f"the best of these rates, if loading keeps up ({best_train:.0f} clips/s); "
            "selecting takes seconds more:",
            cycle_table(best_train, best_score, rate, args.batch_size, clip_ms),
        )
    if bench.time_left("the parts of the network against the roofline", 30):
        add(
            "Roofline: every operation at the measured rates, each reading its inputs and "
            "writing its results once; fusing operations can beat it.",
            parts_table(bench, rates),
        )
    if bench.time_left("arithmetic of a step and of a scored video", 20):
        add(step_table(bench, rates, (train_rates["ours, bf16"], score_rates["ours, bf16"])))
    add(*profiles)
    if args.annotations and bench.time_left("training through the loader", 60):
        rate = loader_rate(bench)
        add(f"Training through the loader, {args.workers} workers: {rate:.1f} clips/s.")
    for problem in bench.problems:
        print(f"bench_gpu: {problem}", file=sys.stderr)
    return 1 if bench.problems else 0


if __name__ == "__main__":
    sys.exit(main())
