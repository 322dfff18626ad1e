"""What a cycle chooses from, as arrays: N videos, and all their frames one after another.

Frame f of video i is element offsets[i] + f of every flat array; total = offsets[N].
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from claus.selection.frames import eligible_frames

# which videos are candidates: those without labels; these, and labeled ones that have
# unlabeled frames; the latter alone
INCREMENTS = ("samples", "samples-and-frames", "frames")


@dataclass(frozen=True, eq=False)
class FrameScores:
    """One uncertainty score for every frame of the pool.

    values: (total,) float, finite · nothing_seen: (total,) bool, frames in which the
    detector saw no foreground; they are chosen after all others.
    """

    values: np.ndarray
    nothing_seen: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """N videos of which some may be chosen, and what is known of them. Never changed.

    offsets: (N+1,) int64 · candidates_N: (N,) bool, may be chosen · labeled_N: (N,) bool,
    has labels · labeled: (total,) bool, frames with labels; None where no candidate has any.
    For rules that look at them: latents_N_D (N, D), clusters_N (N,) int in [0, K),
    centers_K_D (K, D), and scores, {name of a frame score: FrameScores}.
    """

    offsets: np.ndarray
    candidates_N: np.ndarray
    labeled_N: np.ndarray
    labeled: np.ndarray | None = None
    latents_N_D: np.ndarray | None = None
    clusters_N: np.ndarray | None = None
    centers_K_D: np.ndarray | None = None
    scores: dict[str, FrameScores] = field(default_factory=dict)

    @cached_property
    def eligible(self) -> np.ndarray:
        """(total,) bool: frames without labels."""
        if self.labeled is None:
            return np.broadcast_to(np.True_, int(self.offsets[-1]))  # which takes no memory
        return ~self.labeled

    @cached_property
    def room_N(self) -> np.ndarray:
        """(N,) int64: frames that each video can still give; 0 where it is no candidate."""
        free_N = eligible_frames(self.eligible, self.offsets)
        return np.where(self.candidates_N, free_N, 0)

    @property
    def paid_N(self) -> np.ndarray:
        """(N,) bool: labeled videos that can give more frames and cost nothing as videos."""
        return np.asarray(self.labeled_N) & (self.room_N > 0)

    def left(self) -> tuple[int, int]:
        """(videos, frames) that may still be chosen."""
        return int(np.sum(self.candidates_N)), int(self.room_N.sum())


def find_candidates(increment: str, lengths_N: np.ndarray, marked_N: np.ndarray) -> np.ndarray:
    """Which videos may be chosen -> (N,) bool.

    increment: one of INCREMENTS; lengths_N, marked_N: (N,) int, frames and labeled frames
    of each video. ValueError for another increment.
    """
    if increment not in INCREMENTS:
        raise ValueError(f"increment must be one of {', '.join(INCREMENTS)}, not {increment}")
    labeled_N = marked_N > 0
    if increment == "samples":
        return ~labeled_N
    unfinished_N = marked_N < lengths_N
    return unfinished_N & labeled_N if increment == "frames" else unfinished_N
