"""Selection of frames and videos in plain loops: what selection/ is tested against."""

import math
from fractions import Fraction

import numpy as np


def greedy(
    scores, count, labeled=(), eligible=None, ranked_last=(), damping="paper", sigma=8 / 3
):
    """Chosen frames of one video, one after the other: [(frame, damped score), ...]."""
    frames = range(len(scores))
    eligible = set(frames) if eligible is None else set(eligible)
    bump = np.exp(-(np.arange(len(scores), dtype=float) ** 2) / (2 * sigma**2))
    references, chosen = sorted(labeled), []

    def adds(frame, other):
        """How much uncertainty of the frame `other` STeW would newly trust by a label on
        `frame`.
        """

        def trust(reference):
            gap = abs(other - reference)
            return float(bump[gap]) if gap <= 3 * sigma else 0.0

        if not 0 <= other < len(scores):
            return 0.0
        return max(float(scores[other]), 0.0) * max(
            trust(frame) - max(map(trust, references), default=0.0), 0.0
        )

    for _ in range(count):

        def rank(frame):
            damped = float(scores[frame])
            if damping == "coverage":
                damped = adds(frame, frame)
                for gap in range(1, int(3 * sigma) + 1):
                    damped += adds(frame, frame - gap) + adds(frame, frame + gap)
            for reference in references:
                near = float(bump[abs(frame - reference)])
                if damping == "paper":
                    damped = damped * (1 - near)
                elif damping == "authors":
                    damped = damped - near
            distance = min(
                [abs(frame - reference) for reference in references], default=math.inf
            )
            if frame in ranked_last:
                return (0, 0.0, distance, -frame), damped
            return (1, damped, distance, -frame), damped

        left = [frame for frame in frames if frame in eligible and frame not in references]
        if not left:
            break
        best = max(left, key=lambda frame: rank(frame)[0])
        chosen.append((best, rank(best)[1]))
        references.append(best)
    return chosen


def quotas(sizes, count):
    """`count` videos split over clusters of these sizes: whole parts, then the largest
    remainders.
    """
    shares = [Fraction(size * count, sum(sizes)) for size in sizes]
    parts = [math.floor(share) for share in shares]
    for cluster in sorted(range(len(sizes)), key=lambda c: (parts[c] - shares[c], c))[
        : count - sum(parts)
    ]:
        parts[cluster] += 1
    return parts


def claus(
    videos, clusters, n_clusters, b_v, b_f, ranked_last=None, damping="paper", sigma=8 / 3
):
    """{video: [frames in order of choice]} for videos given as a list of score lists, all
    of them candidates.
    """
    per_video = max(1, b_f // b_v)
    last = ranked_last or [()] * len(videos)

    def frames_of(video, count):
        return [
            frame
            for frame, _ in greedy(videos[video], count, (), None, last[video], damping, sigma)
        ]

    def score_of(video):
        chosen = greedy(videos[video], per_video, (), None, last[video], damping, sigma)
        scores = [
            damped if damping == "coverage" else float(videos[video][frame])
            for frame, damped in chosen
        ]
        return sum(scores) / len(chosen)

    score = {v: score_of(v) for v in range(len(videos))}
    members, chosen = [], []
    for c in range(n_clusters):
        members.append([v for v in range(len(videos)) if clusters[v] == c])
    for group, quota in zip(
        members, quotas([len(group) for group in members], b_v), strict=True
    ):
        chosen += sorted(group, key=lambda v: (-score[v], v))[:quota]
    chosen.sort(key=lambda v: (-score[v], v))
    counts = {v: min(per_video, len(videos[v])) for v in chosen}
    while sum(counts.values()) < b_f and any(counts[v] < len(videos[v]) for v in chosen):
        for v in chosen:
            if counts[v] < len(videos[v]) and sum(counts.values()) < b_f:
                counts[v] += 1
    return {v: frames_of(v, counts[v]) for v in chosen}


def nearest(frames, place, count):
    """The `count` frames of a video nearest to frame `place`, of equally near ones the
    earlier.
    """
    return sorted(
        (frame for frame in range(frames) if frame != place),
        key=lambda frame: (abs(frame - place), frame),
    )[:count]


def entropy_frames(scores, count, labeled=(), drop=5):
    """Frames of one video by the entropy baseline: best first, the frames nearest to each
    choice after all others.
    """
    dropped = {
        frame for reference in labeled for frame in nearest(len(scores), reference, drop)
    }
    chosen = []

    def rank(frame):
        distance = min(
            [abs(frame - reference) for reference in (*labeled, *chosen)], default=math.inf
        )
        return (
            (0, 0, distance, -frame)
            if frame in dropped
            else (1, scores[frame], distance, -frame)
        )

    for _ in range(count):
        left = [
            frame
            for frame in range(len(scores))
            if frame not in chosen and frame not in labeled
        ]
        if not left:
            break
        chosen.append(max(left, key=rank))
        dropped.update(nearest(len(scores), chosen[-1], drop))
    return chosen


def pool(videos, b_v, b_f, choices, damped=False):
    """{video: frames in order of choice}: the best videos of the whole pool by the mean
    score of choices(video, A_t).

    videos: list of score lists, all of them candidates. choices(video, count): its frames
    by some rule, each with its score at the moment of choice, whose mean counts where
    `damped` is set.
    """
    per_video = max(1, b_f // b_v)

    def frames_of(video, count):
        return [frame for frame, _ in choices(video, count)]

    def score(video):
        chosen = choices(video, per_video)
        return sum(
            value if damped else float(videos[video][frame]) for frame, value in chosen
        ) / len(chosen)

    chosen = sorted(range(len(videos)), key=lambda video: (-score(video), video))[:b_v]
    counts = {video: min(per_video, len(videos[video])) for video in chosen}
    while sum(counts.values()) < min(b_f, sum(len(videos[video]) for video in chosen)):
        for video in chosen:
            if counts[video] < len(videos[video]) and sum(counts.values()) < b_f:
                counts[video] += 1
    return {video: frames_of(video, counts[video]) for video in chosen}


def evened_out(have, room, frames):
    """How many of `frames` each video gets if each goes to the one with the fewest labels
    so far, ties to the first.
    """
    have, counts = list(have), [0] * len(have)
    for _ in range(frames):
        open_videos = [video for video in range(len(have)) if counts[video] < room[video]]
        if not open_videos:
            break
        poorest = min(open_videos, key=lambda video: have[video] + counts[video])
        counts[poorest] += 1
    return counts
