"""What a wanted score costs by how the labels are spread: opening a video and naming its
class, against a further frame of it.

A way of spreading (one frame a video, three, ...) was measured at two or more numbers of
frames. Between them the mean score is taken as linear in the logarithm of the number of
frames, and so are videos and frames of each in their logarithms; nothing is extrapolated.
"""

import math
from dataclasses import dataclass

import numpy as np

from claus.experiments.contrasts import by_total
from claus.experiments.grids import size_of

RATIOS = (0, 1, 2, 5, 10)  # price of opening a video, in prices of a frame
DRAWS, SEED = 1000, 0  # of the bootstrap over seeds


@dataclass(frozen=True)
class Way:
    """One way of spreading, measured at n numbers of frames: sizes (videos, frames of each),
    fewest frames first, and the mean score of each.
    """

    name: str
    sizes: tuple
    scores: tuple

    def size_for(self, wanted):
        """(videos, frames of each), not rounded, with the score `wanted`: the first place
        where it is reached; None where it is not. A score below all measured ones costs at
        most the smallest size.
        """
        if self.scores[0] >= wanted:
            return self.sizes[0]
        for at in range(1, len(self.sizes)):
            low, high = self.scores[at - 1], self.scores[at]
            if high >= wanted > low:
                share = (wanted - low) / (high - low)
                few, many = self.sizes[at - 1], self.sizes[at]
                return tuple(a * (b / a) ** share for a, b in zip(few, many, strict=True))
        return None

    def cost_for(self, wanted, ratio):
        """Price of the score `wanted` in prices of a frame; infinite where it is not
        reached.
        """
        size = self.size_for(wanted)
        return math.inf if size is None else cost(size, ratio)


def cost(size, ratio):
    """videos · ratio + videos · frames of each, in prices of a frame."""
    videos, frames = size
    return videos * (ratio + frames)


def ways_of(scores):
    """The ways of spreading of {"22x3": mean score}: the widest of each number of frames are
    one way, the next widest another, ...
    """
    totals = [of for of in by_total(scores).values()]
    ways = []
    for place in range(min(map(len, totals))):
        names = [of[place] for of in totals]
        sizes = tuple(size_of(name) for name in names)
        frames = list(dict.fromkeys(frames for _, frames in sizes))
        name = " to ".join(map(str, frames)) + (
            " frame a video" if frames == [1] else " frames a video"
        )
        ways.append(Way(name, sizes, tuple(scores[name] for name in names)))
    return ways


def wanted_scores(ways, step=5):
    """Scores worth asking for: the multiples of `step` between the lowest and the highest
    mean.
    """
    known = [score for way in ways for score in way.scores]
    first, last = math.ceil(min(known) / step), math.floor(max(known) / step)
    return [step * number for number in range(first, last + 1)]


def cheapest(ways, wanted, ratio):
    """The way of the least cost, of equals the first; None where none reaches `wanted`."""
    costs = [way.cost_for(wanted, ratio) for way in ways]
    best = int(np.argmin(costs))
    return None if math.isinf(costs[best]) else ways[best]


def certainty(by_seed, wanted, ratio, name):
    """Share of bootstrap draws over seeds in which the way `name` is the cheapest.

    by_seed: {"22x3": {seed: score}}; seeds that all sizes have are drawn together. NaN where
    there are fewer than two.
    """
    seeds = sorted(set.intersection(*(set(of) for of in by_seed.values())), key=str)
    if len(seeds) < 2:
        return math.nan
    draws = np.random.default_rng(SEED).integers(0, len(seeds), (DRAWS, len(seeds)))
    table = {size: np.array([of[seed] for seed in seeds]) for size, of in by_seed.items()}
    won = 0
    for draw in draws:
        way = cheapest(
            ways_of({size: of[draw].mean() for size, of in table.items()}), wanted, ratio
        )
        won += way is not None and way.name == name
    return won / len(draws)
