"""What every method computes of a batch, and where its gradient goes."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from semi_tools import batch, tiny_detector

from claus import engine
from claus.losses.criterion import LossSettings, total_loss
from claus.losses.margin import margin_loss
from claus.losses.stew import stew_loss
from claus.models.detector import Detection
from claus.models.input import normalize
from claus.semi import methods
from claus.semi.consistency import variance_mask
from claus.semi.methods import METHODS, Networks, SemiOptions, When, class_masks, iou_loss
from claus.semi.teacher import Teacher, teach
from claus.semi.unet3d import UNet3D
from claus.semi.views import strong_view

LOSSES = LossSettings(cluster_weight=0.0)
LATE = When(19, 20)  # every option has set in


def networks(method, seed=0):
    detector = tiny_detector(seed).train()
    made = Networks(detector)
    if "teacher" in method:
        made.teacher = Teacher(tiny_detector(seed + 1))
        made.teacher.train()
    if method == "stable-mean-teacher":
        made.unet = UNet3D((2, 4))
        made.unet_teacher = Teacher(UNet3D((2, 4)))
    return made


def run(method, made=None, given=None, when=LATE, **options):
    given = given or batch(2, 0 if method == "supervised" else 2)
    made = made or networks(method)
    torch.manual_seed(7)
    centers = torch.zeros(len(given["label"]), made.detector.config.latent_size)
    return METHODS[method](
        made, given, centers, LOSSES, SemiOptions(**{"thresh_epoch": 1, **options}), when
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_finite_loss_with_gradient_for_every_weight(method):
    made = networks(method)
    total, terms, detection = run(method, made)
    assert total.shape == () and torch.isfinite(total) and terms["total"] is total
    assert len(detection.scores) == len(detection.logits) == 2  # of the labeled clips
    total.backward()
    for name, parameter in made.detector.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("method", METHODS)
def test_without_weight_the_unlabeled_term_changes_nothing(method):
    """The loss with wt_cons 0 is the sum of the labeled terms."""
    if method in ("supervised", "mixmatch"):
        pytest.skip("has no such term, or mixes the labeled clips")
    total, terms, _ = run(method, wt_cons=0.0)
    assert total.item() == pytest.approx(
        sum(
            float(terms[name].detach())
            for name in ("bce", "dice", "margin", "recovery")
            if name in terms
        ),
        rel=1e-6,
    )
    with_term, terms, _ = run(method, wt_cons=0.5)
    unlabeled = terms.get("consistency", terms.get("pseudo-label"))
    assert unlabeled > 0 and with_term.item() == pytest.approx(
        total.item() + 0.5 * unlabeled.item(), rel=1e-5
    )


@pytest.mark.parametrize(
    "options", [{}, {"loc_loss": "iou"}, {"class_mask": False}], ids=["dice", "iou", "no mask"]
)
def test_with_consistency_weight_zero_the_labeled_loss_is_that_of_supervised_training(options):
    """Same weights, same batch-norm statistics, same dropout: same loss, and the same
    gradient.
    """
    losses = (
        LOSSES if "loc_loss" not in options else LossSettings(cluster_weight=0.0, dice="none")
    )
    given, both = batch(2, 0), batch(2, 2)
    both["frames"][:2], both["clip"][:2] = given["frames"], given["clip"]
    gradients, totals = [], []
    for method, content in (("supervised", given), ("consistency", both)):
        made = Networks(tiny_detector())
        for layer in engine.batch_norms(made.detector.train()):
            layer.eval()  # of the batch, which has other clips too
        rows = [
            torch.arange(4)[:, None].expand(-1, n) % 2 * 2.0
            for n in made.detector.dropped_channels
        ]
        made.detector.random_masks = lambda count, device, rows=rows: tuple(
            r[:count].float() for r in rows
        )
        centers = torch.zeros(2, made.detector.config.latent_size)
        total, _, _ = METHODS[method](
            made, content, centers, losses, SemiOptions(wt_cons=0.0, **options), LATE
        )
        total.backward()
        totals.append(total.item())
        gradients.append(torch.cat([p.grad.flatten() for p in made.detector.parameters()]))
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_the_labeled_loss_is_that_of_the_training_scripts():
    given, made = batch(3, 0), networks("supervised")
    given["target"][1] = 0  # shows no action
    total, terms, detection = run("supervised", made, given)
    expected, _ = total_loss(detection, given, torch.zeros_like(detection.latent), LOSSES, 0.0)
    assert total.item() == expected.item()
    bce, dice = stew_loss(detection.logits[:, 0], given["target"], given["weight"])
    margin = margin_loss(detection.scores[[0, 2]], given["label"][[0, 2]], 0.2)
    assert total.item() == pytest.approx((bce + dice + margin).item(), rel=1e-6)


def test_iou_loss_by_hand():
    """Two pixels of three right, in the one frame that counts: 1 - (1 + 1) / (2 + 2 - 1 +
    1).
    """
    logits = torch.tensor([[[[99.0, 99.0, -99.0]], [[99.0, 99.0, 99.0]]]])
    target = torch.tensor([[[[0, 1, 1]], [[0, 0, 0]]]])
    weight = torch.tensor([[[[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0]]]])
    assert iou_loss(logits, target, weight).item() == pytest.approx(1 - 2 / 4)
    assert iou_loss(logits, target, torch.ones_like(weight)).item() == pytest.approx(
        1 - 2 / (5 + 2 - 1 + 1)
    )


# ---- class masks ----


def test_class_masks():
    scores = torch.tensor([[0.1, 0.5, 0.2], [0.9, 0.1, 0.1], [0.1, 0.2, 0.6]])
    label = torch.tensor([2])
    before = class_masks(label, SemiOptions(), When(9, 100))(scores)
    after = class_masks(label, SemiOptions(), When(10, 100))(scores)  # the eleventh epoch
    assert before.tolist() == [[0, 0, 1], [1, 1, 1], [1, 1, 1]]
    assert after.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert class_masks(label, SemiOptions(class_mask=False), When(10, 100)) is None


def test_the_detector_takes_a_function_and_masks_by_itself_at_test_time():
    detector, clip = tiny_detector().eval(), torch.randn(2, 3, 8, 32, 32)
    plain = detector(clip)
    predicted = F.one_hot(plain.scores.argmax(1), 3)
    masked = detector(clip, predicted)
    assert not torch.equal(masked.logits, plain.logits) and torch.equal(
        masked.scores, plain.scores
    )
    assert torch.equal(
        detector(clip, lambda scores: F.one_hot(scores.argmax(1), 3)).logits, masked.logits
    )
    detector.config = replace(detector.config, class_masking=True)
    assert torch.equal(detector(clip).logits, masked.logits)
    assert torch.equal(detector(clip, torch.ones(2, 3)).logits, plain.logits)


# ---- the methods, one by one ----


def test_the_mirrored_pass_is_flipped_back():
    """A network that only looks at each pixel gives the same twice: no consistency loss."""

    class PerPixel(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = tiny_detector().config
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, clip, masks):
            n = len(clip)
            return methods.Detection(
                self.weight * clip.mean(1, keepdim=True),
                torch.full((n, 3), 0.5) * self.weight,
                torch.zeros(n, self.config.latent_size),
                torch.zeros(n, 3),
            )

    made = Networks(PerPixel())
    for method in ("consistency", "co-ssd"):
        _, terms, _ = run(method, made)
        assert terms["consistency"].item() == pytest.approx(0, abs=1e-9)


def test_consistency_has_gradient_through_both_passes():
    made, seen = networks("consistency"), []
    forward = made.detector.forward

    def watched(clip, masks):
        detection = forward(clip, masks)
        detection.logits.retain_grad()
        seen.append(detection.logits)
        return detection

    made.detector.forward = watched
    run("consistency", made)[0].backward()
    assert len(seen) == 2 and all(logits.grad[2:].abs().sum() > 0 for logits in seen)


def test_pseudo_labels_wait_for_their_epoch_and_count_confident_pixels_only():
    assert run("pseudo-label", thresh_epoch=21)[1]["pseudo-label"] == 0  # of 20
    made, given = networks("pseudo-label"), batch()
    _, terms, _ = run("pseudo-label", made, given, confidence=0.7)
    torch.manual_seed(7)
    again = made.detector(
        given["clip"], class_masks(given["label"], SemiOptions(thresh_epoch=1), LATE)
    )
    logits, scores = again.logits[2:, 0], again.scores[2:]
    probability = logits.sigmoid()
    error = -torch.where(probability >= 0.5, probability, 1 - probability).log()
    kept = (probability >= 0.7) | (probability <= 0.3)
    expected = (error * kept).mean() + margin_loss(scores, scores.argmax(1), 0.2)
    assert terms["pseudo-label"].item() == pytest.approx(expected.item(), rel=1e-4)
    none = run("pseudo-label", made, given, confidence=1.0)[1]["pseudo-label"]
    assert none.item() == pytest.approx(
        margin_loss(scores, scores.argmax(1), 0.2).item(), rel=1e-4
    )


@pytest.mark.parametrize("method", ["mean-teacher", "stable-mean-teacher"])
def test_no_gradient_flows_into_the_teacher_and_both_views_share_their_geometry(
    method, monkeypatch
):
    made, clips = networks(method), []
    monkeypatch.setattr(
        methods,
        "teach",
        lambda network, clip, masks: (clips.append(clip), teach(network, clip, masks))[1],
    )
    monkeypatch.setattr(
        methods, "strong_view", lambda frames: frames
    )  # then both are the same clip
    forward = made.detector.forward
    made.detector.forward = lambda clip, masks: (clips.append(clip), forward(clip, masks))[1]
    run(method, made)[0].backward()
    torch.testing.assert_close(clips[0], clips[1])
    teachers = [made.teacher] + ([made.unet_teacher] if made.unet else [])
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


def test_mean_teacher_is_the_squared_error_of_the_logits_ramped():
    made, given = networks("mean-teacher"), batch()
    for when, ramp in ((LATE, 0.98757), (When(0, 20), 0.0067379)):
        outcome = {}
        made.detector.forward = watch(made.detector, outcome)
        _, terms, _ = run("mean-teacher", made, given, when)
        masks = class_masks(given["label"], SemiOptions(thresh_epoch=1), when)
        teacher = methods.teach(made.teacher.module, given["clip"], masks)
        expected = ramp * (outcome["logits"] - teacher.logits).square().mean()
        assert terms["consistency"].item() == pytest.approx(expected.item(), rel=1e-4)


def watch(detector, outcome):
    forward = type(detector).forward

    def watched(clip, masks):
        detection = forward(detector, clip, masks)
        outcome.update(logits=detection.logits.detach())
        return detection

    return watched


def test_stable_mean_teacher_is_that_of_the_formula():
    made, given, outcome = networks("stable-mean-teacher"), batch(), {}
    made.detector.forward = watch(made.detector, outcome)
    total, terms, _ = run("stable-mean-teacher", made, given, When(20, 20))
    masks = class_masks(given["label"], SemiOptions(thresh_epoch=1), LATE)
    s = outcome["logits"][:, 0]
    t = methods.teach(made.teacher.module, given["clip"], masks).logits[:, 0]
    u = made.unet_teacher(t.sigmoid())
    step = lambda x: x[:, 1:] - x[:, :-1]  # noqa: E731
    mse = lambda a, b: (a - b).square().mean()  # noqa: E731
    expected = mse(s, t) + mse(step(s), step(t)) + mse(s, u) + mse(step(s), step(u))
    assert terms["consistency"].item() == pytest.approx(expected.item(), rel=1e-4)
    bce, dice = stew_loss(made.unet(s[:2].sigmoid()), given["target"], given["weight"])
    assert terms["recovery"].item() == pytest.approx((bce + dice).item(), rel=1e-4)


def test_the_unet_learns_from_labeled_clips_and_gives_the_detector_no_gradient():
    made = networks("stable-mean-teacher")
    _, terms, _ = run("stable-mean-teacher", made)
    terms["recovery"].backward()
    assert all(p.grad is not None for p in made.unet.parameters())
    assert all(p.grad is None for p in made.detector.parameters())


def test_co_ssd_leaves_out_what_both_views_call_background():
    made, given = networks("co-ssd"), batch()
    with torch.no_grad():
        made.detector.smooth.bias.fill_(-50.0)  # background everywhere, for sure
    _, terms, _ = run("co-ssd", made, given)
    with torch.no_grad():
        made.detector.smooth.bias.fill_(0.0)
    _, with_masks, _ = run("co-ssd", made, given)
    assert terms["consistency"] < 0.01 < with_masks["consistency"]


def recorded(made):
    """[(clip, class factors, Detection)] of every pass of the student from now on."""
    passes, forward = [], made.detector.forward

    def watched(clip, masks):
        detection = forward(clip, masks)
        passes.append(
            (
                clip.detach(),
                masks and masks(detection.scores),
                Detection(*(x.detach() for x in detection)),
            )
        )
        return detection

    made.detector.forward = watched
    return passes


def test_co_ssd_is_that_of_the_formula():
    """Jensen-Shannon divergence of the class shares + squared error where not both views
    are sure of background.
    """
    made, given = networks("co-ssd"), batch()
    passes = recorded(made)
    _, terms, _ = run("co-ssd", made, given, confidence=0.5)
    (_, _, first), (_, _, second) = passes
    a, b = (d.scores / d.scores.sum(1, keepdim=True) for d in (first, second))
    middle = (a + b) / 2
    divergence = ((a * (a / middle).log() + b * (b / middle).log()).sum(1) / 2).mean()
    o, p = first.logits[:, 0], second.logits[:, 0].flip(-1)
    counted = torch.maximum(o, p) > 0
    assert 0.01 < counted.float().mean() < 0.99 and divergence > 1e-7
    expected = divergence + ((p - o) ** 2)[counted].mean()
    assert terms["consistency"].item() == pytest.approx(expected.item(), rel=1e-5)
    only_masks = ((p - o) ** 2)[counted].mean()
    assert (terms["consistency"] - only_masks).item() == pytest.approx(
        divergence.item(), rel=0.02
    )


def test_consistency_with_the_variance_mask_is_ramped():
    """r(9 of 20) = exp(-5 · 0.55²) of the masked term, the rest of the plain one."""
    made, given = networks("consistency"), batch()
    passes = recorded(made)
    _, terms, _ = run("consistency", made, given, When(9, 20), bv=True)
    o, p = (x[:, 0] for x in (passes[0][2].logits, passes[1][2].logits.flip(-1)))
    r, d = math.exp(-5 * 0.55**2), (p - o) ** 2
    expected = r * 2 * (variance_mask(o, p) * d).mean() + (1 - r) * d.mean()
    assert terms["consistency"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    "method, term",
    [
        ("mean-teacher", "consistency"),
        ("stable-mean-teacher", "consistency"),
        ("mixmatch", "mixmatch"),
    ],
)
def test_the_terms_of_averaged_targets_are_ramped(method, term):
    """Same weights, same draws: between epoch 9 and 20 of 20 the term grows by exp(5 ·
    0.55²).
    """
    middle, end = (
        run(method, networks(method), when=When(epoch, 20))[1][term].item() for epoch in (9, 20)
    )
    assert end / middle == pytest.approx(math.exp(5 * 0.55**2), rel=1e-4)


@pytest.mark.parametrize("method", ["mean-teacher", "stable-mean-teacher"])
def test_the_student_sees_the_strong_view_and_the_teacher_the_weak_one(method, monkeypatch):
    made, given, weak = networks(method), batch(), []
    monkeypatch.setattr(
        methods,
        "teach",
        lambda network, clip, masks: (weak.append(clip), teach(network, clip, masks))[1],
    )
    passes = recorded(made)
    run(method, made, given)
    torch.manual_seed(7)
    strong = normalize(strong_view(given["frames"]), "-1..1")
    assert (
        len(passes) == 1
        and torch.equal(passes[0][0], strong)
        and torch.equal(weak[0], given["clip"])
    )
    assert (strong - given["clip"]).abs().mean() > 0.05


# ---- MixMatch ----


def test_sharpening_and_mixing_by_hand():
    p = torch.tensor([0.5, 0.8, 0.0, 1.0])
    torch.testing.assert_close(
        methods.sharpened(p, 1 - p), torch.tensor([0.5, 0.64 / 0.68, 0.0, 1.0])
    )
    x, lam = torch.tensor([[0.0, 10.0], [100.0, 200.0]]), torch.tensor([0.75, 1.0])
    assert methods.mixed(x, torch.tensor([1, 0]), lam).tolist() == [
        [25.0, 57.5],
        [100.0, 200.0],
    ]
    torch.manual_seed(0)
    lam = methods.mixing_shares(2000, "cpu")
    assert lam.min() >= 0.5 and lam.max() <= 1 and lam.std() > 0.1


def test_mixmatch_without_mixing_is_the_supervised_loss_and_the_error_of_the_guess(monkeypatch):
    made, given = networks("mixmatch"), batch()
    monkeypatch.setattr(methods, "mixing_shares", lambda count, device: torch.ones(count))
    outcome = {}
    made.detector.forward = watch(made.detector, outcome)
    total, terms, detection = run("mixmatch", made, given, When(20, 20))
    expected, _ = total_loss(detection, given, torch.zeros_like(detection.latent), LOSSES, 0.0)
    assert total.item() - 0.1 * terms["mixmatch"].item() == pytest.approx(
        expected.item(), rel=1e-5
    )
    torch.manual_seed(7)
    guess, spread, classes = methods.guesses(
        made, given["clip"][2:], SemiOptions(thresh_epoch=1), LATE
    )
    assert guess.shape == (2, 8, 32, 32) and guess.min() >= 0 and guess.max() <= 1
    torch.testing.assert_close(spread.sum(1), torch.ones(2))
    assert torch.equal(classes, spread.argmax(1)) and not guess.requires_grad


def test_mixmatch_is_that_of_the_formula(monkeypatch):
    """Everything recomputed, with another share for every clip, labeled mixed with
    unlabeled ones.
    """
    lam, other = torch.tensor([0.6, 0.9, 0.75, 0.8]), torch.tensor([2, 3, 0, 1])
    monkeypatch.setattr(methods, "mixing_shares", lambda count, device: lam)
    monkeypatch.setattr(torch, "randperm", lambda count, device=None: other)
    made, given = networks("mixmatch"), batch()
    given["target"][1] = 0  # shows no action: no margin towards it
    passes = recorded(made)
    total, terms, _ = run("mixmatch", made, given, When(10, 20))
    (_, _, first), (_, _, second), (clip, masks, mixed) = passes

    def mix(x):
        share = lam.reshape(-1, *[1] * (x.dim() - 1))
        return share * x + (1 - share) * x[other]

    probability = (first.logits.sigmoid() + second.logits.flip(-1).sigmoid())[:, 0] / 2
    guess = probability**2 / (probability**2 + (1 - probability) ** 2)
    spread = sum(d.scores / d.scores.sum(1, keepdim=True) for d in (first, second)) / 2
    spread = spread**2 / (spread**2).sum(1, keepdim=True)
    classes = torch.cat([given["label"], spread.argmax(1)])
    target = mix(torch.cat([given["target"].float(), guess]))
    weight = mix(torch.cat([given["weight"], torch.ones_like(guess)]))
    spread = mix(torch.cat([F.one_hot(given["label"], 3).float(), spread]))
    own = mixed.scores[2:] / mixed.scores[2:].sum(1, keepdim=True)
    term = math.exp(-5 * 0.25) * (
        (mixed.logits[2:, 0].sigmoid() - target[2:]).square().mean()
        + (own - spread[2:]).square().mean()
    )
    assert terms["mixmatch"].item() == pytest.approx(term.item(), rel=1e-4)
    shows, margin, shares = [1, 0, 1, 1], 0.0, 0.0
    for row in range(2):
        for share, clip_of in ((lam[row], row), (1 - lam[row], int(other[row]))):
            lacking = [
                0.2 - mixed.scores[row, classes[clip_of]] + mixed.scores[row, c]
                for c in range(3)
                if c != classes[clip_of]
            ]
            margin += share * shows[clip_of] * sum(x.clamp(min=0) ** 2 for x in lacking)
            shares += share * shows[clip_of]
    assert terms["margin"].item() == pytest.approx((margin / max(shares, 1)).item(), rel=1e-4)
    bce, dice = stew_loss(mixed.logits[:2, 0], target[:2], weight[:2])
    assert total.item() == pytest.approx(
        (bce + dice + terms["margin"] + 0.1 * term).item(), rel=1e-5
    )
    torch.testing.assert_close(clip, mix(given["clip"]))
    kept = F.one_hot(classes, 3)
    assert torch.equal(masks.long(), torch.maximum(kept, kept[other]))


def test_mixmatch_mixes_clips_masks_and_classes_in_one_proportion(monkeypatch):
    made, given, clips = networks("mixmatch"), batch(), []
    monkeypatch.setattr(
        methods, "mixing_shares", lambda count, device: torch.full((count,), 0.75)
    )
    monkeypatch.setattr(
        torch, "randperm", lambda count, device=None: torch.tensor([1, 0, 3, 2])
    )
    forward = made.detector.forward
    made.detector.forward = lambda clip, masks: (clips.append(clip), forward(clip, masks))[1]
    seen = {}
    monkeypatch.setattr(
        methods,
        "labeled_loss",
        lambda d, content, *rest: (seen.update(content), labeled(d, content, *rest))[1],
    )
    run("mixmatch", made, given)
    torch.testing.assert_close(clips[-1][0], 0.75 * given["clip"][0] + 0.25 * given["clip"][1])
    target = given["target"].float()
    torch.testing.assert_close(seen["target"][1], 0.75 * target[1] + 0.25 * target[0])


labeled = methods.labeled_loss
