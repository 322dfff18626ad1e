"""Textured patches that move over a textured ground: drawing, rendering, boxes, and writing
the video as a real .avi.

Knows nothing of classes: the toy data set decides what moves and how, and so may anything
else that needs synthetic videos. Colors are RGB in 0…255; positions are x, y in frame
pixels, the center of the first pixel being 0, 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from claus.utils.pyav import av

SOURCE = 2  # an actor's own picture has this many pixels per frame pixel


@dataclass(frozen=True, eq=False)
class Actor:
    """A textured patch: texture (S,S,3) float32 in 0…255, alpha (S,S) float32 in 0…1,
    SOURCE pixels a frame pixel.
    """

    texture: np.ndarray
    alpha: np.ndarray


def random_texture(
    rng: np.random.Generator, height: int, width: int, grain: float = 1.0
) -> np.ndarray:
    """A texture (height,width,3) float32 in 0…255: color noise at three scales, stripes on
    top in some.

    `grain` is the number of pixels per frame pixel. The mean color is random, the
    deviation 15…40 gray levels.
    """
    texture = np.zeros((height, width, 3), np.float32)
    for spacing, weight in zip((3, 8, 20), rng.dirichlet((1, 1, 1)) ** 0.5, strict=True):
        rows, columns = (
            int(np.ceil(length / (spacing * grain))) + 3 for length in (height, width)
        )
        noise = rng.normal(size=(rows, columns, 3)).astype(np.float32)
        noise = 0.5 * noise + 0.9 * noise.mean(2, keepdims=True)
        stretched = (int(columns * spacing * grain), int(rows * spacing * grain))
        texture += (
            weight
            * cv2.resize(noise, stretched, interpolation=cv2.INTER_CUBIC)[:height, :width]
        )
    if rng.random() < 0.4:
        angle, wavelength, phase = (
            rng.uniform(0, np.pi),
            rng.uniform(5, 14) * grain,
            rng.uniform(0, 2 * np.pi),
        )
        y, x = np.mgrid[:height, :width].astype(np.float32)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
        texture += wave[..., None].astype(np.float32) * rng.normal(0.6, 0.4, 3).astype(
            np.float32
        )
    texture -= texture.mean((0, 1))
    texture *= rng.uniform(15, 40) / texture.std()
    return np.clip(texture + rng.uniform(50, 205, 3), 0, 255).astype(np.float32)


def random_shape(rng: np.random.Generator, diameter: float) -> np.ndarray:
    """The alpha (S,S) float32 in 0…1 of a random, elongated blob or polygon, of the area of
    a disc of `diameter` pixels.

    The edge is soft over about one frame pixel, so that a patch moved by a fraction of a
    pixel has no steps.
    """
    if rng.random() < 0.5:
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = 1 + sum(
            rng.uniform(0.05, 0.22) * np.cos(k * angles + rng.uniform(0, 2 * np.pi))
            for k in (2, 3, 4)
        )
    else:
        corners = int(rng.integers(3, 7))
        angles = (np.arange(corners) + rng.uniform(-0.25, 0.25, corners)) * 2 * np.pi / corners
        radius = rng.uniform(0.8, 1.2, corners)
    points = np.stack(
        [radius * np.cos(angles), radius * np.sin(angles) * rng.uniform(0.6, 0.85)], 1
    )
    x, y = points.T
    area = abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2
    points *= SOURCE * diameter / 2 * np.sqrt(np.pi / area)
    side = int(2 * np.ceil(np.abs(points).max() + 2 * SOURCE)) + 1
    alpha = np.zeros((side, side), np.uint8)
    corners_16 = np.round((points + side // 2) * 16).astype(np.int32)  # 1/16 pixels
    cv2.fillPoly(alpha, [corners_16], 255, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(alpha, (0, 0), SOURCE * 0.35).astype(np.float32) / 255


def random_actor(
    rng: np.random.Generator,
    diameter: float,
    ground: np.ndarray | None = None,
    separation: float | None = None,
) -> Actor:
    """An Actor of random shape and texture; with `ground` (h,w,3), its mean color is
    `separation` gray levels away.

    The distance is Euclidean in RGB; the texture is always drawn separately, so even
    separation 0 leaves an edge.
    """
    alpha = random_shape(rng, diameter)
    texture = random_texture(rng, *alpha.shape, grain=SOURCE)
    if ground is not None:
        direction = rng.normal(size=3)
        direction *= separation / np.linalg.norm(direction)
        mean = ground.mean((0, 1))
        outside = [np.abs(mean + sign * direction - 127).max() for sign in (1, -1)]
        mean = np.clip(mean + (direction if outside[0] <= outside[1] else -direction), 15, 240)
        texture = np.clip(texture + (mean - texture.mean((0, 1))), 0, 255).astype(np.float32)
    return Actor(texture, alpha)


def paste(frame: np.ndarray, actor: Actor, pose: Sequence[float]) -> np.ndarray:
    """Draw `actor` at `pose` (x, y, scale, angle) into `frame` (H,W,3) float32 in place;
    returns its alpha (H,W).

    x, y in pixels (the center of the first pixel is 0,0), scale 1 = its own size, angle in
    radians, by an affine warp.
    """
    x, y, scale, angle = pose
    middle = (actor.alpha.shape[0] - 1) / 2
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = scale / SOURCE * rotation
    matrix = np.column_stack([turn, np.array([x, y]) - turn @ (middle, middle)])
    source = np.dstack([actor.texture * actor.alpha[..., None], actor.alpha])
    warped = cv2.warpAffine(source, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR)
    frame *= 1 - warped[..., 3:]
    frame += warped[..., :3]
    return warped[..., 3]


def render(
    background: np.ndarray,
    actors: Sequence[Actor],
    poses: np.ndarray,
    camera: np.ndarray,
    size: tuple[int, int],
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render actors on a ground.

    background (h,w,3) float32, larger than the frame; actors: A of Actor, later ones in
    front; poses (A,F,4): x, y, scale, angle in the frame (see `paste`), NaN where the actor
    is absent; camera (F,2): x, y of the frame's corner on the background; size (H,W);
    noise: deviation in gray levels, drawn from rng. Returns frames (F,H,W,3) uint8, masks
    (A,F,H,W) bool: what is visible of each actor, and visible (A,F) float32: the part of
    the actor's area that this is, 0 where it is absent.
    """
    poses = np.asarray(poses, np.float64).reshape(len(actors), len(camera), 4)
    frames = np.empty((len(camera), *size, 3), np.uint8)
    masks = np.zeros((len(actors), len(camera), *size), bool)
    visible = np.zeros((len(actors), len(camera)), np.float32)
    areas = [float((actor.alpha >= 0.5).sum()) / SOURCE**2 for actor in actors]
    for f, (x, y) in enumerate(camera):
        shift = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
        frame = cv2.warpAffine(
            background, shift, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for a, actor in enumerate(actors):
            if np.isfinite(poses[a, f]).all():
                masks[a, f] = paste(frame, actor, poses[a, f]) >= 0.5
                masks[:a, f] &= ~masks[a, f]
        for a, area in enumerate(areas):
            if masks[a, f].any():
                visible[a, f] = masks[a, f].sum() / (area * poses[a, f, 2] ** 2)
        if noise:
            frame += rng.normal(0, noise, frame.shape)
        frames[f] = np.clip(np.rint(frame), 0, 255)
    return frames, masks, visible


def tight_boxes(masks: np.ndarray) -> np.ndarray:
    """masks (F,H,W) bool → int32 (F,4): half-open corners x0, y0, x1, y1 around each mask,
    all 0 where it is empty.
    """
    boxes = np.zeros((len(masks), 4), np.int32)
    for f, mask in enumerate(masks):
        if mask.any():
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            boxes[f] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def write_video(path: str | Path, frames: np.ndarray, rate: int = 25) -> None:
    """Write frames (F,H,W,3) uint8 RGB, H and W even, as .avi: MPEG-4 part 2, key frame
    every 12, no B-frames.
    """
    with av.open(str(path), "w", format="avi", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(
            "mpeg4", rate=rate, options={"bf": "0", "flags": "+qscale+bitexact"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.gop_size, context.thread_count = 12, 1
        context.options = {**context.options, "global_quality": str(3 * 118)}
        for frame in frames:
            pixels = np.ascontiguousarray(frame)
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
