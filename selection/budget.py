"""How many videos and frames a cycle may ask for, in exact decimals.

    b_v = floor(V% * N)          videos;  N: all videos of the pool
    b_f = floor(A% * V% * F)     frames;  F: all frames of the pool, with or without action
    A_t = max(1, floor(b_f / b_v))        frames of each video; the remainder goes to the
                                          videos of highest score

A schedule says instead what is to be labeled in all after each cycle, "A/V" in percent of
all frames / of the videos: cycle k buys floor(A_k F) - floor(A_(k-1) F) frames and
floor(V_k N) - floor(V_(k-1) N) videos.

Percentages are taken as they are written ("0.25%" is one quarter of a percent), so no binary
rounding moves a count: UCF-101-24 at 5% and 5% gives 114 videos and 989 frames, 8 a video
and 77 left over.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from math import floor

import numpy as np

Number = str | int | float | Decimal | Fraction


@dataclass(frozen=True)
class Budget:
    """What one cycle may spend: `videos` (b_v >= 1), `frames` (b_f >= videos), and what was
    cut from it in words.
    """

    videos: int
    frames: int
    notes: tuple[str, ...] = ()

    @property
    def per_video(self) -> int:
        """A_t, the frames every chosen video gets before the remainder is shared out."""
        return max(1, self.frames // self.videos)


@dataclass(frozen=True)
class BudgetSettings:
    """What a cycle may spend, as a person writes it. Text is exact; a float counts as it
    prints.

    videos: "5%" is V, in percent of the pool; "20" is b_v itself · frames: "5%" is A, in
    percent of the frames of V percent of the pool; "200" is b_f itself · frames_per_video:
    A_t instead of them, b_f = b_v * A_t · schedule: instead of all these, see
    read_schedule · video_price, frame_price: C_v, C_f · video_money, frame_money: B_v, B_f,
    which only lower the counts: b_v <= floor(B_v / C_v), b_f <= floor(B_f / C_f) ·
    take_rest: see fit_budget · at_least_one: a percentage of less than one video, or frame,
    is one.
    """

    videos: Number = "5%"
    frames: Number = "5%"
    frames_per_video: Number | None = None
    schedule: str | None = None
    video_price: Number = "1"
    frame_price: Number = "1"
    video_money: Number | None = None
    frame_money: Number | None = None
    take_rest: bool = False
    at_least_one: bool = False


def cycle_budget(
    pool_videos: int,
    pool_frames: int,
    settings: BudgetSettings = BudgetSettings(),
    *,
    cycle: int = 0,
    old_videos: int | None = None,
) -> Budget:
    """The budget of one cycle over a pool of N = `pool_videos` videos with F =
    `pool_frames` frames, whatever is left of it.

    cycle: where in the schedule, if there is one. old_videos: where no video is bought, how
    many labeled ones share the frames; b_v is that. A chosen video gets at least one frame,
    so b_v is lowered to b_f where that is smaller. ValueError for a percentage outside (0,
    100], for a negative price, and where nothing could be bought.
    """
    if settings.schedule is not None:
        settings = _scheduled(settings, cycle, pool_videos, pool_frames, old_videos)
    per_video = settings.frames_per_video
    b_v, share, notes = old_videos, None, ()
    if old_videos is None:
        least = settings.at_least_one
        b_v, share, raised = _videos_asked(pool_videos, settings.videos, least)
        b_v, notes = _capped_by_money(b_v, settings.video_price, settings.video_money, "video")
        notes = raised + notes
    elif per_video is None and is_percent(settings.frames):
        _, share, _ = _videos_asked(pool_videos, settings.videos, settings.at_least_one)
    if per_video is None:
        b_f = _frames_asked(pool_frames, share, settings.frames, settings.at_least_one)
    else:
        b_f = b_v * _count(per_video, "frames per video")
        b_f = _at_least_one(b_f, f"{per_video} frames per video", "frame")
    b_f, frame_notes = _capped_by_money(
        b_f, settings.frame_price, settings.frame_money, "frame"
    )
    if b_v > b_f:
        frame_notes += (
            f"{b_f} frames are enough for {b_f} videos only, not for {b_v}: every "
            f"video needs one",
        )
        b_v = b_f
    return Budget(b_v, b_f, notes + frame_notes)


def _scheduled(settings, cycle, pool_videos, pool_frames, old_videos) -> BudgetSettings:
    """The settings with the counts that this cycle of their schedule adds."""
    pairs = read_schedule(settings.schedule)
    videos, frames = scheduled_counts(pairs, cycle, pool_videos, pool_frames)
    if frames < 1 or (videos < 1 and old_videos is None):
        old_ones_too = ", or label further frames of old videos only" if frames else ""
        raise ValueError(
            f"schedule {settings.schedule} adds {videos} videos and {frames} frames in "
            f"cycle {cycle}, of {pool_videos} videos with {pool_frames} frames: give "
            f"larger steps{old_ones_too}"
        )
    return replace(settings, videos=str(videos), frames=str(frames))


def _videos_asked(
    pool_videos: int, videos: Number, at_least_one: bool
) -> tuple[int, Fraction, tuple[str, ...]]:
    """(b_v, V as a share of the pool, what was raised in words)."""
    if not is_percent(videos):
        b_v = _at_least_one(_count(videos, "videos"), f"videos: {videos}", "video")
        return b_v, Fraction(b_v, max(pool_videos, 1)), ()
    share = _percent(videos, "videos")
    b_v, what = floor(share * pool_videos), f"{videos} of {pool_videos} videos"
    if at_least_one and b_v < 1 <= pool_videos:
        note = f"{what} is less than one: one is asked for (--videos N asks for more)"
        return 1, Fraction(1, pool_videos), (note,)
    return _at_least_one(b_v, what, "video"), share, ()


def _frames_asked(
    pool_frames: int, share: Fraction | None, frames: Number, at_least_one: bool
) -> int:
    """b_f, as a count or from A and V."""
    if not is_percent(frames):
        return _at_least_one(_count(frames, "frames"), f"frames: {frames}", "frame")
    part = _percent(frames, "frames")
    b_f = floor(part * share * pool_frames)
    if at_least_one and pool_frames:
        b_f = max(b_f, 1)
    what = f"{frames} of the frames of {float(100 * share):g}% of the videos"
    return _at_least_one(b_f, what, "frame")


def read_schedule(text: str) -> list[tuple[Fraction, Fraction]]:
    """ "0.15/5,0.3/10" -> [(A, V), ...] as exact shares in (0, 1], rising; ValueError where
    a pair makes no sense.
    """
    pairs = []
    for entry in str(text).split(","):
        entry = entry.strip()
        parts = entry.split("/")
        if len(parts) != 2:
            raise ValueError(
                f"schedule {text}: {entry!r} is not a pair A/V, percent of the frames / "
                f"percent of the videos, as in 0.15/5,0.3/10"
            )
        name = f"schedule {text}: {entry}"
        frames, videos = (_percent(part.strip(), name) for part in parts)
        if pairs and (frames <= pairs[-1][0] or videos < pairs[-1][1]):
            raise ValueError(
                f"schedule {text}: {entry} comes after a larger pair; pairs count all "
                f"that is labeled so far, so frames rise and videos never fall"
            )
        pairs.append((frames, videos))
    return pairs


def scheduled_counts(
    pairs: list[tuple[Fraction, Fraction]], cycle: int, pool_videos: int, pool_frames: int
) -> tuple[int, int]:
    """(videos, frames) that this cycle of a schedule (see read_schedule) adds; ValueError
    beyond its end.
    """
    if cycle >= len(pairs):
        raise ValueError(
            f"the schedule has {len(pairs)} pairs, for cycles 0 to {len(pairs) - 1}; "
            f"there is none for cycle {cycle}"
        )
    totals = [(0, 0)]
    for frames, videos in pairs:
        totals.append((floor(videos * pool_videos), floor(frames * pool_frames)))
    (videos_before, frames_before), (videos, frames) = totals[cycle : cycle + 2]
    return videos - videos_before, frames - frames_before


def fit_budget(
    budget: Budget, videos_left: int, frames_left: int, take_rest: bool = False
) -> Budget:
    """The budget for a pool in which `videos_left` videos with `frames_left` eligible
    frames are still to be had.

    ValueError where less is left than the budget asks for; with `take_rest` the budget is
    lowered to what is left (and says so in `notes`), and only an empty pool is an error.
    """
    if videos_left == 0 or frames_left == 0:
        raise ValueError(
            "nothing is left to choose from: every video of the pool is labeled "
            "already or cannot be read"
        )
    for asked, left, unit in (
        (budget.videos, videos_left, "video"),
        (budget.frames, frames_left, "frame"),
    ):
        if asked <= left:
            continue
        if not take_rest:
            raise ValueError(
                f"the budget asks for {_many(asked, unit)}, but only {_many(left, unit)} "
                f"{'is' if left == 1 else 'are'} left to choose from: ask for less, or take "
                "the rest (--take-rest)"
            )
        note = f"the budget asks for {_many(asked, unit)}, only {left} left: all taken"
        budget = replace(budget, notes=(*budget.notes, note), **{f"{unit}s": left})
    return replace(budget, videos=min(budget.videos, budget.frames))


def share_frames(eligible_B: np.ndarray, budget: Budget) -> np.ndarray:
    """Frames for each of the B chosen videos, given in the order of their scores (best
    first) -> int64 (B,).

    Every video gets A_t frames, or all its `eligible_B` (B,) where it has fewer. What is
    then left of b_f goes round by round, one more frame to each video that has one, best
    first. So the sum is b_f wherever the chosen videos hold that many frames, and never
    more. ValueError where B videos with A_t frames each exceed b_f.
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


def exact(value: Number, name: str) -> Fraction:
    """`value` as an exact number, a float as it prints; ValueError naming `name` if it is
    none.
    """
    try:
        return Fraction(repr(value) if isinstance(value, float) else value)
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{name} must be a number, not {value!r}") from error


def price(value: Number, name: str) -> Fraction:
    """A price as an exact number >= 0; ValueError naming `name` if it is negative or no
    number.
    """
    cost = exact(value, name)
    if cost < 0:
        raise ValueError(f"{name} must not be negative, not {value}")
    return cost


def is_percent(value: Number) -> bool:
    """Whether an amount is written as "5%"."""
    return isinstance(value, str) and value.rstrip().endswith("%")


def _percent(value: str, name: str) -> Fraction:
    percent = exact(value.rstrip().removesuffix("%").rstrip(), name)
    if not 0 < percent <= 100:
        raise ValueError(f"{name}: a percentage must be above 0 and at most 100, not {value}")
    return percent / 100


def _count(value: Number, name: str) -> int:
    count = exact(value, name)
    if count.denominator != 1:
        raise ValueError(f"{name}: a count must be a whole number, not {value}")
    return int(count)


def _at_least_one(count: int, what: str, unit: str) -> int:
    if count < 1:
        raise ValueError(
            f"{what} makes {count} {unit}s, and a cycle needs one at least: raise it"
        )
    return count


def _capped_by_money(
    count: int, cost: Number, money: Number | None, unit: str
) -> tuple[int, tuple[str, ...]]:
    """(what of `count` the money pays for, what was cut in words)."""
    cost = price(cost, f"{unit} price")
    if money is None or cost == 0:
        return count, ()
    cap = floor(exact(money, f"{unit} money") / cost)
    if cap < 1:
        raise ValueError(
            f"{unit} money {money} does not pay for one {unit} at {cost}: raise it"
        )
    if cap >= count:
        return count, ()
    return cap, (f"{unit} money {money} pays for {_many(cap, unit)} of {count}",)


def _many(count: int, unit: str) -> str:
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
