"""Primary capsules and one layer of matrix capsules with EM routing (Hinton et al., ICLR 2018).

Letters: N places (batch x height x width) · I capsule types below · C classes · P = 16 numbers of a 4x4 pose.
"""

import math

import torch
from torch import nn

POSE = 4
EPSILON = 1e-8
ROUTING_LAMBDA = 1e-6
# The published deviation is sqrt((sum_C (cost - mean))^2 / C + eps); its sum is exactly zero, so sqrt(eps) is left.
COST_DEVIATION = math.sqrt(EPSILON)


class PrimaryCaps(nn.Module):
    """Two valid convolutions: features (B,F,H,W) -> poses (B,H',W',I,16) and activations (B,H',W',I) in (0,1)."""

    def __init__(self, channels, types, kernel):
        super().__init__()
        self.types = types
        self.pose = nn.Conv2d(channels, types * POSE * POSE, kernel)
        self.a = nn.Conv2d(channels, types, kernel)

    def forward(self, features):
        pose = self.pose(features).permute(0, 2, 3, 1)                           # (B, H', W', I*16)
        activation = torch.sigmoid(self.a(features)).permute(0, 2, 3, 1)         # (B, H', W', I)
        return pose.unflatten(-1, (self.types, POSE * POSE)), activation


class ConvCaps(nn.Module):
    """1x1 convolutional capsules: (B,H,W,I,16), (B,H,W,I) -> poses (B,H,W,C,16), activations (B,H,W,C) in (0,1).

    Runs in float32 (or float64) whatever the autocast state: exponents of the routing do not survive bf16.
    """

    def __init__(self, types, classes, iterations=3):
        super().__init__()
        self.iterations = iterations
        self.weights = nn.Parameter(torch.randn(1, types, classes, POSE, POSE))
        self.beta_u = nn.Parameter(torch.zeros(classes, POSE * POSE))
        self.beta_a = nn.Parameter(torch.zeros(classes))

    def forward(self, pose, activation):
        with torch.autocast(device_type=pose.device.type, enabled=False):
            dtype = torch.promote_types(pose.dtype, torch.float32)
            places = pose.shape[:3]
            mu, a = self._route(self._votes(pose.flatten(0, 2).to(dtype)), activation.flatten(0, 2).to(dtype))
        return mu.unflatten(0, places), a.unflatten(0, places)

    def _votes(self, pose):
        """Every lower capsule's pose times its matrix for every class: (N,I,16) -> (N,I,C,16)."""
        types, classes = self.weights.shape[1:3]
        left = pose.unflatten(-1, (POSE, POSE)).transpose(0, 1).flatten(1, 2)    # (I, N*4, 4)
        right = self.weights[0].permute(0, 2, 1, 3).flatten(2)                   # (I, 4, C*4)
        votes = torch.bmm(left, right.to(left.dtype))                            # (I, N*4, C*4)
        votes = votes.view(types, -1, POSE, classes, POSE).permute(1, 0, 3, 2, 4)
        return votes.flatten(3)                                                  # (N, I, C, 16)

    def _route(self, votes, activation):
        """EM routing. Votes (N,I,C,16), activation (N,I) -> (mu (N,C,16), a (N,C))."""
        classes = votes.shape[2]
        responsibility = votes.new_full(votes.shape[:3], 1 / classes)            # (N, I, C)
        for iteration in range(self.iterations):
            mu, variance, a = self._m_step(votes, activation, responsibility)
            if iteration < self.iterations - 1:
                responsibility = _e_step(votes, mu, variance, a)
        return mu, a

    def _m_step(self, votes, activation, responsibility):
        """Weighted Gaussians of the votes, and the activation of each class capsule."""
        r = responsibility * activation[..., None]
        r = r / (r.sum(dim=2, keepdim=True) + EPSILON)                           # share of each class, (N, I, C)
        total = r.sum(dim=1)                                                     # (N, C)
        weight = (r / (total[:, None] + EPSILON))[..., None]                     # (N, I, C, 1)
        mu = (weight * votes).sum(dim=1)                                         # (N, C, 16)
        variance = (weight * (votes - mu[:, None]) ** 2).sum(dim=1) + EPSILON    # (N, C, 16)
        cost = ((self.beta_u + 0.5 * variance.log()) * total[..., None]).sum(dim=-1)           # (N, C)
        relative = (cost.mean(dim=1, keepdim=True) - cost) / (COST_DEVIATION + EPSILON)
        return mu, variance, torch.sigmoid(ROUTING_LAMBDA * (self.beta_a - relative))


def _e_step(votes, mu, variance, a):
    """Responsibilities: softmax over classes of the Gaussian log-likelihood plus the log activation. -> (N,I,C)."""
    squares = ((votes - mu[:, None]) ** 2 / (2 * variance[:, None])).sum(dim=-1)
    constant = 0.5 * variance.log().sum(dim=-1)                                  # ln sigma; ln 2 pi cancels
    return torch.softmax((a + EPSILON).log()[:, None] - constant[:, None] - squares, dim=2)
