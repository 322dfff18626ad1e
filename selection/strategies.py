"""The two ways to spend a frame budget that hybrid selection is compared with (paper Fig.
1); both draw at random.

inter   few videos, labeled whole: random order, each video that still fits is taken, until
        none fits
intra   all videos, few frames each: every video gets a first frame before any gets a
        second, and so on
"""

from dataclasses import replace

import numpy as np

from claus.selection.baselines import frames_without_scores
from claus.selection.claus import Selection
from claus.selection.frames import eligible_frames
from claus.utils.runtime import UserError

STRATEGIES = ("hybrid", "inter", "intra")


def select_whole_videos(offsets, budget, seed, *, candidates_N):
    """Inter: all frames of random videos, at most budget.videos of them, together at most
    budget.frames -> Selection.

    Frames of N videos are flat with offsets (N+1,); candidates_N (N,) bool may be chosen.
    `seed` as numpy.random.default_rng takes it. Raises UserError where not even the
    shortest candidate fits.
    """
    lengths_N = np.diff(np.asarray(offsets, dtype=np.int64))
    order = np.random.default_rng(seed).permutation(
        np.flatnonzero(np.asarray(candidates_N) & (lengths_N > 0))
    )
    videos, left = [], budget.frames
    for video, length in zip(order.tolist(), lengths_N[order].tolist(), strict=True):
        if len(videos) == budget.videos:
            break
        if length <= left:
            videos.append(video)
            left -= length
    if not videos:
        raise UserError(
            f"{budget.frames} frames do not hold one whole video, the shortest has "
            f"{lengths_N[order].min()}: raise the frames, or take another --strategy"
        )
    videos = np.array(videos, dtype=np.int64)
    return Selection(budget, videos, tuple(np.arange(lengths_N[video]) for video in videos))


def select_every_video(offsets, budget, seed, *, candidates_N, eligible, equidistant=False):
    """Intra: budget.frames frames over all candidates, to those with the fewest labeled
    frames first -> Selection.

    Frames of N videos are flat with offsets (N+1,); `eligible` (total,) bool: those without
    a label. Which of equally labeled videos come first, and which frames of a video, is
    drawn at random (frames equidistant on request). budget.videos plays no part. Where the
    frames do not reach every video without a label, `notes` of the Selection's budget says
    so.
    """
    offsets = np.asarray(offsets, dtype=np.int64)
    free_N = eligible_frames(eligible, offsets)
    room_N = np.where(candidates_N, free_N, 0)
    have_N = np.diff(offsets) - free_N
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.flatnonzero(room_N))
    counts = level_shares(have_N[order], room_N[order], budget.frames)
    videos, counts = order[counts > 0], counts[counts > 0]
    frames = frames_without_scores(offsets, videos, counts, eligible, generator, equidistant)
    return Selection(
        _with_notes(budget, int(((have_N == 0) & (room_N > 0)).sum()), videos, have_N),
        videos,
        frames,
    )


def level_shares(have_B, room_B, frames):
    """Share `frames` over B videos with `have_B` labels and room for `room_B` more, evening
    out what they then have.

    -> int64 (B,) with sum min(frames, room_B.sum()): as if each frame went to the video
    with the fewest so far that has room, ties to the first in order.
    """
    have, room = np.asarray(have_B, dtype=np.int64), np.asarray(room_B, dtype=np.int64)

    def raised_to(level):
        return np.clip(level - have, 0, room)

    low, high = 0, int((have + room).max(initial=0))  # raised_to(low) is affordable
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if raised_to(middle).sum() <= frames else (low, middle - 1)
    counts = raised_to(low)
    more = np.flatnonzero((have <= low) & (counts < room))[: frames - int(counts.sum())]
    counts[more] += 1
    return counts


def _with_notes(budget, unlabeled, videos, have_N):
    """The budget with as many videos as were touched, and in words what that means."""
    new = int((have_N[videos] == 0).sum())
    if new < unlabeled:
        note = f"{budget.frames} frames do not reach all {unlabeled} videos: one frame each of {new} drawn at random"
    else:
        note = f"every video gets a frame: {new} new videos are paid for, outside the budget of videos"
    return replace(budget, videos=len(videos), notes=(*budget.notes, note))
