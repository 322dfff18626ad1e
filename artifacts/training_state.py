"""training.pt: which settings a resumed training must share with the one that was stopped."""

from dataclasses import fields, is_dataclass

from claus.utils.runtime import UserError

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
}
FLAGS = {  # of settings that are not called as their flag
    "amp": "no-amp",
    "validate": "no-validation",
    "localization_weight": "loc-weight",
}
# what training.pt holds, beside what a recipe adds
TRAINING_STATE = {
    "arguments",
    "labels",
    "failed",
    "names",
    "epoch",
    "step",
    "detector",
    "optimizer",
    "clusters",
    "random",
    "history",
    "best_score",
    "best",
    "validation",
    "length",
    "all_steps",
}


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
