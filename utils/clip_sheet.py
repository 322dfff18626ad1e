"""Pictures for TensorBoard: a training clip as a strip of frames, with what it was taught
and what it answers.
"""

import numpy as np
import torch
from matplotlib import colormaps

OUTLINE = np.array([60, 220, 60], np.uint8)


def clip_sheet(
    frames: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    probability: np.ndarray,
    on_label: np.ndarray,
) -> torch.Tensor:
    """One clip as a picture uint8 (3, 4S, T*S): rows frame, pseudo-label, weight φ,
    prediction; columns in time.

    frames uint8 (T,3,S,S), target {0,1} (T,S,S), weight and probability in [0,1] (T,S,S),
    on_label (T,) bool. Frames that were really labeled have a green border and their true
    label's outline in the first row.
    """
    given = frames, target, weight, probability
    frames, target, weight, probability = map(np.asarray, given)
    pictures = frames.transpose(0, 2, 3, 1)
    top = pictures.copy()
    for t in np.flatnonzero(on_label):
        top[t][_edge(target[t] > 0)] = OUTLINE
        top[t][:2] = top[t][-2:] = OUTLINE
        top[t][:, :2] = top[t][:, -2:] = OUTLINE
    rows = [
        top,
        _tint(pictures, target, "winter"),
        _heat(weight, "magma"),
        _tint(pictures, probability, "autumn"),
    ]
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    return torch.from_numpy(sheet.transpose(2, 0, 1).copy())


def _edge(mask):
    """Pixels of a mask (S,S) bool that a side joins to one outside it."""
    from skimage.segmentation import find_boundaries  # here: it takes a moment to import

    return find_boundaries(mask, connectivity=1, mode="inner")


def _heat(values, colormap):
    colors = colormaps[colormap](np.clip(values, 0, 1).astype(float))[..., :3]
    return (colors * 255).astype(np.uint8)


def _tint(pictures, values, colormap):
    alpha = 0.6 * np.clip(values, 0, 1)[..., None]
    return (pictures * (1 - alpha) + _heat(values, colormap) * alpha).astype(np.uint8)
