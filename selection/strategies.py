"""The two ways to spend a frame budget that hybrid selection is compared with (paper Fig.
1); both draw their videos at random.

inter   few videos, labeled whole: random order, each video that still fits is taken, until
        none fits
intra   all videos, few frames each: every video gets a first frame before any gets a
        second, and so on
"""

from dataclasses import replace

import numpy as np

from claus.selection.budget import Budget
from claus.selection.choice import ChooseFrames, Selection, Task
from claus.selection.frames import eligible_frames

STRATEGIES = ("hybrid", "inter", "intra")


def select_whole_videos(task: Task) -> Selection:
    """Inter: all frames of random videos, at most budget.videos of them, together at most
    budget.frames.

    ValueError where not even the shortest candidate fits.
    """
    pool, budget = task.pool, task.budget
    lengths_N = np.diff(np.asarray(pool.offsets, dtype=np.int64))
    candidates = np.flatnonzero(np.asarray(pool.candidates_N) & (lengths_N > 0))
    order = task.generator.permutation(candidates)
    videos, left = [], budget.frames
    for video, length in zip(order.tolist(), lengths_N[order].tolist(), strict=True):
        if len(videos) == budget.videos:
            break
        if length <= left:
            videos.append(video)
            left -= length
    if not videos:
        raise ValueError(
            f"{budget.frames} frames do not hold one whole video, the shortest has "
            f"{lengths_N[order].min()}: raise the frames, or take another strategy"
        )
    frames = tuple(np.arange(lengths_N[video]) for video in videos)
    return Selection(budget, np.array(videos, dtype=np.int64), frames)


def select_every_video(task: Task, choose_frames: ChooseFrames) -> Selection:
    """Intra: budget.frames frames over all candidates, to those with the fewest labeled
    frames first.

    Which of equally labeled videos come first is drawn at random; choose_frames takes the
    frames of each. budget.videos plays no part. Where the frames do not reach every video
    without a label, `notes` of the Selection's budget says so.
    """
    pool, budget = task.pool, task.budget
    offsets = np.asarray(pool.offsets, dtype=np.int64)
    room_N = pool.room_N
    have_N = np.zeros(len(room_N), np.int64)
    if pool.labeled is not None:
        have_N = eligible_frames(pool.labeled, offsets)
    order = task.generator.permutation(np.flatnonzero(room_N))
    counts = level_shares(have_N[order], room_N[order], budget.frames)
    videos, counts = order[counts > 0], counts[counts > 0]
    picked = choose_frames(task, videos, counts)
    unlabeled = int(((have_N == 0) & (room_N > 0)).sum())
    budget = _with_notes(budget, unlabeled, videos, have_N)
    return Selection(budget, videos, picked.frames)


def level_shares(have_B: np.ndarray, room_B: np.ndarray, frames: int) -> np.ndarray:
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


def _with_notes(
    budget: Budget, unlabeled: int, videos: np.ndarray, have_N: np.ndarray
) -> Budget:
    """The budget with as many videos as were touched, and in words what that means."""
    new = int((have_N[videos] == 0).sum())
    if new < unlabeled:
        note = (
            f"{budget.frames} frames do not reach all {unlabeled} videos: "
            f"one frame each of {new} drawn at random"
        )
    else:
        note = (
            f"every video gets a frame: {new} new videos are paid for, "
            f"outside the budget of videos"
        )
    return replace(budget, videos=len(videos), notes=(*budget.notes, note))
