"""Flags to settings: every field of the losses has its flag, defaults come from one place."""

from dataclasses import fields, replace

import pytest

from claus.artifacts.training_state import check_same_settings, plain, renamed
from claus.flags.training import parse
from claus.losses.criterion import LossSettings
from claus.models import BACKBONES
from claus.utils.runtime import UserError

BASE = ["--run", "r", "--device", "cpu"]
OTHER = {
    "dice": "none",
    "class_loss": "cross-entropy",
    "weighting": "authors",
    "localization_weight": "0.5",
    "margin_weight": "0.25",
    "cluster_weight": "2",
    "last_margin": "0.4",
}


@pytest.mark.parametrize("field", fields(LossSettings), ids=lambda field: field.name)
def test_every_field_of_the_losses_has_a_flag(field):
    flag = field.metadata.get("flag", "--" + field.name.replace("_", "-"))
    other = OTHER.get(field.name, "3")  # 3: a new weight's
    settings = parse([*BASE, flag, other])
    assert settings.loss == replace(LossSettings(), **{field.name: field.type(other)})


def test_the_full_network_trains_by_the_defaults_of_the_losses():
    assert parse(BASE).loss == LossSettings()


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_says_the_rates_it_is_trained_with(name):
    settings, training = parse([*BASE, "--model", name]), BACKBONES[name].training
    assert settings.optimizer.lr == training["lr"]
    assert settings.optimizer.encoder_lr == (training["encoder_lr"] or training["lr"])
    assert settings.optimizer.lr_schedule == training["lr_schedule"]
    assert settings.loss.margin_weight == training["margin_weight"]
    assert settings.loss.cluster_weight == training["cluster_weight"]


@pytest.mark.parametrize(
    ("flags", "head", "loss"),
    [
        (["--model", "small"], None, "margin"),
        (["--model", "laptop"], None, "cross-entropy"),
        (["--model", "small", "--class-head", "linear"], "linear", "cross-entropy"),
        (["--model", "laptop", "--class-head", "capsule"], "capsule", "margin"),
        (["--class-head", "linear", "--class-loss", "margin"], "linear", "margin"),
    ],
)
def test_a_class_head_comes_with_its_loss(flags, head, loss):
    settings = parse([*BASE, *flags])
    assert (settings.class_head, settings.loss.class_loss) == (head, loss)


def test_trainings_that_did_not_know_the_class_head_had_that_of_their_network():
    today = plain(parse([*BASE, "--model", "laptop"]))
    stored = {name: value for name, value in today.items() if name != "class_head"}
    check_same_settings(today, renamed(stored), "training.pt")
    other = plain(parse([*BASE, "--model", "laptop", "--class-head", "capsule"]))
    with pytest.raises(UserError, match="another --class-head"):
        check_same_settings(other | {"class_loss": today["class_loss"]}, stored, "training.pt")


def test_the_encoder_follows_a_rate_that_is_given():
    optimizer = parse([*BASE, "--model", "small", "--lr", "0.5"]).optimizer
    assert (optimizer.lr, optimizer.encoder_lr) == (0.5, 0.5)


def test_settings_are_kept_as_one_flat_table_of_builtins():
    values = plain(parse(BASE))
    assert {type(value) for value in values.values()} <= {
        str,
        int,
        float,
        bool,
        list,
        type(None),
    }
    assert values["lr"] == 5e-4 and values["margin_weight"] == 1 and values["run"] == "r"
    assert values["adam_betas"] == [0.9, 0.999]


OLD = {
    "weighted_dice": False,
    "no_dice": False,
    "freeze_bn": False,
    "sync_bn": False,
    "no_amp": False,
    "no_validation": False,
}


@pytest.mark.parametrize(
    ("old", "flags"),
    [
        ({}, []),
        ({"no_dice": True}, ["--dice", "none"]),
        ({"weighted_dice": True}, ["--dice", "weighted"]),
        ({"freeze_bn": True}, ["--batch-norm", "freeze"]),
        ({"no_validation": True}, ["--no-validation"]),
        ({"no_amp": True}, ["--no-amp"]),
        ({"wt_loc": 2.0}, ["--loc-weight", "2"]),
    ],
)
def test_settings_of_version_0_1_are_those_of_today_by_other_names(old, flags):
    today = plain(parse([*BASE, *flags]))
    gone = {"dice", "batch_norm", "amp", "validate", "localization_weight"}
    stored = {name: value for name, value in today.items() if name not in gone} | OLD | old
    check_same_settings(today, renamed(stored), "training.pt")
    for different in ([], ["--dice", "none"], ["--batch-norm", "freeze"]):
        if different != flags and (flags or different):
            with pytest.raises(UserError, match="training.pt was trained with another --"):
                other = plain(parse([*BASE, *different]))
                check_same_settings(other, renamed(stored), "training.pt")


def test_the_labeled_half_of_version_0_1_is_that_of_today():
    semi = {"labeled_half": True}
    check_same_settings(semi, renamed({"labelled_half": True}), "training.pt")
    with pytest.raises(UserError, match="another --labeled-half"):
        check_same_settings(
            {"labeled_half": False}, renamed({"labelled_half": True}), "training.pt"
        )
