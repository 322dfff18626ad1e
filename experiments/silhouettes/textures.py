"""How things look in the silhouette benchmark: patterns of a style, in varied colors.
Colors are RGB in 0…255.
"""

from dataclasses import dataclass

import cv2
import numpy as np

PATTERNS = ("clouds", "stripes", "grid", "blobs", "dots", "grain")


@dataclass(frozen=True)
class Style:
    """One way to fill an area: a pattern, its grain (world pixels), color (hue,
    saturation, value), swing (levels).
    """

    pattern: str
    grain: float
    hsv: tuple
    swing: float


@dataclass(frozen=True)
class Domain:
    """The looks that some of the videos share: styles of the ground and of things (actors
    too), camera, noise.
    """

    grounds: tuple
    things: tuple
    camera: float
    noise: float


def pattern(rng, name, grain, height, width):
    """A pattern (height,width) float32, mean about 0 and deviation about 1. grain: pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    if name == "stripes":
        return np.sqrt(2) * np.sin(2 * np.pi * along / (1.5 * grain) + rng.uniform(0, 6))
    if name == "grid":
        lines = [
            np.abs((c / (1.5 * grain) + rng.uniform(0, 1)) % 1 - 0.5) < 0.14
            for c in (along, across)
        ]
        return (lines[0] | lines[1]) * np.float32(2) - 1
    if name == "dots":
        cell = [(c / (1.3 * grain) + rng.uniform(0, 1)) % 1 - 0.5 for c in (along, across)]
        return (np.hypot(*cell) < 0.3) * np.float32(2.2) - 0.7
    smooth = _noise(rng, grain if name != "grain" else 2.5, height, width)
    return np.sign(smooth) * np.float32(1) if name == "blobs" else smooth


def _noise(rng, grain, height, width):
    """Smooth noise (height,width) float32 of deviation 1, its waves about 2 `grain` pixels
    long.
    """
    rows, columns = (int(np.ceil(side / grain)) + 3 for side in (height, width))
    small = rng.normal(size=(rows, columns)).astype(np.float32)
    big = cv2.resize(
        small,
        (int(np.ceil(columns * grain)), int(np.ceil(rows * grain))),
        interpolation=cv2.INTER_CUBIC,
    )
    top, left = (
        int(rng.integers(max(b - s, 0) + 1))
        for b, s in zip(big.shape, (height, width), strict=True)
    )
    piece = big[top : top + height, left : left + width]
    return (piece - piece.mean()) / max(piece.std(), 1e-6)


def texture(rng, style, height, width, grain=1.0):
    """A texture (height,width,3) float32 in 0…255 of a style, its color and grain varied.
    grain: pixels per world pixel.
    """
    hue, saturation, value = style.hsv
    hsv = (
        (hue + rng.normal(0, 25)) % 360,
        np.clip(saturation + rng.normal(0, 0.1), 0, 1),
        np.clip(value + rng.normal(0, 0.1), 0.1, 0.95),
    )
    color = 255 * cv2.cvtColor(np.array([[hsv]], np.float32), cv2.COLOR_HSV2RGB)[0, 0]
    step = max(style.grain * grain * np.exp(rng.normal(0, 0.2)), 1.5)
    other = rng.normal(0, 0.5, 3) + rng.choice((-1, 1))
    waves = pattern(rng, style.pattern, step, height, width)[..., None] * (
        other / np.linalg.norm(other)
    )
    fine = _noise(rng, 1.5 + rng.exponential(2), height, width)[..., None] * rng.normal(
        0.8, 0.2, 3
    )
    slow = _noise(rng, max(height, width) / 2, height, width)[..., None]
    return np.clip(color + style.swing * 1.4 * waves + 8 * fine + 10 * slow, 0, 255).astype(
        np.float32
    )


def ground_texture(rng, domain, height, width, grain):
    """A ground: one style above a horizon, perhaps another below it."""
    ground = texture(rng, domain.grounds[0], height, width, grain)
    if rng.random() < 0.6:
        horizon = int(rng.uniform(0.35, 0.8) * height)
        ground[horizon:] = texture(rng, domain.grounds[1], height - horizon, width, grain)
    return ground


def dressed(rng, domain, ground, size, visibility, bands):
    """A texture (size,size,3) to cut a thing out of: bands of the domain's styles from top
    to bottom, mixed with a piece of the ground taken elsewhere, the more so the less
    visible.
    """
    own, edges = np.empty((size, size, 3), np.float32), [0, *bands, size]
    styles = [domain.things[i] for i in rng.integers(len(domain.things), size=len(edges) - 1)]
    for style, top, bottom in zip(styles, edges[:-1], edges[1:], strict=True):
        if bottom > top:
            own[top:bottom] = texture(rng, style, bottom - top, size)
    rows, columns = (
        np.abs((rng.integers(side) + np.arange(size)) % (2 * side) - side + 0.5).astype(int)
        for side in ground.shape[:2]
    )
    return visibility * own + (1 - visibility) * ground[np.ix_(rows, columns)]
