"""One video's clips -> its latents and the uncertainty of every frame, as cluster_extract.py keeps them."""

import numpy as np
import torch

from datasets.clips import STRIDE, normalise
from engine import autocast
from models.mc_dropout import mc_forward, seeded_masks
from selection.frame_score import SCORES, frame_scores


@torch.no_grad()
def score_video(trained, video, item, args, forward=mc_forward):
    """Latents of the tiles (n,D), and every frame score (F,) of one video from its clips (see VideoTiles).

    args: seed, passes, threshold, phases, amp as cluster_extract.py has them. forward: mc_forward, or it compiled.
    Nothing waits for the device before the last clip.
    """
    device = next(trained.detector.parameters()).device
    clips, latents, values = item["clips"].to(device, non_blocking=True), [], []
    for clip, tile, phase in zip(clips, item["tile"], item["phase"], strict=True):
        masks = seeded_masks(trained.detector, args.seed, video.name, int(tile), int(phase), args.passes)
        with autocast(device, args.amp):
            logits, latent = forward(trained.detector, normalise(clip[None], trained.pixel_range),
                                     *(mask.to(device, non_blocking=True) for mask in masks))
        if phase == 0:
            latents.append(latent.float())
        of_clip = frame_scores(logits, args.threshold)
        values.append(torch.stack([of_clip[name].double() for name in SCORES]))              # (5, T)
    scores = {name: np.zeros(video.frames, np.float32) for name in SCORES}
    for clip_values, tile, phase in zip(torch.stack(values).cpu().numpy(), item["tile"], item["phase"], strict=True):
        for name, values_T in zip(SCORES, clip_values, strict=True):
            spread(scores[name], values_T, int(tile), int(phase), args.phases)
    return {"latents": torch.stack(latents).cpu().numpy(), **scores}


def spread(scores_F, values_T, tile, phase, phases, stride=STRIDE):
    """Write one clip's values to the frames they serve: with one phase each serves `stride` frames, with two one."""
    first = tile * len(values_T) * stride + phase
    for offset in range(stride if phases == 1 else 1):
        places = scores_F[first + offset:first + len(values_T) * stride:stride]
        places[:] = values_T[:len(places)]
