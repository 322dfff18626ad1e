"""Primary capsules and one layer of matrix capsules with EM routing (Hinton et al., ICLR
2018).

Letters: N places (batch x height x width) · I capsule types below · C classes · P = 16
numbers of a 4x4 pose.

EM routing spends its time on moving votes, I·C·16 numbers a place, not on arithmetic. So
the votes of a few places at a time are made (never the weights repeated for each place),
laid out with the places innermost, routed while they lie in the cache, and forgotten; the
backward pass makes them again. Every place routes by itself, so this is exact.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

POSE = 4
EPSILON = 1e-8
ROUTING_LAMBDA = 1e-6
# The published deviation is sqrt((sum_C (cost - mean))^2 / C + eps); its sum is exactly
# zero, so sqrt(eps) is left.
COST_DEVIATION = math.sqrt(EPSILON)
# Votes that are routed together: what the cache of a CPU core takes; on a GPU as many as
# its memory spares.
VOTES_AT_ONCE = {"cpu": 2**19, "cuda": 2**28}
# numbers that a CPU takes at a time: places, the innermost axis, in multiples of them
LANES = 16
# of with_masks: their responses (14 MB in the full network) stay in cache
CHANNELS_AT_ONCE = 16


class PrimaryCaps(nn.Module):
    """Two valid convolutions: features (B,F,H,W) -> poses (B,H',W',I,16) and activations
    (B,H',W',I) in (0,1).

    Like the routing after them they run in the dtype of their weights, float32, whatever the
    autocast state.
    """

    def __init__(self, channels: int, types: int, kernel: int):
        super().__init__()
        self.types = types
        self.pose = nn.Conv2d(channels, types * POSE * POSE, kernel)
        self.a = nn.Conv2d(channels, types, kernel)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(features.device.type, enabled=False):
            # else oneDNN would first turn these large weights to channels_last
            features = features.to(self.pose.weight.dtype).contiguous()
            return self._capsules(self.pose(features), self.a(features))

    def _capsules(self, pose, activation):
        pose, activation = (
            pose.permute(0, 2, 3, 1),
            torch.sigmoid(activation).permute(0, 2, 3, 1),
        )
        return pose.unflatten(-1, (self.types, POSE * POSE)), activation

    @torch.no_grad()
    def with_masks(
        self, features: torch.Tensor, masks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The capsules of one clip (1,F,H,W) under R channel masks (R,F), exactly
        forward(masks · features).

        Linear in the channels: Σ_f mask[r,f] · (K_f * x_f). The response K_f * x_f of each
        channel is computed once, for all R masks, and a small matrix product puts them
        together: the work of one pass instead of R.
        """
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.pose.weight.dtype)
            masks = masks.to(features.dtype)
            both = [_under_masks(layer, features, masks) for layer in (self.pose, self.a)]
            return self._capsules(*both)


def _under_masks(layer, features, masks):
    """layer(mask · features) of one clip (1,F,H,W) for R masks (R,F): (R,O,H',W')."""
    kernel = layer.kernel_size
    height, width = (n - k + 1 for n, k in zip(features.shape[2:], kernel, strict=True))
    result = layer.bias[None, :, None].expand(len(masks), -1, height * width)
    result = result.reshape(len(masks), -1)
    for start in range(0, features.shape[1], CHANNELS_AT_ONCE):
        some = slice(start, start + CHANNELS_AT_ONCE)
        x = features[:, some].contiguous()
        weight = layer.weight[:, some].transpose(0, 1).reshape(-1, 1, *kernel)
        responses = F.conv2d(x, weight, groups=x.shape[1])  # (1, f*O, H', W')
        result.addmm_(masks[:, some], responses.view(x.shape[1], -1))
    return result.view(len(masks), -1, height, width)


class ConvCaps(nn.Module):
    """1x1 convolutional capsules: (B,H,W,I,16), (B,H,W,I) -> poses (B,H,W,C,16),
    activations (B,H,W,C) in (0,1).

    Runs in float32 (or float64) whatever the autocast state: exponents of the routing do
    not survive bf16.
    """

    def __init__(self, types: int, classes: int, iterations: int = 3):
        super().__init__()
        self.iterations = iterations
        self.weights = nn.Parameter(torch.randn(1, types, classes, POSE, POSE))
        self.beta_u = nn.Parameter(torch.zeros(classes, POSE * POSE))
        self.beta_a = nn.Parameter(torch.zeros(classes))

    def forward(
        self, pose: torch.Tensor, activation: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(device_type=pose.device.type, enabled=False):
            dtype = torch.promote_types(pose.dtype, torch.float32)
            places = pose.shape[:3]
            inputs = pose.flatten(0, 2).to(dtype), activation.flatten(0, 2).to(dtype)
            layer = self.weights.to(dtype), self.beta_u.to(dtype), self.beta_a.to(dtype)
            votes = POSE * POSE * self.weights.shape[1] * self.weights.shape[2]
            most = VOTES_AT_ONCE[pose.device.type] / votes  # places
            most = max(round(most / LANES), 1) * LANES
            # a compiler sees one routing, not one for each part, and lays out the votes
            # itself; an exported network takes any batch, so it cannot ask how large this is
            compiling = torch.compiler.is_compiling() or torch.compiler.is_exporting()
            if compiling or inputs[0].shape[0] <= most:
                mu, a = route(*inputs, *layer, self.iterations)
            else:
                mu, a = _RouteInParts.apply(*inputs, *layer, self.iterations, most)
        return mu.unflatten(0, places), a.unflatten(0, places)


class _RouteInParts(torch.autograd.Function):
    """route() a few places at a time; the backward pass routes each part again, so that no
    votes are kept.
    """

    @staticmethod
    def forward(ctx, pose, activation, weights, beta_u, beta_a, iterations, most):
        ctx.save_for_backward(pose, activation, weights, beta_u, beta_a)
        ctx.iterations, ctx.most = iterations, most
        buffers, parts = None, []
        for p, a in zip(pose.split(most), activation.split(most), strict=True):
            if buffers is None or len(p) < most:  # the last part may be smaller
                buffers = Buffers.of(p, weights)
            parts.append(route(p, a, weights, beta_u, beta_a, iterations, buffers))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_mu, grad_a):
        pose, activation, *layer = ctx.saved_tensors
        layer = [parameter.detach().requires_grad_() for parameter in layer]
        of_inputs, of_layer = [], [torch.zeros_like(parameter) for parameter in layer]
        for p, a, *grads in zip(
            *(x.split(ctx.most) for x in (pose, activation, grad_mu, grad_a)), strict=True
        ):
            p, a = p.detach().requires_grad_(), a.detach().requires_grad_()
            with torch.enable_grad():
                out = route(p, a, *layer, ctx.iterations)
            of_p, of_a, *of_parameters = torch.autograd.grad(out, [p, a, *layer], grads)
            of_inputs.append((of_p, of_a))
            for total, part in zip(of_layer, of_parameters, strict=True):
                total += part
        return (
            *(torch.cat(part) for part in zip(*of_inputs, strict=True)),
            *of_layer,
            None,
            None,
        )


class Buffers(NamedTuple):
    """Where one routing after the other may leave its large tensors (I, C, 16, N): new ones
    would be taken from the system, and given back, several times a part.
    """

    votes: torch.Tensor
    squares: torch.Tensor
    product: torch.Tensor

    @classmethod
    def of(cls, pose: torch.Tensor, weights: torch.Tensor) -> "Buffers":
        """For poses (N,I,16) and weights (1,I,C,4,4)."""
        shape = *weights.shape[1:3], POSE * POSE, len(pose)
        return cls(*(pose.new_empty(shape) for _ in cls._fields))


def route(
    pose: torch.Tensor,
    activation: torch.Tensor,
    weights: torch.Tensor,
    beta_u: torch.Tensor,
    beta_a: torch.Tensor,
    iterations: int,
    buffers: Buffers | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """EM routing: poses (N,I,16), activations (N,I) -> class poses (N,C,16), class
    activations (N,C).

    weights (1,I,C,4,4), beta_u (C,16), beta_a (C,). buffers: what it may write over, where
    no gradient is wanted; the results are the same bytes.
    """
    places, classes = pose.shape[0], weights.shape[2]
    into, squares_into, product = buffers or (None, None, None)
    votes = _votes(pose, weights[0], into)  # (I, C, 16, N)
    activation = activation.T[:, None]  # (I, 1, N)
    beta_u = _transposed(beta_u)[..., None]  # (C, 16, 1)
    beta_a = beta_a[:, None]  # (C, 1)
    r = activation / classes  # the same for all classes at first
    r = r.expand(-1, classes, -1)  # (I, C, N)
    for iteration in range(iterations):
        share = r / (r.sum(dim=1, keepdim=True) + EPSILON)  # of each class, (I, C, N)
        total = share.sum(dim=0)  # (C, N)
        weight = (share / (total + EPSILON))[:, :, None]  # (I, C, 1, N)
        mu = torch.mul(votes, weight, out=product).sum(dim=0)  # (C, 16, N)
        squares = _squares(votes, mu, squares_into)
        # (C, 16, N)
        variance = torch.mul(squares, weight, out=product).sum(dim=0) + EPSILON
        log_variance = variance.log()
        cost = ((beta_u + 0.5 * log_variance) * total[:, None]).sum(dim=1)  # (C, N)
        relative = (cost.mean(dim=0) - cost) / (COST_DEVIATION + EPSILON)
        a = torch.sigmoid(ROUTING_LAMBDA * (beta_a - relative))  # (C, N)
        if iteration < iterations - 1:
            # Gaussian log-likelihood; ln 2 pi cancels in the softmax
            # (I, C, N)
            distance = torch.mul(squares, 0.5 / variance, out=product).sum(dim=2)
            log_likelihood = (a + EPSILON).log() - 0.5 * log_variance.sum(dim=1) - distance
            r = torch.softmax(log_likelihood, dim=1) * activation
    # back to row after row
    mu = mu.view(classes, POSE, POSE, places).permute(3, 0, 2, 1).flatten(2)
    return mu, a.T.contiguous()


def _squares(votes, mu, into):
    """(votes - mu)² in one pass, (I, C, 16, N)."""
    mu = mu.expand_as(votes)
    if into is None:
        return F.mse_loss(votes, mu, reduction="none")
    return torch.ops.aten.mse_loss.out(votes, mu, 0, out=into)  # 0: no reduction


def _votes(pose, weights, into=None):
    """Every lower capsule's pose times its matrix for every class: (N,I,16), (I,C,4,4) ->
    (I, C, 16, N).

    The 16 numbers come column after column: vote[y,x] = Σ_k W[k,y] pose[x,k] is one product
    of W's columns with the poses of all places.
    """
    types, classes = weights.shape[:2]
    left = weights.transpose(2, 3).reshape(types, classes * POSE, POSE)  # (I, C*y, k)
    columns = pose.unflatten(-1, (POSE, POSE)).permute(1, 3, 2, 0)
    right = columns.reshape(types, POSE, -1)  # (I, k, x*N)
    if into is not None:
        into = into.view(types, classes * POSE, -1)
    votes = torch.bmm(left, right, out=into)
    return votes.view(types, classes, POSE * POSE, pose.shape[0])


def _transposed(numbers):
    """(C,16) row after row -> column after column."""
    return numbers.unflatten(-1, (POSE, POSE)).transpose(1, 2).flatten(1)
