"""The picture of the clusters: the plane it shows, its marks, and pools too small for a
plane.
"""

import matplotlib.image
import numpy as np
import pytest

from claus.utils import cluster_plot as cluster_picture
from claus.utils.cluster_plot import draw_clusters


def test_the_plane_is_that_of_the_largest_variance():
    # the cloud lies along the third axis (spread 10) and the first (spread 2); the second
    # axis hardly varies
    generator = np.random.default_rng(0)
    latents = generator.normal(0, 1, (400, 3)) * [2, 0.1, 10]
    mean, axes, shares = cluster_picture._plane(latents)
    points, centers = ((rows - mean) @ axes for rows in (latents, [[0, 0, 0], [0, 0, 30]]))
    assert abs(np.corrcoef(points[:, 0], latents[:, 2])[0, 1]) > 0.999
    assert shares == pytest.approx([100 / 104, 4 / 104], abs=0.02)
    assert abs(centers[1] - centers[0]) == pytest.approx([30, 0], abs=1)


def test_points_of_a_large_pool_are_worked_out_for_those_shown_alone(monkeypatch):
    generator = np.random.default_rng(0)
    latents, marks = generator.normal(0, 1, (40, 3)), [np.arange(40) % 3 == k for k in (0, 1)]
    plane = cluster_picture._plane(latents)[:2]
    monkeypatch.setattr(cluster_picture, "SHOWN", 7)
    all_at_once = cluster_picture._points(latents, marks, *plane)
    monkeypatch.setattr(cluster_picture, "BLOCK", 39)
    found = cluster_picture._points(latents, marks, *plane)
    for one, other in zip(found, all_at_once, strict=True):
        assert one[0].tolist() == other[0].tolist() and len(one[0]) == 7
        np.testing.assert_allclose(one[1], other[1], rtol=1e-12)


def has_color(path, color):
    return (np.abs(matplotlib.image.imread(path)[..., :3] - color).max(axis=-1) < 0.02).any()


def test_clusters_have_their_colors_and_the_same_input_the_same_bytes(tmp_path):
    generator = np.random.default_rng(0)
    latents, clusters = generator.normal(0, 1, (30, 5)), np.repeat([0, 1, 2], 10)
    labeled, picked = np.arange(30) % 5 == 0, np.arange(30) % 5 == 1
    for name in ("a.png", "b.png"):
        draw_clusters(
            tmp_path / name, latents, clusters, np.zeros((3, 5)), labeled, picked, "a title"
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    palette = cluster_picture.plt.get_cmap("tab10").colors
    assert all(has_color(tmp_path / "a.png", palette[cluster]) for cluster in range(3))
    assert not has_color(tmp_path / "a.png", palette[3])


@pytest.mark.parametrize("shape", [(1, 4), (5, 1), (2, 2)])
def test_pools_too_small_for_a_plane_and_latents_all_alike(tmp_path, shape):
    nothing = np.zeros(shape[0], bool)
    draw_clusters(
        tmp_path / "x.png",
        np.ones(shape),
        np.zeros(shape[0], int),
        np.ones((1, shape[1])),
        nothing,
        ~nothing,
        "",
    )
    assert matplotlib.image.imread(tmp_path / "x.png").shape[0] > 500
