"""What what_clusters_know.py says of spaces that know the class, and of one that does not."""

import numpy as np
import pytest

from claus.experiments import what_clusters_know
from claus.models.lite import map_shapes, record_length

LABEL = np.repeat(np.arange(3), 20)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(what_clusters_know, "CLUSTERS", (3, 6))
    monkeypatch.setattr(what_clusters_know, "PICKS", (3,))


def test_a_space_of_classes_is_found_and_noise_is_chance():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 4))
    knowing = noise.copy()
    knowing[:, 0] += 50 * LABEL
    known, finer, picked = what_clusters_know.of_kmeans([knowing], LABEL)
    assert known == "1.00 ± 0.00" and picked == "3.0 ± 0.0"
    assert 0.5 < float(finer.split()[0]) < 1
    chance, _, _ = what_clusters_know.of_kmeans([noise], LABEL)
    assert abs(float(chance.split()[0])) < 0.1


def test_clusters_of_a_run_count_for_the_papers_k_alone():
    assert what_clusters_know.as_assigned([LABEL, LABEL], LABEL) == ["1.00 ± 0.00", "", ""]
    assert what_clusters_know.as_assigned([LABEL + 1], LABEL)[0] == ""  # four clusters


def test_a_record_is_averaged_by_channel():
    records = np.zeros((2, record_length(64)), np.float32)
    fine = sum(np.prod(shape) for shape in map_shapes(64)[:2])
    channels, height, width = map_shapes(64)[2]
    records[0, fine : fine + height * width] = 4  # the first channel, in one of two frames
    records[:, -1] = 8  # one place of the last channel
    last = map_shapes(64)[3]
    mean = what_clusters_know.mean_of(records, 64)
    assert len(mean) == channels + last[0]
    assert mean[0] == 2 and mean[-1] == 8 / (last[1] * last[2])
    assert not mean[1:-1].any()
