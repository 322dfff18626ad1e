"""How the videos of a cycle are split over the clusters: in proportion to their size, in
whole videos, sum exact.
"""

import numpy as np


def cluster_quotas(
    sizes_K: np.ndarray, count: int, room_K: np.ndarray | None = None
) -> np.ndarray:
    """Split `count` videos over K clusters as n_c * count / N_U, by largest remainder ->
    int64 (K,), sum = `count`.

    sizes_K: n_c >= 0, the candidate videos of each cluster (N_U is their sum); room_K: how
    many videos each cluster can give (default: its size). Every cluster gets the whole part
    of its share; the videos still missing go to the largest remainders, ties to the lower
    cluster number. What a cluster has no room for is split by the same rule over the
    clusters that have. Integers throughout, so no rounding. Raises ValueError where the
    room is too small.
    """
    sizes = [int(size) for size in sizes_K]
    room = list(sizes) if room_K is None else [int(places) for places in room_K]
    if (
        min(sizes, default=0) < 0
        or min(room, default=0) < 0
        or len(room) != len(sizes)
        or count < 0
    ):
        raise ValueError(
            f"sizes {sizes}, room {room} and count {count} must be counts of the same clusters"
        )
    quotas = [0] * len(sizes)
    left = int(count)
    while left:
        weights = [
            size if quota < places else 0
            for size, quota, places in zip(sizes, quotas, room, strict=True)
        ]
        if not sum(weights):
            raise ValueError(f"clusters with room for {sum(room)} videos cannot give {count}")
        for cluster, share in enumerate(_largest_remainder(weights, left)):
            share = min(share, room[cluster] - quotas[cluster])
            quotas[cluster] += share
            left -= share
    return np.array(quotas, dtype=np.int64)


def _largest_remainder(weights, count):
    """`count` split in proportion to integer `weights`, as a list of integers with that sum."""
    total = sum(weights)
    shares = [weight * count // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda c: (-(weights[c] * count % total), c))
    for cluster in order[: count - sum(shares)]:
        shares[cluster] += 1
    return shares
