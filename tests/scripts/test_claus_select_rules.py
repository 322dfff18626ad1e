"""Every rule of claus_select.py on the golden pickles: which frames it chooses, what it
costs, what is refused.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_claus_select import (  # noqa: F401
    BUDGET,
    GOLDEN,
    ask,
    contents,
    make_selection,
    refused,
    run,
    select,
)  # noqa: F401

from claus.artifacts.cycle import Run
from claus.artifacts.ledger import write_ledger
from claus.artifacts.scores import load_features, load_uncertainty, save_features
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.flags.selection import METHODS, parse
from claus.reference.selection import entropy_frames, greedy, pool
from claus.selection.rules import RULES

ROOT = Path(__file__).parents[2]
BEFORE = annotation_file.load(GOLDEN / "cycle0" / "annotations.pkl")


def picks(run, cycle=1):  # noqa: F811
    return make_selection.picks(run / f"cycle{cycle}" / "selection.json")


def report(run, cycle=1):  # noqa: F811
    return load_selection(run / f"cycle{cycle}" / "selection.json")


def candidates(name):
    """(names, scores of their frames) of the unlabeled videos of the golden pickles."""
    scores = load_uncertainty(GOLDEN / "cycle0" / "uncertainty.pkl")
    place = {video: index for index, video in enumerate(scores.videos)}
    names = [
        video
        for video in BEFORE.videos
        if video in place and not BEFORE.videos[video].is_labeled
    ]
    flat = scores.frame_score(name)
    return names, [
        flat[scores.offsets[place[video]] : scores.offsets[place[video] + 1]] for video in names
    ]


# --------------------------------------------------------------------------- what is chosen


@pytest.mark.parametrize(
    "method, flags, score, damping",
    [
        ("claus-no-clusters", [], "paper", "paper"),
        ("uncertainty", [], "paper", "none"),
        ("entropy", [], "local_entropy", "drop"),
        ("claus-no-clusters", ["--frame-score", "area"], "area", "paper"),
        ("uncertainty", ["--frame-score", "entropy"], "entropy", "none"),
        ("claus-no-clusters", ["--frame-score", "authors"], "authors", "paper"),
        (
            "claus-no-clusters",
            ["--frame-score", "authors", "--damping", "authors", "--sigma", "1"],
            "authors",
            "authors",
        ),
        (
            "claus-no-clusters",
            ["--frame-score", "per-pixel", "--damping", "coverage"],
            "per-pixel",
            "coverage",
        ),
    ],
)
def test_rules_of_the_whole_pool_choose_what_the_slow_version_says(
    run,  # noqa: F811
    method,
    flags,
    score,
    damping,
):
    select(run, 1, "--method", method, *flags)
    names, videos = candidates(score)
    blank = [
        np.flatnonzero(paper == 0).tolist()
        if score == "authors"
        else np.flatnonzero(video == 0).tolist()
        for paper, video in zip(candidates("paper")[1], videos, strict=True)
    ]
    sigma = 1.0 if "--sigma" in flags else 8 / 3

    def choices(video, count):
        if damping == "drop":
            return [(frame, None) for frame in entropy_frames(videos[video], count)]
        return greedy(videos[video], count, (), None, blank[video], damping, sigma)

    slow = pool(videos, 6, 15, choices, damped=damping == "coverage")
    assert list(picks(run).items()) == [
        (names[video], frames) for video, frames in slow.items()
    ]
    said = report(run)
    assert said["settings"]["method"] == method and said["settings"]["frame_score"] == score
    assert said["clusters"] == [] and said["videos"][0]["reason"].startswith(
        f"rank 1 of 13; "
        f"{'uncertainty newly covered' if damping == 'coverage' else 'mean uncertainty'}"
    )
    assert (run / "cycle1" / "clusters.png").exists()


def test_the_rules_differ(run):  # noqa: F811
    chosen = {}
    for method in METHODS:
        select(run, 1, "--force", "--method", method)
        chosen[method] = json.dumps(picks(run))
    assert len(set(chosen.values())) == len(METHODS)


def test_equidistant_frames_of_the_videos_that_random_draws(run):  # noqa: F811
    select(run, 1, "--method", "random")
    random = picks(run)
    select(run, 1, "--force", "--method", "equidistant")
    assert list(picks(run)) == list(random) != []
    for name, frames in picks(run).items():
        length = BEFORE.videos[name].frames
        assert frames == [(2 * k + 1) * length // (2 * len(frames)) for k in range(len(frames))]
    assert [len(frames) for frames in picks(run).values()] == [3, 3, 3, 2, 2, 2]


@pytest.mark.parametrize("method", ["random", "equidistant"])
def test_rules_without_scores_know_what_could_not_be_read(run, method, capsys):  # noqa: F811
    failed = load_features(run / "cycle0" / "features.pkl").failed
    everything = ["--videos-count", "13", "--frames-count", "20"]
    select(run, 1, "--method", method, budget=everything)
    assert report(run)["set_aside"] == failed and not set(failed) & set(picks(run))
    assert "skipped: 1 video" in capsys.readouterr().out
    assert (run / "cycle1" / "clusters.png").exists()
    # also from an earlier cycle, where the one before was not scored; without any, nobody knows
    assert "nothing is left" in refused(select, run, 2, "--method", method, "--take-rest")
    (run / "cycle0" / "features.pkl").unlink()
    select(run, 2, "--method", method, "--take-rest")
    assert list(picks(run, 2)) == list(failed)


def test_frames_per_video_is_a_t(run):  # noqa: F811
    select(run, 1, budget=["--videos-count", "4", "--frames-per-video", "3"])
    assert sorted(len(frames) for frames in picks(run).values()) == [3, 3, 3, 3]


# ------------------------------------------------------------------ videos and frames apart


def test_videos_by_one_rule_and_frames_by_another(run):  # noqa: F811
    flags = {
        "claus": [],
        "random": ["--method", "random"],
        "claus+equidistant": ["--frame-rule", "equidistant"],
        "random+claus": ["--video-rule", "random", "--frame-rule", "claus"],
        "core-set+uncertainty": ["--method", "core-set", "--frame-rule", "uncertainty"],
        "core-set": ["--method", "core-set"],
        "uncertainty": ["--method", "uncertainty", "--videos", "13", "--frames", "40"],
    }
    chosen = {}
    for method, words in flags.items():
        budget = [] if "--videos" in words else BUDGET
        select(run, 1, "--force", *words, budget=budget)
        chosen[method] = picks(run)
        assert report(run)["settings"]["method"] == method
    assert list(chosen["claus+equidistant"]) == list(chosen["claus"])
    assert list(chosen["random+claus"]) == list(chosen["random"])
    assert list(chosen["core-set+uncertainty"]) == list(chosen["core-set"])
    for name, frames in chosen["claus+equidistant"].items():
        length, count = BEFORE.videos[name].frames, len(frames)
        assert frames == [(2 * k + 1) * length // (2 * count) for k in range(count)]
    for name, frames in chosen["core-set+uncertainty"].items():
        assert chosen["uncertainty"][name][: len(frames)] == frames
    names, videos = candidates("paper")
    for name, frames in chosen["random+claus"].items():
        video = videos[names.index(name)]
        slow = greedy(video, len(frames), (), None, np.flatnonzero(video == 0).tolist())
        assert frames == [frame for frame, _ in slow]


def test_the_settings_of_both_halves_are_kept(run):  # noqa: F811
    select(run, 1, "--video-rule", "entropy", "--frame-rule", "claus", "--sigma", "3")
    said = report(run)
    assert said["settings"] == {
        "method": "entropy+claus",
        "video_rule": "entropy",
        "frame_rule": "claus",
        "strategy": "hybrid",
        "increment": "samples",
        "damping": "paper",
        "drop_nearest": 5,
        "frame_score": "paper",
        "sigma": 3.0,
        "extraction": {"passes": 10},
    }
    # ranked by the local entropy of its frames, labeled where the paper's score is high
    names, entropies = candidates("local_entropy")
    _, scores = candidates("paper")
    slow = pool(
        entropies,
        6,
        15,
        lambda video, count: [(f, None) for f in entropy_frames(entropies[video], count)],
    )
    assert [row["video"] for row in said["videos"]] == [names[video] for video in slow]
    for row in said["videos"]:
        score = scores[names.index(row["video"])]
        for frame in row["frames"]:
            assert frame["score"] == pytest.approx(score[frame["frame"]], rel=1e-6)


def test_random_videos_with_scored_frames_say_so(run):  # noqa: F811
    select(run, 1, "--video-rule", "random", "--frame-rule", "claus", "--seed", "3")
    said = report(run)
    assert said["settings"]["seed"] == 3 and said["clusters"] == []
    first = said["videos"][0]
    assert first["score"] is None and "damped_score" in first["frames"][0]
    assert first["reason"] == "drawn at random, number 1 of 6"


def test_a_start_with_equidistant_frames_has_the_videos_of_the_random_one(tmp_path):
    random, spaced = tmp_path / "random", tmp_path / "spaced"
    select(random, 0)
    select(spaced, 0, "--start-frames", "equidistant")
    assert list(picks(random, 0)) == list(picks(spaced, 0))
    assert picks(random, 0) != picks(spaced, 0)
    for name, frames in picks(spaced, 0).items():
        length, count = BEFORE.videos[name].frames, len(frames)
        assert frames == [(2 * k + 1) * length // (2 * count) for k in range(count)]
    assert report(spaced, 0)["settings"]["method"] == "random+equidistant"


# ------------------------------------------------------------------------- features alone


@pytest.mark.parametrize("method", ["core-set", "typiclust", "k-means"])
def test_rules_of_diversity_need_features_alone(run, method):  # noqa: F811
    (run / "cycle0" / "uncertainty.pkl").unlink()
    select(run, 1, "--method", method)
    chosen, said = picks(run), report(run)
    features = load_features(run / "cycle0" / "features.pkl")
    labeled = {video.name for video in BEFORE.labeled()}
    assert len(chosen) == 6 and not set(chosen) & (labeled | set(features.failed))
    assert [len(frames) for frames in chosen.values()] == [3, 3, 3, 2, 2, 2]
    for name, frames in chosen.items():
        length, count = BEFORE.videos[name].frames, len(frames)
        assert frames == [(2 * k + 1) * length // (2 * count) for k in range(count)]
    assert said["source"] == features.source and said["clusters"] == []
    assert all(row["reason"].startswith("choice ") for row in said["videos"])
    assert (run / "cycle1" / "clusters.png").exists()
    (run / "cycle0" / "features.pkl").unlink()
    message = refused(select, run, 1, "--force", "--method", method)
    assert "features.pkl is missing: run cluster_extract.py" in message


def test_core_set_of_the_golden_pickles_is_what_a_slow_version_says(run):  # noqa: F811
    select(run, 1, "--method", "core-set")
    features = load_features(run / "cycle0" / "features.pkl")
    latents = dict(zip(features.videos, features.latents.astype(float), strict=True))
    centers = [name for name in latents if BEFORE.videos[name].is_labeled]
    expected = []
    for _ in range(6):

        def nearest(name):
            return min(np.linalg.norm(latents[name] - latents[c]) for c in centers)

        expected.append(max((n for n in latents if n not in centers), key=nearest))
        centers.append(expected[-1])
    assert list(picks(run)) == expected


# ------------------------------------------------------------------------------- increments


def labeled_now(run, cycle=1):  # noqa: F811
    return annotation_file.load(run / f"cycle{cycle}" / "annotations.pkl")


AGAIN = [method for method in METHODS if not RULES[method].new_videos]


@pytest.mark.parametrize("method", AGAIN)
def test_more_frames_for_old_videos_only(run, method):  # noqa: F811
    select(run, 1, "--method", method, "--increment", "frames", "--video-cost", "10")
    old = {video.name: set(video.labeled_frames.tolist()) for video in BEFORE.labeled()}
    assert set(picks(run)) == set(old), "every old video shares the frames"
    assert sum(map(len, picks(run).values())) == 15
    for name, frames in picks(run).items():
        assert not set(frames) & old[name] and len(set(frames)) == len(frames)
        assert set(labeled_now(run).videos[name].labeled_frames.tolist()) == old[name] | set(
            frames
        )
    rows = [line.split(",") for line in (run / "ledger.csv").read_text().splitlines()]
    assert rows[2][1:3] == ["0", "15"] and rows[2][4] == "15", "no video is paid for again"
    assert report(run)["new_videos"] == 0


def test_old_labels_damp_the_frames_near_them(run):  # noqa: F811
    select(run, 1, "--method", "claus-no-clusters", "--increment", "frames")
    scores = load_uncertainty(GOLDEN / "cycle0" / "uncertainty.pkl")
    for name, frames in picks(run).items():
        place = scores.videos.index(name)
        video = scores.paper[scores.offsets[place] : scores.offsets[place + 1]]
        slow = greedy(
            video,
            len(frames),
            BEFORE.videos[name].labeled_frames.tolist(),
            None,
            np.flatnonzero(video == 0).tolist(),
        )
        assert frames == [frame for frame, _ in slow]


@pytest.mark.parametrize("method", AGAIN)
def test_new_videos_and_more_frames_for_old_ones(run, method):  # noqa: F811
    budget = ["--videos-count", "17", "--frames-count", "40"]
    select(
        run,
        1,
        "--method",
        method,
        "--increment",
        "samples-and-frames",
        "--video-cost",
        "10",
        budget=budget,
    )
    old = {video.name: set(video.labeled_frames.tolist()) for video in BEFORE.labeled()}
    chosen = picks(run)
    again, new = set(chosen) & set(old), set(chosen) - set(old)
    assert len(chosen) == 17 and again and new and sum(map(len, chosen.values())) == 40
    assert all(not set(chosen[name]) & old[name] for name in again)
    rows = [line.split(",") for line in (run / "ledger.csv").read_text().splitlines()]
    assert rows[2][1:3] == [str(len(new)), "40"] and rows[2][4] == str(10 * len(new) + 40)
    assert report(run)["new_videos"] == len(new)
    form = json.loads((run / "cycle1" / "request.json").read_text())
    assert {entry["video"] for entry in form["videos"] if "labelled_before" in entry} == again


def test_clusters_count_old_videos_too_where_they_may_be_chosen(run):  # noqa: F811
    budget = ["--videos-count", "19", "--frames-count", "40"]
    select(run, 1, "--increment", "samples-and-frames", budget=budget)
    rows = report(run)["clusters"]
    assert (
        [row["candidates"] for row in rows]
        == [row["videos"] for row in rows]
        == [row["picked"] for row in rows]
    )
    assert sum(row["labelled"] for row in rows) == 6


def test_all_frames_of_old_videos_are_used_up(run):  # noqa: F811
    left = sum(video.frames - len(video.labeled_frames) for video in BEFORE.labeled())
    budget = ["--videos-count", "6", "--frames-count", str(left + 5)]
    message = refused(select, run, 1, "--increment", "frames", budget=budget)
    assert f"only {left} frames are left" in message
    select(run, 1, "--increment", "frames", "--take-rest", budget=budget)
    assert labeled_now(run).counts()["frames"] == sum(
        video.frames for video in BEFORE.labeled()
    )
    for name in ("features.pkl", "uncertainty.pkl"):
        shutil.copy(run / "cycle0" / name, run / "cycle1")
    assert "nothing is left" in refused(select, run, 2, "--increment", "frames", "--take-rest")


# ------------------------------------------------------------------------------- strategies


def test_inter_labels_whole_videos(run, capsys):  # noqa: F811
    budget = ["--videos-count", "5", "--frames-count", "60"]
    select(run, 1, "--strategy", "inter", budget=budget)
    chosen = picks(run)
    assert chosen and not set(chosen) & {video.name for video in BEFORE.labeled()}
    assert all(
        frames == list(range(BEFORE.videos[name].frames)) for name, frames in chosen.items()
    )
    spent = sum(map(len, chosen.values()))
    shortest = min(
        video.frames
        for video in BEFORE.videos.values()
        if not video.is_labeled
        and video.name not in chosen
        and video.name not in report(run)["set_aside"]
    )
    assert spent <= 60 and (len(chosen) == 5 or shortest > 60 - spent)
    assert "random, inter: picked" in capsys.readouterr().out
    assert report(run)["settings"]["method"] == "random"


def test_intra_touches_every_video_before_it_spreads(run, capsys):  # noqa: F811
    select(run, 1, "--strategy", "intra", budget=["--frames-count", "5"])
    assert [len(frames) for frames in picks(run).values()] == [1] * 5
    assert not set(picks(run)) & {video.name for video in BEFORE.labeled()}
    assert (
        "5 frames do not reach all 13 videos: one frame each of 5 drawn at random"
        in capsys.readouterr().out
    )
    assert write_ledger(Run.of(f"{run}/"))[1]["videos"] == 5
    select(
        run,
        2,
        "--strategy",
        "intra",
        "--method",
        "equidistant",
        budget=["--frames-count", "30"],
    )
    after = [
        len(video.labeled_frames)
        for name, video in labeled_now(run, 2).videos.items()
        if name not in report(run)["set_aside"]
    ]
    assert min(after) >= 2 and sum(after) == 15 + 5 + 30
    assert "8 new videos are paid for, outside the budget of videos" in capsys.readouterr().out


def test_strategies_shape_the_random_start_too(tmp_path):
    select(tmp_path / "run", 0, "--strategy", "intra", budget=["--frames-count", "20"])
    assert [len(frames) for frames in picks(tmp_path / "run", 0).values()] == [1] * 20


# --------------------------------------------------------------------------------- schedule


def test_a_schedule_reaches_its_totals(run, tmp_path):  # noqa: F811
    folder, total = tmp_path / "scheduled", BEFORE.total_frames()
    schedule = "--schedule", "2/10,5/30,20.5/95"
    for cycle in range(3):
        select(folder, cycle, *schedule, budget=[])
        for name in ("features.pkl", "uncertainty.pkl"):
            features = load_features(GOLDEN / "cycle0" / "features.pkl")
            if cycle == 0:
                assert features.failed
            shutil.copy(GOLDEN / "cycle0" / name, folder / f"cycle{cycle}")
    rows = [line.split(",") for line in (folder / "ledger.csv").read_text().splitlines()[1:]]
    assert [int(row[5]) for row in rows] == [2, 6, 19]
    assert [int(row[6]) for row in rows] == [
        2 * total // 100,
        5 * total // 100,
        205 * total // 1000,
    ]
    assert "there is none for cycle 3" in refused(select, folder, 3, *schedule, budget=[])


def test_schedules_that_add_no_video(run):  # noqa: F811
    message = refused(select, run, 1, "--schedule", "5/30,10/30", budget=[])
    assert "adds 0 videos" in message and "further frames of old videos" in message
    select(run, 1, "--schedule", "5/30,10/30", "--increment", "frames", budget=[])
    assert (
        sum(map(len, picks(run).values()))
        == 10 * BEFORE.total_frames() // 100 - 5 * BEFORE.total_frames() // 100
    )


# -------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "flags, named",
    [
        (["--method", "random", "--sigma", "1"], "--sigma has no effect with --method random"),
        (
            ["--method", "uncertainty", "--damping", "none"],
            "--damping has no effect with --method uncertainty",
        ),
        (
            ["--method", "claus-entropy", "--frame-score", "paper"],
            "--frame-score has no effect with --method claus-entropy",
        ),
        (
            ["--method", "entropy", "--frame-score", "paper"],
            "--frame-score has no effect with --method entropy",
        ),
        (["--drop-nearest", "3"], "--drop-nearest has no effect with --method claus"),
        (["--method", "core-set", "--sigma", "1"], "--sigma has no effect"),
        (
            ["--method", "core-set", "--increment", "frames"],
            "core-set chooses videos without labels only: leave out --increment frames",
        ),
        (
            ["--video-rule", "typiclust", "--increment", "samples-and-frames"],
            "typiclust chooses videos without labels only",
        ),
        (
            ["--method", "claus", "--video-rule", "random", "--frame-rule", "claus"],
            "--method has no effect beside --video-rule and --frame-rule",
        ),
        (
            ["--video-rule", "random", "--frame-rule", "equidistant", "--sigma", "2"],
            "--sigma has no effect with --method random+equidistant",
        ),
        (
            ["--strategy", "intra", "--frame-rule", "claus"],
            "--strategy intra draws at random; leave out --frame-rule claus",
        ),
        (
            ["--strategy", "intra", "--video-rule", "equidistant"],
            "--video-rule has no effect with --strategy intra",
        ),
        (
            ["--strategy", "inter", "--frame-rule", "random"],
            "--frame-rule has no effect with --strategy inter",
        ),
        (
            ["--strategy", "inter", "--start-frames", "equidistant"],
            "--start-frames has no effect with --strategy inter",
        ),
        (
            ["--strategy", "intra", "--frames", "20", "--videos", "5%"],
            "--videos has no effect where --strategy intra has a number of --frames",
        ),
        (["--videos", "5%", "--videos-count", "3"], "not allowed with argument"),
        (["--damping", "none", "--sigma", "2"], "--damping none has none"),
        (
            ["--strategy", "inter", "--method", "claus"],
            "--strategy inter draws at random; leave out --method claus",
        ),
        (["--strategy", "inter", "--method", "equidistant"], "leave out --method equidistant"),
        (
            ["--strategy", "intra", "--increment", "frames"],
            "--increment frames is for --strategy hybrid",
        ),
        (
            ["--strategy", "intra", "--video-money", "9"],
            "--strategy intra has no such number",
        ),
        (
            ["--schedule", "1/5", "--videos-percent", "5"],
            "--videos and --schedule both say how much",
        ),
        (["--frames-percent", "1", "--frames-per-video", "2"], "not allowed with argument"),
    ],
)
def test_flags_that_make_no_sense_together(flags, named, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["--run", "r", "--cycle", "1", *flags])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert named in last


def test_new_and_old_spellings_are_the_same_settings():
    start = ["--run", "r", "--cycle", "1"]
    old = "--videos-count 6 --frames-percent 3 --video-cost 2 --frame-cost 3 --box-cost 4"
    new = "--videos 6 --frames 3% --video-price 2 --frame-price 3 --box-price 4"
    assert parse([*start, *old.split()]) == parse([*start, *new.split()])
    assert parse([*start, "--videos-percent", "7.5"]).budget.videos == "7.5%"


def test_help_names_every_rule_and_no_old_flag(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = "".join(capsys.readouterr().out.split())  # lines break anywhere
    for name, rule in RULES.items():
        assert "".join(f"{name}: {rule.about}".split()) in said
    assert "--videos-percent" not in said and "--video-cost" not in said


def test_drop_nearest_is_read(run):  # noqa: F811
    chosen = []
    for count in ("0", "5"):
        select(run, 1, "--force", "--method", "entropy", "--drop-nearest", count)
        chosen.append(picks(run))
    assert chosen[0] != chosen[1]


def test_other_videos_in_features_do_not_disturb_the_random_rule(run):  # noqa: F811
    path = run / "cycle0" / "features.pkl"
    features = load_features(path)
    save_features(replace(features, failed={**features.failed, "Jump/elsewhere": "gone"}), path)
    select(run, 1, "--method", "random")
    assert set(report(run)["set_aside"]) == set(features.failed)


def test_interrupted_while_libraries_load_there_is_no_traceback(tmp_path):
    command = [
        sys.executable,
        "-X",
        "importtime",
        str(ROOT / "claus_select.py"),
        "--run",
        f"{tmp_path}/r",
        "--cycle",
        "1",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stderr:  # -X importtime says when numpy is being imported
        lines.append(line)
        if "numpy" in line:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0)
    lines += process.stderr.readlines()
    process.wait(timeout=60)
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in "".join(lines)
    assert "claus_select.py: stopped" in "".join(lines)


def test_coverage_within_clusters_says_what_its_score_is(run):  # noqa: F811
    select(run, 1, "--damping", "coverage")
    said, chosen = report(run), picks(run)
    assert said["settings"]["damping"] == "coverage" and said["settings"][
        "sigma"
    ] == pytest.approx(8 / 3)
    assert (
        "quota" in said["videos"][0]["reason"]
        and "uncertainty newly covered" in said["videos"][0]["reason"]
    )
    select(run, 1, "--force")
    assert picks(run) != chosen and "mean uncertainty" in report(run)["videos"][0]["reason"]


def test_claus_entropy_is_claus_on_the_local_entropy(run):  # noqa: F811
    select(run, 1, "--frame-score", "local_entropy")
    by_flag = picks(run)
    select(run, 1, "--force", "--method", "claus-entropy")
    assert picks(run) == by_flag and by_flag
    assert (
        report(run)["settings"]["frame_score"] == "local_entropy"
        and "quota" in report(run)["videos"][0]["reason"]
    )
    shaped = list(report(run)["settings"])[3:-1]
    assert shaped == ["damping", "frame_score", "sigma"], "the order that it always had"
    select(run, 1, "--force", "--method", "claus-entropy", "--damping", "none")
    assert picks(run) != by_flag
