"""Cluster loss (paper Eq. 3) and the centres it pulls the latents to.

λ/2 · Σ_i ‖LF(x_i) - C_k(i)‖². The centres start from k-means on the labelled videos'
latents and follow the training clips; a clip belongs to the cluster of its video. Videos
are reassigned once an epoch from that epoch's own clips.
"""

import numpy as np
import torch

LAMBDA = 1e-6  # of the full network
RESTARTS = 20  # of k-means
FIRST_COUNT = 100  # centre ← centre + (x - centre) / n, n counting from here


def cluster_loss(latent, centre, weight=LAMBDA):
    """λ/2 · Σ_i ‖latent_i - centre_i‖². latent, centre: (B,D), centre the one of each
    clip's video (no gradient).
    """
    return 0.5 * weight * ((latent.float() - centre.detach()) ** 2).sum()


def nearest(latents_N_D, centres_K_D):
    """Index (N,) int of the nearest centre by Euclidean distance; ties to the lower index."""
    latents, centres = np.asarray(latents_N_D, np.float64), np.asarray(centres_K_D, np.float64)
    squares = (latents**2).sum(1)[:, None] - 2 * latents @ centres.T + (centres**2).sum(1)
    return squares.argmin(1).astype(np.int32)


def vote(tiles_n_D, centres_K_D):
    """A video's cluster: majority vote of its tiles, ties to the centre nearest the mean of
    the tiles.
    """
    counts = np.bincount(nearest(tiles_n_D, centres_K_D), minlength=len(centres_K_D))
    best = np.flatnonzero(counts == counts.max())
    mean = np.asarray(tiles_n_D, np.float64).mean(0)
    return int(best[nearest(mean[None], np.asarray(centres_K_D)[best])[0]])


class Clusters:
    """The K centres (K,D), the n of each centre's next move, and the cluster of every
    labelled video.

    The centres lie where the latents that they follow lie; nothing waits for that device
    before reassign().
    """

    def __init__(self, centres_K_D, counts_K, assignment):
        self.centres = torch.as_tensor(centres_K_D).float().clone()
        self.counts = torch.as_tensor(counts_K).long().clone()  # on the CPU
        self.assignment = dict(assignment)  # video name -> cluster
        self._seen = []  # this epoch's (names, latents (B,D))

    @classmethod
    def fit(cls, latents, k, seed):
        """K-means on evaluation-mode latents. latents: video name -> (tiles, D); K is at
        most the number of videos.
        """
        from sklearn.cluster import (
            KMeans,
        )  # late: it takes seconds, and following centres needs none of it

        tiles = np.concatenate([np.asarray(t, np.float64) for t in latents.values()])
        k = min(k, len(latents), len(np.unique(tiles, axis=0)))
        centres = KMeans(k, n_init=RESTARTS, random_state=seed).fit(tiles).cluster_centers_
        return cls(
            centres,
            np.full(k, FIRST_COUNT),
            {name: vote(t, centres) for name, t in latents.items()},
        )

    def of(self, names, device):
        """Centres (B,D) of the clusters of these videos."""
        return self.centres.to(device)[[self.assignment[name] for name in names]]

    def follow(self, names, latent):
        """Move each clip's centre towards its latent (B,D), clip by clip, and remember the
        latents for reassign().

        Clip by clip, centre ← centre + (x - centre) / n is centre ← keep · centre + Σ_i
        pull_i · x_i once for all.
        """
        latent = latent.detach().float()
        keep, pull = np.ones(len(self.centres)), np.zeros((len(self.centres), len(names)))
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
        self.centres = keep[:, None] * self.centres.to(latent.device) + (
            pull[:, :, None] * latent
        ).sum(1)
        self._seen.append((list(names), latent))

    def reassign(self):
        """End of an epoch: every video seen goes to the centre nearest the mean of its
        clips of this epoch.

        An empty cluster is re-seeded with the video that lies farthest from its own centre,
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
        self.centres, self._seen = self.centres.cpu(), []
        before = dict(self.assignment)
        self.assignment.update(zip(names, map(int, nearest(means, self.centres)), strict=True))
        for empty in sorted(set(range(len(self.centres))) - set(self.assignment.values())):
            self._reseed(empty, names, means)
        return sum(before[name] != self.assignment[name] for name in names)

    def forget(self):
        """End of an epoch without reassignment: the epoch's latents are let go. Returns 0,
        the videos that moved.
        """
        self._seen = []
        return 0

    def _reseed(self, empty, names, means):
        sizes = np.bincount(list(self.assignment.values()), minlength=len(self.centres))
        own = torch.tensor([self.assignment[name] for name in names])
        distance = ((means - self.centres[own]) ** 2).sum(1)
        distance[torch.from_numpy(sizes)[own] < 2] = -1
        farthest = int(distance.argmax())
        if distance[farthest] < 0:
            return  # every cluster has a single video
        self.centres[empty], self.counts[empty] = means[farthest], FIRST_COUNT
        self.assignment[names[farthest]] = empty

    def state_dict(self):
        return {
            "centres": self.centres.cpu().clone(),
            "counts": self.counts.clone(),
            "assignment": dict(self.assignment),
        }

    @classmethod
    def from_state(cls, state):
        return cls(state["centres"], state["counts"], state["assignment"])
