"""Steps 1-4 in a loop with a simulated annotator, until the cycles, the budget or the
target is reached; with people see cycles_people.py.

The flags of each step are made as text, parsed by the step's own parser and run in this
process, or by several processes that torchrun starts.
"""

import functools
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from claus.annotators.simulated import strip_labels
from claus.artifacts import cycle_locks
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.cycle_row import cycle_row, load_seconds
from claus.artifacts.ledger import write_ledger
from claus.artifacts.next_state import alone
from claus.artifacts.pool_reader import pool_of_labels
from claus.artifacts.run_settings import load_settings, save_settings
from claus.artifacts.shared_start import take_start
from claus.datasets import table
from claus.datasets.labels import annotations
from claus.flags import selection
from claus.flags.cycles import CyclesSettings, PeopleSettings
from claus.steps.cycles_table import report
from claus.steps.select import asked_budget, checked_prices
from claus.steps.spending import affordable, affordable_frames
from claus.utils.launch import launch
from claus.utils.runtime import (
    UserError,
    check_alone,
    check_writable,
    write_text,
)

ROOT = Path(__file__).resolve().parents[1]
# where a run stops and what runs it may change when it is resumed
FREE = ("run", "files", "data", "device", "processes", "cycles", "budget", "target")


@dataclass(frozen=True)
class Step:
    """One step: its script's file, what parses a command line to settings, and what runs
    these; run is None for a script that runs in a process of its own.
    """

    script: Path
    parse: Callable
    run: Callable | None


def step(name: str, dataset: str = "ucf101", semi: str | None = None) -> Step:
    """The step "select", "train", "evaluate", "extract" or "propose"; imported late, for
    torch takes seconds.
    """
    from claus.flags import evaluation, scoring, selection, training
    from claus.steps import evaluate, extract, select, train

    if name == "train" and semi:
        from claus.flags import semi as semi_flags

        return Step(ROOT / "train_semi.py", semi_flags.parse, None)
    if name == "train":
        script, *named = table.training_script(dataset)
        parse = functools.partial(training.parse, dataset=None if named else dataset)
        return Step(ROOT / script, parse, train.run)
    return {
        "select": Step(ROOT / "claus_select.py", selection.parse, select.run),
        "evaluate": Step(ROOT / "evaluate.py", evaluation.parse, evaluate.run),
        "extract": Step(ROOT / "cluster_extract.py", scoring.parse, extract.run),
        "propose": Step(ROOT / "cluster_extract.py", scoring.parse, extract.run),
    }[name]


def run(settings: CyclesSettings | PeopleSettings) -> int:
    """Run the cycles and print the table after each; without an oracle go as far as the
    answers of people allow -> exit status.
    """
    check_alone("run_cycles.py")
    if isinstance(settings, PeopleSettings):
        from claus.steps import cycles_people

        return cycles_people.run(settings)
    place = Run.of(settings.run, settings.files)
    with alone(place):
        return simulate(settings, place)


def simulate(settings: CyclesSettings, place: Run) -> int:
    """All cycles with a simulated annotator -> exit status."""
    check_writable(place.folder)
    with cycle_locks.looping(place):
        return run_all(settings, place)


def run_all(settings: CyclesSettings, place: Run) -> int:
    """The cycles of a run that is this process's own."""
    commands = [step_arguments(settings, number) for number in range(settings.cycles)]
    check_arguments(commands, settings)  # before run.json: a misspelt flag is no setting
    last = selection.parse(commands[-1]["select"])
    check_rule(settings, last)
    if settings.start_from:
        take_start(
            place,
            Run.of(settings.start_from, settings.files),
            asdict(settings),
            functools.partial(first_budget, commands[0]["select"]),
            checked_prices(last),
        )
    check_same_settings(settings, place)

    rows = []
    for number, arguments in enumerate(commands):
        cycle = place.cycle(number)
        cap = cap_of(settings, cycle, arguments["select"], rows)
        if cap is None:
            raise UserError(
                f"--budget {settings.budget:g} does not pay for a first cycle: raise it"
            )
        rows.append(run_cycle(settings, cycle, arguments, cap))
        report(rows, place)
        reason = why_stop(settings, last.rule, rows, cycle, commands)
        if reason:
            print(f"stopping: {reason}")
            break
        if number == 0 or not last.rule.random:
            timed(settings, cycle, "extract", arguments["extract"])
    print(
        f"files to open: {place.curve}, {place.results}, {place.ledger}, "
        f"{cycle.clusters_picture}; tensorboard --logdir {place.folder}"
    )
    return 0


# --------------------------------------------------------------------- what the steps get


def step_arguments(settings: CyclesSettings, number: int) -> dict[str, list[str]]:
    """The command line of each step of a cycle."""
    common = ["--run", settings.run, "--cycle", str(number)]
    common += ["--files", settings.files, "--data", settings.data]
    dataset = ["--dataset", settings.dataset]
    listed = ["--split", str(settings.split)]
    if settings.test_list:
        listed = ["--test-list", settings.test_list]
    seed = ["--seed", str(settings.seed)]
    device = ["--device", settings.device] if settings.device else []
    chosen = []
    for name in ("schedule", "method", "strategy", "increment"):
        value = getattr(settings, name)
        if value is not None:
            chosen += [f"--{name}", value]
    before = []
    if settings.continue_weights and number:
        weights = Run.of(settings.run, settings.files).cycle(number - 1).detector
        before = ["--pretrained", str(weights)]
    training = table.training_script(settings.dataset)[1:]
    if settings.semi:
        training = [*dataset, "--method", settings.semi]
    oracle = ["--oracle", settings.oracle]
    truth = ["--ground-truth", settings.oracle]
    return {
        "select": [
            *common,
            *dataset,
            *oracle,
            *listed,
            *seed,
            "--take-rest",
            *chosen,
            *shlex.split(settings.select),
        ],
        "train": [
            *common,
            *training,
            *seed,
            *device,
            *before,
            "--resume",
            *shlex.split(settings.train),
        ],
        "evaluate": [
            *common,
            *dataset,
            *truth,
            *listed,
            *device,
            *shlex.split(settings.evaluate),
        ],
        "extract": [*common, *dataset, *seed, *device, *shlex.split(settings.extract)],
    }


def check_arguments(commands: list[dict], settings: CyclesSettings) -> None:
    """Parse every step's flags before any work, so that a misspelt one is not found after
    hours.
    """
    for name, arguments in commands[0].items():
        try:
            parsed = step(name, settings.dataset, settings.semi).parse(arguments)
        except SystemExit:
            print(
                f"run_cycles.py: the line above is about the flags for --{name}",
                file=sys.stderr,
            )
            raise
        if name == "train" and settings.semi and parsed.method != settings.semi:
            raise UserError(
                f"--semi {settings.semi} and --train {settings.train!r} differ in the "
                f"method; give it once"
            )
        if name == "evaluate" and parsed.protocol == "act":
            raise UserError(
                "--evaluate --protocol act leaves out the capsule protocol, which the "
                "table is made of; give both"
            )


def check_rule(settings, chosen):
    """UserError where --select says otherwise than the flags of run_cycles.py."""
    rule = chosen.rule
    said = {
        "method": (rule.video_rule, rule.frame_rule),
        "strategy": (rule.strategy,),
        "increment": (rule.increment,),
        "schedule": (chosen.budget.schedule,),
    }
    for name, values in said.items():
        given = getattr(settings, name)
        if given not in (None, *values):
            raise UserError(
                f"--{name} {given} and --select {settings.select!r} differ; give it once"
            )


def first_budget(arguments, annotations_path):
    """(videos, frames) that the random start asks for by this run's flags, of the pool of
    an annotation file.
    """
    chosen = selection.parse([*arguments, "--strategy", "hybrid"])
    asked = asked_budget(chosen, annotations.load(annotations_path))
    return asked.videos, asked.frames


def asked_of(chosen, before):
    """(videos, frames) that settings of claus_select.py ask for, where as many are left of
    an annotation file.
    """
    increment = chosen.rule.candidates if chosen.cycle else "samples"
    known = pool_of_labels(before, {}, increment)
    asked = asked_budget(chosen, before, known)
    videos, frames = known.pool.left()
    return min(asked.videos, videos), min(asked.frames, frames)


# ------------------------------------------------------------------------------ the money


def cap_of(settings, cycle, arguments, rows, labels=None):
    """More flags for claus_select.py that keep a cycle within what is left of --budget, []
    where none is needed; None where too little is left for any choice.

    rows: those of the cycles before. A cycle that is labeled already is left as it is.
    labels: those that it chooses from, where they are known.
    """
    if settings.budget is None or cycle.annotations.exists():
        return []
    chosen = selection.parse(arguments)
    before = labels or labels_before(settings, cycle)
    spent = Fraction(rows[-1]["cost"]) if rows else Fraction(0)
    money = Fraction(str(settings.budget)) - spent
    prices = checked_prices(chosen)
    video_price, frame_price = Fraction(prices["video"]), Fraction(prices["frame"])
    videos, frames = asked_of(chosen, before)
    unlabeled = [video for video in before.videos.values() if not len(video.labeled_frames)]

    if chosen.rule.strategy == "intra" or (chosen.rule.increment == "frames" and cycle.number):
        opened = len(unlabeled) if chosen.rule.strategy == "intra" else 0
        fewer = affordable_frames(frames, opened, video_price, frame_price, money)
        if fewer is None or (fewer < frames and frame_price == 0):
            return None
        return [] if fewer == frames else ["--frame-money", str(fewer * frame_price)]

    bought = affordable(videos, frames, video_price, frame_price, money)
    if bought is None:
        return None
    shortest = min((video.frames for video in unlabeled), default=0)
    if chosen.rule.strategy == "inter" and bought[1] < min(shortest, frames):
        return None  # not one whole video
    if bought == (videos, frames):
        return []
    cap = []
    if video_price > 0:
        cap += ["--video-money", str(bought[0] * video_price)]
    if frame_price > 0:
        cap += ["--frame-money", str(bought[1] * frame_price)]
    return cap


def labels_before(settings, cycle):
    """Annotations that a cycle chooses from: those of the cycle before, or the pool."""
    if cycle.number:
        return annotations.load(cycle.before().annotations)
    pool = table.read_ground_truth(
        settings.dataset, settings.oracle, settings.test_list, settings.split, "train"
    )
    return strip_labels(pool)


# ----------------------------------------------------------------------------- the run


def check_same_settings(settings: CyclesSettings, place: Run) -> None:
    """A resumed run must have the flags it began with, but for where it stops and what runs
    it.

    A schedule may have got more pairs at its end: what has been done is as it would be, and
    run.json says the longer. A run that has chosen nothing yet takes any flags: those
    before were stopped by an error in them.
    """
    now = {name: value for name, value in asdict(settings).items() if name not in FREE}
    begun = any(place.folder.glob(f"cycle*/{place.cycle(0).selection.name}"))
    if not (place.settings.exists() and begun):
        save_settings(place, now)
        return
    began = load_settings(place)
    longer = began.get("schedule") and (now["schedule"] or "").startswith(
        f"{began['schedule']},"
    )
    if longer:
        began["schedule"] = now["schedule"]
    for name, value in now.items():
        if began.get(name) != value:
            raise UserError(
                f"{place.settings} says this run began with --{name.replace('_', '-')} "
                f"{began.get(name)!r}, now it is {value!r}; give the same flags, or "
                f"another --run"
            )
    if longer:
        save_settings(place, now)


def run_cycle(settings, cycle: Cycle, arguments, cap):
    """Select, train and evaluate one cycle -> its row of the table."""
    timed(settings, cycle, "select", [*arguments["select"], *cap])
    timed(settings, cycle, "train", arguments["train"])
    timed(settings, cycle, "evaluate", arguments["evaluate"])
    return cycle_row(cycle, write_ledger(cycle.run))


def timed(settings, cycle: Cycle, name: str, arguments: list[str]) -> None:
    """Run one step, in this process or in --processes others; its seconds are added to the
    cycle's seconds.json.
    """
    began = time.perf_counter()
    print(f"\n== cycle {cycle.number}: {name}", flush=True)
    this = step(name, settings.dataset, settings.semi)
    if settings.processes > 1 and name in ("train", "extract"):
        launch(this.script, arguments, settings.processes)
    elif this.run is None:
        launch(this.script, arguments, 1)
    else:
        this.run(this.parse(arguments))
    seconds = {}
    if cycle.seconds.exists():
        seconds = load_seconds(cycle.seconds)
    seconds[name] = round(seconds.get(name, 0) + time.perf_counter() - began, 2)
    write_text(cycle.seconds, json.dumps(seconds) + "\n")


def why_stop(settings, rule, rows, cycle: Cycle, commands) -> str | None:
    """Why no further cycle follows, or None."""
    row = rows[-1]
    if cycle.number == settings.cycles - 1:
        return (
            "1 cycle is done" if settings.cycles == 1 else f"{settings.cycles} cycles are done"
        )
    if settings.budget is not None and Fraction(row["cost"]) >= Fraction(str(settings.budget)):
        return f"the cost {row['cost']} has reached the budget {settings.budget:g}"
    if settings.target is not None and (row["f-mAP@.5"] or 0) >= settings.target:
        return f"f-mAP@.5 {row['f-mAP@.5']} has reached the target {settings.target:g}"
    labels = annotations.load(cycle.annotations)
    labeled = labels.labeled()
    new_videos_alone = rule.increment == "samples" and rule.strategy != "intra"
    if new_videos_alone and len(labeled) == len(labels.videos):
        return "every video of the pool is labeled"
    within = labeled if rule.increment == "frames" else labels.videos.values()
    if all(len(video.labeled_frames) == video.frames for video in within):
        return "every frame that may be chosen is labeled"
    following = cycle.run.cycle(cycle.number + 1)
    arguments = commands[following.number]["select"]
    if cap_of(settings, following, arguments, rows) is None:
        return (
            f"the cost is {row['cost']}, and what is left of the budget "
            f"{settings.budget:g} does not pay for another cycle"
        )
    return None
