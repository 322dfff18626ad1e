"""On a card nothing in the training loop waits for it: engine's own functions on a pretended
one, and what reads a value a step late.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from no_waits import Wait, no_waits, pretended_cuda

from claus import engine
from claus.losses.cluster import Clusters
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.utils.precision import Precision, autocast
from claus.utils.runtime import UserError

CLIPS, CLASSES = 2, 3


def batch(size):
    """A batch as the loader gives it."""
    return {
        "frames": torch.zeros(CLIPS, 8, 3, size, size, dtype=torch.uint8),
        "target": torch.ones(CLIPS, 8, size, size, dtype=torch.uint8),
        "weight": torch.ones(CLIPS, 8, size, size),
        "label": torch.tensor([0, 1]),
        "anchor": torch.tensor([4, 4]),
        "name": ["a", "b"],
        "failed": [],
    }


def on_card(model):
    """A detector of an architecture on the pretended card."""
    return Detector(DetectorConfig(CLASSES, **PRESETS[model])).to("cuda")


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("model", "amp"),
    [
        ("small", True),
        pytest.param("small", False, marks=LONG),
        ("full", True),
        pytest.param("full", False, marks=LONG),
    ],
)
def test_a_training_step_waits_for_nothing(model, amp):
    with pretended_cuda():
        detector = on_card(model)
        groups = [{"params": list(detector.parameters()), "base_lr": 1e-3}]
        # the fused one asks for a real card
        optimizer = torch.optim.SGD(groups, 1e-3)
        step = engine.ClausStep(detector, amp=amp)
        step.begin_epoch()
        centers = torch.zeros(3, detector.config.latent_size)
        clusters = Clusters(centers, [100] * 3, {"a": 0, "b": 1})
        given, pace, seen = batch(detector.config.size), engine.Pace(0, 10), []
        for number in range(2):  # the first takes the centers to the card
            part = engine.part_of_batch(given)
            with no_waits() as watched:
                loss, terms = engine.train_one_step(
                    step, clusters, given, optimizer, pace.at(number), part, "-1..1",
                    lambda step, batch, detection: seen.append(step),
                )  # fmt: skip
        assert seen == [0, 1] and loss.is_cuda and not loss.requires_grad
        assert {name for name, value in terms.items() if value.is_cuda} == set(terms)
        assert watched.operators["aten.convolution.default"]


def test_the_guard_sees_what_the_loop_used_to_do():
    """A mean over batches by momentum None reads a counter of each layer."""
    with pretended_cuda():
        layer = torch.nn.BatchNorm3d(4, momentum=None).to("cuda")
        with no_waits(), pytest.raises(Wait):
            layer(torch.zeros(2, 4, 2, 8, 8, device="cuda"))


def test_batch_norm_is_averaged_without_a_wait():
    with pretended_cuda():
        detector = on_card("small")
        with no_waits():
            given = batch(detector.config.size)
            engine.reestimate_batch_norm(detector, [given, given], "-1..1", 2)


def test_averaged_batch_norm_is_the_plain_mean_over_batches_that_could_be_read():
    torch.manual_seed(0)
    detector = Detector(DetectorConfig(CLASSES, **PRESETS["small"]))
    size = detector.config.size
    clips = [torch.randint(256, (2, 8, 3, size, size), dtype=torch.uint8) for _ in range(3)]
    batches = [{"frames": frames, "name": ["v"]} for frames in clips]
    batches.insert(1, {"name": []})
    engine.reestimate_batch_norm(detector, batches, "-1..1", 4)
    first = engine.batch_norms(detector)[0]
    assert int(first.num_batches_tracked) == 3 and first.momentum == 0.01
    inputs = []
    hook = first.register_forward_pre_hook(lambda layer, given: inputs.append(given[0]))
    detector.train()
    for frames in clips:
        detector.encode(engine.normalize(frames, "-1..1"))
    hook.remove()
    over = [x for x in range(inputs[0].ndim) if x != 1]
    mean = torch.stack([x.mean(over) for x in inputs]).mean(0)
    torch.testing.assert_close(first.running_mean, mean)


@pytest.mark.parametrize("model", ["small", "full"])
def test_a_scored_tile_waits_for_nothing(model):
    with pretended_cuda():
        detector = on_card(model).eval()
        size = detector.config.size
        geometry = SimpleNamespace(shown=lambda h, w: (slice(0, size), slice(2, size)))
        trained = SimpleNamespace(detector=detector, geometry=geometry, pixel_range="-1..1")
        chunk = {
            "clips": torch.zeros(1, 8, 3, size, size, dtype=torch.uint8),
            "tile": np.array([0]),
            "phase": np.array([0]),
        }
        video = SimpleNamespace(name="v", height=240, width=320)
        settings = engine.ScoreSettings(amp=True)
        with torch.no_grad(), no_waits():
            latents, values = engine.score_clips(
                trained, video, chunk, settings, engine.mc_forward
            )
        assert latents[0].is_cuda and values[0].shape == (5, 8)


# ---------------------------------------------------------------- a value, a step late


class Event:
    """In place of torch.cuda.Event: notes when it is awaited."""

    awaited = 0

    def record(self):
        pass

    def synchronize(self):
        Event.awaited += 1


def test_a_loss_on_the_card_is_read_a_step_late(monkeypatch):
    """Awaited is the copy of the step before, when the next one is queued."""
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.awaited = 0
    with pretended_cuda():
        running, one = engine.Running(), torch.ones((), device="cuda")
        for number in range(3):
            with no_waits():
                running.add(number, one, {"total": one}, 2)
            assert Event.awaited == number
    assert running.clips == 6


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_step_that_broke_is_named(bad):
    running, losses = engine.Running(), [1.0, bad, 2.0]
    with pytest.raises(UserError, match=f"the loss is {bad} at step 1, so"):
        for number, loss in enumerate(losses):
            value = torch.tensor(loss)
            running.add(number, value, {"total": value}, 1)
    assert number == 2  # one step late
    running = engine.Running()
    running.add(7, torch.tensor(bad), {}, 1)
    with pytest.raises(UserError, match=f"the loss is {bad} at step 7, so"):
        running.read()  # before any weights are saved


# ------------------------------------------------------------------------------- precision


@pytest.fixture
def backends():
    """PyTorch's switches, put back afterwards."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    names = ("benchmark", "deterministic", "allow_tf32")
    before, tf32 = {name: getattr(cudnn, name) for name in names}, products.allow_tf32
    yield lambda: [*(getattr(cudnn, name) for name in names), products.allow_tf32]
    for name, value in before.items():
        setattr(cudnn, name, value)
    products.allow_tf32 = tf32


def test_float32_on_a_card_is_float32_and_the_same_bytes_again(backends):
    Precision(amp=False).take("cuda")
    assert backends() == [False, True, False, False]
    assert Precision(amp=False).name("cuda:1") == "float32"
    Precision(amp=False, tf32=True, cudnn_benchmark=True).take("cuda")
    assert backends() == [True, False, True, True]
    assert Precision(amp=False, tf32=True).name("cuda") == "tf32"
    assert Precision(amp=True, tf32=True).name("cuda") == "bfloat16"


def test_a_cpu_is_left_as_it_is(backends):
    before = backends()
    assert Precision(tf32=True).take("cpu").name("cpu") == "float32" and backends() == before
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_bf16_on_a_cpu_where_it_is_asked_for():
    taken = Precision(amp=False, cpu_bf16=True).take("cpu")
    try:
        assert taken.name("cpu") == "bfloat16" and taken.name("cuda") == "float32"
        with autocast("cpu", taken.amp):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    finally:
        Precision().take("cpu")
    with autocast("cpu"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
