"""What each semi-supervised method computes of a batch: the labeled loss, and its own term
for unlabeled clips.

A batch holds labeled clips first (n of them: target, weight, label), then unlabeled ones;
`clip` (B,3,T,S,S) and `frames` (B,T,3,S,S) are of both. A method is a function (networks,
batch, centers, losses, options, when) -> (total, terms by name, Detection of the labeled
clips).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from claus.losses.criterion import shows_action, total_loss
from claus.losses.margin import FIRST_MARGIN, margin_loss
from claus.losses.stew import stew_loss
from claus.models.detector import Detection, Detector
from claus.models.input import normalize
from claus.semi.consistency import categorical_js, consistency_loss, difference, ramp
from claus.semi.teacher import Teacher, teach
from claus.semi.unet3d import UNet3D
from claus.semi.views import mirrored, strong_view
from claus.utils.precision import autocast


@dataclass(frozen=True)
class SemiOptions:
    """The switches of all methods; which method reads which is in USES."""

    wt_cons: float = 0.1  # weight of the term for unlabeled clips
    const_loss: str = "l2"  # l1 | l2 | jsd
    predict_maps: bool = False  # compare probabilities, not logits
    bv: bool = False  # temporal variance mask
    gv: bool = False  # gradient smoothness mask
    n_frames: int = 5
    bv_wt: float = 0.5
    gv_wt: float = 0.5
    gv_clamp: tuple | None = None
    compat: bool = False
    # a pixel's foreground (or background) probability from which it is believed
    confidence: float = 0.7
    # from this epoch on (the first is 1) the network's own predictions are believed
    thresh_epoch: int = 11
    class_mask: bool = True  # mask the class poses before decoding
    loc_loss: str = "dice"  # dice | iou, beside the BCE
    pixel_range: str = "-1..1"
    amp: bool = True


class When(NamedTuple):
    epoch: int  # from 0
    epochs: int


@dataclass
class Networks:
    """What is trained, and what follows it."""

    detector: Detector
    teacher: Teacher | None = None
    unet: UNet3D | None = None
    unet_teacher: Teacher | None = None


# ---------------------------------------------------------------------------- shared by all


def labeled_loss(detection, batch, centers, losses, loc_loss="dice"):
    """Supervised loss of the labeled clips: criterion.total_loss with margin 0.2
    throughout -> (total, terms).

    losses: LossSettings. loc_loss `iou` puts a soft intersection over union in the
    place of Dice.
    """
    total, terms = total_loss(detection, batch, centers, losses, progress=0)
    if loc_loss == "iou":
        terms["iou"] = iou_loss(detection.logits[:, 0], batch["target"], batch["weight"])
        total = total + losses.localization_weight * terms["iou"]
    return total, terms


def iou_loss(logits, target, weight):
    """1 - (Σpt + 1) / (Σp + Σt - Σpt + 1) per clip over the frames with weight, mean over
    the batch. All (B,T,H,W).
    """
    seen = (weight.amax(dim=(2, 3), keepdim=True) > 0).float()
    p, t = (logits.float().sigmoid() * seen).flatten(1), (target * seen).flatten(1)
    both = (p * t).sum(1)
    return (1 - (both + 1) / (p.sum(1) + t.sum(1) - both + 1)).mean()


def class_masks(label, options, when):
    """A function from scores (B,C) to factors on the class poses: for labeled clips
    (first) the true class; for unlabeled ones all, and from thresh_epoch on the predicted
    class alone. None where poses are not masked.
    """

    def masks(scores):
        classes = scores.shape[1]
        rest = scores[len(label) :]
        if believes(options, when):
            rest = F.one_hot(rest.argmax(1), classes)
        else:
            rest = torch.ones_like(rest)
        return torch.cat([F.one_hot(label, classes).to(scores.dtype), rest.to(scores.dtype)])

    return masks if options.class_mask else None


def believes(options, when):
    """Whether the network's own predictions are believed by now."""
    return when.epoch + 1 >= options.thresh_epoch


def run(network, clip, masks, options):
    """Detection of a training-mode pass, logits in float32."""
    with autocast(clip.device, options.amp):
        detection = network(clip, masks)
    return detection._replace(logits=detection.logits.float())


def rows(detection, wanted):
    return Detection(*(part[wanted] for part in detection))


def joined(detection, batch, centers, losses, options, unlabeled, name="consistency"):
    """Labeled loss plus wt_cons times the term for unlabeled clips -> what a method
    returns.
    """
    labeled = rows(detection, slice(len(batch["label"])))
    total, terms = labeled_loss(labeled, batch, centers, losses, options.loc_loss)
    total = total + options.wt_cons * unlabeled
    return total, {**terms, "total": total, name: unlabeled}, labeled


def both_views(networks, batch, options, when):
    """Two passes of the network, gradient through both: of the clips, and of their mirror
    images, flipped back.
    """
    masks = class_masks(batch["label"], options, when)
    first = run(networks.detector, batch["clip"], masks, options)
    second = run(networks.detector, mirrored(batch["clip"]), masks, options)
    return first, second._replace(logits=mirrored(second.logits))


# ------------------------------------------------------------------------------ the methods


def supervised(networks, batch, centers, losses, options, when):
    """The labeled clips alone."""
    detection = run(
        networks.detector, batch["clip"], class_masks(batch["label"], options, when), options
    )
    total, terms = labeled_loss(detection, batch, centers, losses, options.loc_loss)
    return total, {**terms, "total": total}, detection


def consistency(networks, batch, centers, losses, options, when):
    """Kumar & Rawat, CVPR 2022: a clip and its mirror image give the same masks, above all
    where these change.
    """
    first, second = both_views(networks, batch, options, when)
    term = consistency_loss(first.logits[:, 0], second.logits[:, 0], options, ramp(*when))
    return joined(first, batch, centers, losses, options, term)


def co_ssd(networks, batch, centers, losses, options, when):
    """Jeong et al., Consistency-based Semi-supervised Learning for Object Detection,
    NeurIPS 2019, on masks.

    Jensen-Shannon divergence of the class scores (scaled to sum 1), and L2 of the masks
    over the pixels that not both views are sure to be background (foreground probability of
    at most 1 - confidence).
    """
    first, second = both_views(networks, batch, options, when)
    o, p = first.logits[:, 0], second.logits[:, 0]
    classes = categorical_js(shares(first.scores), shares(second.scores)).mean()
    counted = (torch.maximum(o, p).detach().sigmoid() > 1 - options.confidence).float()
    masks = (
        counted * difference(p, o, "l2", options.predict_maps)
    ).sum() / counted.sum().clamp(min=1)
    return joined(first, batch, centers, losses, options, classes + masks)


def pseudo_label(networks, batch, centers, losses, options, when):
    """Lee, Pseudo-Label, 2013: from thresh_epoch on the network's own prediction is the
    target on unlabeled clips.

    BCE over the pixels of confident foreground or background, and the margin loss towards
    the predicted class.
    """
    detection = run(
        networks.detector, batch["clip"], class_masks(batch["label"], options, when), options
    )
    term = detection.logits.new_zeros(())
    if believes(options, when):
        own = rows(detection, slice(len(batch["label"]), None))
        logits, probability = own.logits[:, 0], own.logits[:, 0].detach().sigmoid()
        sure = (torch.maximum(probability, 1 - probability) >= options.confidence).float()
        error = F.binary_cross_entropy_with_logits(
            logits, (probability >= 0.5).float(), reduction="none"
        )
        margin = margin_loss(own.scores, own.scores.argmax(1), FIRST_MARGIN)
        term = (
            losses.localization_weight * (sure * error).mean() + losses.margin_weight * margin
        )
    return joined(detection, batch, centers, losses, options, term, "pseudo-label")


def mean_teacher(networks, batch, centers, losses, options, when):
    """Tarvainen & Valpola, NeurIPS 2017: strong view for the student, weak view for the
    teacher, squared error of the logits, ramped up.
    """
    student, teacher = student_and_teacher(networks, batch, options, when)
    term = ramp(*when) * F.mse_loss(student.logits, teacher.logits)
    return joined(student, batch, centers, losses, options, term)


def stable_mean_teacher(networks, batch, centers, losses, options, when):
    """Kumar, Mitra & Rawat, Stable Mean Teacher, AAAI 2025.

    A U-Net learns on the labeled clips to correct the student's (detached) probabilities;
    its average corrects the teacher's. s, t, u: logits of student, teacher, corrected
    teacher; Δ: difference of neighboring frames. L_cons = mse(s,t) + mse(Δs,Δt) + mse(s,u)
    + mse(Δs,Δu), ramped up.
    """
    student, teacher = student_and_teacher(networks, batch, options, when)
    s, t = student.logits[:, 0], teacher.logits[:, 0]
    n = len(batch["label"])
    with autocast(s.device, options.amp):
        corrected = networks.unet(s[:n].detach().sigmoid()).float()
        with torch.no_grad():
            u = networks.unet_teacher(t.sigmoid()).float()
    term = ramp(*when) * sum(
        F.mse_loss(s, x) + F.mse_loss(s.diff(dim=1), x.diff(dim=1)) for x in (t, u)
    )
    total, terms, labeled = joined(student, batch, centers, losses, options, term)
    bce, dice = stew_loss(corrected, batch["target"], batch["weight"])
    total = total + losses.localization_weight * (bce + dice)
    return total, {**terms, "total": total, "recovery": bce + dice}, labeled


def student_and_teacher(networks, batch, options, when):
    """Detections of the student on the strong view (with gradient) and of the teacher on
    the weak one (without).
    """
    masks = class_masks(batch["label"], options, when)
    strong = normalize(strong_view(batch["frames"]), options.pixel_range)
    with autocast(strong.device, options.amp):
        teacher = teach(networks.teacher.module, batch["clip"], masks)
    return run(networks.detector, strong, masks, options), teacher._replace(
        logits=teacher.logits.float()
    )


def mixmatch(networks, batch, centers, losses, options, when):
    """Berthelot et al., MixMatch, NeurIPS 2019, for masks and classes.

    The guess for an unlabeled clip is the sharpened average over the clip and its mirror
    image. Then all clips are mixed with a random other one, masks, weights and classes in
    the same proportion λ ≥ ½. Labeled rows take the supervised loss, unlabeled ones the
    squared error of mask probabilities and class shares, ramped up.
    """
    n, clip, label = len(batch["label"]), batch["clip"], batch["label"]
    guess, shares_u, class_u = guesses(networks, clip[n:], options, when)
    target = torch.cat([batch["target"].float(), guess])
    weight = torch.cat([batch["weight"], torch.ones_like(guess)])
    classes = torch.cat([label, class_u])
    shows = torch.cat([shows_action(batch), torch.ones_like(class_u, dtype=torch.bool)]).float()
    spread = torch.cat([F.one_hot(label, shares_u.shape[1]).to(shares_u.dtype), shares_u])
    other = torch.randperm(len(clip), device=clip.device)
    lam = mixing_shares(len(clip), clip.device)
    masks = mixed_masks(class_masks(label, options, when), class_u, other)

    detection = run(networks.detector, mixed(clip, other, lam), masks, options)
    target, weight, spread = (mixed(x, other, lam) for x in (target, weight, spread))
    labeled = rows(detection, slice(n))
    mixed_batch = {"target": target[:n], "weight": weight[:n], "label": label}
    total, terms = labeled_loss(labeled, mixed_batch, centers, losses, options.loc_loss)
    margin = margin_loss(
        torch.cat([labeled.scores] * 2),
        torch.cat([label, classes[other[:n]]]),
        FIRST_MARGIN,
        torch.cat([lam * shows, (1 - lam) * shows[other]])
        .unflatten(0, (2, -1))[:, :n]
        .flatten(),
    )
    total = total + losses.margin_weight * (margin - terms["margin"])
    own = rows(detection, slice(n, None))
    term = ramp(*when) * (
        F.mse_loss(own.logits[:, 0].sigmoid(), target[n:])
        + F.mse_loss(shares(own.scores.float()), spread[n:])
    )
    total = total + options.wt_cons * term
    return total, {**terms, "margin": margin, "total": total, "mixmatch": term}, labeled


@torch.no_grad()
def guesses(networks, clip, options, when):
    """(masks (B,T,S,S) and class shares (B,C), both averaged over two views and sharpened,
    classes (B,)).
    """
    masks = class_masks(clip.new_zeros(0, dtype=torch.long), options, when)
    first = run(networks.detector, clip, masks, options)
    second = run(networks.detector, mirrored(clip), masks, options)
    mask = (first.logits.sigmoid() + mirrored(second.logits).sigmoid())[:, 0] / 2
    average = (shares(first.scores.float()) + shares(second.scores.float())) / 2
    return sharpened(mask, 1 - mask), shares(average ** (1 / TEMPERATURE)), average.argmax(1)


TEMPERATURE = 0.5  # of MixMatch's sharpening
ALPHA = 0.75  # of its Beta distribution


def sharpened(p, rest):
    p, rest = p ** (1 / TEMPERATURE), rest ** (1 / TEMPERATURE)
    return p / (p + rest)


def mixing_shares(count, device):
    """λ (count,) of max(λ, 1-λ), λ ~ Beta(α, α): the share of the clip itself."""
    alpha = torch.full((count,), ALPHA, device=device)
    lam = torch.distributions.Beta(
        alpha, alpha, validate_args=False
    ).sample()  # validating waits for the device
    return torch.maximum(lam, 1 - lam)


def mixed(x, other, lam):
    """λ x + (1-λ) x[other], clip by clip; x (B,...)."""
    return torch.lerp(x[other], x, lam.reshape(-1, *[1] * (x.dim() - 1)).to(x.dtype))


def mixed_masks(masks, class_u, other):
    """Class masks of mixed clips: the classes that either of the two keeps; the guessed
    class, not a new prediction.
    """
    if masks is None:
        return None

    def either(scores):
        count = len(scores) - len(class_u)
        guessed = torch.cat(
            [scores[:count], F.one_hot(class_u, scores.shape[1]).to(scores.dtype)]
        )
        own = masks(guessed)
        return torch.maximum(own, own[other])

    return either


def shares(scores):
    """Scores (B,C) scaled to sum 1."""
    return scores / scores.sum(1, keepdim=True)


METHODS = {
    "consistency": consistency,
    "pseudo-label": pseudo_label,
    "mixmatch": mixmatch,
    "co-ssd": co_ssd,
    "mean-teacher": mean_teacher,
    "stable-mean-teacher": stable_mean_teacher,
    "supervised": supervised,
}
TEACHES = ("mean-teacher", "stable-mean-teacher")
UNSUPERVISED = tuple(name for name in METHODS if name != "supervised")
# the options that only some methods read
USES = {
    "const_loss": ("consistency",),
    "bv": ("consistency",),
    "gv": ("consistency",),
    "n_frames": ("consistency",),
    "bv_wt": ("consistency",),
    "gv_wt": ("consistency",),
    "gv_clamp": ("consistency",),
    "compat": ("consistency",),
    "predict_maps": ("consistency", "co-ssd"),
    "confidence": ("pseudo-label", "co-ssd"),
    "wt_cons": UNSUPERVISED,
    "thresh_epoch": UNSUPERVISED,
    "labeled_half": ("supervised",),
}
