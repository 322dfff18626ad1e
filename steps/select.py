"""Step 3, choosing: from the labels so far and what the detector says of the pool to the
next annotation file. claus_select.py says which files are read and written.
"""

import contextlib
from dataclasses import replace

from claus.annotators.form import write_form
from claus.annotators.request_frames import FRAMES, clear_frames, write_frames
from claus.annotators.simulated import answer, strip_labels
from claus.artifacts import cycle_locks, identities
from claus.artifacts.changes import with_changes
from claus.artifacts.cycle import Cycle
from claus.artifacts.ledger import Prices, write_ledger
from claus.artifacts.pool_reader import NamedPool, pool_of_labels, read_pool
from claus.artifacts.selection_file import load_selection, save_selection
from claus.artifacts.selection_report import (
    add_random,
    make_report,
    request_picks,
    settings_record,
)
from claus.datasets import own_videos, segments, table
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels.annotations import Annotations
from claus.flags.selection import SelectSettings, Source
from claus.selection.budget import Budget, cycle_budget, fit_budget
from claus.selection.choice import Selection
from claus.selection.random_share import read_share, select_with_share
from claus.selection.rules import RuleSettings, select
from claus.steps import correct, exchange, grow
from claus.steps.import_labels import import_labels
from claus.steps.intake import finish, take_answers
from claus.steps.run_state import (
    data_of,
    finder,
    flag,
    flags_of,
    labels_before,
    request_of,
)
from claus.steps.selection_output import draw_picture, keep_filled_form, print_report
from claus.utils.runtime import UserError, check_writable, gc_paused, one_line


def run(settings: SelectSettings) -> int:
    """Choose, or take answers in, as the settings say -> exit status."""
    cycle = Cycle.of(settings.run, settings.cycle, settings.files)
    source = settings.source
    if settings.exchange.export:
        return exchange.export(settings, cycle)
    with gc_paused(), cycle_locks.choosing(cycle):
        if settings.exchange.correct:
            return correct.correct(settings, cycle)
        if source.answers:
            check_writable(cycle.folder)
            return take_answers(settings, cycle)
        grow.grow(settings, cycle)
        if cycle.annotations.exists() and not settings.force:
            write_ledger(cycle.run)
            print(
                f"cycle {cycle.number} is labeled already: {cycle.annotations} "
                f"(--force chooses again)"
            )
            return 0
        check_nothing_built_on(cycle)
        check_writable(cycle.folder)
        if settings.exchange.imported:
            return import_labels(settings, cycle, *labels_so_far(settings, cycle, None))
        waiting = cycle.request.exists() and cycle.selection.exists()
        if waiting and not settings.force and not source.oracle:
            print(
                f"the request of cycle {cycle.number} is waiting for answers "
                f"(--force chooses again)"
            )
            before = labels_before(settings, cycle)
            show_request(settings, cycle, before, load_selection(cycle.selection))
            return 0
        return choose_next(settings, cycle)


def choose_next(settings: SelectSettings, cycle: Cycle) -> int:
    """Choose what is labeled next, and have it answered or ask for it."""
    truth = read_truth(settings.source) if settings.source.oracle else None
    before, unreadable = labels_so_far(settings, cycle, truth)
    rule = settings.rule if cycle.number else settings.rule.at_start()
    known = pool_of_cycle(settings, cycle, rule, before, unreadable)
    asked = asked_budget(settings, before, known)
    chosen, drawn = choose(settings, rule, known, asked)
    # of a large pool they are most of what is in memory
    known = replace(known, pool=replace(known.pool, scores={}))
    head = {
        "run": cycle.run.name,
        "cycle": cycle.number,
        "settings": settings_record(rule, cycle.number, settings.seed, known.extraction),
        "prices": checked_prices(settings),
    }
    report = make_report(head, rule, known, chosen, asked, before.videos)
    if drawn is not None:
        add_random(report, known, drawn, before.videos)
    request = request_of(settings.source, cycle, before, report)
    answers = answer(truth, request) if truth else None

    keep_filled_form(cycle.request)
    # with --force: it no longer belongs to what follows
    cycle.annotations.unlink(missing_ok=True)
    save_selection(report, cycle.selection)
    draw_picture(cycle.clusters_picture, report, known.pool, chosen)
    if answers is None:
        clear_frames(cycle.folder / FRAMES)  # of what was chosen before, with --force
    write_form(cycle.request, request)
    print_report(report)
    if answers is not None:
        return finish(settings, cycle, before, answers)
    show_request(settings, cycle, before, report)
    return 0


# ---------------------------------------------------------------------------- what there is


def read_truth(source: Source) -> Annotations:
    """Ground truth of the training part; of all videos, with a warning, where nothing says
    which are test videos.
    """
    where = source.dataset, source.oracle, source.test_list, source.split
    if source.test_list or source.split:
        return table.read_ground_truth(*where, "train")
    print(
        f"note: no --test-list, so every video of {source.oracle} is in the pool, "
        f"test videos too"
    )
    return table.read_ground_truth(*where, "all")


def labels_so_far(
    settings: SelectSettings, cycle: Cycle, truth: Annotations | None
) -> tuple[Annotations, dict[str, str]]:
    """(labels before this cycle, {name: reason} of videos found unreadable). Cycle 0: the
    pool without labels.
    """
    source = settings.source
    if cycle.number > 0:
        path = cycle.before().annotations
        if not path.exists():
            raise UserError(
                f"{path} is missing: first finish claus_select.py "
                f"{flags_of(settings, cycle.number - 1)}"
            )
        return labels_before(settings, cycle), {}
    if truth is not None:
        hidden = strip_labels(truth)
        return (on_disk(hidden, source) if source.on_disk else hidden), {}
    if not source.test_list:
        print(
            f"note: no --test-list, so every video below {source.data} is in the pool, "
            f"test videos too"
        )
    dataset = table.DATASETS[source.dataset]
    pool, failed = own_videos.read_pool(
        source.data,
        own_videos.read_classes(source.classes, dataset),
        source.test_list,
        known=cycle.run.frame_counts,
        strict=source.strict,
        dataset=dataset,
        any_folder=source.any_folder or bool(settings.exchange.imported),
        cut=segments.read_cut(source.segment, source.segments),
        cache=cycle.run.cache,
    )
    cycle.run.identities.unlink(missing_ok=True)  # with --force: nothing is labeled yet
    find_video = table.video_finder(source.dataset, source.data)
    find_video = identities.IdentifiedVideos(find_video, cycle.run.identities)
    for name in dict.fromkeys(video.source for video in pool.videos.values()):
        find_video(name)
    annotation_file.save(pool, cycle.run.pool)
    grow.keep_start(source, cycle, pool)
    return with_changes(pool, cycle.run, 0), failed


def on_disk(pool: Annotations, source: Source) -> Annotations:
    """The pool's videos that are found below --data; UserError where none is."""
    find, present = table.video_finder(source.dataset, source.data), {}
    for name, video in pool.videos.items():
        with contextlib.suppress(UserError):
            find(name)
            present[name] = video
    if not present:
        raise UserError(
            f"none of the {len(pool.videos)} videos of {source.oracle} is below "
            f"{source.data}; correct --data"
        )
    print(
        f"{len(present)} of {len(pool.videos)} videos are below {source.data} and make "
        f"up the pool"
    )
    return replace(pool, videos=present)


def pool_of_cycle(
    settings: SelectSettings,
    cycle: Cycle,
    rule: RuleSettings,
    before: Annotations,
    unreadable: dict[str, str],
) -> NamedPool:
    """Every video of the annotation file, and what the detector of the cycle before says."""
    if cycle.number == 0:
        return pool_of_labels(before, unreadable)
    extract = f"run cluster_extract.py {flags_of(settings, cycle.number - 1)}"
    joined = [] if rule.random else grow.joining(cycle)  # no detector has seen these
    return read_pool(before.without(joined), cycle, rule, extract)


# ------------------------------------------------------------------------------- the choice


def asked_budget(
    settings: SelectSettings, before: Annotations, known: NamedPool | None = None
) -> Budget:
    """The Budget that the flags ask for, whatever is left; of the pool only the number of
    videos left counts, and only where no video is bought.
    """
    rule, old_videos = settings.rule, None
    only_frames = rule.increment == "frames" and settings.cycle > 0
    if rule.strategy == "intra" or only_frames:
        old_videos = known.pool.left()[0]
    with one_line(ValueError):
        return cycle_budget(
            len(before.videos),
            before.total_frames(),
            settings.budget,
            cycle=settings.cycle,
            old_videos=old_videos,
        )


def choose(
    settings: SelectSettings, rule: RuleSettings, known: NamedPool, asked: Budget
) -> tuple[Selection, Selection | None]:
    """(the selection of this cycle, what --random-share draws beside it). The generator of
    every random choice starts from (seed, cycle). UserError where too little is left.
    """
    pool, take_rest = known.pool, settings.budget.take_rest
    seed = [settings.seed, settings.cycle]
    with one_line(ValueError):
        budget = fit_budget(asked, *pool.left(), take_rest)
        if settings.random_share is None or not settings.cycle:
            return select(pool, budget, rule, seed), None
        share = read_share(settings.random_share)
        return select_with_share(pool, budget, rule, seed, share)


def checked_prices(settings: SelectSettings) -> dict[str, str]:
    """The prices as they were given, proved to be prices."""
    Prices(**settings.prices)
    return settings.prices


# ------------------------------------------------------------------------------- the request


def check_nothing_built_on(cycle: Cycle) -> None:
    """UserError where files would stay behind that came from labels which this run replaces."""
    later = [other.folder for other in cycle.run.cycles() if other.number > cycle.number]
    made = (
        cycle.detector,
        cycle.features,
        cycle.uncertainty,
        cycle.pool_columns,
        cycle.evaluation,
    )
    built = [*later, *(path for path in made if path.exists())]
    if built:
        followed = " and what followed" if len(built) > 1 else ""
        raise UserError(
            f"{built[0]} was made from the labels of cycle {cycle.number} that this would "
            f"replace: remove it{followed}, or start another --run"
        )


def show_request(
    settings: SelectSettings, cycle: Cycle, before: Annotations, report: dict
) -> None:
    """Write a picture of every frame that is asked for, where its video is available, and
    say what comes next. before: the labels that the request was made from; report: what
    selection.json holds.
    """
    source = settings.source
    picks = request_picks(report)
    picks = [pick for pick in picks if pick["video"] in before.videos]
    find_video = finder(settings, cycle)
    failed = write_frames(
        picks, cycle.folder / FRAMES, find_video, before.videos, cycle.run.cache
    )
    if failed:
        print(
            f"note: no pictures of the frames of {len(failed)} videos "
            f"({next(iter(failed.values()))}); with the right --data the same command "
            f"writes them"
        )
    else:
        print(f"pictures of the frames to label: {cycle.folder / FRAMES}/")
    if settings.in_loop:
        return
    dataset = "" if source.dataset == "ucf101" else f"--dataset {source.dataset} "
    print(
        f"next: draw in the browser (python label.py {flags_of(settings, cycle.number)}"
        f"{data_of(source)}), or fill in {cycle.request} (or a copy), then\n"
        f"  python claus_select.py {flags_of(settings, cycle.number)}{data_of(source)} "
        f"{dataset}{flag('answers', str(cycle.request))}"
    )
