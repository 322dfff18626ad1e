"""One cycle of --model laptop on a CPU, stage by stage, as the scripts do it.

    python benchmarks/bench_cycle.py          # J-HMDB, split 1: twenty minutes; --quick: eight clips, four steps
    python benchmarks/bench_cycle.py --steps 60 --cache-dir cache   # keeps the features

Reads   real J-HMDB (split 1: a pool of 660 clips, 268 test clips); without it, ends. --quick:
        a few of its clips, or toy videos without it
Writes  benchmarks/results/cycle.md
Expect  a row a stage: wall-clock and processor time of the whole command, starting Python and
        reading files included. Scoring and evaluation are run twice: with features that are
        computed along, then from the cache; the second must give the same bytes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import claus.utils.startup  # noqa: E402, F401

# isort: split
from claus.benchmarks import timing  # noqa: E402
from claus.utils.machine import machine_line  # noqa: E402
from claus.utils.markdown import table  # noqa: E402

JHMDB = timing.SHARED / "jhmdb"
HEAD = ["stage", "wall-clock, s", "processor, s"]


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--steps", type=int, default=600, help="of the training (default: %(default)s)")
    add("--batch-size", type=int, default=16, help="(default: %(default)s)")
    add("--passes", type=int, default=10, help="R of the scoring (default: %(default)s)")
    add("--videos", default="10%", help="that each choice buys (default: %(default)s)")
    add("--cache-dir", type=Path, help="where features are kept (default: a new folder)")
    return timing.parse(parser, argv, steps=4, batch_size=2, passes=2, videos="50%")


def main(argv=None):
    args = parse_args(argv)
    real = JHMDB.is_dir()
    if not args.quick and timing.lacks(JHMDB):
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if real:
            source = of_jhmdb(few_clips(folder / "few") if args.quick else JHMDB)
        else:
            source = of_toy(make_toy(folder / "toy"))
        rows = stages(args, folder, source)
    text = "\n\n".join(
        [
            "# One cycle of `--model laptop`",
            f"`python benchmarks/bench_cycle.py`: {machine_line()}\n"
            f"{'J-HMDB-21, split 1' if real else 'Toy videos'}; {args.steps} steps of "
            f"{args.batch_size} clips, R = {args.passes}. Whole commands; scoring and evaluation "
            "gave the same bytes with features from the cache.",
            table(HEAD, [[name, f"{wall:.1f}", f"{cpu:.1f}"] for name, wall, cpu in rows]),
        ]
    )
    timing.write_results("cycle", text, args.quick)
    return 0


def make_toy(folder):
    """Toy videos in a folder -> that folder."""
    from claus.datasets import toy

    toy.make(folder, seed=3, train=6, test=6)
    return folder


def few_clips(folder):
    """A folder like JHMDB's with four clips of each part, as links -> that folder."""
    folder.mkdir()
    for list_name in ("trainlist_split1.txt", "testlist_split1.txt"):
        names = (JHMDB / list_name).read_text().split()
        few = names[:: len(names) // 3]
        (folder / list_name).write_text("\n".join(few) + "\n")
        for name in few:
            for path in (f"puppet_mask/{name}", f"videos/{name}.avi"):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).symlink_to((JHMDB / path).resolve())
    return folder


@dataclass(frozen=True)
class Source:
    """A data set, as flags of the scripts."""

    train: str  # the script
    own: list  # of the training
    data: list  # of the others
    oracle: list  # of choices
    truth: list  # of the evaluation


def of_jhmdb(data):
    """Source of real J-HMDB."""
    own, split = ["--data", str(data)], ["--split", "1"]
    return Source(
        "train_jhmdb.py",
        own,
        ["--dataset", "jhmdb", *own],
        ["--oracle", str(data), *split],
        ["--ground-truth", str(data), *split],
    )


def of_toy(data):
    """Source of toy videos."""
    own = ["--data", str(data)]
    truth = [str(data / "pyannot.pkl"), "--test-list", str(data / "testlist01.txt")]
    return Source("train_ucf101.py", own, own, ["--oracle", *truth], ["--ground-truth", *truth])


def stages(args, folder, source):
    """[(stage, seconds, processor seconds)] of a cycle below a folder."""
    run, cycle = ["--run", str(folder / "run")], folder / "run" / "cycle0"
    common = ["--cycle", "0", "--device", "cpu"]
    common += ["--cache-dir", str(args.cache_dir or folder / "cache")]
    choose = ["claus_select.py", *run, *source.data, *source.oracle]
    choose += ["--videos", args.videos, "--frames", "5%"]
    train = [source.train, *run, *source.own, *common, "--model", "laptop", "--no-validation"]
    train += ["--epochs", "4", "--steps", str(args.steps), "--batch-size", str(args.batch_size)]
    score = ["cluster_extract.py", *run, *source.data, *common, "--passes", str(args.passes)]
    evaluate = ["evaluate.py", *run, *source.data, *source.truth, *common]
    rows = [timed("choice of cycle 0", [*choose, "--cycle", "0"])]
    rows.append(timed("training, features along", train))
    rows.append(timed("training, features from the cache", [*train, "--force"]))
    rows += twice("scoring the pool", score, cycle / "uncertainty.pkl")
    rows.append(timed("choice of cycle 1", [*choose, "--cycle", "1"]))
    rows += twice("evaluation", evaluate, cycle / "evaluation.json")
    return rows


def twice(stage, command, made):
    """Rows of a stage whose features are computed along, then come from the cache; `made`
    must be the same bytes.
    """
    rows = [timed(f"{stage}, features along", command)]
    first = made.read_bytes()
    rows.append(timed(f"{stage}, features from the cache", [*command, "--force"]))
    if made.read_bytes() != first:
        raise SystemExit(f"{made.name}: other bytes with features from the cache")
    return rows


def timed(stage, command):
    """(stage, seconds, processor seconds) of one script of the root."""
    print(f"{stage} ...", file=sys.stderr, flush=True)
    began, cpu = time.perf_counter(), timing.cpu_clock()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{stage} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return stage, time.perf_counter() - began, timing.cpu_clock() - cpu


if __name__ == "__main__":
    raise SystemExit(main())
