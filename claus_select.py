"""Choose what the annotator labels next.

    python claus_select.py --run demo --cycle 0 --oracle pyannot.pkl --test-list testlist01.txt    # simulated annotator
    python claus_select.py --run demo --cycle 1 --oracle pyannot.pkl --test-list testlist01.txt

    python claus_select.py --run demo --cycle 0 --dataset jhmdb --oracle Datasets/JHMDB    # masks, official split 1

    python claus_select.py --run mine --cycle 1                                    # people: writes request.json, stops
    python claus_select.py --run mine --cycle 1 --answers request_filled_in.json   # takes their answers in

Cycle 0 starts with random frames of random videos: those of the ground truth's training part, with all labels hidden,
or without --oracle those found under --data. Cycle k reads from files/<run>/cycle<k-1>/ what is labelled
(annotations.pkl) and what cluster_extract.py left (features.pkl, uncertainty.pkl), and writes into
files/<run>/cycle<k>/:

    selection.json    every chosen video and frame, with its score and the reason in words
    request.json      the same as a form to fill in; answers.json is the form as it came back
    annotations.pkl   all labels so far: what the next training reads
    clusters.png      the videos in their clusters, what was labelled before and what was picked now
    ../ledger.csv     videos, frames, boxes and cost of every cycle, counted in the annotation files

It needs no GPU and, after cycle 0, no video; 2,284 videos take seconds. The same files and flags give the same bytes.
Run again it changes nothing that is finished: --force chooses anew.
"""

import argparse
import contextlib
import itertools
import json
from dataclasses import replace

import numpy as np

from datasets import annotations as annotation_file
from datasets import oracle, which
from datasets.pool import read_classes, read_pool
from datasets.which import read_ground_truth
from selection.baselines import select_random
from selection.budget import cycle_budget, fit_budget
from selection.frames import DAMPINGS, SIGMA
from selection.videos import select_claus
from utils import handoffs
from utils.runtime import UserError, check_writable, run_script, whole_number
from utils.selection_report import Pool, draw_picture, make_report, print_report, request_picks

LATER_FILES = ("detector.pt", "features.pkl", "uncertainty.pkl", "evaluation.json")


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--run", required=True, help="name of the run (a folder under --files), or a path with a / in it")
    add("--cycle", type=whole_number, required=True, help="cycle to choose for: 0 is the random start")
    add("--files", default="files", help="folder that holds the runs (default: %(default)s)")
    add("--force", action="store_true", help="choose anew although this cycle's selection is there already")

    group = parser.add_argument_group("who answers, and where the videos come from")
    who = group.add_mutually_exclusive_group()
    who.add_argument("--oracle", metavar="PATH", help="simulate the annotator with this ground truth: pyannot.pkl, or "
                     "for jhmdb the folder that holds puppet_mask/ and the splits")
    who.add_argument("--answers", metavar="JSON", help="take in this filled-in copy of request.json; what was asked "
                     "stands as it was chosen, flags of selection and price play no part any more")
    add = group.add_argument
    which.add_split_flags(add)
    which.add_flags(add)
    add("--on-disk", action="store_true", help="with --oracle: leave out of the pool what is not below --data (for a "
        "part of a data set)")
    add("--classes", help="with --data: class names, comma-separated or a file of one a line (default: those of "
        "the data set)")
    add("--strict", action="store_true", help="with --data: stop at a video that cannot be read, instead of leaving it "
        "out")

    group = parser.add_argument_group("budget of a cycle (defaults: the paper's steps for the data set)")
    videos, frames = group.add_mutually_exclusive_group(), group.add_mutually_exclusive_group()
    videos.add_argument("--videos-percent", help="V: videos, in percent of the pool (default: 5)")
    videos.add_argument("--videos-count", help="videos, as a number instead")
    frames.add_argument("--frames-percent", help="A: frames, in percent of V percent of the pool's frames "
                        "(default: 5; jhmdb: 3)")
    frames.add_argument("--frames-count", help="frames, as a number instead")
    add = group.add_argument
    add("--video-cost", default="1", help="C_v: price of watching and classifying a video (default: %(default)s)")
    add("--frame-cost", default="1", help="C_f: price of labelling a frame (default: %(default)s)")
    add("--box-cost", default="0", help="price of each actor in a frame beyond the first; charged in the ledger, not "
        "in the budget, for nobody knows it before (default: %(default)s)")
    add("--video-money", help="B_v: lowers the videos to what this pays for at --video-cost")
    add("--frame-money", help="B_f: lowers the frames to what this pays for at --frame-cost")
    add("--take-rest", action="store_true", help="where less is left than the budget asks for, take all of it")

    group = parser.add_argument_group("rule (defaults: the paper's)")
    add = group.add_argument
    add("--method", choices=("claus", "random"), default="claus", help="how cycle 1 and later choose: by uncertainty "
        "within clusters, or at random (default: %(default)s)")
    add("--frame-score", choices=("paper", "authors"), default="paper", help="uncertainty of a frame: summed over its "
        "foreground (paper Eq. 2), or the authors' code's mean (default: %(default)s)")
    add("--damping", choices=DAMPINGS, default="paper", help="how a chosen frame lowers the scores near it: by a "
        "factor (paper), by a subtraction (authors' code), not at all (default: %(default)s)")
    add("--sigma", type=float, default=SIGMA, help="width of that damping in video frames (default: 8/3)")
    add("--seed", type=whole_number, default=0, help="seed of every random choice (default: %(default)s)")
    args = parser.parse_args(argv)
    which.check_flags(args, parser)
    dataset = which.MODULES[args.dataset]
    args.videos_percent = args.videos_percent or dataset.VIDEOS_PERCENT
    args.frames_percent = args.frames_percent or dataset.FRAMES_PERCENT
    return args


def main(argv=None):
    args = parse_args(argv)
    folder = handoffs.cycle_dir(args.run, args.cycle, args.files)
    if not args.force and (folder / "annotations.pkl").exists():
        handoffs.write_ledger(args.run, args.files)
        print(f"cycle {args.cycle} is labelled already: {folder / 'annotations.pkl'} (--force chooses anew)")
        return 0
    check_nothing_built_on(args, folder)
    check_writable(folder)
    if args.answers:
        return take_answers(args, folder)
    waiting = all((folder / name).exists() for name in ("request.json", "selection.json"))
    if waiting and not args.force and not args.oracle:
        print(f"the request of cycle {args.cycle} is waiting for answers (--force chooses anew)")
        print_next_step(args, folder)
        return 0

    truth = read_truth(args) if args.oracle else None
    before, unreadable = labels_so_far(args, truth)
    pool = pool_of_cycle(args, before, unreadable)
    chosen, asked = choose(args, before, pool)
    report = make_report(run_name(args), args.cycle, settings_of(args, pool), prices_of(args), pool, chosen, asked,
                         len(before.videos))
    request = request_of(args, before, report)
    answers = oracle.answer(truth, request) if truth else None

    set_filled_form_aside(folder / "request.json")
    (folder / "annotations.pkl").unlink(missing_ok=True)  # with --force: it no longer belongs to what follows
    handoffs.save_selection(report, folder / "selection.json")
    draw_picture(folder / "clusters.png", report, pool, chosen)
    oracle.write_form(folder / "request.json", request)
    print_report(report)
    if answers is None:
        print_next_step(args, folder)
        return 0
    return finish(args, folder, before, answers)


# ------------------------------------------------------------------------------------------------- what there is

def read_truth(args):
    """Ground truth of the training part; of all videos, with a warning, where nothing says which are test videos."""
    if args.test_list or args.split:
        return read_ground_truth(args, "train")
    print(f"note: no --test-list, so every video of {args.oracle} is in the pool, test videos too")
    return read_ground_truth(args, "all")


def labels_so_far(args, truth):
    """(Annotations before this cycle, {name: reason} of videos found unreadable). Cycle 0: the pool without labels."""
    if args.cycle > 0:
        path = handoffs.cycle_dir(args.run, args.cycle - 1, args.files) / "annotations.pkl"
        if not path.exists():
            raise UserError(f"{path} is not there: first finish claus_select.py {flags_of(args, args.cycle - 1)}")
        before = annotation_file.load(path)
        which.check_same(args.dataset, before.dataset, path)
        return before, {}
    if truth is not None:
        hidden = oracle.hide(truth)
        return (on_disk(hidden, args) if args.on_disk else hidden), {}
    run = handoffs.run_dir(args.run, args.files)
    if not args.test_list:
        print(f"note: no --test-list, so every video below {args.data} is in the pool, test videos too")
    dataset = which.MODULES[args.dataset]
    pool, failed = read_pool(args.data, read_classes(args.classes, dataset), args.test_list,
                             known=run / "frame_counts.jsonl", strict=args.strict, dataset=dataset)
    annotation_file.save(pool, run / "pool.pkl")
    return pool, failed


def on_disk(pool, args):
    """The pool's videos that are found below --data; UserError where none is."""
    find, present = which.video_finder(args), {}
    for name, video in pool.videos.items():
        with contextlib.suppress(UserError):
            find(name)
            present[name] = video
    if not present:
        raise UserError(f"none of the {len(pool.videos)} videos of {args.oracle} is below {args.data}; correct --data")
    print(f"{len(present)} of {len(pool.videos)} videos are below {args.data} and make up the pool")
    return replace(pool, videos=present)


def pool_of_cycle(args, before, unreadable):
    """The Pool of this cycle: every video of the annotation file, and what the detector of the cycle before says."""
    def pool_of(names, set_aside, **known):
        lengths = [before.videos[name].frames for name in names]
        return Pool(names, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
                    np.array([not before.videos[name].is_labelled for name in names], dtype=bool), set_aside, **known)

    if args.cycle == 0 or args.method == "random":
        return pool_of(list(before.videos), unreadable)
    features, uncertainty = load_extracted(args, before)
    place = {name: index for index, name in enumerate(features.videos)}
    names = [name for name in before.videos if name in place]
    place_N = np.array([place[name] for name in names], dtype=np.int64)
    frames = frames_in_order(uncertainty.offsets, place_N)
    return pool_of(
        names, features.failed, source=features.source, latents_N_D=features.latents[place_N],
        clusters_N=features.clusters[place_N], centres_K_D=features.centres,
        scores=getattr(uncertainty, args.frame_score)[frames],
        no_foreground=uncertainty.paper[frames] == 0)  # an empty sum: nothing in the frame to be uncertain about


def load_extracted(args, before):
    """Features and uncertainty of the cycle before, proved to belong to each other and to the annotation file."""
    folder = handoffs.cycle_dir(args.run, args.cycle - 1, args.files)
    paths = [folder / name for name in ("features.pkl", "uncertainty.pkl", "annotations.pkl")]
    mend = f"run cluster_extract.py {flags_of(args, args.cycle - 1)}"
    for path in paths[:2]:
        if not path.exists():
            raise UserError(f"{path} is not there: {mend}")
    features, uncertainty = handoffs.load_features(paths[0]), handoffs.load_uncertainty(paths[1])
    handoffs.check_same_source(features, uncertainty, *paths[:2])
    detector = folder / "detector.pt"
    if detector.exists() and handoffs.fingerprint(detector) != features.source:
        raise UserError(f"{paths[0]} was made from other weights than {detector}: {mend}")
    scored = set(features.videos)
    if missing := [name for name in before.videos if name not in scored and name not in features.failed]:
        raise UserError(f"{paths[0]} lacks {len(missing)} videos of {paths[2]}, the first {missing[0]}: {mend}")
    if unknown := [name for name in features.videos if name not in before.videos]:
        raise UserError(f"{paths[0]} has {len(unknown)} videos that {paths[2]} has not, the first {unknown[0]}: {mend}")
    for name, frames in zip(uncertainty.videos, np.diff(uncertainty.offsets).tolist(), strict=True):
        if frames != before.videos[name].frames:
            raise UserError(f"{paths[1]} has {frames} frames of {name}, {paths[2]} has {before.videos[name].frames}: "
                            f"{mend}")
    return features, uncertainty


# ------------------------------------------------------------------------------------------------- the choice

def choose(args, before, pool):
    """(Selection, the Budget that was asked for) of this cycle; raises UserError where too little is left."""
    asked = cycle_budget(len(before.videos), before.total_frames(), videos_percent=args.videos_percent,
                         frames_percent=args.frames_percent, videos=args.videos_count, frames=args.frames_count,
                         video_cost=args.video_cost, frame_cost=args.frame_cost, video_money=args.video_money,
                         frame_money=args.frame_money)
    left = int(pool.candidates_N.sum()), int(np.diff(pool.offsets)[pool.candidates_N].sum())
    budget = fit_budget(asked, *left, take_rest=args.take_rest)
    if pool.scores is None:
        return select_random(pool.offsets, budget, [args.seed, args.cycle], candidates_N=pool.candidates_N), asked
    return select_claus(pool.scores, pool.offsets, pool.clusters_N, len(pool.centres_K_D), budget,
                        candidates_N=pool.candidates_N, ranked_last=pool.no_foreground, damping=args.damping,
                        sigma=args.sigma), asked


def frames_in_order(offsets, place_N):
    """Indices that put flat frame arrays with `offsets` into the order of the videos `place_N`."""
    lengths = np.diff(offsets)[place_N]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(offsets[place_N] - (ends - lengths), lengths)


def run_name(args):
    return handoffs.run_dir(args.run, args.files).resolve().name


def settings_of(args, pool):
    """The flags that shaped the choice, for selection.json."""
    if pool.scores is None:
        return {"method": "random", "seed": args.seed}
    return {"method": "claus", "frame_score": args.frame_score, "damping": args.damping, "sigma": args.sigma}


def prices_of(args):
    """The prices as they were given, proved to be prices."""
    prices = {"video": args.video_cost, "frame": args.frame_cost, "box": args.box_cost}
    handoffs.Prices(**prices)
    return prices


# ------------------------------------------------------------------------------------------------- answers

def take_answers(args, folder):
    """Check a filled-in form against the selection it answers, and finish the cycle with it."""
    if not (folder / "selection.json").exists():
        raise UserError(f"{folder / 'selection.json'} is not there, so nothing was asked in cycle {args.cycle}: "
                        "run this command without --answers first")
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
    """Keep the answers, write the annotation file and the ledger, and say what the cycle came to."""
    merged = oracle.merge_answers(before, answers)
    oracle.write_form(folder / "answers.json", answers)
    annotation_file.save(merged, folder / "annotations.pkl")
    row = handoffs.write_ledger(args.run, args.files)[-1]
    print(f"labelled: {row['videos']} videos, {row['frames']} frames, {row['boxes']} boxes, cost {row['cost']}; in all "
          f"{row['total_videos']} videos, {row['total_frames']} frames ({row['percent_of_frames']}% of the pool), "
          f"cost {row['total_cost']}")
    print(f"wrote {folder / 'annotations.pkl'}; next: train_{args.dataset}.py {flags_of(args, args.cycle)}")
    return 0


def request_of(args, before, report):
    """The form that asks for what a selection's report has chosen."""
    return oracle.request_form(before, request_picks(report), report["run"], report["cycle"],
                               which.MODULES[args.dataset].ANSWERS)


def set_filled_form_aside(path):
    """A request that somebody has begun to answer is renamed, not overwritten: it is a person's work."""
    if not path.exists():
        return
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        answered = any(frame["actors"] is not None for video in videos for frame in video["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        answered = True  # somebody is in the middle of editing it
    if answered:
        kept = next(name for number in itertools.count(1)
                    if not (name := path.with_name(f"request.replaced{number}.json")).exists())
        path.rename(kept)
        print(f"{path} holds answers: kept as {kept.name}")


def check_nothing_built_on(args, folder):
    """Raise UserError where files would stay behind that came from labels which this run replaces."""
    later = [cycle for cycle in handoffs.existing_cycles(args.run, args.files) if cycle > args.cycle]
    built = [handoffs.cycle_dir(args.run, cycle, args.files) for cycle in later]
    built += [folder / name for name in LATER_FILES if (folder / name).exists()]
    if built:
        raise UserError(f"{built[0]} was made from the labels of cycle {args.cycle} that this would replace: remove it"
                        f"{' and what followed' if len(built) > 1 else ''}, or start another --run")


def print_next_step(args, folder):
    dataset = "" if args.dataset == "ucf101" else f"--dataset {args.dataset} "
    print(f"next: fill in {folder / 'request.json'} (or a copy), then\n"
          f"  python claus_select.py {flags_of(args, args.cycle)} {dataset}--answers {folder / 'request.json'}")


def flags_of(args, cycle):
    """The flags that lead any script to this run's `cycle`."""
    return f"--run {args.run} --cycle {cycle}" + ("" if args.files == "files" else f" --files {args.files}")


if __name__ == "__main__":
    run_script(main)
