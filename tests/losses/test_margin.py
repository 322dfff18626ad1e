"""The class margin loss by hand."""

import pytest
import torch

from claus.losses.margin import margin_at, margin_loss

SCORES = torch.tensor([[0.9, 0.5, 0.1], [0.3, 0.4, 0.4]])


@pytest.mark.parametrize(
    "margin, label, expected",
    [
        (0.2, [0, 1], (0 + 0.1**2 + 0.2**2) / 2),  # gaps .4 .8 | .1 0
        (0.9, [0, 1], (0.5**2 + 0.1**2 + 0.8**2 + 0.9**2) / 2),
        (0.2, [2, 0], (1.0**2 + 0.6**2 + 0.3**2 + 0.3**2) / 2),
    ],
)
def test_by_hand(margin, label, expected):
    assert margin_loss(SCORES, torch.tensor(label), margin).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_true_class_itself_adds_nothing():
    assert margin_loss(torch.tensor([[0.7]]), torch.tensor([0]), 0.9).item() == 0
    assert margin_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), 0.9).item() == 0


def test_gradient_raises_the_true_class_and_lowers_the_rivals_inside_the_margin():
    scores = torch.tensor([[0.5, 0.4, 0.1]], requires_grad=True)
    margin_loss(scores, torch.tensor([0]), 0.2).backward()
    torch.testing.assert_close(
        scores.grad, torch.tensor([[-0.2, 0.2, 0.0]])
    )  # 2 (m - gap) = 2 · 0.1


def test_the_margin_grows_linearly():
    assert [margin_at(p) for p in (0, 0.5, 1)] == pytest.approx([0.2, 0.55, 0.9])
    assert margin_at(-1) == pytest.approx(0.2) and margin_at(2) == pytest.approx(0.9)
    assert [margin_at(p, last=0.2) for p in (0, 0.5, 1)] == pytest.approx([0.2] * 3)


def test_clips_without_action_do_not_count():
    scores, label = torch.tensor([[0.5, 0.4], [0.0, 1.0]]), torch.tensor([0, 0])
    torch.testing.assert_close(
        margin_loss(scores, label, 0.2, torch.tensor([True, False])), torch.tensor(0.01)
    )
    assert margin_loss(scores, label, 0.2, torch.tensor([False, False])).item() == 0
