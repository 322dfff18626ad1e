"""Make weights/small_encoder.pt: the small network's encoder, pretrained on made motion without any benchmark label.

    python weights/pretrain_small.py            # about 20 minutes on two CPU cores

Plays for the small network the part that Charades weights play for the full one. Textured patches move over a panned
ground along smooth random paths (every mixture of shift, turn and size, drawn anew; no class, no data set). It learns
to say, for each cell of its last layer, whether something there moves against the ground in each of the 8 frames,
and how: the patch's path, size and angle over the clip. Only the encoder is kept.
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

from datasets.clips import GEOMETRY, normalise, random_crop, transform  # noqa: E402
from datasets.sprites import random_actor, random_texture, render  # noqa: E402
from models.detector import PRESETS  # noqa: E402
from models.i3d import I3D, SPATIAL_STRIDE  # noqa: E402
from utils.checkpoint import ENCODER, save  # noqa: E402
from utils.runtime import run_script  # noqa: E402

FRAMES, MARGIN = 8, 16
PATH = 5        # numbers that describe a pose: x, y, ln scale, cos, sin of the turned angle


def smooth_path(rng, times):
    """A random motion (n,4) = dx, dy, ln scale, angle at `times` (frames): drift plus oscillation of each, or none."""
    path = np.zeros((len(times), 4))
    for axis, (swing, drift) in enumerate(((14, 0.6), (11, 0.6), (0.4, 0.01), (0.9, 0.35))):
        if rng.random() < 0.5:
            period = rng.uniform(8, 40)
            turn = 2 * np.pi * times / period + rng.uniform(0, 2 * np.pi)
            path[:, axis] += rng.uniform(0.15, 1) * swing * np.sin(turn)
        if rng.random() < 0.3:
            path[:, axis] += rng.uniform(-1, 1) * drift * times
    return path


def made_clip(rng, geometry):
    """Frames uint8 (8,3,S,S), moving masks uint8 (A,8,S,S) and paths float32 (A,8,5) of one made clip."""
    height, width = geometry.frame
    ground = random_texture(rng, height + 2 * MARGIN, width + 2 * MARGIN)
    count = int(rng.integers(1, 4))
    actors = [random_actor(rng, rng.uniform(12, 32), ground, rng.uniform(30, 130)) for _ in range(count)]
    times = 2.0 * np.arange(FRAMES)
    moves = [np.zeros((FRAMES, 4)) if rng.random() < 0.2 else smooth_path(rng, times) for _ in actors]
    start, speed = rng.uniform(-8, 8, 2), rng.normal(0, 0.25, 2)
    pan = np.clip(start + speed * times[:, None], 1 - MARGIN, MARGIN - 1)
    poses = np.empty((count, FRAMES, 4))
    for a, move in enumerate(moves):
        place = rng.uniform(0.15, 0.85, 2) * (width, height)
        poses[a, :, :2] = place + move[:, :2] - pan
        poses[a, :, 2] = np.exp(np.clip(move[:, 2], -0.7, 0.7))
        poses[a, :, 3] = rng.uniform(0, 2 * np.pi) + move[:, 3]
    frames, masks, _ = render(ground, actors, poses, MARGIN + pan, geometry.frame, rng.uniform(0, 7), rng)
    moving = np.array([np.ptp(move, axis=0).max() > 1e-6 for move in moves])
    corner = random_crop(geometry, rng)
    clip = transform(frames, geometry, corner)
    masks = torch.stack([transform((mask * moved).astype(np.uint8), geometry, corner)
                         for mask, moved in zip(masks, moving, strict=True)])
    paths = np.stack([np.column_stack([(move[:, :2] - move[:, :2].mean(0)) / 10, 3 * (move[:, 2] - move[:, 2].mean()),
                                       np.cos(move[:, 3] - move[0, 3]), np.sin(move[:, 3] - move[0, 3])])
                      for move in moves])
    return clip, masks, paths.astype(np.float32)


class MadeClips(IterableDataset):
    """Endless made clips with their targets on the grid of the encoder's last layer (side S/8).

    -> frames, cover (8,G,G) in [0,1]: how much of each cell moves; path (8*5,G,G) of the patch that covers a cell most,
    known (G,G): cells that some moving patch covers.
    """

    def __init__(self, geometry, seed):
        self.geometry, self.seed = geometry, seed

    def __iter__(self):
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        grid = self.geometry.size // SPATIAL_STRIDE
        while True:
            clip, masks, paths = made_clip(rng, self.geometry)
            cells = F.adaptive_avg_pool2d(masks.float(), grid)                   # (A, 8, G, G)
            mean = cells.mean(1)
            owner = mean.argmax(0)                                               # (G, G)
            path = torch.from_numpy(paths).flatten(1)[owner].permute(2, 0, 1)    # (8*5, G, G)
            yield clip, cells.amax(0), path, mean.amax(0) > 0.15


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000, help="optimiser steps")
    parser.add_argument("--batch-size", type=int, default=16, help="made clips a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (one cycle)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and clips")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument("--output", default=str(Path(__file__).parent / "small_encoder.pt"), help="file to write")
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    geometry = GEOMETRY["small", "wide"]
    encoder = I3D(PRESETS["small"]["width"]).train()
    head = nn.Conv2d(encoder.channels_28, FRAMES * (1 + PATH), 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.lr, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, args.steps, pct_start=0.1)
    clips = iter(DataLoader(MadeClips(geometry, args.seed), args.batch_size, num_workers=args.workers))
    sums, began = np.zeros(2), time.time()
    for step in range(1, args.steps + 1):
        frames, cover, path, known = next(clips)
        features, _, _ = encoder(normalise(frames, "-1..1"))
        moving, told = head(features.squeeze(2)).split([FRAMES, FRAMES * PATH], dim=1)
        error = F.smooth_l1_loss(told, path, reduction="none", beta=0.2).mean(1)
        losses = [F.binary_cross_entropy_with_logits(moving, cover), (error * known).sum() / known.sum().clamp(min=1)]
        optimizer.zero_grad()
        (losses[0] + losses[1]).backward()
        optimizer.step()
        schedule.step()
        sums += [loss.item() for loss in losses]
        if step % 100 == 0:
            print(f"step {step}/{args.steps}  moving {sums[0] / 100:.4f}  path {sums[1] / 100:.4f}  "
                  f"{step / (time.time() - began):.1f} steps/s", flush=True)
            sums[:] = 0
    state = {ENCODER + name: value.half() if value.is_floating_point() else value
             for name, value in encoder.state_dict().items()}
    save({"state_dict": state, "about": f"pretrain_small.py --steps {args.steps} --seed {args.seed}"}, args.output)
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    run_script(main)
