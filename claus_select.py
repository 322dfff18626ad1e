"""Choose what the annotator labels next.

    python claus_select.py --run demo --cycle 0 --oracle pyannot.pkl --test-list testlist01.txt    # simulated annotator
    python claus_select.py --run demo --cycle 1 --oracle pyannot.pkl --test-list testlist01.txt

    python claus_select.py --run demo --cycle 0 --dataset jhmdb --oracle Datasets/JHMDB    # masks, official split 1

    python claus_select.py --run mine --cycle 1                                    # people: writes request.json, stops
    python claus_select.py --run mine --cycle 1 --answers request_filled_in.json   # takes their answers in

Cycle 0 starts with random frames of random videos: those of the ground truth's training
part, with all labels hidden, or without --oracle those found under --data. Cycle k reads
from files/<run>/cycle<k-1>/ what is labeled (annotations.pkl) and what cluster_extract.py
left (features.pkl, uncertainty.pkl), and writes into files/<run>/cycle<k>/:

    selection.json    every chosen video and frame, with its score and the reason in words
    request.json      the same as a form to fill in; answers.json is the form as it came back
    frames/           without --oracle: a picture of every frame that is asked for
    annotations.pkl   all labels so far: what the next training reads
    clusters.png      the videos in their clusters, what was labeled before and what was
                      picked now
    ../ledger.csv     videos, frames, boxes and cost of every cycle, counted in the
                      annotation files

How cycle 1 and later choose say --method, --strategy and --increment; the paper's baselines
are among them, on the same files, budgets and ledger. It needs no GPU and, after cycle 0,
no video; 2,284 videos take seconds, a million a minute and 5 GiB. The same files and flags
give the same bytes. Run again it changes nothing that is finished: --force chooses anew.
"""

import claus.utils.startup  # noqa: F401  first, so that Ctrl-C while libraries load is one line

# isort: split
import argparse
import contextlib
import itertools
import json
from dataclasses import replace

import numpy as np

from claus.annotators import oracle
from claus.annotators.request_frames import FRAMES, clear_frames, write_frames
from claus.artifacts import handoffs
from claus.artifacts.selection_pool import make_pool, scored_pool, unscored_pool
from claus.artifacts.selection_report import (
    draw_picture,
    make_report,
    print_report,
    request_picks,
)
from claus.datasets import table as which
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.own_videos import read_classes, read_pool
from claus.datasets.table import read_ground_truth
from claus.flags.selection import (
    READ_BY,
    UNSCORED,
    add_budget_flags,
    add_rule_flags,
    check_rule,
)
from claus.selection.baselines import select_from_pool, select_random
from claus.selection.budget import cycle_budget, fit_budget, read_schedule, scheduled_counts
from claus.selection.claus import select_claus
from claus.selection.strategies import select_every_video, select_whole_videos
from claus.utils.runtime import (
    HelpFormatter,
    UserError,
    check_alone,
    check_writable,
    gc_paused,
    run_script,
    whole_number,
)

LATER_FILES = ("detector.pt", "features.pkl", "uncertainty.pkl", "evaluation.json")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add(
        "--run",
        required=True,
        help="name of the run (a folder under --files), or a path with a / in it",
    )
    add(
        "--cycle",
        type=whole_number,
        required=True,
        help="cycle to choose for: 0 is the random start",
    )
    add("--files", default="files", help="folder that holds the runs (default: %(default)s)")
    add(
        "--force",
        action="store_true",
        help="choose anew although this cycle's selection is there already",
    )

    group = parser.add_argument_group("who answers, and where the videos come from")
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--oracle",
        metavar="PATH",
        help="simulate the annotator with this ground truth: pyannot.pkl, or "
        "for jhmdb the folder that holds puppet_mask/ and the splits",
    )
    who.add_argument(
        "--answers",
        metavar="JSON",
        help="take in this filled-in copy of request.json; what was asked "
        "stands as it was chosen, flags of selection and price play no part any more",
    )
    add = group.add_argument
    which.add_split_flags(add)
    which.add_flags(add)
    add(
        "--on-disk",
        action="store_true",
        help="with --oracle: leave out of the pool what is not below --data (for a "
        "part of a data set)",
    )
    add(
        "--classes",
        help="with --data: class names, comma-separated or a file of one a line "
        "(default: those of "
        "the data set)",
    )
    add(
        "--any-folder",
        action="store_true",
        help="with --data: the folders of the videos are not their classes; take "
        "those of every folder, whose class the annotator says",
    )
    add(
        "--strict",
        action="store_true",
        help="with --data: stop at a video that cannot be read, instead of leaving it out",
    )

    add_budget_flags(parser)
    add_rule_flags(parser)
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        help="seed of every random choice (default: %(default)s)",
    )
    args = parser.parse_args(argv)
    which.check_flags(args, parser)
    if args.any_folder and (args.oracle or args.answers or args.cycle):
        parser.error(
            "--any-folder plays a part in cycle 0 alone, where the videos below --data "
            "become the pool"
        )
    check_rule(args, parser)
    dataset = which.MODULES[args.dataset]
    args.videos_percent = args.videos_percent or dataset.VIDEOS_PERCENT
    args.frames_percent = args.frames_percent or dataset.FRAMES_PERCENT
    return args


def main(argv=None):
    args = parse_args(argv)
    check_alone("claus_select.py")
    with gc_paused():
        return select(args)


def select(args):
    """Choose, or take answers in, as the flags say -> exit status."""
    folder = handoffs.cycle_dir(args.run, args.cycle, args.files)
    if not args.force and (folder / "annotations.pkl").exists():
        handoffs.write_ledger(args.run, args.files)
        print(
            f"cycle {args.cycle} is labeled already: {folder / 'annotations.pkl'} "
            f"(--force chooses anew)"
        )
        return 0
    check_nothing_built_on(args, folder)
    check_writable(folder)
    if args.answers:
        return take_answers(args, folder)
    waiting = all((folder / name).exists() for name in ("request.json", "selection.json"))
    if waiting and not args.force and not args.oracle:
        print(
            f"the request of cycle {args.cycle} is waiting for answers (--force chooses anew)"
        )
        show_request(args, folder)
        return 0

    truth = read_truth(args) if args.oracle else None
    before, unreadable = labels_so_far(args, truth)
    pool = pool_of_cycle(args, before, unreadable)
    chosen, asked = choose(args, before, pool)
    report = make_report(
        run_name(args),
        args.cycle,
        settings_of(args, pool),
        prices_of(args),
        pool,
        chosen,
        asked,
        len(before.videos),
    )
    request = request_of(args, before, report)
    answers = oracle.answer(truth, request) if truth else None

    set_filled_form_aside(folder / "request.json")
    (folder / "annotations.pkl").unlink(
        missing_ok=True
    )  # with --force: it no longer belongs to what follows
    handoffs.save_selection(report, folder / "selection.json")
    draw_picture(folder / "clusters.png", report, pool, chosen)
    oracle.write_form(folder / "request.json", request)
    print_report(report)
    if answers is None:
        clear_frames(folder / FRAMES)  # of what was chosen before, with --force
        show_request(args, folder)
        return 0
    return finish(args, folder, before, answers)


# ---------------------------------------------------------------------------- what there is


def read_truth(args):
    """Ground truth of the training part; of all videos, with a warning, where nothing says
    which are test videos.
    """
    if args.test_list or args.split:
        return read_ground_truth(args.dataset, args.oracle, args.test_list, args.split, "train")
    print(
        f"note: no --test-list, so every video of {args.oracle} is in the pool, test videos too"
    )
    return read_ground_truth(args.dataset, args.oracle, args.test_list, args.split, "all")


def labels_so_far(args, truth):
    """(Annotations before this cycle, {name: reason} of videos found unreadable). Cycle 0:
    the pool without labels.
    """
    if args.cycle > 0:
        path = handoffs.cycle_dir(args.run, args.cycle - 1, args.files) / "annotations.pkl"
        if not path.exists():
            raise UserError(
                f"{path} is not there: first finish claus_select.py "
                f"{flags_of(args, args.cycle - 1)}"
            )
        before = annotation_file.load(path)
        which.check_same(args.dataset, before.dataset, path)
        return before, {}
    if truth is not None:
        hidden = oracle.strip_labels(truth)
        return (on_disk(hidden, args) if args.on_disk else hidden), {}
    run = handoffs.run_dir(args.run, args.files)
    if not args.test_list:
        print(
            f"note: no --test-list, so every video below {args.data} is in the pool, "
            f"test videos too"
        )
    dataset = which.MODULES[args.dataset]
    pool, failed = read_pool(
        args.data,
        read_classes(args.classes, dataset),
        args.test_list,
        known=run / "frame_counts.jsonl",
        strict=args.strict,
        dataset=dataset,
        any_folder=args.any_folder,
    )
    annotation_file.save(pool, run / "pool.pkl")
    return pool, failed


def on_disk(pool, args):
    """The pool's videos that are found below --data; UserError where none is."""
    find, present = which.video_finder(args.dataset, args.data), {}
    for name, video in pool.videos.items():
        with contextlib.suppress(UserError):
            find(name)
            present[name] = video
    if not present:
        raise UserError(
            f"none of the {len(pool.videos)} videos of {args.oracle} is below "
            f"{args.data}; correct --data"
        )
    print(
        f"{len(present)} of {len(pool.videos)} videos are below {args.data} and make "
        f"up the pool"
    )
    return replace(pool, videos=present)


def pool_of_cycle(args, before, unreadable):
    """The Pool of this cycle: every video of the annotation file, and what the detector of
    the cycle before says.
    """
    increment = "samples-and-frames" if args.strategy == "intra" else args.increment
    if args.cycle == 0:
        return make_pool(before, unreadable, "samples")
    if args.method in UNSCORED:
        return unscored_pool(args, before, increment)
    return scored_pool(
        args, before, increment, f"run cluster_extract.py {flags_of(args, args.cycle - 1)}"
    )


# ------------------------------------------------------------------------------- the choice


def choose(args, before, pool):
    """(Selection, the Budget that was asked for) of this cycle; raises UserError where too
    little is left.
    """
    asked = asked_budget(args, before, pool)
    budget = fit_budget(asked, *pool.left(), take_rest=args.take_rest)
    draw = dict(
        offsets=pool.offsets,
        budget=budget,
        seed=[args.seed, args.cycle],
        candidates_N=pool.candidates_N,
    )
    eligible = np.ones(pool.offsets[-1], bool) if pool.labeled is None else ~pool.labeled
    equidistant = args.method == "equidistant" and args.cycle > 0
    free_N = None if pool.labeled is None else pool.labeled_N
    if args.strategy == "inter":
        return select_whole_videos(**draw), asked
    if args.strategy == "intra":
        return select_every_video(**draw, eligible=eligible, equidistant=equidistant), asked
    if pool.scores is None:
        return select_random(
            **draw, free_N=free_N, eligible=eligible, equidistant=equidistant
        ), asked
    rule = dict(
        candidates_N=pool.candidates_N,
        free_N=free_N,
        labeled=pool.labeled,
        ranked_last=pool.nothing_seen,
        damping=args.damping,
        sigma=args.sigma,
        nearest=args.drop_nearest,
    )
    if args.method in ("claus", "claus-entropy"):
        return select_claus(
            pool.scores, pool.offsets, pool.clusters_N, len(pool.centers_K_D), budget, **rule
        ), asked
    return select_from_pool(pool.scores, pool.offsets, budget, **rule), asked


def asked_budget(args, before, pool=None):
    """The Budget that the flags ask for, whatever is left; of the Pool only the number of
    videos left counts.
    """
    videos, frames = args.videos_count, args.frames_count
    sharing = (
        pool.left()[0]
        if args.strategy == "intra" or (args.increment == "frames" and args.cycle)
        else None
    )
    if args.schedule is not None:
        videos, frames = scheduled_counts(
            read_schedule(args.schedule), args.cycle, len(before.videos), before.total_frames()
        )
        if frames < 1 or (videos < 1 and sharing is None):
            raise UserError(
                f"--schedule {args.schedule} adds {videos} videos and {frames} frames in cycle "
                f"{args.cycle}, of {len(before.videos)} videos with "
                f"{before.total_frames()} frames: give "
                "larger steps" + (", or --increment frames" if frames else "")
            )
    return cycle_budget(
        len(before.videos),
        before.total_frames(),
        videos_percent=args.videos_percent,
        frames_percent=args.frames_percent,
        videos=videos,
        frames=frames,
        per_video=args.frames_per_video,
        video_cost=args.video_cost,
        frame_cost=args.frame_cost,
        video_money=args.video_money,
        frame_money=args.frame_money,
        old_videos=sharing,
    )


def run_name(args):
    return handoffs.run_dir(args.run, args.files).resolve().name


def settings_of(args, pool):
    """The flags that shaped the choice, and how the scores were made, for selection.json."""
    if args.cycle == 0:
        return {"method": "random", "strategy": args.strategy, "seed": args.seed}
    settings = {"method": args.method, "strategy": args.strategy, "increment": args.increment}
    if pool.scores is None:
        return settings | {"seed": args.seed}
    shaping = {"frame_score", *READ_BY[args.method]} - (
        {"sigma"} if args.damping == "none" else set()
    )
    return (
        settings
        | {name: getattr(args, name) for name in sorted(shaping)}
        | {"extraction": pool.extraction}
    )


def prices_of(args):
    """The prices as they were given, proved to be prices."""
    prices = {"video": args.video_cost, "frame": args.frame_cost, "box": args.box_cost}
    handoffs.Prices(**prices)
    return prices


# ---------------------------------------------------------------------------------- answers


def take_answers(args, folder):
    """Check a filled-in form against the selection it answers, and finish the cycle with it."""
    if not (folder / "selection.json").exists():
        raise UserError(
            f"{folder / 'selection.json'} is not there, so nothing was asked in cycle "
            f"{args.cycle}: "
            "run this command without --answers first"
        )
    report = handoffs.load_selection(folder / "selection.json")
    path = handoffs.run_dir(args.run, args.files) / "pool.pkl"
    if args.cycle > 0:
        path = handoffs.cycle_dir(args.run, args.cycle - 1, args.files) / "annotations.pkl"
    before = annotation_file.load(path)
    which.check_same(args.dataset, before.dataset, path)
    request = request_of(args, before, report)
    answers = oracle.read_form(args.answers)
    with annotation_file.naming(args.answers):
        oracle.check_answers(request, answers, before)
    return finish(args, folder, before, answers)


def finish(args, folder, before, answers):
    """Keep the answers, write the annotation file and the ledger, and say what the cycle
    came to.
    """
    merged = oracle.merge_answers(before, answers)
    oracle.write_form(folder / "answers.json", answers)
    annotation_file.save(merged, folder / "annotations.pkl")
    row = handoffs.write_ledger(
        args.run, args.files, {args.cycle - 1: before, args.cycle: merged}
    )[-1]
    print(
        f"labeled: {row['videos']} videos, {row['frames']} frames, {row['boxes']} "
        f"boxes, cost {row['cost']}; in all "
        f"{row['total_videos']} videos, {row['total_frames']} frames "
        f"({row['percent_of_frames']}% of the pool), "
        f"cost {row['total_cost']}"
    )
    print(
        f"wrote {folder / 'annotations.pkl'}; next: train_{args.dataset}.py "
        f"{flags_of(args, args.cycle)}{data_of(args)}"
    )
    return 0


def request_of(args, before, report):
    """The form that asks for what a selection's report has chosen."""
    return oracle.request_form(
        before,
        request_picks(report),
        report["run"],
        report["cycle"],
        which.MODULES[args.dataset].ANSWERS,
    )


def set_filled_form_aside(path):
    """A request that somebody has begun to answer is renamed, not overwritten: it is a
    person's work.
    """
    if not path.exists():
        return
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        answered = any(
            frame["actors"] is not None for video in videos for frame in video["frames"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        answered = True  # somebody is in the middle of editing it
    if answered:
        kept = next(
            name
            for number in itertools.count(1)
            if not (name := path.with_name(f"request.replaced{number}.json")).exists()
        )
        path.rename(kept)
        print(f"{path} holds answers: kept as {kept.name}")


def check_nothing_built_on(args, folder):
    """Raise UserError where files would stay behind that came from labels which this run
    replaces.
    """
    later = [
        cycle for cycle in handoffs.existing_cycles(args.run, args.files) if cycle > args.cycle
    ]
    built = [handoffs.cycle_dir(args.run, cycle, args.files) for cycle in later]
    built += [folder / name for name in LATER_FILES if (folder / name).exists()]
    if built:
        raise UserError(
            f"{built[0]} was made from the labels of cycle {args.cycle} that this "
            f"would replace: remove it"
            f"{' and what followed' if len(built) > 1 else ''}, or start another --run"
        )


def show_request(args, folder):
    """Write a picture of every frame that is asked for, where its video is at hand, and say
    what comes next.
    """
    picks = request_picks(handoffs.load_selection(folder / "selection.json"))
    failed = write_frames(picks, folder / FRAMES, which.video_finder(args.dataset, args.data))
    if failed:
        print(
            f"note: no pictures of the frames of {len(failed)} videos "
            f"({next(iter(failed.values()))}); with the "
            "right --data the same command writes them"
        )
    else:
        print(f"pictures of the frames to label: {folder / FRAMES}/")
    print_next_step(args, folder)


def print_next_step(args, folder):
    dataset = "" if args.dataset == "ucf101" else f"--dataset {args.dataset} "
    print(
        f"next: fill in {folder / 'request.json'} (or a copy), then\n"
        f"  python claus_select.py {flags_of(args, args.cycle)}{data_of(args)} {dataset}"
        f"--answers {folder / 'request.json'}"
    )


def data_of(args):
    """--data, where it is not the data set's own folder."""
    return "" if args.data == which.MODULES[args.dataset].DATA else f" --data {args.data}"


def flags_of(args, cycle):
    """The flags that lead any script to this run's `cycle`."""
    return f"--run {args.run} --cycle {cycle}" + (
        "" if args.files == "files" else f" --files {args.files}"
    )


if __name__ == "__main__":
    run_script(main)
