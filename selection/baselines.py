"""Halves of rules that look at no score: random videos; random and equidistant frames."""

import numpy as np

from claus.selection.choice import FrameChoice, Task, VideoChoice
from claus.selection.frames import choose_frames


def random_videos(task: Task) -> VideoChoice:
    """Random videos: the start of every run, and the simplest rule.

    They come in the order in which they were drawn, which is also the order in which they
    get the frames that A_t leaves over.
    """
    pool, count = task.pool, task.budget.videos
    order = task.generator.permutation(np.flatnonzero(pool.room_N))
    others = order[count:]
    return VideoChoice(order[:count], others[pool.paid_N[others]])


def random_frames(task: Task, videos: np.ndarray, counts: np.ndarray) -> FrameChoice:
    """counts[i] random unlabeled frames of each of the `videos` (B,)."""

    def draw(eligible_F, count):
        return task.generator.permutation(np.flatnonzero(eligible_F))[:count]

    return _frames_of_each(task, videos, counts, draw)


def spaced_frames(task: Task, videos: np.ndarray, counts: np.ndarray) -> FrameChoice:
    """counts[i] frames of each of the `videos` (B,) at equal distances."""
    return _frames_of_each(task, videos, counts, equidistant_frames)


def equidistant_frames(eligible_F: np.ndarray, count: int) -> np.ndarray:
    """Frames floor((k + 1/2) F / count), k = 0, 1, ..., of a video of F frames -> int64
    (count,), rising.

    Where some frames are not eligible (labeled already), instead the frame farthest from
    all labeled and chosen ones, again and again, of equals the earlier.
    """
    length = len(eligible_F)
    if eligible_F.all():
        return (2 * np.arange(count, dtype=np.int64) + 1) * length // (2 * max(count, 1))
    picks = choose_frames(
        np.zeros(length), [0, length], count, labeled=~eligible_F, damping="none"
    )
    return np.sort(picks.frames)


def _frames_of_each(task, videos, counts, choose) -> FrameChoice:
    """choose(mask of eligible frames, count) for every video, in their order."""
    offsets, frames = task.pool.offsets, []
    for video, count in zip(videos.tolist(), counts.tolist(), strict=True):
        eligible_F = task.pool.eligible[offsets[video] : offsets[video + 1]]
        frames.append(choose(eligible_F, count))
    return FrameChoice(tuple(frames))
