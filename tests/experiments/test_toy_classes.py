"""experiments/toy_classes.py: its flags are those of the demo, its numbers those of the
evaluations.
"""

import json
import re
import shlex
from pathlib import Path

import pytest

from claus.artifacts.cycle import Cycle
from claus.datasets import toy
from claus.experiments import toy_classes
from claus.flags import evaluation, selection, training

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def videos(tmp_path):
    """A folder in place of toy videos."""
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in ("pyannot.pkl", "testlist01.txt"):
        (folder / name).touch()
    return folder


def test_the_demo_and_the_tutorial_train_with_what_was_measured():
    wanted = shlex.split(f"{toy_classes.LENGTH} {toy_classes.DEMO}")
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert shlex.split(re.search(r'--train "(.*)"', recipe)[1]) == wanted
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").replace("\\\n", "")
    line = re.search(r"^python train_ucf101.py (.*)$", page, re.M)[1]
    assert " ".join(shlex.split(line)).endswith(" ".join(wanted))


@pytest.mark.parametrize("name", toy_classes.ARMS)
def test_the_scripts_take_the_flags_of_every_arm(name, videos, tmp_path):
    labels, trained, tested = toy_classes.commands(name, 4, videos, tmp_path)
    (count, frames), _ = toy_classes.ARMS[name]
    budget = selection.parse(labels).budget
    assert (budget.videos, budget.frames) == (str(count), str(frames))
    settings = training.parse(trained)
    assert settings.model == "small" and settings.seed == 4
    assert (settings.class_head == "linear") == name.startswith("demo")
    evaluation.parse(tested)


def test_arms_that_are_compared_have_the_same_labels():
    *same, (after, before) = toy_classes.PAIRS
    assert all(toy_classes.ARMS[a][0] == toy_classes.ARMS[b][0] for a, b in same)
    assert (after, before) == ("demo, more", "published head")


def test_what_is_evaluated_is_not_run_again_and_makes_the_table(
    monkeypatch, tmp_path, videos, capsys
):
    monkeypatch.setattr(toy, "make", lambda *_: videos)
    arms = ["published head", "demo"]
    for arm, name in enumerate(arms):
        for seed in (0, 1):
            cycle = Cycle.of(toy_classes.folder_of(name, seed), 0, tmp_path)
            cycle.folder.mkdir(parents=True)
            scores = dict.fromkeys(toy_classes.SCORES, [0.9, 0.5 + 0.1 * seed + 0.2 * arm])
            numbers = {"thresholds": [0.0, 0.5], **scores, "accuracy": 0.25 + 0.5 * arm}
            cycle.evaluation.write_text(json.dumps({"capsule": numbers}))
    page = tmp_path / "page.md"
    flags = ["--data", str(tmp_path), "--seeds", "0", "1", "--output", str(page)]
    assert toy_classes.main([*flags, "--arms", *arms]) == 0
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line[:2] == "| "]
    assert ["| published head", "18", "66", "55.0 ± 7.1"] in [row[:4] for row in rows]
    assert any(row[0] == "| demo" and row[-1] == "75.0 ± 0.0 |" for row in rows)
    gain = next(row for row in rows if row[0] == "| demo - published head")
    assert gain[1] == "+20.0 [+20.0, +20.0]"
