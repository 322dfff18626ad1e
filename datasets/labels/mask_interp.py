"""A few labeled masks of one actor -> its masks at other frames.

Between two labeled frames a < b, t = (f - a)/(b - a), S the signed distance to a mask's
outline (pixels, > 0 inside):

    hold      the nearer mask (baseline)
    sdf       (1-t) S_a + t S_b > 0 (baseline)
    aligned   the same, after moving both to the interpolated centroid
    blend     the default. Three predictions of each mask at f: unmoved; moved and stretched
              by centroid and second moments, the centroid on a cubic spline through all
              labels; warped by an optical flow that needs no pixels, since it is computed
              between the two distance maps. tanh(S / softness) of the six, weighted by
              distance in time, is summed, and its highest pixels are the mask, whose area
              is interpolated between the two.
    flow      both masks warped frame by frame along the optical flow of the video itself,
              then blended in the same way

Before the first and after the last label the nearest mask is repeated (`flow` keeps
warping it).
Mean IoU with the true masks of J-HMDB's 928 clips at every 8th frame labeled: see
benchmarks/results/mask_interp.md.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

INTERPOLATIONS = ("blend", "aligned", "flow", "sdf", "hold")  # the default first
# times the side of a square of the mask's area: scale of the distance in tanh
SOFTNESS = 0.08
# weight of b is t^n / (t^n + (1-t)^n): the nearer label counts slightly more than linearly
NEARNESS = 1.5
FLOW_REACH = 20  # pixels from the outline that the flow between distance maps can see
FLOW_SIDE = 64  # least side of a picture for the flow


def interpolate(
    masks: np.ndarray,
    frames: np.ndarray,
    wanted: np.ndarray,
    method: str = INTERPOLATIONS[0],
    pictures: np.ndarray | None = None,
) -> np.ndarray:
    """Masks of one actor at the frames `wanted` (k,), in any order: bool (k,H,W). A
    labeled frame gives its own mask.

    masks: (n,H,W) bool, anything indexable such as PackedMasks, none empty; frames: (n,)
    int, strictly increasing. pictures: for `flow`, all frames of the video, uint8
    (F,H,W,3). Raises ValueError for an unknown method, or where pictures are missing or of
    another size.
    """
    frames, wanted = np.asarray(frames), np.asarray(wanted)
    if method not in INTERPOLATIONS:
        known = ", ".join(INTERPOLATIONS)
        raise ValueError(f"method must be one of {known}, not {method!r}")
    result = masks[_nearest(frames, wanted)]
    if method == "hold" or (method != "flow" and len(frames) == 1):
        return result
    if method == "flow":
        unknown = np.flatnonzero(~np.isin(wanted, frames))
        if len(unknown):
            result[unknown] = _along_the_video(masks, frames, wanted[unknown], pictures)
        return result
    between = np.flatnonzero(
        ~np.isin(wanted, frames) & (wanted > frames[0]) & (wanted < frames[-1])
    )
    if len(between):
        window = _window(masks)
        labels = [LabeledMask.of(mask[window]) for mask in masks]
        pairs = np.searchsorted(frames, wanted[between]) - 1
        for i in np.unique(pairs):
            places = between[pairs == i]
            result[places] = False
            for place, shape in zip(
                places, _between(labels, frames, i, wanted[places], method), strict=True
            ):
                result[(place, *window)] = shape
    return result


def _nearest(frames, wanted):
    """Index of the nearest of `frames` for each wanted one, the earlier where two are as
    near.
    """
    right = np.minimum(np.searchsorted(frames, wanted), len(frames) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(
        np.abs(wanted - frames[left]) <= np.abs(frames[right] - wanted), left, right
    )


def _window(masks):
    """Slices (rows, columns) of the part of the picture that the masks stay in, with a
    margin.
    """
    seen = masks[:].any(axis=0)
    slices = []
    for line in (seen.any(axis=1), seen.any(axis=0)):
        inside, margin = np.flatnonzero(line), max(seen.shape) // 10
        slices.append(slice(max(inside[0] - margin, 0), inside[-1] + 1 + margin))
    return tuple(slices)


# --------------------------------------------------------------------------- without pixels


@dataclass(frozen=True, eq=False)
class LabeledMask:
    """A labeled mask inside the window: signed distance (h,w) float32, area in pixels,
    centroid (x, y), spread (2,2).

    spread: the symmetric root of the covariance of its pixels; as a matrix it maps a disc
    onto the mask's ellipse.
    """

    distance: np.ndarray
    area: float
    center: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "LabeledMask":
        m = cv2.moments(mask.astype(np.uint8), binaryImage=True)
        area = m["m00"]
        center = np.array([m["m10"], m["m01"]]) / area
        covariance = np.array([[m["mu20"], m["mu11"]], [m["mu11"], m["mu02"]]]) / area
        # a pixel is a square, not a point: its own variance is 1/12
        spread = _root(covariance + np.eye(2) / 12)
        return cls(signed_distance(mask), area, center, spread)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance (H,W) float32 of each pixel to the outline of a mask, pixels: > 0 inside, <
    0 outside, never 0.
    """
    inside = mask.astype(np.uint8)
    depth, height = (
        cv2.distanceTransform(side, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for side in (inside, 1 - inside)
    )
    reach = float(sum(mask.shape))  # a mask that fills the picture has no outline
    return np.clip(np.where(mask, depth - 0.5, 0.5 - height), -reach, reach).astype(np.float32)


def _root(matrix):
    """Symmetric square root of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def _between(labels, frames, i, wanted, method):
    """Masks (h,w) bool at the frames `wanted`, all between labels i and i+1."""
    a, b = labels[i], labels[i + 1]
    shares = (wanted - frames[i]) / (frames[i + 1] - frames[i])
    if method == "sdf":
        return [(1 - t) * a.distance + t * b.distance > 0 for t in shares]
    centers = a.center + shares[:, None] * (b.center - a.center)
    if method == "aligned":
        return [
            (1 - t) * _affine(a, center) + t * _affine(b, center) > 0
            for t, center in zip(shares, centers, strict=True)
        ]
    bends = 0 * centers  # offset of the spline from the straight line
    if len(labels) > 2:
        known = [label.center for label in labels]
        spline = CubicSpline(frames, known, bc_type="natural")
        bends = spline(wanted) - centers
    stretch = _stretch(a, b)
    forth, back = _flow_between(a, b), _flow_between(b, a)
    shapes = []
    for t, center, bend in zip(shares, centers, bends, strict=True):
        part = (1 - t) * np.eye(2) + t * stretch
        guesses = [
            (a.distance, b.distance),
            (
                _affine(a, center + bend, part),
                _affine(b, center + bend, part @ np.linalg.inv(stretch)),
            ),
            (_warp(a.distance, forth, t, bend), _warp(b.distance, back, 1 - t, bend)),
        ]
        shapes.append(_highest(guesses, a.area, b.area, t))
    return shapes


def _highest(guesses, area_a, area_b, t):
    """Mask of the highest pixels of the blended predictions (pairs of signed distances), of
    an area between the two.
    """
    weight = t**NEARNESS / (t**NEARNESS + (1 - t) ** NEARNESS)
    area = (1 - weight) * area_a + weight * area_b
    soft = np.float32(max(SOFTNESS * area**0.5, 1))
    score = sum(
        (1 - weight) * np.tanh(a / soft) + weight * np.tanh(b / soft) for a, b in guesses
    )
    outside = score.size - round(area)
    lowest = (
        np.partition(score, outside - 1, axis=None)[outside - 1] if outside > 0 else -np.inf
    )
    return score > lowest


def _affine(label, center, matrix=None):
    """Signed distance of a label whose centroid is moved to `center` (x, y) and whose shape
    is mapped by `matrix`.
    """
    back = np.eye(2) if matrix is None else np.linalg.inv(matrix)
    # a pixel x shows what was at label.center + back (x - center)
    return cv2.warpAffine(
        label.distance,
        np.column_stack([back, label.center - back @ center]),
        label.distance.shape[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _stretch(a, b):
    """The symmetric matrix (2,2) that takes a's ellipse to b's without rotation (optimal
    transport).
    """
    back = np.linalg.inv(a.spread)
    return back @ _root(a.spread @ b.spread @ b.spread @ a.spread) @ back


def _flow_between(a, b):
    """Flow (h,w,2) that takes the outline of label a to that of b: the shift of the
    centroids and the residual flow.
    """
    shift = b.center - a.center

    def picture(distance):
        return np.uint8(np.clip(distance / FLOW_REACH, -1, 1) * 127 + 128)

    residual = optical_flow(picture(a.distance), picture(_affine(b, a.center)))
    return residual + shift.astype(np.float32)


def _warp(values, flow, share, offset):
    """`values` (h,w) moved by `share` of their flow (h,w,2), and by offset (x, y): the
    source of each pixel is found by fixed-point iteration.
    """
    x, y = _grid(values.shape)
    x, y = x - np.float32(offset[0]), y - np.float32(offset[1])
    from_x, from_y = x, y
    for _ in range(4):
        step = np.float32(share) * _sample(flow, from_x, from_y)
        from_x, from_y = x - step[..., 0], y - step[..., 1]
    return _sample(values, from_x, from_y)


def optical_flow(
    first: np.ndarray,
    second: np.ndarray,
    preset: int = cv2.DISOPTICAL_FLOW_PRESET_FAST,
) -> np.ndarray:
    """DIS optical flow (H,W,2) float32 x, y: what is at p in `first` is at p + flow in
    `second`. Both uint8 (H,W).
    """
    height, width = first.shape
    pad = 0, max(FLOW_SIDE - height, 0), 0, max(FLOW_SIDE - width, 0)
    first, second = (
        cv2.copyMakeBorder(image, *pad, cv2.BORDER_REPLICATE) for image in (first, second)
    )
    return cv2.DISOpticalFlow_create(preset).calc(first, second, None)[:height, :width]


def _sample(values, x, y):
    return cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _grid(shape):
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


# ------------------------------------------------------------------------------ with pixels


def _along_the_video(masks, frames, wanted, pictures):
    """Masks (k,H,W) bool at unlabeled frames, from the labels before and after, warped
    along the video's flow.
    """
    if pictures is None or pictures.shape[1:3] != masks.shape[1:]:
        given = None if pictures is None else pictures.shape
        raise ValueError(
            "the flow needs all frames of the video, of the masks' size "
            f"{masks.shape[1:]}, not {given}"
        )
    gray = {}

    def picture(f):
        if f not in gray:
            gray[f] = cv2.cvtColor(pictures[f], cv2.COLOR_RGB2GRAY)
        return gray[f]

    shapes = np.zeros((len(wanted), *masks.shape[1:]), bool)
    after = np.searchsorted(frames, wanted)  # the label after each wanted frame
    for i in np.unique(after):
        places = np.flatnonzero(after == i)
        before, behind = (
            None if j not in range(len(frames)) else masks[int(j)] for j in (i - 1, i)
        )
        carried = [
            {}
            if mask is None
            else _carried(signed_distance(mask), int(frames[j]), wanted[places], picture)
            for j, mask in ((i - 1, before), (i, behind))
        ]
        for place in places:
            f = int(wanted[place])
            if before is None or behind is None:
                shapes[place] = (carried[0] or carried[1])[f] > 0
            else:
                share = (f - frames[i - 1]) / (frames[i] - frames[i - 1])
                pair = carried[0][f], carried[1][f]
                shapes[place] = _highest([pair], before.sum(), behind.sum(), share)
    return shapes


def _carried(distance, start, wanted, picture):
    """wanted frame -> signed distance (H,W) of frame `start`, carried there from frame to
    frame. All on one side.
    """
    step = 1 if wanted[0] > start else -1
    x, y = from_x, from_y = _grid(distance.shape)
    carried = {}
    for f in range(start + step, int(max(wanted * step)) * step + step, step):
        back = optical_flow(picture(f), picture(f - step), cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        from_x, from_y = (
            _sample(values, x + back[..., 0], y + back[..., 1]) for values in (from_x, from_y)
        )
        if f in wanted:
            carried[f] = _sample(distance, from_x, from_y)
    return carried
