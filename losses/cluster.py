"""Cluster loss (paper Eq. 3) and the centres it pulls the latents to.

λ/2 · Σ_i ‖LF(x_i) - C_k(i)‖². The centres start from k-means on the labelled videos' latents and follow the training
clips; a clip belongs to the cluster of its video. Videos are reassigned once an epoch from that epoch's own clips.
"""

import numpy as np
import torch
from sklearn.cluster import KMeans

LAMBDA = 1e-6           # of the full network
RESTARTS = 20           # of k-means
FIRST_COUNT = 100       # centre ← centre + (x - centre) / n, n counting from here


def cluster_loss(latent, centre, weight=LAMBDA):
    """λ/2 · Σ_i ‖latent_i - centre_i‖². latent, centre: (B,D), centre the one of each clip's video (no gradient)."""
    return 0.5 * weight * ((latent.float() - centre.detach()) ** 2).sum()


def nearest(latents_N_D, centres_K_D):
    """Index (N,) int of the nearest centre by Euclidean distance; ties to the lower index."""
    latents, centres = np.asarray(latents_N_D, np.float64), np.asarray(centres_K_D, np.float64)
    squares = (latents ** 2).sum(1)[:, None] - 2 * latents @ centres.T + (centres ** 2).sum(1)
    return squares.argmin(1).astype(np.int32)


def vote(tiles_n_D, centres_K_D):
    """A video's cluster: majority vote of its tiles, ties to the centre nearest the mean of the tiles."""
    counts = np.bincount(nearest(tiles_n_D, centres_K_D), minlength=len(centres_K_D))
    best = np.flatnonzero(counts == counts.max())
    mean = np.asarray(tiles_n_D, np.float64).mean(0)
    return int(best[nearest(mean[None], np.asarray(centres_K_D)[best])[0]])


class Clusters:
    """The K centres (K,D), the n of each centre's next move, and the cluster of every labelled video."""

    def __init__(self, centres_K_D, counts_K, assignment):
        self.centres = torch.as_tensor(centres_K_D).float().clone()          # moved in place, so a copy
        self.counts = torch.as_tensor(counts_K).long().clone()
        self.assignment = dict(assignment)                                   # video name -> cluster
        self._sums, self._seen = {}, {}                                      # this epoch's latents by video

    @classmethod
    def fit(cls, latents, k, seed):
        """K-means on evaluation-mode latents. latents: video name -> (tiles, D); K is at most the number of videos."""
        tiles = np.concatenate([np.asarray(t, np.float64) for t in latents.values()])
        k = min(k, len(latents), len(np.unique(tiles, axis=0)))
        centres = KMeans(k, n_init=RESTARTS, random_state=seed).fit(tiles).cluster_centers_
        return cls(centres, np.full(k, FIRST_COUNT), {name: vote(t, centres) for name, t in latents.items()})

    def of(self, names, device):
        """Centres (B,D) of the clusters of these videos."""
        return self.centres[[self.assignment[name] for name in names]].to(device)

    def follow(self, names, latent):
        """Move each clip's centre towards its latent, clip by clip, and remember the latents for reassign()."""
        for name, x in zip(names, latent.detach().float().cpu(), strict=True):
            k = self.assignment[name]
            self.centres[k] += (x - self.centres[k]) / self.counts[k]
            self.counts[k] += 1
            self._sums[name] = self._sums.get(name, 0) + x
            self._seen[name] = self._seen.get(name, 0) + 1

    def reassign(self):
        """End of an epoch: every video seen goes to the centre nearest the mean of its clips of this epoch.

        An empty cluster is re-seeded with the video that lies farthest from its own centre, among clusters that keep
        at least one. Returns how many videos changed cluster.
        """
        names = sorted(self._sums)
        if not names:
            return 0
        means = torch.stack([self._sums[name] / self._seen[name] for name in names])
        before = dict(self.assignment)
        self.assignment.update(zip(names, map(int, nearest(means, self.centres)), strict=True))
        for empty in sorted(set(range(len(self.centres))) - set(self.assignment.values())):
            self._reseed(empty, names, means)
        self._sums, self._seen = {}, {}
        return sum(before[name] != self.assignment[name] for name in names)

    def _reseed(self, empty, names, means):
        sizes = np.bincount(list(self.assignment.values()), minlength=len(self.centres))
        own = torch.tensor([self.assignment[name] for name in names])
        distance = ((means - self.centres[own]) ** 2).sum(1)
        distance[torch.from_numpy(sizes)[own] < 2] = -1
        farthest = int(distance.argmax())
        if distance[farthest] < 0:
            return                                                           # every cluster has a single video
        self.centres[empty], self.counts[empty] = means[farthest], FIRST_COUNT
        self.assignment[names[farthest]] = empty

    def state_dict(self):
        return {"centres": self.centres.clone(), "counts": self.counts.clone(), "assignment": dict(self.assignment)}

    @classmethod
    def from_state(cls, state):
        return cls(state["centres"], state["counts"], state["assignment"])
