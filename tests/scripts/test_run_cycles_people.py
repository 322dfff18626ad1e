"""run_cycles.py without an oracle: as far as the answers of people allow, then again. With
stand-ins for what computes; the choice and the intake are real.
"""

import json
import multiprocessing
import os
import shlex
import shutil
import time

import numpy as np
import pytest
from made_videos import write_counted

import run_cycles
from claus.annotators.form import read_form, write_form
from claus.annotators.journal import Journal
from claus.artifacts import next_state
from claus.artifacts.cycle import Cycle, Run
from claus.artifacts.ledger import count_ledger
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import save_features, save_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.flags.cycles import command, parse
from claus.steps import cycles as cycles_step
from claus.steps import cycles_people
from claus.steps.cycles_intake import find_answers
from claus.steps.proposals import save_predictions
from claus.steps.second_look import write_review
from claus.utils import progress, runtime
from claus.utils.runtime import UserError

BOX = [5, 5, 20, 30]  # that the person draws: x, y, width, height
SHARE = ["--random-share", "1/3"]
START = ["--any-folder", "--classes", "run,wave", "--videos", "3", "--frames", "6"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Twelve videos of twenty frames, one folder with a blank in its name."""
    folder = tmp_path_factory.mktemp("people") / "my videos"
    write_counted(folder / "cam" / "v0.mp4", 20)
    for number in range(1, 12):
        shutil.copy(folder / "cam" / "v0.mp4", folder / "cam" / f"v{number}.mp4")
        with open(folder / "cam" / f"v{number}.mp4", "ab") as file:
            file.write(bytes([number]))  # another file, the same pictures
    return folder


class Machine:
    """Stands in for training, scoring and looking; fails where it is told to.

    half: of the box that the detector sees in every frame, so that IoU with BOX is known.
    """

    def __init__(self):
        self.calls, self.fail_in, self.half = [], None, 2

    def run(self, name, settings):
        if name == "propose" and not settings.propose:
            name = "extract"
        place = getattr(settings, "place", settings)
        cycle = Cycle.of(place.run, place.cycle, place.files)
        self.calls.append((cycle.number, name))
        progress.tell(1, 2)
        if self.fail_in == (cycle.number, name):
            raise KeyboardInterrupt
        getattr(self, name)(cycle)

    def train(self, cycle):
        if not cycle.detector.exists():
            cycle.detector.write_bytes(cycle.annotations.read_bytes())

    def extract(self, cycle):
        from golden import make_selection

        labels = annotation_file.load(cycle.annotations)
        lengths = {name: video.frames for name, video in labels.videos.items()}
        made = make_selection.extraction(lengths, np.random.default_rng(1))
        source = fingerprint(cycle.detector)
        saves = (save_features, cycle.features), (save_uncertainty, cycle.uncertainty)
        for content, (save, path) in zip(made, saves, strict=True):
            save(type(content)(**{**vars(content), "source": source}), path)

    def propose(self, cycle):
        labels = annotation_file.load(cycle.annotations)
        request = read_form(cycle.run.cycle(cycle.number + 1).request)
        x, y, width, height = BOX
        box = [x, y, x + width, y + height // self.half]
        actors = [{"box": box, "class": "run", "score": 0.9}]
        found = {}
        for entry in request["videos"]:
            found[entry["video"]] = {frame["frame"]: actors for frame in entry["frames"]}
        save_predictions(found, cycle.proposals)
        write_review(cycle, labels, {})


@pytest.fixture
def machine(monkeypatch):
    made, real = Machine(), cycles_step.step

    def stand_in(name, *more):
        step = real(name, *more)
        if name == "select":
            return step
        return cycles_step.Step(step.script, step.parse, lambda s: made.run(name, s))

    monkeypatch.setattr(cycles_step, "step", stand_in)
    return made


def call(folder, *more):
    return run_cycles.main(["--run", str(folder), *more])


def begin(folder, videos, *more):
    return call(folder, "--data", str(videos), *START, *more)


def fill_in(form, most=None):
    """What a person does: a box in every frame (at most so many), classes in turn."""
    left = most
    for number, entry in enumerate(form["videos"]):
        entry["class"] = entry["class"] or ("run", "wave")[number % 2]
        for frame in entry["frames"]:
            if left != 0 and frame["actors"] is None:
                frame["actors"] = [{"track": 1, "box": BOX}]
                left = None if left is None else left - 1
    return form


def label(folder, number, most=None):
    path = Cycle.of(folder, number).request
    write_form(path, fill_in(read_form(path), most))


def state(folder):
    return json.loads(Run(folder).next.read_text())


# ------------------------------------------------------------------------ round the cycle


def test_two_rounds_with_nothing_repeated(tmp_path, videos, machine, capsys):
    folder = tmp_path / "mine"
    assert begin(folder, videos, *SHARE) == 0
    assert machine.calls == []
    assert state(folder)["state"] == "label" and state(folder)["cycle"] == 0
    settings = load_selection(Cycle.of(folder, 0).selection)["settings"]
    assert settings["method"] == "random+equidistant"
    for number in range(2):
        label(folder, number)
        assert call(folder) == 0
        after = [(number, name) for name in ("train", "extract", "propose")]
        assert machine.calls == after
        machine.calls.clear()
        assert state(folder) | {"updated": 0} == {
            "state": "label",
            "cycle": number + 1,
            "stage": "select",
            "progress": 1.0,
            "message": f"0 of 6 frames of cycle {number + 1} are labeled",
            "updated": 0,
            "pid": os.getpid(),
        }
        selection = load_selection(Cycle.of(folder, number + 1).selection)
        assert selection["settings"]["method"] == "claus-entropy"
        drawn = [row for row in selection["videos"] if row.get("random")]
        assert len(selection["videos"]) == 3 and len(drawn) == 1
        assert len(drawn[0]["frames"]) == 2
    log = Run(folder).next_log.read_text()
    assert log.count("== cycle 0: train") == log.count("== cycle 1: train") == 1
    assert "== cycle 2: select" in capsys.readouterr().out
    assert call(folder) == 0
    assert machine.calls == [], "nothing is done twice"


def test_the_same_command_again_has_been_through_with_its_answers(
    tmp_path, videos, machine, capsys
):
    """--answers FILE, stopped after FILE was taken in, or simply given once more."""
    folder = tmp_path / "mine"
    begin(folder, videos)
    form = read_form(Cycle.of(folder, 0).request)
    fill_in(form)
    write_form(tmp_path / "given.json", form)
    given = ["--answers", str(tmp_path / "given.json")]
    assert call(folder, *given) == 0
    capsys.readouterr()
    machine.calls.clear()
    assert call(folder, *given) == 0
    assert "answers cycle 0, which has been taken in" in capsys.readouterr().out
    assert machine.calls == [] and state(folder)["cycle"] == 1


def test_the_commands_that_are_printed_are_those_of_a_shell(
    tmp_path, videos, machine, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    begin("it's mine", videos, "--files", "my files")
    told = [line.strip() for line in capsys.readouterr().out.splitlines()]
    printed = [line for line in told if line.startswith("python ")]
    words = ["python", "run_cycles.py", "--run", "it's mine", "--files", "my files"]
    assert words in [shlex.split(line) for line in printed]
    assert ["python", "label.py", *words[2:]] in [shlex.split(line) for line in printed]
    label(tmp_path / "my files" / "it's mine", 0, 2)
    run_cycles.main(words[2:])
    more = [line.strip() for line in capsys.readouterr().out.splitlines()]
    (enough,) = [line for line in more if line.endswith("--enough")]
    assert shlex.split(enough) == [*words, "--enough"]
    assert parse(shlex.split(enough)[2:]).enough
    assert command("a", "files") == "python run_cycles.py --run a"


def test_partial_answers_wait(tmp_path, videos, machine, capsys):
    folder = tmp_path / "mine"
    begin(folder, videos)
    label(folder, 0, 4)
    assert call(folder) == 0
    assert machine.calls == []
    assert state(folder)["message"] == "4 of 6 frames of cycle 0 are labeled"


def test_what_is_answered_is_counted_wherever_it_lies(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos)
    cycle = Cycle.of(folder, 0)
    form = read_form(cycle.request)
    assert find_answers(cycle).paths == ()
    write_form(cycle.folder / "by anna.json", fill_in(read_form(cycle.request), 3))
    first, last = form["videos"][0], form["videos"][-1]
    head = {"kind": "answers", "run": form["run"], "cycle": 0, "who": "ben"}
    journal = Journal(cycle.journal, head)
    journal.append({"do": "class", "video": last["video"], "class": "run"})
    states = (first, 0, "skipped"), (last, 1, "done"), (last, 0, "open")
    for entry, place, of in states:
        line = {"do": "frame", "video": entry["video"], "state": of, "size": [48, 64]}
        actors = [{"track": 1, "box": BOX, "origin": "drawn"}]
        line |= {"frame": entry["frames"][place]["frame"], "actors": actors}
        journal.append(line)
    with open(journal.path, "a") as file:
        file.write('{"do": "fra')  # the server was killed
    Journal(cycle.journal, {**head, "kind": "correction"}).append({"do": "class"})
    found = find_answers(cycle)
    assert [path.name for path in found.paths] == ["by anna.json", "ben.jsonl"]
    assert (found.answered, found.asked, found.problems) == (4, 6, "")


def test_killed_anywhere_it_goes_on_to_the_same(tmp_path, videos, machine):
    whole, folder = tmp_path / "whole", tmp_path / "mine"
    for place in (whole, folder):
        begin(place, videos, *SHARE)
        label(place, 0)
    call(whole)
    for stop in ("train", "extract", "propose"):
        machine.fail_in = (0, stop)
        with pytest.raises(KeyboardInterrupt):
            call(folder)
        told = state(folder)
        assert told["state"] == "failed" and "run_cycles.py --run" in told["message"]
        assert told["stage"] == {"propose": "select"}.get(stop, stop)
    machine.fail_in = None
    call(folder)
    for name in ("annotations.pkl", "features.pkl", "proposals.json"):
        assert (folder / "cycle0" / name).read_bytes() == (whole / "cycle0" / name).read_bytes()
    first, second = (
        json.loads((place / "cycle1" / "request.json").read_text()) for place in (whole, folder)
    )
    assert first["videos"] == second["videos"]


def test_a_mistake_in_the_form_is_told_and_mended(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos)
    label(folder, 0)
    path = Cycle.of(folder, 0).request
    right = path.read_text()
    path.write_text(right.replace(str(BOX), "[5, 5, 900, 30]", 1))
    assert call(folder) == 0
    assert machine.calls == [], "nothing is trained on while an answer is left out"
    problems = Cycle.of(folder, 0).problems
    assert state(folder)["message"].endswith(f"some answers cannot be taken, see {problems}")
    assert state(folder)["message"].startswith("5 of 6 frames")
    assert "900" in problems.read_text()
    path.write_text(right)
    assert call(folder) == 0
    assert state(folder)["cycle"] == 1


def test_the_request_made_again_gets_proposals_of_its_own(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos)
    label(folder, 0)
    call(folder)
    machine.calls.clear()
    cycle = Cycle.of(folder, 1)
    (cycle.request).unlink()
    assert call(folder, "--videos", "4", "--frames", "9") == 0
    assert machine.calls[-1] == (0, "propose")
    proposed = json.loads(Cycle.of(folder, 0).proposals.read_text())
    assert set(proposed) == {entry["video"] for entry in read_form(cycle.request)["videos"]}


# ------------------------------------------------------------------------------ two at once


def _holds(folder, ready):
    with next_state.alone(Run(folder)):
        ready.set()
        time.sleep(60)


def test_two_at_once_the_second_says_who_runs(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_holds, args=(folder, ready))
    other.start()
    try:
        assert ready.wait(30)
        with pytest.raises(UserError, match=f"worked on by process {other.pid} of"):
            call(folder)
        other.kill()
        other.join(30)
        half = folder / "cycle0" / f".seconds.json.{runtime.machine()}-{other.pid}-0.claus.tmp"
        half.touch()
        assert call(folder) == 0, "a killed process holds no lock"
        assert not half.exists(), "what it was writing is swept"
    finally:
        other.kill()
        other.join(30)


# ---------------------------------------------------------------------------- money, the end


@pytest.mark.parametrize("budget", (9, 14, 23))
def test_a_budget_caps_the_next_cycle_and_is_never_overspent(
    tmp_path, videos, machine, capsys, budget
):
    folder = tmp_path / "mine"
    begin(folder, videos, *SHARE, "--budget", str(budget))
    for number in range(4):
        if state(folder)["state"] == "done":
            break
        label(folder, number)
        call(folder)
    assert state(folder)["state"] == "done"
    spent = int(count_ledger(Run(folder))[-1]["total_cost"])
    assert budget - 1 <= spent <= budget
    assert "does not pay for another cycle" in state(folder)["message"]
    call(folder, "--budget", str(budget + 9))
    assert state(folder)["state"] == "label", "a larger budget goes on"


def test_a_budget_too_small_for_anything(tmp_path, videos, machine):
    assert begin(tmp_path / "mine", videos, "--budget", "1") == 0
    assert state(tmp_path / "mine")["state"] == "done"


def test_where_all_videos_are_labeled_further_frames_are_asked_for(
    tmp_path, videos, machine, capsys
):
    folder = tmp_path / "mine"
    begin(folder, videos, "--videos", "6", "--frames", "12", *SHARE)
    for number in range(3):
        label(folder, number)
        call(folder)
    settings = load_selection(Cycle.of(folder, 3).selection)["settings"]
    assert settings["increment"] == "frames"
    assert "further frames of them" in capsys.readouterr().out
    label(folder, 3)
    call(folder)
    curve = json.loads(Run(folder).learning_curve.read_text())
    assert [point["old_videos"] for point in curve["points"]] == [False, True, True]
    assert len(curve["points"]) == 3 and curve["next"] is None, "points unlike each other"
    for point in curve["points"]:
        assert point["score"] == pytest.approx(50, abs=0.1)


def test_cycles_and_target_end_it(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos, *SHARE, "--cycles", "2")
    label(folder, 0)
    call(folder)
    label(folder, 1)
    call(folder)
    assert state(folder)["message"] == "2 cycles are done"
    call(folder, "--cycles", "9", "--target", "49")
    assert state(folder)["message"] == "the score 50 has reached the target 49"


# ------------------------------------------------------------------------------- the curve


def test_the_curve_is_of_random_frames_before_they_were_trained_on(
    tmp_path, videos, machine, capsys
):
    folder = tmp_path / "mine"
    begin(folder, videos, *SHARE, "--videos", "2", "--frames", "4")
    for number in range(4):
        machine.half = 2 if number < 2 else 1  # from cycle 2 on it sees the whole box
        label(folder, number)
        call(folder)
    curve = json.loads(Run(folder).learning_curve.read_text())
    assert curve["source"] == "random share"
    seen = [(point["cycle"], point["frames"], point["score"]) for point in curve["points"]]
    assert seen == [(0, 4, 50.0), (1, 8, 50.0), (2, 12, 100.0)]
    assert curve["next"]["frames"] == 20
    assert 0 <= curve["next"]["low"] < curve["next"]["high"] <= 100
    assert "4 frames more may bring" in curve["message"] and "no promise" in curve["message"]
    for point in curve["points"]:
        assert point["low"] < point["score"] or point["score"] == 0
        assert point["videos"] == 1 and point["labels"] == 1
    rows = Run(folder).results.read_text().splitlines()
    assert rows[0].endswith("pool agreement,pool low,pool high,chosen agreement")
    assert rows[1].split(",")[-4] == "50.0" and rows[4].split(",")[-4] == ""
    assert "on random ones (1 of 1 video)" in capsys.readouterr().out


def test_skipped_frames_do_not_count_and_a_test_set_comes_first(tmp_path, videos, machine):
    folder = tmp_path / "mine"
    begin(folder, videos, *SHARE)
    label(folder, 0)
    call(folder)
    label(folder, 1)
    call(folder)
    scores = {"thresholds": [0.5], "f_map": [0.25], "v_map": [0.2]}
    evaluation = {"capsule": scores, "floor": None, "source": "", "test_videos": 8}
    Cycle.of(folder, 0).evaluation.write_text(json.dumps(evaluation))
    call(folder)
    curve = json.loads(Run(folder).learning_curve.read_text())
    assert curve["source"] == "test labels"
    (point,) = curve["points"]
    assert point["score"] == 25.0 and 5 < point["low"] < 25 < point["high"] < 55


# ------------------------------------------------------------------------------- the flags


def test_what_makes_no_sense_stops_before_any_work(tmp_path, videos, machine, capsys):
    folder = tmp_path / "mine"
    with pytest.raises(UserError, match="has not begun yet: give --data"):
        call(folder)
    for more, said in (
        (["--random-share", "2"], "between 0 and 1"),
        (["--train", "--epoch 3 --nonsense"], "unrecognized"),
        (["--start-from", "other"], "no effect without --oracle"),
        (["--test-data", "x"], "no effect without --test-labels"),
    ):
        with pytest.raises((SystemExit, UserError)) as error:
            begin(folder, videos, *more)
        assert said in capsys.readouterr().err + str(error.value)
        assert not Run(folder).settings.exists(), "a wrong flag is not remembered"
    with pytest.raises(SystemExit):
        call(folder, "--oracle", "pyannot.pkl", "--test-list", "x", "--model", "small")
    assert "--model has no effect with --oracle" in capsys.readouterr().err


def test_flags_are_remembered_and_changed_but_not_those_of_the_pool(
    tmp_path, videos, machine, monkeypatch
):
    folder = tmp_path / "mine"
    monkeypatch.chdir(videos.parent)
    run_cycles.main(["--run", str(folder), "--data", videos.name, *START])
    kept = parse(["--run", str(folder)])
    assert kept.data == str(videos) and kept.classes == "run,wave" and kept.any_folder
    assert (kept.model, kept.method, kept.videos) == ("laptop", "claus-entropy", "3")
    monkeypatch.chdir(tmp_path)
    call(folder, "--model", "small", "--frames", "9")
    kept = parse(["--run", str(folder)])
    assert (kept.model, kept.frames, kept.videos) == ("small", "9", "3")
    with pytest.raises(UserError, match="this run's pool was made with"):
        call(folder, "--segment", "1s")
    settings = json.loads(Run(folder).settings.read_text())
    settings["oracle"] = "truth.pkl"
    Run(folder).settings.write_text(json.dumps(settings))
    with pytest.raises(SystemExit):
        call(folder)


def test_the_steps_get_what_people_are_given(tmp_path, videos):
    settings = parse(
        ["--run", str(tmp_path / "mine"), "--data", str(videos), "--test-labels", "t.pkl"]
        + ["--test-data", "test", "--train", "--steps 40", "--seed", "3"]
    )
    words = cycles_people.Loop(settings, Run(tmp_path / "mine")).arguments(1)
    parsed = {name: cycles_step.step(name).parse(argv) for name, argv in words.items()}
    assert parsed["train"].model == "laptop" and parsed["train"].optimizer.steps == 40
    assert parsed["select"].rule.method == "claus-entropy"
    assert parsed["evaluate"].labels.endswith("/t.pkl") and parsed["evaluate"].data.endswith(
        "test"
    )
    assert parsed["propose"].propose and not parsed["extract"].propose
    assert parsed["extract"].seed == parsed["train"].seed == parsed["select"].seed == 3


def test_the_log_is_not_written_twice_where_the_page_writes_it(tmp_path):
    run = Run(tmp_path)
    with open(run.next_log, "a") as log:
        stdout, os_out = os.dup(1), None
        try:
            os.dup2(log.fileno(), 1)
            import sys

            os_out = sys.stdout
            sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
            with cycles_people.logged(run):
                print("once")
        finally:
            sys.stdout.close()
            sys.stdout = os_out
            os.dup2(stdout, 1)
            os.close(stdout)
    with cycles_people.logged(run):
        print("and again")
    assert run.next_log.read_text() == "once\nand again\n"


# ------------------------------------------------------------------------ with a network


def test_a_network_proposes_and_looks_again(tmp_path, videos):
    """Everything real, with a tiny training."""
    folder = tmp_path / "mine"
    tiny = "--pretrained none --epochs 1 --steps 2 --bn-batches 1 --no-validation"
    small = ["--model", "small", "--device", "cpu", "--train", tiny, "--extract", "--passes 1"]
    begin(folder, videos, *small, *SHARE)
    label(folder, 0)
    assert call(folder, "--device", "cpu") == 0
    cycle, following = Cycle.of(folder, 0), Cycle.of(folder, 1)
    proposed = json.loads(cycle.proposals.read_text())
    request = read_form(following.request)
    asked = {entry["video"]: entry["frames"] for entry in request["videos"]}
    assert set(proposed) == set(asked)
    for name, frames in asked.items():
        assert sorted(map(int, proposed[name])) == [frame["frame"] for frame in frames]
        for actors in proposed[name].values():
            for actor in actors:
                x0, y0, x1, y1 = actor["box"]
                assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48
                assert actor["class"] in ("run", "wave") and 0 <= actor["score"] <= 1
    labeled = annotation_file.load(cycle.annotations).labeled()
    places = {
        (video.name, frame) for video in labeled for frame in video.labeled_frames.tolist()
    }
    for row in json.loads(cycle.review.read_text()):
        assert (row["video"], row["frame"]) in places and row["why"]
    label(folder, 1)
    assert call(folder, "--device", "cpu") == 0
    curve = json.loads(Run(folder).learning_curve.read_text())
    assert [point["cycle"] for point in curve["points"]] == [0]
