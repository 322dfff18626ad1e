"""The selection rules CLAUS is compared with. Each spends the same budget and returns a Selection (videos.py)."""

import numpy as np

from selection.budget import share_frames
from selection.frames import eligible_frames
from selection.videos import Selection


def select_random(offsets, budget, seed, *, candidates_N, eligible=None):
    """Random videos, and random frames in each: the start of every run, and the simplest rule to beat.

    Frames of N videos are flat with offsets (N+1,); candidates_N (N,) bool may be chosen; `eligible` (total,) bool
    frames may be (default all). Videos come in the order they were drawn, which is also the order in which they get
    the frames that A_t leaves over. `seed`: int or sequence of ints, as numpy.random.default_rng takes it.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    eligible = np.ones(offsets[-1], bool) if eligible is None else np.asarray(eligible)
    room_N = np.where(candidates_N, eligible_frames(eligible, offsets), 0)
    generator = np.random.default_rng(seed)
    videos = generator.permutation(np.flatnonzero(room_N))[:budget.videos]
    counts = share_frames(room_N[videos], budget)
    frames = [generator.permutation(np.flatnonzero(eligible[offsets[video]:offsets[video + 1]]))[:count]
              for video, count in zip(videos, counts, strict=True)]
    return Selection(budget, videos, tuple(frames))
