"""Inference and MC-dropout scoring (R = 10) of a clip, full network at 224x224: ours
against the published way.

    OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bench_network.py         # three minutes on two cores

The published way (reference/network.py) computes layer by layer and runs the whole
network once per dropout pass, and once more without dropout for the latent; both sides get
the same masks and weights.
Further sides: ours with a clip for each thread side by side, as cluster_extract.py and
evaluate.py work through many of them (utils/lanes.py); and in bf16 (--cpu-bf16), which pays
where the CPU has such instructions.
Reused buffers of the routing are timed against new ones, and give the same bytes.
Checks  logits of inference within 1e-5 of their scale, mean probability of scoring within 1e-5
Writes  benchmarks/results/network.md     stage by stage for the plain network, then both sides
"""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from claus.benchmarks.timing import (  # noqa: E402
    both_clocks,
    cpu_clock,
    interleaved,
    median,
    only,
    ratio,
    spread,
    with_large_malloc,
    write_results,
)
from claus.engine import one_thread, one_thread_each  # noqa: E402
from claus.models import capsules  # noqa: E402
from claus.models.mc_dropout import mc_forward, seeded_masks  # noqa: E402
from claus.reference.network import plain_scoring, stage_costs  # noqa: E402
from claus.reference.pair import clips, pair  # noqa: E402
from claus.utils import lanes  # noqa: E402
from claus.utils.allocator import settings as malloc_settings  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

PASSES, LIMIT = 10, 1e-5
# our sides, and what a row says of them
OURS = {"fast": "", "lanes": ", side by side", "bf16": ", bf16"}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=2, help="of scoring; inference gets 2n + 1"
    )
    parser.add_argument(
        "--rows-only",
        action="store_true",
        help="print the rows of the table of ratios and no more",
    )
    args = parser.parse_args(argv)
    fast, plain = pair("full")
    clip = clips(1, fast.config.size)
    masks = seeded_masks(fast, 0, "v", 0, 0, PASSES)
    apart = agreement(fast, plain, clip, masks)
    rounded = of_bf16(fast, clip, masks)
    rows = [*measure(fast, plain, clip, masks, args.rounds)]
    if args.rows_only:
        print("\n".join("|".join(row) for row in rows))
        return
    stages = stage_costs(plain, clip)
    saved = of_buffers(fast, clip, masks, 2 * args.rounds + 1)
    rows += [
        line.split("|")
        for line in with_large_malloc(
            __file__, "--rows-only", "--rounds", str(args.rounds)
        ).splitlines()
        if "|" in line
    ]
    rows += as_they_run(rows)
    ratio_table = table(
        ["work", "malloc", "plain s", "ours s", "ratio", "range", "CPU time"], rows
    )
    stage_rows = [
        (name, f"{gmac:.2f}", f"{1e3 * s:.0f}", f"{kept:.0f}") for name, gmac, s, kept in stages
    ]
    stage_table = table(["stage", "GMAC", "forward ms", "kept for backward, MiB"], stage_rows)
    logits, probability = (f"{distance:.1e}" for distance in apart)
    write_results(
        "network",
        f"""# Inference and scoring of a clip

`OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=2 python benchmarks/bench_network.py`
{machine_line()}

Full network, one clip of 8x224x224, 24 classes, float32. Medians of interleaved rounds; "CPU time" is the ratio of
processor time over all threads, which other work on the machine changes less. The large malloc settings keep big
blocks instead of giving them back to the system after each layer.

{ratio_table}

"Side by side": ours with a clip for each thread, as `cluster_extract.py` and `evaluate.py` work;
seconds of one clip. The plain side has all threads for each clip. "bf16": ours with `--cpu-bf16`. Its mean probability is up to {rounded:.1e} from float32's.

Distance of ours from plain: logits {logits} of their scale, mean probability over {PASSES} passes
{probability}.

Scoring with the routing's large tensors in buffers that it keeps, against new ones for every
part, processor time: x{saved:.2f}, the same bytes.

## The plain network, stage by stage

{stage_table}
""",
    )


def as_they_run(rows):
    """Further rows: the plain side with malloc as it is, ours with the allocator that the
    scripts ask for (utils/allocator.py), of two processes.
    """
    found = []
    known = {
        (work, malloc): (float(theirs), float(ours)) for work, malloc, theirs, ours, *_ in rows
    }
    for work in dict.fromkeys(row[0] for row in rows):
        theirs, ours = known[work, "default"][0], known[work, "large"][1]
        cells = [f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}", "", ""]
        found.append([work, "default, large", *cells])
    return found


def agreement(fast, plain, clip, masks):
    """(relative distance of the logits, distance of the mean probability); stops where one
    is too large.
    """
    with torch.no_grad():
        ours, theirs = fast(clip).logits, plain(clip).logits
        probabilities = [
            side(network, clip, *masks)[0].sigmoid().mean(0)
            for side, network in ((mc_forward, fast), (plain_scoring, plain))
        ]
    apart = (
        float((ours - theirs).abs().max() / theirs.abs().max()),
        float((probabilities[0] - probabilities[1]).abs().max()),
    )
    if max(apart) > LIMIT:
        raise SystemExit(f"the two networks differ: {apart}")
    return apart


def side_by_side(function, *arguments):
    """A function once in each of as many threads as torch has, each computing alone."""
    threads = torch.get_num_threads()

    def work(_):
        with torch.no_grad():
            return function(*arguments)

    shares = [[number] for number in range(threads)]
    with one_thread_each(threads), closing(lanes.results(shares, work, one_thread)) as done:
        for _ in done:
            pass


def in_bf16(function, *arguments):
    """A function under the autocast of --cpu-bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        return function(*arguments)


@torch.no_grad()
def of_bf16(fast, clip, masks):
    """Largest distance of the mean probability in bf16 from that in float32."""
    exact = mc_forward(fast, clip, *masks)[0].sigmoid().mean(0)
    rounded = in_bf16(mc_forward, fast, clip, *masks)[0].sigmoid().mean(0)
    return float((exact - rounded).abs().max())


def of_buffers(fast, clip, masks, rounds):
    """Processor time of scoring without the routing's buffers, over that with them; stops
    where the logits are not the same bytes.
    """

    def without():
        with mock.patch.object(capsules.Buffers, "of", lambda pose, weights: None):
            return mc_forward(fast, clip, *masks)[0]

    def kept():
        return mc_forward(fast, clip, *masks)[0]

    if not torch.equal(without(), kept()):
        raise SystemExit("the routing's buffers change the logits")
    times = interleaved({"new": without, "kept": kept}, rounds, clock=cpu_clock)
    return ratio(times, "new", "kept")


@torch.no_grad()
def measure(fast, plain, clip, masks, rounds):
    """Rows (work, malloc, plain s, ours s, ratio, its range, ratio of CPU time) of
    inference and scoring.
    """
    malloc = "default" if malloc_settings() == "default malloc" else "large"
    works = {
        "inference": (
            {
                "plain": lambda: plain(clip),
                "fast": lambda: fast(clip),
                "lanes": lambda: side_by_side(fast, clip),
                "bf16": lambda: in_bf16(fast, clip),
            },
            2 * rounds + 1,
        ),
        f"scoring, R = {PASSES}": (
            {
                "plain": lambda: plain_scoring(plain, clip, *masks),
                "fast": lambda: mc_forward(fast, clip, *masks),
                "lanes": lambda: side_by_side(mc_forward, fast, clip, *masks),
                "bf16": lambda: in_bf16(mc_forward, fast, clip, *masks),
            },
            rounds,
        ),
    }
    for name, (sides, count) in works.items():
        sides["fast"]()  # warms up; a plain scoring alone is long enough not to need it
        times = interleaved(sides, count, warmup=int(count > rounds), clock=both_clocks)
        # of a clip
        times["lanes"] = [seconds / torch.get_num_threads() for seconds in times["lanes"]]
        times, processor = only(times, 0), only(times, 1)
        for side, called in OURS.items():
            low, high = spread(times, "plain", side)
            yield (
                f"{name}{called}",
                malloc,
                f"{median(times, 'plain'):.3f}",
                f"{median(times, side):.3f}",
                f"{ratio(times, 'plain', side):.1f}",
                f"{low:.1f}-{high:.1f}",
                f"{ratio(processor, 'plain', side):.1f}",
            )


if __name__ == "__main__":
    main()
