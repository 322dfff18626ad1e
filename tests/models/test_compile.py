"""torch.compile takes scoring and the training step of every network whole, in one graph, with
the same results.
"""

import pytest
import torch
from tiny import batch_of, loss_of, tiny
from torch._dynamo.utils import counters

from claus.models import BACKBONES
from claus.models.mc_dropout import mc_forward, seeded_masks

# "full" is "small" with other numbers
LONG = ("full",)
NETWORKS = [
    pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in BACKBONES
]


@pytest.fixture(autouse=True)
def afresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="eager", dynamic=False)


@pytest.mark.parametrize("name", NETWORKS)
def test_scoring_is_one_graph(name):
    detector = tiny(name).eval()
    clip = batch_of(detector, 1)[0]["clip"]
    masks = seeded_masks(detector, 0, "v", 0, 0, 3)
    forward = compiled(mc_forward)
    for ours, plain in zip(
        forward(detector, clip, *masks), mc_forward(detector, clip, *masks), strict=True
    ):
        assert torch.equal(ours, plain)
    forward(detector, clip + 1, *masks)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_training_step_is_one_graph(name):
    detector = tiny(name).train()
    batch, _ = batch_of(detector, 2)
    centers = torch.zeros(2, detector.config.latent_size)
    masks = detector.random_masks(2, "cpu")
    state = {key: value.clone() for key, value in detector.state_dict().items()}

    def gradients(step):
        detector.load_state_dict(state)
        detector.zero_grad()
        loss, _ = step(detector, batch, masks, centers)
        loss.backward()
        found = {name: p.grad for name, p in detector.named_parameters() if p.grad is not None}
        return loss, found

    (plain, theirs), (loss, ours) = (gradients(step) for step in (loss_of, compiled(loss_of)))
    assert torch.equal(loss, plain) and len(ours) > 10
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert counters["stats"]["unique_graphs"] == 1


def test_routing_is_one_graph_however_many_places(monkeypatch):
    """On a CPU the eager routing goes part by part; a compiler is given the whole."""
    from claus.models import capsules

    monkeypatch.setitem(capsules.VOTES_AT_ONCE, "cpu", 16 * 2 * 3)
    layer = capsules.ConvCaps(2, 3).double()
    pose = torch.randn(1, 3, 4, 2, 16, dtype=torch.float64, requires_grad=True)
    activation = torch.rand(1, 3, 4, 2, dtype=torch.float64)
    results = []
    for function in (layer, compiled(layer)):
        mu, a = function(pose, activation)
        weights = torch.arange(mu.numel()).view_as(mu) / mu.numel()
        results.append((mu, a, torch.autograd.grad((mu * weights).sum(), pose)[0]))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    assert counters["stats"]["unique_graphs"] == 1
