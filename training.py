"""One training from start to finish, for every data set and method: what is held out, the
state, its epochs, its checkpoints.

The loop over batches is engine.train_one_epoch. What a method has of its own comes in as a
recipe: Claus below, or Semi of semi/recipe.py. A recipe has

    settings                      all that the flags said, for the checkpoint
    schedule                      of engine.SCHEDULES, or None: the rates stay as they are
    needs                         what a batch must have, for the message where none has it
    clips_an_epoch()              how many labeled clips make an epoch; None: two a video
    sets(clips)                   what it reads beside the labeled clips, see Clips
    build(detector, optimizer)    -> the step of engine.train_one_epoch
    batches(labeled)              -> LabeledBatches, or others in their place
    end_epoch(terms)              called with the mean of each loss term
    state_dict(), load_state_dict(state, path)
    takes_records                 whether its steps can do with records of frames (models/lite.py)
                                  in place of their pictures
    network                       fields of DetectorConfig that it needs otherwise than --model
"""

import contextlib
import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from claus import engine
from claus.artifacts import checkpoint
from claus.artifacts.parts import fingerprint
from claus.artifacts.training_state import (
    check_optimizer,
    check_progress,
    check_same_settings,
    check_state,
    damage_named,
    plain,
    renamed,
)
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.clips.tiles import Unreadable, VideoTiles, in_lanes
from claus.datasets.clips.training_clips import (
    Clips,
    ClipSampler,
    LabeledFrames,
    TrainingClips,
    collate,
    in_batches,
)
from claus.datasets.video.feature_cache import feature_cache
from claus.flags.common import Hardware, Place, Resume
from claus.losses.cluster import Clusters
from claus.losses.criterion import LossSettings
from claus.models import BACKBONES
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.lite import is_records
from claus.models.mc_dropout import tile_latents
from claus.utils import distributed, lanes, progress
from claus.utils.clip_sheet import clip_sheet
from claus.utils.runtime import UserError

WEIGHTS = Path(__file__).resolve().parent / "weights"
BATCH_NORM = ("update", "freeze", "sync")
GRAY = 96  # of a frame that is not shown
KEPT_BYTES = 400e6  # of frames that are kept in memory for batch norm
# of one video: densely labeled ones would take longer to validate on than to train
MOST_VALIDATION_FRAMES = 16


# -------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class OptimizerSettings:
    """How long, and how fast."""

    epochs: int
    steps: int | None  # of all epochs together; None: two clips a video in each
    batch_size: int  # of all processes together
    lr: float
    encoder_lr: float
    lr_schedule: str
    weight_decay: float
    adam_betas: tuple[float, float]
    adam_eps: float
    batch_norm: str  # of BATCH_NORM
    bn_batches: int  # that its statistics are re-estimated from

    def clips_an_epoch(self) -> int | None:
        """With steps an equal part of them, however few the labels; else None."""
        if not self.steps:
            return None
        return -(-self.steps // self.epochs) * self.batch_size


@dataclass(frozen=True)
class TrainingSettings:
    """All that a training is told."""

    place: Place
    resume: Resume
    hardware: Hardware
    optimizer: OptimizerSettings
    loss: LossSettings
    model: str  # of models.BACKBONES
    pretrained: str | None  # a path, "none", or None: the backbone's own
    train_encoder: bool  # its pretrained part, too
    class_head: str | None  # of models.detector.CLASS_HEADS; None: the backbone's own
    crop: str | None  # None: that of the labels' data set
    pixel_range: str
    pseudo_label_loss: str  # of losses.stew.PSEUDO_LABEL_LOSSES
    mask_interp: str
    label_place: str  # of datasets.clips.training_clips.PLACES
    clusters: int  # K
    reassign: bool  # videos to clusters, after every epoch
    centers: str  # of losses.cluster.CENTERS: what the pool is assigned to
    validate: bool
    seed: int

    def network(self) -> dict:
        """Fields of DetectorConfig that are set beside --model."""
        return {} if self.class_head is None else {"class_head": self.class_head}


# ---------------------------------------------------------------------------------- videos


@dataclass(frozen=True)
class Videos:
    """What a training learns from."""

    labels: object  # Annotations
    training: list  # names
    validation: list  # names held out
    failed: dict  # name -> why it cannot be used
    find_video: Callable[[str], Path]


def validation_frames(video):
    """The labeled frames of a held-out video that are scored: those with action, evenly
    spaced where they are many.

    A frame without action has no mask to compare; of a video that has no other these are
    scored, for its class.
    """
    frames = video.labeled_frames
    acting = [tube.frames for tube in video.tubes]
    if acting:
        frames = np.intersect1d(frames, np.concatenate(acting))
    count = min(len(frames), MOST_VALIDATION_FRAMES)
    places = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return [int(frame) for frame in frames[places]]


class LabeledBatches:
    """Batches of clips of the labeled videos, of each this process's share.

    reader: Clips that has them as "training". names: a list of its own, `sampler.names`, that
    may be changed in place. Set .sampler.epoch before each epoch.
    """

    def __init__(self, reader, names, settings, length=None):
        self.reader, self.size = reader, settings.optimizer.batch_size
        self.sampler = ClipSampler(names, settings.seed, length)
        self.share = distributed.BatchShare(self.sampler, self.size)

    def __len__(self):
        return math.ceil(len(self.sampler) / self.size)

    def first(self, count):
        """This process's share of the first `count` batches of the epoch."""
        keys = itertools.islice(in_batches(self.share, self.share.size), count)
        return self.reader.batches("training", keys)

    def some(self, count):
        """The first `count` batches of the epoch, of which each process has whole ones."""
        whole = list(itertools.islice(in_batches(self.sampler, self.size), count))
        own = whole[distributed.rank() :: distributed.world_size()]
        return self.reader.batches("training", own)


class FirstBatches:
    """The first n batches; where there are fewer (the last one too short for all
    processes), empty ones. kept: a KeptFrames that takes the frames of the first of them.
    """

    def __init__(self, batches, n, kept=None):
        self.batches, self.n, self.kept = batches, n, kept

    def __len__(self):
        return self.n

    def __iter__(self):
        batches = self.batches.first(self.n)
        for _ in range(self.n):
            batch = next(batches, {"failed": [], "name": []})
            if self.kept is not None:
                self.kept.add(batch)
            yield batch


class KeptFrames:
    """What batch norm needs of an epoch's first batches, so that they need not be decoded a
    second time: {"name", "frames"} of each, up to `count` batches and `most` bytes.
    """

    def __init__(self, count, most=KEPT_BYTES):
        self.count, self.left, self.batches = count, most, []

    def add(self, batch):
        """Keep a batch, where all before it are and there is room."""
        if len(self.batches) == self.count or self.left < 0:
            return
        kept = {"name": batch["name"]}
        if batch["name"]:
            frames = batch["frames"]
            self.left -= frames.nbytes
            # what lies in shared memory would take the little that a container has
            kept["frames"] = frames.clone() if frames.is_shared() else frames
        self.batches = [*self.batches, kept] if self.left >= 0 else []

    def whole(self, count):
        """The first `count` batches, None where not all of them are there."""
        return self.batches if len(self.batches) == count else None


# -------------------------------------------------------------------------------- training


class Claus:
    """The recipe of CLAUS: labeled clips alone, and nothing beside the detector."""

    needs = "a labeled clip"
    takes_records = True
    network = {}

    def __init__(self, settings):
        self.settings = settings
        self.schedule = settings.optimizer.lr_schedule

    def clips_an_epoch(self):
        return self.settings.optimizer.clips_an_epoch()

    def sets(self, clips):
        return {}

    def build(self, detector, optimizer):
        settings = self.settings
        return engine.ClausStep(
            detector,
            settings.loss,
            settings.seed,
            engine.forward_pass(detector, settings.hardware.compile),
            settings.optimizer.batch_norm == "freeze",
            settings.hardware.amp,
        )

    def batches(self, labeled):
        return labeled

    def end_epoch(self, terms):
        """The schedule follows from the step alone."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state, path):
        """Nothing beside what the Trainer keeps."""


class Trainer:
    """The state of one training: everything that training.pt holds, and what makes the
    clips.

    With several processes (see utils/distributed.py) each has the whole state, and its
    share of every batch.
    """

    def __init__(self, settings, videos, cycle, recipe):
        self.settings, self.recipe, self.cycle = settings, recipe, cycle
        self.labels, self.find_video = videos.labels, videos.find_video
        self.names, self.validation = list(videos.training), list(videos.validation)
        self.failed = dict(videos.failed)
        self.geometry = GEOMETRY[BACKBONES[settings.model].clips, settings.crop]
        torch.manual_seed(settings.seed)
        network = {**PRESETS[settings.model], **settings.network(), **recipe.network}
        config = DetectorConfig(len(self.labels.classes), **network)
        detector = with_sync_batch_norm(Detector(config), settings.optimizer.batch_norm)
        freeze_encoder(detector, not settings.train_encoder)
        self.features = self.kept_features(detector)
        self.clips, self.held_out = self.make_clips()
        self.reader, self.kept = self.make_reader(), None
        clips = recipe.clips_an_epoch()
        self.batches = LabeledBatches(self.reader, self.names, settings, clips)
        self.step = self.epoch = 0
        self.best_score, self.best, self.history = -math.inf, None, []
        self.source = fingerprint(settings.place.annotations or cycle.annotations)
        self.detector = detector.to(settings.hardware.device)
        self.optimizer = make_optimizer(self.detector, settings.optimizer)
        if settings.resume.resume and cycle.training.exists():
            self.restore(checkpoint.read(cycle.training, "training state"))
            print(f"resuming after epoch {self.epoch}")
        else:
            self.begin()

    def kept_features(self, detector):
        """The FeatureCache of a frozen encoder, None where there is none."""
        if not self.recipe.takes_records:
            return None
        settings = self.settings
        return feature_cache(
            detector,
            self.geometry,
            settings.pixel_range,
            self.cache,
            settings.hardware.feature_gb,
        )

    def take_trunk(self):
        """Compute features by the detector's encoder as it is now."""
        if self.features is not None:
            self.features.take(self.detector.conv1.trunk)

    def make_clips(self):
        """(clips to train on, clips to validate on), indexed by their samplers' keys."""
        settings, hardware = self.settings, self.settings.hardware
        kept = {
            "folder": self.cache,
            "cache_gb": hardware.cache_gb,
            "features": self.features,
        }
        common = self.labels, self.find_video, self.geometry, settings.seed
        training = TrainingClips(
            *common,
            settings.pseudo_label_loss,
            settings.loss.weighting,
            settings.mask_interp,
            place=settings.label_place,
            **kept,
        )
        return training, LabeledFrames(*common, interpolation=settings.mask_interp, **kept)

    def make_reader(self):
        """Clips of all that the training reads, by one loader for the whole of it."""
        sets = {"training": (self.clips, collate), "validation": (self.held_out, collate)}
        hardware = self.settings.hardware
        ahead = hardware.device == "cpu" and torch.get_num_threads() > 1
        sets |= self.recipe.sets(self.clips)
        return Clips(sets, hardware.workers, ahead, engine.one_thread)

    @property
    def cache(self):
        """Folder for what is kept of videos."""
        return self.settings.hardware.cache_dir or self.cycle.run.cache

    def begin(self):
        """First weights, first clusters, and then what the recipe has beside them."""
        start_weights(self.detector, self.settings)
        self.take_trunk()
        self.clusters = self.first_clusters()
        self.take_step()
        self.batches = self.recipe.batches(self.batches)
        epochs, steps = self.settings.optimizer.epochs, self.settings.optimizer.steps
        self.all_steps = steps or epochs * len(self.batches)

    def take_step(self):
        """The recipe's step; the network that it keeps is the detector from here on."""
        self.train_step = self.recipe.build(self.detector, self.optimizer)
        self.detector = self.train_step.detector

    def first_clusters(self):
        """K-means on the evaluation-mode latents of the labeled videos' tiles."""
        latents, failed = {}, {}
        self.reestimate()
        videos = [self.labels.videos[name] for name in distributed.shard(self.names)]
        tiles = VideoTiles(
            videos,
            self.find_video,
            self.geometry,
            features=self.features,
            cache=self.cache,
        )
        count = lanes.count(self.settings.hardware.device, len(videos), torch.get_num_threads())
        streams = in_lanes(tiles, self.settings.hardware.workers, count)
        self.detector.eval()  # here, not in one of several lanes
        found = lanes.results(streams, self.latents_or_reason, engine.one_thread)
        with engine.one_thread_each(count), contextlib.closing(found):
            bar = tqdm(
                found,
                desc="cluster",
                leave=False,
                unit="video",
                total=len(videos),
                disable=None,
            )
            for (video, _), result in bar:
                known = failed if isinstance(result, str) else latents
                known[video.name] = result
        for more_latents, more_failed in distributed.gather((latents, failed)):
            latents.update(more_latents)
            failed.update(more_failed)
        self.skip(failed)
        if not latents:
            raise UserError(
                f"none of the {len(self.names)} labeled videos can be decoded: "
                f"{[*failed.values()][-1]}"
            )
        self.names[:] = [name for name in self.names if name in latents]
        self.batches.sampler.names[:] = self.names
        if distributed.rank() > 0:
            return Clusters.from_state(distributed.broadcast_from_rank0(None))
        latents = {name: latents[name] for name in self.names}
        settings = self.settings
        clusters = Clusters.fit(latents, settings.clusters, settings.seed, settings.centers)
        distributed.broadcast_from_rank0(clusters.state_dict())
        return clusters

    def latents_or_reason(self, video_and_chunks):
        """Latents float32 (n,D) of a video's tiles, see VideoTiles; where it cannot be read,
        why.
        """
        latents, pixel_range = engine.Rows(), self.settings.pixel_range
        try:
            for chunk in video_and_chunks[1]:
                lanes.check()
                rows = tile_latents(self.detector, chunk["clips"], pixel_range)
                latents.add(torch.from_numpy(rows))
        except Unreadable as error:
            return str(error)
        return latents.taken().numpy()

    def skip(self, failed):
        """Note the videos that could not be read, {name: reason}; with --strict the first
        of them ends the training.
        """
        if failed and self.settings.resume.strict:
            raise UserError(next(iter(failed.values())))
        self.failed.update(failed)

    def run_epoch(self, epoch, writer):
        """Train one epoch, validate, log (writer: of TensorBoard, in the first process)."""
        epochs, sheet = self.settings.optimizer.epochs, {}
        progress.tell(epoch, epochs)
        self.batches.sampler.epoch = epoch
        count = self.all_steps * (epoch + 1) // epochs - self.step
        looked_at = bool(self.validation) or epoch + 1 == epochs
        self.kept = self.keeps() if looked_at else None
        batches = FirstBatches(self.batches, count, self.kept)
        result = engine.train_one_epoch(
            self.train_step,
            self.clusters,
            batches,
            self.optimizer,
            engine.Pace(self.step, self.all_steps, epoch, epochs, self.recipe.schedule),
            self.settings.pixel_range,
            lambda step, batch, detection: sheet.update(batch=batch, detection=detection),
        )
        if not result.clips:
            raise UserError(
                f"no batch of epoch {epoch + 1} had {self.recipe.needs} that can be read: "
                f"{next(iter(result.failed.values()), 'too few videos')}"
            )
        self.skip(result.failed)
        self.step += len(batches)
        reassign = self.settings.reassign
        moved = self.clusters.reassign() if reassign else self.clusters.forget()
        scores = self.validate() if self.validation else {}
        self.history.append({"epoch": epoch, **result.terms, **scores})
        if writer is not None:
            self.log(writer, result, moved, scores, sheet)
        self.recipe.end_epoch(result.terms)

    def validate(self):
        """Scores on the held-out videos; the best weights so far are kept."""
        self.reestimate()
        keys = []
        for name in self.validation:
            frames = validation_frames(self.labels.videos[name])
            keys += [(name, frame) for frame in frames]
        settings, unread = self.settings, {}
        keys = in_batches(distributed.shard(keys), settings.optimizer.batch_size)
        batches = self.reader.batches("validation", keys)
        scores = engine.validate(
            self.detector,
            batches,
            self.labels.classes,
            settings.pixel_range,
            settings.hardware.amp,
            unread,
        )
        for more in distributed.gather(unread):
            self.skip(more)
        score = scores["f@.5"] + 1e-3 * scores["mean IoU"]
        if not math.isnan(score) and score > self.best_score:
            self.best_score, self.best = score, self.snapshot()
        return scores

    def keeps(self):
        """KeptFrames of an epoch after which batch norm is re-estimated; None where the
        batches are shared among processes, of which each then reads whole ones.
        """
        wanted = self.bn_batches()
        return KeptFrames(wanted) if wanted and distributed.world_size() == 1 else None

    def bn_batches(self):
        """How many batches batch norm is re-estimated from."""
        optimizer = self.settings.optimizer
        if optimizer.batch_norm == "freeze":
            return 0
        return min(optimizer.bn_batches, len(self.batches))

    def reestimate(self):
        """Batch-norm statistics of the weights as they are; afterwards all processes have
        the same.
        """
        count = self.settings.optimizer.bn_batches
        if self.settings.optimizer.batch_norm == "freeze":
            return
        if not count:
            distributed.same_buffers(self.detector)
            return
        # those that were just trained on, decoded again only where they are not at hand
        kept, self.kept = self.kept and self.kept.whole(self.bn_batches()), None
        engine.reestimate_batch_norm(
            self.detector,
            kept or self.batches.some(count),
            self.settings.pixel_range,
            count,
            self.settings.hardware.amp,
        )

    def log(self, writer, result, moved, scores, sheet):
        """The epoch in TensorBoard, and as a line on screen."""
        epoch = self.history[-1]["epoch"]
        for name, value in result.terms.items():
            writer.add_scalar(f"loss/{name}", value, epoch)
        for name, value in scores.items():
            writer.add_scalar(f"validation/{name}", value, epoch)
        writer.add_scalar("rate/clips per second", result.rate, epoch)
        writer.add_scalar("rate/learning rate", self.optimizer.param_groups[0]["lr"], epoch)
        writer.add_scalar("clusters/videos reassigned", moved, epoch)
        if sheet:
            picture = first_clip(sheet["batch"], sheet["detection"])
            writer.add_image("clip: frame, pseudo-label, weight, prediction", picture, epoch)
        numbers = {**result.terms, **scores}
        text = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        print(
            f"epoch {epoch + 1:3d}/{self.settings.optimizer.epochs}  step {self.step}  "
            f"{text}  {result.rate:.1f} clips/s",
            flush=True,
        )

    def snapshot(self):
        """detector.pt's contents with the weights as they are now."""
        about = {
            "arguments": plain(self.recipe.settings),
            "steps": self.step,
            "history": list(self.history),
            "trained": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        state = checkpoint.detector_state(
            self.detector,
            self.clusters,
            self.labels.classes,
            self.labels.dataset,
            self.geometry,
            self.settings.pixel_range,
            about,
        )
        weights = state["detector"].items()
        state["detector"] = {name: value.detach().cpu().clone() for name, value in weights}
        return state

    def finished(self):
        """What detector.pt gets: the best validated weights, or the last where nothing was
        held out.
        """
        if self.best is None:
            self.reestimate()
            self.best = self.snapshot()
        self.best["about"]["failed"] = self.failed
        self.best["about"]["history"] = self.history
        return self.best

    def state_dict(self, epoch):
        """training.pt's contents after that many epochs."""
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state_all()
        return {
            "arguments": plain(self.recipe.settings),
            "labels": self.source,
            "failed": self.failed,
            "names": self.names,
            "epoch": epoch,
            "step": self.step,
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "clusters": self.clusters.state_dict(),
            "random": random,
            "history": self.history,
            "best_score": self.best_score,
            "best": self.best,
            "validation": self.validation,
            "length": len(self.batches.sampler),
            "all_steps": self.all_steps,
            **self.recipe.state_dict(),
        }

    def restore(self, state):
        """Go on from training.pt's contents; UserError where they are of other settings or
        other labels.
        """
        path = self.cycle.training
        check_state(state, path)
        check_same_settings(plain(self.recipe.settings), renamed(state["arguments"]), path)
        if state["labels"] != self.source:
            raise UserError(
                f"{path} was trained on other labels than "
                f"{self.settings.place.annotations or self.cycle.annotations.name} has now; "
                "train again with --force in place of --resume"
            )
        with damage_named(path):
            self.take(state, path)

    def take(self, state, path):
        """What restore goes on with; nearly any error where the state is damaged."""
        epochs, steps = self.settings.optimizer.epochs, self.settings.optimizer.steps
        check_progress(state, self.labels.videos, epochs)
        self.take_step()  # before the random state is set
        self.recipe.load_state_dict(state, path)
        checkpoint.check_finite(state["detector"], path)
        self.detector.load_state_dict(state["detector"])
        self.take_trunk()
        fresh = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        check_optimizer(self.optimizer, fresh)
        self.clusters = Clusters.from_state(state["clusters"])
        checkpoint.check_clusters_of(self.clusters, self.detector.config, state["names"])
        if state["best"] is not None:
            checkpoint.rebuilt(state["best"], path)
        self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
        self.best_score, self.best = state["best_score"], state["best"]
        self.failed = {**state["failed"], **self.failed}
        self.names[:] = state["names"]
        # though other videos may be readable now: none of them is trained on
        self.validation[:] = state["validation"]
        sampler, self.all_steps = self.batches.sampler, state["all_steps"]
        sampler.names[:], sampler.length = self.names, state["length"]
        self.batches = self.recipe.batches(self.batches)
        if self.all_steps != (steps or epochs * len(self.batches)):
            raise ValueError(f"it has {self.all_steps} steps")
        # whose clips re-estimate the batch norm after the last epoch
        self.batches.sampler.epoch = max(self.epoch - 1, 0)
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random"]["cuda"][: torch.cuda.device_count()])


def first_clip(batch, detection):
    """Picture of a batch's first clip: frames, labels, weights and prediction."""
    frames, target, weight, on_label = (
        batch[key][0].cpu() for key in ("frames", "target", "weight", "on_label")
    )
    probability = detection.logits[0, 0].detach().float().sigmoid().cpu()
    if is_records(batch["frames"]):  # nothing was decoded
        frames = torch.full((len(target), 3, *target.shape[1:]), GRAY, dtype=torch.uint8)
    return clip_sheet(frames, target, weight, probability, on_label)


def make_optimizer(detector, settings):
    """Adam with one rate for the pretrained encoder, where it learns, and one for the rest;
    each group's own is base_lr. With weight decay it is decoupled (AdamW).
    """
    pretrained = list(detector.conv1.pretrained().parameters())
    among = {id(parameter) for parameter in pretrained}
    rest = [p for p in detector.parameters() if id(p) not in among]
    groups = [
        {"params": rest, "base_lr": settings.lr},
        {"params": pretrained, "base_lr": settings.encoder_lr},
    ]
    learning = [group for group in groups if group["params"][0].requires_grad]
    betas, decay = tuple(settings.adam_betas), settings.weight_decay
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    return kind(learning, settings.lr, betas, settings.adam_eps, weight_decay=decay, fused=True)


def freeze_encoder(detector, frozen):
    """Whether the encoder's pretrained part stays as it is."""
    detector.conv1.pretrained().requires_grad_(not frozen)


def with_sync_batch_norm(detector, batch_norm):
    """The detector with batch norms that see the whole batch of all processes, where
    --batch-norm sync asks for it.
    """
    if batch_norm != "sync" or distributed.world_size() == 1:
        return detector
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(
        detector, distributed.device_group("cuda")
    )


def start_weights(detector, settings):
    """Load the pretrained weights, saying how many tensors matched; a warning where there
    are none.
    """
    backbone = BACKBONES[settings.model]
    path = settings.pretrained or WEIGHTS / backbone.weights
    if not settings.train_encoder and (
        settings.pretrained == "none" or not Path(path).exists()
    ):
        raise UserError(
            f"{path}: a frozen encoder needs weights that know something; give them by "
            "--pretrained, or --train-encoder to train it along"
        )
    if settings.pretrained == "none":
        return
    if not settings.pretrained and not path.exists() and backbone.download:
        checkpoint.download(backbone.download, path)
    if not settings.pretrained and not path.exists():
        print(
            f"WARNING: no {path}; the encoder starts from random weights and needs far "
            "longer to learn. weights/README.md says where to get it."
        )
        return
    if not settings.pretrained and backbone.sha256:
        checkpoint.check_sha256(path, backbone.sha256)
    matched, missing, ignored = checkpoint.load_pretrained(detector, path)
    print(
        f"{path}: {matched} tensors loaded, {missing} of the network start at random, "
        f"{ignored} of the file unused"
    )
