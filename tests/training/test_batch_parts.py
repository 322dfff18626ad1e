"""A batch computed in pieces side by side is the batch computed at once."""

import numpy as np
import pytest
import torch

from claus import engine
from claus.batch_parts import part_of_batch, pieces
from claus.losses.cluster import Clusters
from claus.losses.criterion import LossSettings
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.lite import record_length

CLIPS, CLASSES = 6, 3
NAMES = [f"v{number}" for number in range(CLIPS)]
LOSSES = LossSettings(class_loss="cross-entropy")


def batch(size):
    """Records of clips, of which the last shows no action."""
    made = torch.Generator().manual_seed(1)
    target = torch.rand(CLIPS, 8, size, size, generator=made) > 0.8
    target[-1] = False
    return {
        "frames": torch.rand(CLIPS, 8, record_length(size), generator=made).half(),
        "target": target,
        "weight": torch.rand(CLIPS, 8, size, size, generator=made),
        "label": torch.arange(CLIPS) % CLASSES,
        "name": NAMES,
        "failed": [],
    }


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def one_step(at_once=False):
    """(loss, terms, Detection, gradients) of a step of `laptop`."""
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(CLASSES, **PRESETS["laptop"]))
    step = engine.ClausStep(detector, LOSSES)
    if at_once:
        step.takes_pieces = lambda device: False
    step.begin_epoch()
    clusters = Clusters(
        torch.zeros(2, detector.config.latent_size),
        [100, 100],
        {name: number % 2 for number, name in enumerate(NAMES)},
    )
    given = engine.to_device(batch(detector.config.size), "cpu", "-1..1")
    now, part = engine.Pace(0, 10).at(3), part_of_batch(given)
    loss, terms, detection = step(given, clusters.of(NAMES, "cpu"), now, part)
    if at_once:
        loss.backward()
    else:
        assert not loss.requires_grad
    gradients = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
    return loss, terms, detection, gradients


def test_pieces_give_what_the_whole_batch_gives(threads):
    threads(2)
    loss, terms, detection, gradients = one_step()
    expected = one_step(at_once=True)
    torch.testing.assert_close(loss, expected[0].detach())
    assert terms.keys() == expected[1].keys()
    for name, value in terms.items():
        torch.testing.assert_close(value, expected[1][name].detach())
    for ours, theirs in zip(detection, expected[2], strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)
    assert gradients.keys() == expected[3].keys()
    scales = {name: float(value.abs().max()) for name, value in expected[3].items()}
    for name, value in gradients.items():  # that of the activations is rounding alone, 1e-12
        atol = max(1e-4 * scales[name], 1e-8 * max(scales.values()))
        torch.testing.assert_close(value, expected[3][name], rtol=0, atol=atol)


def test_the_number_of_threads_changes_no_byte(threads):
    found = []
    for count in (1, 2, 3):
        threads(count)
        loss, _, _, gradients = one_step()
        assert torch.get_num_threads() == count
        found.append((loss.item(), [x.numpy().tobytes() for x in gradients.values()]))
    assert found[0] == found[1] == found[2]


def test_shares_of_the_pieces_add_up_to_that_of_the_part():
    given = batch(64)
    part = part_of_batch(given)._replace(clips=0.5, actions=0.25, first=6)
    cut = pieces(given, part)
    assert [piece.own for piece in cut] == [slice(0, 3), slice(3, 6)]
    assert [piece.part.first for piece in cut] == [6, 9]
    np.testing.assert_allclose([piece.part.clips for piece in cut], [0.25, 0.25])
    # the last clip shows no action
    np.testing.assert_allclose([piece.part.actions for piece in cut], [0.25 * 0.6, 0.25 * 0.4])
    assert cut[1].batch["name"] == ["v3", "v4", "v5"] and len(cut[1].batch["weight"]) == 3


@pytest.mark.parametrize(
    ("clips", "sizes"), [(1, [1]), (2, [1, 1]), (5, [2, 2, 1]), (16, [4, 4, 4, 4])]
)
def test_sizes_of_pieces(clips, sizes):
    names = [f"v{number}" for number in range(clips)]
    given = {"target": torch.ones(clips, 8, 2, 2), "name": names}
    assert [len(piece.batch["name"]) for piece in pieces(given, part_of_batch(given))] == sizes


def test_batch_norm_that_learns_sees_the_whole_batch():
    detector = Detector(DetectorConfig(CLASSES, **PRESETS["small"]))
    learning, frozen = engine.ClausStep(detector), engine.ClausStep(detector)
    frozen.freeze_batch_norm = True
    takes = []
    for step in (learning, frozen):
        step.begin_epoch()
        takes.append(step.takes_pieces(torch.device("cpu")))
    assert takes == [False, True]
    assert not frozen.takes_pieces(torch.device("cuda"))
