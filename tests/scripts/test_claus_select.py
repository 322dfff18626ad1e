"""The selection script: pinned choices, hidden truth, people's answers, and everything that
can be wrong.
"""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import make_selection

import claus_select
from claus.artifacts import score_columns
from claus.artifacts import scores as scores_file
from claus.artifacts.cycle import Cycle
from claus.artifacts.scores import (
    FRAME_ARRAYS,
    load_features,
    load_uncertainty,
    save_features,
    save_uncertainty,
)
from claus.artifacts.selection_file import load_selection
from claus.datasets import table
from claus.datasets.labels import annotations as annotation_file
from claus.flags.selection import METHODS
from claus.reference.selection import claus
from claus.selection.rules import RULES
from claus.steps.intake import open_problems
from claus.utils.runtime import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "selection"
BUDGET = make_selection.BUDGET


@pytest.fixture
def run(tmp_path):
    """A run folder in which cycle 0 is labeled and extracted."""
    shutil.copytree(GOLDEN / "cycle0", tmp_path / "run" / "cycle0")
    return tmp_path / "run"


def select(run, cycle, *flags, truth=GOLDEN, budget=BUDGET):
    """Run the script with the simulated annotator."""
    return claus_select.main([*make_selection.command(truth, run, cycle), *budget, *flags])


def ask(run, cycle, *flags):
    """Run the script for people."""
    return claus_select.main(["--run", f"{run}/", "--cycle", str(cycle), *BUDGET, *flags])


def refused(function, *arguments, **named):
    with pytest.raises(UserError) as error:
        function(*arguments, **named)
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


# --------------------------------------------------------------------------- what is chosen


@pytest.mark.parametrize("rule", make_selection.RULES)
def test_the_pinned_selection_is_chosen(run, rule):
    assert select(run, 1, *make_selection.RULES[rule]) == 0
    expected = json.loads((GOLDEN / "expected.json").read_text())[rule]
    picks = make_selection.picks(run / "cycle1" / "selection.json")
    assert list(picks.items()) == list(expected.items())


def test_the_pinned_selection_is_what_the_slow_version_says():
    before = annotation_file.load(GOLDEN / "cycle0" / "annotations.pkl")
    features = load_features(GOLDEN / "cycle0" / "features.pkl")
    scores = load_uncertainty(GOLDEN / "cycle0" / "uncertainty.pkl")
    names = [name for name in features.videos if not before.videos[name].is_labeled]
    frames = [
        scores.paper[scores.offsets[i] : scores.offsets[i + 1]]
        for i in map(features.videos.index, names)
    ]
    slow = claus(
        frames,
        [features.clusters[features.videos.index(name)] for name in names],
        3,
        6,
        15,
        [np.flatnonzero(video == 0).tolist() for video in frames],
    )
    expected = json.loads((GOLDEN / "expected.json").read_text())["paper"]
    assert {names[video]: chosen for video, chosen in slow.items()} == expected


def test_the_random_start_spends_its_budget_and_writes_its_files(tmp_path, capsys):
    assert select(tmp_path / "new", 0) == 0
    folder = tmp_path / "new" / "cycle0"
    assert sorted(contents(folder)) == [
        "annotations.pkl",
        "answers.json",
        "request.json",
        "selection.json",
    ]
    annotations = annotation_file.load(folder / "annotations.pkl")
    assert (
        len(annotations.videos),
        annotations.counts()["videos"],
        annotations.counts()["frames"],
    ) == (20, 6, 15)
    tested = set((GOLDEN / "testlist.txt").read_text().split())
    assert not tested & set(annotations.videos)
    picks = make_selection.picks(folder / "selection.json")
    assert {
        video.name: video.labeled_frames.tolist() for video in annotations.labeled()
    } == picks
    ledger = (tmp_path / "new" / "ledger.csv").read_text().splitlines()
    assert ledger[1].startswith("0,6,15,") and len(ledger) == 2
    assert (
        "picked 6 of 20 candidate videos (budget 6), 15 frames (budget 15)"
        in capsys.readouterr().out
    )


def test_a_video_that_could_not_be_read_is_no_candidate_and_is_counted_aloud(run, capsys):
    failed = load_features(run / "cycle0" / "features.pkl").failed
    select(run, 1, budget=["--videos-count", "13", "--frames-count", "20"])
    report = load_selection(run / "cycle1" / "selection.json")
    assert report["candidates"] == 13 and report["set_aside"] == failed
    assert not set(failed) & {row["video"] for row in report["videos"]}
    assert (
        f"skipped: 1 video that could not be read, {next(iter(failed))}: made up"
        in capsys.readouterr().out
    )


def test_the_report_explains_every_video_and_frame(run, capsys):
    select(run, 1, "--video-cost", "2")
    report = load_selection(run / "cycle1" / "selection.json")
    assert report["settings"] == {
        "method": "claus",
        "strategy": "hybrid",
        "increment": "samples",
        "damping": "paper",
        "frame_score": "paper",
        "sigma": 8 / 3,
        "extraction": {"passes": 10},
    }
    assert report["spent"] == {"videos": 6, "frames": 15} and report["shortfall"] == {
        "videos": 0,
        "frames": 0,
    }
    assert report["prices"] == {"video": "2", "frame": "1", "box": "0"}
    rows = {row["cluster"]: row for row in report["clusters"]}
    for row in report["videos"]:
        cluster = rows[row["cluster"]]
        assert row["reason"] == (
            f"cluster {row['cluster']}: rank {row['rank']} of {cluster['candidates']}, quota "
            f"{cluster['quota']}; mean uncertainty {row['score']:.5g}"
        )
        assert 1 <= row["rank"] <= cluster["quota"] == cluster["picked"]
        first = min(row["frames"], key=lambda frame: frame["choice"])
        assert first["damped_score"] == first["score"], (
            "nothing is near the first frame of an unlabeled video"
        )
        assert all(frame["damped_score"] <= frame["score"] for frame in row["frames"])
        chosen = [
            frame["score"]
            for frame in row["frames"]
            if frame["choice"] <= report["frames_per_video"]
        ]
        assert row["score"] == pytest.approx(np.mean(chosen), rel=1e-6)
    shown = capsys.readouterr().out
    assert "cluster  videos   labeled  candidates  quota  picked" in shown
    assert "all      19         6          13      6       6" in shown
    assert "cost 27; in all 12 videos" in shown


def test_same_pickles_same_bytes(run, tmp_path):
    shutil.copytree(run, tmp_path / "elsewhere" / "run")
    select(run, 1)
    select(tmp_path / "elsewhere" / "run", 1)
    first, second = (
        contents(run / "cycle1"),
        contents(tmp_path / "elsewhere" / "run" / "cycle1"),
    )
    assert sorted(first) == [
        "annotations.pkl",
        "answers.json",
        "clusters.png",
        "request.json",
        "selection.json",
    ]
    assert first == second


def test_the_order_of_videos_in_the_pickles_does_not_matter(run):
    select(run, 1)
    expected = contents(run / "cycle1")
    features = load_features(run / "cycle0" / "features.pkl")
    scores = load_uncertainty(run / "cycle0" / "uncertainty.pkl")
    order = np.random.default_rng(0).permutation(len(features.videos))
    names = [features.videos[i] for i in order]
    frames = np.concatenate(
        [np.arange(scores.offsets[i], scores.offsets[i + 1]) for i in order]
    )
    offsets = np.concatenate([[0], np.cumsum(np.diff(scores.offsets)[order])])
    save_features(
        replace(
            features,
            videos=names,
            latents=features.latents[order],
            clusters=features.clusters[order],
        ),
        run / "cycle0" / "features.pkl",
    )
    arrays = {name: getattr(scores, name)[frames] for name in FRAME_ARRAYS}
    save_uncertainty(
        replace(scores, videos=names, offsets=offsets, **arrays),
        run / "cycle0" / "uncertainty.pkl",
    )
    select(run, 1, "--force")
    assert contents(run / "cycle1") == expected


def test_the_seed_decides_the_random_start_and_only_that(run, tmp_path):
    starts = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        select(tmp_path / name / "run", 0, "--seed", seed)
        starts.append(contents(tmp_path / name / "run" / "cycle0"))
    assert starts[0] == starts[1] and starts[0]["selection.json"] != starts[2]["selection.json"]
    for method in METHODS:
        flags = [] if RULES[method].new_videos else ["--increment", "frames"]
        select(tmp_path / method / "run", 0, "--method", method, *flags)
        assert contents(tmp_path / method / "run" / "cycle0") == starts[0], (
            "every method starts from the same labels"
        )


def test_the_cycle_is_part_of_the_seed(run):
    """The same labels, the same flags, another cycle: other videos are drawn. Which ones,
    numpy says: default_rng([seed, cycle]).
    """
    shutil.copytree(run / "cycle0", run / "cycle1")
    before = annotation_file.load(run / "cycle0" / "annotations.pkl")
    failed = load_features(run / "cycle0" / "features.pkl").failed
    names = [name for name in before.videos if name not in failed]
    left = [place for place, name in enumerate(names) if not before.videos[name].is_labeled]
    drawn = []
    for cycle in (2, 1):
        shutil.rmtree(run / "cycle1") if cycle == 1 else None
        select(run, cycle, "--method", "random", "--seed", "4")
        drawn.append(list(make_selection.picks(run / f"cycle{cycle}" / "selection.json")))
        order = np.random.default_rng([4, cycle]).permutation(left)
        assert drawn[-1] == [names[place] for place in order[:6]]
        shutil.rmtree(run / f"cycle{cycle}")
    assert drawn[0] != drawn[1]


def test_random_goes_on_at_random_and_needs_no_scores(run):
    for name in ("features.pkl", "uncertainty.pkl"):
        (run / "cycle0" / name).unlink()
    select(run, 1, "--method", "random")
    after = annotation_file.load(run / "cycle1" / "annotations.pkl")
    assert after.counts()["videos"] == 12 and after.counts()["frames"] == 30
    assert not (run / "cycle1" / "clusters.png").exists()


@pytest.mark.parametrize("cycle", [0, 1])
def test_scrambling_the_hidden_truth_changes_nothing(run, tmp_path, cycle):
    select(run, cycle, "--force") if cycle else select(tmp_path / "run0", 0)
    honest = run / "cycle1" if cycle else tmp_path / "run0" / "cycle0"
    asked = {
        video: set(frames)
        for video, frames in make_selection.picks(honest / "selection.json").items()
    }
    truth = pickle.loads((GOLDEN / "pyannot.pkl").read_bytes())
    for name, video in truth.items():
        for tube in video["annotations"]:
            seen = [frame in asked.get(name, ()) for frame in range(tube["sf"], tube["ef"])]
            tube["boxes"][~np.array(seen)] = (1, 1, 5, 5)
        if name not in asked:
            video["annotations"] = []
    lying = tmp_path / "lying"
    lying.mkdir()
    (lying / "pyannot.pkl").write_bytes(pickle.dumps(truth))
    shutil.copy(GOLDEN / "testlist.txt", lying)
    other = tmp_path / "lied" / honest.parent.name
    if cycle:
        shutil.copytree(run / "cycle0", other / "cycle0")
    select(other, cycle, truth=lying)
    assert contents(other / f"cycle{cycle}") == contents(honest)


# ----------------------------------------------------------------------------------- people


def test_people_are_asked_and_their_answers_taken_in(run, tmp_path, capsys):
    select(run, 1)
    simulated = contents(run / "cycle1")
    shutil.rmtree(run / "cycle1")
    assert ask(run, 1) == 0
    folder = run / "cycle1"
    assert sorted(contents(folder)) == ["clusters.png", "request.json", "selection.json"]
    assert (folder / "request.json").read_bytes() == simulated["request.json"]
    assert f"--answers {folder / 'request.json'}" in capsys.readouterr().out

    (folder / "request.json").write_bytes(simulated["answers.json"])  # filled in where it lies
    assert ask(run, 1) == 0, "asked again, the script waits"
    assert "is waiting for answers" in capsys.readouterr().out
    assert (folder / "request.json").read_bytes() == simulated["answers.json"], (
        "a form being filled in was overwritten"
    )
    assert ask(run, 1, "--answers", str(folder / "request.json")) == 0
    assert (folder / "annotations.pkl").read_bytes() == simulated["annotations.pkl"]
    assert (folder / "answers.json").read_bytes() == simulated["answers.json"]


def test_answers_that_do_not_fit_are_named_and_the_others_taken_in(run, tmp_path, capsys):
    select(run, 1)
    answers = json.loads((run / "cycle1" / "answers.json").read_text())
    path, folder = tmp_path / "filled_in.json", run / "cycle1"

    def told_after(change):
        for name in ("annotations.pkl", "answers.json"):
            (folder / name).unlink(missing_ok=True)
        form = json.loads(json.dumps(answers))
        change(form["videos"])
        path.write_text(json.dumps(form))
        capsys.readouterr()
        assert ask(run, 1, "--answers", str(path)) == 0
        labels = annotation_file.load(folder / "annotations.pkl")
        known = labels.videos[first].labeled_frames.tolist()
        problems = folder / "answers_problems.txt"
        return known, problems.read_text() if problems.exists() else ""

    first = answers["videos"][0]["video"]
    frames = [frame["frame"] for frame in answers["videos"][0]["frames"]]
    assert told_after(lambda videos: videos.pop(0)) == ([], "")
    assert (
        "X/y:\n  - was not requested"
        in told_after(lambda videos: videos.append({**videos[0], "video": "X/y"}))[1]
    )
    known, told = told_after(
        lambda videos: videos[0]["frames"].append({"frame": 3, "score": 0, "actors": []})
    )
    assert known == frames and "frames 3 were not requested: not taken in" in told
    known, told = told_after(lambda videos: videos[0].update({"class": "Jmup"}))
    assert known == [] and "unknown class 'Jmup' (is it Jump?)" in told
    assert open_problems(Cycle.of(f"{run}/", 1)) == 1
    known, told = told_after(lambda videos: videos[0]["frames"][0].update(actors=None))
    assert (known, told) == (frames[1:], "")
    assert "taken in: 14 of 15 frames, 1 not answered" in capsys.readouterr().out


def test_a_second_call_completes_partial_answers(run, tmp_path, capsys):
    select(run, 1)
    folder = run / "cycle1"
    whole = contents(folder)
    answers = json.loads(whole["answers.json"])
    for name in ("annotations.pkl", "answers.json"):
        (folder / name).unlink()
    halves = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, part in zip(halves, (answers["videos"][:3], answers["videos"][3:]), strict=True):
        path.write_text(json.dumps({**answers, "videos": part}))
    for path in halves:
        assert ask(run, 1, "--answers", str(path)) == 0
    assert contents(folder)["annotations.pkl"] == whole["annotations.pkl"]
    assert contents(folder)["answers.json"] == whole["answers.json"]
    shutil.rmtree(folder / "sheets")
    for name in ("annotations.pkl", "answers.json"):
        (folder / name).unlink()
    assert ask(run, 1, "--answers", *map(str, halves)) == 0, "two people, at once"
    assert contents(folder)["annotations.pkl"] == whole["annotations.pkl"]
    assert list((folder / "sheets").glob("sheet_01.png"))
    (folder / "detector.pt").write_bytes(b"trained")
    assert "--correct in place of --answers" in refused(
        ask, run, 1, "--answers", str(halves[0])
    )


def test_answers_before_any_question(run, tmp_path):
    assert "nothing was asked in cycle 1" in refused(ask, run, 1, "--answers", "answers.json")
    ask(run, 1)
    assert "no.json" in refused(ask, run, 1, "--answers", str(tmp_path / "no.json"))


# ---------------------------------------------------------------------- again, and by force


def test_what_is_finished_stays_untouched(run, capsys):
    select(run, 1)
    before = contents(run / "cycle1")
    (run / "ledger.csv").unlink()  # as if killed just before the ledger
    assert select(run, 1, "--sigma", "1") == 0
    assert "cycle 1 is labeled already" in capsys.readouterr().out
    assert contents(run / "cycle1") == before and (run / "ledger.csv").exists()


def test_force_chooses_anew_but_not_below_what_was_built_on_it(run):
    select(run, 1)
    before = contents(run / "cycle1")
    select(run, 1, "--force", "--damping", "none")
    assert contents(run / "cycle1")["selection.json"] != before["selection.json"]
    (run / "cycle1" / "detector.pt").touch()
    kept = contents(run / "cycle1")
    assert "cycle1/detector.pt was made from the labels of cycle 1" in refused(
        select, run, 1, "--force"
    )
    assert contents(run / "cycle1") == kept
    assert "cycle1 was made from the labels of cycle 0" in refused(select, run, 0, "--force")


def test_killed_in_the_middle_the_same_command_goes_on(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(
            annotation_file, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())
        )
        with pytest.raises(KeyboardInterrupt):
            select(run, 1)
    assert not (run / "cycle1" / "annotations.pkl").exists()
    select(run, 1)
    assert (
        make_selection.picks(run / "cycle1" / "selection.json")
        == json.loads((GOLDEN / "expected.json").read_text())["paper"]
    )


# -------------------------------------------------------------------------------- bad input


def test_a_budget_beyond_what_is_left(run):
    budget = ["--videos-count", "14", "--frames-count", "20"]
    assert "asks for 14 videos, but only 13 videos are left" in refused(
        select, run, 1, budget=budget
    )
    assert not contents(run / "cycle1")
    select(run, 1, "--take-rest", budget=budget)
    report = load_selection(run / "cycle1" / "selection.json")
    assert report["spent"] == {"videos": 13, "frames": 20} and report["shortfall"] == {
        "videos": 1,
        "frames": 0,
    }
    assert report["notes"] == ["the budget asks for 14 videos, only 13 left: all taken"]


def test_nothing_left(run):
    select(run, 1, budget=["--videos-count", "13", "--frames-count", "20"])
    for name in ("features.pkl", "uncertainty.pkl"):
        shutil.copy(run / "cycle0" / name, run / "cycle1")
    assert "nothing is left" in refused(select, run, 2, "--take-rest")


@pytest.mark.parametrize(
    "budget, named",
    [
        (["--videos", "0%"], "videos: a percentage must be above 0"),
        (["--videos-percent", "2"], "2% of 20 videos makes 0 videos"),
        (["--frames", "101%"], "frames: a percentage must be above 0 and at most 100"),
        (["--videos", "1", "--frames", "0"], "frames: 0 makes 0 frames"),
        (
            ["--videos-count", "1", "--frames-count", "2", "--box-cost", "-2"],
            "box price must not be negative",
        ),
        (
            ["--videos-count", "1", "--frames-count", "2", "--sigma", "0"],
            "sigma must be above 0",
        ),
    ],
)
def test_impossible_settings(run, budget, named):
    assert named in refused(select, run, 1, budget=budget)
    assert not contents(run / "cycle1")


def spoil(run, which, **changes):
    path = run / "cycle0" / f"{which}.pkl"
    load, save = getattr(scores_file, f"load_{which}"), getattr(scores_file, f"save_{which}")
    save(replace(load(path), **changes), path)


def test_files_that_do_not_belong_together_are_named_with_the_command_that_mends_it(run):
    features = load_features(run / "cycle0" / "features.pkl")
    paths = {
        name: str(run / "cycle0" / f"{name}.pkl")
        for name in ("features", "uncertainty", "annotations")
    }

    def check(*named):
        message = refused(select, run, 1)
        assert all(text in message for text in (*named, "cluster_extract.py")), message
        assert not contents(run / "cycle1")
        shutil.copytree(GOLDEN / "cycle0", run / "cycle0", dirs_exist_ok=True)

    spoil(run, "features", source="another checkpoint")
    check(paths["features"], paths["uncertainty"], "different checkpoints")
    spoil(run, "features", videos=["Jump/other", *features.videos[1:]])
    check(paths["features"], paths["uncertainty"], "do not list the same videos")
    for which in ("features", "uncertainty"):
        spoil(run, which, videos=["Jump/other", *features.videos[1:]])
    check(
        paths["features"],
        paths["annotations"],
        f"lacks 1 videos of {paths['annotations']}, the first Jump/",
    )
    failed = {
        name: ""
        for name in annotation_file.load(paths["annotations"]).videos
        if name not in features.videos
    }
    spoil(
        run,
        "features",
        videos=["Jump/other", *features.videos[1:]],
        failed={**failed, features.videos[0]: ""},
    )
    spoil(run, "uncertainty", videos=["Jump/other", *features.videos[1:]])
    check(paths["features"], "has 1 videos that", paths["annotations"], "Jump/other")
    offsets = load_uncertainty(paths["uncertainty"]).offsets.copy()
    offsets[1] -= 1
    spoil(run, "uncertainty", offsets=offsets)
    check(paths["uncertainty"], paths["annotations"], features.videos[0])
    Path(paths["uncertainty"]).unlink()
    check(paths["uncertainty"], "is missing")


def test_a_missing_cycle_before(tmp_path):
    assert "cycle0/annotations.pkl is missing" in refused(select, tmp_path / "new", 1)


def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(
        table, "read_ground_truth", lambda *_, **__: pytest.fail("worked before looking")
    )
    assert "cannot write in" in refused(select, tmp_path / "file" / "run", 0)


def test_without_a_test_list_the_pool_is_everything_and_it_says_so(tmp_path, capsys):
    claus_select.main(
        [
            "--run",
            f"{tmp_path}/r",
            "--cycle",
            "0",
            "--oracle",
            str(GOLDEN / "pyannot.pkl"),
            *BUDGET,
        ]
    )
    assert len(annotation_file.load(tmp_path / "r" / "cycle0" / "annotations.pkl").videos) == 24
    assert "no --test-list" in capsys.readouterr().out


# --------------------------------------------------------------------------- the real thing


def test_the_command_itself_needs_no_torch_and_fails_in_one_line(run):
    root = Path(__file__).parents[2]
    code = (
        "import sys, claus_select; claus_select.main(sys.argv[1:]); "
        "sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    )
    command = [*make_selection.command(GOLDEN, run, 1), *BUDGET]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code, *command], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    failed = subprocess.run(
        [
            sys.executable,
            root / "claus_select.py",
            *command,
            "--run",
            f"{run}/no/",
            "--cycle",
            "3",
        ],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr.startswith("claus_select.py: ") and failed.stderr.count("\n") == 1


def test_real_ucf101_cycles_spend_exactly_their_budget(shared_data, tmp_path, capsys):
    folder = shared_data / "ucf101_24"
    truth = [
        "--oracle",
        str(folder / "pyannot.pkl"),
        "--test-list",
        str(folder / "testlist01.txt"),
    ]
    run = f"{tmp_path}/run"
    claus_select.main(["--run", run, "--cycle", "0", *truth])
    start = annotation_file.load(tmp_path / "run" / "cycle0" / "annotations.pkl")
    videos = {name: video.frames for name, video in start.videos.items()}
    made = make_selection.extraction(
        videos, np.random.default_rng(0), failed=list(videos)[:2], n_clusters=5
    )
    save_features(made[0], tmp_path / "run" / "cycle0" / "features.pkl")
    save_uncertainty(made[1], tmp_path / "run" / "cycle0" / "uncertainty.pkl")
    claus_select.main(["--run", run, "--cycle", "1", *truth])
    rows = [
        line.split(",") for line in (tmp_path / "run" / "ledger.csv").read_text().splitlines()
    ]
    assert [row[:3] for row in rows[1:]] == [["0", "114", "989"], ["1", "114", "989"]]
    assert [row[4] for row in rows[1:]] == ["1103", "1103"]
    assert rows[2][-1] == f"{100 * 1978 / 395868:.4f}"


# -------------------------------------------------------------------------------- large pools


def large_run(run, monkeypatch):
    """The run as a large pool has it: labels in columns too, scores in columns alone."""
    monkeypatch.setattr(annotation_file, "LARGE", 1)
    cycle = Cycle.of(f"{run}/", 0)
    annotation_file.save(annotation_file.load(cycle.annotations), cycle.annotations)
    features, scores = load_features(cycle.features), load_uncertainty(cycle.uncertainty)
    with score_columns.PoolWriter(cycle.folder, features.latents.shape[1]) as writer:
        for number, name in enumerate(scores.videos):
            frames = slice(scores.offsets[number], scores.offsets[number + 1])
            arrays = {key: getattr(scores, key)[frames] for key in FRAME_ARRAYS}
            latent, cluster = features.latents[number], features.clusters[number]
            writer.add(name, latent, cluster, arrays)
        about = {"source": features.source, "settings": scores.settings}
        cycle.features.unlink()
        cycle.uncertainty.unlink()
        writer.close({**about, "failed": features.failed}, features.centers)


LARGE_RULES = (
    *("claus", "claus-no-clusters", "uncertainty", "entropy", "core-set", "random"),
    *("claus --increment samples-and-frames", "claus --frame-score per-pixel"),
    *("claus --frame-score authors", "random --increment samples-and-frames"),
)


@pytest.mark.parametrize("rule", LARGE_RULES)
def test_a_large_pool_is_chosen_from_as_a_small_one(run, tmp_path, monkeypatch, rule):
    """And takes the answers in: the same labels, whichever files they are read from."""
    shutil.copytree(run, tmp_path / "large" / "run")
    select(run, 1, "--method", *rule.split())
    large_run(tmp_path / "large" / "run", monkeypatch)
    select(tmp_path / "large" / "run", 1, "--method", *rule.split())
    small, large = (
        contents(folder / "run" / "cycle1") for folder in (run.parent, tmp_path / "large")
    )
    pickles = [pickle.loads(files.pop("annotations.pkl")) for files in (small, large)]
    assert small == large and repr(pickles[0]) == repr(pickles[1])
    labels = annotation_file.load(tmp_path / "large" / "run" / "cycle1" / "annotations.pkl")
    assert isinstance(labels.videos, annotation_file.LazyVideos)


@pytest.mark.parametrize("name", ["paper.npy", "names.npy", "head.json"])
def test_damaged_columns_of_scores_are_named(run, monkeypatch, name):
    large_run(run, monkeypatch)
    path = run / "cycle0" / "pool.columns" / name
    path.write_bytes(path.read_bytes()[:-3])
    said = refused(select, run, 1)
    assert "pool.columns" in said and "cluster_extract.py --force" in said
    assert not (run / "cycle1" / "selection.json").exists()


def test_columns_of_other_videos_are_refused(run, monkeypatch):
    large_run(run, monkeypatch)
    path = run / "cycle0" / "annotations.pkl"
    labels = annotation_file.load(path)
    gone = next(name for name, video in labels.videos.items() if not video.is_labeled)
    annotation_file.save(labels.without([gone]), path)
    assert f"the first {gone}" in refused(select, run, 1)
