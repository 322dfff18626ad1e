"""The two greedy rules of the detection field, for millions of candidates at once.

Matching detections to ground truth and linking boxes to tubes are one rule, `take_in_turn`;
suppressing doubles among boxes and among tubes is another, `suppress_in_turn`. Both speak
of ranks: rank 0 acts first. Instead of a loop over ranks, each round settles every
candidate that no undecided one can affect. The result is that of the loop; the number of
rounds is the length of the longest chain of competitors, not the number of candidates.

Letters: P pairs, N candidates, M items.
"""

import numpy as np

NOBODY = -1


def take_in_turn(
    taker_P: np.ndarray, item_P: np.ndarray, n_takers: int, n_items: int
) -> np.ndarray:
    """In order of rank, each taker takes the best still-free item of its list: item of each
    taker (N,), -1 for none.

    taker_P, item_P: the lists, (P,) each: pairs sorted by the taker's rank, and within a
    taker by its preference, best first. An item is taken once. Items or takers that are in
    no pair are allowed.
    """
    item_N = np.full(n_takers, NOBODY, dtype=np.int64)
    free_M = np.ones(n_items, dtype=bool)
    first_M = np.empty(n_items, dtype=np.int64)
    while len(taker_P):
        wish_P = np.ones(len(taker_P), dtype=bool)  # the best item left to each taker
        wish_P[1:] = taker_P[1:] != taker_P[:-1]
        # who comes first of those who list the item: written last
        first_M[item_P[::-1]] = taker_P[::-1]
        final_P = wish_P & (first_M[item_P] == taker_P)
        item_N[taker_P[final_P]] = item_P[final_P]
        free_M[item_P[final_P]] = False
        open_P = free_M[item_P] & (item_N[taker_P] == NOBODY)
        taker_P, item_P = taker_P[open_P], item_P[open_P]
    return item_N


def suppress_in_turn(better_P: np.ndarray, worse_P: np.ndarray, n: int) -> np.ndarray:
    """In order of rank, each candidate not yet suppressed is kept and suppresses its worse
    rivals.

    better_P, worse_P: pairs of rivals as ranks, better_P < worse_P, in any order. Returns
    who suppressed each of the n candidates (ranks in, ranks out), -1 for those kept. Where
    several kept rivals could have, it is the best.
    """
    suppressed_N, undecided_N = np.zeros(n, dtype=bool), np.ones(n, dtype=bool)
    left_P, right_P = better_P, worse_P
    while len(left_P):
        top_N = undecided_N.copy()
        top_N[right_P] = False  # undecided, and nothing better is: kept
        suppressed_N[right_P[top_N[left_P]]] = True
        undecided_N &= ~(top_N | suppressed_N)
        open_P = undecided_N[left_P] & undecided_N[right_P]
        left_P, right_P = left_P[open_P], right_P[open_P]
    by_N = np.full(n, n, dtype=np.int64)
    kept_P = ~suppressed_N[better_P]
    np.minimum.at(by_N, worse_P[kept_P], better_P[kept_P])
    return np.where(suppressed_N, by_N, NOBODY)
