"""A picture of the clusters: the videos' latents in their two main directions, what was
labeled, what was picked.
"""

import matplotlib
import numpy as np

from claus.utils.picture_text import fonts_for, label
from claus.utils.runtime import atomic_write

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

GRAY = "#333333"
SHOWN = (
    20_000  # points of a kind; of more, as many evenly spaced ones in the order of the videos
)
SPANNING = 100_000  # videos that the plane is made from, likewise
BLOCK = 1 << 16  # latents in float64 at once


def draw_clusters(path, latents_N_D, clusters_N, centers_K_D, labeled_N, picked_N, title):
    """Write a PNG: a point for each video at its latent's first two principal components,
    in its cluster's color.

    labeled_N, picked_N: boolean (N,); labeled before, and picked now (a video may be
    both). The axes say how much of the variance they show. Of very many videos a part is
    drawn, the legend counts all. The same input gives the same bytes.
    """
    points_N_2, centers_K_2, shares = _plane(latents_N_D, centers_K_D)
    palette = plt.get_cmap("tab10" if len(centers_K_D) <= 10 else "tab20").colors
    colors_N = np.array(palette)[np.asarray(clusters_N) % len(palette)]
    figure, axes = plt.subplots(figsize=(9, 6.2), layout="constrained")
    size = float(np.clip(4000 / len(points_N_2), 9, 40))
    marks = (
        (
            "unlabeled",
            ~(labeled_N | picked_N),
            dict(marker="o", s=size, alpha=0.4, linewidths=0),
        ),
        ("labeled before", labeled_N, dict(marker="s", s=1.4 * size + 14, linewidths=1.5)),
        (
            "picked now",
            picked_N,
            dict(marker="*", s=4 * size + 55, edgecolors="black", linewidths=0.7),
        ),
    )
    for order, (name, wanted_N, style) in enumerate(marks):
        shown = np.flatnonzero(wanted_N)
        shown = shown[_spaced(len(shown), SHOWN)]
        hollow = name == "labeled before"
        color = (
            dict(c="white", edgecolors=colors_N[shown]) if hollow else dict(c=colors_N[shown])
        )
        axes.scatter(*points_N_2[shown].T, zorder=2 + order, **color, **style)
    axes.scatter(
        *centers_K_2.T,
        marker="X",
        s=120,
        c="white",
        edgecolors="black",
        linewidths=1.3,
        zorder=6,
    )
    for cluster, (x, y) in enumerate(centers_K_2):
        axes.annotate(
            str(cluster),
            (x, y),
            xytext=(9, 7),
            textcoords="offset points",
            weight="bold",
            zorder=7,
            bbox=dict(
                boxstyle="round,pad=0.15",
                fc="white",
                ec=palette[cluster % len(palette)],
                lw=1.5,
            ),
        )
    for axis, number, share in ((axes.xaxis, 1, shares[0]), (axes.yaxis, 2, shares[1])):
        axis.set_label_text(
            f"principal component {number} ({100 * share:.1f}% of the variance)"
        )
    with fonts_for([title]):
        axes.set_title(label(title), loc="left")
    axes.grid(color="0.92", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legends(axes, marks, clusters_N, palette, len(centers_K_D))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def _plane(latents_N_D, centers_K_D):
    """(points (N, 2), centers (K, 2), share of the variance on each axis); missing
    directions are zero.

    Principal components from the covariance (D, D), in float64 without a copy of all
    latents. Each axis points to where its largest component is positive.
    """
    latents_N_D, centers_K_D = (
        np.asarray(latents_N_D),
        np.asarray(centers_K_D, dtype=np.float64),
    )
    span_M_D = latents_N_D[_spaced(len(latents_N_D), SPANNING)].astype(np.float64)
    count, dims = span_M_D.shape
    mean_D = span_M_D.mean(axis=0)
    span_M_D -= mean_D
    scatter_D_D = span_M_D.T @ span_M_D
    variance, axes_D_2 = np.linalg.eigh(scatter_D_D)
    variance, axes_D_2 = np.maximum(variance[::-1], 0), axes_D_2[:, ::-1][:, :2].copy()
    variance[min(count - 1, dims) :] = 0
    axes_D_2[:, variance[:2] <= 1e-12 * scatter_D_D.trace()] = 0
    axes_D_2 *= np.sign(axes_D_2[np.abs(axes_D_2).argmax(axis=0), np.arange(axes_D_2.shape[1])])
    points = np.concatenate(
        [
            (latents_N_D[start : start + BLOCK] - mean_D) @ axes_D_2
            for start in range(0, len(latents_N_D), BLOCK)
        ]
    )
    shares = np.divide(variance, variance.sum(), out=np.zeros(dims), where=variance.sum() > 0)[
        :2
    ]
    missing = 2 - len(shares)
    return (
        *(
            np.pad(values, ((0, 0), (0, missing)))
            for values in (points, (centers_K_D - mean_D) @ axes_D_2)
        ),
        np.pad(shares, (0, missing)),
    )


def _spaced(count, most):
    """A slice of `count` things that takes at most `most` of them, evenly spaced."""
    return slice(None, None, max(1, -(-count // most)))


def _legends(axes, marks, clusters_N, palette, n_clusters):
    """Keys beside the axes: what the marks mean, and how many videos each cluster's color
    stands for.
    """
    handles = []
    for name, shown, style in marks:
        color = dict(c="white", edgecolors=GRAY) if name == "labeled before" else dict(c="0.6")
        big = {"s": 130 if name == "picked now" else 50, "alpha": 1}
        handles.append(
            axes.scatter(
                [], [], label=f"{name} ({int(shown.sum())})", **{**style, **color, **big}
            )
        )
    handles.append(
        axes.scatter(
            [], [], marker="X", s=90, c="white", edgecolors="black", label="cluster center"
        )
    )
    sizes = np.bincount(clusters_N, minlength=n_clusters)
    handles += [
        axes.scatter(
            [],
            [],
            marker="o",
            s=60,
            color=palette[cluster % len(palette)],
            label=f"cluster {cluster} ({sizes[cluster]})",
        )
        for cluster in range(n_clusters)
    ]
    axes.legend(
        handles=handles,
        title="videos",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.01),
        frameon=False,
        alignment="left",
    )
