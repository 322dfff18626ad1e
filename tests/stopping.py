"""Trainings that are killed at a chosen place, and the proof that what goes on from there
ends the same.
"""

from pathlib import Path

import pytest
import torch

from claus.artifacts import checkpoint


class Stopped(Exception):
    """Stands for kill -9."""


def kill_before_last_file(train):
    """Run `train()` up to the moment where detector.pt would be written."""
    save = checkpoint.save

    def stop(state, path):
        if Path(path).name == "detector.pt":
            raise Stopped
        save(state, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", stop)
        with pytest.raises(Stopped):
            train()


def check_same_weights(first, second):
    """The detectors of the first cycle in two run folders, bit by bit; returns both
    checkpoints.
    """
    loaded = [
        checkpoint.load(Path(folder) / "cycle0" / "detector.pt") for folder in (first, second)
    ]
    one, other = (trained.detector.state_dict() for trained in loaded)
    assert list(one) == list(other)
    for name, value in one.items():
        assert torch.equal(other[name], value), name
    return loaded
