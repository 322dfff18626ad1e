"""The sum of the losses by hand: what each setting weighs."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from claus.losses.criterion import LossSettings, shows_action, total_loss
from claus.losses.stew import dice_loss

# every term by hand: BCE ln 2, Dice .2, margin .01, cluster ½ λ · 4
DETECTION = SimpleNamespace(
    logits=torch.zeros(1, 1, 1, 1, 1),
    scores=torch.tensor([[0.5, 0.4]]),
    latent=torch.tensor([[2.0, 0.0]]),
)
BATCH = {
    "target": torch.ones(1, 1, 1, 1),
    "weight": torch.ones(1, 1, 1, 1),
    "label": torch.tensor([0]),
}
CENTERS = torch.zeros(1, 2)
BASE = LossSettings(cluster_weight=0.5, last_margin=0.2)
LN2 = 0.6931472


def total(settings, **shares):
    return total_loss(DETECTION, BATCH, CENTERS, settings, 0.5, **shares)[0].item()


def test_the_sum_is_that_of_the_terms():
    value, terms = total_loss(DETECTION, BATCH, CENTERS, BASE, 0.5)
    assert list(terms) == ["total", "bce", "dice", "margin", "cluster"]
    expected = {"bce": LN2, "dice": 0.2, "margin": 0.01, "cluster": 1.0}
    for name, number in expected.items():
        assert terms[name].item() == pytest.approx(number, rel=1e-5), name
    assert value.item() == terms["total"].item() == pytest.approx(LN2 + 1.21, rel=1e-5)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"dice": "none"}, LN2 + 1.01),
        ({"localization_weight": 2.0}, 2 * (LN2 + 0.2) + 1.01),
        ({"margin_weight": 3.0}, LN2 + 1.23),
        ({"cluster_weight": 1.0}, LN2 + 2.21),
        ({"last_margin": 0.9}, LN2 + 1.2 + 0.45**2),  # half way from .2 to .9: .55
    ],
)
def test_each_setting_by_hand(changed, expected):
    assert total(replace(BASE, **changed)) == pytest.approx(expected, rel=1e-5)


def test_a_part_of_the_batch_counts_by_its_share():
    expected = 0.5 * (LN2 + 0.2) + 0.25 * 0.01 + 1.0
    assert total(BASE, clips=0.5, actions=0.25) == pytest.approx(expected, rel=1e-5)


def test_a_clip_shows_action_where_any_pixel_of_its_labels_is_foreground():
    target = torch.zeros(3, 2, 2, 2, dtype=torch.uint8)
    target[1, 1, 0, 1] = 1
    assert shows_action({"target": target}).tolist() == [False, True, False]


def test_dice_of_nothing_at_all_is_0():
    assert dice_loss(torch.zeros(2, 3), torch.zeros(2, 3)).item() == 0
