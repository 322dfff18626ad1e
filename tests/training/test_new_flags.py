"""The training scripts' flags: those of a data set without a script, those of a new loss."""

from dataclasses import dataclass

import pytest

from claus.datasets.labels.annotations import Annotations
from claus.flags import semi, training
from claus.losses import criterion
from claus.steps import train

RUN = ["--run", "r", "--device", "cpu"]


def test_the_data_set_decides_the_flags():
    settings = training.parse([*RUN, "--dataset", "jhmdb", "--mask-interp", "hold"])
    assert (settings.crop, settings.mask_interp) == (None, "hold")
    assert training.parse([*RUN, "--data", "jhmdb"]).place.dataset == "ucf101"
    assert training.parse([*RUN, "--datas=jhmdb"]).place.dataset == "jhmdb"


def test_the_labels_decide_what_the_network_sees(capsys):
    """A published data set has its crop; videos of one's own are seen whole."""
    stored = {"ucf101-24": "wide", "jhmdb-21": "jhmdb", "own": "whole", "charades": "wide"}
    settings = training.parse(RUN)
    for dataset, crop in stored.items():
        labels = Annotations(dataset, ("a",), {})
        assert train.with_crop(settings, labels).crop == crop
        told = "see --crop" in capsys.readouterr().out.replace("sees", "see")
        assert told == (dataset == "own")
        given = training.parse([*RUN, "--crop", "square"])
        assert train.with_crop(given, labels).crop == "square"


@pytest.mark.parametrize("words", [["--dataset", "nothing"], ["--dataset"]])
def test_an_unknown_data_set_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        training.parse([*RUN, *words])
    assert "argument --dataset: " in capsys.readouterr().err


@dataclass(frozen=True)
class Extended(criterion.LossSettings):
    smooth_weight: float = criterion._setting(0.5, "weight of a new term")
    shape: str = criterion._setting("round", "a new switch", choices=("round", "square"))


@pytest.mark.parametrize("script", [training, semi])
def test_a_new_loss_is_a_field_alone(script, monkeypatch, capsys):
    monkeypatch.setattr(training, "LossSettings", Extended)
    monkeypatch.setattr(semi, "LossSettings", Extended)
    monkeypatch.setattr(semi, "LOSS", {**semi.LOSS, "smooth_weight": 0.5, "shape": "round"})
    for words, weight in (([], 0.5), (["--smooth-weight", "2"], 2)):
        settings = script.parse([*RUN, *words])
        loss = getattr(settings, "training", settings).loss
        assert (loss.smooth_weight, loss.shape) == (weight, "round")
    with pytest.raises(SystemExit):
        script.parse([*RUN, "--smooth-weight", "-1"])
    assert "--smooth-weight must be 0 or more, not -1.0" in capsys.readouterr().err
