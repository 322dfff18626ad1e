"""Train on labeled and unlabeled videos: what train_semi.py does once its flags are read."""

from dataclasses import replace

from claus.artifacts import cycle_locks
from claus.datasets import table
from claus.datasets.labels import annotations
from claus.semi.lists import read_lists, video_names
from claus.semi.recipe import Semi
from claus.steps import train
from claus.training import Trainer
from claus.utils.runtime import UserError, check_alone


def run(settings):
    """One training by SemiSettings; 0, or UserError."""
    check_alone("train_semi.py")
    training = settings.training
    cycle = train.opened(training)
    if cycle is None:
        return 0
    train.prove_writable(cycle)
    with cycle_locks.working(cycle, "train"):
        return train_semi(settings, training, cycle)


def train_semi(settings, training, cycle):
    """The training itself, of a cycle that is this process's own."""
    left_out = take_lists(settings, cycle) if settings.lists.pkl_file_label else {}
    labels = train.read_labels(training, cycle)
    training = train.with_crop(training, labels)
    settings = replace(settings, training=training)
    videos = train.labeled_videos(training, labels, cycle)
    settings, unlabeled, missing = usable_unlabeled(settings, labels, videos.find_video)
    videos = replace(videos, failed={**left_out, **videos.failed, **missing})
    trainer = Trainer(training, videos, cycle, Semi(settings, unlabeled))
    unused = ""
    if settings.method == "supervised" and unlabeled:
        unused = ", which set the length of an epoch alone"
    print(
        f"{settings.method}: {len(trainer.names)} labeled videos to train on, "
        f"{len(trainer.validation)} to validate on, {len(unlabeled)} without "
        f"labels{unused}; {trainer.all_steps} steps in {training.optimizer.epochs} epochs; "
        f"{training.model} network on {training.hardware.device}"
    )
    train.fit(trainer)
    train.report_skipped(trainer.failed, f"{len(labels.videos) + len(left_out)} videos")
    print(f"wrote {cycle.detector}")
    return 0


def take_lists(settings, cycle):
    """Write the two lists as the cycle's annotation file, unless it is that already; {name:
    reason} of lost videos.
    """
    lists, place, resume = settings.lists, settings.training.place, settings.training.resume
    labels, failed = read_lists(
        place.dataset,
        lists.pkl_file_label,
        lists.pkl_file_unlabel,
        table.video_finder(place.dataset, place.data),
        cycle.run.frame_counts,
        lists.oracle or place.data,
        resume.strict,
        lists.boxes_from,
        names_of(place),
    )
    path = cycle.annotations
    fresh = path.with_name(".annotations.lists.tmp")
    annotations.save(labels, fresh)
    try:
        same = not path.exists() or fresh.read_bytes() == path.read_bytes()
        if not (same or resume.force):
            raise UserError(
                f"{path} has other labels than the lists; give another --run, or --force to "
                "replace it"
            )
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return failed


def names_of(place):
    """name_list.Names of the videos below --data."""
    dataset = table.DATASETS[place.dataset]
    find_video = table.video_finder(place.dataset, place.data)
    try:
        names = dataset.scan_videos(place.data)
    except UserError:  # the list says what is missing
        names = []
    return video_names(names, find_video, place.data, dataset.LAYOUTS)


def usable_unlabeled(settings, labels, find_video):
    """(settings, names of the videos without labels whose file exists, {name: reason} of
    the others).

    Where a cycle has labeled every video, none is left: the training then is supervised,
    and says so. To supervised training they only say how long an epoch is, so that it asks
    for none of them.
    """
    supervised = settings.method == "supervised"
    waiting = [video for video in labels.videos.values() if not video.is_labeled]
    if not waiting and not supervised:
        print(
            f"WARNING: every video is labeled, so --method {settings.method} has nothing to "
            "use; training supervised"
        )
        return replace(settings, method="supervised"), [], {}
    names, missing = [], {}
    for video in waiting:
        try:
            find_video(video.source)
            names.append(video.name)
        except UserError as error:
            if settings.training.resume.strict and not supervised:
                raise
            missing[video.name] = str(error)
    if supervised:
        return settings, names, {}
    if not names:
        raise UserError(
            f"none of the {len(waiting)} videos without labels is there: "
            f"{next(iter(missing.values()))}"
        )
    return settings, names, missing
