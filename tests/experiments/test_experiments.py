"""Experiments: the grids, the scheduler over processes that stop or fail, and the tidy
table.
"""

import argparse
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import Uncertainty, save_uncertainty
from claus.artifacts.selection_file import save_selection
from claus.datasets import toy
from claus.experiments import commands, progress
from claus.experiments import run as experiments
from claus.experiments import runner as experiment_runs
from claus.experiments import table as experiment_table
from claus.experiments.grids import ABOUT, ARMS, METHODS, cells_of
from claus.utils.runtime import TEMPORARY, UserError

ROOT = Path(__file__).resolve().parents[2]

# Stands for run_cycles.py and cluster_extract.py: leaves what they leave, in no time. FAIL
# and SLEEP in its folder's name's settings are played by the environment.
STUB = '''
import argparse, json, os, sys, time
from pathlib import Path
parser = argparse.ArgumentParser()
for flag in ("--run", "--schedule", "--start-from", "--train", "--select", "--seed", "--cycles"):
    parser.add_argument(flag, default="")
args, _ = parser.parse_known_args()
run = Path(args.run)
print("working on", run.name, flush=True)
with open(run.parent / "calls.txt", "a") as file:
    file.write(f"{Path(sys.argv[0]).name} {run.name} {time.time()}\\n")
if os.environ.get("FAIL") and os.environ["FAIL"] in args.select:
    sys.exit("run_cycles.py: the disk is full")
if args.start_from and not (Path(args.start_from) / "cycle0" / "features.pkl").exists():
    sys.exit("the start is not finished")
time.sleep(float(os.environ.get("NAP", 0)))
if Path(sys.argv[0]).name == "cluster_extract.py":
    (run / "cycle0" / "features.pkl").write_text("x")
    sys.exit()
rows = ["cycle,videos,frames,boxes,% of frames,cost,f-mAP@.5,act frame-mAP@.5,minutes"]
for cycle, step in enumerate(args.schedule.split(",")):
    folder = run / f"cycle{cycle}"
    folder.mkdir(parents=True, exist_ok=True)
    scores = {"thresholds": [0.0, 0.1, 0.2, 0.3, 0.5], "v_map": [1, 0.9, 0.8, 0.7, 0.5]}
    if not (folder / "evaluation.json").exists():
        (folder / "evaluation.json").write_text(json.dumps({"capsule": scores}))
        with open(run.parent / "made.txt", "a") as file:
            file.write(f"{run.name} {cycle}\\n")
    shared = args.start_from and cycle == 0
    (folder / "seconds.json").unlink(missing_ok=True)
    (folder / "seconds.json").write_text(json.dumps({"train": 960.0 if shared else 60.0, "evaluate": 1.5}))
    rows.append(f"{cycle},{4 + cycle},{12 + cycle},{12},{step.split('/')[0]},{16 + cycle},{50 + cycle}.5,,1.0")
for name, text in (("results.csv", "\\n".join(rows) + "\\n"), ("run.json", "{}")):
    (run / name).unlink(missing_ok=True)            # as the scripts do: a new file in the old one's place
    (run / name).write_text(text)
'''


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Scripts that only pretend, in place of the real ones -> the folder for the cells."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("run_cycles.py", "cluster_extract.py"):
        (scripts / name).write_text(STUB)
    for name in ("pyannot.pkl", "list.txt"):
        (tmp_path / name).touch()
    (tmp_path / "videos" / "toy").mkdir(parents=True)
    monkeypatch.setattr(experiment_runs, "ROOT", scripts)
    return tmp_path / "cells"


def flags(cells, *more):
    beside = cells.parent
    return [
        "--oracle",
        f"{beside}/pyannot.pkl",
        "--test-list",
        f"{beside}/list.txt",
        "--data",
        f"{beside}/videos/toy",
        "--model",
        "small",
        "--files",
        str(cells),
        "--seeds",
        "0",
        *more,
    ]


def rows_in(cells):
    with open(cells / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def calls(cells):
    return [line.split()[:2] for line in (cells / "calls.txt").read_text().splitlines()]


# ------------------------------------------------------------------------------------ grids


def test_table2_has_every_rule_once_a_seed():
    cells = cells_of("table2", [3, 4], "ucf101", "small")
    assert [(cell.method, cell.seed) for cell in cells] == [
        (m, s) for s in (3, 4) for m in METHODS
    ]
    assert all(cell.loss == "stew" and cell.schedule == "0.25/5,1/20,5/80" for cell in cells)


def test_the_curve_has_the_papers_budgets():
    (cell,) = cells_of("table1", [0], "jhmdb", "full")
    assert (
        cell.steps[0] == ("0.15", "5")
        and cell.steps[-2:] == [("5.4", "80"), ("90", "90")]
        and len(cell.steps) == 10
    )


def test_what_an_experiment_varies_reaches_the_flags():
    train = {
        cell.variant: cell.train_flags
        for cell in cells_of("k", [0], "ucf101", "small", values=["2", "7"])
    }
    assert train["K=7"][-2:] == ["--clusters", "7"] and list(train) == ["K=2", "K=7"]
    weights = [
        cell.train_flags[-1]
        for cell in cells_of("lambda", [0], "ucf101", "full", values=["0", "10"])
    ]
    assert weights == ["0", "1e-05"]
    losses = cells_of("fig6", [0], "ucf101", "full")
    assert [cell.loss for cell in losses] == 2 * ["frame", "interp", "stew"]
    assert [cell.train for cell in losses] == 3 * [()] + 3 * [("--dice", "none")]
    ways = {cell.variant: cell.select_flags for cell in cells_of("fig1", [0], "ucf101", "full")}
    assert ways["intra"] == ["--method", "random", "--strategy", "intra"]
    assert ways["hybrid, random choice"] == ["--method", "random"]


def test_more_frames_for_old_videos_adds_no_videos():
    cells = {
        cell.increment: cell.schedule
        for cell in cells_of("fig8", [0], "ucf101", "full", "1/5,2/10")
        if cell.method == "claus"
    }
    assert cells == {
        "samples": "1/5,2/10",
        "samples-and-frames": "1/5,2/10",
        "frames": "1/5,2/5",
    }


def test_semi_supervised_cells_train_with_their_method_from_starts_of_their_own(tmp_path):
    args = experiments.parse_args(
        [
            "semi",
            "--oracle",
            "truth",
            "--test-list",
            "list.txt",
            "--model",
            "small",
            "--files",
            str(tmp_path),
            "--seeds",
            "0",
        ]
    )
    cells = {cell.variant: cell for cell in cells_of("semi", [0], "ucf101", "small")}
    tasks = experiment_runs.tasks_of(cells.values(), experiments.setup_of(args))[1]
    command = {name: tasks[cell].commands[0] for name, cell in cells.items()}
    method = {name: words[words.index("--semi") + 1] for name, words in command.items()}
    assert method["supervised"] == method["claus, supervised"] == "supervised"
    assert (
        method["consistency, both masks"] == "consistency" and method["mixmatch"] == "mixmatch"
    )
    (both,) = (
        word for word in command["consistency, both masks"] if word.startswith("--train=")
    )
    assert "--bv --gv" in both and "--bv" not in " ".join(command["mixmatch"])
    starts = {name: tasks[cell].needs for name, cell in cells.items()}
    assert (
        starts["supervised"]
        == starts["claus, supervised"]
        != starts["mixmatch"]
        == starts["claus, mixmatch"]
    )
    assert {cell.method for name, cell in cells.items() if name.startswith("claus, ")} == {
        "claus"
    }
    assert {name for name in cells if f"claus, {name}" not in cells} == {
        n for n in cells if n.startswith("claus, ")
    }


def test_the_primary_pair_has_twenty_seeds_the_other_arms_five_seed_by_seed():
    cells = cells_of("step", None, "jhmdb", "small")
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    of_seed = [[c.variant for c in cells if c.seed == seed] for seed in range(21)]
    assert of_seed[:5] == 5 * [list(ARMS)] and len(ARMS) == 11
    assert of_seed[5:] == 15 * [["random", "claus"]] + [[]]
    assert {cell.schedule for cell in cells} == {"0.5/10,3/33"}
    fresh = cells_of("step", [100], "jhmdb", "small")
    assert [cell.variant for cell in fresh] == list(ARMS)  # seeds of one's own: all arms


def test_videos_and_frames_of_an_arm_come_from_different_rules():
    flags = {cell.variant: cell.select_flags for cell in cells_of("step", [0], "jhmdb", "full")}
    mixed = flags["random videos, claus frames"]
    assert mixed == ["--video-rule", "random", "--frame-rule", "claus"]
    assert flags["k-means"] == ["--method", "k-means"]


def test_an_arm_starts_after_its_seed_s_start_and_before_the_next_seed(tmp_path):
    planned = tasks(cells_of("step", [0, 1], "jhmdb", "small"), tmp_path)
    seeds = [task.settings["seed"] for task in planned]
    assert seeds == sorted(seeds) and len(planned) == 2 * 12
    assert [task.needs is None for task in planned] == 2 * ([True] + 11 * [False])
    assert len({task.needs for task in planned[1:12]}) == 1


def test_spread_has_the_same_number_of_frames_in_fewer_and_fewer_videos(tmp_path):
    cells = cells_of("spread", None, "jhmdb", "small")
    assert len(cells) == 9 * 5
    budgets = {}
    for cell in cells[:9]:
        videos, frames = (int(cell.select[at]) for at in (1, 3))
        budgets.setdefault(frames, []).append((videos, cell.loss))
    stew = {66: [66, 22, 11], 660: [660, 220, 66]}
    assert budgets == {
        66: [(videos, "stew") for videos in stew[66]],
        660: [(v, loss) for loss in ("stew", "frame") for v in stew[660]],
    }
    planned = tasks(cells[:9], tmp_path)
    assert len(planned) == 9 and all(task.needs is None for task in planned)
    (command,) = planned[0].commands
    assert "--schedule" not in command and command[command.index("--cycles") + 1] == "1"
    with pytest.raises(UserError, match="22 is no number of videos x frames"):
        cells_of("spread", None, "jhmdb", "small", values=["22"])


def test_seeds_may_be_a_range():
    assert experiments.read_seeds("3,100-102,3") == [3, 100, 101, 102]
    for wrong in ("5-3", "a", "1,", "-2"):
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            experiments.read_seeds(wrong)


def test_the_network_of_a_laptop_is_the_default_once_there_is_one(monkeypatch):
    monkeypatch.setattr("claus.models.BACKBONES", {"full": 1})
    assert experiments.usual_model() == "full"
    monkeypatch.setattr("claus.models.BACKBONES", {"full": 1, "laptop": 2})
    assert experiments.usual_model() == "laptop"


def test_passes_end_with_a_second_draw_of_the_most():
    cells = cells_of("r", [0], "ucf101", "small", values=["5", "1"])
    assert [cell.variant for cell in cells] == ["R=1", "R=5", "R=5, other passes"]
    with pytest.raises(UserError, match="1 or more for R"):
        cells_of("r", [0], "ucf101", "small", values=["0"])


def test_every_name_makes_cells():
    for name in ABOUT:
        assert cells_of(name, [0], "jhmdb", "full"), name


def tasks(cells, tmp_path, *more):
    args = experiments.parse_args(["table2", *flags(tmp_path, *more)])
    return experiment_runs.tasks_of(cells, experiments.setup_of(args))[0]


def test_cells_of_a_seed_share_the_start_unless_they_train_differently(tmp_path):
    rules = tasks(cells_of("table2", [0, 1], "ucf101", "small"), tmp_path)
    assert sum(task.needs is None for task in rules) == 2
    assert len(rules) == 2 + 2 * len(METHODS)
    losses = tasks(cells_of("fig6", [0], "ucf101", "small"), tmp_path)
    assert sum(task.needs is None for task in losses) == 6
    both = tasks(
        [
            *cells_of("table2", [0], "ucf101", "small"),
            *cells_of("fig6", [0], "ucf101", "small"),
        ],
        tmp_path,
    )
    assert (
        len(both) == 1 + len(METHODS) + 5 * 2
    )  # claus with stew is one run of both, and so is its start


def test_other_settings_get_another_folder_and_other_jobs_do_not(tmp_path):
    cells = cells_of("full", [0], "ucf101", "small")
    one, same, other = (
        tasks(cells, tmp_path, *more)[0].folder
        for more in ([], ["--jobs", "3", "--device", "cpu"], ["--steps", "7"])
    )
    assert one == same != other


def test_commands_carry_the_flags_that_were_passed_through(tmp_path):
    start, run = tasks(
        cells_of("fig5", [4], "ucf101", "small"),
        tmp_path,
        "--steps",
        "12",
        "--train",
        "--lr 0.01",
        "--evaluate=--protocol capsule",
    )[:2]
    command = run.commands[0]
    given = {
        name: shlex.split(
            next(word for word in command if word.startswith(f"--{name}="))[len(name) + 3 :]
        )
        for name in ("train", "select", "evaluate")
    }
    assert given["train"] == [
        "--model",
        "small",
        "--steps",
        "12",
        "--epochs",
        "6",
        "--lr",
        "0.01",
        "--pseudo-label-loss",
        "stew",
    ]
    assert given["select"] == ["--method", "claus"] and given["evaluate"] == [
        "--protocol",
        "capsule",
    ]
    assert command[command.index("--start-from") + 1] == str(start.folder)
    assert start.commands[0][start.commands[0].index("--schedule") + 1] == "0.25/5"


# ---------------------------------------------------------------------------------- running


def test_a_grid_runs_once_and_fills_the_table(stubs, capsys):
    few = ["--only", "with*,frame,interp,stew"]
    assert experiments.main(["fig5", "fig6", *few, *flags(stubs, "--jobs", "3")]) == 0
    rows = rows_in(stubs)
    page = (stubs / "results_seeds.md").read_text()
    assert page.startswith("5 of 5 cells are in.") and "| fig6 | stew | 1 | 1 |" in page
    assert len(rows) == 5 * 3 and {row["cycle"] for row in rows} == {"0", "1", "2"}
    row = next(
        row for row in rows if row["variant"] == "without clusters" and row["cycle"] == "1"
    )
    assert (row["experiment"], row["method"], row["loss"], row["seed"]) == (
        "fig5",
        "claus-no-clusters",
        "stew",
        "0",
    )
    assert (row["videos"], row["frames"], row["percent_of_frames"], row["cost"]) == (
        "5",
        "13",
        "1",
        "17",
    )
    assert (row["capsule f-mAP@.5"], row["act frame-mAP@.5"], row["capsule v-mAP@.2"]) == (
        "51.5",
        "",
        "80.0",
    )
    assert (row["seconds"], row["dataset"], row["model"], row["steps"]) == (
        "61.5",
        "toy",
        "small",
        "300",
    )
    made = calls(stubs)
    assert len(made) == 3 * 2 + 4  # three starts of two commands; claus with stew once
    starts = [name for _, name in made if name.startswith("start-stew")]
    assert len(starts) == 2
    before = (stubs / "results.csv").read_bytes()
    assert experiments.main(["fig5", "fig6", *few, *flags(stubs)]) == 0
    assert calls(stubs) == made and (stubs / "results.csv").read_bytes() == before
    assert "nothing is left to run" in capsys.readouterr().out


def test_how_many_seeds_are_in_counts_what_is_planned_and_what_the_table_has_besides():
    cells = cells_of("fig5", [0, 1], "ucf101", "small")
    row = {"experiment": "fig5", "variant": "with clusters", "seed": "1"}
    besides = {"experiment": "step", "variant": "claus", "seed": "7"}
    page = progress.page([row, row, besides], cells)  # two cycles of one cell
    assert page.splitlines() == [
        "2 of 5 cells are in.",
        "",
        "| experiment | variant | seeds in | of |",
        "|---|---|---|---|",
        "| fig5 | with clusters | 1 | 2 |",
        "| fig5 | without clusters | 0 | 2 |",
        "| step | claus | 1 | 1 |",
    ]


def test_a_process_gets_the_threads_it_was_told(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(experiment_runs.Process, "next", lambda self: None)
    task = experiment_runs.Task(tmp_path, [], {})
    threads = [
        experiment_runs.Process(task, None, "", 1, given).environment["OMP_NUM_THREADS"]
        for given in (None, 2)
    ]
    assert threads == ["7", "2"]


def test_a_longer_schedule_goes_on_from_what_is_finished(stubs, capsys):
    schedule = "0.25/5,1/20,5/80"
    assert (
        experiments.main(
            ["fig5", "fig6", "--only", "with*,stew", "--schedule", schedule, *flags(stubs)]
        )
        == 0
    )
    shorter = rows_in(stubs)
    made = (stubs / "made.txt").read_text().splitlines()
    for run in {
        Path(row["run"]) for row in shorter
    }:  # neither what a run adds to, nor gigabytes of frames
        (run / "frame_counts.jsonl").touch()
        (run / "cache").mkdir()
        (run / "cache" / "frames.npy").touch()
    longer = ["fig5", "--schedule", f"{schedule},10/90,90/90", *flags(stubs)]
    assert experiments.main([*longer, "--dry-run"]) == 0
    assert (
        "about 4.1 minutes left" in capsys.readouterr().out
    )  # two cells, two trainings of 61.5 s each
    assert experiments.main(longer) == 0
    rows, added = rows_in(stubs), (stubs / "made.txt").read_text().splitlines()[len(made) :]
    assert len(added) == 4 and {line.split()[1] for line in added} == {"3", "4"}
    one, same = (
        [row for row in table if row["experiment"] == "fig6"] for table in (rows, shorter)
    )
    assert one == same
    runs = {row["run"] for row in rows if row["experiment"] == "fig5"}
    assert len(runs) == 2 and len(rows) == 2 * 5 + 3
    for run in map(Path, runs):
        record = json.loads((run / "cell.json").read_text())
        assert record["goes_on_from"] in {row["run"] for row in shorter} and record["finished"]
        before = Path(record["goes_on_from"])
        assert not (run / "frame_counts.jsonl").exists() and not (run / "cache").exists()
        assert (before / "cycle1" / "evaluation.json").samefile(
            run / "cycle1" / "evaluation.json"
        )
        assert (
            len((before / "results.csv").read_text().splitlines()) == 4
            and not (before / "cycle3").exists()
        )
        assert (
            (before / "log.txt").read_text().count("$")
            == (run / "log.txt").read_text().count("$")
            == 1
        )
    made = (stubs / "made.txt").read_text()
    other = ["fig5", "--schedule", "0.25/5,2/20,5/80", *flags(stubs)]  # not the same beginning
    assert (
        experiments.main(other) == 0
        and (stubs / "made.txt").read_text().count("\n") == made.count("\n") + 2 * 3
    )


def test_taking_over_a_shorter_run_can_be_interrupted(stubs, monkeypatch):
    schedule = "0.25/5,1/20,5/80"
    assert (
        experiments.main(["fig5", "--only", "with *", "--schedule", schedule, *flags(stubs)])
        == 0
    )
    taken, link = [], experiment_runs.link_or_copy

    def stop_at_the_third(source, target):
        taken.append(target)
        if len(taken) == 3:
            raise KeyboardInterrupt
        link(source, target)

    longer = ["fig5", "--only", "with *", "--schedule", f"{schedule},90/90", *flags(stubs)]
    monkeypatch.setattr(experiment_runs, "link_or_copy", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        experiments.main(longer)
    assert [path.name for path in stubs.glob("claus-*/run.json")] == [
        "run.json"
    ]  # the shorter one's
    made = (stubs / "made.txt").read_text().splitlines()
    monkeypatch.setattr(experiment_runs, "link_or_copy", link)
    assert experiments.main(longer) == 0
    assert (
        len((stubs / "made.txt").read_text().splitlines()) == len(made) + 1
        and len(rows_in(stubs)) == 4
    )


def test_a_failed_cell_is_named_and_the_others_go_on(stubs, monkeypatch, capsys):
    monkeypatch.setenv("FAIL", "equidistant")
    assert experiments.main(["table2", *flags(stubs, "--jobs", "2")]) == 1
    said = capsys.readouterr().err
    assert "failed" in said and "the disk is full" in said and "log.txt" in said
    assert {row["variant"] for row in rows_in(stubs)} == set(METHODS) - {"equidistant"}
    monkeypatch.delenv("FAIL")
    assert experiments.main(["table2", *flags(stubs)]) == 0
    assert {row["variant"] for row in rows_in(stubs)} == set(METHODS)


def test_cells_whose_start_failed_are_not_tried(stubs, monkeypatch, capsys):
    (experiment_runs.ROOT / "cluster_extract.py").write_text(
        "import sys; sys.exit('no such video')"
    )
    assert experiments.main(["fig5", *flags(stubs)]) == 1
    said = capsys.readouterr().err
    assert said.count("its start") == 2 and "no such video" in said


def test_killed_in_the_middle_goes_on_and_doubles_nothing(stubs, monkeypatch):
    code = (
        "import sys; from pathlib import Path; "
        "from claus.experiments import run as experiments, runner as experiment_runs\n"
        f"experiment_runs.ROOT = Path({str(experiment_runs.ROOT)!r})\n"
        "experiments.check_commands = lambda *_: None       # it imports torch, and "
        "the clock is running\n"
        f"experiments.main({['fig5', *flags(stubs, '--jobs', '2')]!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"NAP": "1.5"},
    )
    for _ in range(6000):  # kill -9 while both rules are under way
        if (stubs / "calls.txt").exists() and len(calls(stubs)) == 4:
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    began = time.time()
    assert experiments.main(["fig5", *flags(stubs, "--jobs", "2")]) == 0
    assert len(rows_in(stubs)) == 6
    lines = [line.split() for line in (stubs / "calls.txt").read_text().splitlines()]
    again = [line for line in lines if float(line[2]) > began]
    assert len(again) == 2 and len(lines) == 6  # the start was kept, each rule was run again
    for _, name, at in again:  # … after the orphan of the killed command had ended
        first = next(float(line[2]) for line in lines if line[1] == name)
        assert float(at) - first > 1.4


def test_a_stop_ends_the_processes_it_started(stubs, monkeypatch):
    monkeypatch.setenv("NAP", "60")

    def stop(_):
        if (stubs / "calls.txt").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(
        experiment_runs,
        "time",
        SimpleNamespace(sleep=stop, strftime=time.strftime, perf_counter=time.perf_counter),
    )
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        experiments.main(["fig5", *flags(stubs)])
    assert time.perf_counter() - began < 15
    folder = next(stubs.glob("start-*"))
    descriptor = experiment_runs.locked(folder)  # its process is gone, and so is its lock
    assert descriptor is not None
    os.close(descriptor)


def test_dry_run_says_what_and_how_long_and_touches_nothing(stubs, capsys):
    assert experiments.main(["fig5", *flags(stubs), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert not stubs.exists() and "no estimate" in said and said.count("run_cycles.py") == 3
    experiments.main(["fig5", *flags(stubs)])
    capsys.readouterr()
    assert (
        experiments.main(["fig5", *flags(stubs, "--seeds", "0,1", "--jobs", "2"), "--dry-run"])
        == 0
    )
    said = capsys.readouterr().out  # a start, two rules of two cycles, 61.5 s each, two at once
    assert (
        "3 of 6 runs are finished; about 2.6 minutes left with 2 at once, by 3 finished runs"
        in said
    )


def test_dry_run_prints_the_commands_as_they_are_run(stubs, capsys):
    experiments.main(["fig5", *flags(stubs, "--device", "cpu"), "--dry-run"])
    planned = [
        line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("    ")
    ]
    experiments.main(["fig5", *flags(stubs, "--device", "cpu")])
    run = [
        line[2:]
        for log in stubs.glob("*/log.txt")
        for line in log.read_text().splitlines()
        if line[:2] == "$ "
    ]
    assert (
        len(planned) == 4
        and sorted(planned) == sorted(run)
        and all(line.endswith("--device cpu") for line in run)
    )


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--train", "--learning-rat 1"], "unrecognized arguments: --learning-rat 1"),
        (["--extract", "--passes x"], "--passes: invalid"),
        (["--device", "gpu"], "'gpu' is not a device"),
        (
            ["--evaluate=--protocol capsule --link gaps"],
            "--link has no effect in --protocol capsule",
        ),
        (["--select=--sigma 1 --damping none"], "--sigma is the width of a damping"),
        (["--device", "cpu,gpu"], "'gpu' is not a device"),
    ],
)
def test_flags_of_the_steps_are_checked_before_any_work(stubs, dry, more, said):
    with pytest.raises(UserError) as error:
        experiments.main(["fig5", "--only", "with clusters", *flags(stubs, *more), *dry])
    line = str(error.value)
    assert (
        said in line
        and "cannot run" in line
        and "-stew-s0-" in line
        and "\n" not in line
        and not stubs.exists()
    )


@pytest.mark.parametrize(
    "step, given, mend",
    [
        ("select", "--method random", "leave it out"),
        ("select", "--sigma 2 --strat=inter", "leave it out"),
        ("select", "--video-rule core-set", "leave it out"),
        ("select", "--sigma 2 --frame-rule=random", "leave it out"),
        ("select", "--schedule 1/2", "give --schedule to experiments/run.py itself"),
        ("train", "--lr 1 --steps 3", "give it to experiments/run.py"),
        ("train", "--pseudo-label-loss frame", "leave it out"),
        ("extract", "--seed 3", "give --seeds to experiments/run.py"),
    ],
)
def test_what_tells_cells_apart_is_not_given_once_for_all(stubs, capsys, step, given, mend):
    with pytest.raises(SystemExit):
        experiments.main(["fig6", *flags(stubs, f"--{step}", given)])
    said = capsys.readouterr().err
    assert "would be that of every cell" in said and mend in said and not stubs.exists()


def test_names_may_stand_among_the_flags(stubs):
    given = flags(stubs)
    assert experiments.parse_args(["fig5", *given, "fig6"]).names == ["fig5", "fig6"]


def test_one_set_of_training_flags_serves_supervised_and_semi_supervised_cells(stubs, capsys):
    experiments.main(
        [
            "table2",
            "semi",
            "full",
            *flags(stubs, "--train", "--encoder-lr 1e-3 --margin-weight 0.03"),
            "--dry-run",
        ]
    )
    assert "semi: stable-mean-teacher; seed 0" in capsys.readouterr().out


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("flag", "kind"), [("--data", "folder"), ("--oracle", "file"), ("--test-list", "file")]
)
def test_data_that_are_not_there_are_named_before_any_work(stubs, dry, flag, kind):
    with pytest.raises(
        UserError, match=f"there is no {kind} {stubs}/no; give {flag}, the {kind} with"
    ):
        experiments.main(["fig5", *flags(stubs, flag, f"{stubs}/no"), *dry])
    assert not stubs.exists()


def test_masks_are_in_a_folder_boxes_in_a_file(stubs):
    with pytest.raises(UserError, match="there is no folder .*pyannot.pkl; give --oracle"):
        experiments.main(["fig5", "--dataset", "jhmdb", *flags(stubs), "--dry-run"])
    with pytest.raises(UserError, match="there is no file .*toy; give --oracle"):
        experiments.main(
            ["fig5", *flags(stubs, "--oracle", f"{stubs.parent}/videos/toy"), "--dry-run"]
        )


def test_finished_cells_need_neither_data_nor_todays_flags(stubs):
    assert experiments.main(["full", *flags(stubs)]) == 0
    before = (stubs / "results.csv").read_bytes()
    (stubs / "results.csv").unlink()
    (stubs.parent / "pyannot.pkl").unlink()
    assert (
        experiments.main(["full", *flags(stubs)]) == 0
        and (stubs / "results.csv").read_bytes() == before
    )


def test_what_another_command_is_writing_beside_it_stays(stubs):
    table = stubs.parent / "tables"
    writing = [folder / f".results.csv.abcd1234{TEMPORARY}" for folder in (stubs, table)]
    for file in writing:
        file.parent.mkdir()
        file.touch()
    assert experiments.main(["full", *flags(stubs, "--csv", str(table / "results.csv"))]) == 0
    assert all(file.exists() for file in writing)


def test_a_record_that_cannot_be_read_is_named(stubs):
    experiments.main(["full", *flags(stubs)])
    path = next(stubs.glob("random-stew-*/cell.json"))
    path.write_text("[")
    with pytest.raises(
        UserError, match=f"{path}: not JSON, or a damaged file .*; remove it, finished parts"
    ):
        experiments.main(["full", *flags(stubs)])


def test_bad_input_is_one_line(stubs, tmp_path):
    for more in (
        ["nonsense"],
        ["fig5", "--values", "3"],
        ["fig5", "--seeds", "a"],
        ["k", "--train", "'"],
    ):
        with pytest.raises(SystemExit):
            experiments.parse_args([more[0], *flags(stubs), *more[1:]])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="other.csv is not a table of experiments/run.py"):
        experiments.main(["fig5", *flags(stubs), "--csv", str(tmp_path / "other.csv")])
    with pytest.raises(UserError, match="leaves no cell"):
        experiments.main(["fig5", *flags(stubs), "--only", "nothing"])
    assert not (stubs / "calls.txt").exists()


def test_only_takes_whole_names_and_stars(stubs, capsys):
    several = ["random", "claus-no-clusters", "claus-entropy", "claus"]
    for only, cells in (("claus", ["claus"]), ("claus*,random", several)):
        experiments.main(["table2", *flags(stubs), "--only", only, "--dry-run"])
        said = [line for line in capsys.readouterr().out.splitlines() if "table2: " in line]
        assert [line.partition("table2: ")[2].partition(";")[0] for line in said] == cells


# ------------------------------------------------------------------------------------ table


def row(**more):
    base = dict.fromkeys(experiment_table.WHAT, "x") | {"seed": 0, "cycle": 0, "run": "a"}
    return base | more


def test_merging_replaces_the_rows_of_a_cell_and_keeps_the_rest(tmp_path):
    path = tmp_path / "t.csv"
    experiment_table.merge(path, [row(variant="one", frames=1), row(variant="two", frames=2)])
    experiment_table.merge(path, [row(variant="one", frames=3, **{"capsule accuracy": 40})])
    kept = experiment_table.read(path)
    assert [(r["variant"], r["frames"], r["capsule accuracy"]) for r in kept] == [
        ("one", "3", "40"),
        ("two", "2", ""),
    ]
    assert list(kept[0])[-2:] == ["seconds", "run"]


def test_rows_stand_in_the_order_of_the_grid_whatever_finished_first(tmp_path):
    path = tmp_path / "t.csv"
    for experiment, variant, seed, cycle in (
        ("k", "K=10", 0, 0),
        ("table2", "claus", 0, 1),
        ("k", "K=2", 0, 0),
        ("table2", "claus", 0, 0),
        ("table2", "random", 1, 0),
        ("table2", "random", 0, 0),
    ):
        new = row(
            experiment=experiment,
            variant=variant,
            seed=seed,
            cycle=cycle,
            run=f"{variant}{seed}{cycle}",
        )
        experiment_table.merge(path, [new])
    assert [r["run"] for r in experiment_table.read(path)] == [
        "random00",
        "random10",
        "claus00",
        "claus01",
        "K=200",
        "K=1000",
    ]


def selection(folder, picks):
    """A run that chose {video: frames} and whose frames scored 0, 1, 2, … times a factor."""
    (folder / "cycle1").mkdir(parents=True)
    videos = [
        {"video": name, "frames": [{"frame": frame} for frame in frames]}
        for name, frames in picks.items()
    ]
    save_selection(
        {
            "run": "x",
            "cycle": 1,
            "prices": {"video": "1", "frame": "1", "box": "0"},
            "spent": {"videos": 2, "frames": 4},
            "videos": videos,
        },
        folder / "cycle1/selection.json",
    )
    scores = np.arange(8, dtype=np.float32)
    (folder / "cycle0").mkdir()
    save_uncertainty(
        Uncertainty("s", {}, ["a"], np.array([0, 8]), *[scores] * 5),
        folder / "cycle0/uncertainty.pkl",
    )


def test_agreement_counts_videos_and_frames(tmp_path):
    selection(tmp_path / "most", {"a": [3, 20], "b": [5, 9]})
    selection(tmp_path / "few", {"a": [3, 22], "c": [5, 9]})
    rows = experiment_table.with_agreement(
        [
            row(variant="R=2", run=str(tmp_path / "few")),
            row(variant="R=20", run=str(tmp_path / "most")),
        ]
    )
    assert [rows[0][name] for name in experiment_table.AGREEMENT] == [50, 25, 50, 1]
    assert [rows[1][name] for name in experiment_table.AGREEMENT] == [100, 100, 100, 1]
    assert experiment_table.rank_correlation(np.arange(4), -np.arange(4)) == -1


def test_record_of_a_cell_says_how_it_was_made(stubs):
    experiments.main(["full", *flags(stubs)])
    record = json.loads(next(stubs.glob("random-stew-*/cell.json")).read_text())
    assert (
        "--schedule 100/100" in record["commands"][0]
        and "--start-from" not in record["commands"][0]
    )
    assert (
        record["finished"] and record["machine"]["python"] and record["settings"]["seed"] == 0
    )


# ------------------------------------------------------------------------- the real scripts


def test_every_command_of_every_experiment_is_understood(tmp_path):
    """By the scripts' own parsers, with all that follows from the flags of the steps."""
    for dataset, truth in (
        ("ucf101", ["--test-list", "list.txt"]),
        ("jhmdb", ["--split", "2"]),
    ):
        args = experiments.parse_args(
            [
                *ABOUT,
                "--dataset",
                dataset,
                "--oracle",
                "truth",
                *truth,
                "--data",
                "videos",
                "--files",
                str(tmp_path),
                "--seeds",
                "0",
                "--train",
                "--lr 0.01",
                "--select",
                "--frame-cost 2",
                "--evaluate=--no-floor",
            ]
        )
        cells = [cell for name in ABOUT for cell in cells_of(name, [0], dataset, "full")]
        for task in experiment_runs.tasks_of(cells, experiments.setup_of(args))[0]:
            for command in task.commands:
                script, *words = command[1:]
                commands.check(script, words)


def test_a_real_cell_goes_on_from_its_start(tmp_path):
    toy.make(tmp_path / "toy", seed=3, train=12, test=6)
    cells = tmp_path / "cells"
    truth = [
        "--oracle",
        str(tmp_path / "toy/pyannot.pkl"),
        "--test-list",
        str(tmp_path / "toy/testlist01.txt"),
    ]
    assert (
        experiments.main(
            [
                "fig5",
                "--only",
                "without*",
                "--seeds",
                "3",
                "--schedule",
                "1/34,3/67",
                "--model",
                "small",
                "--steps",
                "2",
                "--epochs",
                "1",
                "--train",
                "--pretrained none --bn-batches 1",
                "--extract",
                "--passes 2",
                "--evaluate",
                "--protocol capsule --no-floor",
                "--device",
                "cpu",
                "--data",
                str(tmp_path / "toy"),
                "--files",
                str(cells),
                *truth,
            ]
        )
        == 0
    )
    rows = rows_in(cells)
    assert [(row["cycle"], row["videos"], row["seed"]) for row in rows] == [
        ("0", "4", "3"),
        ("1", "8", "3"),
    ]
    assert all(row["capsule f-mAP@.5"] and row["capsule v-mAP@.3"] for row in rows)
    folders = [next(cells.glob("start-*")), Path(rows[0]["run"])]
    assert len({fingerprint(folder / "cycle0/detector.pt") for folder in folders}) == 1
