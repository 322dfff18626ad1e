"""The selection rules CLAUS is compared with. Each spends the same budget and returns a
Selection (videos.py).

random        random videos, random frames in each
equidistant   the same random videos, frames at equal distances
uncertainty   videos of the highest frame scores in the whole pool, their highest frames,
              however close together
entropy       the same by local entropy; of the frames, the five nearest to each chosen one
              come after all others
claus-no-clusters   CLAUS with the whole pool as one cluster
claus-entropy, our own, is CLAUS itself (videos.py) with local entropy as the score.
"""

from dataclasses import replace

import numpy as np

from claus.selection.budget import share_frames
from claus.selection.claus import Selection, select_claus
from claus.selection.frames import choose_frames, eligible_frames


def select_random(
    offsets, budget, seed, *, candidates_N, free_N=None, eligible=None, equidistant=False
):
    """Random videos, and random (or equidistant) frames in each: the start of every run,
    and the simplest rules.

    Frames of N videos are flat with offsets (N+1,); candidates_N (N,) bool may be chosen;
    `eligible` (total,) bool frames may be (default all). free_N (N,) bool: videos already
    paid for, which take the frames that the chosen ones have no room for. Videos come in
    the order they were drawn, which is also the order in which they get the frames that A_t
    leaves over. `seed`: int or sequence of ints, as numpy.random.default_rng takes it.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    eligible = np.ones(offsets[-1], bool) if eligible is None else np.asarray(eligible)
    room_N = np.where(candidates_N, eligible_frames(eligible, offsets), 0)
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.flatnonzero(room_N))
    videos, others = order[: budget.videos], order[budget.videos :]
    counts = share_frames(room_N[videos], budget)
    left = budget.frames - int(np.sum(counts))
    more = (
        others[np.asarray(free_N)[others]][:left] if left and free_N is not None else others[:0]
    )
    if len(more):
        videos = np.concatenate([videos, more])
        counts = np.concatenate(
            [counts, share_frames(room_N[more], replace(budget, videos=len(more), frames=left))]
        )
    return Selection(
        budget,
        videos,
        frames_without_scores(offsets, videos, counts, eligible, generator, equidistant),
    )


def frames_without_scores(offsets, videos, counts, eligible, generator, equidistant=False):
    """counts[i] eligible frames of each of the `videos`, random or equidistant -> tuple of
    int64 arrays.
    """
    frames = []
    for video, count in zip(videos.tolist(), np.asarray(counts).tolist(), strict=True):
        may = eligible[offsets[video] : offsets[video + 1]]
        frames.append(
            equidistant_frames(may, count)
            if equidistant
            else generator.permutation(np.flatnonzero(may))[:count]
        )
    return tuple(frames)


def equidistant_frames(eligible_F, count):
    """Frames floor((k + 1/2) F / count), k = 0, 1, ..., of a video of F frames -> int64
    (count,), rising.

    Where some frames are not eligible (labeled already), instead the frame farthest from
    all labeled and chosen ones, again and again, of equals the earlier.
    """
    length = len(eligible_F)
    if eligible_F.all():
        return (2 * np.arange(count, dtype=np.int64) + 1) * length // (2 * max(count, 1))
    return np.sort(
        choose_frames(
            np.zeros(length), [0, length], count, labeled=~eligible_F, damping="none"
        ).frames
    )


def select_from_pool(scores, offsets, budget, *, candidates_N, **rule):
    """The best videos of the whole pool and their best frames; `rule` and the rest as
    select_claus takes them.

    With damping "paper" this is CLAUS without clusters, with "none" the uncertainty
    baseline, with "drop" and the local entropy as scores the entropy baseline. Ranks are
    those in the whole pool; there are no quotas.
    """
    one_cluster_N = np.zeros(len(offsets) - 1, np.int64)
    chosen = select_claus(
        scores, offsets, one_cluster_N, 1, budget, candidates_N=candidates_N, **rule
    )
    return replace(chosen, quotas=None)
