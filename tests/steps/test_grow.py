"""Videos that join a pool."""

from types import SimpleNamespace

import numpy as np
import pytest

from claus.artifacts.cycle import Cycle
from claus.datasets.labels.annotations import Video
from claus.datasets.sprites import write_video
from claus.steps import grow


def test_a_video_is_known_by_its_content_before_it_counts_as_joined(tmp_path, monkeypatch):
    """Killed in between, a second try would take it for known, and never look at it."""
    (tmp_path / "data" / "A").mkdir(parents=True)
    write_video(tmp_path / "data" / "A" / "new.avi", np.zeros((3, 16, 16, 3), np.uint8))
    source = SimpleNamespace(dataset="ucf101", data=tmp_path / "data")
    settings = SimpleNamespace(source=source, rule=SimpleNamespace(random=True))
    cycle = Cycle.of(tmp_path / "run", 1)

    def killed(run, change):
        raise KeyboardInterrupt

    monkeypatch.setattr(grow, "add_change", killed)
    with pytest.raises(KeyboardInterrupt):
        grow.keep_added(settings, cycle, {"A/new": Video("A/new", 3, 16, 16)})
    assert "A/new" in cycle.run.identities.read_text()
