"""A run that grows: videos and classes that join, videos that are withdrawn."""

from claus.artifacts.changes import (
    add_change,
    read_changes,
    video_record,
    with_changes,
    withdrawn,
)
from claus.artifacts.cycle import Cycle
from claus.artifacts.ledger import paid_for, write_ledger
from claus.datasets import own_videos, segments, table
from claus.datasets.labels.annotations import Annotations
from claus.datasets.labels.name_list import Names, read_class_names
from claus.flags.selection import SelectSettings, Source
from claus.steps.run_state import flags_of, labels_before, start_of
from claus.utils.runtime import UserError
from claus.utils.words import many


def keep_start(source: Source, cycle: Cycle, pool: Annotations) -> None:
    """Note how a run's pool was made, so that it can be looked for new videos later."""
    known = {video.source for video in pool.videos.values()}
    every = table.DATASETS[source.dataset].scan_videos(source.data, source.any_folder)
    segmented = None if source.segments is None else str(source.segments)
    add_change(
        cycle.run,
        {
            "change": "start",
            "cycle": 0,
            "any_folder": source.any_folder,
            "segment": source.segment,
            "segments": segmented,
            "masks": source.masks,
            "passed_over": [name for name in every if name not in known],
        },
    )


def joining(cycle: Cycle) -> list[str]:
    """Names of the videos that join the pool in this cycle."""
    changes = read_changes(cycle.run, "added", cycle.number)
    return [record["name"] for change in changes for record in change["videos"]]


def grow(settings: SelectSettings, cycle: Cycle) -> None:
    """Take in what the flags ask for; without --add-videos say where there are new ones."""
    growth = settings.growth
    asked = growth.add_videos or growth.add_classes or growth.withdraw
    if settings.source.oracle or settings.exchange.imported:
        return
    if asked and cycle.annotations.exists():
        raise UserError(
            f"cycle {cycle.number} is labeled already: what joins or leaves does so in the "
            f"next one, --cycle {cycle.number + 1}"
        )
    before_file = cycle.before().annotations if cycle.number else cycle.run.pool
    if not before_file.exists():
        if asked:
            raise UserError(f"{before_file} is missing: first finish the cycle before")
        return
    if growth.add_classes:
        add_classes(growth.add_classes, settings, cycle)
    if growth.withdraw:
        withdraw(growth.withdraw, settings, cycle)
    if cycle.number and (growth.add_videos or not cycle.annotations.exists()):
        look_for_videos(settings, cycle)


def look_for_videos(settings: SelectSettings, cycle: Cycle) -> None:
    """Add what lies below --data and is not in the pool, with --add-videos; else say so."""
    source, start = settings.source, start_of(cycle)
    if not start and not settings.growth.add_videos:
        return  # of a run of an older version, which does not know what it passed over
    dataset = table.DATASETS[source.dataset]
    labels = labels_before(settings, cycle)
    try:
        names = dataset.scan_videos(source.data, start.get("any_folder", source.any_folder))
    except UserError:
        if settings.growth.add_videos:
            raise
        return
    known = {video.source for video in labels.videos.values()} | withdrawn(cycle.run)
    known |= {name.rpartition("_f")[0] for name in withdrawn(cycle.run)}
    known |= set(start.get("passed_over", ()))
    if source.test_list:
        tested = own_videos.listed_tests(source.test_list, names, source.data, dataset)
        names = [name for name in names if name not in tested]
    new = [name for name in names if name not in known]
    if not settings.growth.add_videos:
        if new:
            print(
                f"note: {many(len(new), 'video')} below {source.data} not in the pool (first "
                f"{new[0]}): --add-videos takes them in"
            )
        return
    if source.segments is not None:
        replace_or_add_parts(settings, cycle, labels, names)
        return
    if not new:
        print(f"no new video below {source.data}: all are in the pool")
        return
    cut = segments.read_cut(start.get("segment"), None)
    entries, failed = read_videos(settings, cycle, new, cut)
    _say_failed(failed)
    keep_added(settings, cycle, entries)


def read_videos(settings, cycle, names, cut):
    """({name: Video}, failed) of videos on disk, cut where the pool was cut."""
    source = settings.source

    def find_video(name):
        return table.DATASETS[source.dataset].find_video(source.data, name)

    if cut is not None:
        return own_videos.cut_videos(names, find_video, cut, cycle.run.cache, source.strict)
    counted = own_videos.count_frames(names, find_video, cycle.run.frame_counts, source.strict)
    sizes, failed = counted
    return {name: own_videos.Video(name, *size) for name, size in sizes.items()}, failed


def replace_or_add_parts(settings, cycle, labels, names):
    """--segments: the parts that a list names join; a whole video of which they are parts
    leaves the pool, where nothing of it is labeled.
    """
    cut = segments.read_cut(None, settings.source.segments)
    entries, failed = read_videos(settings, cycle, names, cut)
    _say_failed(failed)
    entries = {name: video for name, video in entries.items() if name not in labels.videos}
    whole = [name for name in labels.videos if labels.videos[name].segment is None]
    replaced = sorted({video.source for video in entries.values()} & set(whole))
    for name in replaced:
        if labels.videos[name].is_labeled:
            raise UserError(
                f"video {name} has labels as a whole: it cannot be cut into parts any more, "
                f"take it out of {settings.source.segments}"
            )
    for video in entries.values():
        for other in labels.videos.values():
            apart = (
                other.segment is None
                or other.source != video.source
                or other.first + other.frames <= video.first
                or video.first + video.frames <= other.first
            )
            if not apart:
                raise UserError(
                    f"{settings.source.segments}: {video.name} overlaps {other.name}, which "
                    "is in the pool; end one before the other begins"
                )
    if replaced:
        add_change(
            cycle.run,
            {
                "change": "withdrawn",
                "cycle": cycle.number,
                "videos": replaced,
                "reason": "cut into parts",
                "paid": [0, 0, 0, 0],
            },
        )
    keep_added(settings, cycle, entries)


def keep_added(settings, cycle, entries):
    """Note the videos that join, and say from when they can be chosen."""
    if not entries:
        return
    find_video = table.video_finder(settings.source.dataset, settings.source.data)
    from claus.artifacts.identities import IdentifiedVideos

    # first: once the change is noted, a second try takes them for known
    identified = IdentifiedVideos(find_video, cycle.run.identities)
    for name in dict.fromkeys(video.source for video in entries.values()):
        identified(name)
    add_change(
        cycle.run,
        {
            "change": "added",
            "cycle": cycle.number,
            "videos": [video_record(video) for video in entries.values()],
        },
    )
    when = "now" if settings.rule.random else f"from cycle {cycle.number + 1} on"
    print(
        f"joining the pool: {many(len(entries), 'video')} (first {next(iter(entries))}): to be "
        f"chosen {when}"
        + (
            ""
            if settings.rule.random
            else f", once cluster_extract.py of cycle {cycle.number} has seen them"
        )
    )


def _say_failed(failed):
    if failed:
        name, reason = next(iter(failed.items()))
        print(
            f"skipped: {many(len(failed), 'video')} that could not be read, first {name}: {reason}"
        )


def add_classes(text: str, settings: SelectSettings, cycle: Cycle) -> None:
    """Further classes join in this cycle."""
    labels = labels_before(settings, cycle)
    names = read_class_names(text, "--add-classes")
    new = [name for name in dict.fromkeys(names) if name not in labels.classes]
    if not new:
        print(f"--add-classes {text}: these are classes already")
        return
    add_change(cycle.run, {"change": "classes", "cycle": cycle.number, "classes": new})
    print(
        f"classes added: {', '.join(new)}. Labels so far were given without them: a video "
        "that shows one of them and was labeled otherwise, or as none of the classes, stays "
        "so until --correct changes it. The next training begins its class capsules anew "
        f"(now {len(labels.classes) + len(new)} classes); the encoder continues from "
        "--pretrained"
    )


def withdraw(names: tuple[str, ...], settings: SelectSettings, cycle: Cycle) -> None:
    """Videos leave the pool, with their labels and, of whole videos, all their segments."""
    labels = labels_before(settings, cycle)
    gone, entries = [], labels.videos.values()
    known = Names({name: None for video in entries for name in (video.name, video.source)})
    for name in dict.fromkeys(names):
        fitting = known.find(name)
        found = [
            video.name for video in entries if {video.name, video.source} & set(fitting[:1])
        ]
        if len(fitting) > 1:
            raise UserError(f"--withdraw {name}: is {' or '.join(fitting[:3])}; name the file")
        if not found and name not in withdrawn(cycle.run):
            near = known.nearest(name)
            hint = f" (is it {near}?)" if near else ""
            raise UserError(
                f"--withdraw {name}: no such video in the pool{hint}; check the name"
            )
        gone += [entry for entry in found if entry not in gone]
    if not gone:
        print("these are withdrawn already")
        return
    left = with_changes(labels, cycle.run, cycle.number)
    part = Annotations(labels.dataset, labels.classes, {n: left.videos[n] for n in gone})
    add_change(
        cycle.run,
        {
            "change": "withdrawn",
            "cycle": cycle.number,
            "videos": gone,
            "reason": "by --withdraw",
            "paid": (-paid_for(part)).tolist(),
        },
    )
    counts = part.counts()
    write_ledger(cycle.run)
    print(
        f"withdrawn: {many(len(gone), 'video')} ({', '.join(gone[:3])}), with {counts['frames']} "
        f"labeled frames. They are in no annotation file from cycle {cycle.number} on, and "
        "what they cost stays in the ledger. Earlier cycles' files, weights and pictures "
        f"still hold them: remove what must go below {cycle.run.folder}, and train again "
        f"({flags_of(settings, cycle.number)})"
    )
