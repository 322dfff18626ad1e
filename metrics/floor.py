"""The no-model floor: what one centered rectangle, the same for every frame, scores under
the capsule protocol.

Actions are recorded with the actor near the middle, so a rectangle that looks at no pixel
already earns points; a detector's numbers mean something only above these. The rectangle is
chosen on the ground truth of the training set by grid search, and scored on the ground
truth of the test set. It has no class: no accuracy, no class-aware scores.

    train = [video_truth(video, crop=(224, 296)) for video in training_videos]
    rectangle = choose_rectangle(train, classes, switches)
    result = score_rectangle(rectangle, test, classes, switches)

Geometry is that of the crop, in crop pixels; a later resize of the crop stretches rectangle
and truth alike, and IoU does not change but for the rounding of edges to pixels (`size`
follows that rounding, too). Boxes are half-open, x0 y0 x1 y1. No box is ever drawn into a
mask: the union of a frame's boxes is cut once into disjoint pieces, and the overlap of a
piece with a rectangle is a product of two lengths. Masks are summed by matrix products.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from claus.metrics import capsule

BLOCKS = 64  # blocks of clips looked at at once, so that memory is that of so many
AT_ONCE = 32  # masks held as numbers at once
FRAMES = 256  # frames whose overlap with one rectangle is counted at once
FRACTIONS = tuple(i / 20 for i in range(1, 21))  # of the crop's height, and of its width


@dataclass(frozen=True, eq=False)
class Truth:
    """Ground truth of one video inside the crop: boxes per actor, or one mask per frame.

    size: (H, W), pixels of the crop. boxes_A_F_4: int64 (A, F, 4) within it, half-open, an
    actor who is not there having an empty box; or masks_F_H_W: bool (F, H, W), an array or
    what gives one for a slice.
    """

    name: str
    label: int
    size: tuple
    boxes_A_F_4: np.ndarray | None = None
    masks_F_H_W: np.ndarray | None = None

    @property
    def frames(self) -> int:
        return len(self.masks_F_H_W) if self.boxes_A_F_4 is None else self.boxes_A_F_4.shape[1]


@dataclass(frozen=True)
class Rectangle:
    """A centered rectangle; height and width are fractions of the crop, in (0, 1]."""

    height: float
    width: float

    def edges(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Half-open pixel edges (x0, y0, x1, y1) in a crop of `size` (H, W); it covers at
        least one pixel.
        """
        (y0, y1), (x0, x1) = _centered(self.height, size[0]), _centered(self.width, size[1])
        return x0, y0, x1, y1


def video_truth(
    video: object,
    crop: tuple[int, int],
    gt: str = "union",
    rng: np.random.Generator | None = None,
    frame: tuple[int, int] | None = None,
    size: tuple[int, int] | None = None,
) -> Truth:
    """Truth of an annotated video (name, label, frames, height, width, tubes of frames and
    boxes) in a center crop.

    crop: (H, W) pixels, cut from the video's pictures, or from these resized to `frame` (H,
    W) if that is given. size: (H, W) to which the crop is resized, itself by default. Both
    resizes move the edges as nearest-pixel resizing moves those of a mask, so that areas
    are exactly those of the masks a network is scored on. gt, rng: which actors count, see
    capsule.select_actors. A video with masks in place of boxes: make a Truth of its cropped
    masks.
    """
    frame, size = frame or (video.height, video.width), size or crop
    if crop[0] > frame[0] or crop[1] > frame[1]:
        raise ValueError(
            f"{video.name}: a crop of {crop[0]}x{crop[1]} from {frame[0]}x{frame[1]}"
        )
    boxes_A_F_4 = np.zeros((len(video.tubes), video.frames, 4), dtype=np.int64)
    for actor, tube in enumerate(video.tubes):
        boxes_A_F_4[actor, tube.frames] = tube.boxes
    y0, x0 = (frame[0] - crop[0]) // 2, (frame[1] - crop[1]) // 2
    boxes_A_F_4 = _resize(boxes_A_F_4, (video.height, video.width), frame) - (x0, y0, x0, y0)
    boxes_A_F_4 = _resize(np.clip(boxes_A_F_4, 0, (crop[1], crop[0]) * 2), crop, size)
    visible_A_F = (boxes_A_F_4[..., 2:] > boxes_A_F_4[..., :2]).all(axis=-1)
    chosen_A_F = capsule.select_actors(visible_A_F, gt, rng)
    return Truth(video.name, video.label, tuple(size), boxes_A_F_4 * chosen_A_F[..., None])


def choose_rectangle(
    truths: Iterable[Truth],
    classes: Sequence[str],
    switches: capsule.Switches | None = None,
    fractions: Sequence[float] = FRACTIONS,
) -> Rectangle | None:
    """The rectangle with the best f-mAP at IoU .5 on `truths` (an iterable of Truth), or
    None without any truth.

    All heights and widths out of `fractions` are tried. Ties go to the better f-mAP
    averaged over the 20 thresholds, then to the smaller height x width, then to the smaller
    height.
    """
    switches = switches or capsule.Switches()
    n = len(fractions)
    hits = np.zeros((len(classes), n, n, capsule.STEPS), dtype=np.int64)
    frames_C = np.zeros(len(classes), np.int64)
    cells = capsule.STEPS * np.arange(n * n).reshape(n, n)
    # the frames that count follow from the blocks of clips that they lie in
    at_once = BLOCKS * switches.clip_length * switches.clip_stride
    for truth in _pieces(truths, at_once):
        intersection, area_F = intersections(truth, fractions, fractions)
        empty = _overlap(truth, np.zeros_like(area_F), area_F, area_F)
        counted_F = empty.counted_frames(switches)
        intersection = intersection[counted_F]
        area = rectangle_areas(truth.size, fractions, fractions)
        union = area_F[counted_F, None, None] + area - intersection
        bins = capsule.iou_level(intersection, union) + cells
        counts = np.bincount(bins.ravel(), minlength=hits[0].size)
        hits[truth.label] += counts.reshape(n, n, capsule.STEPS)
        frames_C[truth.label] += counted_F.sum()
    if not frames_C.any():
        return None
    hits = hits[..., ::-1].cumsum(axis=-1)[..., ::-1]
    present = frames_C > 0
    f_map = (hits[present] / frames_C[present, None, None, None]).mean(axis=0)
    height, width = (g.ravel() for g in np.meshgrid(fractions, fractions, indexing="ij"))
    at_half = f_map[..., capsule.THRESHOLDS.index(0.5)].ravel()
    over_all = f_map.mean(axis=-1).ravel()
    keys = (height, height * width, -over_all, -at_half)  # the last one ranks first
    best = np.lexsort([np.round(key, 12) for key in keys])[0]
    return Rectangle(float(height[best]), float(width[best]))


def _pieces(truths, frames):
    """The truths, cut after every so many frames."""
    for truth in truths:
        for start in range(0, truth.frames, frames):
            part = slice(start, start + frames)
            if truth.boxes_A_F_4 is None:
                yield replace(truth, masks_F_H_W=truth.masks_F_H_W[part])
            else:
                yield replace(truth, boxes_A_F_4=truth.boxes_A_F_4[:, part])


def score_rectangle(
    rectangle: Rectangle,
    truths: Iterable[Truth],
    classes: Sequence[str],
    switches: capsule.Switches | None = None,
) -> capsule.CapsuleResult:
    """Capsule scores of predicting `rectangle` in every frame of `truths` ->
    capsule.CapsuleResult.
    """

    def overlaps():
        sides = [rectangle.height], [rectangle.width]
        for truth in truths:
            pieces = [intersections(piece, *sides) for piece in _pieces([truth], FRAMES)]
            intersection_F = np.concatenate([shared[:, 0, 0] for shared, _ in pieces])
            gt_F = np.concatenate([area_n for _, area_n in pieces])
            area = rectangle_areas(truth.size, *sides).item()
            yield _overlap(truth, intersection_F, area + gt_F - intersection_F, gt_F)

    return capsule.evaluate(overlaps(), classes, switches)


def to_dict(rectangle: Rectangle, result: capsule.CapsuleResult) -> dict:
    """Result of `score_rectangle` for JSON: as the protocol's own, and the rectangle beside
    it.
    """
    return {
        **result.to_dict(),
        "rectangle": {"height": rectangle.height, "width": rectangle.width},
    }


def rectangle_areas(
    size: tuple[int, int], heights: Sequence[float], widths: Sequence[float]
) -> np.ndarray:
    """Pixels of the centered rectangles in a crop of `size` (H, W), (n_heights, n_widths)."""
    y_edges = np.array([_centered(h, size[0]) for h in heights])
    x_edges = np.array([_centered(w, size[1]) for w in widths])
    rows, columns = y_edges[:, 1] - y_edges[:, 0], x_edges[:, 1] - x_edges[:, 0]
    return rows[:, None] * columns


def intersections(
    truth: Truth, heights: Sequence[float], widths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels that the truth of each frame shares with each centered rectangle, and the
    truth's own pixels.

    heights, widths: fractions of the crop. Returns int64 (F, n_heights, n_widths) and (F,).
    """
    y_edges = np.array([_centered(h, truth.size[0]) for h in heights])
    x_edges = np.array([_centered(w, truth.size[1]) for w in widths])
    if truth.boxes_A_F_4 is None:
        return _mask_intersections(truth.masks_F_H_W, y_edges, x_edges)
    return _box_intersections(truth.boxes_A_F_4, y_edges, x_edges)


def disjoint_pieces(boxes_A_F_4: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut the union of each frame's boxes into rectangles that do not overlap.

    Of every actor's box, what earlier actors' boxes cover is taken away. Returns (P, 4)
    int64 edges and (P,) the frame of each piece, ascending.
    """
    pieces, frames = [np.zeros((0, 4), dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for actor, boxes_F_4 in enumerate(boxes_A_F_4):
        frame_P = np.flatnonzero(_filled(boxes_F_4))
        piece_P_4 = boxes_F_4[frame_P]
        for earlier in range(actor):
            piece_P_4, frame_P = _subtract(piece_P_4, frame_P, boxes_A_F_4[earlier][frame_P])
        pieces.append(piece_P_4)
        frames.append(frame_P)
    frame_P = np.concatenate(frames)
    order = np.argsort(frame_P, kind="stable")
    return np.concatenate(pieces)[order], frame_P[order]


def _subtract(piece_P_4, frame_P, other_P_4):
    """Each piece less the box beside it: the piece itself where they do not meet, else up
    to four strips.
    """
    x0, y0, x1, y1 = piece_P_4.T
    ix0, iy0 = np.maximum(piece_P_4[:, :2], other_P_4[:, :2]).T
    ix1, iy1 = np.minimum(piece_P_4[:, 2:], other_P_4[:, 2:]).T
    meet = (ix1 > ix0) & (iy1 > iy0)
    around = (
        (x0, y0, x1, iy0),
        (x0, iy1, x1, y1),
        (x0, iy0, ix0, iy1),
        (ix1, iy0, x1, iy1),
    )
    strips = [np.stack(edges, axis=1)[meet] for edges in around]
    piece_P_4 = np.concatenate([piece_P_4[~meet], *strips])
    frame_P = np.concatenate([frame_P[~meet], *[frame_P[meet]] * 4])
    filled = _filled(piece_P_4)
    return piece_P_4[filled], frame_P[filled]


def _box_intersections(boxes_A_F_4, y_edges, x_edges):
    """As `intersections`, for boxes: per piece, overlap in height times overlap in width,
    summed over its frame.
    """
    frames = boxes_A_F_4.shape[1]
    shared = np.zeros((frames, len(y_edges), len(x_edges)), np.int64)
    area_F = np.zeros(frames, np.int64)
    piece_P_4, frame_P = disjoint_pieces(boxes_A_F_4)
    if len(frame_P):
        x0, y0, x1, y1 = (edge[:, None] for edge in piece_P_4.T)
        rows = np.maximum(np.minimum(y1, y_edges[:, 1]) - np.maximum(y0, y_edges[:, 0]), 0)
        columns = np.maximum(np.minimum(x1, x_edges[:, 1]) - np.maximum(x0, x_edges[:, 0]), 0)
        starts = np.flatnonzero(np.diff(frame_P, prepend=-1))
        shared[frame_P[starts]] = np.add.reduceat(
            rows[:, :, None] * columns[:, None, :], starts, axis=0
        )
        area_F[frame_P[starts]] = np.add.reduceat(((x1 - x0) * (y1 - y0))[:, 0], starts)
    return shared, area_F


def _mask_intersections(masks_F_H_W, y_edges, x_edges):
    """As `intersections`, for masks: two matrix products, which only add whole numbers that
    their type counts exactly.
    """
    frames, height, width = masks_F_H_W.shape
    exact = np.float32 if height * width < 2**24 else np.float64
    in_rows, in_columns = _inside(y_edges, height, exact), _inside(x_edges, width, exact)
    shared = np.zeros((frames, len(y_edges), len(x_edges)), np.int64)
    area_F = np.zeros(frames, np.int64)
    for start in range(0, frames, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        masks = np.asarray(masks_F_H_W[part])
        shared[part] = in_rows @ (masks.astype(exact) @ in_columns.T)
        area_F[part] = np.count_nonzero(masks, axis=(1, 2))
    return shared, area_F


def _inside(edges, size, dtype):
    """1 where a place (columns, `size`) lies in a stretch (rows, half-open edges), else 0."""
    places = np.arange(size)
    return ((places >= edges[:, :1]) & (places < edges[:, 1:])).astype(dtype)


def _overlap(truth, intersection_F, union_F, gt_F):
    return capsule.VideoOverlap(truth.name, truth.label, intersection_F, union_F, gt_F)


def _centered(fraction, pixels):
    """Edges of a centered stretch of round(fraction * pixels), at least one."""
    length = min(max(round(fraction * pixels), 1), pixels)
    start = (pixels - length) // 2
    return start, start + length


def _resize(boxes_A_F_4, source, target):
    """Box edges after nearest-pixel resizing: pixel j shows pixel floor((j + 1/2) * source
    / target).
    """
    scale, base = np.array([target[1], target[0]] * 2), np.array([source[1], source[0]] * 2)
    return -((base - 2 * boxes_A_F_4 * scale) // (2 * base))


def _filled(boxes_N_4):
    return (boxes_N_4[:, 2:] > boxes_N_4[:, :2]).all(axis=1)
