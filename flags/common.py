"""The flags that several scripts share, each said once: which run, which data set, what runs
it, and what to do with work that is there already.

Imports no torch before a device is asked for: a script that needs no network starts fast.
"""

import argparse
import math
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, fields

from claus.datasets import table

MOST_WORKERS = 16  # more decode faster than any network here learns


@dataclass(frozen=True)
class Place:
    """Which cycle of which run, and where its videos lie."""

    run: str
    cycle: int
    files: str
    dataset: str
    data: str
    annotations: str | None = None  # instead of the cycle's own


@dataclass(frozen=True)
class Resume:
    """What to do with work that is there already, and with videos that cannot be read."""

    resume: bool
    force: bool
    strict: bool


@dataclass(frozen=True)
class Hardware:
    """What runs it."""

    device: str
    workers: int
    compile: bool
    amp: bool  # these four: of utils.precision.Precision
    tf32: bool
    cudnn_benchmark: bool
    cpu_bf16: bool
    cache_gb: float
    feature_gb: float
    cache_dir: str | None


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and after each flag the default that its help does
    not name itself.
    """

    def _get_help_string(self, action):
        value, untold = action.default, "default" not in action.help
        if untold and value not in ("", argparse.SUPPRESS) and type(value) in (str, int, float):
            return f"{action.help} (default: %(default)s)"
        return action.help


def whole_number(text: str) -> int:
    """argparse type of seeds and counts: an int from 0 on that fits 32 bits, as k-means
    wants its seed.
    """
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(
            f"{text} is {'below 0' if number < 0 else 'above 4294967295'}"
        )
    return number


def new_parser(about):
    """A parser whose --help begins with the head of the script."""
    return argparse.ArgumentParser(description=about, formatter_class=HelpFormatter)


def build(kind, args, **given):
    """A dataclass from the parsed flags of the same names; `given` fields are taken as they
    are.
    """
    names = [field.name for field in fields(kind) if field.name not in given]
    return kind(**{name: getattr(args, name) for name in names}, **given)


def hidden(add, *flags, **more):
    """A flag that is accepted and that --help leaves out: an old spelling, or what --authors
    sets.
    """
    add(*flags, help=argparse.SUPPRESS, **more)


# ------------------------------------------------------------------------------ run and data


def add_run_flags(add, *, cycle=True):
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    if cycle:
        add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")


def add_dataset_flags(add, dataset=None):
    """Which data set (if it is not known), and where it is."""
    if dataset is None:
        add(
            "--dataset",
            choices=table.DATASETS,
            default="ucf101",
            help="data set (default: %(default)s)",
        )
    known = [name for name in table.DATASETS if dataset in (None, name)]
    folders = ", ".join(table.DATASETS[name].DATA for name in known)
    add(
        "--data",
        help=f"folder with the videos, as the download unpacks (default: {folders}; then "
        "Datasets/ instead of data/)",
    )


def truth_words():
    """What the ground truth of each data set is, for help texts."""
    described = [f"for {name} {module.TRUTH}" for name, module in table.DATASETS.items()]
    return f"ground truth of all videos: {'; '.join(described)}"


def add_split_flags(add):
    """Which videos are the test part."""
    with_splits = [name for name, module in table.DATASETS.items() if module.SPLITS]
    names = ", ".join(with_splits)
    splits = set().union(*(table.DATASETS[name].SPLITS for name in with_splits))
    add(
        "--test-list",
        help=f"text file naming the test videos (testlist01.txt); for {names}, instead of "
        "a split",
    )
    add(
        "--split",
        type=int,
        choices=sorted(splits),
        help=f"official split, {names} only (default: 1)",
    )


def check_dataset(args, parser, needs_list=False):
    """Fill in --data and --split; stop where flags do not belong to the data set."""
    args.data = args.data or table.data_folder(args.dataset)
    if not hasattr(args, "split"):
        return
    try:
        args.split = table.check_split(args.dataset, args.split, args.test_list, needs_list)
    except ValueError as error:
        parser.error(str(error))


def crops():
    """All that --crop may name, the default of the first data set first."""
    named = [crop for module in table.DATASETS.values() for crop in module.CROPS]
    return tuple(dict.fromkeys(named))


def check_crop(args, parser):
    """Stop at a --crop of another data set; None is left."""
    own = table.DATASETS[args.dataset].CROPS
    if args.crop and args.crop not in own:
        parser.error(
            f"--crop {args.crop} is not for --dataset {args.dataset}, which has "
            f"{', '.join(own)}"
        )


def check_script_flags(args, parser):
    """Stop at --train, --select, --extract or --evaluate that a shell could not split."""
    for name in ("train", "select", "extract", "evaluate"):
        text = getattr(args, name)
        try:
            shlex.split(text)
        except ValueError as error:
            parser.error(f"--{name} {text!r} cannot be read as flags: {error}")


# ------------------------------------------------------------------------ hardware, resuming


def add_hardware_flags(add):
    """The device, and who decodes."""
    add(
        "--device",
        type=device_name,
        default=default_device(),
        help="cuda, cuda:1, cpu",
    )
    add(
        "--workers",
        type=whole_number,
        help="processes that decode videos (default: one for each core but one, at most "
        f"{MOST_WORKERS}, shared among the processes of torchrun; on a CPU 0)",
    )


def add_precision_flags(add, amp, words):
    """How exactly the network is computed, see utils/precision.py. amp: the default of
    --amp; words: what is said of it.
    """
    add(
        "--amp",
        action=argparse.BooleanOptionalAction,
        default=amp,
        help=f"bf16 autocast on CUDA, else float32 (default: {'yes' if amp else 'no'}). {words}",
    )
    add(
        "--tf32",
        action="store_true",
        help="on CUDA what is computed in float32 with 10 bits of mantissa in place of 23: "
        "faster, and gradients point elsewhere (benchmarks/bench_gpu.py measures how far)",
    )
    add(
        "--cudnn-benchmark",
        action="store_true",
        help="on CUDA let cuDNN race its algorithms and take the fastest: two runs then no "
        "longer give the same bytes",
    )
    add(
        "--cpu-bf16",
        action="store_true",
        help="on a CPU convolutions in bf16: faster where it has such instructions (AVX-512 "
        "BF16, AMX), slower elsewhere; a probability moves by 1e-3",
    )


def add_feature_flags(add):
    """Where features and indices are kept."""
    add(
        "--feature-gb",
        type=float,
        default=20,
        help="keep the features of a frozen encoder (--model laptop) on disk, up to this many "
        "GB (157 kB a frame); 0: none. Semi-supervised training needs pixels and keeps none",
    )
    add(
        "--cache-dir",
        help="folder of features, decoded clips and indices of the videos' frames; runs may "
        "share one (default: cache/ in the run's folder)",
    )


def add_resume_flags(add, result):
    """--force and --strict; `result`: what --force makes again although it is there."""
    add("--force", action="store_true", help=f"redo the work even if {result} exists")
    add("--strict", action="store_true", help="stop at the first video that cannot be read")


def default_device():
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def default_workers(device):
    """--workers where it is not given: on a GPU this process's part of the machine's cores,
    but for one that feeds it; on a CPU the network takes them all.
    """
    if not device.startswith("cuda"):
        return 0
    told = os.environ.get("LOCAL_WORLD_SIZE", "1")  # by torchrun
    processes = max(int(told), 1) if told.isdecimal() else 1
    cores = len(os.sched_getaffinity(0)) // processes
    return min(max(cores - 1, 1), MOST_WORKERS)


def device_name(text):
    """argparse type of --device: "cpu", "cuda" or "cuda:1", proved to be there."""
    import torch

    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device; give cuda, cuda:1 or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"no CUDA device for {text} here ({torch.cuda.device_count()} in all); "
            "give another, or cpu"
        )
    return text


# -------------------------------------------------------------------------------- one number


def check_positive(args, parser, names: Iterable[str], flags=None):
    """Stop at a flag that is not a finite number above 0; flags: {name: spelling}."""
    _check(args, parser, names, flags or {}, lambda x: 0 < x < math.inf, "greater than 0")


def check_not_negative(args, parser, names: Iterable[str], flags=None):
    """Stop at a flag that is not a finite number from 0 on; flags: {name: spelling}."""
    _check(args, parser, names, flags or {}, lambda x: 0 <= x < math.inf, "0 or more")


def _check(args, parser, names, flags, allowed, words):
    for name in names:
        value = getattr(args, name)
        if not allowed(value):
            flag = flags.get(name, name.replace("_", "-"))
            parser.error(f"--{flag} must be {words}, not {value}")
