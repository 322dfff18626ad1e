"""One training from start to finish, for every data set: what is held out, the state, its
epochs, its checkpoints.

train_ucf101.py, train_jhmdb.py and train_semi.py hold the flags (what all of them have is
here); engine.py holds one epoch; this is the room between them.
"""

import itertools
import math
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from claus import engine
from claus.artifacts import checkpoint
from claus.artifacts.handoffs import fingerprint
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.clips.tiles import VideoTiles, tile_loader
from claus.datasets.clips.training_clips import (
    ClipSampler,
    LabeledFrames,
    TrainingClips,
    loader,
)
from claus.losses.cluster import Clusters
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.mc_dropout import tile_latents
from claus.utils import distributed
from claus.utils.clip_sheet import clip_sheet
from claus.utils.runtime import UserError, whole_number

WEIGHTS = Path(__file__).resolve().parent / "weights"
PRETRAINED = {"full": WEIGHTS / "rgb_charades.pt", "small": WEIGHTS / "small_encoder.pt"}
LEAST_VALIDATION_FRAMES = 30  # with fewer labeled frames to validate on, nothing is held out
MOST_VALIDATION_FRAMES = (
    16  # of one video: densely labeled ones would take longer to validate on than to train
)
# flags that may change between the start of a training and its resumption
NOT_COMPARED = {
    "resume",
    "force",
    "strict",
    "workers",
    "device",
    "run",
    "files",
    "data",
    "annotations",
    "compile",
    "cache_dir",
    "cache_gb",
}
TRAINING_STATE = {
    "arguments",
    "labels",
    "failed",
    "names",
    "epoch",
    "step",
    "detector",
    "optimizer",
    "clusters",
    "random",
    "history",
    "best_score",
    "best",
    "validation",
    "length",
    "all_steps",
}


def add_running_flags(add):
    """The flags of every training script that say how a training is run, and not what it
    learns.
    """
    add("--resume", action="store_true", help="go on from training.pt")
    add("--force", action="store_true", help="train again although detector.pt is there")
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    add(
        "--device",
        type=engine.device_name,
        default="cuda" if torch.cuda.is_available() else "cpu",
        help="cuda, cuda:1, cpu",
    )
    add(
        "--workers",
        type=whole_number,
        help="processes that decode videos (default: 8, on a CPU 0)",
    )
    add(
        "--cache-gb",
        type=float,
        default=0,
        help="keep decoded clips of labeled videos on disk, at most so many GB "
        "(1.8 MB a labeled frame); pays where decoding, not the network, is what "
        "takes the time (default 0: none)",
    )
    add(
        "--cache-dir",
        help="folder of these and of the indices of the videos' frames; runs may share one "
        "(default: cache/ in the run's folder)",
    )


def default_workers(device):
    """--workers where it is not given."""
    return 8 if device.startswith("cuda") else 0


def nothing_to_do(folder, args):
    """Whether a cycle's folder holds a finished training; UserError where it holds an
    interrupted one and the flags do not say what to do with it.
    """
    if distributed.broadcast_from_rank0((folder / "detector.pt").exists()) and not args.force:
        print(f"{folder / 'detector.pt'} is there already; --force trains again")
        return True
    if (folder / "training.pt").exists() and not (args.resume or args.force):
        raise UserError(
            f"{folder / 'training.pt'} holds an interrupted training: --resume goes on "
            f"from it, --force "
            "trains anew"
        )
    return False


def readable(labels, find_video, args):
    """Names of the labeled videos whose file exists, and {name: reason} of the others."""
    names, missing = [], {}
    for video in labels.labeled():
        try:
            find_video(video.name)
            names.append(video.name)
        except UserError as error:
            if args.strict:
                raise
            missing[video.name] = str(error)
    if not names:
        reason = next(
            iter(missing.values()),
            "the annotation file has no labeled video; run claus_select.py first",
        )
        raise UserError(f"nothing to train on: {reason}")
    return names, missing


def split_validation(labels, names, args):
    """(training, validation) names: a tenth of the labeled videos is held out, if it has
    enough labeled frames.
    """
    shuffled = np.random.default_rng([args.seed, 3]).permutation(len(names))
    held_out = [names[i] for i in sorted(shuffled[: len(names) // 10])]
    frames = sum(len(labels.videos[name].labeled_frames) for name in held_out)
    if args.no_validation or frames < LEAST_VALIDATION_FRAMES:
        return names, []
    return [name for name in names if name not in set(held_out)], held_out


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
    places = (
        np.linspace(0, len(frames) - 1, min(len(frames), MOST_VALIDATION_FRAMES))
        .round()
        .astype(int)
    )
    return [int(frame) for frame in frames[places]]


def dice_option(args):
    """LossOptions.dice by the flags."""
    return "weighted" if args.weighted_dice else not args.no_dice


class Training:
    """The state of one training: everything that training.pt holds, and what makes the
    clips.

    With several processes (see utils/distributed.py) each has the whole state, and its
    share of every batch.
    """

    def __init__(self, args, labels, names, failed, find_video, folder, validation=()):
        self.args, self.labels, self.names, self.failed = args, labels, names, dict(failed)
        self.validation = list(validation)
        self.geometry = GEOMETRY[args.model, args.crop]
        self.options = engine.LossOptions(
            args.weighting,
            dice_option(args),
            margin=args.margin_weight,
            cluster=args.cluster_weight,
            last_margin=args.last_margin,
        )
        kept = {"folder": args.cache_dir or folder.parent / "cache", "cache_gb": args.cache_gb}
        self.clips = TrainingClips(
            labels,
            find_video,
            self.geometry,
            args.seed,
            args.pseudo_label_loss,
            args.weighting,
            args.mask_interp,
            **kept,
        )
        self.held_out = LabeledFrames(
            labels, find_video, self.geometry, args.seed, interpolation=args.mask_interp, **kept
        )
        self.sampler = ClipSampler(names, args.seed, self.clips_an_epoch())
        share = distributed.BatchShare(self.sampler, args.batch_size)
        self.batches = loader(self.clips, share, share.size, args.workers)
        self.all_steps = args.steps or args.epochs * math.ceil(
            len(self.sampler) / args.batch_size
        )
        self.step = self.epoch = 0
        self.best_score, self.best = -math.inf, None
        self.history = []
        self.source = fingerprint(args.annotations or folder / "annotations.pkl")
        torch.manual_seed(args.seed)
        config = DetectorConfig(len(labels.classes), **PRESETS[args.model])
        self.detector = with_sync_bn(Detector(config), args).to(args.device)
        encoder = list(self.detector.conv1.parameters())
        rest = [
            p
            for name, p in self.detector.named_parameters()
            if not name.startswith(checkpoint.ENCODER)
        ]
        groups = [
            {"params": rest, "base_lr": args.lr},
            {"params": encoder, "base_lr": args.encoder_lr},
        ]
        self.optimizer = torch.optim.Adam(
            groups, args.lr, tuple(args.adam_betas), args.adam_eps, fused=True
        )
        if args.resume and (folder / "training.pt").exists():
            self.load_state_dict(
                checkpoint.read(folder / "training.pt", "training state"),
                folder / "training.pt",
            )
            print(f"resuming after epoch {self.epoch}")
        else:
            start_weights(self.detector, args)
            self.clusters = self.first_clusters(find_video)
        self.forward = engine.forward_pass(self.detector, args.compile)

    def clips_an_epoch(self):
        """With --steps an equal part of them, however few the labels (see limited_batches);
        else None: ClipSampler's.
        """
        args = self.args
        return -(-args.steps // args.epochs) * args.batch_size if args.steps else None

    def first_clusters(self, find_video):
        """K-means on the evaluation-mode latents of the labeled videos' tiles."""
        latents, failed = {}, {}
        self.reestimate()
        videos = [self.labels.videos[name] for name in distributed.shard(self.names)]
        for tiles in tqdm(
            tile_loader(VideoTiles(videos, find_video, self.geometry), self.args.workers),
            desc="cluster",
            leave=False,
            unit="video",
            disable=None,
        ):
            if "failed" in tiles:
                failed[tiles["name"]] = tiles["failed"]
            else:
                latents[tiles["name"]] = tile_latents(
                    self.detector, tiles["clips"], self.args.pixel_range
                )
        for more_latents, more_failed in distributed.gather((latents, failed)):
            latents.update(more_latents)
            failed.update(more_failed)
        self.set_aside(failed)
        if not latents:
            raise UserError(
                f"none of the {len(self.names)} labeled videos can be decoded: "
                f"{[*failed.values()][-1]}"
            )
        self.names[:] = [name for name in self.names if name in latents]
        self.sampler.names[:] = self.names
        if distributed.rank() > 0:
            return Clusters.from_state(distributed.broadcast_from_rank0(None))
        clusters = Clusters.fit(
            {name: latents[name] for name in self.names}, self.args.clusters, self.args.seed
        )
        distributed.broadcast_from_rank0(clusters.state_dict())
        return clusters

    def set_aside(self, failed):
        """Note the videos that could not be read, {name: reason}; with --strict the first
        of them ends the training.
        """
        if failed and self.args.strict:
            raise UserError(next(iter(failed.values())))
        self.failed.update(failed)

    def run_epoch(self, epoch, writer):
        """Train one epoch, validate, log (writer: of TensorBoard, in the first process)."""
        self.sampler.epoch = epoch
        batches, sheet = self.limited_batches(epoch), {}
        terms, rate, failed = self.train(
            batches,
            lambda step, batch, detection: sheet.update(
                step=step, batch=batch, detection=detection
            ),
        )
        self.set_aside(failed)
        self.step += len(batches)
        moved = self.clusters.reassign() if self.args.reassign else self.clusters.forget()
        scores = {}
        if self.validation:
            self.reestimate()
            keys = [
                (name, frame)
                for name in self.validation
                for frame in validation_frames(self.labels.videos[name])
            ]
            batches = loader(
                self.held_out, distributed.shard(keys), self.args.batch_size, self.args.workers
            )
            unread = {}
            scores = engine.validate(
                self.detector,
                batches,
                self.labels.classes,
                self.args.pixel_range,
                not self.args.no_amp,
                unread,
            )
            for more in distributed.gather(unread):
                self.set_aside(more)
            score = scores["f@.5"] + 1e-3 * scores["mean IoU"]
            if not math.isnan(score) and score > self.best_score:
                self.best_score, self.best = score, self.snapshot()
        self.log(writer, epoch, terms, rate, moved, scores, sheet)

    def train(self, batches, on_batch):
        """One epoch's steps, see engine.train_epoch."""
        return engine.train_epoch(
            self.detector,
            self.clusters,
            batches,
            self.optimizer,
            self.options,
            self.args.pixel_range,
            self.step,
            self.all_steps,
            not self.args.no_amp,
            on_batch,
            self.args.lr_schedule,
            self.forward,
            self.args.seed,
            self.args.freeze_bn,
        )

    def limited_batches(self, epoch):
        """The epoch's batches: all, or as many as its equal part of --steps has."""
        return _First(
            self.batches, self.all_steps * (epoch + 1) // self.args.epochs - self.step
        )

    def reestimate(self):
        """Batch-norm statistics of the weights as they are; afterwards all processes have
        the same.
        """
        if self.args.freeze_bn:
            return
        if not self.args.bn_batches:
            distributed.same_buffers(self.detector)
            return
        size = self.args.batch_size
        keys = list(itertools.islice(self.sampler, self.args.bn_batches * size))
        whole = [keys[start : start + size] for start in range(0, len(keys), size)]
        mine = [
            key
            for batch in whole[distributed.rank() :: distributed.world_size()]
            for key in batch
        ]
        engine.reestimate_batch_norm(
            self.detector,
            loader(self.clips, mine, size, self.args.workers),
            self.args.pixel_range,
            self.args.bn_batches,
            not self.args.no_amp,
        )

    def log(self, writer, epoch, terms, rate, moved, scores, sheet):
        self.history.append({"epoch": epoch, **terms, **scores})
        if writer is None:
            return
        for name, value in terms.items():
            writer.add_scalar(f"loss/{name}", value, epoch)
        for name, value in scores.items():
            writer.add_scalar(f"validation/{name}", value, epoch)
        writer.add_scalar("rate/clips per second", rate, epoch)
        writer.add_scalar("rate/learning rate", self.optimizer.param_groups[0]["lr"], epoch)
        writer.add_scalar("clusters/videos reassigned", moved, epoch)
        if sheet:
            batch, probability = (
                sheet["batch"],
                sheet["detection"].logits[0, 0].detach().float().sigmoid(),
            )
            writer.add_image(
                "clip: frame, pseudo-label, weight, prediction",
                clip_sheet(
                    *(batch[key][0].cpu() for key in ("frames", "target", "weight")),
                    probability.cpu(),
                    batch["on_label"][0].cpu(),
                ),
                epoch,
            )
        text = "  ".join(f"{name} {value:.4g}" for name, value in {**terms, **scores}.items())
        print(
            f"epoch {epoch + 1:3d}/{self.args.epochs}  step {self.step}  {text}  "
            f"{rate:.1f} clips/s",
            flush=True,
        )

    def snapshot(self):
        """detector.pt's contents with the weights as they are now."""
        about = {
            "arguments": plain(vars(self.args)),
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
            self.args.pixel_range,
            about,
        )
        state["detector"] = {
            name: value.detach().cpu().clone() for name, value in state["detector"].items()
        }
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
        random = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            random["cuda"] = torch.cuda.get_rng_state_all()
        return {
            "arguments": plain(vars(self.args)),
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
            "length": len(self.sampler),
            "all_steps": self.all_steps,
        }

    def load_state_dict(self, state, path):
        if not isinstance(state, dict) or not TRAINING_STATE <= state.keys():
            raise UserError(
                f"{path} is no training state of this version; drop --resume and train "
                f"anew with --force"
            )
        changed = [
            name
            for name, value in plain(vars(self.args)).items()
            if name not in NOT_COMPARED
            and state["arguments"].get(name) != value
            and not (value is False and name not in state["arguments"])
        ]  # a switch that is newer than it
        if changed:
            raise UserError(
                f"{path} was trained with another --{changed[0].replace('_', '-')} "
                f"({state['arguments'].get(changed[0])}); give the same flags, or "
                f"--force in place of "
                "--resume to train anew"
            )
        if state["labels"] != self.source:
            raise UserError(
                f"{path} was trained on other labels than "
                f"{self.args.annotations or 'annotations.pkl'} has "
                "now; train anew with --force in place of --resume"
            )
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.clusters = Clusters.from_state(state["clusters"])
        self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
        self.best_score, self.best = state["best_score"], state["best"]
        self.failed = {**state["failed"], **self.failed}
        self.names[:] = state["names"]
        self.validation[:] = state[
            "validation"
        ]  # though other videos may be readable now: none is trained on
        self.sampler.names[:] = self.names
        self.sampler.length, self.all_steps = state["length"], state["all_steps"]
        self.sampler.epoch = max(
            self.epoch - 1, 0
        )  # whose clips re-estimate the batch norm after the last epoch
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random"]["cuda"][: torch.cuda.device_count()])


class _First:
    """The first n batches of a loader; where it has fewer (the last one too short for all
    processes), empty ones.
    """

    def __init__(self, batches, n):
        self.batches, self.n = batches, n

    def __len__(self):
        return self.n

    def __iter__(self):
        batches = iter(self.batches)
        for _ in range(self.n):
            yield next(batches, {"failed": [], "name": []})


def with_sync_bn(detector, args):
    """The detector with batch norms that see the whole batch of all processes, where
    --sync-bn asks for it.
    """
    if not args.sync_bn or distributed.world_size() == 1:
        return detector
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(
        detector, distributed.device_group("cuda")
    )


def plain(values):
    """Arguments as builtins that torch.load takes without trust."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def check_pretrained(args):
    """UserError where --pretrained names a file that is not there: before the long work."""
    if args.pretrained not in (None, "none") and not Path(args.pretrained).is_file():
        raise UserError(
            f"--pretrained {args.pretrained}: no such file; correct the path "
            f"(weights/README.md says where "
            "published weights come from), or give 'none' for a random start"
        )


def start_weights(detector, args):
    """Load the pretrained weights, saying how many tensors matched; a warning where there
    are none.
    """
    path = args.pretrained or PRETRAINED[args.model]
    if args.pretrained == "none":
        return
    if not args.pretrained and not path.exists():
        print(
            f"WARNING: no {path}; the encoder starts from random weights and needs far "
            f"longer to learn. "
            "weights/README.md says where to get it."
        )
        return
    matched, missing, ignored = checkpoint.load_pretrained(detector, path)
    print(
        f"{path}: {matched} tensors taken, {missing} of the network start at random, "
        f"{ignored} of the file unused"
    )
