"""The published network, layer by layer: what the fast network in models/ is tested and
timed against.

Every layer is computed as it is written in the published networks of this line, a training
step runs the network twice (a second forward pass for the latents), and scoring runs the
whole network once per dropout pass. The product does not use it.
PlainDetector has the parameters of models.detector.Detector, name by name, so
`plain.load_state_dict(detector.state_dict())` makes the two the same function.

Letters: B clips · T,H,W time and place · N places of all clips · I capsule types below · C
classes · R dropout passes.
"""

import itertools
import statistics
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from claus.models.frame_conv import same_padding
from claus.models.i3d import INCEPTION_WIDTHS

POSE, EPSILON, ROUTING_LAMBDA, COST_DEVIATION = 4, 1e-8, 1e-6, 1e-4


class Plain(NamedTuple):
    logits: torch.Tensor  # (B, 1, 8, H, W)
    scores: torch.Tensor  # (B, C)
    latent: torch.Tensor  # (B, 17 C)


class Unit3D(nn.Module):
    """Same-padded convolution, batch norm, ReLU."""

    def __init__(self, channels_in, channels_out, kernel=(1, 1, 1), stride=(1, 1, 1)):
        super().__init__()
        self.conv3d = nn.Conv3d(channels_in, channels_out, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(channels_out, eps=1e-3, momentum=0.01)

    def forward(self, x):
        x = F.pad(x, same_padding(x.shape[2:], self.conv3d.kernel_size, self.conv3d.stride))
        return F.relu(self.bn(self.conv3d(x)))


class Pool(nn.Module):
    """Max-pooling, same-padded by zeros."""

    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return F.max_pool3d(
            F.pad(x, same_padding(x.shape[2:], self.kernel, self.stride)),
            self.kernel,
            self.stride,
        )


class Inception(nn.Module):
    """1x1 | 1x1, 3x3x3 | 1x1, 3x3x3 | pool, 1x1, side by side."""

    def __init__(self, channels, widths):
        super().__init__()
        w0, w1a, w1b, w2a, w2b, w3 = widths
        self.b0 = Unit3D(channels, w0)
        self.b1a, self.b1b = Unit3D(channels, w1a), Unit3D(w1a, w1b, (3, 3, 3))
        self.b2a, self.b2b = Unit3D(channels, w2a), Unit3D(w2a, w2b, (3, 3, 3))
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit3D(channels, w3)
        self.channels_out = w0 + w1b + w2b + w3

    def forward(self, x):
        return torch.cat(
            [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))],
            dim=1,
        )


class I3D(nn.Module):
    """I3D up to Mixed_4f; `stages` yields what the detector's skips and its capsules take."""

    def __init__(self, width):
        super().__init__()
        w1, w2, w3 = (round(w * width) for w in (64, 64, 192))
        self.Conv3d_1a_7x7 = Unit3D(3, w1, (7, 7, 7), (2, 2, 2))
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(w1, w2)
        self.Conv3d_2c_3x3 = Unit3D(w2, w3, (3, 3, 3), (2, 1, 1))
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 1, 1))
        channels = w3
        for name, widths in INCEPTION_WIDTHS.items():
            self.add_module(name, Inception(channels, [round(w * width) for w in widths]))
            channels = getattr(self, name).channels_out
        self.channels = w1, w3, channels

    def mixed_3(self, x):
        return self.Mixed_3c(self.Mixed_3b(self.MaxPool3d_3a_3x3(x)))

    def mixed_4(self, x):
        x = self.MaxPool3d_4a_3x3(x)
        for name in "bcdef":
            x = getattr(self, f"Mixed_4{name}")(x)
        return x


class PrimaryCaps(nn.Module):
    """Two valid convolutions: poses (B,h,w,I,4,4) and activations (B,h,w,I)."""

    def __init__(self, channels, types, kernel):
        super().__init__()
        self.pose = nn.Conv2d(channels, types * POSE * POSE, kernel)
        self.a = nn.Conv2d(channels, types, kernel)

    def forward(self, x):
        pose, a = self.pose(x).permute(0, 2, 3, 1), torch.sigmoid(self.a(x)).permute(0, 2, 3, 1)
        return pose.unflatten(-1, (-1, POSE, POSE)), a


class ConvCaps(nn.Module):
    """EM routing at every place, every weight matrix repeated for every place."""

    def __init__(self, types, classes):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(1, types, classes, POSE, POSE))
        self.beta_u = nn.Parameter(torch.zeros(classes, POSE * POSE))
        self.beta_a = nn.Parameter(torch.zeros(classes))

    def forward(self, pose, activation):
        places, classes = pose.shape[:3], self.weights.shape[2]
        pose, activation = pose.flatten(0, 2), activation.flatten(0, 2)  # (N, I, 4, 4), (N, I)
        weights = self.weights.repeat(len(pose), 1, 1, 1, 1)  # (N, I, C, 4, 4)
        # (N, I, C, 16)
        votes = (pose[:, :, None].repeat(1, 1, classes, 1, 1) @ weights).flatten(3)
        r = votes.new_full(votes.shape[:3], 1 / classes)  # (N, I, C)
        mu = variance = a = None
        for _ in range(3):
            if mu is not None:
                squares = ((votes - mu[:, None]) ** 2 / (2 * variance[:, None])).sum(-1)
                log_likelihood = -squares - 0.5 * variance.log().sum(-1)[:, None]
                r = torch.softmax(log_likelihood + (a + EPSILON).log()[:, None], dim=2)
            r = r * activation[:, :, None]
            r = r / (r.sum(2, keepdim=True) + EPSILON)
            total = r.sum(1)  # (N, C)
            weight = (r / (total[:, None] + EPSILON))[..., None]
            mu = (weight * votes).sum(1)  # (N, C, 16)
            variance = (weight * (votes - mu[:, None]) ** 2).sum(1) + EPSILON
            cost = ((self.beta_u + 0.5 * variance.log()) * total[..., None]).sum(-1)  # (N, C)
            relative = (cost.mean(1, keepdim=True) - cost) / (COST_DEVIATION + EPSILON)
            a = torch.sigmoid(ROUTING_LAMBDA * (self.beta_a - relative))
        return mu.unflatten(0, places), a.unflatten(0, places)


class PlainDetector(nn.Module):
    """config: models.detector.DetectorConfig."""

    def __init__(self, config):
        super().__init__()
        width = config.decoder
        self.conv1 = I3D(config.width)
        c112, c56, c28 = self.conv1.channels
        self.primary_caps = PrimaryCaps(c28, config.capsule_types, config.kernel)
        self.conv_caps = ConvCaps(config.capsule_types, config.classes)
        self.upsample1 = nn.ConvTranspose2d(config.classes * POSE * POSE, width, config.kernel)
        self.conv28 = nn.Conv2d(c28, width, 3, padding=1)
        self.upsample2 = nn.ConvTranspose3d(
            2 * width, width, 3, stride=2, padding=1, output_padding=1
        )
        self.conv56 = nn.Conv3d(c56, width, 3, padding=1)
        self.upsample3 = nn.ConvTranspose3d(
            2 * width, width, 3, stride=2, padding=1, output_padding=1
        )
        self.conv112 = nn.Conv3d(c112, width, 3, padding=1)
        self.upsample4 = nn.ConvTranspose3d(
            2 * width, 2 * width, 3, stride=2, padding=1, output_padding=1
        )
        self.smooth = nn.ConvTranspose3d(2 * width, 1, 3, padding=1)

    def forward(self, clip, mask_in=None, mask_out=None):
        """Clip (B,3,8,H,W) -> Plain. Masks (B,channels): factors of the two channel-dropout
        layers; None drops none.
        """
        state = {"clip": clip, "mask_in": mask_in, "mask_out": mask_out}
        for _, stage in self.stages():
            stage(state)
        return Plain(state["logits"], state["scores"], state["latent"])

    def stages(self):
        """The network as (name, function that reads and extends a dict) in order, so that
        each can be timed.
        """

        def up_to_56(s):
            x = F.relu(self.upsample1(s["pose"].flatten(3).permute(0, 3, 1, 2)))
            x = torch.cat([x, F.relu(self.conv28(s["x_28"]))], 1).unsqueeze(2)
            s["x"] = torch.cat(
                [F.relu(self.upsample2(x)), F.relu(self.conv56(s["skip_56"]))], 1
            )

        def route(s):
            s["pose"], a = self.conv_caps(*s["primary"])
            s["scores"] = a.mean((1, 2))
            s["latent"] = torch.cat([s["pose"].flatten(3), a], -1).amax((1, 2))

        def dropped_28(s):
            s["x_28"] = dropped(self.conv1.mixed_4(s["x"]).squeeze(2), s["mask_in"])

        return [
            ("I3D stem", lambda s: s.update(skip_112=self.conv1.Conv3d_1a_7x7(s["clip"]))),
            (
                "Conv3d_2c",
                lambda s: s.update(
                    skip_56=self.conv1.Conv3d_2c_3x3(
                        self.conv1.Conv3d_2b_1x1(self.conv1.MaxPool3d_2a_3x3(s["skip_112"]))
                    )
                ),
            ),
            ("Mixed_3b,c", lambda s: s.update(x=self.conv1.mixed_3(s["skip_56"]))),
            ("Mixed_4b-f", dropped_28),
            ("primary capsules", lambda s: s.update(primary=self.primary_caps(s["x_28"]))),
            ("EM routing", route),
            ("upsample1, conv28, upsample2, conv56", up_to_56),
            ("upsample3", lambda s: s.update(x=F.relu(self.upsample3(s["x"])))),
            (
                "conv112",
                lambda s: s.update(
                    x=torch.cat([s["x"], F.relu(self.conv112(s["skip_112"]))], 1)
                ),
            ),
            ("upsample4", lambda s: s.update(x=self.upsample4(s["x"]))),
            ("smooth", lambda s: s.update(logits=self.smooth(dropped(s["x"], s["mask_out"])))),
        ]


def dropped(x, mask):
    """x (B,C,...) times channel factors (B,C)."""
    return x if mask is None else x * mask.reshape(*mask.shape, *[1] * (x.dim() - 2))


@torch.no_grad()
def plain_scoring(network, clip, masks_in, masks_out):
    """R full passes over one clip (1,3,8,H,W) with masks (R,channels), and one without for
    the latent. -> (R,8,H,W).
    """
    latent = network(clip).latent[0]
    passes = [
        network(clip, masks_in[r : r + 1], masks_out[r : r + 1]).logits[0, 0]
        for r in range(len(masks_in))
    ]
    return torch.stack(passes), latent


def plain_step(network, optimizer, clip, masks, loss, second=True):
    """A training step as published; loss(Plain) -> 0-dim tensor. Returns its value.

    The latents come from a second forward pass, which is given the same masks and carries
    no gradient (with one, the step would be slower still). second: False takes them from the
    first.
    """
    out = network(clip, *masks)
    if second:
        with torch.no_grad():
            out = out._replace(latent=network(clip, *masks).latent)
    value = loss(out)
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()
    return value.detach()


def plain_adam(network, rate=5e-4):
    """Adam, one parameter at a time."""
    return torch.optim.Adam(network.parameters(), rate, foreach=False, fused=False)


def stage_costs(network, clip, rounds=3):
    """Per stage of the plain network: [(name, GMAC, seconds, MiB kept for backward)].

    GMAC counts padded taps, as a convolution library does. Seconds: median of forward
    passes without gradient. Kept: what autograd holds on to after the stage, parameters
    left out.
    """
    state, rows = {"clip": clip, "mask_in": None, "mask_out": None}, []
    parameters = {
        t.untyped_storage().data_ptr()
        for t in itertools.chain(network.parameters(), network.buffers())
    }
    for name, stage in network.stages():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            stage(dict(state))
        seconds = []
        with torch.no_grad():
            for _ in range(rounds):
                began = time.perf_counter()
                stage(dict(state))
                seconds.append(time.perf_counter() - began)
        kept = {}

        def keep(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        state = {key: _detached(value, name != "I3D stem") for key, value in state.items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            stage(state)
        rows.append(
            (
                name,
                counter.get_total_flops() / 2e9,
                statistics.median(seconds),
                sum(size for pointer, size in kept.items() if pointer not in parameters)
                / 2**20,
            )
        )
        state = {key: _detached(value, False) for key, value in state.items()}
    return rows


def _detached(value, requires_grad):
    if isinstance(value, tuple):
        return tuple(_detached(part, requires_grad) for part in value)
    return value.detach().requires_grad_(requires_grad) if torch.is_tensor(value) else value
