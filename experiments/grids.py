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
FRAMES = "1/5,2/10,4/20"  # several frames a video, so that the rule within a video shows
K_VALUES = (2, 3, 5, 7, 10, 15, 20)
R_VALUES = tuple(range(1, 21))
# times the network's own weight of the cluster loss
LAMBDA_FACTORS = (0, 0.01, 0.1, 1, 10, 100)
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
    "table1": "CLAUS along the paper's curve, nine budgets and 90%",
    "table2": "the selection rules at a few budgets, all trained with STeW",
    "fig1": "strategies: hybrid, inter, intra, hybrid with random choice; and the line at 90%",
    "fig5": "CLAUS with and without clusters",
    "fig6": "training losses frame, interp, stew under CLAUS",
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
    schedule: str
    method: str = "claus"
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
        rule = ["--method", self.method]
        rule += ["--strategy", self.strategy] if self.strategy != "hybrid" else []
        rule += ["--increment", self.increment] if self.increment != "samples" else []
        return [*rule, *self.select]

    @property
    def train_flags(self):
        """Flags of the training script that make this loss."""
        return ["--pseudo-label-loss", self.loss, *self.train]


def cells_of(name, seeds, dataset, model, schedule=None, values=None):
    """The cells of an experiment, those of a seed together.

    schedule: instead of the experiment's own. values: of K, R or the factor of lambda,
    instead of the usual ones; the other experiments have none.
    """
    kinds = _variants(name, model, values)
    default = {
        "table1": TABLE1[dataset],
        "fig7": TABLE1[dataset].rpartition(",")[0],
        "frames": FRAMES,
    }.get(name, SHORT[dataset])
    return [
        _fitting(Cell(name, seed=seed, **{"schedule": schedule or default, **kind}))
        for seed in seeds
        for kind in kinds
    ]


def _variants(name, model, values):
    """What tells the cells of an experiment apart, as dicts of Cell's fields."""
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
        return [{"variant": loss, "loss": loss} for loss in LOSSES]
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
        own = {"full": 1e-6, "small": 1e-4}[model]
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
