"""Make a small data set in the form of UCF-101-24, so that the whole cycle runs without a
download.

    python -m claus.datasets.toy data/toy

writes below that folder, in a few seconds on one core:

    videos/<Class>/v_<Class>_gXX_cYY.avi   MPEG-4 part 2, 25 fps, a key frame every 12, no
                                           B-frames
    pyannot.pkl                            the corrected-annotations form (see `record`),
                                           boxes in UCF's convention
    testlist01.txt                         names of the test videos, one a line; all others
                                           are training
    toy.json                               the parameters, so that a second call does
                                           nothing

A fair miniature of the problem:
- Six classes that differ only in the motion of their actors: Bounce (up and down), Circle
  (an orbit), Pulse (grows and shrinks), Rock (rotates back and forth), Spin (rotates),
  Sway (left and right). Color, texture, shape, size, number and position of the actors are
  drawn from the same distributions for every class of the same difficulty.
- Actors are textured patches on a textured ground that a camera pans over; an actor lives
  on the ground, so an action is motion relative to the ground. A still patch (an actor
  before or after its action, or a distractor in some videos) is never annotated.
- Videos are untrimmed: each actor comes and goes at its own time, and most videos have
  stretches without any action.
- Training videos have a long tail: Bounce and Spin are frequent and easy, with a few groups
  (gXX) of near-duplicates; the other four are rarer, in many small groups whose difficulty
  (low contrast, small, several actors, fast ground, noise) runs over the whole range. Test
  videos are balanced over the classes, all in new groups, with the same difficulties in
  every class.
- Textures and shapes come from a few scenes that all classes of the training part share, so
  that appearance does not reveal the class even where few videos are labeled; every test
  video has its own scene.
"""

import argparse
import glob
import json
import os
import pickle
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from claus.datasets.sprites import (
    paste,
    random_actor,
    random_texture,
    render,
    tight_boxes,
    write_video,
)
from claus.utils.pyav import av
from claus.utils.runtime import UserError, parse_json, run_script

CLASSES = ("Bounce", "Circle", "Pulse", "Rock", "Spin", "Sway")
TRAIN_SHARE = {
    "Bounce": 0.25,
    "Spin": 0.225,
    "Sway": 0.15,
    "Circle": 0.125,
    "Pulse": 0.125,
    "Rock": 0.125,
}
FREQUENT = ("Bounce", "Spin")
TRAIN_SCENES = 12  # looks (textures and shapes) of the training part
VERSION = 3  # of what is drawn; raise it when the same parameters give other videos


# ---- what the classes are ----------------------------------------------------------------


def motion(
    kind: str,
    times: np.ndarray,
    period: float,
    strength: float,
    direction: int,
    phase: float,
) -> np.ndarray:
    """The displacement (n,4) = dx, dy, ln scale, angle of an actor of class `kind` at
    `times` (frames, n).

    strength in 0…1 of the class's own range (8…12 pixels up and 10…15 across, a factor
    1.35…1.55, 35…55 degrees); direction ±1; period in frames; phase in radians.
    """
    turn = 2 * np.pi * np.asarray(times) / period + phase
    move = np.zeros((len(turn), 4))
    up = 8 + 4 * strength
    across = 1.25 * up  # frames are wider than high, and become square clips
    if kind == "Bounce":
        move[:, 1] = up * np.sin(turn)
    elif kind == "Sway":
        move[:, 0] = across * np.sin(turn)
    elif kind == "Circle":
        move[:, 0], move[:, 1] = (
            0.9 * across * np.cos(turn),
            direction * 0.9 * up * np.sin(turn),
        )
    elif kind == "Pulse":
        move[:, 2] = (0.3 + 0.14 * strength) * np.sin(turn)
    elif kind == "Rock":
        move[:, 3] = np.radians(35 + 20 * strength) * np.sin(turn)
    elif kind == "Spin":
        move[:, 3] = direction * turn
    else:
        raise ValueError(f"no such class: {kind}")
    return move


# ---- one video ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One video to be made; difficulty (0 easy … 1 hard): the range it is drawn from, once
    per group; duplicate: the videos of its group repeat one scene with small changes;
    scene: number of its look, shared by classes.
    """

    name: str
    kind: str
    group: int
    scene: int
    difficulty: tuple[float, float]
    duplicate: bool
    test: bool


def plan(train: int, test: int) -> list[Plan]:
    """The Plans of `train` + `test` videos, sorted by name; test groups come first in each
    class, as in UCF-101.
    """
    shares = (
        (test, dict.fromkeys(CLASSES, 1 / len(CLASSES)), True),
        (train, TRAIN_SHARE, False),
    )
    plans, groups, last = [], 0, dict.fromkeys(CLASSES, 0)
    for total, share, is_test in shares:
        for kind, count in _apportion(total, share).items():
            duplicate = kind in FREQUENT and not is_test
            members = 1 if is_test else 6 if duplicate else 2
            for i in range(count):
                difficulty = (0.0, 0.4) if duplicate else (0.0, 1.0)
                if is_test:  # steps from easy to hard, the same in every class
                    difficulty = (0.8 * i / count, 0.8 * (i + 1) / count)
                if i % members == 0:
                    groups, last[kind] = groups + 1, last[kind] + 1
                name = f"{kind}/v_{kind}_g{last[kind]:02d}_c{i % members + 1:02d}"
                scene = TRAIN_SCENES + groups if is_test else groups % TRAIN_SCENES
                plans.append(Plan(name, kind, groups, scene, difficulty, duplicate, is_test))
    return sorted(plans, key=lambda item: item.name)


def _apportion(total, shares):
    """Split `total` over the classes by largest remainder, at least one each (so total must
    be 6 or more).
    """
    counts = {kind: max(1, int(total * share)) for kind, share in shares.items()}
    order = sorted(shares, key=lambda kind: counts[kind] - total * shares[kind])
    for i in range(total - sum(counts.values())):
        counts[order[i % len(order)]] += 1
    while sum(counts.values()) > total:
        counts[max(counts, key=counts.get)] -= 1
    return counts


def draw_video(
    seed: int, index: int, item: Plan, size: tuple[int, int] = (72, 96)
) -> tuple[np.ndarray, dict]:
    """Draw video `index`, a Plan `item`: frames (F,H,W,3) uint8 and its record (see
    `record`).

    The look comes from the scene's random numbers, its use (contrast, sizes, actors) from
    the group's, the rest from the video's: the same for the same seed.
    """
    rng, group, look = (
        np.random.default_rng([seed, kind, number])
        for kind, number in enumerate((index, item.group, item.scene))
    )
    unit = min(size[0] / 72, size[1] / 96)
    hard = group.uniform(*item.difficulty)
    margin = int(np.ceil(12 * unit))
    ground = random_texture(look, size[0] + 2 * margin, size[1] + 2 * margin, grain=unit)
    count = 1 + int(group.choice(3, p=(0.85, 0.15, 0) if hard < 0.3 else (0.5, 0.3, 0.2)))
    shrink = unit * (1.0, 0.9, 0.75)[count - 1]
    diameters = shrink * (27 - 7 * hard + group.uniform(-3, 3, count))
    separation = (115 - 75 * hard) * group.uniform(0.8, 1.2)
    actors = [random_actor(look, diameter, ground, separation) for diameter in diameters]
    if group.random() < 0.3:
        still = random_actor(look, diameters[0], ground, separation)
        place = margin + group.uniform(0.15, 0.85, 2) * size[::-1]
        paste(ground, still, (*place, 1.0, group.uniform(0, 2 * np.pi)))
    scene = group if item.duplicate else rng
    moves = _draw_moves(scene, item.kind, diameters, shrink, size)
    speed = unit * (0.1 + 0.5 * hard) * scene.uniform(0.5, 1.2)
    if item.duplicate:
        moves["place"] += rng.normal(0, 1.5 * unit, (count, 2))
        moves["period"] *= rng.uniform(0.95, 1.05, count)
        moves["strength"] = np.clip(moves["strength"] + rng.uniform(-0.1, 0.1, count), 0, 1)

    length = int(rng.integers(40, 81))
    pan = _pan(rng, length, speed, margin - 1)
    poses = np.full((count, length, 4), np.nan)
    acting = np.zeros((count, length), bool)
    for a in range(count):
        acting[a], shown = _timeline(rng, length)
        times = np.clip(np.arange(length), *np.flatnonzero(acting[a])[[0, -1]])
        move = motion(
            item.kind,
            times - times[0],
            *(moves[key][a] for key in ("period", "strength", "direction")),
            rng.uniform(0, 2 * np.pi),
        )
        poses[a, :, :2] = moves["place"][a] + shrink * move[:, :2] - pan
        poses[a, :, 2] = np.exp(move[:, 2])
        poses[a, :, 3] = moves["angle"][a] + move[:, 3]
        poses[a, ~shown] = np.nan
    frames, masks, visible = render(
        ground, actors, poses, margin + pan, size, noise=2 + 4 * hard, rng=rng
    )
    return frames, record(
        CLASSES.index(item.kind), length, size, masks, acting & (visible >= 0.3)
    )


def _draw_moves(rng, kind, diameters, scale, size):
    """Places (A,2; x, y in pixels, far enough from the edges and each other), and how each
    of A actors moves.
    """
    count = len(diameters)
    border = 0.55 * diameters[:, None] + scale * np.array([15, 12])
    low, high = (
        np.minimum(border, np.array(size[::-1]) / 2),
        np.maximum(size[::-1] - border, np.array(size[::-1]) / 2),
    )
    best, best_gap = None, -np.inf
    for _ in range(100):
        place = rng.uniform(low, high)
        gap = min(
            (
                np.linalg.norm(place[a] - place[b]) - (diameters[a] + diameters[b]) / 2
                for a in range(count)
                for b in range(a)
            ),
            default=np.inf,
        )
        if gap > best_gap:
            best, best_gap = place, gap
        if gap > 8 * scale:
            break
    periods = (16, 26) if kind == "Spin" else (10, 18)
    return {
        "place": best,
        "period": rng.uniform(*periods, count),
        "strength": rng.uniform(0, 1, count),
        "direction": rng.choice([-1, 1], count),
        "angle": rng.uniform(0, 2 * np.pi, count),
    }


def _pan(rng, length, speed, most):
    """The camera's way (F,2) in pixels about 0: a slow oscillation, at most `speed` a frame
    and `most` from 0.
    """
    period = rng.uniform(60, 140)
    reach = min(most, speed * period / (2 * np.pi))
    heading, phases = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi, 2)
    turn = 2 * np.pi * np.arange(length)[:, None] / period + phases
    return reach * np.array([np.cos(heading), np.sin(heading)]) * np.sin(turn)


def _timeline(rng, length):
    """When one actor acts and when it is shown, two (F,) bool: 20 frames of action at
    least, at times with a gap.
    """
    start = 0 if rng.random() < 0.15 else int(rng.uniform(0.05, 0.35) * length)
    end = length if rng.random() < 0.25 else length - int(rng.uniform(0.05, 0.3) * length)
    end = max(end, start + 20)
    acting = np.zeros(length, bool)
    acting[start:end] = True
    shown = acting.copy()
    if rng.random() < 0.25:  # it stands still before and after
        shown[max(0, start - int(rng.integers(4, 13))) : end + int(rng.integers(4, 13))] = True
    if rng.random() < 0.25 and end - start >= 36:
        middle, half = int(rng.integers(start + 16, end - 16)), int(rng.integers(4, 8))
        acting[middle - half : middle + half] = shown[middle - half : middle + half] = False
    return acting, shown


def record(
    label: int,
    length: int,
    size: tuple[int, int],
    masks: np.ndarray,
    annotated: np.ndarray,
) -> dict:
    """What pyannot.pkl holds of one video, in the conventions of the corrected UCF-101-24
    annotations.

    masks (A,F,H,W) bool, annotated (A,F) bool. Each unbroken run of an actor's annotated
    frames becomes one entry of "annotations": sf (first frame, from 0), ef (one past the
    last), label, boxes (ef-sf,4) x, y, w, h of 1-based inclusive corners with w = x2-x1
    (half-open, from 0: [x-1, x+w) by [y-1, y+h)), in the smallest unsigned type.
    """
    tubes = []
    for masks_F, annotated_F in zip(masks, annotated, strict=True):
        edges = np.flatnonzero(np.diff(np.r_[False, annotated_F, False]))
        for start, end in edges.reshape(-1, 2).tolist():
            boxes = tight_boxes(masks_F[start:end])
            ucf = np.column_stack([boxes[:, :2] + 1, boxes[:, 2:] - boxes[:, :2] - 1])
            ucf = ucf.astype(np.min_scalar_type(int(ucf.max())))
            tubes.append({"label": label, "ef": end, "boxes": ucf, "sf": start})
    return {
        "annotations": tubes,
        "numf": np.min_scalar_type(length).type(length),
        "label": label,
        "height": int(size[0]),
        "width": int(size[1]),
    }


# ---- the folder --------------------------------------------------------------------------


def make(
    folder: str | Path,
    seed: int = 0,
    train: int = 80,
    test: int = 30,
    size: tuple[int, int] = (72, 96),
) -> Path:
    """Make the data set at `folder`, whole or not at all; returns the folder as a Path.

    `train` and `test` videos (6 or more each), frames of `size` (H,W; even, 48 or more). A
    folder that already holds this set is not changed. Raises UserError for one that holds
    anything else, for parameters out of range, a full disk.
    """
    folder = Path(os.path.abspath(folder))
    stamp = {
        "format": "claus-toy",
        "version": VERSION,
        "seed": seed,
        "train": train,
        "test": test,
        "size": list(size),
    }
    _check(folder, stamp)
    if _already_there(folder, stamp):
        return folder
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary = Path(
            tempfile.mkdtemp(
                prefix=f".{folder.name}.{os.getpid()}.", suffix=".tmp", dir=folder.parent
            )
        )
        _fill(temporary, stamp)
        temporary.chmod(0o755)
        temporary.replace(folder)  # also takes the place of an empty folder
    except (OSError, av.error.FFmpegError) as error:
        if temporary is not None and _already_there(
            folder, stamp
        ):  # another process was faster
            return folder
        raise UserError(
            f"cannot make the toy data set at {folder}: {error.strerror or error}; "
            "free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _check(folder, stamp):
    seed, train, test, size = (stamp[key] for key in ("seed", "train", "test", "size"))
    if not all(isinstance(value, int) for value in (seed, train, test, *size)) or seed < 0:
        raise UserError(
            f"toy data set at {folder}: seed {seed}, {train} and {test} videos, size "
            f"{size} cannot be made; give whole numbers, the seed 0 or more"
        )
    if min(train, test) < len(CLASSES):
        raise UserError(
            f"toy data set at {folder}: {train} training and {test} test videos asked for; "
            f"ask for {len(CLASSES)} or more of each, one for every class"
        )
    if len(size) != 2 or min(size) < 48 or any(length % 2 for length in size):
        raise UserError(
            f"toy data set at {folder}: frames of size {size} cannot be made; "
            "give two even numbers (height, width) of 48 or more"
        )


def _already_there(folder, stamp):
    """True if `folder` holds this set, False if there is nothing; UserError if there is
    something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = parse_json((folder / "toy.json").read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != stamp["format"]:
        raise UserError(
            f"{folder} holds something other than a toy data set; choose another place"
        )
    differ = [
        f"{key} {found.get(key)} instead of {value}"
        for key, value in stamp.items()
        if found.get(key) != value
    ]
    if differ:
        raise UserError(
            f"{folder} holds a toy data set with {', '.join(differ)}; "
            "delete the folder, or choose another place"
        )
    return True


def _remove_leftovers(folder):
    """Delete what killed calls left beside `folder`: the name holds the number of a process
    that no longer runs.
    """
    for leftover in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
        number = leftover.name.split(".")[-3]
        if number.isdigit() and not _runs(int(number)):
            shutil.rmtree(leftover, ignore_errors=True)


def _runs(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fill(folder, stamp):
    plans, records = plan(stamp["train"], stamp["test"]), {}
    for index, item in enumerate(plans):
        frames, records[item.name] = draw_video(
            stamp["seed"], index, item, tuple(stamp["size"])
        )
        path = folder / "videos" / f"{item.name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames)
    (folder / "pyannot.pkl").write_bytes(pickle.dumps(records, protocol=4))
    (folder / "testlist01.txt").write_text(
        "".join(f"{item.name}\n" for item in plans if item.test)
    )
    (folder / "toy.json").write_text(json.dumps(stamp, indent=1) + "\n")


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m claus.datasets.toy", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "folder", nargs="?", default="data/toy", help="where to (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another set (default: %(default)s)"
    )
    parser.add_argument(
        "--train", type=int, default=80, help="training videos (default: %(default)s)"
    )
    parser.add_argument(
        "--test", type=int, default=30, help="test videos (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    make(args.folder, args.seed, args.train, args.test)
    print(
        f"{args.folder}: {args.train} training and {args.test} test videos of "
        f"{len(CLASSES)} classes"
    )


if __name__ == "__main__":
    run_script(main)
