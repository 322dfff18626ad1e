"""Step 1: annotation file -> detector weights and cluster centres.

    python train_ucf101.py --run my_run --cycle 0

Reads   files/my_run/cycle0/annotations.pkl (written by claus_select.py), the labelled videos below --data,
        weights/rgb_charades.pt where it exists
Writes  files/my_run/cycle0/detector.pt    weights, cluster centres, and all that the later scripts need to know
        files/my_run/cycle0/tensorboard/   every loss term, rates, validation scores, pictures of training clips
        files/my_run/cycle0/training.pt    the state to go on from after an interruption (--resume); gone at the end
Expect  one line per epoch; with --model full on one H200 or A100 a few minutes a cycle at 5% of UCF-101-24, with
        --model small a minute on two CPU cores. A video that cannot be read is named and set aside.
"""

import utils.cpu  # noqa: F401  before torch

# isort: split
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

import engine
from datasets import annotations as annotation_file
from datasets import which
from datasets.clips import GEOMETRY, PIXEL_RANGE
from datasets.mask_interp import METHODS
from datasets.tiles import VideoTiles, tile_loader
from datasets.training_clips import ClipSampler, LabelledFrames, TrainingClips, loader
from losses.cluster import LAMBDA, Clusters
from losses.margin import LAST_MARGIN
from models.detector import PRESETS, Detector, DetectorConfig
from models.mc_dropout import tile_latents
from utils import checkpoint
from utils.handoffs import cycle_dir, fingerprint
from utils.pictures import clip_sheet
from utils.runtime import UserError, check_writable, run_script, whole_number

WEIGHTS = Path(__file__).resolve().parent / "weights"
PRETRAINED = {"full": WEIGHTS / "rgb_charades.pt", "small": WEIGHTS / "small_encoder.pt"}
AGAIN = "finished epochs are kept, the same command with --resume goes on from there"
LEAST_VALIDATION_FRAMES = 30        # with fewer labelled frames to validate on, nothing is held out

# What differs between the two networks. full: the paper's values. small: chosen on the toy videos, see the README.
TRAINING = {
    "full": {"lr": 5e-4, "encoder_lr": 5e-4, "batch_size": 8, "margin_weight": 1.0, "cluster_weight": LAMBDA,
             "lr_schedule": "constant"},
    "small": {"lr": 1e-3, "encoder_lr": 2e-5, "batch_size": 8, "margin_weight": 0.3, "cluster_weight": 1e-4,
              "lr_schedule": "cosine"},
}
AUTHORS = {"lr": 5e-5, "batch_size": 6, "adam_betas": (0.5, 0.999), "adam_eps": 1e-6, "last_margin": 0.2,
           "weighting": "authors", "pixel_range": "0..1", "reassign": 0}
PLAIN = {"reassign": 1, "adam_betas": (0.9, 0.999), "adam_eps": 1e-8, "last_margin": LAST_MARGIN, "weighting": "paper",
         "pixel_range": "-1..1"}


def parse_args(argv=None, dataset="ucf101", about=__doc__):
    """The flags of the training script of `dataset`; `about` is what its --help begins with."""
    crops = which.MODULES[dataset].CROPS
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder below --files), or a path")
    add("--cycle", type=whole_number, default=0, help="active-learning cycle, from 0")
    add("--files", default="files", help="folder of all runs")
    which.add_flags(add, dataset)
    add("--annotations", help="annotation file to train on instead of the cycle's annotations.pkl")
    add("--model", choices=PRESETS, default="full", help="full: the published network; small: for CPU runs")
    add("--pretrained", help="weights to start from (default: rgb_charades.pt or small_encoder.pt in weights/); "
                             "'none' for a random start; a detector.pt to continue from another cycle")
    if len(crops) > 1:
        add("--crop", choices=crops, default=crops[0], help="224x296 resized to a square, or 224x224 straight")
    if which.MODULES[dataset].ANSWERS == "masks":
        add("--mask-interp", choices=METHODS, default=METHODS[0], help="how masks between two labels are made; flow "
            "follows the pixels and is slow (default: %(default)s)")
    parser.set_defaults(dataset=dataset, crop=crops[0], mask_interp=METHODS[0])
    add("--pixel-range", choices=PIXEL_RANGE, help="of the network's input (default -1..1)")
    add("--pseudo-label-loss", choices=("stew", "interp", "frame"), default="stew",
        help="stew: weigh pseudo-labels by trust (paper Eq. 5); interp: trust all; frame: real labels only")
    add("--weighting", choices=("paper", "authors"), help="where the STeW weight enters: the error, or the logits")
    add("--no-dice", action="store_true", help="leave out the Dice term beside the BCE")
    add("--margin-weight", type=float, help="weight of the class margin loss (default 1; small: 0.3)")
    add("--last-margin", type=float, help="margin at the end of training, from 0.2 on (default 0.9)")
    add("--cluster-weight", type=float, help="lambda of the cluster loss (default 1e-6; small: 1e-4)")
    add("--clusters", type=int, default=5, help="K (paper: 5)")
    add("--reassign", type=int, choices=(0, 1), help="0 keeps the first cluster of every video, as the authors do; 1 "
                                                     "(default) reassigns every epoch")
    add("--epochs", type=int, default=40, help="each labelled video gives two clips an epoch")
    add("--steps", type=int, help="train for so many optimiser steps instead, in --epochs equal parts; use it to "
                                  "compare runs with different numbers of labels")
    add("--batch-size", type=int, help="clips a step (default 8)")
    add("--lr", type=float, help="Adam's learning rate (default 5e-4; small: 1e-3)")
    add("--encoder-lr", type=float, help="the same for the pretrained I3D (default: --lr where it is given, else 5e-4; "
                                         "small: 2e-5)")
    add("--lr-schedule", choices=engine.SCHEDULES, help="over the whole training (default constant, as in the paper; "
                                                        "small: cosine to 0)")
    add("--adam-betas", type=float, nargs=2, help="Adam's betas (default 0.9 0.999)")
    add("--adam-eps", type=float, help="Adam's epsilon (default 1e-8)")
    add("--authors", action="store_true", help="the published code's settings for every flag not given: lr 5e-5, batch "
        "6, betas .5 .999, eps 1e-6, margin 0.2 throughout, weight on the logits, pixels 0..1, fixed clusters")
    add("--bn-batches", type=int, default=32, help="batches to re-estimate the batch-norm statistics from; 0: never")
    add("--no-validation", action="store_true", help="train on every labelled video and keep the last checkpoint")
    add("--no-amp", action="store_true", help="float32 on CUDA too, instead of bf16 autocast")
    add("--resume", action="store_true", help="go on from training.pt")
    add("--force", action="store_true", help="train again although detector.pt is there")
    add("--strict", action="store_true", help="stop at the first video that cannot be read")
    add("--seed", type=whole_number, default=0, help="of weights, clips, crops, dropout and k-means")
    add("--device", type=engine.device_name, default="cuda" if torch.cuda.is_available() else "cpu",
        help="cuda, cuda:1, cpu")
    add("--workers", type=whole_number, help="processes that decode videos (default: 8, on a CPU 0)")
    return with_defaults(parser.parse_args(argv), parser)


def with_defaults(args, parser):
    """Fill what was not given from the preset, and refuse what makes no sense."""
    chosen = {**TRAINING[args.model], **PLAIN, **(AUTHORS if args.authors else {})}
    if args.lr is not None or args.model == "full":
        chosen["encoder_lr"] = args.lr or chosen["lr"]
    for name, value in chosen.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    which.check_flags(args, parser)
    if args.workers is None:
        args.workers = 8 if args.device.startswith("cuda") else 0
    for name in ("epochs", "batch_size", "clusters", "lr", "encoder_lr", "last_margin"):
        if not 0 < getattr(args, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} must be greater than 0, not {getattr(args, name)}")
    if args.steps is not None and args.steps < args.epochs:
        parser.error(f"--steps {args.steps} is fewer than --epochs {args.epochs}; give at least one step an epoch")
    for name in ("margin_weight", "cluster_weight", "bn_batches", "adam_eps"):
        if not 0 <= getattr(args, name) < math.inf:
            parser.error(f"--{name.replace('_', '-')} must be 0 or more, not {getattr(args, name)}")
    if not all(0 <= beta < 1 for beta in args.adam_betas):
        parser.error(f"--adam-betas must lie from 0 to below 1, not {' '.join(map(str, args.adam_betas))}")
    return args


def main(argv=None, dataset="ucf101", about=__doc__):
    args = parse_args(argv, dataset, about)
    folder = cycle_dir(args.run, args.cycle, args.files)
    if (folder / "detector.pt").exists() and not args.force:
        print(f"{folder / 'detector.pt'} is there already; --force trains again")
        return 0
    if (folder / "training.pt").exists() and not (args.resume or args.force):
        raise UserError(f"{folder / 'training.pt'} holds an interrupted training: --resume goes on from it, --force "
                        "trains anew")
    path = args.annotations or folder / "annotations.pkl"
    labels = annotation_file.load(path)
    which.check_same(dataset, labels.dataset, path)
    check_writable(folder / "tensorboard")
    check_writable(folder)
    find_video = which.video_finder(args)
    names, missing = readable(labels, find_video, args)
    training, validation = split_validation(labels, names, args)
    state = Training(args, labels, training, missing, find_video, folder)
    print(f"{len(training)} videos to train on, {len(validation)} to validate on, {labels.counts()['frames']} labelled "
          f"frames; {state.all_steps} steps in {args.epochs} epochs; {args.model} network on {args.device}")
    with SummaryWriter(folder / "tensorboard", purge_step=state.epoch) as writer:
        for epoch in range(state.epoch, args.epochs):
            state.run_epoch(epoch, validation, writer)
            checkpoint.save(state.state_dict(epoch + 1), folder / "training.pt")
    checkpoint.save(state.finished(), folder / "detector.pt")
    (folder / "training.pt").unlink(missing_ok=True)
    if state.failed:
        print(f"{len(state.failed)} of {len(labels.labelled())} labelled videos were set aside:")
        print("\n".join(f"  {name}: {reason}" for name, reason in sorted(state.failed.items())))
    print(f"wrote {folder / 'detector.pt'}")
    return 0


def readable(labels, find_video, args):
    """Names of the labelled videos whose file exists, and {name: reason} of the others."""
    names, missing = [], {}
    for video in labels.labelled():
        try:
            find_video(video.name)
            names.append(video.name)
        except UserError as error:
            if args.strict:
                raise
            missing[video.name] = str(error)
    if not names:
        reason = next(iter(missing.values()), "the annotation file has no labelled video; run claus_select.py first")
        raise UserError(f"nothing to train on: {reason}")
    return names, missing


def split_validation(labels, names, args):
    """(training, validation) names: a tenth of the labelled videos is held out, if it has enough labelled frames."""
    shuffled = np.random.default_rng([args.seed, 3]).permutation(len(names))
    held_out = [names[i] for i in sorted(shuffled[:len(names) // 10])]
    frames = sum(len(labels.videos[name].labelled_frames) for name in held_out)
    if args.no_validation or frames < LEAST_VALIDATION_FRAMES:
        return names, []
    return [name for name in names if name not in set(held_out)], held_out


class Training:
    """The state of one training: everything that training.pt holds, and what makes the clips."""

    def __init__(self, args, labels, names, failed, find_video, folder):
        self.args, self.labels, self.names, self.failed = args, labels, names, dict(failed)
        self.geometry = GEOMETRY[args.model, args.crop]
        self.options = engine.LossOptions(args.weighting, not args.no_dice, margin=args.margin_weight,
                                          cluster=args.cluster_weight, last_margin=args.last_margin)
        self.clips = TrainingClips(labels, find_video, self.geometry, args.seed, args.pseudo_label_loss,
                                   args.weighting, args.mask_interp)
        self.held_out = LabelledFrames(labels, find_video, self.geometry, args.seed, interpolation=args.mask_interp)
        # with --steps an epoch is an equal part of them, however few the labels
        length = -(-args.steps // args.epochs) * args.batch_size if args.steps else None
        self.sampler = ClipSampler(names, args.seed, length)
        self.batches = loader(self.clips, self.sampler, args.batch_size, args.workers)
        self.all_steps = args.steps or args.epochs * math.ceil(len(self.sampler) / args.batch_size)
        self.step = self.epoch = 0
        self.best_score, self.best = -math.inf, None
        self.history = []
        self.source = fingerprint(args.annotations or folder / "annotations.pkl")
        torch.manual_seed(args.seed)
        config = DetectorConfig(len(labels.classes), **PRESETS[args.model])
        self.detector = Detector(config).to(args.device)
        encoder = list(self.detector.conv1.parameters())
        rest = [p for name, p in self.detector.named_parameters() if not name.startswith(checkpoint.ENCODER)]
        groups = [{"params": rest, "base_lr": args.lr}, {"params": encoder, "base_lr": args.encoder_lr}]
        self.optimizer = torch.optim.Adam(groups, args.lr,
                                          tuple(args.adam_betas), args.adam_eps, fused=True)
        if args.resume and (folder / "training.pt").exists():
            self.load_state_dict(checkpoint.read(folder / "training.pt", "training state"), folder / "training.pt")
            print(f"resuming after epoch {self.epoch}")
        else:
            start_weights(self.detector, args)
            self.clusters = self.first_clusters(find_video)

    def first_clusters(self, find_video):
        """K-means on the evaluation-mode latents of the labelled videos' tiles."""
        latents, reason = {}, ""
        self.reestimate()
        videos = [self.labels.videos[name] for name in self.names]
        for tiles in tqdm(tile_loader(VideoTiles(videos, find_video, self.geometry), self.args.workers),
                          desc="cluster", leave=False, unit="video", disable=None):
            if "failed" in tiles:
                reason = self.set_aside(tiles["name"], tiles["failed"])
            else:
                latents[tiles["name"]] = tile_latents(self.detector, tiles["clips"], self.args.pixel_range)
        if not latents:
            raise UserError(f"none of the {len(self.names)} labelled videos can be decoded: {reason}")
        self.names[:] = [name for name in self.names if name in latents]
        self.sampler.names[:] = self.names
        return Clusters.fit(latents, self.args.clusters, self.args.seed)

    def set_aside(self, name, reason):
        if self.args.strict:
            raise UserError(reason)
        self.failed[name] = reason
        return reason

    def run_epoch(self, epoch, validation, writer):
        """Train one epoch, validate, log."""
        self.sampler.epoch = epoch
        sheet = {}
        terms, rate, failed = engine.train_epoch(
            self.detector, self.clusters, self.limited_batches(), self.optimizer, self.options, self.args.pixel_range,
            self.step, self.all_steps, not self.args.no_amp,
            lambda step, batch, detection: sheet.update(step=step, batch=batch, detection=detection),
            self.args.lr_schedule)
        for name, reason in failed.items():
            self.set_aside(name, reason)
        self.step = min(self.step + len(self.batches), self.all_steps)
        moved = self.clusters.reassign() if self.args.reassign else 0
        scores = {}
        if validation:
            self.reestimate()
            keys = [(name, int(f)) for name in validation for f in self.labels.videos[name].labelled_frames]
            batches = loader(self.held_out, keys, self.args.batch_size, self.args.workers)
            unread = {}
            scores = engine.validate(self.detector, batches, self.labels.classes, self.args.pixel_range,
                                     not self.args.no_amp, unread)
            for name, reason in unread.items():
                self.set_aside(name, reason)
            score = scores["f@.5"] + 1e-3 * scores["mean IoU"]
            if not math.isnan(score) and score > self.best_score:
                self.best_score, self.best = score, self.snapshot()
        self.log(writer, epoch, terms, rate, moved, scores, sheet)

    def limited_batches(self):
        """The epoch's batches, cut where --steps ends."""
        left = self.all_steps - self.step
        return self.batches if left >= len(self.batches) else _First(self.batches, left)

    def reestimate(self):
        if self.args.bn_batches:
            batches = loader(self.clips, self.sampler, self.args.batch_size, self.args.workers)
            engine.reestimate_batch_norm(self.detector, batches, self.args.pixel_range, self.args.bn_batches,
                                         not self.args.no_amp)

    def log(self, writer, epoch, terms, rate, moved, scores, sheet):
        for name, value in terms.items():
            writer.add_scalar(f"loss/{name}", value, epoch)
        for name, value in scores.items():
            writer.add_scalar(f"validation/{name}", value, epoch)
        writer.add_scalar("rate/clips per second", rate, epoch)
        writer.add_scalar("rate/learning rate", self.optimizer.param_groups[0]["lr"], epoch)
        writer.add_scalar("clusters/videos reassigned", moved, epoch)
        if sheet:
            batch, probability = sheet["batch"], sheet["detection"].logits[0, 0].detach().float().sigmoid()
            writer.add_image("clip: frame, pseudo-label, weight, prediction", clip_sheet(
                *(batch[key][0].cpu() for key in ("frames", "target", "weight")), probability.cpu(),
                batch["on_label"][0].cpu()), epoch)
        self.history.append({"epoch": epoch, **terms, **scores})
        text = "  ".join(f"{name} {value:.4g}" for name, value in {**terms, **scores}.items())
        print(f"epoch {epoch + 1:3d}/{self.args.epochs}  step {self.step}  {text}  {rate:.1f} clips/s", flush=True)

    def snapshot(self):
        """detector.pt's contents with the weights as they are now."""
        about = {"arguments": plain(vars(self.args)), "steps": self.step, "history": list(self.history),
                 "trained": time.strftime("%Y-%m-%d %H:%M:%S")}
        state = checkpoint.detector_state(self.detector, self.clusters, self.labels.classes, self.labels.dataset,
                                          self.geometry, self.args.pixel_range, about)
        state["detector"] = {name: value.detach().cpu().clone() for name, value in state["detector"].items()}
        return state

    def finished(self):
        """What detector.pt gets: the best validated weights, or the last where nothing was held out."""
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
        return {"arguments": plain(vars(self.args)), "labels": self.source, "failed": self.failed,
                "names": self.names, "epoch": epoch, "step": self.step,
                "detector": self.detector.state_dict(), "optimizer": self.optimizer.state_dict(),
                "clusters": self.clusters.state_dict(), "random": random, "history": self.history,
                "best_score": self.best_score, "best": self.best}

    def load_state_dict(self, state, path):
        if not isinstance(state, dict) or not TRAINING_STATE <= state.keys():
            raise UserError(f"{path} is no training state of this version; drop --resume and train anew with --force")
        changed = [name for name, value in plain(vars(self.args)).items()
                   if name not in NOT_COMPARED and state["arguments"].get(name) != value]
        if changed:
            raise UserError(f"{path} was trained with another --{changed[0].replace('_', '-')} "
                            f"({state['arguments'].get(changed[0])}); give the same flags, or --force in place of "
                            "--resume to train anew")
        if state["labels"] != self.source:
            raise UserError(f"{path} was trained on other labels than {self.args.annotations or 'annotations.pkl'} has "
                            "now; train anew with --force in place of --resume")
        self.detector.load_state_dict(state["detector"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.clusters = Clusters.from_state(state["clusters"])
        self.epoch, self.step, self.history = state["epoch"], state["step"], state["history"]
        self.best_score, self.best = state["best_score"], state["best"]
        self.failed = {**state["failed"], **self.failed}
        self.names[:] = state["names"]
        self.sampler.names[:] = self.names
        torch.set_rng_state(state["random"]["cpu"])
        if "cuda" in state["random"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random"]["cuda"])


NOT_COMPARED = {"resume", "force", "strict", "workers", "device", "run", "files", "data", "annotations"}


TRAINING_STATE = {"arguments", "labels", "failed", "names", "epoch", "step", "detector", "optimizer", "clusters",
                  "random", "history", "best_score", "best"}


class _First:
    """The first n batches of a loader."""

    def __init__(self, batches, n):
        self.batches, self.n = batches, n

    def __len__(self):
        return self.n

    def __iter__(self):
        for _, batch in zip(range(self.n), self.batches, strict=False):
            yield batch


def plain(values):
    """Arguments as builtins that torch.load takes without trust."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


def start_weights(detector, args):
    """Load the pretrained weights, saying how many tensors matched; a warning where there are none."""
    path = args.pretrained or PRETRAINED[args.model]
    if args.pretrained == "none":
        return
    if not args.pretrained and not path.exists():
        print(f"WARNING: no {path}; the encoder starts from random weights and needs far longer to learn. "
              "weights/README.md says where to get it.")
        return
    matched, missing, ignored = checkpoint.load_pretrained(detector, path)
    print(f"{path}: {matched} tensors taken, {missing} of the network start at random, {ignored} of the file unused")


if __name__ == "__main__":
    run_script(main, AGAIN)
