"""The paper's experiments as grids of cells: which runs a table or a figure is made of.

A cell is one run: a rule, a training loss, a schedule of budgets and a seed. Its first
cycle (random labels, the training on them, the pickles) is shared by all cells of a seed
that train in the same way, so that every method starts from the same labels and the same
weights.
"""

from dataclasses import dataclass, replace

from claus.selection.rules import RULES
from claus.utils.runtime import UserError

METHODS = tuple(reversed(RULES))  # the plainest first
LOSSES = ("frame", "interp", "stew")
# Cumulative percent of all frames / percent of the videos, as the paper's Table 1 prints them.
TABLE1 = {
    "ucf101": "0.25/5,0.5/10,0.75/15,1/20,1.25/25,1.5/30,2/40,2.5/50,5/80,90/90",
    "jhmdb": "0.15/5,0.3/10,0.45/15,0.6/20,0.75/25,0.9/30,1.2/40,1.5/50,5.4/80,90/90",
}
# the random start, 1% and 5%
SHORT = {"ucf101": "0.25/5,1/20,5/80", "jhmdb": "0.15/5,1/33,5/80"}
# one step after which most videos are not bought, so that the choice of videos counts
STEP = "0.5/10,3/33"
# the paper's own step from 1% to 5.4%
PAPER_STEP = "1/33,5.4/80"
# five of TABLE1's budgets
CURVE = {
    "ucf101": "0.25/5,0.75/15,1.5/30,2.5/50,5/80",
    "jhmdb": "0.15/5,0.45/15,0.9/30,1.5/50,5.4/80",
}
# N videos x k frames, two numbers of labeled frames; 660 videos are all of J-HMDB's split 1
SPREAD = ("66x1", "22x3", "11x6", "660x1", "220x3", "66x10")
FRAMES = "1/5,2/10,4/20"  # several frames a video, so that the rule within a video shows
K_VALUES = (2, 3, 5, 7, 10, 15, 20)
R_VALUES = tuple(range(1, 21))
# times the network's own weight of the cluster loss
LAMBDA_FACTORS = (0, 0.01, 0.1, 1, 10, 100)
SEEDS = {"spread": 5, "place": 5, "step": 20}  # 0, 1, ...; 3 of the other experiments
ARM_SEEDS = 5  # of the arms of "step" but the two of the primary comparison
# variant: rule; "A+B" takes the videos of A and the frames of B
ARMS = {
    "random": "random",
    "claus": "claus",
    "equidistant": "equidistant",
    "k-means": "k-means",
    "typiclust": "typiclust",
    "core-set": "core-set",
    "claus videos, random frames": "claus+random",
    "random videos, claus frames": "random+claus",
    "claus-entropy": "claus-entropy",
    "uncertainty": "uncertainty",
    "entropy": "entropy",
}
PRIMARY = ("random", "claus")
# of SPREAD: where the place of the label in its clip is drawn anew
PLACED = ("66x1", "660x1", "220x3")
ANY_PLACE = "any place"  # --label-place any, in "place"
ONLY_LABELED = "labeled frames only"  # "frame" as the training loss, in "spread"
NO_DICE = "no Dice"  # the paper's loss, in "fig6"
SEMI = {
    "consistency": (),
    "consistency, variance mask": ("--bv",),
    "consistency, gradient mask": ("--gv",),
    "consistency, both masks": ("--bv", "--gv"),
    "pseudo-label": (),
    "mixmatch": (),
    "co-ssd": (),
    "mean-teacher": (),
    "stable-mean-teacher": (),
}
OTHER_PASSES = (
    1000  # added to the seed of the dropout masks, for a second R passes of the same weights
)

ABOUT = {
    "spread": "N videos x k frames at the same number of frames, equidistant, from the start: "
    "spread against depth",
    "place": "the same, the labeled frame at any place of its clip in place of the fifth",
    "step": "CLAUS against random and nine other arms, one step from .5% of the frames in 10% "
    "of the videos to 3% in 33%; twenty seeds of CLAUS and random",
    "curve": "CLAUS and random at five of the paper's budgets",
    "table1": "CLAUS along the paper's curve, nine budgets and 90%",
    "table2": "the selection rules at a few budgets, all trained with STeW",
    "fig1": "strategies: hybrid, inter, intra, hybrid with random choice; and the line at 90%",
    "fig5": "CLAUS with and without clusters",
    "fig6": "training losses frame, interp, stew under CLAUS, with and without Dice",
    "fig7": "the same rules along the curve, all trained with STeW",
    "fig8": "cost: CLAUS and random; and what grows: samples, samples-and-frames, frames",
    "k": "number of clusters K; it enters the cluster loss, so every K trains from the "
    "first cycle on",
    "r": "number of dropout passes R: the same weights scored again, the choices "
    "compared; trains the start alone",
    "lambda": "weight of the cluster loss, in multiples of the network's own; every "
    "value trains from the first cycle",
    "frames": "which frames of a video: damping as in the paper, as in the authors' "
    "code, none, coverage; equidistant; random",
    "semi": "training on the unlabeled videos too, by method, under random choice and "
    "under CLAUS",
    "full": "every frame of every video labeled: the line to reach",
}


@dataclass(frozen=True)
class Cell:
    """One run. Flags are tuples of words that come after those of the whole experiment;
    kind: "cycles" (a run of the schedule from the shared start), "alone" (a schedule of its
    own, nothing shared), "passes" (scores the start again).
    """

    experiment: str
    variant: str
    seed: int
    schedule: str  # "" where select says how much is labeled
    method: str = "claus"  # of RULES, or "A+B": the videos of A, the frames of B
    strategy: str = "hybrid"
    increment: str = "samples"
    loss: str = "stew"
    semi: str = ""  # method of train_semi.py; none: the supervised training script
    select: tuple = ()
    train: tuple = ()
    extract: tuple = ()
    kind: str = "cycles"

    @property
    def steps(self):
        """The schedule as [(percent of frames, percent of videos), …], as text."""
        return [tuple(step.split("/")) for step in self.schedule.split(",")]

    @property
    def select_flags(self):
        """Flags of claus_select.py that make this rule."""
        videos, mixed, frames = self.method.partition("+")
        rule = ["--method", self.method]
        if mixed:
            rule = ["--video-rule", videos, "--frame-rule", frames]
        rule += ["--strategy", self.strategy] if self.strategy != "hybrid" else []
        rule += ["--increment", self.increment] if self.increment != "samples" else []
        return [*rule, *self.select]

    @property
    def train_flags(self):
        """Flags of the training script that make this loss."""
        return ["--pseudo-label-loss", self.loss, *self.train]


def cells_of(name, seeds, dataset, model, schedule=None, values=None):
    """The cells of an experiment, those of a seed together.

    seeds: of every variant; None: the experiment's own, which some variants have fewer of ·
    schedule: instead of the experiment's own · values: of K, R, the factor of lambda or
    "NxK" of spread, instead of the usual ones; the other experiments have none.
    """
    kinds, cells = _variants(name, model, values), []
    own = schedule or _schedule_of(name, dataset)
    for place, seed in enumerate(range(SEEDS.get(name, 3)) if seeds is None else seeds):
        for kind in kinds:
            fields = {"schedule": own, **kind}
            most = fields.pop("seeds", None)
            if seeds is None and most is not None and place >= most:
                continue
            cells.append(_fitting(Cell(name, seed=seed, **fields)))
    return cells


def _schedule_of(name, dataset):
    """The budgets of an experiment."""
    own = {
        "table1": TABLE1[dataset],
        "fig7": TABLE1[dataset].rpartition(",")[0],
        "frames": FRAMES,
        "step": STEP,
        "curve": CURVE[dataset],
    }
    if dataset == "jhmdb":
        own |= {"table2": PAPER_STEP, "fig6": STEP}
    return own.get(name, SHORT[dataset])


def _variants(name, model, values):
    """What tells the cells of an experiment apart, as dicts of Cell's fields."""
    if name == "spread":
        return _spread(values or SPREAD)
    if name == "place":
        return _placed()
    if name == "step":
        return [
            {"variant": variant, "method": rule}
            | ({} if variant in PRIMARY else {"seeds": ARM_SEEDS})
            for variant, rule in ARMS.items()
        ]
    if name == "curve":
        return [{"variant": method, "method": method} for method in PRIMARY]
    if name == "table1":
        return [{"variant": "claus"}]
    if name in ("table2", "fig7"):
        return [{"variant": method, "method": method} for method in METHODS]
    if name == "fig1":
        ways = [
            {"variant": "hybrid"},
            {"variant": "inter", "strategy": "inter", "method": "random"},
            {"variant": "intra", "strategy": "intra", "method": "random"},
        ]
        return [
            *ways,
            {"variant": "hybrid, random choice", "method": "random"},
            {"variant": "90%", "method": "random", "schedule": "90/90", "kind": "alone"},
        ]
    if name == "fig5":
        return [
            {"variant": "with clusters"},
            {"variant": "without clusters", "method": "claus-no-clusters"},
        ]
    if name == "fig6":
        plain = [{"variant": loss, "loss": loss} for loss in LOSSES]
        no_dice = {"train": ("--dice", "none")}
        bare = [{"variant": f"{loss}, {NO_DICE}", "loss": loss, **no_dice} for loss in LOSSES]
        return plain + bare
    if name == "fig8":
        grown = [
            {"variant": f"claus, {way}", "increment": way}
            for way in ("samples", "samples-and-frames", "frames")
        ]
        return [*grown, {"variant": "random, samples", "method": "random"}]
    if name == "k":
        return [
            {"variant": f"K={k}", "train": ("--clusters", str(k))}
            for k in _whole(values or K_VALUES, "K")
        ]
    if name == "r":
        counts = sorted(set(_whole(values or R_VALUES, "R")))
        passes = [
            {"variant": f"R={r}", "extract": ("--passes", str(r)), "kind": "passes"}
            for r in counts
        ]
        return [*passes, {**passes[-1], "variant": f"R={counts[-1]}, other passes"}]
    if name == "lambda":
        own = _cluster_weight(model)
        return [
            {
                "variant": f"λ={factor * own:g}",
                "train": ("--cluster-weight", f"{factor * own:g}"),
            }
            for factor in _factors(values or LAMBDA_FACTORS)
        ]
    if name == "frames":
        rules = ("paper", "authors", "none", "coverage")
        damped = [
            {"variant": f"damping {rule}", "select": ("--damping", rule)} for rule in rules
        ]
        return [
            *damped,
            *({"variant": method, "method": method} for method in ("equidistant", "random")),
        ]
    if name == "semi":
        ways = [
            {"variant": way, "semi": way.partition(",")[0], "train": flags}
            for way, flags in SEMI.items()
        ]
        half = {
            "variant": "supervised, labeled half",
            "semi": "supervised",
            "train": ("--labeled-half",),
        }
        ways = [{"variant": "supervised", "semi": "supervised"}, half, *ways]
        # the best is known afterwards
        chosen = [{**way, "variant": f"claus, {way['variant']}"} for way in ways]
        return [*({"method": "random", **way} for way in ways), *chosen]
    if name == "full":
        return [
            {
                "variant": "fully supervised",
                "method": "random",
                "schedule": "100/100",
                "kind": "alone",
            }
        ]
    raise UserError(f"{name} is not an experiment; choose from {', '.join(ABOUT)}")


def _cluster_weight(model):
    """A network's own weight of the cluster loss."""
    from claus.losses.cluster import LAMBDA
    from claus.models import BACKBONES  # here: torch takes seconds

    return BACKBONES[model].training.get("cluster_weight", LAMBDA)


def _spread(values):
    """Cells of spread against depth, each a start of its own: random videos, equidistant
    frames (of one, the middle). With the most frames also without pseudo-labels.
    """
    sizes = [size_of(value) for value in values]
    most = max(videos * frames for videos, frames in sizes)
    cells = []
    for videos, frames in sizes:
        budget = ("--videos", str(videos), "--frames", str(videos * frames))
        cells.append(
            {
                "variant": f"{videos}x{frames}",
                "method": "equidistant",
                "schedule": "",
                "kind": "alone",
                "select": (*budget, "--start-frames", "equidistant"),
            }
        )
    only_labeled = [
        cell | {"variant": f"{cell['variant']}, {ONLY_LABELED}", "loss": "frame"}
        for cell, (videos, frames) in zip(cells, sizes, strict=True)
        if videos * frames == most
    ]
    return cells + only_labeled


def _placed():
    """Cells of spread whose labeled frame lies anywhere in its clip."""
    anywhere = {"train": ("--label-place", "any")}
    return [
        cell | anywhere | {"variant": f"{cell['variant']}, {ANY_PLACE}"}
        for cell in _spread(PLACED)
    ]


def size_of(variant):
    """(videos, frames of each) of a variant of spread, such as "22x3"; UserError for other
    words.
    """
    videos, _, frames = variant.partition(",")[0].partition("x")
    if not (videos.isdecimal() and frames.isdecimal() and int(videos) and int(frames)):
        raise UserError(f"{variant} is no number of videos x frames of each, such as 22x3")
    return int(videos), int(frames)


def _fitting(cell):
    """The cell with a schedule that it can keep: where only old videos get more frames, no
    videos are added.
    """
    if cell.increment != "frames":
        return cell
    videos = cell.steps[0][1]
    return replace(cell, schedule=",".join(f"{frames}/{videos}" for frames, _ in cell.steps))


def _whole(values, name):
    """Values of K or R as whole numbers >= 1."""
    try:
        numbers = [int(value) for value in values]
    except ValueError as error:
        raise UserError(
            f"--values must be whole numbers for {name}, not {','.join(map(str, values))}"
        ) from error
    if min(numbers) < 1:
        raise UserError(f"--values must be 1 or more for {name}, not {min(numbers)}")
    return numbers


def _factors(values):
    """Factors of the cluster loss as numbers >= 0."""
    try:
        numbers = [float(value) for value in values]
    except ValueError as error:
        raise UserError(
            f"--values must be numbers for lambda, not {','.join(map(str, values))}"
        ) from error
    if not all(0 <= number < float("inf") for number in numbers):
        raise UserError(
            f"--values must be 0 or more for lambda, not {','.join(map(str, values))}"
        )
    return numbers
