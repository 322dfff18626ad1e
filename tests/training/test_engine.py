"""The loops of engine.py on networks whose answers are known beforehand."""

from types import SimpleNamespace

import pytest
import torch

from claus import engine
from claus.models.detector import Detection

SIDE = 4


class Known(torch.nn.Module):
    """Says foreground in the first `wide` columns of every frame, and class 0."""

    def __init__(self, wide):
        super().__init__()
        self.wide = wide
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # says on which device it is

    def forward(self, clip):
        logits = -torch.ones(len(clip), 1, clip.shape[2], SIDE, SIDE)
        logits[..., : self.wide] = 1
        scores = torch.tensor([[0.9, 0.1]]).expand(len(clip), 2)
        return Detection(logits, scores, torch.zeros(len(clip), 3), scores.log())


def labeled(wide, label):
    """A clip whose labels show foreground in the first `wide` columns."""
    target = torch.zeros(1, 2, SIDE, SIDE, dtype=torch.uint8)
    target[..., :wide] = 1
    return {
        "frames": torch.zeros(1, 2, 3, SIDE, SIDE, dtype=torch.uint8),
        "target": target,
        "label": torch.tensor([label]),
        "anchor": torch.tensor([1]),
        "name": ["v"],
        "failed": [],
    }


def scored(predicted, clips):
    return engine.validate(Known(predicted), clips, ("a", "b"), "-1..1")


def test_an_overlap_of_exactly_half_is_a_hit():
    assert scored(1, [labeled(2, 0)])["f@.5"] == 1  # one column of two: IoU 1/2
    assert scored(1, [labeled(2, 0)])["mean IoU"] == 0.5
    assert scored(1, [labeled(3, 0)])["f@.5"] == 0  # IoU 1/3


def test_every_class_counts_alike_and_the_class_does_not_decide_a_hit():
    clips = [labeled(1, 0), labeled(1, 0), labeled(1, 0), labeled(4, 1)]
    result = scored(1, clips)
    assert result["f@.5"] == 0.5  # 3 of 3 in class a, 0 of 1 in class b
    assert result["accuracy"] == 0.75


def test_a_frame_without_action_has_no_overlap_but_a_class():
    result = scored(1, [labeled(0, 1), labeled(2, 0)])
    assert (result["f@.5"], result["mean IoU"], result["accuracy"]) == (1, 0.5, 0.5)


def test_a_step_says_what_the_optimizer_follows():
    """The loop sets the rates by the schedule, calls the step once a batch, and averages its
    terms over the clips; batches without a clip are passed over.
    """
    weight = torch.nn.Parameter(torch.tensor(1.0))
    seen = []

    class Step:
        detector = SimpleNamespace(parameters=lambda: iter([weight]))

        def begin_epoch(self):
            seen.append("begin")

        def __call__(self, batch, centers, now, part):
            seen.append((now.step, now.progress, now.epoch, len(part.names)))
            loss = weight * len(part.names)
            return loss, {"total": loss}, SimpleNamespace(latent=torch.zeros(1, 2))

        def after_update(self):
            seen.append(round(weight.item(), 4))

    follows = []
    clusters = SimpleNamespace(
        of=lambda names, device: None, follow=lambda names, latent: follows.append(names)
    )
    empty = {"name": [], "failed": [("lost", "damaged")]}
    optimizer = torch.optim.SGD([{"params": [weight], "base_lr": 0.1}], 1.0)
    pace = engine.Pace(2, 4, 1, 2, "cosine")
    batches = [labeled(2, 0), empty]
    epoch = engine.train_one_epoch(Step(), clusters, batches, optimizer, pace, "-1..1")
    assert seen == ["begin", (2, 0.5, 1, 1), 0.95]  # cosine: half of the rate at half way
    assert follows == [["v"]]
    assert epoch.terms == {"total": 1.0} and epoch.clips == 1
    assert epoch.failed == {"lost": "damaged"}


def test_predictions_are_those_of_the_whole_whatever_the_batch():
    clips = torch.zeros(5, 2, 3, SIDE, SIDE, dtype=torch.uint8)
    logits, scores = engine.predict(Known(3).eval(), clips, "-1..1", batch=2)
    assert logits.shape == (5, 2, SIDE, SIDE) and scores.shape == (5, 2)
    assert (logits[..., :3] == 1).all() and (logits[..., 3:] == -1).all()


def test_rates_without_a_schedule_stay():
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "base_lr": 0.1}], 0.7)
    engine.set_rates(optimizer, None, 0.5)
    assert optimizer.param_groups[0]["lr"] == 0.7
    engine.set_rates(optimizer, "cosine", 0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_rows_are_all_there_in_order(dtype):
    every = torch.arange(3000).reshape(1000, 3).to(dtype)
    for sizes in ([1] * 200, [64, 1, 200], [500, 3]):
        rows = engine.Rows()
        for part in every[: sum(sizes)].split(sizes):
            rows.add(part)
        taken = rows.taken()
        assert torch.equal(taken, every[: sum(sizes)]) and taken.dtype == dtype
        assert taken.untyped_storage().nbytes() == taken.nbytes  # nothing kept beside them
