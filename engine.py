"""One training epoch, one validation, and the sum of the losses (paper Eq. 6: L = L_cluster + L_loc + L_cls)."""

import argparse
import math
import time
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import nn
from tqdm import tqdm

from datasets.clips import normalise
from losses.cluster import LAMBDA, cluster_loss
from losses.margin import LAST_MARGIN, margin_at, margin_loss
from losses.stew import stew_loss
from utils.runtime import UserError


@dataclass(frozen=True)
class LossOptions:
    """Weights and switches of the loss; the defaults are the paper's."""

    weighting: str = "paper"            # where φ enters: paper | authors
    dice: bool = True
    localisation: float = 1.0
    margin: float = 1.0
    cluster: float = LAMBDA
    last_margin: float = LAST_MARGIN


def total_loss(detection, batch, centres, options, progress):
    """Sum of the losses of one batch, and its terms by name (0-dim tensors, unweighted but for `cluster` and `total`).

    batch: target, weight (B,T,S,S), label (B,). centres (B,D): the centre of each clip's video. progress in [0,1].
    """
    bce, dice = stew_loss(detection.logits[:, 0], batch["target"], batch["weight"], options.dice, options.weighting)
    shows_action = batch["target"].flatten(1).any(1)        # a clip without any has no class to learn from
    margin = margin_loss(detection.scores, batch["label"], margin_at(progress, options.last_margin), shows_action)
    cluster = cluster_loss(detection.latent, centres, options.cluster)
    total = options.localisation * (bce + dice) + options.margin * margin + cluster
    return total, {"total": total, "bce": bce, "dice": dice, "margin": margin, "cluster": cluster}


def device_name(text):
    """argparse type of --device: "cpu", "cuda" or "cuda:1", proved to be there."""
    try:
        device = torch.device(text)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} is no device; give cuda, cuda:1 or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(f"no CUDA device for {text} here ({torch.cuda.device_count()} in all); "
                                         "give another, or cpu")
    return text


def to_device(batch, device, pixel_range):
    """Batch of a loader -> the same on `device`, with `clip` float (B,3,T,S,S)."""
    moved = {key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
             for key, value in batch.items()}
    moved["clip"] = normalise(moved["frames"], pixel_range)
    return moved


def autocast(device, enabled=True):
    """bf16 autocast on CUDA (capsule routing keeps float32 by itself); nothing on the CPU."""
    return torch.autocast("cuda", torch.bfloat16, enabled=enabled and torch.device(device).type == "cuda")


SCHEDULES = {"constant": lambda progress: 1.0, "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress))}


def train_epoch(detector, clusters, batches, optimizer, options, pixel_range, first_step, all_steps, amp=True,
                on_batch=None, schedule="constant"):
    """One pass over `batches`. Returns (mean of each loss term, clips per second, {video: reason} of failed videos).

    first_step of all_steps: where in the training this epoch begins, for the margin and the learning rate (each
    parameter group's base_lr times the schedule). on_batch(step, batch, detection) is called after each step.
    """
    device = next(detector.parameters()).device
    detector.train()
    sums, clips, failed, began = defaultdict(float), 0, {}, time.perf_counter()
    progress = tqdm(batches, desc="train", leave=False, unit="batch", disable=None)
    for step, batch in enumerate(progress, start=first_step):
        failed.update(batch["failed"])
        if not batch["name"]:
            continue
        batch = to_device(batch, device, pixel_range)
        with autocast(device, amp):
            detection = detector(batch["clip"])
        total, terms = total_loss(detection, batch, clusters.of(batch["name"], device), options, step / all_steps)
        if not torch.isfinite(total):
            raise UserError(f"the loss is {total.item()} at step {step}, so training cannot go on; lower --lr, or a "
                            "weight that is out of measure, and train anew with --force")
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * SCHEDULES[schedule](step / all_steps)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        clusters.follow(batch["name"], detection.latent)
        clips += len(batch["name"])
        for name, value in terms.items():
            sums[name] += value.detach() * len(batch["name"])
        if on_batch is not None:
            on_batch(step, batch, detection)
    seconds = max(time.perf_counter() - began, 1e-9)
    return {name: float(value) / max(clips, 1) for name, value in sums.items()}, clips / seconds, failed


@torch.no_grad()
def reestimate_batch_norm(detector, batches, pixel_range, most=32, amp=True):
    """Set every batch norm's running mean and variance to the plain average over up to `most` training batches.

    The running averages (momentum 0.01) are far behind the weights after a few hundred steps. Only the encoder has
    batch norm, so only the encoder runs. Uses no random number.
    """
    layers = [m for m in detector.conv1.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    device = next(detector.parameters()).device
    detector.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None           # cumulative average
    for count, batch in enumerate(batches, start=1):
        if batch["name"]:
            with autocast(device, amp):
                detector.encode(to_device(batch, device, pixel_range)["clip"])
        if count >= most:
            break
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    detector.eval()


@torch.no_grad()
def validate(detector, batches, classes, pixel_range, amp=True, failed=None):
    """Scores on labelled frames alone: dict with f@.5 (mean over the classes present, in [0,1]), mean IoU, accuracy.

    Each clip of `batches` is centred on one labelled frame, the only one that is scored; frames without action inside
    the crop are left out. Every number is NaN where nothing could be scored. failed: a dict that takes the reasons of
    videos that could not be read.
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
    if not ious:
        return {"f@.5": float("nan"), "mean IoU": float("nan"), "accuracy": float("nan")}
    ious, labels, right = (torch.cat(x).cpu() for x in (ious, labels, right))
    seen = labels >= 0
    rates = [(ious[labels == c] >= 0.5).float().mean() for c in range(len(classes)) if (labels == c).any()]
    return {"f@.5": float(torch.stack(rates).mean()) if rates else float("nan"),
            "mean IoU": float(ious[seen].mean()), "accuracy": float(right.float().mean())}
