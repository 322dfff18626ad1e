"""Make weights/small_encoder.pt: the small network's encoder, pretrained on made motion
without any benchmark label.

    python weights/pretrain_small.py            # about 20 minutes on two CPU cores

Plays for the small network the part that Charades weights play for the full one. Textured
patches move over a panned ground along smooth random paths (every mixture of shift, turn
and size, drawn anew; no class, no data set). It learns to say, for each cell of its last
layer, whether something there moves against the ground in each of the 8 frames, and how:
how far the patch goes across and up, how much it grows and turns, and its path. Only the
encoder is kept.
"""

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claus.artifacts.checkpoint import ENCODER, save  # noqa: E402
from claus.datasets.sprites import random_actor, random_texture, render  # noqa: E402
from claus.models import BACKBONES  # noqa: E402
from claus.models.i3d import SPATIAL_STRIDES  # noqa: E402
from claus.models.input import normalize  # noqa: E402
from claus.utils.runtime import run_script  # noqa: E402

SMALL = BACKBONES["small"]
SIZE, FRAMES, MARGIN = SMALL.network["size"], 8, 16
PATH = 5  # numbers that describe a pose: x, y, ln scale, cos, sin of the turned angle
# and a whole motion: deviation of x, y, ln scale, angle; speed of turning; correlation of x
# and y
EXTENT = 6


def smooth_path(rng, times):
    """A random motion (n,4) = dx, dy, ln scale, angle at `times` (frames): drift plus
    oscillation of each, or none.
    """
    path = np.zeros((len(times), 4))
    for axis, (swing, drift) in enumerate(((14, 0.6), (11, 0.6), (0.4, 0.01), (0.9, 0.35))):
        if rng.random() < 0.5:
            period = rng.uniform(8, 40)
            turn = 2 * np.pi * times / period + rng.uniform(0, 2 * np.pi)
            path[:, axis] += rng.uniform(0.15, 1) * swing * np.sin(turn)
        if rng.random() < 0.3:
            path[:, axis] += rng.uniform(-1, 1) * drift * times
    return path


def made_clip(rng):
    """One made clip: frames uint8 (8,S,S,3), masks of what moves bool (A,8,S,S), and of
    each patch its path float32 (A,8*5) and extent (A,6).
    """
    ground = random_texture(rng, SIZE + 2 * MARGIN, SIZE + 2 * MARGIN)
    count = int(rng.integers(1, 4))
    actors = [
        random_actor(rng, rng.uniform(10, 30), ground, rng.uniform(30, 130))
        for _ in range(count)
    ]
    times = 2.0 * np.arange(FRAMES)
    moves = np.stack(
        [
            np.zeros((FRAMES, 4)) if rng.random() < 0.2 else smooth_path(rng, times)
            for _ in actors
        ]
    )
    moves[:, :, 2] = np.clip(moves[:, :, 2], -0.7, 0.7)
    pan = np.clip(
        rng.uniform(-8, 8, 2) + rng.normal(0, 0.25, 2) * times[:, None], 1 - MARGIN, MARGIN - 1
    )
    poses = (
        moves
        + np.concatenate(
            [
                rng.uniform(0.15, 0.85, (count, 2)) * SIZE,
                np.zeros((count, 1)),
                rng.uniform(0, 2 * np.pi, (count, 1)),
            ],
            axis=1,
        )[:, None]
    )
    poses[:, :, :2] -= pan
    poses[:, :, 2] = np.exp(moves[:, :, 2])
    frames, masks, _ = render(
        ground, actors, poses, MARGIN + pan, (SIZE, SIZE), rng.uniform(0, 7), rng
    )
    moving = np.ptp(moves, axis=1).max(1) > 1e-6
    return frames, masks & moving[:, None, None, None], path_of(moves), extent_of(moves)


def path_of(moves_A_F_4):
    """Poses relative to the mean (place, size) or the first (angle), about unit scale:
    float32 (A,8*5).
    """
    place, size, angle = moves_A_F_4[..., :2], moves_A_F_4[..., 2:3], moves_A_F_4[..., 3:]
    turned = angle - angle[:, :1]
    path = np.concatenate(
        [
            (place - place.mean(1, keepdims=True)) / 10,
            3 * (size - size.mean(1, keepdims=True)),
            np.cos(turned),
            np.sin(turned),
        ],
        axis=-1,
    )
    return path.reshape(len(path), -1).astype(np.float32)


def extent_of(moves_A_F_4):
    """How much a patch moves, about unit scale: float32 (A,6), see EXTENT."""
    deviation = moves_A_F_4.std(1) * (0.2, 0.2, 5, 1)
    speed = np.abs(np.diff(moves_A_F_4[..., 3], axis=1)).mean(1, keepdims=True) * 2
    x, y = (moves_A_F_4[..., k] - moves_A_F_4[..., k].mean(1, keepdims=True) for k in (0, 1))
    correlation = (x * y).mean(1, keepdims=True) / (
        x.std(1, keepdims=True) * y.std(1, keepdims=True) + 1
    )
    return np.concatenate(
        [np.minimum(deviation, 3), np.minimum(speed, 3), correlation], axis=1
    ).astype(np.float32)


class MadeClips(IterableDataset):
    """Endless made clips with their targets on the grid of the encoder's last layer (side
    S/8).

    -> frames uint8 (8,3,S,S), cover (8,G,G) in [0,1]: how much of each cell moves; path
    (8*5,G,G) and extent (6,G,G) of the patch that covers a cell most, known (G,G): cells
    that some moving patch covers.
    """

    def __init__(self, seed):
        self.seed = seed

    def __iter__(self):
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            frames, masks, paths, extents = made_clip(rng)
            cells = F.avg_pool2d(
                torch.from_numpy(masks).float(), SPATIAL_STRIDES[0]
            )  # (A, 8, G, G)
            mean = cells.mean(1)
            owner = mean.argmax(0)  # (G, G)
            path, extent = (
                torch.from_numpy(x)[owner].permute(2, 0, 1) for x in (paths, extents)
            )
            yield (
                torch.from_numpy(frames).permute(0, 3, 1, 2),
                cells.amax(0),
                path,
                extent,
                mean.amax(0) > 0.15,
            )


def masked_error(told, truth, known):
    """Smooth L1 error over the cells that are known: (B,K,G,G) twice, (B,G,G) bool ->
    scalar.
    """
    error = F.smooth_l1_loss(told, truth, reduction="none", beta=0.2).mean(1)
    return (error * known).sum() / known.sum().clamp(min=1)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=3000, help="optimizer steps")
    parser.add_argument("--batch-size", type=int, default=16, help="made clips a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (one cycle)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and clips")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument(
        "--output",
        default=str(Path(__file__).parent / "small_encoder.pt"),
        help="file to write",
    )
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    encoder = SMALL.encoder(SMALL.network["width"]).train()
    sizes = [FRAMES, FRAMES * PATH, EXTENT]
    head = nn.Conv2d(encoder.channels[0], sum(sizes), 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, args.steps, pct_start=0.1
    )
    clips = iter(DataLoader(MadeClips(args.seed), args.batch_size, num_workers=args.workers))
    sums, began = np.zeros(3), time.time()
    for step in range(1, args.steps + 1):
        frames, cover, path, extent, known = next(clips)
        features, _, _ = encoder(normalize(frames, "-1..1"))
        moving, told_path, told_extent = head(features.squeeze(2)).split(sizes, dim=1)
        losses = [
            F.binary_cross_entropy_with_logits(moving, cover),
            masked_error(told_path, path, known),
            masked_error(told_extent, extent, known),
        ]
        optimizer.zero_grad()
        (losses[0] + 0.5 * losses[1] + 2 * losses[2]).backward()
        optimizer.step()
        schedule.step()
        sums += [loss.item() for loss in losses]
        if step % 100 == 0:
            print(
                f"step {step}/{args.steps}  moving {sums[0] / 100:.4f}  path "
                f"{sums[1] / 100:.4f}  extent {sums[2] / 100:.4f}  "
                f"{step / (time.time() - began):.1f} steps/s",
                flush=True,
            )
            sums[:] = 0
    state = {
        ENCODER + name: value.half() if value.is_floating_point() else value
        for name, value in encoder.state_dict().items()
    }
    save(
        {
            "state_dict": state,
            "about": f"pretrain_small.py --steps {args.steps} --seed {args.seed}",
        },
        args.output,
    )
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    run_script(main, "nothing is kept, start again")
