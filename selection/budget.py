"""How many videos and frames a cycle may ask for, in exact decimals.

    b_v = floor(V% * N)          videos;  N: all videos of the pool
    b_f = floor(A% * V% * F)     frames;  F: all frames of the pool, with or without action
    A_t = max(1, floor(b_f / b_v))        frames of each video; the remainder goes to the
                                          videos of highest score

A schedule says instead what is to be labeled in all after each cycle, "A/V" in percent of
all frames / of the videos: cycle k buys floor(A_k F) - floor(A_(k-1) F) frames and
floor(V_k N) - floor(V_(k-1) N) videos.

Percentages are taken as they are written ("0.25" is one quarter of a percent), so no binary
rounding moves a count: UCF-101-24 at 5 and 5 gives 114 videos and 989 frames, 8 a video and
77 left over.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import numpy as np

from claus.utils.runtime import UserError


@dataclass(frozen=True)
class Budget:
    """What one cycle may spend: `videos` (b_v >= 1), `frames` (b_f >= videos), and what was
    cut from it in words.
    """

    videos: int
    frames: int
    notes: tuple[str, ...] = ()

    @property
    def per_video(self):
        """A_t, the frames every chosen video gets before the remainder is shared out."""
        return max(1, self.frames // self.videos)


def cycle_budget(
    pool_videos,
    pool_frames,
    *,
    videos_percent="5",
    frames_percent="5",
    videos=None,
    frames=None,
    per_video=None,
    video_cost="1",
    frame_cost="1",
    video_money=None,
    frame_money=None,
    old_videos=None,
):
    """The budget of one cycle over a pool of N = `pool_videos` videos with F =
    `pool_frames` frames.

    `videos_percent` is V and `frames_percent` is A (str, int, Decimal or Fraction are
    exact; a float counts as it prints). The counts `videos` and `frames`, where given,
    replace b_v and b_f; V is then videos / N. `per_video` is A_t itself: b_f = b_v * A_t.
    Money only lowers the counts: b_v <= floor(video_money / video_cost), b_f <=
    floor(frame_money / frame_cost). A chosen video gets at least one frame, so b_v is
    lowered to b_f where that is smaller. old_videos: where no video is bought, how many
    labeled ones share the frames; b_v is that. Raises UserError for a percentage outside
    (0, 100], for a negative price, and where nothing could be bought.
    """
    b_v, share, notes = old_videos, None, ()
    if old_videos is None or (frames is None and per_video is None):
        b_v, share = _videos_asked(pool_videos, videos_percent, videos)
        b_v, notes = (
            _capped_by_money(b_v, video_cost, video_money, "video")
            if old_videos is None
            else (old_videos, ())
        )
    b_f = _frames_asked(
        pool_frames,
        share,
        frames_percent,
        frames,
        None if per_video is None else b_v * _count(per_video, "--frames-per-video"),
    )
    b_f, frame_notes = _capped_by_money(b_f, frame_cost, frame_money, "frame")
    if b_v > b_f:
        frame_notes += (
            f"{b_f} frames are enough for {b_f} videos only, not for {b_v}: every "
            f"video needs one",
        )
        b_v = b_f
    return Budget(b_v, b_f, notes + frame_notes)


def _videos_asked(pool_videos, percent, count):
    """(b_v, V as a share of the pool)."""
    if count is not None:
        b_v = _at_least_one(
            _count(count, "--videos-count"),
            f"--videos-count {count}",
            "video",
            "--videos-count",
        )
        return b_v, Fraction(b_v, max(pool_videos, 1))
    share = _percent(percent, "--videos-percent")
    return _at_least_one(
        floor(share * pool_videos),
        f"{percent}% of {pool_videos} videos",
        "video",
        "--videos-percent",
    ), share


def _frames_asked(pool_frames, share, percent, count, from_per_video):
    """b_f, from the count, from A_t times the videos, or else from A and V."""
    if from_per_video is not None:
        return _at_least_one(
            from_per_video, "--frames-per-video", "frame", "--frames-per-video"
        )
    if count is not None:
        return _at_least_one(
            _count(count, "--frames-count"),
            f"--frames-count {count}",
            "frame",
            "--frames-count",
        )
    part = _percent(percent, "--frames-percent")
    return _at_least_one(
        floor(part * share * pool_frames),
        f"{percent}% of the frames of {float(100 * share):g}% of the videos",
        "frame",
        "--frames-percent",
    )


def read_schedule(text):
    """ "0.15/5,0.3/10" -> [(A, V), ...] as exact shares in (0, 1], rising; UserError where a
    pair makes no sense.
    """
    pairs = []
    for entry in str(text).split(","):
        parts = entry.strip().split("/")
        if len(parts) != 2:
            raise UserError(
                f"--schedule {text}: {entry.strip()!r} is no pair A/V, percent of the "
                f"frames / percent of "
                "the videos, as in 0.15/5,0.3/10"
            )
        frames, videos = (
            _percent(part.strip(), f"--schedule: {entry.strip()}") for part in parts
        )
        if pairs and (frames <= pairs[-1][0] or videos < pairs[-1][1]):
            raise UserError(
                f"--schedule {text}: {entry.strip()} comes after a larger pair; pairs "
                f"count all that is "
                "labeled so far, so frames rise and videos never fall"
            )
        pairs.append((frames, videos))
    return pairs


def scheduled_counts(pairs, cycle, pool_videos, pool_frames):
    """(videos, frames) that this cycle of a schedule (see read_schedule) adds; UserError
    beyond its end.
    """
    if cycle >= len(pairs):
        raise UserError(
            f"--schedule has {len(pairs)} pairs, for cycles 0 to {len(pairs) - 1}; "
            f"there is none for cycle "
            f"{cycle}"
        )
    totals = [
        (0, 0),
        *(
            (floor(videos * pool_videos), floor(frames * pool_frames))
            for frames, videos in pairs
        ),
    ]
    (videos_before, frames_before), (videos, frames) = totals[cycle : cycle + 2]
    return videos - videos_before, frames - frames_before


def fit_budget(budget, videos_left, frames_left, take_rest=False):
    """The budget for a pool in which `videos_left` videos with `frames_left` eligible
    frames are still to be had.

    Raises UserError where less is left than the budget asks for; with `take_rest` the
    budget is lowered to what is left (and says so in `notes`), and only an empty pool is an
    error.
    """
    if videos_left == 0 or frames_left == 0:
        raise UserError(
            "nothing is left to choose from: every video of the pool is labeled "
            "already or set aside"
        )
    for asked, left, unit in (
        (budget.videos, videos_left, "video"),
        (budget.frames, frames_left, "frame"),
    ):
        if asked <= left:
            continue
        if not take_rest:
            raise UserError(
                f"the budget asks for {_many(asked, unit)}, but only {_many(left, unit)} "
                f"{'is' if left == 1 else 'are'} left to choose from: ask for less "
                f"with --{unit}s-percent "
                f"or --{unit}s-count, or take all there is with --take-rest"
            )
        note = f"the budget asks for {_many(asked, unit)}, only {left} left: all taken"
        budget = replace(budget, notes=(*budget.notes, note), **{f"{unit}s": left})
    return replace(budget, videos=min(budget.videos, budget.frames))


def share_frames(eligible_B, budget):
    """Frames for each of the B chosen videos, given in the order of their scores (best
    first) -> int64 (B,).

    Every video gets A_t frames, or all its `eligible_B` (B,) where it has fewer. What is
    then left of b_f goes round by round, one more frame to each video that has one, best
    first. So the sum is b_f wherever the chosen videos hold that many frames, and never
    more.
    """
    eligible_B = np.asarray(eligible_B, dtype=np.int64)
    counts_B = np.minimum(eligible_B, budget.per_video)
    left = budget.frames - int(counts_B.sum())
    if left < 0:
        raise ValueError(
            f"{len(eligible_B)} videos with {budget.per_video} frames each exceed "
            f"{budget.frames} frames"
        )
    while left > 0 and (open_videos := np.flatnonzero(counts_B < eligible_B)).size:
        if left < open_videos.size:
            counts_B[open_videos[:left]] += 1
            break
        room = int((eligible_B - counts_B)[open_videos].min())
        rounds = min(room, left // open_videos.size)
        counts_B[open_videos] += rounds
        left -= rounds * open_videos.size
    return counts_B


def exact(value, name):
    """`value` (str, int, Decimal, Fraction, or float as it prints) as a Fraction; UserError
    naming `name` if none.
    """
    try:
        return Fraction(repr(value) if isinstance(value, float) else value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise UserError(f"{name} must be a number, not {value!r}") from error


def price(value, name):
    """A price as an exact Fraction >= 0; UserError naming the flag if it is negative or no
    number.
    """
    cost = exact(value, name)
    if cost < 0:
        raise UserError(f"{name} must not be negative, not {value}")
    return cost


def _percent(value, name):
    percent = exact(value, name)
    if not 0 < percent <= 100:
        raise UserError(f"{name} must be above 0 and at most 100, not {value}")
    return percent / 100


def _count(value, name):
    count = exact(value, name)
    if count.denominator != 1:
        raise UserError(f"{name} must be a whole number, not {value}")
    return int(count)


def _at_least_one(count, what, unit, flag):
    if count < 1:
        raise UserError(
            f"{what} makes {count} {unit}s, and a cycle needs one at least: raise {flag}"
        )
    return count


def _capped_by_money(count, cost, money, unit):
    cost = price(cost, f"--{unit}-cost")
    if money is None or cost == 0:
        return count, ()
    cap = floor(exact(money, f"--{unit}-money") / cost)
    if cap < 1:
        raise UserError(
            f"--{unit}-money {money} does not pay for one {unit} at {cost}: raise it"
        )
    if cap >= count:
        return count, ()
    return cap, (f"--{unit}-money {money} pays for {_many(cap, unit)} of {count}",)


def _many(count, unit):
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
