"""The paper in one file: train, score, cluster, select; two cycles on toy data.

    python reference/claus.py          # under two minutes on a CPU

Rana & Rawat, Hybrid Active Learning via Deep Clustering for Video Action Detection, CVPR
2023. A plain copy of what the product computes, to be read from top to bottom: the same
rules and constants, a small network of the same form, and nothing made fast. Tests hold
its losses and its selection against claus.losses and claus.selection. Left out: random
crops, held-out labels for choosing a checkpoint, seeds that do not depend on the order.

Reads   nothing
Writes  nothing; prints a table
Expect  a row per cycle: labels spent, mean IoU, f-mAP@.5 (the `capsule` rule), accuracy

Letters: B clips · T = 8 frames of a clip · F frames of a video · S pixels of a side · C
classes · I capsule types · N places · K clusters · D latent size · R dropout passes.
"""

import math
import time
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import nn

T, STRIDE, S = 8, 2, 48  # a clip: 8 frames at stride 2
ANCHOR = 4  # index of the labeled frame in a training clip
CLASSES = ("across", "up and down", "grow and shrink")
BATCH, STEPS, RATE = 8, 240, 2e-3  # the product: 8, by --steps, 5e-4
SIGMA, REACH = 8 / 3, 8  # video frames
WINDOW, P_LOW, P_HIGH = 2, 0.1, 0.9
LAMBDA = 1e-4  # of the cluster loss; 1e-6 in the full network, 1e-4 in the small one
K, R = 5, 10
THRESHOLD = 0.4  # τ of Eq. 1
VIDEOS, FRAMES = Fraction(20, 100), Fraction(10, 100)  # V and A; the paper 5 and 5
EPSILON = 1e-8


# ---- toy data: a textured square that acts, beside one that stands still -----------------


@dataclass
class Video:
    clip: torch.Tensor  # (3,F,S,S) in [-1,1]
    label: int  # hidden until the video is labeled
    truth: list  # F boxes (x0,y0,x1,y1), None without action; hidden
    labels: dict = field(default_factory=dict)  # frame -> box or None: what was paid for

    def __len__(self):
        return self.clip.shape[1]


def make_video(rng, label):
    length = int(rng.integers(24, 41))
    texture = rng.uniform(-0.6, 0.6, (3, 1, S // 8, S // 8))
    clip = texture.repeat(8, 2).repeat(8, 3)  # (3,1,S,S)
    clip = clip + rng.normal(0, 0.1, (3, length, S, S))
    still_x, still_y = rng.integers(0, S - 12, 2)
    paint = rng.uniform(-1, 1, (2, 3, 1, 1, 1))
    paint[0], paint[1] = -abs(paint[0]), abs(paint[1])  # dark, bright
    clip[:, :, still_y : still_y + 12, still_x : still_x + 12] = paint[0]
    start, end = rng.integers(0, 7), length - rng.integers(0, 7)
    x, y = rng.uniform(16, S - 16, 2)
    side, phase = rng.uniform(13, 18), rng.uniform(0, 2 * math.pi)
    truth = [None] * length
    for f in range(start, end):
        swing = math.sin(2 * math.pi * f / 14 + phase)
        center_x = x + (10 * swing if label == 0 else 0)
        center_y = y + (10 * swing if label == 1 else 0)
        half = side / 2 * (1 + (0.4 * swing if label == 2 else 0))
        box = (center_x - half, center_y - half, center_x + half, center_y + half)
        x0, y0, x1, y1 = (int(np.clip(round(v), 0, S)) for v in box)
        clip[:, f, y0:y1, x0:x1] = paint[1, :, 0]
        truth[f] = (x0, y0, x1, y1)
    return Video(torch.from_numpy(clip).float().clamp(-1, 1), label, truth)


def annotate(video, frames):
    """The annotator: the box of each frame, or that there is no action."""
    video.labels |= {int(f): video.truth[f] for f in frames}


# ---- pseudo-labels and their weights -----------------------------------------------------


def box_at(labels, f):
    """Linear between two labels, held where one alone shows the actor."""
    left = max((a for a in labels if a <= f), default=None)
    right = min((a for a in labels if a >= f), default=None)
    first, second = labels.get(left), labels.get(right)
    if first is None or second is None:
        return first or second
    share = 0.0 if left == right else (f - left) / (right - left)
    return [a * (1 - share) + b * share for a, b in zip(first, second, strict=True)]


def mask_of(box):
    """{0,1} (S,S): a pixel is in a box where its center is."""
    mask = torch.zeros(S, S)
    if box is not None:
        x0, y0, x1, y1 = (max(math.ceil(v - 0.5), 0) for v in box)
        mask[y0:y1, x0:x1] = 1
    return mask


def stew_weights(masks, frames, labeled):
    """φ = τ·s (T,S,S) of pseudo-labels {0,1} (T,S,S) at video frames `frames`."""
    weights = torch.zeros_like(masks)
    for t, f in enumerate(frames):
        distance = min(abs(f - a) for a in labeled)
        # Eq. 4: τ = exp(-(f-a)²/2σ²), 0 beyond 8 frames
        tau = math.exp(-(distance**2) / (2 * SIGMA**2)) if distance <= REACH else 0.0
        # Eq. 5: s = mean of the label over t-W…t+W; 1 where it is sure, or f is labeled
        mean = masks[max(t - WINDOW, 0) : t + WINDOW + 1].mean(0)  # (S,S)
        sure = (mean <= P_LOW) | (mean >= P_HIGH) | (distance == 0)
        weights[t] = tau * torch.where(sure, 1.0, mean)
    return weights


def training_clip(video, rng):
    """A random labeled frame at index 4, shifted by whole strides into the video; a random
    flip -> clip (3,T,S,S), target (T,S,S), weight (T,S,S).
    """
    first = int(rng.choice(list(video.labels))) - ANCHOR * STRIDE
    last = len(video) - 1 - (T - 1) * STRIDE
    while first < 0:
        first += STRIDE
    while first > last:
        first -= STRIDE
    frames = [first + STRIDE * t for t in range(T)]
    target = torch.stack([mask_of(box_at(video.labels, f)) for f in frames])
    weight = stew_weights(target, frames, list(video.labels))
    parts = video.clip[:, frames], target, weight
    return [part.flip(-1) for part in parts] if rng.random() < 0.5 else parts


# ---- the detector: encoder, capsules with EM routing, decoder ----------------------------


def unit(channels_in, channels_out, stride=1):
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm3d(channels_out),
        nn.ReLU(),
    )


def double(channels_in, channels_out):
    """Twice the frames, rows and columns."""
    return nn.ConvTranspose3d(channels_in, channels_out, 3, 2, padding=1, output_padding=1)


class Detector(nn.Module):
    def __init__(self, classes=3, width=8, types=8):
        super().__init__()
        w = width
        self.encode1 = unit(3, w, 2)
        self.encode2 = nn.Sequential(unit(w, 2 * w, 2), unit(2 * w, 2 * w))
        self.encode3 = nn.Sequential(unit(2 * w, 8 * w, 2), unit(8 * w, 8 * w))
        self.primary_pose = nn.Conv2d(8 * w, types * 16, 3)
        self.primary_a = nn.Conv2d(8 * w, types, 3)
        self.weights = nn.Parameter(torch.randn(types, classes, 4, 4))
        self.beta_u = nn.Parameter(torch.zeros(classes, 16))
        self.beta_a = nn.Parameter(torch.zeros(classes))
        self.upsample1 = nn.ConvTranspose2d(classes * 16, w, 3)
        self.skip3 = nn.Conv2d(8 * w, w, 3, padding=1)
        self.upsample2, self.skip2 = double(2 * w, w), nn.Conv3d(2 * w, w, 3, padding=1)
        self.upsample3, self.skip1 = double(2 * w, w), nn.Conv3d(w, w, 3, padding=1)
        self.upsample4 = double(2 * w, 2 * w)
        self.smooth = nn.ConvTranspose3d(2 * w, 1, 3, padding=1)

    def forward(self, clip, dropout=False):
        """Clip (B,3,T,S,S) -> logits (B,T,S,S), scores (B,C), latent (B,17C).

        dropout: the two channel-dropout layers stay on in evaluation mode, and nothing
        else does (MC dropout).
        """
        drop = self.training or dropout
        x1 = self.encode1(clip)  # (B,w,4,S/2,S/2)
        x2 = self.encode2(x1)  # (B,2w,2,S/4,S/4)
        x3 = self.encode3(x2).squeeze(2)  # (B,8w,S/8,S/8)
        x3 = F.dropout2d(x3, 0.5, drop)
        pose = self.primary_pose(x3).permute(0, 2, 3, 1)  # (B,h,w,16I)
        pose = pose.unflatten(-1, (-1, 4, 4))  # (B,h,w,I,4,4)
        a = self.primary_a(x3).sigmoid().permute(0, 2, 3, 1)  # (B,h,w,I)
        pose, a = self.route(pose.flatten(0, 2), a.flatten(0, 2))  # (N,C,16), (N,C)
        side = S // 8 - 2
        pose = pose.unflatten(0, (-1, side, side))  # (B,h,w,C,16)
        a = a.unflatten(0, (-1, side, side))  # (B,h,w,C)
        scores = a.mean((1, 2))  # (B,C)
        latent = torch.cat([pose.flatten(3), a], -1).amax((1, 2))  # (B,17C)
        x = F.relu(self.upsample1(pose.flatten(3).permute(0, 3, 1, 2)))  # (B,w,S/8,S/8)
        x = torch.cat([x, F.relu(self.skip3(x3))], 1).unsqueeze(2)  # (B,2w,1,S/8,S/8)
        x = torch.cat([F.relu(self.upsample2(x)), F.relu(self.skip2(x2))], 1)
        x = torch.cat([F.relu(self.upsample3(x)), F.relu(self.skip1(x1))], 1)
        x = F.dropout3d(self.upsample4(x), 0.5, drop)  # (B,2w,T,S,S)
        return self.smooth(x).squeeze(1), scores, latent

    def route(self, pose, activation):
        """EM routing, three rounds: (N,I,4,4), (N,I) -> (N,C,16), (N,C)."""
        votes = (pose[:, :, None] @ self.weights).flatten(3)  # (N,I,C,16)
        r = torch.full(votes.shape[:3], 1 / votes.shape[2])  # (N,I,C)
        for iteration in range(3):
            r = r * activation[..., None]  # M: mean and variance of each class's votes
            r = r / (r.sum(2, keepdim=True) + EPSILON)
            total = r.sum(1)  # (N,C)
            weight = (r / (total[:, None] + EPSILON))[..., None]  # (N,I,C,1)
            mu = (weight * votes).sum(1)  # (N,C,16)
            squares = (votes - mu[:, None]) ** 2  # (N,I,C,16)
            variance = (weight * squares).sum(1) + EPSILON  # (N,C,16)
            cost = (self.beta_u + 0.5 * variance.log()) * total[..., None]
            cost = cost.sum(-1)  # (N,C)
            relative = (cost.mean(1, keepdim=True) - cost) / (1e-4 + EPSILON)
            a = torch.sigmoid(1e-6 * (self.beta_a - relative))  # (N,C)
            if iteration < 2:  # E: how likely each class made each vote
                log_p = -(squares / (2 * variance[:, None])).sum(-1)  # (N,I,C)
                log_p = log_p - 0.5 * variance.log().sum(-1)[:, None]
                r = torch.softmax(log_p + (a + EPSILON).log()[:, None], 2)
        return mu, a


# ---- losses ------------------------------------------------------------------------------


def stew_loss(logits, target, weight):
    """Mean of φ·BCE, and a Dice term (of the field, not in Eq. 5) over frames with τ > 0."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    seen = (weight.amax((2, 3), keepdim=True) > 0).float()  # (B,T,1,1)
    p, t = logits.sigmoid() * seen, target * seen  # (B,T,S,S)
    both = (p * t).sum((1, 2, 3))  # (B,)
    dice = 1 - (2 * both + 1) / (p.sum((1, 2, 3)) + t.sum((1, 2, 3)) + 1)
    return (weight * bce).mean(), dice.mean()


def margin_loss(scores, label, margin, counted):
    """Σ_{j≠y} max(0, m - (a_y - a_j))², mean over the clips that show action."""
    total = scores.new_zeros(())
    for a, y in zip(scores[counted], label[counted].tolist(), strict=True):
        gaps = (margin - (a[y] - a)).clamp(min=0) ** 2  # (C,)
        total = total + gaps.sum() - gaps[y]
    return total / max(int(counted.sum()), 1)


def cluster_loss(latent, center):
    """Eq. 3: λ/2 Σ_i ‖LF(x_i) - C_k(i)‖²."""
    return LAMBDA / 2 * ((latent - center) ** 2).sum()


def total_loss(logits, scores, latent, target, weight, label, center, progress):
    """Eq. 6: L = L_cluster + L_loc + L_cls; the margin rises from 0.2 to 0.9."""
    bce, dice = stew_loss(logits, target, weight)
    shows_action = target.flatten(1).any(1)  # (B,)
    margin = 0.2 + 0.7 * progress
    classes = margin_loss(scores, label, margin, shows_action)
    return cluster_loss(latent, center) + (bce + dice) + classes


# ---- clusters ----------------------------------------------------------------------------


def vote(tiles, centers):
    """A video's cluster: majority of its tiles (n,D), ties to the center nearest their
    mean.
    """
    nearest = torch.cdist(tiles, centers).argmin(1)
    counts = nearest.bincount(minlength=len(centers))
    distance = (centers - tiles.mean(0)).norm(dim=1)
    distance[counts < counts.max()] = math.inf
    return int(distance.argmin())


class Clusters:
    """Centers (K,D) that follow the training clips, and the cluster of each labeled
    video.
    """

    def __init__(self, tiles, seed=0):
        """tiles: {video: latents (n,D)} of the labeled videos, in evaluation mode."""
        k = min(K, len(tiles))
        means = KMeans(k, n_init=20, random_state=seed).fit(torch.cat([*tiles.values()]))
        self.centers = torch.from_numpy(means.cluster_centers_).float()
        self.counts = [100] * k
        self.cluster = {v: vote(latents, self.centers) for v, latents in tiles.items()}
        self.seen = {}

    def follow(self, videos, latent):
        for v, x in zip(videos, latent, strict=True):
            k = self.cluster[v]
            self.centers[k] += (x - self.centers[k]) / self.counts[k]
            self.counts[k] += 1
            self.seen.setdefault(v, []).append(x)

    def reassign(self):
        """End of an epoch: each video to the center nearest the mean of its clips."""
        means = {v: torch.stack(self.seen[v]).mean(0) for v in sorted(self.seen)}
        for v, mean in means.items():
            self.cluster[v] = int((self.centers - mean).norm(dim=1).argmin())
        self.fill(means)
        self.seen = {}

    def without_dropout(self, tiles):
        """End of the training: each center becomes the mean of its videos' tiles {v: (n,D)}
        in evaluation mode, as the pool is seen; the clips that it followed had dropout.
        """
        for k in set(self.cluster.values()):
            self.centers[k] = torch.cat([tiles[v] for v in tiles if self.cluster[v] == k]).mean(
                0
            )
        self.fill({v: tiles[v].mean(0) for v in sorted(tiles)})

    def fill(self, means):
        """An empty cluster starts again at the video farthest from its own center."""
        for empty in sorted(set(range(len(self.centers))) - set(self.cluster.values())):
            members = [*self.cluster.values()]
            movable = [v for v in means if members.count(self.cluster[v]) > 1]
            if movable:
                gaps = [(means[v] - self.centers[self.cluster[v]]).norm() for v in movable]
                v = movable[int(torch.stack(gaps).argmax())]
                self.centers[empty], self.counts[empty] = means[v], 100
                self.cluster[v] = empty


# ---- train and score ---------------------------------------------------------------------


def tiles_of(video):
    """Clips (3,T,S,S) at stride 2, one for every 16 frames; the last frame repeats."""
    for start in range(0, len(video), STRIDE * T):
        frames = [min(start + STRIDE * t, len(video) - 1) for t in range(T)]
        yield video.clip[:, frames]


@torch.no_grad()
def predict(net, video, passes=0):
    """-> logits (R,F,S,S), scores (C,), latents of the tiles (n,D). passes 0: one pass
    without dropout.
    """
    net.eval()
    logits, scores, latents = [], [], []
    for clip in tiles_of(video):
        _, score, latent = whole = net(clip[None])
        rounds = [net(clip[None], dropout=True) for _ in range(passes)] or [whole]
        tile = torch.cat([out[0] for out in rounds])  # (R,T,S,S)
        logits.append(tile.repeat_interleave(STRIDE, 1))  # (R,2T,S,S): each serves two
        scores.append(score)
        latents.append(latent)
    logits = torch.cat(logits, 1)[:, : len(video)]
    return logits, torch.cat(scores).mean(0), torch.cat(latents)


def train(videos, seed, steps=STEPS):
    """A detector from new weights on what is labeled so far, and its clusters. An epoch has
    two clips of each labeled video.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Detector()
    labeled = [v for v, video in enumerate(videos) if video.labels]
    clusters = Clusters({v: predict(net, videos[v])[2] for v in labeled}, seed)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    order = []
    for step in range(steps):
        if not order:
            clusters.reassign()
            order = rng.permutation(labeled * 2).tolist()
        batch, order = order[:BATCH], order[BATCH:]
        clips = [training_clip(videos[v], rng) for v in batch]
        clip, target, weight = (torch.stack(x) for x in zip(*clips, strict=True))
        label = torch.tensor([videos[v].label for v in batch])
        center = clusters.centers[[clusters.cluster[v] for v in batch]]  # (B,D)
        net.train()
        logits, scores, latent = net(clip)
        loss = total_loss(logits, scores, latent, target, weight, label, center, step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clusters.follow(batch, latent.detach())
    clusters.without_dropout({v: predict(net, videos[v])[2] for v in labeled})
    return net, clusters


def uncertainty(logits):
    """Eq. 1: U(p) = 1/R Σ_r -ln M(p,r) where the mean prediction is at least τ, else 0;
    Eq. 2: U_f = Σ_p U(p). (R,F,S,S) -> (F,)
    """
    foreground = logits.sigmoid().mean(0) >= THRESHOLD  # (F,S,S)
    surprise = -F.logsigmoid(logits).mean(0)  # (F,S,S)
    return (surprise * foreground).sum((1, 2), dtype=torch.float64)


# ---- select ------------------------------------------------------------------------------


def choose_frames(scores, count):
    """Greedy: take the best frame, damp what is near, again. Each chosen a multiplies the
    score of f by 1 - exp(-(f-a)²/2σ²). Frames of score 0 come last; ties go to the frame
    farthest from the chosen ones, then to the earlier.
    """
    chosen = []

    def rank(f):
        damped, distance = float(scores[f]), math.inf
        for a in chosen:
            damped *= 1 - np.exp(-float((f - a) ** 2) / (2 * SIGMA**2))
            distance = min(distance, abs(f - a))
        return scores[f] > 0, damped, distance, -f

    while len(chosen) < min(count, len(scores)):
        chosen.append(max(set(range(len(scores))) - set(chosen), key=rank))
    return chosen


def quotas(sizes, b_v):
    """b_v videos over clusters as n_c·b_v/N_U, by largest remainder, exact."""
    shares = [Fraction(n * b_v, sum(sizes)) for n in sizes]
    parts = [math.floor(share) for share in shares]
    order = sorted(range(len(sizes)), key=lambda c: (parts[c] - shares[c], c))
    for c in order[: b_v - sum(parts)]:
        parts[c] += 1
    return parts


def select(scores, cluster, b_v, b_f):
    """scores: {video: (F,)}, cluster: {video: k} of the unlabeled videos -> {video:
    [frames]}.
    """
    a_t = max(1, b_f // b_v)  # frames a video
    value = {}  # of a video: mean undamped score of its A_t frames
    for v, score in scores.items():
        frames = choose_frames(score, a_t)
        value[v] = float(np.mean([score[f] for f in frames]))
    best_first = sorted(scores, key=lambda v: (-value[v], v))
    sizes = [list(cluster.values()).count(k) for k in range(K)]
    taken = set()
    for k, part in enumerate(quotas(sizes, b_v)):
        taken.update([v for v in best_first if cluster[v] == k][:part])
    chosen = [v for v in best_first if v in taken]
    counts = {v: min(a_t, len(scores[v])) for v in chosen}
    spare = [v for _ in range(b_f) for v in chosen]  # the remainder goes by score
    for v in spare:
        if sum(counts.values()) < b_f and counts[v] < len(scores[v]):
            counts[v] += 1
    return {v: choose_frames(scores[v], counts[v]) for v in chosen}


# ---- evaluate, and the cycles ------------------------------------------------------------


def evaluate(net, videos):
    """Mean IoU of frames with action, rate of those with IoU ≥ .5 (mean over classes),
    accuracy; all in percent.
    """
    ious, right = {c: [] for c in range(len(CLASSES))}, []
    for video in videos:
        logits, scores, _ = predict(net, video)
        right.append(int(scores.argmax()) == video.label)
        for mask, box in zip(logits[0] >= 0, video.truth, strict=True):
            if box is not None:
                truth = mask_of(box) > 0
                iou = (mask & truth).sum() / (mask | truth).sum()
                ious[video.label].append(float(iou))
    hits = [np.mean(np.array(of_class) >= 0.5) for of_class in ious.values()]
    mean = np.mean(sum(ious.values(), []))
    return 100 * mean, 100 * np.mean(hits), 100 * np.mean(right)


def next_choice(net, clusters, pool, b_v, b_f, passes):
    """Score and cluster every unlabeled video, and select -> {video: [frames]}."""
    scores, cluster = {}, {}
    for v, video in enumerate(pool):
        if not video.labels:
            logits, _, tiles = predict(net, video, passes)
            scores[v] = uncertainty(logits).numpy()
            cluster[v] = vote(tiles, clusters.centers)
    return select(scores, cluster, b_v, b_f)


def main(train_videos=60, test_videos=24, cycles=2, steps=STEPS, passes=R, seed=0):
    """Returns the rows of the table: cycle, videos, frames, IoU, f-mAP@.5, accuracy."""
    rng = np.random.default_rng(seed)
    pool = [make_video(rng, i % len(CLASSES)) for i in range(train_videos)]
    test = [make_video(rng, i % len(CLASSES)) for i in range(test_videos)]
    b_v = math.floor(VIDEOS * len(pool))
    b_f = math.floor(FRAMES * VIDEOS * sum(map(len, pool)))
    first = rng.permutation(len(pool))[:b_v]  # cycle 0: at random
    chosen = {v: rng.permutation(len(pool[v]))[: b_f // b_v] for v in first}

    rows = []
    print("cycle  videos  frames    IoU  f@.5  accuracy")
    for cycle in range(cycles + 1):
        for v, frames in chosen.items():
            annotate(pool[v], frames)
        net, clusters = train(pool, seed + cycle, steps)
        spent = [len(video.labels) for video in pool if video.labels]
        rows.append((cycle, len(spent), sum(spent), *evaluate(net, test)))
        print("{:5d}{:8d}{:8d}{:7.1f}{:6.1f}{:10.1f}".format(*rows[-1]), flush=True)
        if cycle < cycles:
            chosen = next_choice(net, clusters, pool, b_v, b_f, passes)
    return rows


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
