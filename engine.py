"""One training epoch, one validation, and the sum of the losses (paper Eq. 6: L = L_cluster
+ L_loc + L_cls).
"""

import argparse
import math
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from claus.datasets.clips.geometry import normalize
from claus.losses.cluster import LAMBDA, cluster_loss
from claus.losses.margin import LAST_MARGIN, margin_at, margin_loss
from claus.losses.stew import stew_loss
from claus.models.detector import DROPOUT
from claus.utils import distributed
from claus.utils.runtime import UserError


@dataclass(frozen=True)
class LossOptions:
    """Weights and switches of the loss; the defaults are the paper's."""

    weighting: str = "paper"  # where φ enters: paper | authors
    dice: bool | str = True  # or "weighted"
    localization: float = 1.0
    margin: float = 1.0
    cluster: float = LAMBDA
    last_margin: float = LAST_MARGIN


def total_loss(detection, batch, centers, options, progress, clips=1.0, actions=1.0):
    """Sum of the losses of one batch, and its terms by name (0-dim tensors, unweighted but
    for `cluster` and `total`).

    batch: target, weight (B,T,S,S), label (B,). centers (B,D): the center of each clip's
    video. progress in [0,1]. clips, actions: the share of the whole batch's clips, and of
    its clips that show action, which this part of it has. Each term is a mean over the one
    or the other (`cluster`: a sum), so the parts' terms add up to the whole batch's.
    """
    bce, dice = stew_loss(
        detection.logits[:, 0],
        batch["target"],
        batch["weight"],
        options.dice,
        options.weighting,
    )
    margin = margin_loss(
        detection.scores,
        batch["label"],
        margin_at(progress, options.last_margin),
        shows_action(batch),
    )
    cluster = cluster_loss(detection.latent, centers, options.cluster)
    bce, dice, margin = clips * bce, clips * dice, actions * margin
    total = options.localization * (bce + dice) + options.margin * margin + cluster
    return total, {
        "total": total,
        "bce": bce,
        "dice": dice,
        "margin": margin,
        "cluster": cluster,
    }


def shows_action(batch):
    """Which clips (B,) have any foreground in their labels; one without has no class to
    learn from.
    """
    return batch["target"].flatten(1).any(1)


def device_name(text):
    """argparse type of --device: "cpu", "cuda" or "cuda:1", proved to be there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; give cuda, cuda:1 or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"no CUDA device for {text} here ({torch.cuda.device_count()} in all); "
            "give another, or cpu"
        )
    return text


def to_device(batch, device, pixel_range):
    """Batch of a loader -> the same on `device`, with `clip` float (B,3,T,S,S)."""
    moved = {
        key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    moved["clip"] = normalize(moved["frames"], pixel_range)
    return moved


def autocast(device, enabled=True):
    """bf16 autocast on CUDA (capsule routing keeps float32 by itself); nothing on the CPU."""
    return torch.autocast(
        "cuda", torch.bfloat16, enabled=enabled and torch.device(device).type == "cuda"
    )


def fast_convolutions(device):
    """Let cuDNN try its algorithms and keep the fastest of each shape; clips have few
    shapes. Nothing on the CPU.
    """
    torch.backends.cudnn.benchmark = torch.device(device).type == "cuda"


SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


class Forward(nn.Module):
    """The forward pass of training with given dropout masks, in one module, as DDP and
    torch.compile want it.
    """

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, clip, mask_in, mask_out):
        """clip (B,3,T,S,S), masks (B,832) and (B,128) -> Detection."""
        return self.detector.head(self.detector.encode(clip), mask_in, mask_out)


def forward_pass(detector, compiled=False):
    """What train_epoch calls for its forward passes; the detector's own modules and names
    stay as they are.

    compiled: through torch.compile. With several processes their gradients are averaged
    (DistributedDataParallel).
    """
    module = Forward(detector)
    if compiled:
        module.compile(dynamic=False)
    if distributed.world_size() == 1:
        return module
    device = next(detector.parameters()).device
    return DistributedDataParallel(
        module,
        [device] if device.type == "cuda" else None,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        process_group=distributed.device_group(device.type),
    )


def dropout_masks(detector, seed, step, batch, number=0):
    """Channel-dropout factors of a whole batch: (batch,832) and (batch,128), 0 or 1/(1-p),
    on the CPU.

    Drawn from (seed, step) alone, for all processes together, so that their number does not
    matter. number: of the pass, where a step has several.
    """
    sizes = detector.dropped_channels
    kept = (
        np.random.default_rng([seed, 4, step, number]).random((batch, sum(sizes)), np.float32)
        >= DROPOUT
    )
    return (torch.from_numpy(kept).float() / (1 - DROPOUT)).split(sizes, dim=1)


def batch_norms(detector):
    return [m for m in detector.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def train_mode(detector, freeze_bn=False):
    """Training mode; freeze_bn leaves every batch norm with its running statistics, to use
    and not to change.
    """
    detector.train()
    for layer in batch_norms(detector) if freeze_bn else ():
        layer.eval()


def train_epoch(
    detector,
    clusters,
    batches,
    optimizer,
    options,
    pixel_range,
    first_step,
    all_steps,
    amp=True,
    on_batch=None,
    schedule="constant",
    forward=None,
    seed=0,
    freeze_bn=False,
):
    """One pass over `batches`. Returns (mean of each loss term, clips per second, {video:
    reason} of failed videos).

    first_step of all_steps: where in the training this epoch begins, for the margin and the
    learning rate (each parameter group's base_lr times the schedule). on_batch(step, batch,
    detection) is called after each step. forward: what forward_pass gave (default: without
    compiling); seed: of the dropout masks. With several processes `batches` are the parts
    of one (see distributed.BatchShare), the results those of all.
    """
    device = next(detector.parameters()).device
    forward = forward or forward_pass(detector)
    train_mode(detector, freeze_bn)
    sums, clips, failed, began = defaultdict(float), 0, {}, time.perf_counter()
    progress = tqdm(batches, desc="train", leave=False, unit="batch", disable=None)
    unchecked = None
    for step, batch in enumerate(progress, start=first_step):
        failed.update(batch["failed"])
        part = part_of_batch(batch)
        if not part.names:
            continue
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * SCHEDULES[schedule](step / all_steps)
        optimizer.zero_grad(set_to_none=True)
        if batch["name"]:
            batch = to_device(batch, device, pixel_range)
            masks = [
                mask[part.first : part.first + len(batch["name"])].to(device, non_blocking=True)
                for mask in dropout_masks(detector, seed, step, len(part.names))
            ]
            with autocast(device, amp):
                detection = forward(batch["clip"], *masks)
            total, terms = total_loss(
                detection,
                batch,
                clusters.of(batch["name"], device),
                options,
                step / all_steps,
                part.clips,
                part.actions,
            )
            if on_batch is not None:
                on_batch(step, batch, detection)
        else:
            detection, terms = dummy_forward(detector, forward, autocast(device, amp)), {}
            total = sum(x.float().sum() for x in detection) * 0.0
        (
            total * len(part.counts)
        ).backward()  # DDP takes the mean over the processes, this is their sum
        optimizer.step()
        clusters.follow(
            part.names,
            distributed.gather_rows(detection.latent[: len(batch["name"])], part.counts),
        )
        clips += len(part.names)
        for name, value in terms.items():
            sums[name] += value.detach() * len(part.names)
        check_finite(unchecked)  # a step late, so that the device need not be waited for
        unchecked = step, total.detach()
    check_finite(unchecked)
    parts = distributed.gather(({name: float(value) for name, value in sums.items()}, failed))
    seconds = max(time.perf_counter() - began, 1e-9)
    for _, more in parts:
        failed.update(more)
    names = dict.fromkeys(
        name for part, _ in parts for name in part
    )  # a process without a clip has no terms
    means = {
        name: sum(part.get(name, 0.0) for part, _ in parts) / max(clips, 1) for name in names
    }
    return means, clips / seconds, failed


class Part(NamedTuple):
    """What a process's part of a batch is of the whole."""

    names: list  # of the videos of all clips, in order
    counts: list  # clips of each process
    first: int  # where its own begin
    clips: float  # its share of all clips
    actions: float  # its share of the clips that show action


def part_of_batch(batch):
    """Part of this process's batch of a loader, of the batches of all processes one after
    the other.
    """
    parts = distributed.gather(
        (batch["name"], int(shows_action(batch).sum()) if batch["name"] else 0)
    )
    names, counts = (
        [name for part, _ in parts for name in part],
        [len(part) for part, _ in parts],
    )
    rank = distributed.rank()
    return Part(
        names,
        counts,
        sum(counts[:rank]),
        counts[rank] / max(len(names), 1),
        parts[rank][1] / max(sum(actions for _, actions in parts), 1),
    )


def dummy_forward(detector, forward, cast):
    """Detection of a gray clip: what a process without a clip in a batch runs, for the
    others to find it there.

    Its batch norms keep their statistics, but for synchronized ones, where the others wait
    for its share of them.
    """
    size, device = detector.config.size, next(detector.parameters()).device
    learning = [
        layer
        for layer in batch_norms(detector)
        if layer.training and not isinstance(layer, nn.SyncBatchNorm)
    ]
    for layer in learning:
        layer.eval()
    with cast:
        detection = forward(
            torch.zeros(1, 3, detector.config.frames, size, size, device=device),
            *(torch.ones(1, channels, device=device) for channels in detector.dropped_channels),
        )
    for layer in learning:
        layer.train()
    return detection


def check_finite(step_and_loss):
    """UserError where the loss of a step is no finite number."""
    if step_and_loss is not None and not torch.isfinite(step_and_loss[1]):
        step, loss = step_and_loss
        raise UserError(
            f"the loss is {loss.item()} at step {step}, so training cannot go on; "
            f"lower --lr, or a "
            "weight that is out of measure, and train anew with --force"
        )


@torch.no_grad()
def reestimate_batch_norm(detector, batches, pixel_range, most=32, amp=True):
    """Set every batch norm's running mean and variance to the plain average over up to
    `most` training batches.

    The running averages (momentum 0.01) are far behind the weights after a few hundred
    steps. Only the encoder has batch norm, so only the encoder runs. Uses no random number.
    With several processes each gives whole batches of its own, and the average is over
    those of all.
    """
    layers = batch_norms(detector)
    momenta = [layer.momentum for layer in layers]
    device = next(detector.parameters()).device
    detector.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
        if isinstance(layer, nn.SyncBatchNorm):
            layer.process_group, layer.together = distributed.alone(), layer.process_group
    for count, batch in enumerate(batches, start=1):
        if batch["name"]:
            with autocast(device, amp):
                detector.encode(to_device(batch, device, pixel_range)["clip"])
        if count >= most:
            break
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        if isinstance(layer, nn.SyncBatchNorm):
            layer.process_group = layer.together
    average_batch_norm(layers)
    detector.eval()


@torch.no_grad()
def average_batch_norm(layers):
    """Running statistics of all processes -> their mean, each weighted by the batches that
    it has seen.
    """
    if distributed.world_size() == 1:
        return
    counts = distributed.gather([int(layer.num_batches_tracked) for layer in layers])
    for number, layer in enumerate(layers):
        seen = [count[number] for count in counts]
        for running in (layer.running_mean, layer.running_var):
            rows = distributed.gather_rows(running[None], [1] * len(seen)).double()
            weights = torch.tensor(seen, dtype=torch.float64, device=rows.device) / max(
                sum(seen), 1
            )
            running.copy_(weights @ rows)
        layer.num_batches_tracked.fill_(sum(seen))


@torch.no_grad()
def validate(detector, batches, classes, pixel_range, amp=True, failed=None):
    """Scores on labeled frames alone: dict with f@.5 (mean over the classes present, in
    [0,1]), mean IoU, accuracy.

    Each clip of `batches` is centered on one labeled frame, the only one that is scored;
    frames without action inside the crop are left out. Every number is NaN where nothing
    could be scored. failed: a dict that takes the reasons of videos that could not be read.
    """
    device = next(detector.parameters()).device
    detector.eval()
    ious, labels, right = [], [], []
    for batch in batches:
        if failed is not None:
            failed.update(batch["failed"])
        if not batch["name"]:
            continue
        batch = to_device(batch, device, pixel_range)
        with autocast(device, amp):
            detection = detector(batch["clip"])
        rows, at = torch.arange(len(batch["name"]), device=device), batch["anchor"]
        truth = batch["target"][rows, at] > 0
        mask = detection.logits[rows, 0, at] >= 0
        ious.append((mask & truth).sum((1, 2)) / (mask | truth).sum((1, 2)).clamp(min=1))
        labels.append(torch.where(truth.any(2).any(1), batch["label"], -1))
        right.append(detection.scores.argmax(1) == batch["label"])
    mine = tuple(torch.cat(x).cpu() for x in (ious, labels, right)) if ious else None
    parts = [part for part in distributed.gather(mine) if part is not None]
    if not parts:
        return {"f@.5": float("nan"), "mean IoU": float("nan"), "accuracy": float("nan")}
    ious, labels, right = (torch.cat(x) for x in zip(*parts, strict=True))
    seen = labels >= 0
    rates = [
        (ious[labels == c] >= 0.5).float().mean()
        for c in range(len(classes))
        if (labels == c).any()
    ]
    return {
        "f@.5": float(torch.stack(rates).mean()) if rates else float("nan"),
        "mean IoU": float(ious[seen].mean()),
        "accuracy": float(right.float().mean()),
    }
