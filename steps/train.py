"""Train on a cycle's labels: what train_ucf101.py and train_jhmdb.py do once their flags are
read, and what semi/run.py shares with them.
"""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from claus.artifacts import checkpoint, cycle_locks, identities
from claus.artifacts.cycle import Cycle
from claus.datasets import table
from claus.datasets.labels import annotations
from claus.training import Claus, Trainer, Videos
from claus.utils import distributed
from claus.utils.precision import Precision
from claus.utils.runtime import UserError, check_writable, full_disk_at

LEAST_VALIDATION_FRAMES = 30  # with fewer labeled frames to validate on, nothing is held out
# what an interrupted user is told
AGAIN = (
    "training.pt holds the last epochs but those that were too short to write it after each; "
    "resume with the same command and --resume"
)
SAVING_SHARE = 0.05  # of the time of a training that writing training.pt may take


def run(settings):
    """One training by TrainingSettings; 0, or UserError."""
    device = distributed.own_device(settings.hardware.device)
    settings = replace(settings, hardware=replace(settings.hardware, device=device))
    cycle = opened(settings)
    if cycle is None:
        return 0
    with cycle_locks.working(cycle, "train", distributed.rank()):
        return train(settings, cycle, device)


def train(settings, cycle, device):
    """The training itself, of a cycle that is this process's own."""
    labels = read_labels(settings, cycle)
    settings = with_crop(settings, labels)
    prove_writable(cycle)
    videos = labeled_videos(settings, labels, cycle)
    trainer = Trainer(settings, videos, cycle, Claus(settings))
    print(
        f"{len(trainer.names)} videos to train on, {len(trainer.validation)} to validate on, "
        f"{labels.counts()['frames']} labeled frames; {trainer.all_steps} steps in "
        f"{settings.optimizer.epochs} epochs; {settings.model} network on {device}"
    )
    print(batch_and_rate(settings.optimizer))
    fit(trainer)
    report_skipped(trainer.failed, f"{len(labels.labeled())} labeled videos")
    print(f"wrote {cycle.detector}")
    return 0


def opened(settings):
    """The cycle to train; None where that is done already. UserError where it cannot begin."""
    place = settings.place
    Precision.of(settings.hardware).take(settings.hardware.device)
    cycle = Cycle.of(place.run, place.cycle, place.files)
    if nothing_to_do(cycle, settings.resume):
        return None
    check_pretrained(settings.pretrained)
    return cycle


def nothing_to_do(cycle, resume):
    """Whether a cycle holds a finished training; UserError where it holds an interrupted one
    and the flags do not say what to do with it.
    """
    stopped = resume.resume and cycle.training.exists()  # a --force that was interrupted
    done = cycle.detector.exists() and not stopped
    if distributed.broadcast_from_rank0(done) and not resume.force:
        print(f"{cycle.detector} is there already; --force trains again")
        return True
    if cycle.training.exists() and not (resume.resume or resume.force):
        raise UserError(
            f"{cycle.training} holds an interrupted training: --resume resumes it, --force "
            "trains again"
        )
    return False


def check_pretrained(pretrained):
    """UserError where --pretrained names a file that is not there: before the long work."""
    if pretrained not in (None, "none") and not Path(pretrained).is_file():
        raise UserError(
            f"--pretrained {pretrained}: no such file; correct the path (weights/README.md "
            "says where published weights come from), or give 'none' for a random start"
        )


def read_labels(settings, cycle):
    """Annotations to train on, of the data set that the flags name."""
    path = settings.place.annotations or cycle.annotations
    labels = annotations.load(path)
    table.check_same(settings.place.dataset, labels.dataset, path)
    return labels


def with_crop(settings, labels):
    """The settings with the crop of the labels' data set, where the flags name none."""
    crop = settings.crop or table.default_crop(labels.dataset, settings.place.dataset)
    if settings.crop is None and labels.dataset == "own":
        print(f"videos of your own: the network sees --crop {crop}")
    return replace(settings, crop=crop)


def prove_writable(cycle):
    """The first process makes the folders and proves that they can be written in."""
    if distributed.rank() == 0:
        check_writable(cycle.tensorboard)
        check_writable(cycle.folder)


def labeled_videos(settings, labels, cycle):
    """training.Videos of the labeled videos whose file exists and is the run's."""
    place = settings.place
    find_video = table.video_finder(place.dataset, place.data)
    find_video = identities.of_run(cycle.run, find_video, place.annotations)
    names, missing = readable(labels, find_video, settings.resume.strict)
    held_out = []
    if settings.validate:
        names, held_out = split_validation(labels, names, settings.seed)
    return Videos(labels, names, held_out, missing, find_video)


def readable(labels, find_video, strict):
    """Names of the labeled videos whose file is there, and {name: reason} of the others."""
    names, missing = [], {}
    for video in labels.labeled():
        try:
            find_video(video.source)
            names.append(video.name)
        except UserError as error:
            if strict:
                raise
            missing[video.name] = str(error)
    if not names:
        reason = next(
            iter(missing.values()),
            "the annotation file has no labeled video; run claus_select.py first",
        )
        raise UserError(f"nothing to train on: {reason}")
    return names, missing


def split_validation(labels, names, seed):
    """(training, validation) names: a tenth of the labeled videos is held out, if it has
    enough labeled frames.
    """
    shuffled = np.random.default_rng([seed, 3]).permutation(len(names))
    held_out = [names[i] for i in sorted(shuffled[: len(names) // 10])]
    frames = sum(len(labels.videos[name].labeled_frames) for name in held_out)
    if frames < LEAST_VALIDATION_FRAMES:
        return names, []
    return [name for name in names if name not in set(held_out)], held_out


def fit(trainer):
    """All epochs that are left; the first process writes training.pt after as many as Saving
    allows, and detector.pt at the end.
    """
    with contextlib.closing(trainer.reader):
        _fit(trainer)


def _fit(trainer):
    cycle, first = trainer.cycle, distributed.rank() == 0
    saving = Saving(cycle.training)
    logs = (
        SummaryWriter(cycle.tensorboard, purge_step=trainer.epoch)
        if first
        else contextlib.nullcontext()
    )
    with full_disk_at(cycle.tensorboard), logs as writer:
        for epoch in range(trainer.epoch, trainer.settings.optimizer.epochs):
            trainer.run_epoch(epoch, writer)
            if first:
                saving.offer(trainer.state_dict(epoch + 1))
    finished = trainer.finished()
    if first:
        checkpoint.save(finished, cycle.detector)
        cycle.training.unlink(missing_ok=True)


class Saving:
    """Writes training.pt after the first epoch, and then so often that it takes at most
    SAVING_SHARE of the time: with the full network it has 768 MB, and an epoch of few labels
    takes seconds. A training that is killed loses the epochs since, at most those of 1 /
    SAVING_SHARE times a write.
    """

    def __init__(self, path):
        self.path, self.began, self.spent, self.cost = path, time.monotonic(), 0.0, None

    def offer(self, state):
        """Write the state, if it is due."""
        began = time.monotonic()
        allowed = SAVING_SHARE * (began - self.began)
        if self.cost is not None and self.spent + self.cost > allowed:
            return  # the first is always written: --resume finds what was begun
        checkpoint.save(state, self.path)
        self.cost = time.monotonic() - began
        self.spent += self.cost


def report_skipped(failed, whole):
    """List the videos that could not be used, {name: reason}, of `whole`."""
    if not failed:
        return
    print(f"{len(failed)} of {whole} were skipped:")
    for name, reason in sorted(failed.items()):
        print(f"  {name}: {reason}")


def batch_and_rate(optimizer):
    """One line that says the effective batch and the learning rate, and what each of
    several processes has of it.
    """
    n = distributed.world_size()
    shares = unscaled = ""
    if n > 1:
        over = {"freeze": "fixed statistics", "sync": "all", "update": "each share"}
        shares = (
            f": {optimizer.batch_size // n} in each of {n} processes, batch norm over "
            f"{over[optimizer.batch_norm]}"
        )
        unscaled = " (not scaled: the same whatever the number of processes)"
    return (
        f"batch of {optimizer.batch_size} clips a step{shares}; learning rate "
        f"{optimizer.lr:g}, encoder {optimizer.encoder_lr:g}{unscaled}"
    )
