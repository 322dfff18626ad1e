"""The loops that run the network: one training epoch, one validation, the scores of a
video's frames, and predictions.

train_one_epoch takes the step as an object: ClausStep below, or that of a semi-supervised
method (semi/recipe.py). A step has

    detector                                      the network that is kept
    begin_epoch()                                 puts its networks into training mode
    step(batch, centers, now, part)               -> loss, terms by name, Detection; a loss
                                                  without a graph has left its gradients in
                                                  the parameters already
    after_update()                                called when the optimizer has moved
"""

import contextlib
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

from claus.batch_parts import part_of_batch, pieces
from claus.datasets.clips.geometry import STRIDE
from claus.datasets.clips.tiles import shifted_start
from claus.losses.criterion import LossSettings, total_loss
from claus.models.detector import DROPOUT, Detection
from claus.models.input import normalize
from claus.models.mc_dropout import mc_forward, seeded_masks
from claus.selection.uncertainty import SCORES, THRESHOLD, frame_scores
from claus.utils import distributed, lanes
from claus.utils.precision import autocast
from claus.utils.runtime import UserError

# name -> factor on the learning rate after a share of the training
SCHEDULES = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "warm-cosine": lambda progress: warm_cosine(progress),
}
WARM_UP = 0.3  # of the training, in warm-cosine
COLD = 0.04  # factor at its beginning


def warm_cosine(progress):
    """From COLD to 1 over the first WARM_UP of the training, then to 0, along cosines."""
    rising = progress < WARM_UP
    place = progress / WARM_UP if rising else (progress - WARM_UP) / (1 - WARM_UP)
    swing = 0.5 * (1 + math.cos(math.pi * place))
    return 1 - (1 - COLD) * swing if rising else swing


# ------------------------------------------------------------------------- device and modes


def moved(tensor, device):
    """A tensor of the CPU on `device`. To a GPU it is copied from pinned memory, in turn with
    the work that is queued there: nothing waits for it.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def to_device(batch, device, pixel_range):
    """Batch of a loader -> the same on `device`, with `clip` float (B,3,T,S,S)."""
    there = {
        key: moved(value, device) if isinstance(value, torch.Tensor) else value
        for key, value in batch.items()
    }
    there["clip"] = normalize(there["frames"], pixel_range)
    return there


def one_thread():
    """Begin a lane (utils.lanes): this thread computes alone."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def one_thread_each(lanes):
    """Inside, several lanes compute in one thread each. A single lane has all of them only
    where there is one piece of work; its results may differ in the last digit.
    """
    threads = torch.get_num_threads()
    try:
        if lanes > 1:
            one_thread()
        yield
    finally:
        torch.set_num_threads(threads)


class Forward(nn.Module):
    """The forward pass of training with given dropout masks, in one module, as DDP and
    torch.compile want it.

    compiled: through torch.compile, for the largest batch seen so far; a smaller one, as the
    last of an epoch, is run as it is, so that there is one shape to compile. graphs: replayed
    as a CUDA graph, one launch in place of hundreds.
    """

    def __init__(self, detector, compiled=False, graphs=False):
        super().__init__()
        self.detector, self.largest, self.graphs, self.compiled = detector, 0, graphs, None
        if compiled:
            how = {
                "dynamic": False,
                "fullgraph": True,
            }  # whole, or an error that names the line
            mode = "reduce-overhead" if graphs else None
            self.compiled = torch.compile(self.pass_of, mode=mode, **how)

    def pass_of(self, clip, mask_in, mask_out):
        return self.detector.head(self.detector.encode(clip), mask_in, mask_out)

    def forward(self, clip, mask_in, mask_out):
        """clip (B,3,T,S,S), masks (B,832) and (B,128) -> Detection."""
        if self.compiled is None or len(clip) < self.largest:
            return self.pass_of(clip, mask_in, mask_out)
        self.largest = len(clip)
        detection = self.compiled(clip, mask_in, mask_out)
        if not self.graphs:
            return detection
        # the next replay writes where these lie
        return type(detection)(*(part.clone() for part in detection))


def forward_pass(detector, compiled=False):
    """What ClausStep calls for its forward passes; the detector's own modules and names
    stay as they are.

    compiled: through torch.compile, on one GPU as a CUDA graph. With several processes their
    gradients are averaged (DistributedDataParallel).
    """
    device, alone = next(detector.parameters()).device, distributed.world_size() == 1
    module = Forward(detector, compiled, compiled and alone and device.type == "cuda")
    if alone:
        return module
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


# --------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Pace:
    """Where in the training an epoch lies."""

    first_step: int  # steps before it
    all_steps: int  # of the whole training
    epoch: int = 0
    epochs: int = 1
    schedule: str | None = "constant"  # of SCHEDULES; None: the rates stay as they are

    def at(self, step):
        """Now for a step of the training."""
        return Now(step, step / self.all_steps, self.epoch, self.epochs)


class Now(NamedTuple):
    """A moment of the training."""

    step: int
    progress: float  # in [0,1)
    epoch: int  # from 0
    epochs: int


class Epoch(NamedTuple):
    """What one epoch came to."""

    terms: dict  # name -> mean of each loss term over the clips
    clips: int
    rate: float  # clips per second
    failed: dict  # video -> reason


class ClausStep:
    """The training step of CLAUS: one pass with channel dropout, and the sum of the losses.

    forward: what forward_pass gave (default: without compiling). seed: of the dropout masks.

    On a CPU a batch is computed in pieces of a few clips side by side, each in one thread, and
    their gradients are added in the order of the clips: the same bytes for any number of
    threads. Batch norm that learns needs the whole batch at once.
    """

    def __init__(
        self, detector, losses=None, seed=0, forward=None, freeze_batch_norm=False, amp=True
    ):
        self.detector, self.losses = detector, losses or LossSettings()
        self.seed, self.forward = seed, forward or forward_pass(detector)
        self.freeze_batch_norm, self.amp = freeze_batch_norm, amp
        self.lanes = lanes.Pool(one_thread)

    def begin_epoch(self):
        train_mode(self.detector, self.freeze_batch_norm)

    def __call__(self, batch, centers, now, part):
        device = next(self.detector.parameters()).device
        if not batch["name"]:
            with autocast(device, self.amp):
                detection = dummy_forward(self.detector, self.forward)
            return sum(x.float().sum() for x in detection) * 0.0, {}, detection
        own = slice(part.first, part.first + len(batch["name"]))
        masks = dropout_masks(self.detector, self.seed, now.step, len(part.names))
        masks = [moved(mask[own], device) for mask in masks]
        if self.takes_pieces(device):
            return self.in_pieces(pieces(batch, part), masks, centers, now)
        return self.loss_of(batch, masks, centers, now, part)

    def takes_pieces(self, device):
        """Whether the pieces of a batch give what the whole of it would, and it pays."""
        plain = isinstance(self.forward, Forward) and self.forward.compiled is None
        learning = any(layer.training for layer in batch_norms(self.detector))
        return device.type == "cpu" and plain and not learning

    def loss_of(self, batch, masks, centers, now, part):
        """One forward pass of the part of a batch -> loss, terms, Detection."""
        with autocast(batch["clip"].device, self.amp):
            detection = self.forward(batch["clip"], *masks)
        total, terms = total_loss(
            detection, batch, centers, self.losses, now.progress, part.clips, part.actions
        )
        return total, terms, detection

    def in_pieces(self, cut, masks, centers, now):
        """What loss_of gives, without a graph, and the gradients in the parameters. cut: of
        batch_parts.pieces.
        """
        parameters = [p for p in self.detector.parameters() if p.requires_grad]

        def work(piece):
            of_masks = [mask[piece.own] for mask in masks]
            of_centers = centers[piece.own]
            total, terms, detection = self.loss_of(
                piece.batch, of_masks, of_centers, now, piece.part
            )
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            terms = {name: value.detach() for name, value in terms.items()}
            return total.detach(), terms, [x.detach() for x in detection], gradients

        total, sums, detections = 0.0, defaultdict(float), []
        count = lanes.count("cpu", len(cut), torch.get_num_threads())
        with one_thread_each(max(count, 2)):  # a single lane, too: the same bytes
            for loss, terms, detection, gradients in self.lanes.map(work, cut, count):
                total = total + loss
                for name, value in terms.items():
                    sums[name] = sums[name] + value
                detections.append(detection)
                add_gradients(parameters, gradients)
        together = zip(*detections, strict=True)
        return total, dict(sums), Detection(*(torch.cat(parts) for parts in together))

    def after_update(self):
        """Nothing follows the detector."""


def add_gradients(parameters, gradients):
    """Add to each parameter's gradient; None adds nothing. The gradient lies in memory as its
    parameter does: a fused optimizer takes both for one row of numbers.
    """
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        else:
            parameter.grad += gradient


def train_one_epoch(step, clusters, batches, optimizer, pace, pixel_range, on_batch=None):
    """One pass over `batches` -> Epoch.

    step: see above. clusters: their centers follow the latents. Each parameter group's rate
    is its base_lr times the schedule of `pace`. on_batch(step number, batch, detection) is
    called after each loss. With several processes `batches` are the parts of one (see
    distributed.BatchShare), the results those of all.
    """
    step.begin_epoch()
    running, failed, began = Running(), {}, time.perf_counter()
    progress = tqdm(batches, desc="train", leave=False, unit="batch", disable=None)
    for number, batch in enumerate(progress, start=pace.first_step):
        failed.update(batch["failed"])
        part = part_of_batch(batch)
        if not part.names:
            continue
        now = pace.at(number)
        set_rates(optimizer, pace.schedule, now.progress)
        loss, terms = train_one_step(
            step, clusters, batch, optimizer, now, part, pixel_range, on_batch
        )
        running.add(number, loss, terms, len(part.names))
    sums, clips = running.read(), running.clips
    parts = distributed.gather((sums, failed))
    seconds = max(time.perf_counter() - began, 1e-9)
    for _, more in parts:
        failed.update(more)
    means = mean_terms([sums for sums, _ in parts], clips)
    return Epoch(means, clips, clips / seconds, failed)


def train_one_step(step, clusters, batch, optimizer, now, part, pixel_range, on_batch=None):
    """One step of the optimizer on a batch of the loader -> (loss, terms by name), both on
    the device. Nothing waits for that device.

    now: of Pace.at. part: of part_of_batch.
    """
    device = next(step.detector.parameters()).device
    optimizer.zero_grad(set_to_none=True)
    if batch["name"]:
        batch = to_device(batch, device, pixel_range)
    centers = clusters.of(batch["name"], device)
    total, terms, detection = step(batch, centers, now, part)
    if batch["name"] and on_batch is not None:
        on_batch(now.step, batch, detection)
    if total.requires_grad:
        # DDP takes the mean over the processes, this is their sum
        (total * len(part.counts)).backward()
    optimizer.step()
    step.after_update()
    own = detection.latent[: len(batch["name"])]
    clusters.follow(part.names, distributed.gather_rows(own, part.counts))
    return total.detach(), terms


class Running:
    """What the steps of an epoch come to: sums of their loss terms on the device, and a look
    at each step's loss, which ends the training where it is no finite number.

    The look is a step late: the loss of a step lies on the host by the time that the next
    step is queued, so that the device always has work.
    """

    def __init__(self):
        self.sums, self.clips, self._last = defaultdict(float), 0, None

    def add(self, step, loss, terms, clips):
        """A step's loss and terms, means over its `clips`. UserError where the loss of the
        step before is not finite.
        """
        self.clips += clips
        for name, value in terms.items():
            self.sums[name] += value.detach() * clips
        before, self._last = self._last, (step, LateNumber(loss))
        check_finite(before)

    def read(self):
        """{name: sum of each term over the clips}; waits for the device. UserError where the
        loss of the last step is not finite.
        """
        check_finite(self._last)
        return {name: float(value) for name, value in self.sums.items()}


class LateNumber:
    """A number of the device on its way to the host; read() waits for what was queued before
    it, not for what came later.
    """

    def __init__(self, value):
        self._value, self._copied = value.to("cpu", non_blocking=True), None
        if value.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self):
        if self._copied is not None:
            self._copied.synchronize()
        return float(self._value)


def set_rates(optimizer, schedule, progress):
    """Each parameter group's learning rate after a share of the training; None: as it is."""
    for group in optimizer.param_groups if schedule else ():
        group["lr"] = group["base_lr"] * SCHEDULES[schedule](progress)


def mean_terms(parts, clips):
    """Mean over `clips` of each loss term from the sums of each process; one without a clip
    has no terms.
    """
    means = {}
    for name in {name: None for part in parts for name in part}:  # in their order
        whole = sum(part.get(name, 0.0) for part in parts)
        means[name] = whole / max(clips, 1)
    return means


def dummy_forward(detector, forward):
    """Detection of a gray clip: what a process without a clip in a batch runs, for the
    others to find it there.

    Its batch norms keep their statistics, but for synchronized ones, where the others wait
    for its share of them.
    """
    config, device = detector.config, next(detector.parameters()).device
    clip = torch.zeros(1, 3, config.frames, config.size, config.size, device=device)
    masks = [torch.ones(1, channels, device=device) for channels in detector.dropped_channels]
    layers = [layer for layer in batch_norms(detector) if layer.training]
    learning = [layer for layer in layers if not isinstance(layer, nn.SyncBatchNorm)]
    for layer in learning:
        layer.eval()
    detection = forward(clip, *masks)
    for layer in learning:
        layer.train()
    return detection


def check_finite(step_and_loss):
    """UserError where the loss of a step, (its number, LateNumber), is no finite number."""
    step, loss = step_and_loss or (0, None)
    value = 0.0 if loss is None else loss.read()
    if not math.isfinite(value):
        raise UserError(
            f"the loss is {value} at step {step}, so training cannot go on; lower "
            "--lr, or a weight that is far too high, and train again with --force"
        )


# ------------------------------------------------------------------- batch-norm statistics


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
    if not layers:
        detector.eval()
        return
    momenta = [layer.momentum for layer in layers]
    device = next(detector.parameters()).device
    detector.train()
    for layer in layers:
        layer.reset_running_stats()
        if isinstance(layer, nn.SyncBatchNorm):
            layer.process_group, layer.together = distributed.alone(), layer.process_group
    seen = 0
    for count, batch in enumerate(batches, start=1):
        if batch["name"]:
            seen += 1
            # the plain average, for which momentum None reads a counter of each layer
            for layer in layers:
                layer.momentum = 1 / seen
            clip = normalize(moved(batch["frames"], device), pixel_range)
            with autocast(device, amp):
                detector.encode(clip)
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
    own = torch.stack([layer.num_batches_tracked for layer in layers]).tolist()
    counts = distributed.gather(own)
    for number, layer in enumerate(layers):
        seen = [count[number] for count in counts]
        for running in (layer.running_mean, layer.running_var):
            rows = distributed.gather_rows(running[None], [1] * len(seen)).double()
            weights = torch.tensor(seen, dtype=torch.float64, device=rows.device) / max(
                sum(seen), 1
            )
            running.copy_(weights @ rows)
        layer.num_batches_tracked.fill_(sum(seen))


# ------------------------------------------------------------------------------- validation


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
    present = [c for c in range(len(classes)) if (labels == c).any()]
    rates = [(ious[labels == c] >= 0.5).float().mean() for c in present]
    return {
        "f@.5": float(torch.stack(rates).mean()) if rates else float("nan"),
        "mean IoU": float(ious[seen].mean()),
        "accuracy": float(right.float().mean()),
    }


# -------------------------------------------------------------------- scores and predictions


def no_one_keeps(arrays):
    """In place of a function that keeps what is done."""


@dataclass(frozen=True)
class ScoreSettings:
    """What the scores of a video depend on beside its clips."""

    seed: int = 0  # of the dropout masks
    passes: int = 10  # R
    threshold: float = THRESHOLD  # τ of Eq. 2: mean prediction from which a pixel counts
    phases: int = 1  # clips of a tile, see VideoTiles
    tail: str = "repeat"  # what fills the last tile, see VideoTiles
    amp: bool = False
    masks: str = "independent"  # of models.mc_dropout.MASKS


@torch.no_grad()
def score_video(
    trained, video, chunks, settings, forward=mc_forward, done=None, keep=no_one_keeps
):
    """Latents of the tiles (n,D), and every frame score (F,) of one video from the chunks of
    its clips (see VideoTiles): {"latents", one entry for each of SCORES}, NumPy.

    forward: of scoring_forward. Nothing waits for the device before the last clip.
    keep: called after each chunk with a function that gives what is done so far, as arrays.
    done: such arrays of a work that was stopped; the chunks are those that follow.
    """
    latents, values, places = Rows(), Rows(), []
    if done is not None:
        device = next(trained.detector.parameters()).device
        latents.add(torch.from_numpy(done["latents"]).to(device))
        values.add(torch.from_numpy(done["values"]).to(device))
        places += done["places"].tolist()

    def so_far():
        return {
            "latents": latents.taken().cpu().numpy(),
            "values": values.taken().cpu().numpy(),
            "places": np.array(places),
        }

    for chunk in chunks:
        more_latents, more_values = score_clips(trained, video, chunk, settings, forward)
        if more_latents:
            latents.add(torch.stack(more_latents))
        values.add(torch.stack(more_values))
        places += zip(chunk["tile"].tolist(), chunk["phase"].tolist(), strict=True)
        keep(so_far)
    values = values.taken().cpu().numpy()  # (clips, 5, T)
    scores = {name: np.zeros(video.frames, np.float32) for name in SCORES}
    size = values.shape[2] * STRIDE
    for clip_values, (tile, phase) in zip(values, places, strict=True):
        served = first = tile * size
        if settings.tail == "shift":
            last = shifted_start(video.frames, size, STRIDE, settings.phases)
            first = min(served, last)
        for name, values_T in zip(SCORES, clip_values, strict=True):
            # a shifted tile serves no frame of the one before
            place = scores[name][served : served + size]
            tile_scores = np.zeros(size, np.float32)
            spread(tile_scores, values_T, phase, settings.phases)
            place += tile_scores[served - first :][: len(place)]
    return {"latents": latents.taken().cpu().numpy(), **scores}


def scoring_forward(compiled, device):
    """mc_forward for score_video. compiled: through torch.compile, on CUDA as a CUDA graph:
    one launch a tile in place of hundreds.
    """
    if not compiled:
        return mc_forward
    # whole, or an error that names the line: never piece by piece
    whole = {"dynamic": False, "fullgraph": True}
    if torch.device(device).type != "cuda":
        return torch.compile(mc_forward, **whole)
    graph = torch.compile(mc_forward, mode="reduce-overhead", **whole)

    def replayed(detector, clip, masks_in, masks_out):
        logits, latent = graph(detector, clip, masks_in, masks_out)
        return logits, latent.clone()  # kept, where the next replay would write over it

    return replayed


def clips_done(done):
    """Clips that are in the arrays of an unfinished score_video; 0 for None."""
    return 0 if done is None else len(done["places"])


class Rows:
    """Rows of tensors, gathered on their device in one that doubles as it fills. Kept one by
    one they would lie between the large tensors that come and go, and the memory held would
    grow with the video.
    """

    def __init__(self):
        self.count, self.kept = 0, None

    def add(self, rows):
        """Append rows (n,...), n > 0."""
        end = self.count + len(rows)
        if self.kept is None or end > len(self.kept):
            larger = rows.new_empty((max(64, 2 * end), *rows.shape[1:]))
            if self.count:
                larger[: self.count] = self.kept[: self.count]
            self.kept = larger
        self.kept[self.count : end] = rows
        self.count = end

    def taken(self):
        """A copy of all of them, (n,...)."""
        return self.kept[: self.count].clone()


def score_clips(trained, video, chunk, settings, forward):
    """Of a chunk of a video: latents (D,) of the clips of phase 0, and the SCORES of each
    clip's frames, float64 (5,T); lists, on the device. Bars are not looked at.
    """
    rows, columns = trained.geometry.shown(video.height, video.width)
    detector = trained.detector
    device = next(detector.parameters()).device
    clips, latents, values = moved(chunk["clips"], device), [], []
    for clip, tile, phase in zip(clips, chunk["tile"], chunk["phase"], strict=True):
        key = settings.seed, video.name, int(tile), int(phase), settings.passes
        masks = seeded_masks(detector, *key, settings.masks)
        masks = [moved(mask, device) for mask in masks]
        with autocast(device, settings.amp):
            logits, latent = forward(
                detector, normalize(clip[None], trained.pixel_range), *masks
            )
        if phase == 0:
            latents.append(latent.float())
        of_clip = frame_scores(logits[..., rows, columns], settings.threshold)
        values.append(torch.stack([of_clip[name].double() for name in SCORES]))
    return latents, values


def spread(scores_F, values_T, phase, phases, stride=STRIDE):
    """Write a clip's values to the frames of its tile that they serve: `stride` frames
    each, or, of two phases, one.
    """
    for offset in range(stride if phases == 1 else 1):
        scores_F[phase + offset :: stride] = values_T[: len(scores_F[phase + offset :: stride])]
    return scores_F


@torch.no_grad()
def predict(detector, clips, pixel_range, batch=8, amp=True):
    """Mask logits float32 (N,T,S,S) and class scores float32 (N,C) of clips uint8
    (N,T,3,S,S), both on the CPU; `batch` clips at a time on the detector's device.
    """
    device = next(detector.parameters()).device
    logits, scores = [], []
    for some in clips.split(batch):
        with autocast(device, amp):
            detection = detector(normalize(some.to(device), pixel_range))
        logits.append(detection.logits[:, 0].float().cpu())
        scores.append(detection.scores.float().cpu())
    return torch.cat(logits), torch.cat(scores)
