"""Train on a cycle's labels: what train_ucf101.py and train_jhmdb.py do once their flags are
read, and what semi/run.py shares with them.
"""

import contextlib
from dataclasses import replace

from torch.utils.tensorboard import SummaryWriter

from claus import engine
from claus.artifacts import checkpoint
from claus.artifacts.cycle import Cycle
from claus.datasets import table
from claus.datasets.labels import annotations
from claus.training import (
    Claus,
    Trainer,
    Videos,
    check_pretrained,
    nothing_to_do,
    readable,
    split_validation,
)
from claus.utils import distributed
from claus.utils.runtime import check_writable

# what an interrupted user is told
AGAIN = "finished epochs are kept; resume with the same command and --resume"


def run(settings):
    """One training by TrainingSettings; 0, or UserError."""
    device = distributed.own_device(settings.hardware.device)
    settings = replace(settings, hardware=replace(settings.hardware, device=device))
    cycle = opened(settings)
    if cycle is None:
        return 0
    labels = read_labels(settings, cycle)
    prove_writable(cycle)
    videos = labeled_videos(settings, labels)
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
    engine.fast_convolutions(settings.hardware.device)
    cycle = Cycle.of(place.run, place.cycle, place.files)
    if nothing_to_do(cycle, settings.resume):
        return None
    check_pretrained(settings.pretrained)
    return cycle


def read_labels(settings, cycle):
    """Annotations to train on, of the data set that the flags name."""
    path = settings.place.annotations or cycle.annotations
    labels = annotations.load(path)
    table.check_same(settings.place.dataset, labels.dataset, path)
    return labels


def prove_writable(cycle):
    """The first process makes the folders and proves that they can be written in."""
    if distributed.rank() == 0:
        check_writable(cycle.tensorboard)
        check_writable(cycle.folder)


def labeled_videos(settings, labels):
    """training.Videos of the labeled videos whose file exists."""
    find_video = table.video_finder(settings.place.dataset, settings.place.data)
    names, missing = readable(labels, find_video, settings.resume.strict)
    held_out = []
    if settings.validate:
        names, held_out = split_validation(labels, names, settings.seed)
    return Videos(labels, names, held_out, missing, find_video)


def fit(trainer):
    """All epochs that are left; the first process writes training.pt after each, and
    detector.pt at the end.
    """
    cycle, first = trainer.cycle, distributed.rank() == 0
    logs = (
        SummaryWriter(cycle.tensorboard, purge_step=trainer.epoch)
        if first
        else contextlib.nullcontext()
    )
    with logs as writer:
        for epoch in range(trainer.epoch, trainer.settings.optimizer.epochs):
            trainer.run_epoch(epoch, writer)
            if first:
                checkpoint.save(trainer.state_dict(epoch + 1), cycle.training)
    finished = trainer.finished()
    if first:
        checkpoint.save(finished, cycle.detector)
        cycle.training.unlink(missing_ok=True)


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
