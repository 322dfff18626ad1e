"""One video's clips -> its latents and the uncertainty of every frame, as
cluster_extract.py keeps them.
"""

import numpy as np
import torch

from claus.datasets.clips.geometry import STRIDE, normalize
from claus.datasets.clips.tiles import shifted_start
from claus.engine import autocast
from claus.models.mc_dropout import mc_forward, seeded_masks
from claus.selection.uncertainty import SCORES, frame_scores


@torch.no_grad()
def score_video(trained, video, item, args, forward=mc_forward):
    """Latents of the tiles (n,D), and every frame score (F,) of one video from its clips
    (see VideoTiles).

    args: seed, passes, threshold, phases, tail, amp as cluster_extract.py has them.
    forward: mc_forward, or it compiled. Nothing waits for the device before the last clip.
    """
    device = next(trained.detector.parameters()).device
    clips, latents, values = item["clips"].to(device, non_blocking=True), [], []
    for clip, tile, phase in zip(clips, item["tile"], item["phase"], strict=True):
        masks = seeded_masks(
            trained.detector, args.seed, video.name, int(tile), int(phase), args.passes
        )
        with autocast(device, args.amp):
            logits, latent = forward(
                trained.detector,
                normalize(clip[None], trained.pixel_range),
                *(mask.to(device, non_blocking=True) for mask in masks),
            )
        if phase == 0:
            latents.append(latent.float())
        of_clip = frame_scores(logits, args.threshold)
        values.append(torch.stack([of_clip[name].double() for name in SCORES]))  # (5, T)
    scores = {name: np.zeros(video.frames, np.float32) for name in SCORES}
    size = clips.shape[1] * STRIDE
    for clip_values, tile, phase in zip(
        torch.stack(values).cpu().numpy(), item["tile"], item["phase"], strict=True
    ):
        served = int(tile) * size
        first = (
            served
            if args.tail == "repeat"
            else min(served, shifted_start(video.frames, size, STRIDE, args.phases))
        )
        for name, values_T in zip(SCORES, clip_values, strict=True):
            place = scores[name][
                served : served + size
            ]  # a shifted tile serves no frame of the one before
            place += spread(np.zeros(size, np.float32), values_T, int(phase), args.phases)[
                served - first :
            ][: len(place)]
    return {"latents": torch.stack(latents).cpu().numpy(), **scores}


def spread(scores_F, values_T, phase, phases, stride=STRIDE):
    """Write a clip's values to the frames of its tile that they serve: `stride` frames
    each, or, of two phases, one.
    """
    for offset in range(stride if phases == 1 else 1):
        scores_F[phase + offset :: stride] = values_T[: len(scores_F[phase + offset :: stride])]
    return scores_F
