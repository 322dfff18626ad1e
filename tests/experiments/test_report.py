"""The report: its numbers, its page by a parser, and the page in a real browser."""

import base64
import io
import json
import math
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import NO_BROWSER, find_chromium, open_page
from PIL import Image

import claus_select
import report
from claus.artifacts.scores import (
    FRAME_ARRAYS,
    Features,
    Uncertainty,
    save_features,
    save_uncertainty,
)
from claus.datasets import toy
from claus.datasets.labels import annotations
from claus.experiments import table as experiment_table
from claus.experiments.report import gather, html, pictures, published, runs, tables
from claus.experiments.report.curves import apart, color_of, curve
from claus.experiments.report.export import export
from claus.experiments.report.pages import full_line
from claus.experiments.report.statistics import mean_of, paired_difference
from claus.selection.rules import RULES
from claus.utils.machine import exported_from
from claus.utils.runtime import UserError

THRESHOLDS = [round(0.05 * i, 2) for i in range(20)]


# ----------------------------------------------------------------------- a small comparison


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "toy"
    toy.make(folder, seed=3, train=14, test=6)
    return folder


def fill_cycle(folder, score):
    """What training, extraction and evaluation would leave, with made-up numbers."""
    labels, rng = annotations.load(folder / "annotations.pkl"), np.random.default_rng(0)
    names, lengths = list(labels.videos), [video.frames for video in labels.videos.values()]
    clusters = np.arange(len(names), dtype=np.int32) % 3
    latents = rng.normal(size=(len(names), 5)).astype(np.float32) + 4 * clusters[:, None]
    save_features(
        Features("weights", names, latents, clusters, latents[:3].copy()),
        folder / "features.pkl",
    )
    arrays = {name: rng.random(sum(lengths)).astype(np.float32) for name in FRAME_ARRAYS}
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    save_uncertainty(
        Uncertainty("weights", {}, names, offsets, **arrays),
        folder / "uncertainty.pkl",
    )
    rates = [score] * len(THRESHOLDS)
    per_class = [
        {
            "class": name,
            "videos": 1,
            "frames": 9,
            "correct": 1,
            "f_ap": rates,
            "v_ap": rates,
            "f_ap_class_aware": [value / 2 for value in rates],
            "v_ap_class_aware": rates,
        }
        for name in labels.classes
    ]
    (folder / "evaluation.json").write_text(
        json.dumps(
            {
                "capsule": {
                    "thresholds": THRESHOLDS,
                    "v_map": rates,
                    "f_map": rates,
                    "f_map_class_aware": rates,
                    "v_map_class_aware": None,
                    "accuracy": 0.5,
                    "per_class": per_class,
                },
                "floor": None,
                "dataset": labels.dataset,
                "test_videos": 6,
            }
        )
    )
    (folder / "seconds.json").write_text('{"train": 3}')


@pytest.fixture(scope="module")
def cells(videos, tmp_path_factory):
    """A table of two rules and two seeds with the runs' folders, and fully supervised rows
    without.
    """
    root = tmp_path_factory.mktemp("cells")
    truth = [
        "--oracle",
        str(videos / "pyannot.pkl"),
        "--test-list",
        str(videos / "testlist01.txt"),
        "--schedule",
        "1/30,3/60",
    ]
    rows = []
    for seed in (0, 1):
        for method in ("random", "claus"):
            run = root / f"{method}-{seed}"
            for cycle in (0, 1):
                claus_select.main(
                    [
                        "--run",
                        str(run),
                        "--cycle",
                        str(cycle),
                        "--method",
                        method,
                        "--seed",
                        str(seed),
                        *truth,
                    ]
                )
                fill_cycle(
                    run / f"cycle{cycle}",
                    0.4 + 0.1 * cycle + 0.05 * (method == "claus") * cycle,
                )
                rows.append(row(method, seed, cycle, run))
            (run / "cell.json").write_text(
                json.dumps(
                    {
                        "commands": [f"python run_cycles.py --data {videos} --run x"],
                        "machine": {"cpu": "A Processor", "python": "3.11"},
                    }
                )
            )
            (run / "run.json").write_text(
                json.dumps(
                    {
                        "dataset": "ucf101",
                        "oracle": str(videos / "pyannot.pkl"),
                        "seed": seed,
                        "method": method,
                    }
                )
            )
        rows.append(
            row("random", seed, 0, root / "gone")
            | {
                "experiment": "full",
                "variant": "all",
                "frames": 700,
                "percent_of_frames": 100,
                "capsule f-mAP@.5": 90 + seed,
            }
        )
    sheets = root / "claus-0" / "cycle1" / "pictures"
    sheets.mkdir()
    for tag in ("best1", "worst1"):
        Image.new("RGB", (1400, 40), "red").save(sheets / f"{tag}_a <b>.png")
    experiment_table.merge(root / "results.csv", rows)
    return root


def row(method, seed, cycle, run):
    base = 40 + 10 * cycle + (method == "claus") * cycle * (4 + 2 * seed)
    what = (
        "table2",
        method,
        method,
        "hybrid",
        "samples",
        "stew",
        "",
        seed,
        "toy",
        "small",
        4,
        "1/30,3/60",
    )
    return dict(zip(experiment_table.WHAT, what, strict=True)) | {
        "cycle": cycle,
        "videos": 4 + 4 * cycle,
        "frames": 8 + 16 * cycle,
        "boxes": 9,
        "cost": 12 + 20 * cycle,
        "percent_of_frames": 1 + 2 * cycle,
        "capsule f-mAP@.5": base,
        "capsule v-mAP@.5": base - 3,
        "capsule f-mAP@.5 aware": base - 20,
        "capsule v-mAP@.5 aware": base - 22,
        "capsule accuracy": 50,
        "capsule v-mAP@.2": 80,
        "capsule floor f@.5": 9.5,
        "act frame-mAP@.5": "",
        "seconds": 3,
        "run": str(run),
    }


@pytest.fixture(scope="module")
def page(cells):
    assert report.main([str(cells / "results.csv"), "--title", "A <title> & more"]) == 0
    return cells / "report.html"


# ---------------------------------------------------------------------------------- numbers


def test_mean_and_interval_of_three():
    found = mean_of([1.0, 2.0, None, 3.0, math.nan])
    assert (found.mean, found.std, found.n) == (2, 1, 3)
    assert found.half == pytest.approx(
        4.302653 / math.sqrt(3), abs=1e-5
    )  # t of 2 degrees of freedom
    assert mean_of([None]) is None and math.isnan(mean_of([5.0]).half)


def test_paired_difference_takes_the_seeds_that_both_have():
    found = paired_difference(
        {"0": 5.0, "1": 9.0, "2": None}, {"0": 4.0, "1": 5.0, "2": 1.0, "3": 0.0}
    )
    assert (found.mean, found.n) == (2.5, 2)
    assert found.half == pytest.approx(12.7062 * math.sqrt(4.5) / math.sqrt(2), rel=1e-4)
    assert tables.difference_cell(paired_difference({"0": 3.0}, {"0": 4.5})) == "-1.5"
    assert tables.difference_cell(mean_of([-2.0, -2.1, -1.9]))[1] == "bad"
    assert tables.difference_cell(mean_of([2.0, 2.1, 1.9]))[1] == "good"
    assert tables.difference_cell(mean_of([3.0, 2.0, -1.0])) == ("+1.3 [-3.8, +6.5]", "")


def test_ticks_that_would_overlap_are_left_out():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    axes.set_xlim(0, 100)
    assert apart([0.25, 0.5, 1, 10, 50, 52], axes) == [0.25, 10, 50]


def test_frames_of_a_strip_hold_all_picks_and_little_beside_them():
    shown = pictures.frames_shown(80, [33, 71])
    assert (
        {33, 71} <= set(shown)
        and 34 not in shown
        and len(shown) == 8
        and shown == sorted(shown)
    )
    assert len(pictures.frames_shown(3, [1])) == 3
    assert len(pictures.frames_shown(100, list(range(50)))) <= 16


# ---------------------------------------------------------------------------- what it reads


def test_runs_alone_are_grouped_by_their_settings(tmp_path):
    def run(name, seed, **settings):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.csv").write_text(
            "cycle,% of frames,cost,f-mAP@.5,act frame-mAP@.5,minutes\n0,1.5,7,40.5,,2\n"
        )
        (folder / "run.json").write_text(
            json.dumps({"seed": seed, "oracle": "data/toy/pyannot.pkl", **settings})
        )
        return str(folder)

    names = [
        run("a", 0),
        run("b", 1),
        run("c", 1),
        run("d", 0, method="random"),
        run(
            "e",
            0,
            train="--model small --steps 9 --pseudo-label-loss=interp",
            select="--method uncertainty",
        ),
        run("f", 2, select="--video-rule core-set"),
        run("g", 2, method="random", select="--frame-rule=claus"),
    ]
    rows = gather.gather(names)
    assert [row["variant"] for row in rows] == [
        "claus",
        "claus",
        "claus (c)",
        "random",
        "uncertainty, interp",
        "core-set+claus",
        "random+claus",
    ]
    assert rows[4]["model"] == "small" and rows[4]["steps"] == 9 and rows[0]["dataset"] == "toy"
    assert rows[0]["percent_of_frames"] == 1.5 and rows[0]["capsule f-mAP@.5"] == 40.5
    assert gather.metrics_of(rows) == ["capsule f-mAP@.5"]


def test_single_scripts_run_by_hand_are_a_run_too(cells, tmp_path, capsys):
    """A cycle without scores and one that nobody has evaluated yet are no hindrance."""
    run = Path(shutil.copytree(cells / "claus-1", tmp_path / "by_hand"))
    for name in ("run.json", "cell.json"):
        (run / name).unlink()
    assert report.main([str(run)]) == 0
    rows = gather.gather([run])
    assert [row["capsule f-mAP@.5"] for row in rows] == [40, 55] and [
        row["videos"] for row in rows
    ] == [4, 8]
    assert (
        rows[0]["variant"] == "claus"
        and rows[0]["seed"] == "1"
        and rows[0]["dataset"] == rows[1]["dataset"]
    )
    page = (run / "report.html").read_text()
    assert (
        "whose flags are not recorded" in page
        and ", unknown network" in page
        and "claus has f-mAP@.5" in page
    )
    (run / "cycle0" / "evaluation.json").rename(
        run / "aside.json"
    )  # the later cycle alone: its rule, the seed
    run = Path(shutil.copytree(cells / "random-1", tmp_path / "other"))
    for name in ("run.json", "cell.json", "cycle0/evaluation.json"):
        (run / name).unlink()
    scores = json.loads((run / "cycle1" / "evaluation.json").read_text())
    (run / "cycle1" / "evaluation.json").write_text(
        json.dumps(
            {
                **scores,
                "capsule": None,
                "act": {"frame": {"thresholds": [0.5], "mean_ap": [0.25]}, "video": None},
            }
        )
    )  # evaluate.py --protocol act
    (only,) = gather.gather([run])
    assert (
        only["variant"] == only["method"] == "random"
        and only["seed"] == "1"
        and only["loss"] == "?"
    )
    assert only["act frame-mAP@.5"] == 25 and only["capsule f-mAP@.5"] is None
    (run / "cycle1" / "annotations.pkl").unlink()
    (run / "cycle0" / "annotations.pkl").unlink()
    with pytest.raises(
        UserError, match="no cycle of it has both annotations.pkl and evaluation.json"
    ):
        gather.gather([run])


def test_what_one_name_stands_for_twice_is_told_apart():
    def made(experiment, variant="claus", steps=4.0, schedule="1/5", place="a", score=50.0):
        return {
            "experiment": experiment,
            "variant": variant,
            "seed": "0",
            "dataset": "toy",
            "model": "small",
            "cycle": 0,
            "steps": steps,
            "schedule": schedule,
            "place": place,
            "capsule f-mAP@.5": score,
        }

    rows = gather.apart(
        [
            made("fig5"),
            made("fig5", schedule="2/5", place="b"),
            made("fig5", place="x/c"),
            made("full"),
            made("full", steps=8.0, place="d", score=70.0),
            made("k", steps=8.0, place="e"),
        ]
    )
    assert [(row["experiment"], row["variant"]) for row in rows] == [
        ("fig5", "claus"),
        ("fig5", "claus (2/5)"),
        ("fig5", "claus (c)"),
        ("full (toy, small, 4 steps)", "claus"),
        ("full (toy, small, 8 steps)", "claus"),
        ("k", "claus"),
    ]
    assert full_line(rows, rows[:1], "capsule f-mAP@.5").mean == 50  # of as many steps
    assert full_line(rows, rows[5:], "capsule f-mAP@.5").mean == 70


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(UserError, match="neither the folder of a run nor a table"):
        gather.gather([tmp_path / "nothing.csv"])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "results.csv").write_text("cycle,% of frames\n")
    with pytest.raises(UserError, match="no finished cycle in it"):
        gather.gather([tmp_path / "begun"])
    with pytest.raises(UserError, match="no results.csv and no cycle with an evaluation.json"):
        gather.gather([tmp_path])
    (tmp_path / "results.csv").write_text("cycle\n0\n")
    with pytest.raises(UserError, match="not a table of experiments/run.py"):
        gather.gather([tmp_path / "results.csv"])
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(UserError, match="give its folder"):
        gather.gather([tmp_path / "results.csv"])


def test_the_papers_curve_is_what_its_table_prints():
    line = published.curve_of("jhmdb", "capsule f-mAP@.5")
    assert line[0] == (0.15, 27.2) and (5.4, 72.8) in line and len(line) == 10
    assert (1, 61.8) in published.curve_of("ucf101", "capsule v-mAP@.5")
    assert published.curve_of("ucf101", "act video-mAP@.5") == []
    assert published.curve_of("ucf101", "capsule f-mAP@.5 aware") == []


def test_the_papers_numbers_are_refused_beside_made_up_data(cells, tmp_path):
    with pytest.raises(
        UserError, match="6 videos of a made-up data set, the paper's numbers are for the 910"
    ):
        report.main([str(cells / "results.csv"), "--published", "ucf101"])
    run = Path(shutil.copytree(cells / "claus-0", tmp_path / "run"))
    (run / "cycle0" / "evaluation.json").write_text(
        '{"dataset": "jhmdb-21", "test_videos": 268}'
    )
    (run / "run.json").write_text(json.dumps({"oracle": str(tmp_path / "JHMDB")}))
    published.check_real("jhmdb", [{"run": run}])
    (tmp_path / "JHMDB").mkdir()
    (tmp_path / "JHMDB" / "silhouettes.json").write_text(
        "{}"
    )  # the masks are real, the videos are not
    with pytest.raises(UserError, match="made-up"):
        published.check_real("jhmdb", [{"run": run}])


# --------------------------------------------------------------------------------- the page

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Reader(HTMLParser):
    """Collects what the tests ask about and fails on tags that do not nest."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.cells = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += int(dict(attrs).get("colspan", 1))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(path):
    reader = Reader()
    reader.feed(Path(path).read_text(encoding="utf-8"))
    reader.close()
    assert reader.open == []
    return reader


def test_page_holds_all_it_shows(page):
    reader = parse(page)
    images = [attrs for tag, attrs in reader.tags if tag == "img"]
    assert len(images) >= 5 + 2 + 2 + 2 + 2  # curves, clusters, classes, strips, detections
    kinds = set()
    for attrs in images:
        assert len(attrs["alt"]) > 20
        kind, _, data = attrs["src"].removeprefix("data:").partition(";base64,")
        content = base64.b64decode(data, validate=True)
        kinds.add(kind)
        if kind == "image/svg+xml":
            assert ElementTree.fromstring(content).tag.endswith("svg")
        else:
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                assert picture.width <= 1100
    assert kinds == {"image/svg+xml", "image/png", "image/jpeg"}
    outside = [
        attrs
        for tag, attrs in reader.tags
        for name in ("href", "src", "action", "srcset", "data")
        if (attrs.get(name) or "").startswith(("http", "//", "file", "/"))
    ]
    assert outside == [] and not {"script", "link", "iframe", "object"} & {
        tag for tag, _ in reader.tags
    }
    assert "url(" not in page.read_text() and "@import" not in page.read_text()


def test_page_is_in_good_order(page):
    reader = parse(page)
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = [attrs["href"][1:] for tag, attrs in reader.tags if tag == "a"]
    wanted += [
        attrs["aria-labelledby"] for _, attrs in reader.tags if "aria-labelledby" in attrs
    ]
    assert wanted and set(wanted) <= set(ids)
    levels = [int(tag[1]) for tag, _ in reader.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    text = page.read_text()
    for part in text.split("<table>")[1:]:  # every row of a table is as wide as its head
        inner = Reader()
        inner.feed(part.partition("</table>")[0])
        assert len(set(inner.cells)) == 1
    assert "A &lt;title&gt; &amp; more" in text and "a &lt;b&gt;" in text


def test_page_says_what_was_measured(page):
    said = " ".join(" ".join(parse(page).text).split())
    assert (
        "capsule: masks of the right class" in said and "act: boxes" not in said
    )  # no number of it is there
    assert "all (shared start)" in said
    assert (
        "At 3% of the frames claus has the highest f-mAP@.5 (capsule protocol: masks, "
        "regardless of class): 55.0 ± "
        "1.4; against random +5.0 [-7.7, +17.7] (2 seeds, 95% interval in brackets)."
    ) in said
    assert (
        "capsule scores the overlap of the predicted mask with the actors, regardless of "
        "the predicted class" in said
    )
    assert "A Processor, Python 3.11" in said and "python run_cycles.py --data" in said
    assert (
        "claus, seed 1 (table2): claus-1" in said
        and "Seeds: 0, 1." in said
        and "python report.py" in said
    )
    assert "rank 1 of" in said  # the reason of a picked video, below its strip
    assert (
        "No detections" not in said
        and "Frames are not shown" not in said
        and "paper"
        not in said.replace("the paper's tables use it", "").replace("Score: paper", "")
    )


def test_a_first_cycle_that_is_not_shared_is_compared_too():
    def rows(method, *scores):
        return [
            {
                "seed": seed,
                "cycle": cycle,
                "method": method,
                "strategy": "hybrid",
                "percent_of_frames": 1.0 + cycle,
                "capsule f-mAP@.5": score + seed,
            }
            for cycle, score in enumerate(scores)
            for seed in (0, 1)
        ]

    shared = {"random": rows("random", 10.0, 20.0), "claus": rows("claus", 10.0, 23.0)}
    own = {"random": rows("random", 10.0, 20.0), "claus": rows("claus", 14.0, 23.0)}
    for variants, first in ((shared, ["2"]), (own, ["1", "2"])):
        found = tables.differences(variants, "random", ["capsule f-mAP@.5"])
        assert [lines[0][1] for lines in found] == first
        assert found[-1][0][0] == "claus" and found[-1][0][3][0].mean == 3


def test_a_curve_shows_the_scores_and_not_the_floor_alone():
    rows = {
        name: [
            {
                "seed": 0,
                "cycle": cycle,
                "percent_of_frames": 1.0 + 4 * cycle,
                "capsule f-mAP@.5": score,
            }
            for cycle, score in enumerate((40.0, 55.0))
        ]
        for name in ("claus", "random")
    }
    ticks = {
        int(text)
        for text in re.findall(
            r"<!-- (\d+) -->", curve(rows, "capsule f-mAP@.5", floor=9.5).decode()
        )
    }
    assert {20, 30, 40, 50} <= ticks and {1, 5} <= ticks  # the heights, and the budgets below


def test_lines_beyond_those_that_are_drawn_are_named(cells):
    folder, many = cells / "claus-0", [f"rule {number}" for number in range(runs.MOST + 2)]
    for section in (
        runs.classes_section({name: [folder] for name in many}),
        runs.clusters_section(dict.fromkeys(many, folder), "0"),
    ):
        assert section.count("<figure") == runs.MOST
        assert (
            f"Left out: rule {runs.MOST}, rule {runs.MOST + 1} (only the first "
            f"{runs.MOST} are drawn)" in section
        )


def test_the_passes_are_exported_with_their_agreement_and_values_over_their_number(tmp_path):
    rows = [
        {
            "experiment": "r",
            "variant": f"R={passes}",
            "method": "claus",
            "strategy": "hybrid",
            "seed": seed,
            "cycle": 1,
            "same videos %": 90.0 + passes,
            "rank correlation of frames": 0.5,
        }
        for passes in (1, 2, 10)
        for seed in (0, 1)
    ]
    rows += [
        {
            "experiment": "k",
            "variant": f"K={k}",
            "method": "claus",
            "strategy": "hybrid",
            "seed": 0,
            "cycle": cycle,
            "capsule f-mAP@.5": 10.0 * cycle + k,
        }
        for k in (2, 5, 7)
        for cycle in (0, 1)
    ]
    export(rows, tmp_path, "python report.py x")
    assert "| R=10 | 100.0 ± 0.0 | - | - | 0.500 |" in (tmp_path / "r.md").read_text()
    drawn = (tmp_path / "k_frames.svg").read_text()
    assert drawn.count("labeled frames") == 0 and "<svg" in drawn  # over K, not over the budget


def test_code_that_git_archive_wrote_out_knows_its_commit(tmp_path):
    (tmp_path / "exported").write_text("abc1234\n")
    (tmp_path / "checkout").write_text("$Format:%h$\n")
    assert [exported_from(tmp_path / name) for name in ("exported", "checkout", "none")] == [
        "abc1234",
        "",
        "",
    ]
    assert exported_from() == "" or "$" not in exported_from()


def test_curves_and_tables_are_exported_as_files(cells, tmp_path):
    report.main(
        [
            str(cells / "results.csv"),
            "--output",
            str(tmp_path / "r.html"),
            "--export",
            str(tmp_path / "out"),
        ]
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"table2.md", "table2_frames.svg", "table2_videos.svg"} <= names
    assert (
        ElementTree.parse(tmp_path / "out" / "table2_frames.svg").getroot().tag.endswith("svg")
    )
    said = (tmp_path / "out" / "table2.md").read_text()
    assert (
        "toy, small network, 4 training steps" in said
        and "python report.py" in said
        and "--export" in said
    )
    # 54 and 56 against 50 and 50: the mean, its deviation, and t(1 degree) * 1.414 /
    # sqrt(2) = 12.7 to each side
    assert (
        "| 3 | claus | 2 | 55.0 ± 1.4 | 52.0 ± 1.4 |" in said
        and "| 3 | random | 2 | 50.0 ± 0.0 |" in said
    )
    assert "| 3 | claus | 2 | +5.0 [-7.7, +17.7] | +5.0 [-7.7, +17.7] |" in said
    widths = [
        {line.count("|") for line in part.splitlines()}
        for part in said.split("\n\n")
        if part.startswith("|")
    ]
    assert len(widths) == 2 and all(len(width) == 1 for width in widths)


def test_the_full_line_and_the_floor_are_in_the_curves(page):
    alts = [attrs["alt"] for tag, attrs in parse(page).tags if tag == "img"]
    assert any(
        "claus from 40.0 to 55.0" in alt
        and "fully supervised 90.5" in alt
        and "without a model 9.5" in alt
        for alt in alts
    )


def test_what_is_missing_is_said(cells, tmp_path):
    shutil.copy(cells / "results.csv", tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text().replace(str(cells), "/nowhere")
    (tmp_path / "t.csv").write_text(text)
    report.main([str(tmp_path / "t.csv"), "--output", str(tmp_path / "out" / "r.html")])
    said = " ".join(parse(tmp_path / "out" / "r.html").text)
    for sentence in (
        "The run folders are not on this machine",
        "No ledger",
        "commands, versions",
    ):
        assert sentence in said


def test_runs_without_pickles_pictures_or_videos_still_make_a_page(cells, tmp_path):
    run = Path(shutil.copytree(cells / "claus-0", tmp_path / "run"))
    shutil.rmtree(run / "cycle1" / "pictures")
    (run / "cell.json").unlink()
    (run / "run.json").write_text('{"seed": 0, "oracle": "/gone/pyannot.pkl"}')
    (run / "results.csv").write_text(
        "cycle,% of frames,cost,f-mAP@.5,minutes\n0,1,12,40,1\n1,3,32,54,1\n"
    )
    report.main([str(run), "--data", str(tmp_path / "gone")])
    said = " ".join(parse(run / "report.html").text)
    assert (
        "Frames are not shown" in said
        and "No detections are shown" in said
        and "did not record the machine" in said
    )
    assert "No differences against random choice" in said
    for name in ("features.pkl", "uncertainty.pkl", "evaluation.json"):
        (run / "cycle0" / name).unlink()
        (run / "cycle1" / name).unlink()
    report.main([str(run)])
    said = " ".join(parse(run / "report.html").text)
    for sentence in (
        "No cluster plot",
        "No uncertainty over time",
        "No chart of the classes",
    ):
        assert sentence in said


def test_curves_of_one_point_and_of_a_wide_range_are_drawn():
    def line(*percents):
        return [
            {
                "cycle": i,
                "seed": "0",
                "percent_of_frames": at,
                "cost": 10 * at,
                "capsule f-mAP@.5": 50.0 + i,
            }
            for i, at in enumerate(percents)
        ]

    for rows in (line(0.5), line(0.25, 1, 90), line(0, 1)):
        assert ElementTree.fromstring(
            curve({"claus": rows}, "capsule f-mAP@.5", published=[(0.3, 50.1)])
        )
    same = [curve({"claus": line(1, 2)}, "capsule f-mAP@.5") for _ in range(2)]
    assert same[0] == same[1]


def test_text_from_outside_is_escaped():
    made = html.page(
        "t<",
        "",
        [("a: <b>", html.table("c", ["<x>"], [["<script>"]])), ("a", "x"), ("gone", "")],
    )
    assert (
        "<script>" not in made
        and "<x>" not in made
        and 'id="a-b"' in made
        and "gone" not in made
    )


# ----------------------------------------------------------------------------- in a browser


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_every_picture_and_reports_no_error(page, tmp_path, width):
    browser = find_chromium()
    if browser is None:
        pytest.skip(NO_BROWSER)
    seen = open_page(browser, page, tmp_path, width)
    assert seen["errors"] == [] and seen["fetched"] == []
    assert len(seen["images"]) == page.read_text().count("<img ")
    assert all(natural > 50 and height > 10 for natural, height, _ in seen["images"])
    assert all(shown > 150 for _, _, shown in seen["images"])
    assert seen["wide"] <= 0, (
        f"the page is {seen['wide']} pixels wider than the window of {seen['width']}"
    )


def test_the_probe_finds_a_broken_picture_and_an_error(page, tmp_path):
    browser = find_chromium()
    if browser is None:
        pytest.skip(NO_BROWSER)
    broken = tmp_path / "broken.html"
    broken.write_text(
        page.read_text().replace(
            "<main>",
            '<main><img src="data:image/png;base64,xx" alt="x">'
            '<script>console.error("boo"); nothing.here</script>',
        )
    )
    seen = open_page(browser, broken, tmp_path)
    assert seen["images"][0][0] == 0 and any("boo" in error for error in seen["errors"])
    assert any("nothing is not defined" in error for error in seen["errors"])


def test_no_two_variants_look_alike_where_the_colors_run_out():
    looks = color_of(["claus", "random", *(f"variant {number}" for number in range(20))])
    assert len(set(looks.values())) == 22


def test_every_rule_has_a_look_of_its_own():
    looks = color_of(RULES)
    assert len({color for color, _, _ in looks.values()}) == len(RULES)
    assert len({marker for _, marker, _ in looks.values()}) == len(RULES)
