"""Cluster loss (paper Eq. 3) and the centers it pulls the latents to.

λ/2 · Σ_i ‖LF(x_i) - C_k(i)‖². The centers start from k-means on the labeled videos'
latents and follow the training clips; a clip belongs to the cluster of its video. Videos
are reassigned once an epoch from that epoch's own clips.

Training clips are seen with dropout, the pool without, and latents are larger with it. So
the pool is not assigned to the centers that training leaves, but to the means of the same
clusters' videos without dropout (evaluation_centers). The published code does the former.

Letters: B clips of a batch, D numbers of a latent, K clusters, n tiles of a video, N latents.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike

LAMBDA = 1e-6  # of the full network
RESTARTS = 20  # of k-means
FIRST_COUNT = 100  # center ← center + (x - center) / n, n counting from here
# which centers the pool is assigned to: means of evaluation-mode latents, or those that
# followed the training clips
CENTERS = ("evaluation", "training")


def cluster_loss(
    latent: torch.Tensor, center: torch.Tensor, weight: float = LAMBDA
) -> torch.Tensor:
    """λ/2 · Σ_i ‖latent_i - center_i‖², 0-dim (Eq. 3). latent, center: (B,D), center the
    one of each clip's video (no gradient); weight: λ.
    """
    return 0.5 * weight * ((latent.float() - center.detach()) ** 2).sum()


def nearest(latents_N_D: ArrayLike, centers_K_D: ArrayLike) -> np.ndarray:
    """Index (N,) int of the nearest center by Euclidean distance; ties to the lower index."""
    latents, centers = np.asarray(latents_N_D, np.float64), np.asarray(centers_K_D, np.float64)
    squares = (latents**2).sum(1)[:, None] - 2 * latents @ centers.T + (centers**2).sum(1)
    return squares.argmin(1).astype(np.int32)


def vote(tiles_n_D: ArrayLike, centers_K_D: ArrayLike) -> int:
    """A video's cluster: majority vote of its tiles, ties to the center nearest the mean of
    the tiles.
    """
    counts = np.bincount(nearest(tiles_n_D, centers_K_D), minlength=len(centers_K_D))
    best = np.flatnonzero(counts == counts.max())
    mean = np.asarray(tiles_n_D, np.float64).mean(0)
    return int(best[nearest(mean[None], np.asarray(centers_K_D)[best])[0]])


def evaluation_centers(
    latents: Mapping[str, ArrayLike], assignment: Mapping[str, int], centers_K_D: ArrayLike
) -> np.ndarray:
    """Centers float32 (K,D): of each cluster, the mean of the tiles of its videos.

    latents: video name -> (tiles, D) in evaluation mode; videos without a cluster are left
    aside · assignment: video name -> cluster · centers_K_D: those of the training, which a
    cluster keeps where no video can be spared for it. A cluster without a video gets the
    mean of the video that lies farthest from its own center, among clusters that keep at
    least one, as in Clusters.reassign. Inputs are not changed.
    """
    tiles = {
        name: np.asarray(latents[name], np.float64) for name in assignment if name in latents
    }
    cluster = {name: assignment[name] for name in tiles}
    centers = np.array(centers_K_D, np.float64)
    for k in set(cluster.values()):
        centers[k] = np.concatenate([tiles[name] for name in tiles if cluster[name] == k]).mean(
            0
        )
    means = {name: tiles_n_D.mean(0) for name, tiles_n_D in tiles.items()}
    for empty in sorted(set(range(len(centers))) - set(cluster.values())):
        sizes = np.bincount([*cluster.values()], minlength=len(centers))
        spare = [name for name in sorted(tiles) if sizes[cluster[name]] > 1]
        if spare:
            gaps = [((means[name] - centers[cluster[name]]) ** 2).sum() for name in spare]
            farthest = spare[int(np.argmax(gaps))]
            centers[empty], cluster[farthest] = means[farthest], empty
    return centers.astype(np.float32)


class Clusters:
    """The K centers (K,D), the n of each center's next move, and the cluster of every
    labeled video.

    The centers lie where the latents that they follow lie; nothing waits for that device
    before reassign(). scored_by: of CENTERS, what the pool is assigned to.
    """

    def __init__(
        self,
        centers_K_D: ArrayLike,
        counts_K: ArrayLike,
        assignment: Mapping[str, int],
        scored_by: str = "training",
    ):
        if scored_by not in CENTERS:
            raise ValueError(f"centers are {' or '.join(CENTERS)}, not {scored_by}")
        self.scored_by = scored_by
        self.centers = torch.as_tensor(centers_K_D).float().clone()
        self.counts = torch.as_tensor(counts_K).long().clone()  # on the CPU
        self.assignment = dict(assignment)  # video name -> cluster
        self._seen = []  # this epoch's (names, latents (B,D))

    @classmethod
    def fit(
        cls,
        latents: Mapping[str, ArrayLike],
        k: int,
        seed: int,
        scored_by: str = "evaluation",
    ) -> "Clusters":
        """K-means on evaluation-mode latents. latents: video name -> (tiles, D); K is at
        most the number of videos.
        """
        from sklearn.cluster import KMeans  # takes seconds; following centers needs none

        tiles = np.concatenate([np.asarray(t, np.float64) for t in latents.values()])
        k = min(k, len(latents), len(np.unique(tiles, axis=0)))
        centers = KMeans(k, n_init=RESTARTS, random_state=seed).fit(tiles).cluster_centers_
        assignment = {name: vote(t, centers) for name, t in latents.items()}
        return cls(centers, np.full(k, FIRST_COUNT), assignment, scored_by)

    def of(self, names: Iterable[str], device: torch.device | str) -> torch.Tensor:
        """Centers (B,D) of the clusters of these videos."""
        rows = torch.tensor([self.assignment[name] for name in names], dtype=torch.long)
        rows = rows.to(self.centers.device, non_blocking=True)
        return self.centers.index_select(0, rows).to(device, non_blocking=True)

    def follow(self, names: Iterable[str], latent: torch.Tensor) -> None:
        """Move each clip's center towards its latent (B,D), clip by clip, and remember the
        latents for reassign().

        Clip by clip, center ← center + (x - center) / n is center ← keep · center + Σ_i
        pull_i · x_i once for all.
        """
        latent = latent.detach().float()
        keep, pull = np.ones(len(self.centers)), np.zeros((len(self.centers), len(names)))
        for i, name in enumerate(names):
            k = self.assignment[name]
            step = 1 / int(self.counts[k])
            keep[k] *= 1 - step
            pull[k] *= 1 - step
            pull[k, i] = step
            self.counts[k] += 1
        keep, pull = (
            torch.from_numpy(x).float().to(latent.device, non_blocking=True)
            for x in (keep, pull)
        )
        centers = self.centers.to(latent.device, non_blocking=True)
        self.centers = keep[:, None] * centers + (pull[:, :, None] * latent).sum(1)
        self._seen.append((list(names), latent))

    def reassign(self) -> int:
        """End of an epoch: every video seen goes to the center nearest the mean of its
        clips of this epoch.

        An empty cluster is re-seeded with the video that lies farthest from its own center,
        among clusters that keep at least one. Returns how many videos changed cluster.
        """
        if not self._seen:
            return 0
        clips = [name for names, _ in self._seen for name in names]
        names = sorted(set(clips))
        place = {name: row for row, name in enumerate(names)}
        rows = torch.tensor([place[name] for name in clips])
        latents = torch.cat([latent for _, latent in self._seen]).cpu()
        sums = torch.zeros(len(names), latents.shape[1]).index_add_(0, rows, latents)
        means = sums / torch.bincount(rows)[:, None]
        self.centers, self._seen = self.centers.cpu(), []
        before = dict(self.assignment)
        self.assignment.update(zip(names, map(int, nearest(means, self.centers)), strict=True))
        for empty in sorted(set(range(len(self.centers))) - set(self.assignment.values())):
            self._reseed(empty, names, means)
        return sum(before[name] != self.assignment[name] for name in names)

    def forget(self) -> int:
        """End of an epoch without reassignment: the epoch's latents are let go. Returns 0,
        the videos that moved.
        """
        self._seen = []
        return 0

    def _reseed(self, empty, names, means):
        sizes = np.bincount(list(self.assignment.values()), minlength=len(self.centers))
        own = torch.tensor([self.assignment[name] for name in names])
        distance = ((means - self.centers[own]) ** 2).sum(1)
        distance[torch.from_numpy(sizes)[own] < 2] = -1
        farthest = int(distance.argmax())
        if distance[farthest] < 0:
            return  # every cluster has a single video
        self.centers[empty], self.counts[empty] = means[farthest], FIRST_COUNT
        self.assignment[names[farthest]] = empty

    def pool_centers(self, latents: Mapping[str, ArrayLike]) -> np.ndarray:
        """The centers float32 (K,D) that the pool is assigned to, as scored_by says.

        latents: video name -> (tiles, D) in evaluation mode, the labeled videos among them.
        """
        centers = self.centers.cpu().numpy()
        if self.scored_by == "training":
            return centers
        return evaluation_centers(latents, self.assignment, centers)

    def state_dict(self) -> dict:
        """{"centres" (K,D), "counts" (K,), "assignment", "scored_by"}, as checkpoints keep
        it.
        """
        return {
            "centres": self.centers.cpu().clone(),
            "counts": self.counts.clone(),
            "assignment": dict(self.assignment),
            "scored_by": self.scored_by,
        }

    @classmethod
    def from_state(cls, state: Mapping) -> "Clusters":
        """state_dict's inverse. Older states do not say what the pool is assigned to: it was
        the training's centers.
        """
        given = state["centres"], state["counts"], state["assignment"]
        return cls(*given, state.get("scored_by", "training"))
