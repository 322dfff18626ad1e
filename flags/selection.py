"""The flags of claus_select.py that say how much is chosen and by what rule, and which of
them go together.
"""

from claus.artifacts.handoffs import FRAME_SCORES
from claus.selection.budget import read_schedule
from claus.selection.frames import DAMPINGS, NEAREST, SIGMA
from claus.selection.strategies import STRATEGIES
from claus.utils.runtime import whole_number

READ_BY = {  # method -> the flags that shape its choice
    "claus": ("frame_score", "damping", "sigma"),
    "claus-entropy": ("damping", "sigma"),
    "claus-no-clusters": ("frame_score", "damping", "sigma"),
    "uncertainty": ("frame_score",),
    "entropy": ("drop_nearest",),
    "equidistant": (),
    "random": (),
}
METHODS = tuple(READ_BY)
BY_LOCAL_ENTROPY = ("entropy", "claus-entropy")
UNSCORED = ("random", "equidistant")  # methods that look at no score
INCREMENTS = ("samples", "samples-and-frames", "frames")


def add_budget_flags(parser):
    """How much a cycle may spend, and at what prices."""
    group = parser.add_argument_group(
        "budget of a cycle (defaults: the paper's steps for the data set)"
    )
    videos, frames = group.add_mutually_exclusive_group(), group.add_mutually_exclusive_group()
    videos.add_argument(
        "--videos-percent", help="V: videos, in percent of the pool (default: 5)"
    )
    videos.add_argument("--videos-count", help="videos, as a number instead")
    frames.add_argument(
        "--frames-percent",
        help="A: frames, in percent of V percent of the pool's frames (default: 5; jhmdb: 3)",
    )
    frames.add_argument("--frames-count", help="frames, as a number instead")
    frames.add_argument(
        "--frames-per-video", metavar="A_t", help="frames, as so many for each video instead"
    )
    group.add_argument(
        "--schedule",
        metavar="A/V,A/V,…",
        help="instead of all these: what is to be labeled in all "
        "after cycle 0, 1, …, in percent of all frames / percent of the videos "
        "(0.25/5,0.5/10,1/20); a "
        "cycle buys its pair less the one before",
    )
    add = group.add_argument
    add(
        "--video-cost",
        default="1",
        help="C_v: price of watching and classifying a video (default: %(default)s)",
    )
    add(
        "--frame-cost",
        default="1",
        help="C_f: price of labeling a frame (default: %(default)s)",
    )
    add(
        "--box-cost",
        default="0",
        help="price of each actor in a frame beyond the first; charged in the ledger, not "
        "in the budget, for nobody knows it before (default: %(default)s)",
    )
    add("--video-money", help="B_v: lowers the videos to what this pays for at --video-cost")
    add("--frame-money", help="B_f: lowers the frames to what this pays for at --frame-cost")
    add(
        "--take-rest",
        action="store_true",
        help="where less is left than the budget asks for, take all of it",
    )


def add_rule_flags(parser):
    """Who is chosen."""
    group = parser.add_argument_group("rule (defaults: the paper's)")
    add = group.add_argument
    add(
        "--method",
        choices=METHODS,
        help="how cycle 1 and later choose (cycle 0 is random for all). claus: by "
        "uncertainty within clusters, frames far from each other; claus-entropy: the "
        "same by local entropy (ours, see "
        "the README); claus-no-clusters: as claus in the whole pool; "
        "uncertainty: videos and frames of the highest scores; entropy: of the highest "
        "local entropy, the nearest "
        "frames dropped after each choice; equidistant: random videos, frames at equal "
        "distances; random (default: "
        "claus, for inter and intra random)",
    )
    add(
        "--strategy",
        choices=STRATEGIES,
        default="hybrid",
        help="hybrid: some videos, some frames; inter: random "
        "videos labeled whole, each that still fits; intra: random frames, every "
        "video one before any gets a second, "
        "videos paid for as they come. In cycle 0 too (default: %(default)s)",
    )
    add(
        "--increment",
        choices=INCREMENTS,
        default="samples",
        help="who may be chosen from cycle 1 on: new videos; new "
        "ones and further frames of old ones; further frames of old ones only. Of a "
        "labeled video the labeled frames "
        "damp those near them, and it is not paid for again (default: %(default)s)",
    )
    add(
        "--frame-score",
        choices=FRAME_SCORES,
        help="uncertainty of a frame: summed over its foreground "
        "(paper Eq. 2), the authors' code's mean, U_f by the size of the foreground, "
        "or another array of "
        "uncertainty.pkl (default: paper). R and tau are "
        "what cluster_extract.py had for --passes and --threshold, K what the training "
        "had for --clusters",
    )
    add(
        "--damping",
        choices=DAMPINGS,
        help="how a chosen frame lowers the scores near it: by a factor (paper), by a "
        "subtraction (authors' code), not at all; coverage: a frame scores by how much "
        "more uncertainty its "
        "label would let STeW trust (default: paper)",
    )
    add("--sigma", type=float, help="width of that damping in video frames (default: 8/3)")
    add(
        "--drop-nearest",
        type=whole_number,
        help="with --method entropy: how many of the frames nearest to a chosen "
        f"one come after all others (default: {NEAREST})",
    )


def check_rule(args, parser):
    """Fill in what follows from --method and --strategy; stop at flags that would play no
    part.
    """

    def given(*names):
        return [
            f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None
        ]

    def refuse(flags, why):
        if flags:
            parser.error(f"{flags[0]} {why}")

    args.method = args.method or ("claus" if args.strategy == "hybrid" else "random")
    if args.strategy != "hybrid":
        if args.method not in (("random",) if args.strategy == "inter" else UNSCORED):
            parser.error(
                f"--strategy {args.strategy} draws at random; leave out --method {args.method}"
            )
        if args.increment != "samples":
            parser.error(
                f"--increment {args.increment} is for --strategy hybrid; intra gives "
                f"old videos more frames "
                "anyway, inter never does"
            )
    refuse(
        [
            flag
            for flag in given("frame_score", "damping", "sigma", "drop_nearest")
            if flag[2:].replace("-", "_") not in READ_BY[args.method]
        ],
        f"plays no part in --method {args.method}",
    )
    if args.damping == "none":
        refuse(given("sigma"), "is the width of a damping; --damping none has none")
    budget = (
        "videos_percent",
        "videos_count",
        "frames_percent",
        "frames_count",
        "frames_per_video",
    )
    if args.schedule is not None:
        read_schedule(args.schedule)
        refuse(given(*budget), "and --schedule both say how much; give one of them")
    if args.strategy == "intra":
        refuse(
            given("video_money"),
            "caps the videos to buy, and --strategy intra knows no such number",
        )
        if args.frames_count is not None:
            refuse(
                given("videos_percent", "videos_count"),
                "plays no part where --strategy intra has --frames-count",
            )
    args.damping = {"uncertainty": "none", "entropy": "drop"}.get(
        args.method, args.damping or "paper"
    )
    args.frame_score = args.frame_score or (
        "local_entropy" if args.method in BY_LOCAL_ENTROPY else "paper"
    )
    args.sigma = SIGMA if args.sigma is None else args.sigma
    args.drop_nearest = NEAREST if args.drop_nearest is None else args.drop_nearest
