"""A share of a cycle's budget that is spent at random, so that people see on their own data
what the choice was worth.

The random part is drawn first, from all that may be chosen, and the rule chooses from what
is left: the random videos are then a sample of the whole unlabeled pool, and what the
detector makes of them estimates how good it is there. Drawn after the rule they would be a
sample of what the rule did not want.
"""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from claus.selection.budget import Budget, exact
from claus.selection.choice import Selection
from claus.selection.pool import Pool
from claus.selection.rules import RuleSettings, select


def read_share(text: str) -> Fraction:
    """ "1/3", "0.25" or "25%" -> an exact share; ValueError outside (0, 1)."""
    words = str(text).strip()
    percent = words.endswith("%")
    share = exact(words.removesuffix("%").strip(), "the random share")
    share = share / 100 if percent else share
    if not 0 < share < 1:
        raise ValueError(f"the random share must lie between 0 and 1, not {text}")
    return share


def split_budget(budget: Budget, share: Fraction) -> tuple[Budget | None, Budget]:
    """(random part, the rule's part); together exactly the budget.

    Each part gets one video at least, so a budget of one video has no random part: None.
    """
    if budget.videos < 2:
        note = "the budget buys one video only, so none is drawn at random"
        return None, replace(budget, notes=(*budget.notes, note))
    videos = min(max(int(share * budget.videos), 1), budget.videos - 1)
    most = budget.frames - (budget.videos - videos)
    frames = min(max(int(share * budget.frames), videos), most)
    rest = replace(budget, videos=budget.videos - videos, frames=budget.frames - frames)
    return Budget(videos, frames), rest


def select_with_share(
    pool: Pool,
    budget: Budget,
    settings: RuleSettings,
    seed: int | list[int],
    share: Fraction,
) -> tuple[Selection, Selection | None]:
    """(what the rule chooses, what is drawn at random or None), no video in both.

    pool, budget, seed: see rules.select. What the random videos have no room for goes to the
    rule. ValueError where a budget or an option makes no sense.
    """
    random_part, rest = split_budget(budget, share)
    if random_part is None:
        return select(pool, rest, settings, seed), None
    drawing = replace(settings, video_rule="random", frame_rule="random")
    seeds = [*np.atleast_1d(seed).tolist(), 1]
    drawn = select(pool, random_part, drawing, seeds)
    candidates_N = np.array(pool.candidates_N, copy=True)
    candidates_N[drawn.videos] = False
    left = replace(pool, candidates_N=candidates_N)
    videos, frames = left.left()
    frames = min(budget.frames - drawn.spent, frames)
    rest = replace(rest, videos=min(rest.videos, videos, frames), frames=frames)
    return select(left, rest, settings, seed), drawn
