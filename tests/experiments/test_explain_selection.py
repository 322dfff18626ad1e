"""What explain_selection.py says of picks and scores: numbers worked out by hand, and a
run's own files.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from test_jhmdb_scripts import data, run  # noqa: F401

from claus.artifacts.scores import load_uncertainty
from claus.datasets import table as which
from claus.datasets.labels import annotations
from claus.experiments import explain_selection
from claus.experiments import table as experiment_table
from claus.utils.runtime import UserError


@pytest.fixture
def table(run, tmp_path):  # noqa: F811
    """A table of experiments/run.py with one run in it."""
    row = {
        "experiment": "table2",
        "variant": "claus",
        "method": "claus",
        "seed": "0",
        "cycle": "1",
        "run": str(run),
    }
    experiment_table.merge(tmp_path / "t.csv", [row])
    return tmp_path / "t.csv"


def test_picks_are_described_as_worked_out_by_hand():
    start = SimpleNamespace(
        place={"a": 0, "b": 1, "c": 2},
        lengths_N=np.array([5, 9, 3]),
        size_N=np.array([0.2, 0.4, 0.1]),
        error_N=np.array([0.5, 0.1, 0.9]),
        contrast_N=np.array([1.0, np.nan, 3.0]),
        fresh_N=np.array([True, True, False]),
        label_N=np.array([0, 2, 2]),
    )
    picked = {
        "videos": [
            {"video": "a", "frames": [{"frame": 0}]},
            {"video": "b", "frames": [{"frame": 8}, {"frame": 4}]},
            {"video": "not in the pool", "frames": [{"frame": 1}]},
        ]
    }
    size, contrast, error, classes, frames, trusted, place, spread = explain_selection.of_picks(
        picked, start
    )
    assert size == pytest.approx(1) and error == pytest.approx(
        1
    )  # (.2 + .4)/2 of the unlabeled .3; .3 of .3
    assert contrast == pytest.approx(1)  # what is not known does not count
    assert classes == pytest.approx(2) and frames == pytest.approx(1.5)
    weight = np.exp(-(np.arange(9.0) ** 2) / (2 * (8 / 3) ** 2))
    a = weight[:5].mean()
    b = weight[[4, 3, 2, 1, 0, 1, 2, 1, 0]].mean()
    assert trusted == pytest.approx((a + b) / 2)
    assert place == pytest.approx(0.5) and spread == pytest.approx(np.std([0, 1, 0.5]))


def test_a_page_about_a_real_run(run, data, table, tmp_path, capsys):  # noqa: F811
    flags = [str(table), "--dataset", "jhmdb", "--data", str(data), "--oracle", str(data)]
    assert explain_selection.main([*flags, "--output", str(tmp_path / "why.md")]) == 0
    page = (tmp_path / "why.md").read_text()
    assert page.strip() == capsys.readouterr().out.strip()
    assert (
        "| `paper` | " in page
        and "| 1 | claus | 1 | " in page
        and "last tiles `repeat`" in page
    )
    assert "nan" not in page.split("## What was picked")[1]

    args = explain_selection.parse_args(flags)
    truth = which.read_ground_truth(
        args.dataset, args.oracle, args.test_list, args.split, "train"
    )
    find = which.video_finder(args.dataset, args.data)
    contrasts = {
        name: explain_selection.contrast(video, find(name))
        for name, video in truth.videos.items()
    }
    start = explain_selection.Start(run / "cycle0", truth, contrasts, args)
    # gray 200 inside, noise of 0 to 89 (mean 44.5, deviation 26) around; the video is compressed
    assert ((start.contrast_N > 4) & (start.contrast_N < 30)).all()
    labels = annotations.load(run / "cycle0" / "annotations.pkl")
    assert start.fresh_N.sum() == len(labels.videos) - 4
    scores = load_uncertainty(run / "cycle0" / "uncertainty.pkl")
    first = scores.paper[: scores.offsets[1]]
    assert start.mean_score("paper")[0] == pytest.approx(first.mean(dtype=np.float64))
    # squares of 14 pixels in frames of 36 x 48: the actor covers 196/1728 of the frame,
    # more of the crop
    assert ((start.size_N > 0.1) & (start.size_N < 0.2)).all()
    for values_N in (start.error_N, start.predicted_N):
        assert ((values_N >= 0) & (values_N <= 1)).all()


def test_another_ground_truth_and_a_table_without_runs_are_one_line(run, data, table, tmp_path):  # noqa: F811
    flags = ["--dataset", "jhmdb", "--data", str(data), "--oracle", str(data)]
    with pytest.raises(UserError, match="no run of fig6 whose folder is on this machine"):
        explain_selection.main([str(table), *flags, "--experiment", "fig6"])
    row = {
        "experiment": "table2",
        "variant": "random",
        "method": "random",
        "seed": "0",
        "cycle": "1",
        "run": str(run),
        "steps": "7",
    }
    experiment_table.merge(table, [row])
    with pytest.raises(UserError, match="different settings"):
        explain_selection.main([str(table), *flags])
