"""Which frames of a video to label: take the best, damp what is near, take the best of the
rest, and so on.

With the reference frames a (already labeled, or chosen before), d = f - a and width sigma,
the score of frame f is
    paper     score_f * prod_a (1 - exp(-d^2 / 2 sigma^2))
              the default; product, Gaussian and sigma = 8/3 are ours, for the paper says that
              near frames are damped and prints no form and no number
    authors   score_f - sum_a exp(-d^2 / 2 sigma^2)
              as in the code that the authors published
    none      score_f
    drop      score_f, but the frames nearest to each a (five of them) come after all others
              (the entropy baseline)
    coverage  sum_g score_g * max(0, tau(g - f) - max_a tau(g - a)), tau(d) = exp(-d^2 / 2
              sigma^2), 0 beyond 3 sigma: how much more of the video's uncertainty STeW
              would trust, were f labeled (our own rule). It also knows the video's ends,
              where half of what a label says is lost
Frames of many videos lie in one flat array: frame f of video i is element offsets[i] + f.
"""

from dataclasses import dataclass

import numpy as np

DAMPINGS = ("paper", "authors", "none", "coverage")  # `drop` belongs to one baseline alone
SIGMA = 8 / 3  # video frames
NEAREST = 5  # frames that `drop` puts behind the others after each choice
BLOCK = 1 << 20  # frames handled at once: bounds the memory, does not change the result


@dataclass(frozen=True, eq=False)
class Picks:
    """Chosen frames of N videos, in the order of choice; those of video i are
    offsets[i]:offsets[i+1].

    frames (M,) int64 frame numbers, distinct within a video · damped (M,) float64 the score
    at the moment of choice · offsets (N+1,) int64.
    """

    frames: np.ndarray
    damped: np.ndarray
    offsets: np.ndarray

    def videos(self) -> np.ndarray:
        """The video each chosen frame belongs to, int64 (M,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def choose_frames(
    scores: np.ndarray,
    offsets: np.ndarray,
    counts: np.ndarray | int,
    *,
    eligible: np.ndarray | None = None,
    labeled: np.ndarray | None = None,
    ranked_last: np.ndarray | None = None,
    damping: str = "paper",
    sigma: float = SIGMA,
    nearest: int = NEAREST,
) -> Picks:
    """Greedily choose counts[i] frames of every video i, or all its eligible ones where it
    has fewer -> Picks.

    scores (total,) finite; offsets (N+1,) int; counts (N,) int or one number for all.
    Boolean masks (total,): `eligible` frames may be chosen (default all); `labeled` frames
    damp their surroundings and are never chosen; `ranked_last` frames (no foreground,
    nothing to be uncertain about) come after all others, whatever their score. sigma: width
    of the dampings `paper`, `authors`, `coverage`; nearest: how many frames `drop` drops,
    of equally near ones the earlier. Ties, and the frames ranked last among themselves, go
    to the frame farthest from every chosen or labeled frame, then to the earlier. The
    first k choices are the same for every count >= k. Inputs are not changed. ValueError
    for masks, dampings, widths or scores that make no sense.
    """
    scores, offsets = np.asarray(scores), np.asarray(offsets, dtype=np.int64)
    lengths = np.diff(offsets)
    _check(scores, offsets, lengths, damping, sigma, nearest)
    eligible = _mask(eligible, scores, True)
    if labeled is not None:
        eligible = eligible & ~_mask(labeled, scores, False)
    labeled = _mask(labeled, scores, False)
    ranked_last = _mask(ranked_last, scores, False)
    if damping in ("paper", "coverage") and _any_below_zero(scores, eligible, ranked_last):
        raise ValueError(
            f"frame scores below zero cannot be damped by {damping}: use authors or none"
        )
    available = eligible_frames(eligible, offsets)
    counts = np.broadcast_to(np.asarray(counts, dtype=np.int64), lengths.shape)
    counts = np.clip(counts, 0, available)
    masks = eligible, labeled, ranked_last
    picks = Picks(
        np.empty(counts.sum(), np.int64),
        np.empty(counts.sum(), np.float64),
        _cumulative(counts),
    )
    videos = np.flatnonzero(counts)
    # sorted, so that the videos of a block have much the same length
    videos = videos[np.argsort(lengths[videos], kind="stable")]
    for rows in _blocks(videos, lengths):
        _choose_in_block(rows, scores, offsets, counts, masks, (damping, sigma, nearest), picks)
    return picks


def eligible_frames(eligible: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """How many frames of the boolean mask (total,) are set in each video -> int64 (N,)."""
    offsets = np.asarray(offsets, dtype=np.int64)
    if np.all(eligible):
        return np.diff(offsets)
    before = np.empty(len(offsets), np.int64)  # set frames before each offset
    total, start = 0, 0
    while start < len(offsets):
        # videos whose offsets lie within the next BLOCK frames
        first = offsets[start - 1] if start else 0
        stop = max(int(np.searchsorted(offsets, first + BLOCK, "right")), start + 1)
        sums = np.cumsum(eligible[first : offsets[stop - 1]], dtype=np.int64)
        before[start:stop] = total + np.append(0, sums)[offsets[start:stop] - first]
        total, start = before[stop - 1], stop
    return np.diff(before)


def _choose_in_block(rows, scores, offsets, counts, masks, rule, picks):
    """Choose in the n videos `rows` at once, on matrices (n, F) padded to the longest;
    fills their part of `picks`.
    """
    lengths = offsets[rows + 1] - offsets[rows]
    reach = np.arange(lengths.max())
    inside = reach < lengths[:, None]
    where = np.where(inside, offsets[rows][:, None] + reach, 0)
    damped = scores[where].astype(np.float64)
    eligible, labeled, last = (mask[where] & inside for mask in masks)
    first, last = eligible & ~last, eligible & last
    # frames to the nearest reference
    distance = np.full(damped.shape, len(reach) + 1, np.int32)
    damping, sigma, nearest = rule
    tables = _tables(len(reach), damping, sigma)
    if damping == "coverage":
        # `damped` becomes how far each frame is trusted already: the highest tau so far
        mass = np.where(inside & (damped > 0), damped, 0.0)
        damped = np.zeros_like(damped)

    def refer_to(videos, frames):
        _damp(damped, distance, videos, frames, tables)
        if damping == "drop":
            _drop_nearest(first, last, videos, frames, lengths[videos], nearest)

    number = np.cumsum(labeled, axis=1)
    for k in range(1, int(number[:, -1].max()) + 1):
        # the k-th labeled frame of every video that has one
        having = np.flatnonzero(number[:, -1] >= k)
        refer_to(having, np.argmax(number[having] == k, axis=1))

    slots, wanted = picks.offsets[rows], counts[rows]
    for k in range(int(wanted.max())):
        active = np.flatnonzero(wanted > k)
        value = _newly_covered(mass, damped, sigma) if damping == "coverage" else damped
        frames = _best(value, distance, first, last, active)
        picks.frames[slots[active] + k] = frames
        picks.damped[slots[active] + k] = value[active, frames]
        first[active, frames] = last[active, frames] = False
        refer_to(active, frames)


def _best(damped, distance, first, last, active):
    """Best frame of each active row: highest damped score, farthest, earliest; `last`
    frames where no other is left.
    """
    if len(active) == len(damped):
        active = slice(None)
    value = np.where(first[active], damped[active], -np.inf)
    top = value.max(axis=1)
    spent = np.flatnonzero(top == -np.inf)
    if spent.size:
        value[spent] = np.where(last[active][spent], 0.0, -np.inf)
        top[spent] = 0.0
    return np.where(value == top[:, None], distance[active], -1).argmax(axis=1)


def _damp(damped, distance, rows, frames, tables):
    """Damp rows around their new reference frames in place, and bring the distances up to
    date.
    """
    weights, gaps, combine = tables
    # row `center` of a table lists frames 0, 1, ... as seen from the reference
    center = len(gaps) - 1 - frames
    if len(rows) == len(damped):
        rows = slice(None)
    if combine is not None:
        damped[rows] = combine(damped[rows], weights[center])
    distance[rows] = np.minimum(distance[rows], gaps[center])


def _newly_covered(mass, trust, sigma):
    """What a label on each frame would add: sum_g mass_g * max(0, tau(g - f) - trust_g),
    all (n, F) -> (n, F).
    """
    length = mass.shape[1]
    gain = mass * (1 - trust)
    for gap in range(1, min(int(3 * sigma), length - 1) + 1):
        more = mass * np.maximum(np.exp(-(gap**2) / (2 * sigma**2)) - trust, 0)
        # from before and from after, summed first: so mirrored videos tie exactly
        both = np.zeros_like(gain)
        both[:, gap:] = more[:, :-gap]
        both[:, :-gap] += more[:, gap:]
        gain += both
    return gain


def _drop_nearest(first, last, rows, frames, lengths, nearest):
    """Move the `nearest` frames around the new reference of each row from the mask `first`
    to `last`, in place.
    """
    start = np.clip(frames - (nearest + 1) // 2, 0, np.maximum(lengths - nearest - 1, 0))
    for step in range(min(nearest + 1, first.shape[1])):
        place = np.minimum(start + step, lengths - 1)
        last[rows, place] |= first[rows, place]
        first[rows, place] = False


def _tables(length, damping, sigma):
    """Sliding views (length, length): what a reference in frame length-1-row does to each
    frame, and how far it is.
    """
    gap = np.abs(np.arange(1 - length, length))
    bump = np.exp(-(gap.astype(np.float64) ** 2) / (2 * sigma**2))
    trusted = np.where(gap <= 3 * sigma, bump, 0.0)
    weight, combine = {
        "paper": (1 - bump, np.multiply),
        "authors": (bump, np.subtract),
        "coverage": (trusted, np.maximum),
    }.get(damping, (bump, None))

    def view(values):
        return np.lib.stride_tricks.sliding_window_view(values, length)

    return view(weight), view(gap.astype(np.int32)), combine


def _blocks(videos, lengths):
    """Cut `videos` (by rising length) into runs whose padded matrix has at most BLOCK
    frames (one video at least).
    """
    start = 0
    while start < len(videos):
        stop = min(start + max(1, BLOCK // lengths[videos[start]]), len(videos))
        stop = min(stop, start + max(1, BLOCK // lengths[videos[stop - 1]]))
        yield videos[start:stop]
        start = stop


def _cumulative(counts):
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def _mask(mask, scores, default):
    if mask is None:
        return np.broadcast_to(np.bool_(default), scores.shape)  # which takes no memory
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != scores.shape:
        raise ValueError(f"masks must be boolean {scores.shape}, not {mask.dtype} {mask.shape}")
    return mask


def _any_below_zero(scores, eligible, ranked_last):
    """Whether an eligible frame that is not ranked last has a score below zero."""
    for start in range(0, len(scores), BLOCK):
        some = slice(start, start + BLOCK)
        below = scores[some] < 0
        if below.any() and np.any(below & eligible[some] & ~ranked_last[some]):
            return True
    return False


def _all_finite(scores):
    starts = range(0, len(scores), BLOCK)
    return all(np.isfinite(scores[start : start + BLOCK]).all() for start in starts)


def _check(scores, offsets, lengths, damping, sigma, nearest):
    if scores.ndim != 1 or offsets[0] != 0 or offsets[-1] != len(scores) or (lengths < 0).any():
        raise ValueError("scores must be flat and offsets rise from 0 to their number")
    if damping not in (*DAMPINGS, "drop"):
        raise ValueError(f"unknown damping {damping!r}: choose one of {', '.join(DAMPINGS)}")
    if damping == "drop" and nearest < 0:
        raise ValueError(f"nearest must be 0 or more, not {nearest}")
    if damping in ("paper", "authors", "coverage") and not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"the damping width sigma must be above 0, not {sigma}")
    if not _all_finite(scores):
        raise ValueError("frame scores must be finite")
