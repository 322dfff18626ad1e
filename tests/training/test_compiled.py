"""--compile: what is compiled, for which batches, and that replays of a CUDA graph leave what
is kept of earlier ones.
"""

import pytest
import torch

from claus import engine
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.mc_dropout import mc_forward, seeded_masks


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return Detector(DetectorConfig(3, **PRESETS["small"]))


class Replayed:
    """In place of torch.compile: a graph that writes its results where those of the call
    before lie, as a CUDA graph does.
    """

    def __init__(self):
        self.asked, self.sizes = [], []

    def __call__(self, function, **how):
        self.asked.append(how)
        results = []

        def replay(*given):
            self.sizes.append(len(given[0]) if torch.is_tensor(given[0]) else len(given[1]))
            found = function(*given)
            if not results or results[0].shape != found[0].shape:
                results[:] = [x.detach().clone() for x in found]
            for place, x in zip(results, found, strict=True):
                place.copy_(x)
            return type(found)(*results) if hasattr(found, "_fields") else tuple(results)

        return replay


@pytest.fixture
def compiler(monkeypatch):
    made = Replayed()
    monkeypatch.setattr(torch, "compile", made)
    return made


def given(detector, clips, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = detector.config.size
    masks = engine.dropout_masks(detector, seed, 0, clips)
    return torch.rand(clips, 3, 8, size, size, generator=generator), *masks


def test_one_size_is_compiled_and_smaller_batches_run_as_they_are(detector, compiler):
    forward = engine.forward_pass(detector.eval(), compiled=True)
    for clips in (2, 3, 2, 3, 1):
        found = forward(*given(detector, clips))
        plain = engine.Forward(detector)(*given(detector, clips))
        assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))
    assert compiler.sizes == [2, 3, 3]  # the last of an epoch has fewer clips
    assert compiler.asked == [{"mode": None, "dynamic": False, "fullgraph": True}]


def test_what_a_graph_gave_stays_when_it_is_replayed(detector, compiler):
    forward = engine.Forward(detector.eval(), compiled=True, graphs=True)
    first = forward(*given(detector, 2, 0))
    before = [part.clone() for part in first]
    forward(*given(detector, 2, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, before, strict=True))
    assert compiler.asked[0]["mode"] == "reduce-overhead"


def test_latents_of_a_video_stay_when_the_next_tile_is_replayed(detector, compiler):
    assert engine.scoring_forward(False, "cuda") is mc_forward
    forward = engine.scoring_forward(True, "cuda")
    assert compiler.asked[0]["mode"] == "reduce-overhead"
    size = detector.eval().config.size
    latents = []
    for seed in range(2):
        clip = torch.rand(1, 3, 8, size, size, generator=torch.Generator().manual_seed(seed))
        masks = seeded_masks(detector, 0, "v", seed, 0, 2)
        latents.append(forward(detector, clip, *masks)[1])
        assert torch.equal(latents[-1], mc_forward(detector, clip, *masks)[1])
    assert not torch.equal(*latents)
    engine.scoring_forward(True, "cpu")
    assert compiler.asked[1] == {"dynamic": False, "fullgraph": True}


@pytest.mark.long  # 40 s of compiling
def test_a_compiled_pass_learns_the_same(detector):
    """Through dynamo itself, which must find the whole pass to be one graph."""
    compile_, torch._dynamo.config.suppress_errors = torch.compile, False
    forward = engine.Forward(detector)
    forward.compiled = compile_(
        forward.pass_of, dynamic=False, fullgraph=True, backend="aot_eager"
    )
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    found = []
    for make in (forward, engine.Forward(detector)):
        detector.load_state_dict(state)
        detector.train().zero_grad()
        detection = make(*given(detector, 2))
        sum(part.float().square().mean() for part in detection).backward()
        found.append({n: p.grad for n, p in detector.named_parameters() if p.grad is not None})
    torch._dynamo.reset()
    ours, plain = found
    assert ours.keys() == plain.keys() and len(plain) > 20
    for name, gradient in plain.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5)
