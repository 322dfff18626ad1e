"""A training step of the full network: ours against the published way, same clips, masks
and weights.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bench_train_step.py      # three minutes on two cores

Ours: one forward pass with latents, backward, fused Adam. The published way
(reference/network.py): forward, a second forward for the latents, backward, Adam one
parameter at a time.
Checks  the loss (1e-5), and that our float32 gradients are as close to a float64 run as the
        plain ones are, on a small clip of the full network's layers (96x96: float64 at
        224x224 takes minutes)
Writes  benchmarks/results/train_step.md
"""

import argparse
import copy
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from claus.benchmarks.timing import (  # noqa: E402
    added_memory,
    both_clocks,
    interleaved,
    median,
    only,
    ratio,
    spread,
    write_results,
)
from claus.reference.network import plain_adam, plain_step  # noqa: E402
from claus.reference.pair import clips, pair  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

LIMIT = 1e-5


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--memory-of",
        nargs=3,
        metavar=("SIDE", "MODEL", "BATCH"),
        help="print a side's added MiB",
    )
    args = parser.parse_args(argv)
    if args.memory_of:
        name, model, batch = args.memory_of
        _, side = sides_of(int(batch), model, (name,))[name]
        side()
        print(added_memory(side))
        return
    errors = gradient_errors()
    losses, times = measure(args.batch, args.rounds)
    small = measure(8, 5, model="small")
    rows = [
        row("full, 224x224", args.batch, times, memory_of("full", args.batch)),
        row("small, 64x64", 8, small[1], memory_of("small", 8)),
    ]
    checks = [
        f"loss {losses['plain']:.7f} and {losses['fast']:.7f}",
        *(
            f"{name}: {plain:.1e} plain, {fast:.1e} ours"
            for name, (plain, fast) in errors.items()
        ),
    ]
    write_results(
        "train_step",
        f"""# A training step

`OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bench_train_step.py`
{machine_line()}

Plain: forward, second forward for the latents, backward, Adam by single parameters. Ours: one forward, backward, fused
Adam. Medians of {args.rounds} interleaved rounds; "CPU time" is the ratio of processor time over all threads, which
other work on the machine changes less; memory is the rise of the resident peak during one step.

{table(["network", "batch", "plain s", "ours s", "ratio", "range", "CPU time", "plain MiB", "ours MiB", "ratio"], rows)}

Relative distance of float32 gradients from a float64 run, median over parameters: {'; '.join(checks[1:])}.
Loss of the same step: {checks[0]}.
""",
    )
    if abs(losses["plain"] - losses["fast"]) > LIMIT:
        raise SystemExit("the losses differ")
    if any(fast > 2 * plain + 1e-5 for plain, fast in errors.values()):
        raise SystemExit("our gradients are farther from float64 than the plain ones")


def row(name, batch, times, memory):
    times, processor = only(times, 0), only(times, 1)
    low, high = spread(times, "plain", "fast")
    return (
        name,
        batch,
        f"{median(times, 'plain'):.3f}",
        f"{median(times, 'fast'):.3f}",
        f"{ratio(times, 'plain', 'fast'):.1f}",
        f"{low:.1f}-{high:.1f}",
        f"{ratio(processor, 'plain', 'fast'):.1f}",
        f"{memory['plain']:.0f}",
        f"{memory['fast']:.0f}",
        f"{memory['plain'] / memory['fast']:.1f}",
    )


def loss_of(out, target):
    """Stands for the losses: something of every output, none of it the same for all pixels
    or classes.
    """
    rising = torch.linspace(0.5, 1.5, out.latent.shape[1], dtype=out.latent.dtype)
    return (
        F.binary_cross_entropy_with_logits(out.logits, target)
        + (out.scores * rising[: out.scores.shape[1]]).mean()
        + 1e-3 * (out.latent * rising).square().mean()
    )


def target_of(clip):
    return (clip.mean(1, keepdim=True) > 0).to(clip.dtype)


def fast_step(network, optimizer, clip, masks, loss):
    """Our step with given masks: what engine.train_one_epoch does."""
    value = loss(network.head(network.encode(clip), *masks))
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()
    return value.detach()


def sides_of(batch, model, names=("plain", "fast")):
    """{name: (network, a training step of it)}."""
    fast, plain = pair(model)
    clip = clips(batch, fast.config.size)
    torch.manual_seed(1)
    masks, target = fast.random_masks(batch, "cpu"), target_of(clip)

    def loss(out):
        return loss_of(out, target)

    sides = {}
    if "plain" in names:
        adam = plain_adam(plain)
        sides["plain"] = plain.train(), lambda: plain_step(plain, adam, clip, masks, loss)
    if "fast" in names:
        fused = torch.optim.Adam(fast.parameters(), 5e-4, fused=True)
        sides["fast"] = fast.train(), lambda: fast_step(fast, fused, clip, masks, loss)
    return sides


def measure(batch, rounds, model="full"):
    """(losses of the first step, times), each {"plain", "fast"}."""
    sides = {name: side for name, (_, side) in sides_of(batch, model).items()}
    losses = {name: float(side()) for name, side in sides.items()}  # warms up, too
    return losses, interleaved(sides, rounds, warmup=0, clock=both_clocks)


def memory_of(model, batch):
    """{"plain", "fast"}: MiB that the second step adds to weights, gradients and moments,
    each in its own process.
    """
    return {
        name: float(
            subprocess.run(
                [sys.executable, __file__, "--memory-of", name, model, str(batch)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
        )
        for name in ("plain", "fast")
    }


def gradient_errors():
    """{mode: (plain, ours)}: largest over parameters of |gradient - float64 gradient| /
    |float64 gradient|.
    """
    errors = {}
    for training in (False, True):
        fast, plain = pair("full", size=96)
        clip = clips(2, 96)
        masks, target = fast.random_masks(2, "cpu"), target_of(clip)
        exact = copy.deepcopy(plain).double()
        runs = []
        for network, dtype in (
            (exact, torch.float64),
            (plain, torch.float32),
            (fast, torch.float32),
        ):
            network.train(training)
            inputs = clip.to(dtype), [mask.to(dtype) for mask in masks]
            out = (
                network(inputs[0], *inputs[1])
                if network is not fast
                else fast.head(fast.encode(clip), *masks)
            )
            parameters = dict(network.named_parameters())
            gradients = torch.autograd.grad(loss_of(out, target.to(dtype)), parameters.values())
            runs.append(dict(zip(parameters, gradients, strict=True)))
        exact, *others = runs
        errors["training mode" if training else "evaluation mode"] = tuple(
            distance(run, exact) for run in others
        )
    return errors


def distance(run, exact):
    """Median over parameters of the relative distance of gradients {name: tensor}."""
    return statistics.median(
        float((run[name] - g).norm() / g.norm()) for name, g in exact.items()
    )


if __name__ == "__main__":
    main()
