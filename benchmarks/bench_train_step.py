"""A training step of the full network: ours against the published way, same clips, masks
and weights.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bench_train_step.py      # six minutes on two cores

Ours: one forward pass with latents, backward, fused Adam. The published way
(reference/network.py): forward, a second forward for the latents, backward, Adam one
parameter at a time; and the same without the second forward pass. Then both with an allocator
that keeps large blocks, as our scripts have it, and ours in bf16.
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
    with_large_malloc,
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
    parser.add_argument(
        "--rows-only",
        action="store_true",
        help="print the rows of the full network and no more",
    )
    args = parser.parse_args(argv)
    if args.rows_only:
        losses, times = measure(args.batch, args.rounds)
        print("\n".join("|".join(row) for row in rows_of(losses, times, "large")))
        return
    if args.memory_of:
        name, model, batch = args.memory_of
        _, side = sides_of(int(batch), model, (name,))[name]
        side()
        print(added_memory(side))
        return
    errors = gradient_errors()
    losses, times = measure(args.batch, args.rounds)
    rows = rows_of(losses, times, "default")
    large = with_large_malloc(__file__, "--rows-only", "--rounds", str(args.rounds))
    rows += [line.split("|") for line in large.splitlines() if "|" in line]
    rows += as_they_run(rows)
    memory = memory_of("full", args.batch)
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

Full network, {args.batch} clips of 8x224x224. As published: forward, second forward for the latents, backward, Adam by
single parameters. Ours: one forward, backward, fused Adam. Medians of {args.rounds} interleaved rounds; "CPU time" is the
ratio of processor time over all threads, which other work on the machine changes less. The large malloc settings keep
big blocks instead of giving them back to the system after each layer; the last rows have each side's own.

{table(["plain side", "ours", "malloc", "plain s", "ours s", "ratio", "range", "CPU time"], rows)}

Resident memory that one step adds: plain {memory["plain"]:.0f} MiB, ours {memory["fast"]:.0f} MiB (x{memory["plain"] / memory["fast"]:.1f} less).
Loss in bf16: {losses["bf16"]:.4f}.

Relative distance of float32 gradients from a float64 run, median over parameters: {'; '.join(checks[1:])}.
Loss of the same step: {checks[0]}.
""",
    )
    if abs(losses["plain"] - losses["fast"]) > LIMIT:
        raise SystemExit("the losses differ")
    if any(fast > 2 * plain + 1e-5 for plain, fast in errors.values()):
        raise SystemExit("our gradients are farther from float64 than the plain ones")


# our sides and the plain ones that they are set against
COMPARED = (("plain", "fast"), ("one forward", "fast"), ("plain", "bf16"))
CALLED = {
    "plain": "as published",
    "one forward": "one forward pass",
    "fast": "float32",
    "bf16": "bf16",
}


def rows_of(losses, times, malloc):
    """A row for each pair of COMPARED."""
    times, processor = only(times, 0), only(times, 1)
    found = []
    for slow, quick in COMPARED:
        low, high = spread(times, slow, quick)
        found.append(
            [
                CALLED[slow],
                CALLED[quick],
                malloc,
                f"{median(times, slow):.3f}",
                f"{median(times, quick):.3f}",
                f"{ratio(times, slow, quick):.1f}",
                f"{low:.1f}-{high:.1f}",
                f"{ratio(processor, slow, quick):.1f}",
            ]
        )
    return found


def as_they_run(rows):
    """Further rows: plain with malloc as it is, ours with the allocator that the scripts ask
    for (utils/allocator.py), of two processes.
    """
    known = {(*row[:2], row[2]): [float(seconds) for seconds in row[3:5]] for row in rows}
    found = []
    for slow, quick in COMPARED:
        names = CALLED[slow], CALLED[quick]
        theirs, ours = known[*names, "default"][0], known[*names, "large"][1]
        cells = [f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}", "", ""]
        found.append([*names, "default, large", *cells])
    return found


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


def fast_step(network, optimizer, clip, masks, loss, bf16=False):
    """Our step with given masks: what engine.train_one_epoch does; bf16: with --cpu-bf16."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = network.head(network.encode(clip), *masks)
    value = loss(out)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()
    return value.detach()


def sides_of(batch, model, names=("plain", "one forward", "fast", "bf16")):
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
    if "one forward" in names:
        again = copy.deepcopy(plain).train()
        other = plain_adam(again)
        sides["one forward"] = (
            again,
            lambda: plain_step(again, other, clip, masks, loss, second=False),
        )
    if "fast" in names:
        fused = torch.optim.Adam(fast.parameters(), 5e-4, fused=True)
        sides["fast"] = fast.train(), lambda: fast_step(fast, fused, clip, masks, loss)
    if "bf16" in names:
        rounded = copy.deepcopy(fast).train()
        its = torch.optim.Adam(rounded.parameters(), 5e-4, fused=True)
        sides["bf16"] = (
            rounded,
            lambda: fast_step(rounded, its, clip, masks, loss, bf16=True),
        )
    return sides


def measure(batch, rounds, model="full"):
    """(losses of the first step, times), each by the names of sides_of."""
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
