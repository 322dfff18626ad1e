"""Frame and video selection written a second time, slowly and plainly, for the tests to compare with."""

import math
from fractions import Fraction

import numpy as np


def greedy(scores, count, labelled=(), eligible=None, ranked_last=(), damping="paper", sigma=8 / 3):
    """Chosen frames of one video, one after the other: [(frame, damped score), ...]."""
    frames = range(len(scores))
    eligible = set(frames) if eligible is None else set(eligible)
    bump = np.exp(-(np.arange(len(scores), dtype=float) ** 2) / (2 * sigma**2))
    references, chosen = sorted(labelled), []
    for _ in range(count):
        def rank(frame):
            damped = float(scores[frame])
            for reference in references:
                near = float(bump[abs(frame - reference)])
                if damping == "paper":
                    damped = damped * (1 - near)
                elif damping == "authors":
                    damped = damped - near
            distance = min([abs(frame - reference) for reference in references], default=math.inf)
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


def claus(videos, clusters, n_clusters, b_v, b_f, ranked_last=None, damping="paper", sigma=8 / 3):
    """{video: [frames in order of choice]} for videos given as a list of score lists, all of them candidates."""
    per_video = max(1, b_f // b_v)
    last = ranked_last or [()] * len(videos)

    def frames_of(video, count):
        return [frame for frame, _ in greedy(videos[video], count, (), None, last[video], damping, sigma)]

    score = {v: sum(float(videos[v][f]) for f in frames_of(v, per_video)) / len(frames_of(v, per_video))
             for v in range(len(videos))}
    members = [[v for v in range(len(videos)) if clusters[v] == c] for c in range(n_clusters)]
    shares = [Fraction(len(group) * b_v, len(videos)) for group in members]
    quotas = [math.floor(share) for share in shares]
    for cluster in sorted(range(n_clusters), key=lambda c: (quotas[c] - shares[c], c))[:b_v - sum(quotas)]:
        quotas[cluster] += 1
    chosen = []
    for group, quota in zip(members, quotas, strict=True):
        chosen += sorted(group, key=lambda v: (-score[v], v))[:quota]
    chosen.sort(key=lambda v: (-score[v], v))
    counts = {v: min(per_video, len(videos[v])) for v in chosen}
    while sum(counts.values()) < b_f and any(counts[v] < len(videos[v]) for v in chosen):
        for v in chosen:
            if counts[v] < len(videos[v]) and sum(counts.values()) < b_f:
                counts[v] += 1
    return {v: frames_of(v, counts[v]) for v in chosen}
