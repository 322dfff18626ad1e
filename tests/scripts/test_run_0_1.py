"""A run that version 0.1 left (tests/golden/run_0_1) is read and continued by today's code.

It is a small network's first two cycles on the toy data, made by the commit before the
rooms moved; the tensors of its detector.pt are zeroed so that they compress, and the
fingerprints that name that file are those of the zeroed one.
"""

import json
import lzma
import shutil
from pathlib import Path

import pytest
import torch

import claus_select
import cluster_extract
import evaluate
from claus.artifacts import checkpoint
from claus.artifacts.cycle import Run
from claus.artifacts.cycle_row import cycle_row
from claus.artifacts.evaluation_file import load_evaluation
from claus.artifacts.ledger import write_ledger
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import check_same_source, load_features, load_uncertainty
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations
from claus.utils.runtime import UserError

GOLDEN = Path(__file__).parents[1] / "golden" / "run_0_1"
BUDGET = ["--videos-percent", "7.5", "--frames-percent", "6"]


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(GOLDEN, folder)
    packed = folder / "cycle0" / "detector.pt.xz"
    (folder / "cycle0" / "detector.pt").write_bytes(lzma.decompress(packed.read_bytes()))
    packed.unlink()
    return Run(folder)


def flags(run, cycle):
    return ["--run", str(run.folder), "--cycle", str(cycle)]


def test_every_file_is_read(run):
    first, second = run.cycle(0), run.cycle(1)
    trained = checkpoint.load(first.detector)
    assert trained.dataset == "ucf101-24" and len(trained.classes) == 6
    assert trained.clusters.centers.shape[0] == 5
    features = load_features(first.features)
    uncertainty = load_uncertainty(first.uncertainty)
    check_same_source(features, uncertainty)
    assert features.source == trained.source == fingerprint(first.detector)
    assert load_evaluation(first.evaluation)["source"] == trained.source
    for cycle in (first, second):
        labels = annotations.load(cycle.annotations)
        assert len(labels.labeled()) == 6 * (cycle.number + 1)
        assert load_selection(cycle.selection)["cycle"] == cycle.number
    ledger = run.ledger.read_text()
    assert cycle_row(first, write_ledger(run))["videos"] == 6
    assert run.ledger.read_text() == ledger


def test_what_is_finished_is_not_done_again(run, capsys):
    assert cluster_extract.main([*flags(run, 0), "--device", "cpu"]) == 0
    assert "has both pickles already" in capsys.readouterr().out
    truth = ["--ground-truth", "not read", "--test-list", "not read"]
    assert evaluate.main([*flags(run, 0), *truth, "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "is there already" in said and "f-mAP" in said
    assert claus_select.main(flags(run, 1)) == 0
    assert "cycle 1 is labeled already" in capsys.readouterr().out


def test_its_answers_are_taken_in_and_give_the_same_labels(run):
    cycle = run.cycle(1)
    kept = cycle.annotations.read_bytes()
    cycle.annotations.unlink()
    answers = run.folder / "filled.json"
    answers.write_bytes(cycle.answers.read_bytes())
    assert claus_select.main([*flags(run, 1), "--answers", str(answers)]) == 0
    assert cycle.annotations.read_bytes() == kept


def test_the_next_cycle_is_chosen_from_it_as_version_0_1_chose_it(run, tmp_path):
    cycle = run.cycle(1)
    chosen = load_selection(cycle.selection)
    shutil.rmtree(cycle.folder)
    data = ["--data", str(tmp_path)]
    assert claus_select.main([*flags(run, 1), *BUDGET, *data]) == 0
    again = load_selection(cycle.selection)
    for name in ("videos", "asked", "spent", "source", "clusters"):
        assert again[name] == chosen[name]


def test_what_a_later_version_wrote_is_refused_in_one_line(run):
    cycle = run.cycle(0)
    state = torch.load(cycle.detector, weights_only=True)
    torch.save(state | {"version": 2}, cycle.detector)
    with pytest.raises(UserError, match="written by another version of this project"):
        checkpoint.load(cycle.detector)
    content = json.loads(cycle.evaluation.read_text())
    cycle.evaluation.write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(UserError, match="of version 2, this program reads 1"):
        load_evaluation(cycle.evaluation)
