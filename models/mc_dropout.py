"""MC dropout over one video's clips: seeded masks, the encoder once per clip, R passes of
the head.

Only the two channel-dropout layers are random; batch norm stays in evaluation mode. The
masks of a clip are seeded by (seed, video, tile, phase, pass), so order, batching and
sharding cannot change a score.
"""

import zlib

import numpy as np
import torch

from claus.models.detector import DROPOUT, Detector, scores_and_latent
from claus.models.input import normalize

# how the masks of a clip's passes belong together: each drawn by itself (published), or in
# pairs of opposites
MASKS = ("independent", "antithetic")
assert DROPOUT == 0.5, "else a mask's opposite would have another distribution"


def seeded_masks(
    detector: Detector,
    seed: int,
    video: str,
    tile: int,
    phase: int,
    passes: int,
    form: str = "independent",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Channel-dropout factors of `passes` passes over one clip: (R,832), (R,128), values 0
    or 1/(1-p), on the CPU.

    form: of MASKS. antithetic (ours): pass 2k + 1 drops what pass 2k keeps, factors 2 - f.
    At p = 1/2 each pass has the same distribution as before, so the mean over passes has the
    same expectation; what is linear in the masks cancels from its noise. Raises ValueError
    for another form.
    """
    if form not in MASKS:
        raise ValueError(f"masks are {' or '.join(MASKS)}, not {form!r}")
    sizes = detector.dropped_channels
    rows = []
    for r in range(passes):
        if form == "antithetic" and r % 2:
            rows.append(~rows[-1])
            continue
        rng = np.random.default_rng([seed, zlib.crc32(video.encode()), tile, phase, r])
        rows.append(rng.random(sum(sizes)) >= DROPOUT)
    factors = torch.from_numpy(np.stack(rows)).float() / (1 - DROPOUT)
    return factors.split(sizes, dim=1)


@torch.no_grad()
def mc_forward(
    detector: Detector,
    clip: torch.Tensor,
    masks_in: torch.Tensor,
    masks_out: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """R dropout passes over one clip, with the encoder and everything the masks cannot
    change computed once.

    clip (1,3,8,H,W); masks_in (R,832), masks_out (R,128). Returns (logits (R,8,H,W), latent
    (D,)), the latent being the evaluation-mode one (nothing dropped), which clustering
    uses.
    """
    assert not detector.training, "scoring keeps batch norm in evaluation mode"
    features = detector.encode(clip)
    undropped = torch.ones_like(masks_in[:1])
    pose, activation = detector.capsules(features.mixed_4f, torch.cat([masks_in, undropped]))
    scores, latent = scores_and_latent(pose, activation)
    pose = detector.masked(pose[:-1], scores[:-1])  # each pass by the class that it predicts
    return detector.decode(pose, features, masks_in, masks_out)[:, 0], latent[-1]


@torch.no_grad()
def tile_latents(detector: Detector, clips: torch.Tensor, pixel_range: str) -> np.ndarray:
    """Evaluation-mode latents (n,D) float32 numpy of a video's clips, uint8 (n,8,3,S,S)."""
    was_training, device = detector.training, next(detector.parameters()).device
    detector.eval()  # batch norm by its running statistics
    latents = []
    for clip in clips:
        features = detector.encode(normalize(clip[None].to(device), pixel_range))
        latents.append(
            scores_and_latent(*detector.capsules(features.mixed_4f))[1][0].float().cpu()
        )
    detector.train(was_training)
    return torch.stack(latents).numpy()
