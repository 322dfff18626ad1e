"""The training scripts' flags: those of a data set without a script, those of a new loss."""

from dataclasses import dataclass

import pytest

from claus.flags import semi, training
from claus.losses import criterion

RUN = ["--run", "r", "--device", "cpu"]


def test_the_data_set_decides_the_flags():
    settings = training.parse([*RUN, "--dataset", "jhmdb", "--mask-interp", "hold"])
    assert (settings.crop, settings.mask_interp) == ("jhmdb", "hold")
    assert training.parse([*RUN, "--data", "jhmdb"]).crop == "wide"
    assert training.parse([*RUN, "--datas=jhmdb"]).crop == "jhmdb"


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
