"""Scenes around real silhouettes: what one rendered video of experiments/silhouettes/make.py
shows, and how it is drawn.

World coordinates are the pixels of the original masks (240x320); the camera maps them to
the picture by a scale and a shift of its own in every frame. Everything is drawn from named
seeds: nothing here is told the class of a clip.
"""

from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from claus.datasets.sprites import random_shape
from claus.experiments.silhouettes.textures import (
    PATTERNS,
    Domain,
    Style,
    dressed,
    ground_texture,
)

LEAST_SEEN = 24  # pixels of the actor that every frame shows at least
TRIES = 6  # with half the camera motion, shift and cover each time, then none of them


@dataclass(frozen=True)
class Knobs:
    """What sets how hard the videos are. Ranges are (low, high), drawn evenly for each
    video, but for visibility.
    """

    height: int = 96  # of the picture, pixels
    width: int = 128
    domains: int = 24  # looks: patterns and colors of ground and things, camera style, noise
    rarity: float = 1.0  # domain k is as frequent as 1 / (k+1)^rarity
    silhouettes: float = (
        0.3  # mean number of single-frame silhouettes that move rigidly (Poisson)
    )
    objects: float = 0.4  # mean number of blobs and polygons that move rigidly (Poisson)
    most_things: int = 4  # silhouettes and objects together, at most
    thing_speed: tuple = (0.0, 5.0)  # world pixels a frame
    # 1: a texture of its own; 0: a shifted piece of the ground's
    visibility: tuple = (0.15, 1.0)
    visible: float = 2.5  # the higher, the fewer are hard to see; 1: all visibilities alike
    # of the actor across the world, world pixels a frame, where it has room
    actor_speed: tuple = (1.0, 9.0)
    camera_drift: float = 0.5  # deviation of the camera's speed, world pixels a frame
    camera_shake: float = 0.5  # deviation of its jitter, world pixels
    zoom: float = 0.003  # deviation of its growth per frame, natural logarithm
    scale: tuple = (0.95, 1.3)  # of the world in the picture; 1: the world just fills it
    occluders: float = 0.1  # probability of a still thing in front of the actor
    most_hidden: float = (
        0.3  # part of the actor that things in front may hide, mean over the frames
    )
    twins: float = 0.4  # probability that a clip shares the looks of its source video
    noise: tuple = (0.0, 4.0)  # deviation of the pixel noise, gray levels
    flicker: float = 0.02  # deviation of the brightness from frame to frame

    def to_dict(self):
        return asdict(self)


LEVELS = {
    "plain": Knobs(
        domains=4,
        rarity=0.0,
        silhouettes=0.0,
        objects=0.0,
        visibility=(0.7, 1.0),
        visible=1.0,
        actor_speed=(0.0, 0.0),
        camera_drift=0.2,
        camera_shake=0.3,
        zoom=0.0,
        scale=(1.0, 1.1),
        occluders=0.0,
        twins=0.0,
        noise=(0.0, 3.0),
        flicker=0.0,
    ),
    "hard": Knobs(),
    "severe": Knobs(
        silhouettes=1.5,
        objects=1.0,
        visibility=(0.1, 1.0),
        visible=1.0,
        camera_drift=1.0,
        camera_shake=0.8,
        zoom=0.004,
        scale=(0.7, 1.25),
        occluders=0.3,
        most_hidden=0.5,
        noise=(0.0, 7.0),
    ),
}


def draw_visibility(rng, knobs):
    """How visible an actor or a thing is, in the range of the knob; mostly well (knob
    `visible`).
    """
    low, high = knobs.visibility
    return high - (high - low) * rng.uniform() ** knobs.visible


def make_domains(knobs, seed):
    """(list of Domain, probability of each): the first are the most frequent."""
    rng = np.random.default_rng([seed, 11])

    def style():
        return Style(
            str(rng.choice(PATTERNS)),
            float(np.exp(rng.uniform(np.log(4), np.log(30)))),
            (rng.uniform(0, 360), rng.uniform(0.05, 0.7), rng.uniform(0.25, 0.85)),
            rng.uniform(15, 45),
        )

    found = []
    for _ in range(knobs.domains):
        grounds = style(), style()
        others = style(), style(), style()
        camera = float(rng.choice((0.3, 1.0, 1.7)))
        found.append(Domain(grounds, others, camera, rng.uniform(0, 1)))
    weights = (1 + np.arange(knobs.domains)) ** -float(knobs.rarity)
    return found, weights / weights.sum()


# ----------------------------------------------------------------------- what is in a scene


@dataclass(frozen=True, eq=False)
class Thing:
    """A rigid thing: texture (S,S,3), alpha (S,S) in 0…1, world pixels; x, y and angle of
    its middle (F,3); depth: drawn before the actor where it is negative, after it where
    positive.
    """

    texture: np.ndarray
    alpha: np.ndarray
    path: np.ndarray
    depth: int


def moved_across(rng, knobs, masks):
    """The masks (F,H,W) bool of an actor that crosses the world, straight on or to and fro,
    besides moving its limbs.

    It stays inside its frame. Across an edge that cuts it, it does not move; a cut below
    leaves it the way sideways.
    """
    frames, height, width = masks.shape
    rows, columns = np.flatnonzero(masks.any((0, 2))), np.flatnonzero(masks.any((0, 1)))
    times, speed = np.arange(frames), rng.uniform(*knobs.actor_speed) * rng.choice((-1, 1))
    along, period = speed * times, rng.uniform(20, 50)
    if rng.random() < 0.35:
        along = speed * period / 6 * np.sin(2 * np.pi * (times / period + rng.uniform()))
    shifts = []
    for length, inside, share in (
        (height, rows, rng.uniform(-0.4, 0.4)),
        (width, columns, 1.0),
    ):
        room = length - 3 - np.ptp(inside) if 0 < inside[0] and inside[-1] < length - 1 else 0
        path = along * share
        path *= min(1.0, max(room, 0) / max(np.ptp(path), 1e-9))
        if room > 0:  # anywhere inside the frame
            path += 1 - inside[0] - path.min() + rng.uniform() * max(room - np.ptp(path), 0)
        shifts.append(np.rint(path).astype(int))
    shifts = zip(*shifts, strict=True)
    return np.stack(
        [np.roll(mask, shift, (0, 1)) for mask, shift in zip(masks, shifts, strict=True)]
    )


def make_camera(rng, knobs, domain, masks, effort):
    """Scale and shift of the camera (F,3): picture = scale * world + (shift_x, shift_y),
    pixels between centers left aside. Where the real mask is cut by an edge of its frame,
    that edge stays outside the picture. effort: 1 … 0.
    """
    frames, height, width = masks.shape
    rows, columns = np.flatnonzero(masks.any((0, 2))), np.flatnonzero(masks.any((0, 1)))
    box = np.array([[columns[0], columns[-1] + 1], [rows[0], rows[-1] + 1]], float)
    world, picture = np.array([width, height]), np.array([knobs.width, knobs.height])
    times = np.arange(frames) - (frames - 1) / 2
    fit = picture[1] / height
    strength = effort * domain.camera
    growth = rng.normal(0, knobs.zoom) * strength * times
    scale = fit * np.exp(np.log(rng.uniform(*knobs.scale)) * effort + growth)
    period, phase = rng.uniform(15, 60, 2), rng.uniform(0, 2 * np.pi, 2)
    speed = rng.normal(0, knobs.camera_drift, 2) * (1, 0.5) * strength
    sway = 4 * rng.normal(0, knobs.camera_drift, 2) * strength
    motion = speed * times[:, None] + sway * np.sin(2 * np.pi * times[:, None] / period + phase)
    motion += rng.normal(0, knobs.camera_shake, (frames, 2)) * strength
    camera = np.empty((frames, 3))
    wish = rng.uniform(0, 1, 2)
    for axis in (0, 1):
        low, high = box[axis]
        if low <= 0 and high >= world[axis]:  # cut on both sides: it fills the picture
            scale *= max(1, (picture[axis] + 2) / (scale.min() * world[axis]))
    for axis in (0, 1):
        low, high = box[axis]
        cut = low <= 0, high >= world[axis]
        moved = scale * motion[:, axis]
        middle = scale * (low + high) / 2
        free = max(picture[axis] - (high - low) * scale.mean(), 0)  # room to place the actor in
        shift = picture[axis] / 2 + (wish[axis] - 0.5) * free * effort - middle + moved
        if all(cut):
            shift = np.clip(shift, picture[axis] - scale * world[axis], 0)
        elif cut[0]:
            shift += min(0, -shift.max())
        elif cut[1]:
            shift += max(0, (picture[axis] - scale * world[axis] - shift).max())
        camera[:, 1 + axis] = shift
    camera[:, 0] = scale
    return camera


def moving_path(rng, knobs, frames, start, angle_too):
    """A rigid thing's path (F,3): straight on, or to and fro, sometimes turning too."""
    times = np.arange(frames) - rng.uniform(0, frames)
    heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(*knobs.thing_speed)
    along = speed * times
    if rng.random() < 0.35:
        period = rng.uniform(12, 40)
        along = speed * period / 6 * np.sin(2 * np.pi * times / period)
    turn = rng.normal(0, 0.06) * times if angle_too else 0 * times
    return np.stack(
        [start[0] + along * np.cos(heading), start[1] + 0.4 * along * np.sin(heading), turn],
        axis=1,
    )


def silhouette_thing(rng, knobs, domain, ground, donor, frames):
    """A Thing of a mask (H,W) bool of another clip, standing where it stood in its own
    frame, moved as a whole.
    """
    rows, columns = np.flatnonzero(donor.any(1)), np.flatnonzero(donor.any(0))
    middle = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    size = 2 * int(max(np.ptp(rows), np.ptp(columns)) / 2 + 4)
    alpha = np.zeros((size, size), np.float32)
    cut = donor[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cut = cut[:, ::-1] if rng.random() < 0.5 else cut
    top, left = (size - cut.shape[0]) // 2, (size - cut.shape[1]) // 2
    alpha[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    dressing = dressed(
        rng,
        domain,
        ground,
        size,
        draw_visibility(rng, knobs),
        body_bands(rng, size, cut.shape[0]),
    )
    start = rng.uniform(-20, donor.shape[1] + 20), middle[1] + rng.uniform(-25, 10)
    path = moving_path(rng, knobs, frames, start, False)
    if (
        rows[-1] == donor.shape[0] - 1
    ):  # cut by the lower edge of its frame: moves along that edge
        path[:, 1] = middle[1]
    return Thing(dressing, cv2.GaussianBlur(alpha, (0, 0), 0.8), path, int(rng.choice((-1, 1))))


def object_thing(rng, knobs, domain, ground, frames, world, still=False):
    """A Thing of a random shape; `still`: one that does not move."""
    # which draws two pixels per pixel of its own
    alpha = random_shape(rng, rng.uniform(25, 80) / 2)
    dressing = dressed(rng, domain, ground, len(alpha), draw_visibility(rng, knobs), [])
    start = rng.uniform(0, world[0]), rng.uniform(0.2 * world[1], world[1])
    path = moving_path(rng, knobs, frames, start, True)
    path = np.repeat(path[:1], frames, axis=0) if still else path
    return Thing(dressing, alpha, path, int(rng.choice((-1, 1))))


def body_bands(rng, size, height):
    """Rows where the head, the upper body and the legs of a body of this height in the
    middle of `size` meet.
    """
    top = (size - height) / 2
    return [
        int(top + height * share) for share in (rng.uniform(0.12, 0.2), rng.uniform(0.4, 0.6))
    ]


# ---------------------------------------------------------------------------------- drawing


def matrix_of(camera, place=(0.0, 0.0, 0.0), middle=(0.0, 0.0)):
    """2x3 matrix from a thing's own pixels to the picture: turned and put at `place` in the
    world, then recorded.
    """
    scale, shift = camera[0], camera[1:]
    x, y, angle = place
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inner = np.array([x, y]) - turn @ np.asarray(middle)
    # pixel centers: the picture's (0,0) is the middle of its first pixel
    return np.column_stack([scale * turn, scale * (inner + 0.5) + shift - 0.5])


def put(frame, picture, alpha, matrix):
    """Blend `picture` with `alpha` into `frame` in place; returns the alpha (H,W) in the
    frame.
    """
    size = frame.shape[1::-1]
    over = cv2.warpAffine(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    cover = cv2.warpAffine(alpha, matrix, size, flags=cv2.INTER_LINEAR)
    frame += cover[..., None] * (over - frame)
    return cover


@dataclass(frozen=True, eq=False)
class Scene:
    """A ready scene: ground (half the world's pixels), the actor's dressing and body center
    (F,2), things, camera.
    """

    ground: np.ndarray
    dressing: np.ndarray
    center: np.ndarray
    things: tuple
    camera: np.ndarray
    noise: float
    flicker: np.ndarray


GROUND = 0.5  # pixels of the ground's picture per world pixel
MARGIN = 160  # world pixels of it beyond each edge of the frame


def plan(masks, donors, knobs, domain, looks, action, effort=1.0):
    """The Scene of a clip. masks (F,H,W) bool; donors: masks (H,W) of other clips, of which
    it takes what it needs; looks, action: generators of what clips of one source may share, and
    of what is the clip's own.
    """
    frames, height, width = masks.shape
    shape = [int(GROUND * (side + 2 * MARGIN)) for side in (height, width)]
    ground = ground_texture(looks, domain, *shape, GROUND)
    full = cv2.resize(ground, None, fx=1 / GROUND, fy=1 / GROUND)
    tall = [np.ptp(np.flatnonzero(mask.any(1))) + 1 for mask in masks]
    size = 2 * max(height, width)
    dressing = dressed(
        looks,
        domain,
        full,
        size,
        draw_visibility(looks, knobs),
        body_bands(looks, size, float(np.median(tall))),
    )
    rows, columns = np.mgrid[:height, :width]
    center = np.stack([[columns[mask].mean(), rows[mask].mean()] for mask in masks])
    center = (
        cv2.GaussianBlur(center, (1, 0), sigmaX=0.1, sigmaY=2, borderType=cv2.BORDER_REPLICATE)
        if frames > 1
        else center
    )
    camera = make_camera(action, knobs, domain, masks, effort)
    counts = np.minimum(action.poisson((knobs.silhouettes, knobs.objects)), knobs.most_things)
    counts[1] = min(counts[1], knobs.most_things - counts[0])
    things = [
        silhouette_thing(action, knobs, domain, full, donors[i], frames)
        for i in action.choice(len(donors), min(counts[0], len(donors)), replace=False)
    ]
    things += [
        object_thing(action, knobs, domain, full, frames, (width, height))
        for _ in range(counts[1])
    ]
    if action.random() < knobs.occluders * effort:
        still = object_thing(action, knobs, domain, full, frames, (width, height), still=True)
        at = center.mean(0) + action.normal(0, 0.25, 2) * np.median(tall)
        things.append(
            replace(still, path=np.tile([*at, action.uniform(0, 6)], (frames, 1)), depth=1)
        )
    if effort == 0:
        things = [replace(thing, depth=-1) for thing in things]
    noise = knobs.noise[0] + domain.noise * action.uniform() ** 0.5 * (
        knobs.noise[1] - knobs.noise[0]
    )
    return Scene(
        ground,
        dressing,
        center,
        tuple(things),
        camera,
        noise,
        1 + knobs.flicker * action.normal(size=frames),
    )


def draw(masks, scene, knobs, rng):
    """Film a scene: frames (F,h,w,3) uint8, what is seen of the actor (F,h,w) bool, and its
    whole mask (F,h,w) bool.
    """
    count, size = len(masks), (knobs.height, knobs.width)
    frames, seen, whole = (
        np.empty((count, *size, 3), np.uint8),
        *np.empty((2, count, *size), bool),
    )
    middle = (scene.dressing.shape[1] - 1) / 2, (scene.dressing.shape[0] - 1) / 2
    for f in range(count):
        camera = scene.camera[f]
        wide = np.array([camera[0] / GROUND, *camera[1:]])
        at = np.full(2, MARGIN * GROUND)
        frame = cv2.warpAffine(
            scene.ground,
            matrix_of(wide, (-at[0], -at[1], 0)),
            size[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        for thing in scene.things:
            if thing.depth < 0:
                put_thing(frame, thing, camera, f)
        soft = cv2.GaussianBlur(
            masks[f].astype(np.float32), (0, 0), 0.7, borderType=cv2.BORDER_REPLICATE
        )
        cover = cv2.warpAffine(soft, matrix_of(camera), size[::-1], flags=cv2.INTER_LINEAR)
        matrix = matrix_of(camera, (*scene.center[f], 0), middle)
        over = cv2.warpAffine(
            scene.dressing,
            matrix,
            size[::-1],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        frame += cover[..., None] * (over - frame)
        whole[f] = cover >= 0.5
        seen[f] = whole[f]
        for thing in scene.things:
            if thing.depth > 0:
                seen[f] &= put_thing(frame, thing, camera, f) < 0.5
        frame = frame * scene.flicker[f] + rng.normal(0, 1, frame.shape) * scene.noise
        frames[f] = np.clip(np.rint(frame), 0, 255)
    return frames, seen, whole


def put_thing(frame, thing, camera, f):
    middle = (len(thing.alpha) - 1) / 2
    return put(
        frame, thing.texture, thing.alpha, matrix_of(camera, thing.path[f], (middle, middle))
    )


def render_scene(masks, donors, knobs, domains, odds, looks_seed, action_seed):
    """Render one clip: frames (F,h,w,3) uint8, masks (F,h,w) bool of what is seen of the
    actor, and its domain.

    masks (F,H,W) bool; donors: masks (H,W) of other clips to be moved rigidly. Tries milder
    cameras and less in front where too little of the actor would be seen.
    """
    for attempt in range(TRIES):
        effort = 0.5**attempt if attempt < TRIES - 1 else 0.0
        looks, action = (
            np.random.default_rng(looks_seed),
            np.random.default_rng([*action_seed, attempt]),
        )
        number = int(looks.choice(len(domains), p=odds))
        actor = moved_across(action, knobs, masks) if effort else masks
        scene = plan(actor, donors, knobs, domains[number], looks, action, effort)
        frames, seen, whole = draw(actor, scene, knobs, action)
        hidden = 1 - seen.sum() / max(whole.sum(), 1)
        inside = whole.sum((1, 2)) / (masks.sum((1, 2)) * scene.camera[:, 0] ** 2)
        if (
            seen.sum((1, 2)).min() >= LEAST_SEEN
            and hidden <= knobs.most_hidden
            and inside.mean() > 0.75
        ):
            break
    return frames, seen, number
