"""The cycles of a run that people label: as far as their answers allow, and what a person
has to do then.

What is done is read from the files of the run alone, so that a call goes on wherever the one
before ended, or was killed.
"""

import contextlib
import os
import shlex
import sys
from dataclasses import asdict, replace

from claus.annotators.form import read_form
from claus.annotators.request_frames import picture_of
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.ledger import write_ledger
from claus.artifacts.next_state import NextState, alone
from claus.artifacts.run_settings import load_settings, save_settings
from claus.artifacts.scores import load_features
from claus.datasets import table
from claus.datasets.labels import annotations
from claus.flags import selection
from claus.flags.cycles import FORGOTTEN, PeopleSettings, command
from claus.steps import cycles
from claus.steps.cycles_curve import POOL_COLUMNS, learning_curve, print_choice, rows_of
from claus.steps.cycles_intake import find_answers, not_taken
from claus.steps.cycles_table import print_columns, write_results
from claus.steps.proposals import load_predictions
from claus.steps.select import labels_so_far
from claus.utils import progress
from claus.utils.runtime import UserError, check_writable

# flags that say what the pool is made of; the pool stays as it was made
POOL = ("dataset", "any_folder", "segment", "segments", "masks")
# columns of the table, where they have a value
SHOWN = ("cycle", "videos", "frames", "boxes", "% of frames", "cost", "f-mAP@.5", "v-mAP@.5")
SHOWN += (*POOL_COLUMNS, "minutes")
STAGES = {"propose": "select"}  # as next.json calls them


def run(settings: PeopleSettings) -> int:
    """Go on with a run until it waits for people -> exit status 0."""
    place = Run.of(settings.run, settings.files)
    if settings.data is None:
        raise UserError(
            f"run {settings.run} has not begun yet: give --data FOLDER with the videos (and "
            "--classes), or --oracle for a simulated annotator"
        )
    with alone(place):
        check_writable(place.folder)
        loop = Loop(settings, place)
        with logged(place), loop.failures_told():
            loop.check_flags()
            loop.remember()
            return loop.go()


class Loop:
    """One call of run_cycles.py without an oracle."""

    def __init__(self, settings: PeopleSettings, place: Run):
        self.settings, self.place = settings, place
        self.state = NextState(place)

    # ------------------------------------------------------------------ before any work

    def check_flags(self) -> None:
        """Stop at flags that a step does not know, or that come too late."""
        parsed = {}
        for name, words in self.arguments(0).items():
            if name == "evaluate" and not self.settings.test_labels:
                continue
            try:
                this = cycles.step(name, self.settings.dataset, self.settings.semi)
                parsed[name] = this.parse(words)
            except SystemExit:
                print(
                    f"run_cycles.py: the line above is about the flags for {name}",
                    file=sys.stderr,
                )
                raise
        cycles.check_rule(self.settings, selection.parse(self.arguments(1)["select"]))
        begun = self.place.cycle(0).selection.exists() and self.place.settings.exists()
        known = load_settings(self.place) if begun else {}
        for name in POOL:
            value = getattr(self.settings, name)
            if name in known and known[name] != value:
                raise UserError(
                    f"--{name.replace('_', '-')} {value}: this run's pool was made with "
                    f"{known[name]}; leave it out, or begin another --run"
                )

    def remember(self) -> None:
        """Keep the flags in run.json for the next call."""
        kept = asdict(self.settings)
        kept = {name: value for name, value in kept.items() if name not in FORGOTTEN}
        if not self.place.settings.exists() or load_settings(self.place) != kept:
            save_settings(self.place, kept)

    def arguments(self, number: int) -> dict[str, list[str]]:
        """The command line of each step of a cycle."""
        own, words = self.settings, {}
        common = ["--run", own.run, "--cycle", str(number), "--files", own.files]
        data, dataset = ["--data", own.data], ["--dataset", own.dataset]
        seed = ["--seed", str(own.seed)]
        device = ["--device", own.device] if own.device else []
        words["select"] = [*common, *data, *dataset, *seed, "--take-rest", "--in-loop"]
        names = ["schedule", "method", "strategy", "increment", "videos", "frames"]
        names += ["random_share", "test_list"]
        for name in names if number else [*names, "classes", "segment", "segments"]:
            value = getattr(own, name)
            if name == "increment" and value is None and self.only_old_videos(number):
                value = "frames"
            if value is not None:
                words["select"] += [f"--{name.replace('_', '-')}", str(value)]
        if number == 0:
            words["select"] += ["--any-folder"] if own.any_folder else []
            words["select"] += (
                [] if own.strategy == "inter" else ["--start-frames", "equidistant"]
            )
        training = table.training_script(own.dataset)[1:]
        if own.semi:
            training = [*dataset, "--method", own.semi]
        before = []
        if own.continue_weights and number:
            before = ["--pretrained", str(self.place.cycle(number - 1).detector)]
        words["train"] = [*common, *data, *training, "--model", own.model]
        words["train"] += [*seed, *device, *before, "--resume"]
        test_data = ["--data", own.test_data or own.data]
        labels = ["--labels", str(own.test_labels)]
        words["evaluate"] = [*common, *test_data, *dataset, *labels, *device]
        words["extract"] = [*common, *data, *dataset, *seed, *device]
        for name in words:
            words[name] += shlex.split(getattr(own, name))
        words["propose"] = [*words["extract"], "--propose"]
        return words

    def growth(self) -> list[str]:
        """The flags of claus_select.py that say how the pool grows."""
        own = self.settings
        words = ["--add-videos"] if own.add_videos else []
        words += ["--add-classes", own.add_classes] if own.add_classes else []
        return words + (["--withdraw", *own.withdraw] if own.withdraw else [])

    def only_old_videos(self, number: int) -> bool:
        """Whether the videos without labels are used up, so that a cycle can only ask for
        further frames of the others.
        """
        own = self.settings
        if not number or own.strategy in ("inter", "intra"):
            return False
        before = self.place.cycle(number - 1)
        if not before.annotations.exists():
            return False
        labels = annotations.load(before.annotations)
        left = {name for name, video in labels.videos.items() if not video.is_labeled}
        if left and before.is_scored():
            left -= set(load_features(before.features).failed)
        return not left

    # ------------------------------------------------------------------------- the loop

    def go(self) -> int:
        """Intake, training, scoring, choice, until people are needed -> 0."""
        while True:
            done = self.place.numbers()
            number = done[-1] + 1 if done else 0
            cycle = self.place.cycle(number)
            if not asked(cycle):
                if number:
                    self.machine(self.place.cycle(number - 1))
                reason = self.choose(cycle)
                if reason:
                    return self.finished(cycle, reason)
            elif self.growth() or not drawn(cycle):  # a call before this was killed
                words = [*self.arguments(number)["select"], *self.growth()]
                self.step(cycle, "select", words, "taking in what is new")
            if number:
                self.look(self.place.cycle(number - 1), cycle)
            given = not_taken(self.settings.answers, cycle)
            answers = find_answers(cycle, given)
            ready = answers.whole or self.settings.enough
            if not answers.paths or not ready:
                return self.wait(cycle, answers)
            self.intake(cycle, answers)
            # these were for this cycle
            done = {"add_videos": False, "add_classes": None, "withdraw": ()}
            self.settings = replace(self.settings, answers=(), enough=False, **done)

    def step(self, cycle: Cycle, name: str, arguments: list[str], message: str) -> None:
        """One step, told in next.json."""
        self.state.say("running", cycle.number, STAGES.get(name, name), message)
        with progress.told_to(self.state.at):
            cycles.timed(self.settings, cycle, name, arguments)

    def machine(self, cycle: Cycle) -> None:
        """Training and scoring of a labeled cycle."""
        words = self.arguments(cycle.number)
        self.step(cycle, "train", words["train"], "training on all labels so far")
        if self.settings.test_labels:
            self.step(cycle, "evaluate", words["evaluate"], "scoring on the test labels")
        rule = selection.parse(self.arguments(cycle.number + 1)["select"]).rule
        if cycle.number == 0 or not rule.random:
            self.step(cycle, "extract", words["extract"], "scoring all videos")

    def choose(self, cycle: Cycle) -> str | None:
        """Choose and ask -> None; or why there is nothing more to ask."""
        own, words = self.settings, self.arguments(cycle.number)["select"]
        ledger = write_ledger(self.place) if cycle.number else []
        if own.cycles is not None and cycle.number >= own.cycles:
            return f"{own.cycles} cycles are done"
        if cycle.number and (reason := self.nothing_left(cycle, ledger)):
            return reason
        self.state.say("running", cycle.number, "select", "choosing what to label next")
        cap = []
        if own.budget is not None:
            rows = [{"cost": ledger[-1]["total_cost"]}] if ledger else []
            cap = cycles.cap_of(own, cycle, words, rows, self.pool_of(cycle, words))
        if own.increment is None and self.only_old_videos(cycle.number):
            print("note: every video has labels now, so further frames of them are asked for")
        if cap is None:
            spent = ledger[-1]["total_cost"] if ledger else "0"
            return (
                f"the cost is {spent}, and what is left of --budget {own.budget:g} does not pay "
                "for another cycle"
            )
        words = [*words, *cap, *self.growth()]
        self.step(cycle, "select", words, "choosing what to label next")
        return None

    def pool_of(self, cycle, words):
        """The labels that a cycle chooses from."""
        with contextlib.redirect_stdout(None):  # the choice says it again
            return labels_so_far(selection.parse(words), cycle, None)[0]

    def nothing_left(self, cycle: Cycle, ledger) -> str | None:
        """Why no cycle follows, or None."""
        own, labels = self.settings, annotations.load(cycle.before().annotations)
        rule = selection.parse(self.arguments(cycle.number)["select"]).rule
        failed = set()
        if cycle.before().is_scored():
            failed = set(load_features(cycle.before().features).failed)
        videos = [video for name, video in labels.videos.items() if name not in failed]
        labeled = [video for video in videos if video.is_labeled]
        if rule.increment == "samples" and rule.strategy != "intra":
            if len(labeled) == len(videos):
                return "every video of the pool is labeled"
        within = labeled if rule.increment == "frames" else videos
        if all(len(video.labeled_frames) == video.frames for video in within):
            return "every frame that may be chosen is labeled"
        points = learning_curve(self.place, ledger, None)["points"]
        if own.target is not None and points and points[-1]["score"] >= own.target:
            return f"the score {points[-1]['score']:g} has reached the target {own.target:g}"
        return None

    def look(self, cycle: Cycle, following: Cycle) -> None:
        """Proposals for the frames that are asked for, and labels for a second look; where
        they are missing or of another request.
        """
        if cycle.detector.exists() and not (
            cycle.review.exists() and proposed(cycle, following)
        ):
            words = self.arguments(cycle.number)["propose"]
            self.step(cycle, "propose", words, "looking at the frames to label")

    def intake(self, cycle: Cycle, answers) -> None:
        """Take answers in."""
        own = self.settings
        words = ["--run", own.run, "--cycle", str(cycle.number), "--files", own.files]
        words += ["--data", own.data, "--dataset", own.dataset, "--in-loop"]
        words += ["--answers", *map(str, answers.paths)]
        self.state.say("running", cycle.number, "intake", "taking the answers in")
        cycles.timed(own, cycle, "select", words)
        self.show_curve(None)

    # ------------------------------------------------------------------ what people see

    def show_curve(self, coming: int | None) -> dict | None:
        """The table and the curve so far, printed and kept."""
        if not self.place.numbers():
            return None
        ledger = write_ledger(self.place)
        shared = self.settings.random_share is not None
        curve = learning_curve(self.place, ledger, coming, shared)
        rows = rows_of(self.place, ledger, curve["choice"])
        write_results(rows, self.place, POOL_COLUMNS)
        known = [name for name in SHOWN if any(row[name] is not None for row in rows)]
        print_columns(rows, known)
        print_choice(curve["choice"])
        print(curve["message"])
        return curve

    def wait(self, cycle: Cycle, answers) -> int:
        """Say what people have to do -> 0."""
        own = self.settings
        if self.place.numbers():
            print()
            self.show_curve(answers.asked)
        before = cycle.before() if cycle.number else None
        done = f"{answers.answered} of {answers.asked} frames"
        message = f"{done} of cycle {cycle.number} are labeled"
        if answers.problems:
            print(f"\n{answers.problems}")
            message += f"; some answers cannot be taken, see {cycle.problems}"
        self.state.say("label", cycle.number, "select", message, 1.0)
        print(f"\n{message}. Now it is your turn:")
        print(f"  {command(own.run, own.files, 'label.py')}")
        print(f"      draw in the browser, or fill in {cycle.request} (pictures in frames/)")
        print(f"  {command(own.run, own.files)}")
        print("      then goes on: training, scoring, the next choice")
        if answers.answered:
            print(f"  {command(own.run, own.files, 'run_cycles.py', '--enough')}")
            print(f"      goes on with the {answers.answered} frames that are labeled")
        if before is not None and before.review.exists():
            print(f"labels for a second look: {before.review}")
        return 0

    def finished(self, cycle: Cycle, reason: str) -> int:
        """Nothing more to ask -> 0."""
        print()
        self.show_curve(None)
        number = max(cycle.number - 1, 0)
        self.state.say("done", number, "select", reason, 1.0)
        print(f"done: {reason}")
        detector = self.place.cycle(number).detector
        if detector.exists():
            print(f"the detector: {detector}; labels and cost: {self.place.ledger}")
        return 0

    @contextlib.contextmanager
    def failures_told(self):
        """Inside, whatever stops the run is told in next.json."""
        again = f"; go on with {command(self.settings.run, self.settings.files)}"
        try:
            yield
        except KeyboardInterrupt:
            self.state.fail("stopped" + again)
            raise
        except SystemExit:
            self.state.fail(f"a flag was refused, see {self.place.next_log}")
            raise
        except Exception as error:
            name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            self.state.fail(f"{name}{error}")
            raise


def asked(cycle: Cycle) -> bool:
    """Whether a cycle has been chosen, with its request."""
    return cycle.request.exists() and cycle.selection.exists()


def drawn(cycle: Cycle) -> bool:
    """Whether there is a picture of every frame that a request asks for."""
    for entry in read_form(cycle.request)["videos"]:
        for frame in entry["frames"]:
            if not picture_of(cycle.frames, entry["video"], frame["frame"]).exists():
                return False
    return True


def proposed(cycle: Cycle, following: Cycle) -> bool:
    """Whether proposals.json is of the request as it is now."""
    if not cycle.proposals.exists():
        return False
    try:
        found = load_predictions(cycle.proposals)
    except (UserError, AttributeError, ValueError):
        return False
    asked_for = read_form(following.request)["videos"]
    if set(found) != {entry["video"] for entry in asked_for}:
        return False
    for entry in asked_for:
        frames = found[entry["video"]]
        if frames and set(frames) != {frame["frame"] for frame in entry["frames"]}:
            return False
    return True


# -------------------------------------------------------------------------------- the log


@contextlib.contextmanager
def logged(place: Run):
    """Inside, what is printed also goes to next.log; not where it goes there already, being
    started by the page.
    """
    with open(place.next_log, "a", encoding="utf-8", buffering=1) as log:
        streams = [_Both(stream, log) for stream in (sys.stdout, sys.stderr)]
        if _same_file(sys.stdout, log):
            yield
            return
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield


def _same_file(stream, log):
    try:
        return os.path.sameopenfile(stream.fileno(), log.fileno())
    except (OSError, ValueError, AttributeError):
        return False


class _Both:
    """A stream whose text also goes to a log, but for what a progress bar writes over."""

    def __init__(self, stream, log):
        self.stream, self.log = stream, log

    def write(self, text):
        if "\r" not in text:
            self.log.write(text)
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)
