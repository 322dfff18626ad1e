"""Small pools for the tests of selection rules, and rules called on plain arrays."""

import numpy as np

from claus.selection.baselines import random_frames, random_videos, spaced_frames
from claus.selection.choice import Scoring, Task, select_hybrid
from claus.selection.claus import best_frames, best_of_pool
from claus.selection.pool import FrameScores, Pool


def make_pool(
    offsets, candidates_N=None, free_N=None, labeled=None, scores=None, last=None, **known
):
    """A Pool with every video a candidate and nothing labeled, unless said otherwise."""
    offsets = np.asarray(offsets, dtype=np.int64)
    videos = len(offsets) - 1
    if scores is not None:
        known["scores"] = {"given": FrameScores(np.asarray(scores, float), last)}
    return Pool(
        offsets,
        np.ones(videos, bool) if candidates_N is None else np.asarray(candidates_N),
        np.zeros(videos, bool) if free_N is None else np.asarray(free_N),
        labeled,
        **known,
    )


def make_task(pool, budget, seed=0, **scoring):
    return Task(pool, budget, np.random.default_rng(seed), Scoring("given", **scoring))


def select_random(
    offsets, budget, seed, *, candidates_N, free_N=None, eligible=None, equidistant=False
):
    """The rules random and equidistant."""
    labeled = None if eligible is None else ~eligible
    task = make_task(make_pool(offsets, candidates_N, free_N, labeled), budget, seed)
    frames = spaced_frames if equidistant else random_frames
    return select_hybrid(random_videos, frames, task, task)


def select_from_pool(
    scores, offsets, budget, *, candidates_N, free_N=None, labeled=None, **scoring
):
    """The rules that take the best videos of the whole pool."""
    pool = make_pool(offsets, candidates_N, free_N, labeled, scores)
    task = make_task(pool, budget, **scoring)
    return select_hybrid(best_of_pool, best_frames, task, task)
