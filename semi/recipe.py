"""What a semi-supervised method adds to training.Trainer: unlabeled clips beside the labeled
ones, its own networks, its step, and a learning rate that falls where the loss stays.
"""

import contextlib
import itertools
from dataclasses import dataclass, replace

from torch.optim.lr_scheduler import ReduceLROnPlateau

from claus import engine
from claus.artifacts import checkpoint
from claus.semi.batches import PairedBatches, paired_set
from claus.semi.lists import Lists
from claus.semi.methods import METHODS, TEACHES, Networks, SemiOptions, When
from claus.semi.teacher import Teacher
from claus.semi.unet3d import WIDTHS, UNet3D
from claus.training import TrainingSettings
from claus.utils.runtime import UserError
from claus.utils.shape import amount, misfit, whole

# after this many epochs without better training loss the rate is multiplied by the factor
PATIENCE, FACTOR = 5, 0.1


@dataclass(frozen=True)
class SemiSettings:
    """All that a semi-supervised training is told."""

    training: TrainingSettings
    lists: Lists
    method: str  # of METHODS
    labeled_half: bool  # batch_size is half of --bs, which sets the length of an epoch
    options: SemiOptions


class SemiStep:
    """The step of a method for engine.train_one_epoch. `detector` is the network that is
    kept: of the methods with a teacher the teacher.
    """

    def __init__(self, networks, settings):
        self.networks, self.settings = networks, settings
        teacher = networks.teacher
        self.detector = networks.detector if teacher is None else teacher.module
        pairs = (teacher, networks.detector), (networks.unet_teacher, networks.unet)
        self.followers = [pair for pair in pairs if pair[0] is not None]

    def begin_epoch(self):
        for module in (self.networks.detector, *itertools.chain(*self.followers)):
            module.train()

    def __call__(self, batch, centers, now, part):
        settings, training = self.settings, self.settings.training
        when = When(now.epoch, now.epochs)
        with seeded_dropout(self.networks.detector, training.seed, now.step):
            return METHODS[settings.method](
                self.networks, batch, centers, training.loss, settings.options, when
            )

    def after_update(self):
        """The teachers follow."""
        for teacher, network in self.followers:
            teacher.follow(network)


class Semi:
    """The recipe of a semi-supervised method, see training.py. unlabeled: names of videos."""

    takes_records = False  # strong views need pixels
    # whose activations say which pose is decoded, and are taught by the margin loss
    network = {"class_head": "capsule"}

    def __init__(self, settings, unlabeled):
        self.settings, self.unlabeled = settings, list(unlabeled)
        self.supervised = settings.method == "supervised"
        self.needs = "a labeled clip" if self.supervised else "a labeled and an unlabeled clip"
        schedule = settings.training.optimizer.lr_schedule
        self.schedule = None if schedule == "plateau" else schedule

    def clips_an_epoch(self):
        """Of supervised training as many steps as the other methods have beside the same
        unlabeled videos.
        """
        optimizer = self.settings.training.optimizer
        if not self.supervised or optimizer.steps or not self.unlabeled:
            return optimizer.clips_an_epoch()
        whole = optimizer.batch_size * (2 if self.settings.labeled_half else 1)
        return optimizer.batch_size * -(-len(self.unlabeled) // (whole - whole // 2))

    def build(self, detector, optimizer):
        """What the method needs beside the detector, the schedule of the rate, the step."""
        training, method = self.settings.training, self.settings.method
        masking = self.settings.options.class_mask
        detector.config = replace(detector.config, class_masking=masking)
        self.networks = networks = Networks(detector)
        if method in TEACHES:
            networks.teacher = Teacher(detector)
        if method == "stable-mean-teacher":
            networks.unet = UNet3D(WIDTHS[training.model]).to(training.hardware.device)
            networks.unet_teacher = Teacher(networks.unet)
            parameters = list(networks.unet.parameters())
            rate = training.optimizer.lr
            optimizer.add_param_group({"params": parameters, "base_lr": rate})
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"]
        # torch lowers the rate after more bad epochs than its patience
        self.plateau = ReduceLROnPlateau(optimizer, "min", FACTOR, PATIENCE - 1, threshold=0)
        return SemiStep(networks, self.settings)

    def sets(self, clips):
        return {} if self.supervised else paired_set(clips)

    def batches(self, labeled):
        if self.supervised:
            return labeled
        return PairedBatches(labeled, self.unlabeled, self.settings.training)

    def end_epoch(self, terms):
        if self.schedule is None:
            self.plateau.step(terms["total"])

    def state_dict(self):
        return {
            "plateau": self.plateau.state_dict(),
            "networks": {name: part.state_dict() for name, part in self.parts()},
            "unlabelled": self.unlabeled,
        }

    def load_state_dict(self, state, path):
        if not {"plateau", "networks", "unlabelled"} <= state.keys():
            raise UserError(
                f"{path} is not a semi-supervised training state; drop --resume and train "
                "again with --force"
            )
        for name, part in self.parts():
            checkpoint.check_finite(state["networks"][name], path)
            part.load_state_dict(state["networks"][name])
        self.plateau.load_state_dict(_checked_plateau(state["plateau"], self.plateau))
        names = state["unlabelled"]
        if misfit(names, [str]) or len(set(names)) < len(names):
            raise ValueError("its unlabeled videos are no list of names")
        self.unlabeled[:] = names

    def parts(self):
        """(name, network) of those that the method has."""
        return [(name, part) for name, part in vars(self.networks).items() if part is not None]


def _checked_plateau(state, fresh):
    """The state of a ReduceLROnPlateau; ValueError where its settings are not `fresh`'s."""
    moving = {"_last_lr": [amount], "cooldown_counter": whole, "num_bad_epochs": whole}
    moving |= {"last_epoch": whole, "best": lambda x: isinstance(x, int | float) and x == x}
    known = fresh.state_dict()
    same = {name: value for name, value in known.items() if name not in moving}
    if misfit(state, moving) or state.keys() != known.keys():
        raise ValueError("the state of its learning rate is damaged")
    if {name: state[name] for name in same} != same:
        raise ValueError("its learning rate falls by other settings")
    return state


@contextlib.contextmanager
def seeded_dropout(detector, seed, step):
    """In here the detector's channel dropout depends on (seed, step) and the number of the
    pass in the step alone.

    The first pass has the masks that engine.ClausStep would give the same clips.
    """
    passes = itertools.count()

    def random_masks(batch, device):
        masks = engine.dropout_masks(detector, seed, step, batch, next(passes))
        return tuple(mask.to(device, non_blocking=True) for mask in masks)

    # in the place of the method that draws from torch's state
    detector.random_masks = random_masks
    try:
        yield
    finally:
        del detector.random_masks
