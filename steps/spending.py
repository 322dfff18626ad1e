"""What a cycle may buy with what is left of run_cycles.py's --budget, in exact fractions.

A labeled video costs C_v, a labeled frame C_f. Boxes beyond the first of a frame have a
price too, which is unknown before they are drawn: it is charged in the ledger and counts
from the next cycle on.
"""

from fractions import Fraction
from math import floor


def affordable(
    videos: int, frames: int, video_price: Fraction, frame_price: Fraction, money: Fraction
) -> tuple[int, int] | None:
    """(videos, frames) of at most `videos` and `frames` that cost at most `money`; None
    where not even one video with one frame does.

    Where money is short, both are lowered in proportion, and what is then left buys frames.
    """
    cost = videos * video_price + frames * frame_price
    if cost <= money:
        return videos, frames
    if video_price + frame_price > money:
        return None
    fewer = videos
    if video_price > 0:
        fewer = min(videos, max(1, floor(videos * money / cost)))
    if frame_price > 0:
        frames = min(frames, floor((money - fewer * video_price) / frame_price))
    elif video_price > 0:
        fewer = min(videos, floor(money / video_price))
    return min(fewer, frames), frames


def affordable_frames(
    frames: int, unlabeled: int, video_price: Fraction, frame_price: Fraction, money: Fraction
) -> int | None:
    """Frames of at most `frames` that cost at most `money`; None where there is none.

    Each of the first `unlabeled` frames opens a new video, which is paid for as well
    (strategy intra); 0 where no video is bought.
    """
    opened = min(frames, unlabeled)
    if opened * video_price + frames * frame_price <= money:
        return frames
    together = video_price + frame_price
    opened = min(opened, floor(money / together)) if together > 0 else opened
    rest = money - opened * together
    more = 0
    if opened == min(frames, unlabeled) and frame_price > 0:
        more = floor(rest / frame_price)
    return min(frames, opened + more) or None
