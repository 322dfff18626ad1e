"""Few labelled frames -> dense pseudo-label masks for a clip, and the weight STeW gives each pixel of them.

Only what the annotation file holds is used: labelled frames and the boxes on them. A track's true start and end are
not known to it.
"""

import numpy as np

SIGMA = 8 / 3       # of the temporal weight, video frames (paper Eq. 4)
REACH = 8           # beyond so many video frames the temporal weight is 0
WINDOW = 2          # consistency looks at this many sampled frames to each side
P_LOW, P_HIGH = 0.1, 0.9


def dense_boxes(tube, labelled, frames):
    """Boxes of one track at `frames` (T,): (boxes (T,4) float64 half-open corners, present (T,) bool).

    Between two labelled frames that both show the actor: linear in the four corners. Where only one neighbouring
    labelled frame shows it, that box is held, up to the frame beside the one that shows it absent; before the
    first and after the last labelled frame likewise. `labelled`: all labelled frames of the video, sorted.
    """
    frames = np.asarray(frames)
    right = np.searchsorted(labelled, frames)                                # first labelled frame >= f
    left = np.searchsorted(labelled, frames, side="right") - 1               # last labelled frame <= f
    shown = np.isin(labelled, tube.frames)
    on_left = (left >= 0) & shown[np.maximum(left, 0)]
    on_right = (right < len(labelled)) & shown[np.minimum(right, len(labelled) - 1)]
    f0 = np.where(on_left, labelled[np.maximum(left, 0)], labelled[np.minimum(right, len(labelled) - 1)])
    f1 = np.where(on_right, labelled[np.minimum(right, len(labelled) - 1)], f0)
    share = (frames - f0) / np.maximum(f1 - f0, 1)
    share = np.where(on_left & on_right, share, 0)[:, None]
    index0 = np.minimum(np.searchsorted(tube.frames, f0), len(tube.frames) - 1)
    index1 = np.minimum(np.searchsorted(tube.frames, f1), len(tube.frames) - 1)
    boxes = tube.boxes.astype(np.float64)
    return boxes[index0] * (1 - share) + boxes[index1] * share, on_left | on_right


def tube_masks(video, tube, frames):
    """(Pseudo-)boxes of one track at `frames` (T,): uint8 {0,1} (T,H,W). A pixel is in where its centre is."""
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    boxes, present = dense_boxes(tube, video.labelled_frames, frames)
    corners = np.ceil(boxes - 0.5).astype(int)
    for t in np.flatnonzero(present):
        x0, y0, x1, y1 = corners[t]
        masks[t, max(y0, 0):y1, max(x0, 0):x1] = 1
    return masks


def box_masks(video, frames):
    """Union of all actors' (pseudo-)boxes at `frames` (T,): uint8 {0,1} (T,H,W)."""
    masks = np.zeros((len(frames), video.height, video.width), np.uint8)
    for tube in video.tubes:
        masks |= tube_masks(video, tube, frames)
    return masks


def label_distance(labelled, frames):
    """Distance of each frame (T,) to the nearest labelled frame, in video frames, int."""
    frames = np.asarray(frames)
    at = np.searchsorted(labelled, frames)
    before = labelled[np.maximum(at - 1, 0)]
    after = labelled[np.minimum(at, len(labelled) - 1)]
    return np.minimum(np.abs(frames - before), np.abs(after - frames))


def temporal_weight(distance, sigma=SIGMA, reach=REACH):
    """τ (T,) in [0,1]: exp(-d²/2σ²), 0 beyond `reach` video frames (paper Eq. 4)."""
    distance = np.asarray(distance, np.float64)
    return np.where(distance <= reach, np.exp(-distance ** 2 / (2 * sigma ** 2)), 0.0)


def consistency(masks_T_H_W, on_label_T, rule="paper", window=WINDOW):
    """s (T,H,W) float32 in [0,1] (paper Eq. 5): how steadily the pseudo-label says the same of a pixel.

    m is the mean label over the clip's frames t-window … t+window that exist. `paper`: s = m, but 1 where m ≤ 0.1 or
    m ≥ 0.9. `authors`: s = 1 only where m = 0, and the window is the whole clip for t ≥ 2, the last two frames for
    t = 0, the last for t = 1. A labelled frame has s = 1 everywhere.
    """
    masks = np.asarray(masks_T_H_W, np.float32)
    length = len(masks)
    total = np.concatenate([np.zeros_like(masks[:1]), masks.cumsum(0)])
    times = np.arange(length)
    if rule == "paper":
        low, high = np.maximum(times - window, 0), np.minimum(times + window + 1, length)
    elif rule == "authors":
        low = np.where(times < window, length - window + times, 0)
        high = np.full(length, length)
    else:
        raise ValueError(f"rule must be 'paper' or 'authors', not {rule!r}")
    mean = (total[high] - total[low]) / (high - low)[:, None, None].astype(np.float32)
    certain = (mean <= P_LOW) | (mean >= P_HIGH) if rule == "paper" else mean == 0
    return np.where(certain | np.asarray(on_label_T)[:, None, None], np.float32(1), mean)


def clip_weight(masks_T_H_W, labelled, frames, loss="stew", rule="paper"):
    """φ (T,H,W) float32 in [0,1] for a clip's pseudo-label masks at video frames `frames` (T,).

    loss: `stew` τ·s; `interp` 1 everywhere; `frame` 1 on labelled frames, 0 elsewhere.
    """
    distance = label_distance(labelled, frames)
    shape = np.shape(masks_T_H_W)
    if loss == "interp":
        return np.ones(shape, np.float32)
    if loss == "frame":
        return np.broadcast_to((distance == 0)[:, None, None], shape).astype(np.float32)
    if loss != "stew":
        raise ValueError(f"loss must be 'stew', 'interp' or 'frame', not {loss!r}")
    tau = temporal_weight(distance).astype(np.float32)
    return tau[:, None, None] * consistency(masks_T_H_W, distance == 0, rule)
