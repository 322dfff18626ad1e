"""Linking boxes of single frames to tubes.

Per video and class, frame by frame. The open tubes act by descending mean score (ties: the
one begun first); each takes one box of the frame among those that overlap the tube's last
box with IoU >= `min_iou`: the one with the highest IoU, or score (ties: the first given).
Boxes that no tube took begin new tubes. A tube closes when it has missed more than `max_gap`
frames in a row; gaps inside a tube are filled by linear interpolation of the four corners.
A tube's score is the mean score of its boxes, those filled in apart.

What a rule costs is not small. In the UCF-101-24 test set the true boxes themselves jump
(1,024 steps with IoU < .5, in 251 of 1,315 tubes): linked without any error of detection
they reach a video-mAP@.5 of 71 with `min_iou` .5, and 92 with .1. Many boxes an actor want
`prefer` "score", separate regions "iou"; where single frames flicker, `min_length` decides
(benchmarks/bench_act.py). A number of linked tubes means little without its rule.

Corners are inclusive, as everywhere in the `act` modules. All videos and classes advance
together, one frame number at a time. Letters: N boxes, K boxes of one frame number, T open
tubes, P pairs.
"""

from dataclasses import dataclass

import numpy as np

from claus.metrics.boxes import EMPTY, Boxes, common_keys, pair_blocks, pair_iou, same_key_pairs
from claus.metrics.greedy import NOBODY, suppress_in_turn, take_in_turn
from claus.metrics.tubes import Tube

PREFER = ("iou", "score")


@dataclass(frozen=True)
class LinkRule:
    """What linking leaves open.

    min_iou: a box is linked to a tube only if its IoU with the tube's last box is at least
    this. max_gap: frames a tube may miss in a row; these are interpolated. prefer: of
    several such boxes a tube takes the one of highest "iou" or "score". soft_nms: before
    linking, in each frame, a box that overlaps a better one by more than this has its score
    multiplied by 1 - IoU with it (None: not done); a box whose score was lowered lowers no
    other. keep: use only this many best boxes of a frame and class (None: all). min_score,
    min_length: tubes with a lower score, or fewer frames, are dropped; equal ones are kept.
    """

    min_iou: float = 0.5
    max_gap: int = 5
    prefer: str = "iou"
    soft_nms: float | None = None
    keep: int | None = None
    min_score: float = 0.0
    min_length: int = 1

    def __post_init__(self) -> None:
        if self.prefer not in PREFER:
            raise ValueError(f"prefer is {self.prefer!r}, must be one of {', '.join(PREFER)}")
        if not 0 < self.min_iou <= 1 or self.max_gap < 0:
            raise ValueError(
                f"min_iou {self.min_iou} must be above 0 and up to 1, max_gap "
                f"{self.max_gap} at least 0"
            )


# "gaps" bridges short misses. "tubelet" is the linker of the ACT tubelet detector at
# tubelets of one frame.
RULES = {
    "gaps": LinkRule(),
    "tubelet": LinkRule(
        max_gap=0, prefer="score", soft_nms=0.6, keep=10, min_score=0.005, min_length=15
    ),
}


def link(boxes: Boxes, rule: str | LinkRule = "gaps", *, plus_one: bool = True) -> list[Tube]:
    """Link Boxes with scores to tubes -> list of Tube, sorted by video, class and first
    frame.

    rule: a name in RULES, or a LinkRule. plus_one: see boxes.box_iou. Frames are those
    of the boxes, each one counting: where only every second frame was looked at, number
    them 0, 1, 2, ... The boxes of a tube are float64. Raises ValueError for boxes without
    scores and unknown rules.
    """
    if boxes.score is None:
        raise ValueError("boxes without scores cannot be linked")
    if isinstance(rule, str) and rule not in RULES:
        raise ValueError(
            f"link rule {rule!r}, must be one of {', '.join(RULES)}, or a LinkRule"
        )
    rule = RULES[rule] if isinstance(rule, str) else rule
    if not len(boxes):
        return []
    (sequence_N,) = common_keys([boxes.video, boxes.label])
    score_N = boxes.score.astype(np.float64)
    order_N = np.lexsort((sequence_N, boxes.frame))
    if rule.soft_nms is not None or rule.keep is not None:
        score_N, used_N = soft_suppression(boxes, score_N, rule.soft_nms, rule.keep, plus_one)
        order_N = order_N[used_N[order_N]]
    boxes, score_N, sequence_N = boxes[order_N], score_N[order_N], sequence_N[order_N]
    return _build(
        boxes, score_N, sequence_N, _follow(boxes, score_N, sequence_N, rule, plus_one), rule
    )


def soft_suppression(
    boxes: Boxes,
    score_N: np.ndarray,
    threshold: float | None,
    keep: int | None,
    plus_one: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Soft NMS within each video, frame and class: (new scores (N,), which boxes are among
    the `keep` best (N,) bool).

    threshold, keep: see LinkRule (`soft_nms`, `keep`), None leaves the step out. Ties: the
    box given first is better.
    """
    (key_N,) = common_keys([boxes.video, boxes.frame, boxes.label])
    if threshold is not None:
        order = np.argsort(-score_N, kind="stable")
        rank_N = np.empty_like(order)
        rank_N[order] = np.arange(len(order))
        rivals = [(EMPTY, EMPTY)]
        for i_P, j_P in pair_blocks(key_N, key_N):
            better_P = rank_N[i_P] < rank_N[j_P]
            i_P, j_P = i_P[better_P], j_P[better_P]
            near_P = pair_iou(boxes.box, boxes.box, i_P, j_P, plus_one) > threshold
            rivals.append((rank_N[i_P[near_P]], rank_N[j_P[near_P]]))
        by = suppress_in_turn(
            *(np.concatenate(part) for part in zip(*rivals, strict=True)), len(order)
        )
        weak = np.flatnonzero(by != NOBODY)
        worse, better = order[weak], order[by[weak]]
        score_N = score_N.copy()
        score_N[worse] *= 1 - pair_iou(boxes.box, boxes.box, worse, better, plus_one)
    used_N = np.ones(len(score_N), dtype=bool)
    if keep is not None:
        order = np.lexsort((-score_N, key_N))
        place = np.arange(len(order)) - np.searchsorted(key_N[order], key_N[order], "left")
        used_N[order[place >= keep]] = False
    return score_N, used_N


def _follow(boxes, score_N, sequence_N, rule, plus_one):
    """Number of the tube of each box, (N,). Boxes are sorted by frame, then sequence (video
    and class).
    """
    tube_N = np.full(len(boxes), NOBODY, dtype=np.int64)
    frames, starts = np.unique(boxes.frame, return_index=True)
    # number, row of the last box, how many boxes
    number_T = last_T = count_T = np.zeros(0, dtype=np.int64)
    total_T = np.zeros(0)  # sum of the scores
    begun = 0
    for frame, start, stop in zip(frames, starts, [*starts[1:], len(boxes)], strict=True):
        open_T = frame - boxes.frame[last_T] - 1 <= rule.max_gap
        state = [part[open_T] for part in (number_T, last_T, count_T, total_T)]
        order_T = np.lexsort((state[0], -state[3] / state[2]))
        number_T, last_T, count_T, total_T = (part[order_T] for part in state)
        row_T = _choose(
            boxes, score_N, sequence_N, last_T, np.arange(start, stop), rule, plus_one
        )
        on_T = row_T != NOBODY
        tube_N[row_T[on_T]] = number_T[on_T]
        last_T = np.where(on_T, row_T, last_T)
        count_T = count_T + on_T
        total_T = total_T + np.where(on_T, score_N[row_T], 0)
        new_K = start + np.flatnonzero(tube_N[start:stop] == NOBODY)
        tube_N[new_K] = begun + np.arange(len(new_K))
        number_T = np.concatenate([number_T, tube_N[new_K]])
        last_T = np.concatenate([last_T, new_K])
        count_T = np.concatenate([count_T, np.ones_like(new_K)])
        total_T = np.concatenate([total_T, score_N[new_K]])
        begun += len(new_K)
    return tube_N


def _choose(boxes, score_N, sequence_N, last_T, row_K, rule, plus_one):
    """Which of the rows of one frame number each open tube takes, (T,), -1 for none. Tubes
    are in order of rank.
    """
    tube_P, k_P = same_key_pairs(sequence_N[last_T], sequence_N[row_K])
    row_P = row_K[k_P]
    iou_P = pair_iou(boxes.box, boxes.box, last_T[tube_P], row_P, plus_one)
    near_P = iou_P >= rule.min_iou
    tube_P, k_P, row_P, iou_P = tube_P[near_P], k_P[near_P], row_P[near_P], iou_P[near_P]
    order_P = np.lexsort((-iou_P if rule.prefer == "iou" else -score_N[row_P], tube_P))
    k_T = take_in_turn(tube_P[order_P], k_P[order_P], len(last_T), len(row_K))
    return np.where(k_T == NOBODY, NOBODY, row_K[k_T])


class OpenTubes:
    """link() as the frames come: the numbers of its tubes for the boxes of one video, classes
    aside, without a look at what follows.

    rule: a LinkRule without soft_nms, keep, min_score and min_length, which are for whole
    tubes; ValueError for one that has them. plus_one: see boxes.box_iou.
    """

    def __init__(self, rule: LinkRule = RULES["gaps"], *, plus_one: bool = True):
        plain = LinkRule(rule.min_iou, rule.max_gap, rule.prefer)
        if rule != plain:
            raise ValueError(f"{rule}: tubes that are still open can only be linked")
        self.rule, self.plus_one, self.begun = rule, plus_one, 0
        self._number_T = self._frame_T = self._count_T = np.zeros(0, dtype=np.int64)
        self._total_T, self._box_T_4 = np.zeros(0), np.zeros((0, 4))

    def close(self, frame: int) -> list[int]:
        """Numbers of the tubes that no box of `frame` or later can be linked to, which are
        forgotten.
        """
        open_T = frame - self._frame_T - 1 <= self.rule.max_gap
        closed = self._number_T[~open_T].tolist()
        self._keep(np.flatnonzero(open_T))
        return closed

    def add(self, frame: int, box_K_4: np.ndarray, score_K: np.ndarray) -> np.ndarray:
        """Number of the tube of each box of a frame, (K,); frames rise. box_K_4: inclusive
        corners. A number is one more than the greatest before where a tube begins.
        """
        box_K_4 = np.asarray(box_K_4, np.float64).reshape(-1, 4)
        score_K = np.asarray(score_K, np.float64)
        self.close(frame)
        order_T = np.lexsort((self._number_T, -self._total_T / self._count_T))
        self._keep(order_T)
        open_, new = len(order_T), len(box_K_4)
        none = np.zeros(open_ + new, np.int64)
        boxes = Boxes(none, none, none, np.concatenate([self._box_T_4, box_K_4]))
        rows_K = open_ + np.arange(new)
        score_N = np.concatenate([np.zeros(open_), score_K])
        row_T = np.full(open_, NOBODY, np.int64)
        if open_ and new:
            last_T = np.arange(open_)
            row_T = _choose(boxes, score_N, none, last_T, rows_K, self.rule, self.plus_one)
        number_K = np.full(new, NOBODY, np.int64)
        on_T = row_T != NOBODY
        k_T = row_T[on_T] - open_
        number_K[k_T] = self._number_T[on_T]
        self._box_T_4[on_T], self._frame_T[on_T] = box_K_4[k_T], frame
        self._count_T[on_T] += 1
        self._total_T[on_T] += score_K[k_T]
        free_K = np.flatnonzero(number_K == NOBODY)
        number_K[free_K] = self.begun + np.arange(len(free_K))
        self.begun += len(free_K)
        self._number_T = np.concatenate([self._number_T, number_K[free_K]])
        self._frame_T = np.concatenate([self._frame_T, np.full(len(free_K), frame)])
        self._count_T = np.concatenate([self._count_T, np.ones(len(free_K), np.int64)])
        self._total_T = np.concatenate([self._total_T, score_K[free_K]])
        self._box_T_4 = np.concatenate([self._box_T_4, box_K_4[free_K]])
        return number_K

    def _keep(self, rows_T):
        self._number_T, self._frame_T = self._number_T[rows_T], self._frame_T[rows_T]
        self._count_T, self._total_T = self._count_T[rows_T], self._total_T[rows_T]
        self._box_T_4 = self._box_T_4[rows_T]


def _build(boxes, score_N, sequence_N, tube_N, rule):
    """Tubes of boxes that know the number of their tube: fill the gaps, drop what the rule
    drops, sort.
    """
    order_N = np.lexsort((boxes.frame, tube_N))
    tube_N, box_N_4 = tube_N[order_N], boxes.box[order_N]
    frame_N = boxes.frame[order_N].astype(np.int64)
    first_T = np.flatnonzero(np.diff(tube_N, prepend=-1))  # first row of each tube
    last_T = np.append(first_T[1:], len(tube_N)) - 1
    score_T = np.add.reduceat(score_N[order_N], first_T) / (last_T - first_T + 1)
    length_T = frame_N[last_T] - frame_N[first_T] + 1
    kept_T = (score_T >= rule.min_score) & (length_T >= rule.min_length)
    head_T = order_N[first_T]  # a row that names video and class
    tubes = []
    for t in np.lexsort((frame_N[first_T], sequence_N[head_T])):
        if kept_T[t]:
            rows = slice(first_T[t], last_T[t] + 1)
            frames, corners = fill_gaps(frame_N[rows], box_N_4[rows])
            tubes.append(
                Tube(
                    boxes.video[head_T[t]].item(),
                    int(boxes.label[head_T[t]]),
                    frames,
                    corners,
                    float(score_T[t]),
                )
            )
    return tubes


def fill_gaps(frames_F: np.ndarray, boxes_F_4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (increasing) and boxes of a tube -> all frames from first to last, missing
    boxes interpolated linearly.
    """
    frames_F, boxes_F_4 = np.asarray(frames_F), np.asarray(boxes_F_4, dtype=np.float64)
    all_frames = np.arange(frames_F[0], frames_F[-1] + 1)
    if len(all_frames) == len(frames_F):
        return frames_F, boxes_F_4
    return all_frames, np.stack(
        [np.interp(all_frames, frames_F, corner) for corner in boxes_F_4.T], axis=1
    )
