"""The loop around the scripts, with stand-ins for training, scoring and evaluation:
schedules, rules, shared starts.
"""

import argparse
import itertools
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from golden import make_selection

import run_cycles
from claus.artifacts import shared_start
from claus.artifacts.cycle import Cycle
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import load_features, save_features, save_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.flags.selection import METHODS
from claus.steps import cycles as cycles_step
from claus.steps.spending import affordable, affordable_frames
from claus.utils.runtime import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "selection"
SCHEDULE = ["--schedule", "2/10,5/30,8/45"]


class Step:
    """Stands in for a script that needs a GPU: writes its files from those before it, and
    remembers its calls.
    """

    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def parse(self, argv):
        parser = argparse.ArgumentParser()
        for flag in ("--run", "--cycle", "--files", "--steps"):
            parser.add_argument(flag)
        return argparse.Namespace(protocol="capsule", **vars(parser.parse_known_args(argv)[0]))

    def run(self, args):
        folder = Cycle.of(args.run, int(args.cycle), args.files).folder
        self.calls.append((Path(args.run).name, int(args.cycle), self.name))
        getattr(self, self.name)(folder, args)

    def train(self, folder, args):
        if not (folder / "detector.pt").exists():
            (folder / "detector.pt").write_bytes(
                (folder / "annotations.pkl").read_bytes() + str(args.steps).encode()
            )

    def evaluate(self, folder, args):
        capsule = {
            name: [0.5]
            for name in (
                "thresholds",
                "f_map",
                "v_map",
                "f_map_class_aware",
                "v_map_class_aware",
            )
        }
        (folder / "evaluation.json").write_text(
            json.dumps(
                {
                    "capsule": {**capsule, "accuracy": 0.5},
                    "floor": None,
                    "source": fingerprint(folder / "detector.pt"),
                }
            )
        )

    def extract(self, folder, args):
        if (folder / "features.pkl").exists():
            return
        videos = annotation_file.load(folder / "annotations.pkl").videos
        made = make_selection.extraction(
            {name: video.frames for name, video in videos.items()},
            np.random.default_rng(1),
            failed=list(videos)[3:4],
        )
        source = fingerprint(folder / "detector.pt")
        for content, save, path in zip(
            made,
            (save_features, save_uncertainty),
            ("features.pkl", "uncertainty.pkl"),
            strict=True,
        ):
            save(type(content)(**{**vars(content), "source": source}), folder / path)


@pytest.fixture
def calls(monkeypatch):
    """The calls of the stand-ins, which take the places of the scripts: [(run, cycle,
    step), ...].
    """
    made = []
    steps = {name: Step(name, made) for name in ("train", "evaluate", "extract")}
    steps["select"] = cycles_step.step("select")
    monkeypatch.setattr(cycles_step, "step", lambda name, *_: steps[name])
    return made


def cycles(folder, *more, schedule=SCHEDULE):
    return run_cycles.main(
        [
            "--run",
            str(folder),
            "--oracle",
            str(GOLDEN / "pyannot.pkl"),
            "--test-list",
            str(GOLDEN / "testlist.txt"),
            *schedule,
            *more,
        ]
    )


def refused(*arguments, **named):
    with pytest.raises(UserError) as error:
        cycles(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def totals(folder):
    return [
        [int(cell) for cell in line.split(",")[5:7]]
        for line in (folder / "ledger.csv").read_text().splitlines()[1:]
    ]


def expected_totals():
    labels = annotation_file.load(GOLDEN / "cycle0" / "annotations.pkl")
    return [
        [v * len(labels.videos) // 100, a * labels.total_frames() // 100]
        for a, v in ((2, 10), (5, 30), (8, 45))
    ]


# ------------------------------------------------------------------------ schedule and rule


@pytest.mark.parametrize("method", METHODS)
def test_a_schedule_sets_the_number_of_cycles_and_their_totals(tmp_path, calls, method):
    assert cycles(tmp_path / "run", "--method", method) == 0
    assert totals(tmp_path / "run") == expected_totals()
    scored = [cycle for _, cycle, step in calls if step == "extract"]
    assert scored == ([0] if method in ("random", "equidistant") else [0, 1]), (
        "no pass that nobody reads"
    )
    said = load_selection(tmp_path / "run" / "cycle2" / "selection.json")
    assert said["settings"]["method"] == method and len(said["set_aside"]) == 1


def test_fewer_cycles_than_the_schedule_has_but_not_more(tmp_path, calls, capsys):
    assert cycles(tmp_path / "run", "--cycles", "2") == 0
    assert totals(tmp_path / "run") == expected_totals()[:2]
    with pytest.raises(SystemExit):
        cycles(tmp_path / "other", "--cycles", "4")
    assert "--schedule has 3 pairs, --cycles asks for 4" in capsys.readouterr().err
    assert "is not a pair" in refused(tmp_path / "other", schedule=["--schedule", "2"])
    assert not (tmp_path / "other").exists()


def test_flags_given_twice_or_without_sense_stop_before_any_work(tmp_path, calls):
    assert "--method random" in refused(
        tmp_path / "run", "--method", "random", "--select", "--method claus"
    )
    with pytest.raises(SystemExit):
        cycles(tmp_path / "run", "--strategy", "inter", "--method", "claus")
    with pytest.raises(SystemExit):
        cycles(tmp_path / "run", "--select", "--videos-count 3")
    assert calls == [] and not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--budget", "nan"], "--budget must be 0 or more, not nan"),
        (["--budget", "inf"], "--budget must be 0 or more, not inf"),
        (["--target", "nan"], "--target must be 0 or more, not nan"),
        (["--train", "--model 'small"], "cannot be read as flags: No closing quotation"),
    ],
)
def test_what_is_no_number_or_no_flags_stops_in_one_line(tmp_path, calls, capsys, more, said):
    with pytest.raises(SystemExit):
        cycles(tmp_path / "run", *more)
    assert said in capsys.readouterr().err.splitlines()[-1] and calls == []


def test_a_run_that_was_stopped_before_its_first_choice_takes_the_corrected_flags(
    tmp_path, calls
):
    assert "nowhere.pkl" in refused(tmp_path / "run", "--oracle", str(tmp_path / "nowhere.pkl"))
    assert cycles(tmp_path / "run") == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["oracle"] != str(
        tmp_path / "nowhere.pkl"
    )
    assert "this run began with --seed" in refused(tmp_path / "run", "--seed", "7")
    (
        tmp_path / "run" / "cycle0" / "selection.json"
    ).unlink()  # a lost file does not make it a new run
    assert "this run began with --seed" in refused(tmp_path / "run", "--seed", "7")


def test_a_finished_run_goes_on_with_a_longer_schedule_as_if_it_had_been_given_it_at_once(
    tmp_path, calls
):
    short = [SCHEDULE[0], SCHEDULE[1].rpartition(",")[0]]
    cycles(tmp_path / "run", schedule=short)
    assert totals(tmp_path / "run") == expected_totals()[:2]
    calls.clear()
    cycles(tmp_path / "run")
    assert totals(tmp_path / "run") == expected_totals()
    assert [step for _, cycle, step in calls if cycle == 2] == ["train", "evaluate"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["schedule"] == SCHEDULE[1]
    cycles(tmp_path / "at_once")
    for cycle in range(3):
        one, other = (
            tmp_path / name / f"cycle{cycle}" / "annotations.pkl" for name in ("run", "at_once")
        )
        assert fingerprint(one) == fingerprint(other)
    for schedule in (
        short,
        [SCHEDULE[0], "2/10,6/30,8/45,9/50"],
        [],
    ):  # shorter, another way, none
        assert "this run began with --schedule" in refused(tmp_path / "run", schedule=schedule)


def test_a_run_does_not_go_on_with_another_rule(tmp_path, calls):
    cycles(tmp_path / "run", "--cycles", "1")
    assert "--method None, now it is 'random'" in refused(
        tmp_path / "run", "--method", "random"
    )


def test_it_stops_when_the_old_videos_have_no_frame_left(tmp_path, calls, capsys):
    frames = ["--select", "--videos-count 3 --frames-count 40"]
    assert cycles(tmp_path / "run", "--increment", "frames", *frames, schedule=[]) == 0
    assert "stopping: every frame that may be chosen is labeled" in capsys.readouterr().out
    labels = annotation_file.load(sorted((tmp_path / "run").glob("cycle*/annotations.pkl"))[-1])
    assert [len(video.labeled_frames) == video.frames for video in labels.labeled()] == [
        True
    ] * 3


# --------------------------------------------------------------------------- a shared start


@pytest.fixture
def start(tmp_path, calls):
    """A run of one cycle, scored, as other runs begin from it."""
    cycles(tmp_path / "start", "--cycles", "1")
    step = Step("extract", calls)
    where = ["--run", str(tmp_path / "start"), "--cycle", "0", "--files", "files"]
    step.run(step.parse(where))
    calls.clear()
    return tmp_path / "start"


def test_rules_share_labels_weights_and_scores(tmp_path, start, calls):
    for method in ("claus", "uncertainty"):
        assert cycles(tmp_path / method, "--method", method, "--start-from", str(start)) == 0
        for name in (
            "annotations.pkl",
            "detector.pt",
            "evaluation.json",
            "features.pkl",
            "uncertainty.pkl",
        ):
            assert (tmp_path / method / "cycle0" / name).read_bytes() == (
                start / "cycle0" / name
            ).read_bytes()
        assert totals(tmp_path / method) == expected_totals()
    alone = tmp_path / "alone"
    cycles(alone, "--method", "claus")
    chosen = {
        folder: make_selection.picks(tmp_path / folder / "cycle1" / "selection.json")
        for folder in ("alone", "claus", "uncertainty")
    }
    assert chosen["alone"] == chosen["claus"] != chosen["uncertainty"]


def test_what_one_run_does_later_does_not_reach_the_other(tmp_path, start):
    cycles(tmp_path / "run", "--start-from", str(start), "--cycles", "1")
    kept = (start / "cycle0" / "evaluation.json").read_bytes()
    shared_start.write_text(tmp_path / "run" / "cycle0" / "evaluation.json", "{}")
    assert (start / "cycle0" / "evaluation.json").read_bytes() == kept


def test_inter_and_intra_may_start_from_the_hybrid_start(tmp_path, start):
    for strategy in ("inter", "intra"):
        assert (
            cycles(tmp_path / strategy, "--strategy", strategy, "--start-from", str(start)) == 0
        )
        assert totals(tmp_path / strategy)[0] == expected_totals()[0]


def test_a_start_of_another_strategy_is_refused(tmp_path, start):
    path = start / "cycle0" / "selection.json"
    path.write_text(path.read_text().replace('"strategy": "hybrid"', '"strategy": "inter"'))
    assert "its first cycle is of --strategy inter" in refused(
        tmp_path / "run", "--start-from", str(start)
    )


def test_without_pickles_the_run_scores_for_itself(tmp_path, start, calls, capsys):
    for name in ("features.pkl", "uncertainty.pkl"):
        (start / "cycle0" / name).unlink()
    cycles(tmp_path / "run", "--start-from", str(start))
    assert "this run scores the videos itself" in capsys.readouterr().out
    assert ("run", 0, "extract") in calls and totals(tmp_path / "run") == expected_totals()
    assert cycles(tmp_path / "run", "--start-from", str(start)) == 0, "and goes on with its own"


@pytest.mark.parametrize(
    "more, named",
    [
        (["--seed", "3"], "it has --seed 0, this run 3"),
        (["--train", "--steps 5"], "it has --train '', this run '--steps 5'"),
        (
            ["--select", "--frame-cost 3"],
            "its prices are {'video': '1', 'frame': '1', 'box': '0'}, this run's",
        ),
        (
            ["--schedule", "3/10,5/30"],
            "its first cycle asked for 2 videos and 8 frames, this run would for 2 and 13",
        ),
    ],
)
def test_a_start_of_other_flags_is_refused(tmp_path, start, more, named):
    assert named in refused(tmp_path / "run", "--start-from", str(start), *more)
    assert not (tmp_path / "run" / "cycle0").exists()
    assert cycles(tmp_path / "run", "--start-from", str(start)) == 0, (
        "nothing is left behind that is in the way"
    )


def test_a_start_that_is_not_whole_is_refused(tmp_path, start):
    other = ["--start-from", str(start)]
    assert "run.json: cannot be read" in refused(
        tmp_path / "run", "--start-from", str(tmp_path / "nowhere")
    )
    assert "is this run itself" in refused(start, *other)
    features = load_features(start / "cycle0" / "features.pkl")
    save_features(
        type(features)(**{**vars(features), "source": "0" * 16}),
        start / "cycle0" / "features.pkl",
    )
    assert "features.pkl was made from other weights than" in refused(tmp_path / "run", *other)
    (start / "cycle0" / "evaluation.json").unlink()
    assert "evaluation.json is missing: finish that run's first cycle" in refused(
        tmp_path / "run", *other
    )
    assert not (tmp_path / "run" / "cycle0").exists()


def test_a_run_with_a_start_of_its_own_keeps_it(tmp_path, start):
    cycles(tmp_path / "run", "--cycles", "1")
    assert "was made by this run itself" in refused(
        tmp_path / "run", "--cycles", "1", "--start-from", str(start)
    )


def test_killed_while_files_are_taken_over_it_goes_on(tmp_path, start, monkeypatch):
    link, linked = shared_start.link_or_copy, []

    def stop_at_the_third(source, target):
        if len(linked) == 2:
            raise KeyboardInterrupt
        linked.append(target.name)
        link(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shared_start, "link_or_copy", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            cycles(tmp_path / "run", "--start-from", str(start))
    assert cycles(tmp_path / "run", "--start-from", str(start)) == 0
    assert totals(tmp_path / "run") == expected_totals()


@pytest.mark.parametrize("whose", ["run", "start"])
def test_a_start_that_changed_later_is_no_longer_shared(tmp_path, start, whose):
    cycles(tmp_path / "run", "--start-from", str(start))
    shared_start.write_text(tmp_path / whose / "cycle0" / "detector.pt", "other weights")
    message = refused(tmp_path / "run", "--start-from", str(start))
    assert (
        f"{tmp_path / whose}/cycle0/detector.pt is not what" in message
        and "no longer shared" in message
    )
    assert (
        f"remove {tmp_path / 'run'} and start it again" in message and "rebuild" not in message
    )
    kept = f"put {tmp_path / 'run'}/cycle0/detector.pt in its place"
    assert (kept in message) == (whose == "start"), "the file of the run is what the start had"


def test_damage_to_a_start_is_damage_to_all_runs_begun_from_it(tmp_path, start):
    """Its files are theirs: to start the run again would begin with the damage."""
    cycles(tmp_path / "run", "--start-from", str(start))
    with open(tmp_path / "run" / "cycle0" / "detector.pt", "r+b") as file:
        file.write(b"damage")
    message = refused(tmp_path / "run", "--start-from", str(start))
    assert message.startswith(f"{start}/cycle0/detector.pt is not what")
    assert (
        f"rebuild the start {start} and the runs begun from it" in message
        and "start it again" not in message
    )


def test_a_run_goes_on_without_its_start(tmp_path, start):
    cycles(tmp_path / "run", "--start-from", str(start), "--cycles", "1")
    shutil.rmtree(start / "cycle0")
    assert cycles(tmp_path / "run", "--start-from", str(start)) == 0


def test_disks_without_links_get_copies(tmp_path, start, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    assert cycles(tmp_path / "run", "--start-from", str(start), "--cycles", "1") == 0
    assert (tmp_path / "run" / "cycle0" / "detector.pt").read_bytes() == (
        start / "cycle0" / "detector.pt"
    ).read_bytes()


# ------------------------------------------------------------------------------- the budget


def cost(folder):
    return float((folder / "ledger.csv").read_text().splitlines()[-1].split(",")[8])


RULES = [
    [],
    ["--increment", "samples-and-frames"],
    ["--increment", "frames"],
    ["--strategy", "inter"],
    ["--strategy", "intra"],
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: " ".join(rule) or "hybrid")
@pytest.mark.parametrize("budget", ["28", "41.5", "1000"])
def test_a_budget_is_never_exceeded_and_nearly_spent(tmp_path, calls, capsys, rule, budget):
    """A cycle is 4 videos and 16 frames: 20 at prices of 1, so the second must be lowered."""
    select = ["--select", "--videos-count 4 --frames-count 16"]
    if "inter" in rule:
        select = ["--select", "--videos-count 2 --frames-count 26"]
    if "intra" in rule:
        select = ["--select", "--frames-count 12"]
    more = [*rule, *select, "--budget", budget, "--cycles", "4"]
    assert cycles(tmp_path / "run", *more, schedule=[]) == 0
    spent = cost(tmp_path / "run")
    assert spent <= float(budget)
    said = capsys.readouterr().out
    if budget == "1000":
        assert "stopping: 4 cycles are done" in said and "-money" not in said
    elif "inter" not in rule:  # whole videos leave the rest of a short one
        assert float(budget) - spent < 2, "less than a video with a frame is left"
        assert "budget" in said and len(totals(tmp_path / "run")) <= 3


def test_a_lowered_cycle_has_as_many_frames_a_video_as_it_would_have_had(tmp_path, calls):
    select = ["--select", "--videos-count 4 --frames-count 16"]
    cycles(tmp_path / "run", *select, "--budget", "30", "--cycles", "3", schedule=[])
    assert totals(tmp_path / "run") == [[4, 16], [6, 24]]
    asked = load_selection(tmp_path / "run" / "cycle1" / "selection.json")["asked"]
    assert (asked["videos"], asked["frames"]) == (2, 8)


def test_the_first_cycle_is_lowered_too_and_refused_where_nothing_can_be_bought(
    tmp_path, calls
):
    select = ["--select", "--videos-count 4 --frames-count 16"]
    cycles(tmp_path / "run", *select, "--budget", "10", schedule=[])
    assert totals(tmp_path / "run") == [[2, 8]]
    message = refused(tmp_path / "none", *select, "--budget", "1", schedule=[])
    assert message == "--budget 1 does not pay for a first cycle: raise it"
    assert calls == [("run", 0, "train"), ("run", 0, "evaluate")]


def test_a_resumed_run_chooses_what_it_had_chosen_under_its_budget(tmp_path, calls):
    more = ["--select", "--videos-count 4 --frames-count 16", "--budget", "30"]
    cycles(tmp_path / "run", *more, schedule=[])
    kept = (tmp_path / "run" / "cycle1" / "annotations.pkl").read_bytes()
    cycles(tmp_path / "run", *more, schedule=[])
    assert (tmp_path / "run" / "cycle1" / "annotations.pkl").read_bytes() == kept
    assert totals(tmp_path / "run") == [[4, 16], [6, 24]]


def test_what_is_affordable_is_the_dearest_choice_in_proportion_that_the_money_pays():
    for videos, frames, of_video, of_frame in itertools.product(
        (1, 3, 7), (7, 20), ("0", "1", "2.5"), ("0", "0.5", "3")
    ):
        prices = Fraction(of_video), Fraction(of_frame)
        for money in map(Fraction, range(0, 90, 7)):
            bought = affordable(videos, frames, *prices, money)
            if bought is None:
                assert sum(prices) > money
                continue
            some, many = bought
            assert 1 <= some <= videos and some <= many <= frames
            assert some * prices[0] + many * prices[1] <= money
            if bought != (videos, frames):
                assert videos * prices[0] + frames * prices[1] > money
            if many < frames:
                assert some * prices[0] + (many + 1) * prices[1] > money


def test_frames_that_open_videos_are_paid_with_them():
    for frames, unlabeled, of_video, of_frame in itertools.product(
        (1, 6, 20), (0, 4, 30), ("0", "1", "2.5"), ("0", "0.5", "3")
    ):
        prices = Fraction(of_video), Fraction(of_frame)

        def paid(count, prices=prices, unlabeled=unlabeled):
            return min(count, unlabeled) * prices[0] + count * prices[1]

        for money in map(Fraction, range(0, 90, 7)):
            most = max(count for count in range(frames + 1) if paid(count) <= money)
            bought = affordable_frames(frames, unlabeled, *prices, money)
            assert bought == (most or None)
