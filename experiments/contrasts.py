"""The comparisons of docs/protocol.md: which arms, paired by seed, and which family corrects
for their number.

A comparison is a weighted sum of arms, computed seed by seed: +1 CLAUS, -1 random; or the
two halves of an effect. Only seeds that have all of its arms count.
"""

import math
from dataclasses import dataclass

from claus.experiments.grids import (
    ANY_PLACE,
    ARM_SEEDS,
    ARMS,
    LOSSES,
    NO_DICE,
    ONLY_LABELED,
    PLACED,
    PRIMARY,
    SEEDS,
    SPREAD,
    size_of,
)
from claus.experiments.report.statistics import Test, holm, paired_test
from claus.selection.rules import RULES

METRICS = {"capsule f-mAP@.5": "f-mAP@.5", "capsule v-mAP@.5": "v-mAP@.5"}
LAST = None  # the last cycle of a run
FAMILIES = {
    "primary": "CLAUS against random after one step",
    "arms": "the other arms against random after one step",
    "videos or frames": "CLAUS's choice of videos, and of frames, each averaged over the other",
    "spread": "more frames of fewer videos against one frame a video, at as many frames",
    "pseudo-labels": "STeW against labeled frames alone, at as many labels",
    "place": "the labeled frame at any place of its clip against the fifth",
    "losses": "STeW against the other losses under CLAUS",
    "curve": "CLAUS against random at later budgets of the curve",
    "paper's step": "the rules against random after the paper's step from 1% to 5.4%",
    "all labels": "5.4% of the frames against all of them",
}
# seeds that a family is judged by; 3 of the others
FAMILY_SEEDS = {
    "primary": SEEDS["step"],
    "arms": ARM_SEEDS,
    "videos or frames": ARM_SEEDS,
    "spread": SEEDS["spread"],
    "pseudo-labels": SEEDS["spread"],
    "place": SEEDS["place"],
}


@dataclass(frozen=True)
class Term:
    """An arm and its weight in a comparison. cycle: LAST, or a number."""

    experiment: str
    variant: str
    weight: float
    cycle: int | None = LAST


@dataclass(frozen=True)
class Contrast:
    """One comparison: the weighted sum of its terms of one metric."""

    family: str
    label: str
    terms: tuple
    metric: str

    @property
    def seeds(self):
        """How many it is judged by."""
        return FAMILY_SEEDS.get(self.family, 3)


@dataclass(frozen=True)
class Result:
    """What a comparison came to. test: None where no seed has all arms · holm: p adjusted
    over its family, NaN where there is none.
    """

    contrast: Contrast
    test: Test | None
    holm: float


def planned(sizes=SPREAD):
    """Every comparison, in the order of FAMILIES. sizes: of spread, such as "22x3"."""
    pairs = [("primary", "claus - random", *_difference("step", "claus", "random"))]
    for arm in ARMS:
        if arm not in PRIMARY:
            pairs.append(("arms", f"{arm} - random", *_difference("step", arm, "random")))
    pairs += _halves()
    pairs += _spread(sizes)
    pairs += _placed()
    for dice in ("", f", {NO_DICE}"):
        for loss in LOSSES[:-1]:
            one, other = f"stew{dice}", f"{loss}{dice}"
            pairs.append(("losses", f"{one} - {other}", *_difference("fig6", one, other)))
    for cycle in range(1, 5):
        terms = _difference("curve", "claus", "random", cycle)
        pairs.append(("curve", f"claus - random, budget {cycle + 1}", *terms))
    for rule in RULES:
        if rule != "random":
            terms = _difference("table2", rule, "random")
            pairs.append(("paper's step", f"{rule} - random", *terms))
    for rule in PRIMARY:
        terms = Term("curve", rule, 1), Term("full", "fully supervised", -1)
        pairs.append(("all labels", f"{rule} at the last budget - all labels", *terms))
    contrasts = []
    for family, label, *terms in pairs:
        for metric in METRICS:
            contrasts.append(Contrast(family, label, tuple(terms), metric))
    return contrasts


def _difference(experiment, one, other, cycle=LAST):
    return Term(experiment, one, 1, cycle), Term(experiment, other, -1, cycle)


def _halves():
    """The two main effects of claus and random as choosers of videos and of frames."""
    both, videos, frames, none = (
        "claus",
        "claus videos, random frames",
        "random videos, claus frames",
        "random",
    )
    effects = {
        "videos: claus - random": {both: 0.5, videos: 0.5, frames: -0.5, none: -0.5},
        "frames: claus - random": {both: 0.5, videos: -0.5, frames: 0.5, none: -0.5},
    }
    for label, weights in effects.items():
        terms = [Term("step", variant, weight) for variant, weight in weights.items()]
        yield "videos or frames", label, *terms


def _spread(sizes):
    """Within each number of frames: every other size against the widest spread; and with
    the most frames, each size with pseudo-labels against without.
    """
    totals = by_total(sizes)
    pairs = []
    for widest, *others in totals.values():
        for size in others:
            terms = _difference("spread", size, widest)
            pairs.append(("spread", f"{size} - {widest}", *terms))
    for size in totals[max(totals)]:
        bare = f"{size}, {ONLY_LABELED}"
        pairs.append(
            ("pseudo-labels", f"{size}: stew - frame", *_difference("spread", size, bare))
        )
    return pairs


def _placed():
    """Any place against the fifth, of STeW; and at any place STeW against labeled frames."""
    most = max(by_total(PLACED))
    for size in PLACED:
        here = f"{size}, {ANY_PLACE}"
        terms = Term("place", here, 1), Term("spread", size, -1)
        yield "place", f"{size}: any place - the fifth", *terms
        if math.prod(size_of(size)) == most:
            bare = f"{size}, {ONLY_LABELED}, {ANY_PLACE}"
            yield "place", f"{here}: stew - frame", *_difference("place", here, bare)


def by_total(sizes):
    """{number of frames: its sizes, most videos first}, fewest frames first."""
    totals = {}
    for size in sizes:
        totals.setdefault(math.prod(size_of(size)), []).append(size)
    for of_total in totals.values():
        of_total.sort(key=size_of, reverse=True)
    return dict(sorted(totals.items()))


def results_of(rows, contrasts):
    """Result of each comparison, adjusted within its family as it was planned.

    rows: of gather.read_table, each cell once.
    """
    known = values_of(rows)
    tests = [paired_test(differences(known, contrast)) for contrast in contrasts]
    adjusted = [math.nan] * len(contrasts)
    for family in FAMILIES:
        places = [at for at, contrast in enumerate(contrasts) if contrast.family == family]
        p_values = [tests[at].p if tests[at] else math.nan for at in places]
        for at, value in zip(places, holm(p_values), strict=True):
            adjusted[at] = float(value)
    triples = zip(contrasts, tests, adjusted, strict=True)
    return [Result(*triple) for triple in triples]


def values_of(rows):
    """{(experiment, variant): {seed: [{metric: number} of cycle 0, 1, ...]}}."""
    known = {}
    for row in sorted(rows, key=lambda row: row["cycle"]):
        of = known.setdefault((row["experiment"], row["variant"]), {})
        of.setdefault(row["seed"], {})[int(row["cycle"])] = row
    return known


def differences(known, contrast):
    """The weighted sum of a comparison, of each seed that has all of its arms."""
    seeds = [set(known.get((t.experiment, t.variant), {})) for t in contrast.terms]
    sums = []
    for seed in sorted(set.intersection(*seeds), key=str):
        values = []
        for term in contrast.terms:
            cycles = known[term.experiment, term.variant][seed]
            cycle = max(cycles) if term.cycle is LAST else term.cycle
            value = cycles.get(cycle, {}).get(contrast.metric)
            values.append(math.nan if value is None else term.weight * value)
        if not math.isnan(sum(values)):
            sums.append(sum(values))
    return sums
