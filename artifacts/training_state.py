"""training.pt: which settings a resumed training must share with the one that was stopped."""

import contextlib
import math
from dataclasses import fields, is_dataclass

from claus.utils.runtime import UserError
from claus.utils.shape import misfit, whole

# settings that may change between the start of a training and its resumption
NOT_COMPARED = {
    "resume",
    "force",
    "strict",
    "workers",
    "device",
    "run",
    "files",
    "data",
    "annotations",
    "compile",
    "cudnn_benchmark",
    "cache_dir",
    "cache_gb",
    "feature_gb",
}
# settings that older trainings did not know, with what they did
NEWER = {
    "train_encoder": True,
    "class_loss": "margin",
    "weight_decay": 0.0,
    "centers": "training",
    "label_place": "middle",
    "class_head": None,
}
FLAGS = {  # of settings that are not called as their flag
    "amp": "no-amp",
    "validate": "no-validation",
    "localization_weight": "loc-weight",
}


def a_score(value):
    """Whether it is a number, or minus infinity as long as nothing was validated."""
    return isinstance(value, float | int) and value < math.inf


# what training.pt holds, beside what a recipe adds
TRAINING_STATE = {
    "arguments": dict,
    "labels": str,
    "failed": {str: str},
    "names": [str],
    "epoch": whole,
    "step": whole,
    "detector": dict,
    "optimizer": {"state": dict, "param_groups": [dict]},
    "clusters": dict,
    "random": dict,
    "history": [dict],
    "best_score": a_score,
    "best": (dict, None),
    "validation": [str],
    "length": whole,
    "all_steps": whole,
}


@contextlib.contextmanager
def damage_named(path):
    """Inside, whatever a damaged training.pt raises becomes a UserError in one line."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a damaged state raises nearly anything
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is a damaged training state ({reason}); train again with --force in place "
            "of --resume"
        ) from error


def check_state(state, path):
    """UserError unless a state has all that training.pt has, each of its kind."""
    if not isinstance(state, dict) or not TRAINING_STATE.keys() <= state.keys():
        raise UserError(
            f"{path} is not a training state of this version; drop --resume and train "
            "again with --force"
        )
    with damage_named(path):
        if problem := misfit(state, TRAINING_STATE):
            raise ValueError(problem)


def check_progress(state, known, epochs):
    """ValueError unless what was trained on is `known`, names of the labeled videos, and
    epochs, steps and history fit each other.
    """
    names, held_out = state["names"], state["validation"]
    every = [*names, *held_out]
    if not names or len(set(every)) < len(every) or not set(every) <= set(known):
        raise ValueError("its videos are not those of the labels")
    epoch, steps = state["epoch"], state["all_steps"]
    if not 0 < epoch <= epochs or state["step"] != steps * epoch // epochs:
        raise ValueError(f"its step {state['step']} is not that after epoch {epoch}")
    if [row.get("epoch") for row in state["history"]] != list(range(epoch)):
        raise ValueError("its history is not that of its epochs")
    rows = (number for row in state["history"] for number in row.values())
    if not all(isinstance(number, int | float) and abs(number) < 2.0**63 for number in rows):
        raise ValueError("its history holds something that is no finite number")


def check_optimizer(optimizer, fresh):
    """ValueError unless a restored optimizer is as the settings make it, its moments finite.

    fresh: param_groups before it was restored; the rates alone may differ.
    """
    for group, before in zip(optimizer.param_groups, fresh, strict=True):
        same = {k: v for k, v in before.items() if k not in ("params", "lr")}
        if {k: group.get(k) for k in same} != same:
            raise ValueError("its optimizer has other settings")
        lr = group["lr"]
        if not isinstance(lr, int | float) or not 0 <= lr <= group["base_lr"]:
            raise ValueError(f"its learning rate is {lr}")
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                shape = value.shape if name != "step" else parameter.shape
                if shape != parameter.shape or not bool(value.isfinite().all()):
                    raise ValueError(f"its {name} is not that of its weights")


def plain(settings) -> dict:
    """A dataclass of settings, those inside it spread out, as builtins that torch.load takes
    without trust.
    """
    values = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            values |= plain(value)
        else:
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def renamed(arguments: dict) -> dict:
    """The settings of an older training.pt, by the names of today."""
    arguments = {**NEWER, **arguments}
    if "batch_norm" in arguments:
        return arguments
    weighted, none = arguments.get("weighted_dice"), arguments.get("no_dice")
    frozen, sync = arguments.get("freeze_bn"), arguments.get("sync_bn")
    return {
        **arguments,
        "dice": "weighted" if weighted else "none" if none else "plain",
        "batch_norm": "freeze" if frozen else "sync" if sync else "update",
        "localization_weight": arguments.get("wt_loc", 1.0),
        "validate": not arguments.get("no_validation"),
        "amp": not arguments.get("no_amp"),
        "labeled_half": arguments.get("labelled_half"),
    }


def check_same_settings(settings, before, path):
    """UserError where a training would be resumed with other settings than it had."""
    for name, value in settings.items():
        stored = before.get(name)
        same = stored == value or not (stored or value)  # a switch that is newer than it
        if name not in NOT_COMPARED and not same:
            flag = FLAGS.get(name, name.replace("_", "-"))
            raise UserError(
                f"{path} was trained with another --{flag} ({stored}); "
                "give the same flags, or --force in place of --resume to train again"
            )
