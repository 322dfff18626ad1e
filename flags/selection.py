"""The flags of claus_select.py, and the settings they become.

The help texts of the rules come from the table in selection/rules.py.
"""

import argparse
from dataclasses import dataclass

from claus.artifacts.scores import FRAME_SCORES
from claus.datasets import table
from claus.datasets.segments import read_length
from claus.flags.common import (
    HelpFormatter,
    add_dataset_flags,
    add_split_flags,
    check_dataset,
    whole_number,
)
from claus.selection.budget import BudgetSettings, is_percent, read_schedule
from claus.selection.frames import DAMPINGS, NEAREST, SIGMA
from claus.selection.pool import INCREMENTS
from claus.selection.random_share import read_share
from claus.selection.rules import RULES, START_FRAMES, RuleSettings
from claus.selection.strategies import STRATEGIES
from claus.utils.runtime import one_line

METHODS = tuple(RULES)
EXPORTS = ("label_studio", "cvat", "cvat_video", "coco", "mot", "yolo")


@dataclass(frozen=True)
class Source:
    """Who answers, and where the videos come from.

    dataset: name in datasets/table.py · data: folder of the videos · oracle: ground truth
    that plays the annotator, or None · answers: files with answers, or None · test_list, split:
    what is not in the pool · on_disk: leave out what is not below `data` · classes,
    any_folder, strict: of one's own videos, see datasets/own_videos.py · segment, segments:
    what cuts them, see datasets/segments.py.
    """

    dataset: str
    data: str
    oracle: str | None
    answers: list[str] | None
    test_list: str | None
    split: int | None
    on_disk: bool
    classes: str | None
    any_folder: bool
    strict: bool
    segment: str | None = None
    segments: str | None = None
    masks: bool = False


@dataclass(frozen=True)
class Growth:
    """How a run grows. add_videos: new ones below --data join · add_classes: names,
    comma-separated, or None · withdraw: names of videos.
    """

    add_videos: bool = False
    add_classes: str | None = None
    withdraw: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """Labels that come from elsewhere and go there. correct: files with corrected labels ·
    imported: files with labels that were there before the run · numbered_from: 0 or 1, of
    the pictures of these · export: name of a format · what: "request", "labels" or None ·
    to: folder.
    """

    correct: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    numbered_from: int = 0
    export: str | None = None
    what: str | None = None
    to: str | None = None


@dataclass(frozen=True)
class SelectSettings:
    """All that claus_select.py does, in one place.

    run: name or path of the run, cycle: >= 0, files: folder of all runs · force: choose
    again · box_price: text, of each actor in a frame beyond the first · seed: >= 0.
    """

    run: str
    cycle: int
    files: str
    force: bool
    seed: int
    source: Source
    budget: BudgetSettings
    rule: RuleSettings
    box_price: str
    growth: Growth = Growth()
    exchange: Exchange = Exchange()
    random_share: str | None = None
    in_loop: bool = False  # run_cycles.py says what comes next

    @property
    def prices(self) -> dict[str, str]:
        """The prices as they were given."""
        return {
            "video": self.budget.video_price,
            "frame": self.budget.frame_price,
            "box": self.box_price,
        }


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """The parser of claus_select.py; parse() reads a whole command line."""
    made = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    _add_run_flags(made)
    _add_source_flags(made)
    _add_exchange_flags(made)
    _add_growth_flags(made)
    _add_budget_flags(made)
    _add_rule_flags(made)
    return made


def parse(argv: list[str] | None = None, description: str | None = None) -> SelectSettings:
    """The settings that a command line asks for; argparse ends the program where flags do
    not go together.
    """
    made = parser(description)
    args = made.parse_args(argv)
    check_dataset(args, made)
    if args.any_folder and (args.oracle or args.answers or args.cycle) and not args.add_videos:
        made.error(
            "--any-folder has an effect only in cycle 0, where the videos below --data "
            "become the pool"
        )
    _check_segments(args, made)
    _check_growth(args, made)
    _check_exchange(args, made)
    _check_budget(args, made)
    _check_rule(args, made)
    return SelectSettings(
        run=args.run,
        cycle=args.cycle,
        files=args.files,
        force=args.force,
        seed=args.seed,
        source=_of(Source, args),
        budget=_budget(args),
        rule=_rule(args),
        box_price=args.box_price,
        growth=Growth(args.add_videos, args.add_classes, tuple(args.withdraw or ())),
        exchange=Exchange(
            tuple(args.correct or ()),
            tuple(args.imported or ()),
            args.numbered_from or 0,
            args.export,
            args.what,
            args.to,
        ),
        random_share=args.random_share,
        in_loop=args.in_loop,
    )


# ----------------------------------------------------------------------------------- groups


def _add_run_flags(made):
    add = made.add_argument
    add(
        "--run",
        required=True,
        help="name of the run (a folder under --files), or a path with a / in it",
    )
    add(
        "--cycle",
        type=whole_number,
        required=True,
        help="cycle to choose for: 0 is the random start",
    )
    add("--files", default="files", help="folder that holds the runs (default: %(default)s)")
    add(
        "--force",
        action="store_true",
        help="choose again even if this cycle has a selection",
    )
    add("--in-loop", action="store_true", help=argparse.SUPPRESS)
    add(
        "--seed",
        type=whole_number,
        default=0,
        help="seed of every random choice (default: %(default)s)",
    )


def _add_source_flags(made):
    group = made.add_argument_group("who answers, and where the videos come from")
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--oracle",
        metavar="PATH",
        help="simulate the annotator with this ground truth: pyannot.pkl, or "
        "for jhmdb the folder that holds puppet_mask/ and the splits",
    )
    who.add_argument(
        "--answers",
        metavar="X",
        nargs="+",
        help="take in what people answered: request.json filled in, a Label Studio export "
        "(JSON), CVAT for images 1.1 (XML or zip), by content; several files are several "
        "people. Partial answers are fine, the next call completes them. What was asked "
        "stands as it was chosen, flags of selection and price have no effect",
    )
    who.add_argument(
        "--correct",
        metavar="X",
        nargs="+",
        help="change labels of earlier cycles, from files as --answers takes them; what was "
        "chosen stays chosen, the ledger notes it",
    )
    who.add_argument(
        "--import",
        dest="imported",
        metavar="X",
        nargs="+",
        help="in cycle 0 of one's own videos: begin with labels that exist already: CVAT "
        "(images or video 1.1), Label Studio, COCO, MOT or YOLO",
    )
    add = group.add_argument
    add_split_flags(add)
    add_dataset_flags(add)
    add(
        "--on-disk",
        action="store_true",
        help="with --oracle: the pool is only what is found below --data (for a part of a "
        "data set)",
    )
    add(
        "--classes",
        help="with --data: class names, comma-separated or a file of one a line "
        "(default: those of the data set)",
    )
    add(
        "--any-folder",
        action="store_true",
        help="with --data: folders are not classes; take the videos of every folder, and "
        "let the annotator give the class",
    )
    cut = group.add_mutually_exclusive_group()
    cut.add_argument(
        "--segment",
        metavar="10s|300",
        help="with --data, in cycle 0: cut every video into pool entries of this length, "
        "seconds (10s, 1:30) or frames (300); no file is written. An entry counts as a video "
        "in budgets and costs",
    )
    cut.add_argument(
        "--segments",
        metavar="LIST",
        help="with --data, in cycle 0: the pool is the parts of videos that this list names, "
        "rows of video,start,end (0:10 or 10s; 300f for frames), see docs/data.md",
    )
    add(
        "--strict",
        action="store_true",
        help="with --data: stop at a video that cannot be read, instead of skipping it",
    )


def _add_exchange_flags(made):
    group = made.add_argument_group("other annotation tools (docs/exchange.md)")
    add = group.add_argument
    add(
        "--export",
        choices=EXPORTS,
        help="write what this cycle asks for (with proposals.json, where it is), or its "
        "labels, for another tool, and do nothing else",
    )
    add(
        "--what",
        choices=("request", "labels"),
        help="with --export: the cycle's request, or all labels so far (default: the request "
        "while it waits for answers)",
    )
    add(
        "--to",
        metavar="FOLDER",
        help="with --export: folder (default: <cycle>/export_<format>)",
    )
    add(
        "--numbered-from",
        type=int,
        choices=(0, 1),
        help="with --import: number of the first picture of a video in the names of pictures "
        "(default: 0)",
    )
    add(
        "--masks",
        action="store_true",
        help="own videos, cycle 0: actors are marked with masks, not boxes",
    )


def _add_growth_flags(made):
    group = made.add_argument_group("a run that grows (own videos)")
    add = group.add_argument
    add(
        "--add-videos",
        action="store_true",
        help="videos below --data that are not in the pool join it; with --segments LIST the "
        "parts that it names. They can be chosen once a detector has seen them, in the cycle "
        "after this one",
    )
    add(
        "--add-classes", metavar="A,B", help="further class names; those there keep their place"
    )
    add(
        "--withdraw",
        metavar="VIDEO",
        nargs="+",
        help="take videos out of the pool, and their labels out of the next training; what "
        "they cost stays in the ledger",
    )


def _add_budget_flags(made):
    """How much a cycle may spend, and at what prices. Old spellings are still read."""
    group = made.add_argument_group(
        "budget of a cycle (defaults: the paper's steps for the data set)"
    )
    videos = group.add_mutually_exclusive_group()
    videos.add_argument(
        "--videos",
        metavar="V%|N",
        help="videos: V percent of the pool, or a number (default: 5%%)",
    )
    frames = group.add_mutually_exclusive_group()
    frames.add_argument(
        "--frames",
        metavar="A%|N",
        help="frames: A percent of the frames of V percent of the pool, or a number "
        "(default: 5%%; jhmdb: 3%%)",
    )
    for where, name in ((videos, "videos"), (frames, "frames")):
        _alias(where, f"--{name}-percent", name, lambda text: f"{text}%")
        _alias(where, f"--{name}-count", name, str)
    frames.add_argument(
        "--frames-per-video", metavar="A_t", help="frames per video, instead of --frames"
    )
    add = group.add_argument
    add(
        "--schedule",
        metavar="A/V,A/V,…",
        help="instead of all these: what is to be labeled in all after cycle 0, 1, …, in "
        "percent of all frames / percent of the videos (0.25/5,0.5/10,1/20); a cycle buys "
        "its pair less the one before",
    )
    for unit, what in (
        ("video", "C_v: price of watching and classifying a video"),
        ("frame", "C_f: price of labeling a frame"),
    ):
        add(f"--{unit}-price", default="1", help=f"{what} (default: %(default)s)")
        _alias(group, f"--{unit}-cost", f"{unit}_price", str)
    add(
        "--box-price",
        default="0",
        help="price of each actor in a frame beyond the first; charged in the ledger, not "
        "in the budget, since it is not known in advance (default: %(default)s)",
    )
    _alias(group, "--box-cost", "box_price", str)
    add("--video-money", help="B_v: lowers the videos to what this pays for at --video-price")
    add("--frame-money", help="B_f: lowers the frames to what this pays for at --frame-price")
    add(
        "--take-rest",
        action="store_true",
        help="if less is left than the budget asks for, take all of it",
    )


def _alias(group, flag, name, kind):
    """An older spelling of the flag --`name`, which --help does not show."""
    group.add_argument(
        flag, dest=name, type=kind, default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )


def _add_rule_flags(made):
    """Who is chosen."""
    group = made.add_argument_group("rule")
    add = group.add_argument
    rules = "; ".join(f"{name}: {rule.about}" for name, rule in RULES.items())
    add(
        "--method",
        choices=METHODS,
        help=f"how cycle 1 and later choose (cycle 0 is random for all). {rules} "
        "(default: claus, for inter and intra random)",
    )
    add(
        "--video-rule",
        choices=METHODS,
        metavar="METHOD",
        help="choose the videos as this method does (default: --method)",
    )
    add(
        "--frame-rule",
        choices=METHODS,
        metavar="METHOD",
        help="choose the frames of each video as this method does (default: --method)",
    )
    add(
        "--start-frames",
        choices=START_FRAMES,
        help="frames of the random videos of cycle 0 (default: random with --oracle, as in "
        "the paper; equidistant for people, who would label neighbors twice)",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        default="hybrid",
        help="hybrid: some videos, some frames; inter: whole random videos, each that "
        "still fits the budget; intra: random frames, one in every video before any gets a "
        "second, each video paid for with its first frame. In cycle 0 too (default: %(default)s)",
    )
    add(
        "--increment",
        choices=INCREMENTS,
        default="samples",
        help="what may be chosen from cycle 1 on: new videos; new ones and further frames of "
        "old ones; further frames of old ones only. Labeled frames damp those near them, and "
        "their video is not paid for again (default: %(default)s)",
    )
    add(
        "--frame-score",
        choices=FRAME_SCORES,
        help="uncertainty of a frame: summed over its foreground (paper Eq. 2), the "
        "authors' code's mean, U_f by the size of the foreground, or another array of "
        "uncertainty.pkl (default: paper). R and tau are what cluster_extract.py had for "
        "--passes and --threshold, K what the training had for --clusters",
    )
    add(
        "--damping",
        choices=DAMPINGS,
        help="how a chosen frame lowers the scores near it. paper: by a factor, our form of "
        "what the paper says in words; authors: by a subtraction, as in their code; none; "
        "coverage: a frame scores by how much more uncertainty its label would let STeW "
        "trust, our own (default: paper)",
    )
    add(
        "--sigma",
        type=float,
        help="width of that damping in video frames; ours, the paper prints none "
        "(default: 8/3)",
    )
    add(
        "--random-share",
        metavar="1/3|25%",
        help="spend this share of the budget of cycle 1 and later on random videos and frames; "
        "what the detector makes of them says how good it is on the unlabeled pool",
    )
    add(
        "--drop-nearest",
        type=whole_number,
        help="for the rule entropy: how many of the frames nearest to a chosen one come "
        f"after all others (default: {NEAREST})",
    )


# ----------------------------------------------------------------------------------- checks


def _given(args, *names):
    """The flags of these that were given."""
    return [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]


def _check_segments(args, made):
    """Stop at --segment and --segments where they have no effect, or are wrong."""
    given = _given(args, "segment", "segments")
    joins = args.add_videos and args.segment is None
    if given and (args.oracle or args.answers or args.cycle) and not joins:
        made.error(
            f"{given[0]} has an effect only in cycle 0 of one's own videos, without --oracle"
        )
    if args.segment is not None:
        read_length(args.segment)


def _check_growth(args, made):
    """Stop where a run cannot grow."""
    given = [flag for flag in ("--add-classes",) if args.add_classes is not None]
    given += ["--add-videos"] * args.add_videos + ["--withdraw"] * bool(args.withdraw)
    if not given:
        return
    if args.oracle or args.imported:
        made.error(f"{given[0]} is for runs that people answer, without --oracle")
    if args.cycle == 0 and given != ["--withdraw"]:
        made.error(
            f"{given[0]} has no effect in cycle 0, whose pool is what lies below --data and "
            "whose classes are --classes; --force makes it anew"
        )


def _check_exchange(args, made):
    """Stop at flags of other tools that have no effect."""
    if args.imported and args.cycle:
        made.error("--import begins a run: it is for cycle 0")
    if args.numbered_from is not None and not args.imported:
        made.error("--numbered-from is for --import")
    for flag in _given(args, "what", "to"):
        if not args.export:
            made.error(f"{flag} is for --export")
    busy = [
        name for name in ("answers", "correct", "imported", "oracle") if getattr(args, name)
    ]
    if args.export and busy:
        made.error(f"--export does nothing else: leave out --{busy[0].replace('ed', '')}")
    if args.masks and (args.oracle or args.cycle):
        made.error("--masks is for cycle 0 of one's own videos, without --oracle")


def _check_budget(args, made):
    """Stop at flags of the budget that would have no effect."""
    if args.schedule is not None:
        with one_line(ValueError):
            read_schedule(args.schedule)
        for flag in _given(args, "videos", "frames", "frames_per_video"):
            made.error(f"{flag} and --schedule both say how much; give one of them")
    if args.strategy == "intra":
        if args.video_money is not None:
            made.error(
                "--video-money caps the videos to buy, and --strategy intra has no such number"
            )
        counted = args.frames is not None and not is_percent(args.frames)
        if counted and args.videos is not None:
            made.error("--videos has no effect where --strategy intra has a number of --frames")


def _check_rule(args, made):
    """Fill in what follows from --method and --strategy; stop at flags that would have no
    effect.
    """
    if args.method and args.video_rule and args.frame_rule:
        made.error("--method has no effect beside --video-rule and --frame-rule")
    if args.strategy != "hybrid":
        _check_halves(args, made)
    method = args.method or ("claus" if args.strategy == "hybrid" else "random")
    args.video_rule = args.video_rule or method
    args.frame_rule = args.frame_rule or method
    rule = RuleSettings(args.video_rule, args.frame_rule)
    if args.strategy != "hybrid":
        _check_strategy(args, made, rule)
    if args.increment != "samples" and RULES[args.video_rule].new_videos:
        made.error(
            f"{args.video_rule} chooses videos without labels only: leave out --increment "
            f"{args.increment}, or choose videos by another rule"
        )
    if args.random_share is not None:
        with one_line(ValueError):
            read_share(args.random_share)
        if args.strategy != "hybrid" or rule.random:
            made.error("--random-share has no effect where everything is drawn at random")
    for flag in _given(args, "frame_score", "damping", "sigma", "drop_nearest"):
        if flag[2:].replace("-", "_") not in rule.options:
            made.error(f"{flag} has no effect with --method {rule.method}")
    if args.damping == "none" and args.sigma is not None:
        made.error("--sigma is the width of a damping; --damping none has none")


def _check_halves(args, made):
    """inter and intra choose the videos themselves, inter all frames of them as well."""
    idle = ("video_rule", "frame_rule") if args.strategy == "inter" else ("video_rule",)
    for flag in _given(args, *idle):
        made.error(f"{flag} has no effect with --strategy {args.strategy}")
    if args.strategy == "inter" and args.start_frames not in (None, "random"):
        made.error("--start-frames has no effect with --strategy inter, which takes all frames")


def _check_strategy(args, made, rule):
    """inter and intra draw at random, and know their own increment."""
    inter = args.strategy == "inter"
    allowed = ("random",) if inter else ("random", "equidistant")
    for flag, name in (("--method", rule.video_rule), ("--frame-rule", rule.frame_rule)):
        if name not in allowed:
            made.error(f"--strategy {args.strategy} draws at random; leave out {flag} {name}")
    if args.increment != "samples":
        made.error(
            f"--increment {args.increment} is for --strategy hybrid; intra gives old videos "
            f"more frames anyway, inter never does"
        )


# ----------------------------------------------------------------------------- the settings


def _of(kind, args):
    """A dataclass whose fields are flags of the same names."""
    return kind(**{name: getattr(args, name) for name in kind.__dataclass_fields__})


def _budget(args) -> BudgetSettings:
    dataset = table.DATASETS[args.dataset]
    args.at_least_one = args.oracle is None and args.videos is None
    if args.videos is None:
        args.videos = f"{dataset.VIDEOS_PERCENT}%"
    if args.frames is None:
        args.frames = f"{dataset.FRAMES_PERCENT}%"
    return _of(BudgetSettings, args)


def _rule(args) -> RuleSettings:
    simulated = args.oracle is not None or args.strategy == "inter"
    args.start_frames = args.start_frames or ("random" if simulated else "equidistant")
    args.frame_score = args.frame_score or "paper"
    args.damping = args.damping or "paper"
    args.sigma = SIGMA if args.sigma is None else args.sigma
    args.drop_nearest = NEAREST if args.drop_nearest is None else args.drop_nearest
    return _of(RuleSettings, args)
