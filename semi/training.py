"""One semi-supervised training: what training.Training is, with unlabeled clips, a method
and its networks.
"""

import contextlib
import itertools
import time
from collections import defaultdict
from dataclasses import fields, replace

from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

from claus import engine
from claus.semi.batches import HalfAndHalf, PairedSampler, UnlabeledClips, paired_loader
from claus.semi.methods import METHODS, TEACHES, Networks, SemiOptions, When
from claus.semi.teacher import Teacher
from claus.semi.unet3d import WIDTHS, UNet3D
from claus.training import Training
from claus.utils.runtime import UserError

PATIENCE, FACTOR = (
    5,
    0.1,
)  # after so many epochs without better training loss the rate is multiplied by this


class SemiTraining(Training):
    """The state of one training. `detector` is the network that is kept: of the methods
    with a teacher the teacher.
    """

    def __init__(
        self, args, labels, names, unlabeled, failed, find_video, folder, validation=()
    ):
        self.unlabeled, self.networks = list(unlabeled), None
        super().__init__(args, labels, names, failed, find_video, folder, validation)
        if self.networks is None:  # else done on resuming
            self.build()
        self.options = replace(self.options, localization=args.wt_loc)
        if args.method != "supervised":
            steps = -(-args.steps // args.epochs) if args.steps else None
            self.sampler = PairedSampler(
                self.names, self.unlabeled, args.seed, args.batch_size, steps
            )
            self.sampler.epoch = max(self.epoch - 1, 0)
            self.pairs = HalfAndHalf(self.clips, UnlabeledClips(self.clips))
            self.batches = paired_loader(self.pairs, self.sampler, args.workers)
            self.all_steps = args.steps or args.epochs * len(self.sampler)

    def clips_an_epoch(self):
        """Of supervised training as many steps as the other methods have beside the same
        unlabeled videos.
        """
        args = self.args
        if args.method != "supervised" or args.steps or not self.unlabeled:
            return super().clips_an_epoch()
        whole = args.batch_size * (2 if args.labeled_half else 1)
        return args.batch_size * -(-len(self.unlabeled) // (whole - whole // 2))

    def build(self):
        """What the method needs beside the detector, and the schedule of the learning rate."""
        args, student = self.args, self.detector
        student.config = replace(student.config, class_masking=args.class_mask)
        self.networks = Networks(student)
        if args.method in TEACHES:
            self.networks.teacher = Teacher(student)
            self.detector = self.networks.teacher.module
        if args.method == "stable-mean-teacher":
            self.networks.unet = UNet3D(WIDTHS[args.model]).to(args.device)
            self.networks.unet_teacher = Teacher(self.networks.unet)
            self.optimizer.add_param_group(
                {"params": list(self.networks.unet.parameters()), "base_lr": args.lr}
            )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"]
        # torch lowers the rate after more bad epochs than its patience
        self.plateau = ReduceLROnPlateau(
            self.optimizer, "min", FACTOR, PATIENCE - 1, threshold=0
        )
        self.semi_options = semi_options(args)

    def run_epoch(self, epoch, writer):
        super().run_epoch(epoch, writer)
        if self.args.lr_schedule == "plateau":
            self.plateau.step(self.history[-1]["total"])

    def train(self, batches, on_batch):
        """One epoch, as engine.train_epoch: (mean of each term, clips per second, {video:
        reason}).
        """
        args, method, networks = self.args, METHODS[self.args.method], self.networks
        when, device = (
            When(self.sampler.epoch, args.epochs),
            next(self.detector.parameters()).device,
        )
        followers = [
            (t, n)
            for t, n in (
                (networks.teacher, networks.detector),
                (networks.unet_teacher, networks.unet),
            )
            if t is not None
        ]
        for module in (networks.detector, *(module for pair in followers for module in pair)):
            module.train()
        sums, clips, failed, began, unchecked = (
            defaultdict(float),
            0,
            {},
            time.perf_counter(),
            None,
        )
        for step, batch in enumerate(
            tqdm(batches, desc="train", leave=False, unit="batch", disable=None), self.step
        ):
            failed.update(batch["failed"])
            if not batch["name"]:
                continue
            batch = engine.to_device(batch, device, args.pixel_range)
            with seeded_dropout(networks.detector, args.seed, step):
                total, terms, detection = method(
                    networks,
                    batch,
                    self.clusters.of(batch["name"], device),
                    self.options,
                    self.semi_options,
                    when,
                )
            self.set_rates(step)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()
            self.optimizer.step()
            for teacher, network in followers:
                teacher.follow(network)
            self.clusters.follow(batch["name"], detection.latent.detach())
            clips += len(batch["name"])
            for name, value in terms.items():
                sums[name] += value.detach() * len(batch["name"])
            on_batch(step, batch, detection)
            engine.check_finite(
                unchecked
            )  # a step late, so that the device need not be waited for
            unchecked = step, total.detach()
        engine.check_finite(unchecked)
        if not clips:
            raise UserError(
                "not one batch of this epoch had both a labeled and an unlabeled "
                "clip that can be read: "
                f"{next(iter(failed.values()), 'too few videos')}"
            )
        rate = clips / max(time.perf_counter() - began, 1e-9)
        return {name: float(value) / clips for name, value in sums.items()}, rate, failed

    def set_rates(self, step):
        """Learning rates of a step; those of the plateau schedule change between epochs
        alone.
        """
        if self.args.lr_schedule != "plateau":
            for group in self.optimizer.param_groups:
                group["lr"] = group["base_lr"] * engine.SCHEDULES[self.args.lr_schedule](
                    step / self.all_steps
                )

    def reestimate(self):
        """Batch-norm statistics from batches as they are trained on, labeled and
        unlabeled clips together.
        """
        if not hasattr(self, "pairs"):
            super().reestimate()
        elif self.args.bn_batches:
            batches = paired_loader(self.pairs, self.sampler, self.args.workers)
            engine.reestimate_batch_norm(
                self.detector,
                batches,
                self.args.pixel_range,
                self.args.bn_batches,
                not self.args.no_amp,
            )

    def state_dict(self, epoch):
        extra = {
            name: part.state_dict()
            for name, part in vars(self.networks).items()
            if part is not None
        }
        return {
            **super().state_dict(epoch),
            "plateau": self.plateau.state_dict(),
            "networks": extra,
            "unlabelled": self.unlabeled,
        }

    def load_state_dict(self, state, path):
        if (
            not isinstance(state, dict)
            or not {"plateau", "networks", "unlabelled"} <= state.keys()
        ):
            raise UserError(
                f"{path} is no semi-supervised training state; drop --resume and train "
                f"anew with --force"
            )
        self.build()  # before the random state is set
        super().load_state_dict(state, path)
        for name, part in vars(self.networks).items():
            if part is not None:
                part.load_state_dict(state["networks"][name])
        self.plateau.load_state_dict(state["plateau"])
        self.unlabeled[:] = state["unlabelled"]


@contextlib.contextmanager
def seeded_dropout(detector, seed, step):
    """In here the detector's channel dropout depends on (seed, step) and the number of the
    pass in the step alone.

    The first pass has the masks that engine.train_epoch would give the same clips.
    """
    passes = itertools.count()

    def random_masks(batch, device):
        masks = engine.dropout_masks(detector, seed, step, batch, next(passes))
        return tuple(mask.to(device, non_blocking=True) for mask in masks)

    detector.random_masks = (
        random_masks  # in the place of the method that draws from torch's state
    )
    try:
        yield
    finally:
        del detector.random_masks


def semi_options(args):
    """The options of the methods out of the script's arguments."""
    return SemiOptions(
        **{field.name: getattr(args, field.name) for field in fields(SemiOptions)}
    )
