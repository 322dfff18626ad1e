"""A picture of the clusters: the videos' latents in their two main directions, what was labelled, what was picked."""

import matplotlib
import numpy as np
from sklearn.decomposition import PCA

from utils.runtime import atomic_write

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

GREY = "#333333"


def draw_clusters(path, latents_N_D, clusters_N, centres_K_D, labelled_N, picked_N, title):
    """Write a PNG: a point for each video at its latent's first two principal components, in its cluster's colour.

    labelled_N, picked_N: boolean (N,); labelled before, and picked now. The axes say how much of the variance they
    show. The same input gives the same bytes.
    """
    points_N_2, centres_K_2, shares = _plane(latents_N_D, centres_K_D)
    palette = plt.get_cmap("tab10" if len(centres_K_D) <= 10 else "tab20").colors
    colours_N = np.array([palette[cluster % len(palette)] for cluster in clusters_N])
    figure, axes = plt.subplots(figsize=(9, 6.2), layout="constrained")
    size = float(np.clip(4000 / len(points_N_2), 9, 40))
    marks = (("unlabelled", ~(labelled_N | picked_N), dict(marker="o", s=size, alpha=0.4, linewidths=0)),
             ("labelled before", labelled_N, dict(marker="s", s=1.4 * size + 14, linewidths=1.5)),
             ("picked now", picked_N, dict(marker="*", s=4 * size + 55, edgecolors="black", linewidths=0.7)))
    for order, (name, shown, style) in enumerate(marks):
        hollow = name == "labelled before"
        colour = dict(c="white", edgecolors=colours_N[shown]) if hollow else dict(c=colours_N[shown])
        axes.scatter(*points_N_2[shown].T, zorder=2 + order, **colour, **style)
    axes.scatter(*centres_K_2.T, marker="X", s=120, c="white", edgecolors="black", linewidths=1.3, zorder=6)
    for cluster, (x, y) in enumerate(centres_K_2):
        axes.annotate(str(cluster), (x, y), xytext=(9, 7), textcoords="offset points", weight="bold", zorder=7,
                      bbox=dict(boxstyle="round,pad=0.15", fc="white", ec=palette[cluster % len(palette)], lw=1.5))
    for axis, number, share in ((axes.xaxis, 1, shares[0]), (axes.yaxis, 2, shares[1])):
        axis.set_label_text(f"principal component {number} ({100 * share:.1f}% of the variance)")
    axes.set_title(title, loc="left")
    axes.grid(color="0.92", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legends(axes, marks, clusters_N, palette, len(centres_K_D))
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=130, metadata={"Software": None})
    plt.close(figure)


def _plane(latents_N_D, centres_K_D):
    """(points (N, 2), centres (K, 2), share of the variance on each axis); missing directions are zero."""
    latents_N_D = np.asarray(latents_N_D, dtype=np.float64)
    components = min(2, *latents_N_D.shape)
    pca = PCA(components, svd_solver="full")
    with np.errstate(invalid="ignore", divide="ignore"):
        points = pca.fit_transform(latents_N_D)
    centres = pca.transform(np.asarray(centres_K_D, dtype=np.float64))
    shares = np.nan_to_num(pca.explained_variance_ratio_)
    missing = 2 - components
    return (*(np.pad(values, ((0, 0), (0, missing))) for values in (points, centres)), np.pad(shares, (0, missing)))


def _legends(axes, marks, clusters_N, palette, n_clusters):
    """Keys beside the axes: what the marks mean, and how many videos each cluster's colour stands for."""
    handles = []
    for name, shown, style in marks:
        colour = dict(c="white", edgecolors=GREY) if name == "labelled before" else dict(c="0.6")
        big = {"s": 130 if name == "picked now" else 50, "alpha": 1}
        handles.append(axes.scatter([], [], label=f"{name} ({int(shown.sum())})", **{**style, **colour, **big}))
    handles.append(axes.scatter([], [], marker="X", s=90, c="white", edgecolors="black", label="cluster centre"))
    sizes = np.bincount(clusters_N, minlength=n_clusters)
    handles += [axes.scatter([], [], marker="o", s=60, color=palette[cluster % len(palette)],
                             label=f"cluster {cluster} ({sizes[cluster]})") for cluster in range(n_clusters)]
    axes.legend(handles=handles, title="videos", loc="upper left", bbox_to_anchor=(1.01, 1.01), frameon=False,
                alignment="left")
