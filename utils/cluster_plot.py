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
BLOCK = 1 << 16  # videos up to which all points are worked out together


def draw_clusters(path, latents_N_D, clusters_N, centers_K_D, labeled_N, picked_N, title):
    """Write a PNG: a point for each video at its latent's first two principal components,
    in its cluster's color.

    labeled_N, picked_N: boolean (N,); labeled before, and picked now (a video may be
    both). The axes say how much of the variance they show. Of very many videos a part is
    drawn, the legend counts all. The same input gives the same bytes.
    """
    mean_D, axes_D_2, shares = _plane(latents_N_D)
    centers_K_2 = (np.asarray(centers_K_D, np.float64) - mean_D) @ axes_D_2
    palette = plt.get_cmap("tab10" if len(centers_K_D) <= 10 else "tab20").colors
    colors_N = np.array(palette)[np.asarray(clusters_N) % len(palette)]
    figure, axes = plt.subplots(figsize=(9, 6.2), layout="constrained")
    size = float(np.clip(4000 / len(latents_N_D), 9, 40))
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
    points_of = _points(latents_N_D, [wanted_N for _, wanted_N, _ in marks], mean_D, axes_D_2)
    for order, (name, _, style) in enumerate(marks):
        shown, points_2 = points_of[order]
        hollow = name == "labeled before"
        color = (
            dict(c="white", edgecolors=colors_N[shown]) if hollow else dict(c=colors_N[shown])
        )
        axes.scatter(*points_2.T, zorder=2 + order, **color, **style)
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


def _plane(latents_N_D):
    """(mean (D,), directions (D, 2), share of the variance on each axis); missing
    directions are zero.

    Principal components from the covariance (D, D), in float64 without a copy of all
    latents. Each axis points to where its largest component is positive.
    """
    spanning = np.arange(len(latents_N_D))[_spaced(len(latents_N_D), SPANNING)]
    span_M_D = _rows(latents_N_D, spanning).astype(np.float64)
    count, dims = span_M_D.shape
    mean_D = span_M_D.mean(axis=0)
    span_M_D -= mean_D
    scatter_D_D = span_M_D.T @ span_M_D
    variance, axes_D_2 = np.linalg.eigh(scatter_D_D)
    variance, axes_D_2 = np.maximum(variance[::-1], 0), axes_D_2[:, ::-1][:, :2].copy()
    variance[min(count - 1, dims) :] = 0
    axes_D_2[:, variance[:2] <= 1e-12 * scatter_D_D.trace()] = 0
    axes_D_2 *= np.sign(axes_D_2[np.abs(axes_D_2).argmax(axis=0), np.arange(axes_D_2.shape[1])])
    shares = np.divide(variance, variance.sum(), out=np.zeros(dims), where=variance.sum() > 0)[
        :2
    ]
    missing = 2 - len(shares)
    return mean_D, np.pad(axes_D_2, ((0, 0), (0, missing))), np.pad(shares, (0, missing))


def _points(latents_N_D, marks, mean_D, axes_D_2):
    """[(videos that are shown, their points (n, 2))] of masks (N,) bool."""
    shown = []
    for wanted_N in marks:
        places = np.flatnonzero(wanted_N)
        shown.append(places[_spaced(len(places), SHOWN)])
    if len(latents_N_D) <= BLOCK:
        points_N_2 = (np.asarray(latents_N_D) - mean_D) @ axes_D_2
        return [(places, points_N_2[places]) for places in shown]
    together, inverse = np.unique(np.concatenate(shown), return_inverse=True)
    points_2 = (_rows(latents_N_D, together) - mean_D) @ axes_D_2
    ends = np.cumsum([len(places) for places in shown])[:-1]
    rows = np.split(inverse, ends)
    return [(places, points_2[at]) for places, at in zip(shown, rows, strict=True)]


def _rows(latents_N_D, places):
    """Rows of an array, or of one on disk that gives its rows."""
    read = getattr(latents_N_D, "rows", None)
    return np.asarray(latents_N_D)[places] if read is None else read(places)


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
