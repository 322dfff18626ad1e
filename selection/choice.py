"""What a rule is given, what it gives back, and how a choice of videos and a choice of
frames become one selection.

A rule has two halves. The first takes a Task and gives a VideoChoice, the second takes a
Task, videos and counts and gives a FrameChoice. Any two halves go together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from claus.selection.budget import Budget, share_frames
from claus.selection.frames import NEAREST, SIGMA
from claus.selection.pool import FrameScores, Pool


@dataclass(frozen=True)
class Scoring:
    """How a rule that looks at scores ranks the frames of a video, see frames.py.

    score: which of Pool.scores, None for rules that look at none · damping: one of
    frames.DAMPINGS or "drop" · sigma: its width in frames · nearest: frames that "drop"
    puts behind the others.
    """

    score: str | None = None
    damping: str = "paper"
    sigma: float = SIGMA
    nearest: int = NEAREST


@dataclass(frozen=True, eq=False)
class Task:
    """All that half a rule is given. budget must not exceed what the pool has left."""

    pool: Pool
    budget: Budget
    generator: np.random.Generator
    scoring: Scoring = Scoring()

    @property
    def scores(self) -> FrameScores:
        """The frame scores that the rule looks at."""
        return self.pool.scores[self.scoring.score]


@dataclass(frozen=True, eq=False)
class VideoChoice:
    """Videos that a rule has chosen, as indices into the pool, best first.

    videos: (B,) int64, distinct · spare: int64, labeled videos that are not among them, in
    the order in which they take the frames that the chosen ones have no room for · reasons:
    {video: why, in words}. Rules that score videos also give scores_N (N,), ranks_N (N,),
    the place of each among the candidates of its cluster (1 = best), and per cluster
    candidates_K and quotas_K; without clusters the pool is one, and quotas_K is None.
    """

    videos: np.ndarray
    spare: np.ndarray
    reasons: dict[int, str] | None = None
    scores_N: np.ndarray | None = None
    ranks_N: np.ndarray | None = None
    candidates_K: np.ndarray | None = None
    quotas_K: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class FrameChoice:
    """Frames of B videos, each an int64 array of distinct frame numbers.

    Rules that score frames give them in the order of choice, with the score of each
    (scores) and what was left of it at the moment of choice (damped), B float arrays.
    """

    frames: tuple[np.ndarray, ...]
    scores: tuple[np.ndarray, ...] | None = None
    damped: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True, eq=False)
class Selection:
    """What is to be labeled, best video first: indices into the pool, and frame numbers.

    videos: (B,) int64, distinct · frames: B int64 arrays, distinct · frame_scores, damped:
    see FrameChoice · reasons, and by video scores (B,) and ranks (B,), per cluster
    candidates (K,) and quotas (K,): see VideoChoice. None where the rule has no such
    thing.
    """

    budget: Budget
    videos: np.ndarray
    frames: tuple[np.ndarray, ...]
    frame_scores: tuple[np.ndarray, ...] | None = None
    damped: tuple[np.ndarray, ...] | None = None
    reasons: dict[int, str] | None = None
    scores: np.ndarray | None = None
    ranks: np.ndarray | None = None
    candidates: np.ndarray | None = None
    quotas: np.ndarray | None = None

    @property
    def spent(self) -> int:
        """Number of frames chosen in all."""
        return sum(len(frames) for frames in self.frames)


ChooseVideos = Callable[[Task], VideoChoice]
ChooseFrames = Callable[[Task, np.ndarray, np.ndarray], FrameChoice]


def select_hybrid(
    choose_videos: ChooseVideos,
    choose_frames: ChooseFrames,
    videos_task: Task,
    frames_task: Task,
) -> Selection:
    """Some videos by one rule, some frames of each by another.

    The frames of the budget are shared out by budget.share_frames. What the chosen videos
    have no room for goes to videos that are labeled already, in the order of `spare`, as
    evenly as they can take it. The two tasks differ in their scoring alone.
    """
    room_N, budget = videos_task.pool.room_N, videos_task.budget
    choice = choose_videos(videos_task)
    videos = np.asarray(choice.videos, dtype=np.int64)
    counts = share_frames(room_N[videos], budget)
    left = budget.frames - int(counts.sum())
    more = np.asarray(choice.spare, dtype=np.int64)[:left]
    if len(more):
        counts_more = share_frames(room_N[more], Budget(len(more), left))
        videos = np.concatenate([videos, more])
        counts = np.concatenate([counts, counts_more])
    picked = choose_frames(frames_task, videos, counts)
    return Selection(
        budget,
        videos,
        picked.frames,
        picked.scores,
        picked.damped,
        choice.reasons,
        None if choice.scores_N is None else choice.scores_N[videos],
        None if choice.ranks_N is None else choice.ranks_N[videos],
        choice.candidates_K,
        choice.quotas_K,
    )
