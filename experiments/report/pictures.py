"""Pictures of the runs themselves, as PNG or SVG bytes: clusters with picks, classes,
uncertainty over time.
"""

import io
import math

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import read_frames
from claus.experiments.report.curves import SETTINGS, svg
from claus.utils import picture_text
from claus.utils.picture_text import fonts_for

SHOWN = 8  # frames of a strip, besides those that were picked
PICKED, LABELED = "#e4572e", "#2e933c"


def png(figure, dpi=110):
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(
        buffer, format="png", dpi=dpi, metadata={"Software": None}, facecolor="white"
    )
    return buffer.getvalue()


def plane(latents_N_D):
    """The latents' two main directions -> (N,2) and the shares of the variance on them."""
    from sklearn.decomposition import PCA  # here: scikit-learn takes seconds to import

    components = min(2, *latents_N_D.shape)
    pca = PCA(components, svd_solver="full")
    with np.errstate(invalid="ignore", divide="ignore"):
        points = pca.fit_transform(np.asarray(latents_N_D, np.float64))
    missing = 2 - components
    return np.pad(points, ((0, 0), (0, missing))), np.pad(
        np.nan_to_num(pca.explained_variance_ratio_), (0, missing)
    )


def cluster_scatter(points_N_2, clusters_N, labeled_N, picked_N, title):
    """PNG: every video at its place in the plane, colored by cluster; squares were
    labeled, stars are picked.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(5.6, 5.1), layout="constrained")
        axes = figure.add_subplot()
        colors = [
            matplotlib.colormaps["tab10" if clusters_N.max(initial=0) < 10 else "tab20"](
                int(k) % 20
            )
            for k in range(int(clusters_N.max(initial=0)) + 1)
        ]
        size = float(np.clip(4000 / len(points_N_2), 8, 36))
        for k, color in enumerate(colors):
            mine = clusters_N == k
            rest = mine & ~labeled_N & ~picked_N
            axes.scatter(*points_N_2[rest].T, s=size, color=color, alpha=0.35, lw=0)
            axes.scatter([], [], s=40, color=color, label=f"cluster {k} ({mine.sum()})")
            axes.scatter(
                *points_N_2[mine & labeled_N].T,
                s=1.3 * size + 12,
                facecolors="white",
                edgecolors=[color],
                marker="s",
                lw=1.3,
                zorder=3,
            )
            axes.scatter(
                *points_N_2[mine & picked_N].T,
                s=4 * size + 60,
                color=[color],
                marker="*",
                edgecolors="black",
                lw=0.8,
                zorder=4,
            )
        axes.scatter(
            [],
            [],
            marker="s",
            facecolors="white",
            edgecolors="0.3",
            label=f"labeled before ({labeled_N.sum()})",
        )
        axes.scatter(
            [],
            [],
            marker="*",
            s=110,
            color="0.6",
            edgecolors="black",
            label=f"picked ({picked_N.sum()})",
        )
        with fonts_for([title]):
            axes.set_title(picture_text.label(title), loc="left", fontsize=12, weight="bold")
        axes.set_xticklabels([])
        axes.set_yticklabels([])
        figure.legend(loc="outside lower center", ncols=2, fontsize=10.5, frameon=False)
        return png(figure)


def class_bars(classes, aware_C, agnostic_C, share_C, title):
    """SVG: per class the score (class-aware bar, class-agnostic mark), and beside it the
    share of the labels it got.

    Fractions (C,), NaN where there is no test video.
    """
    with matplotlib.rc_context(SETTINGS | {"axes.grid": False}), fonts_for([*classes, title]):
        figure = Figure(figsize=(6, 1.5 + 0.32 * len(classes)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(2.2, 1))
        at = np.arange(len(classes))
        left.barh(
            at, 100 * np.nan_to_num(aware_C), 0.66, color="#30638e", label="f-AP@.5 class-aware"
        )
        left.plot(
            100 * np.asarray(agnostic_C),
            at,
            "|",
            color="#d1495b",
            ms=11,
            mew=2.4,
            label="f-AP@.5, regardless of class",
        )
        right.barh(
            at,
            100 * np.nan_to_num(share_C),
            0.66,
            color="#edae49",
            label="share of labeled frames",
        )
        right.axvline(100 / len(classes), color="0.3", ls=":", lw=1.2, label="equal shares")
        left.set_yticks(at, [picture_text.label(name) for name in classes])
        left.invert_yaxis()
        left.set_xlim(0, 100)
        left.set_xlabel("percent")
        right.set_xlabel("% of the labels")
        for axes in (left, right):
            axes.grid(axis="x", alpha=0.3)
        with fonts_for([title]):
            words = picture_text.label(title)
            figure.suptitle(words, x=0.01, ha="left", fontsize=11, weight="bold")
        figure.legend(loc="outside lower center", ncols=2, fontsize=10.5, frameon=False)
        return svg(figure)


def uncertainty_strip(title, scores_F, picked, before, first=0, frames=None):
    """PNG: frames of a video in time above the uncertainty of every frame; picked ones are
    framed and marked.

    scores_F (F,). picked, before: frame numbers picked now, and labeled earlier. first:
    number of the first frame. frames: function from frame numbers to uint8 (n,H,W,3), or
    None where the video is not here.
    """
    every_F = first + np.arange(len(scores_F))
    shown = frames_shown(len(scores_F), [number - first for number in picked])
    shown = [first + number for number in shown]
    shots = frames(shown) if frames else None
    with matplotlib.rc_context(SETTINGS):
        strip = 0 if shots is None else 10 / len(shown) * shots.shape[1] / shots.shape[2] + 0.45
        figure = Figure(figsize=(10, 2.3 + strip), layout="constrained")
        rows = (
            [None, figure]
            if shots is None
            else figure.subfigures(2, 1, height_ratios=(strip, 1.9))
        )
        if shots is not None:
            for axes, number, shot in zip(
                rows[0].subplots(1, len(shown)), shown, shots, strict=True
            ):
                axes.imshow(shot)
                axes.set(xticks=[], yticks=[])
                axes.set_xlabel(str(number), fontsize=9, labelpad=2)
                axes.spines[:].set(visible=number in picked, color=PICKED, linewidth=4)
                axes.grid(False)
                if number in picked:
                    axes.xaxis.label.set(color=PICKED, weight="bold")
        axes = rows[1].subplots()
        axes.fill_between(every_F, scores_F, color="#30638e", alpha=0.25, step="mid", lw=0)
        axes.step(every_F, scores_F, where="mid", color="#30638e", lw=1.5)
        for numbers, color, marker, label in (
            (picked, PICKED, "v", "picked now"),
            (before, LABELED, "s", "labeled before"),
        ):
            for number in numbers:
                axes.axvline(number, color=color, lw=1.6)
            if len(numbers):
                axes.plot(
                    numbers,
                    np.asarray(scores_F)[np.array(numbers) - first],
                    marker,
                    color=color,
                    ms=8,
                    label=label,
                )
                axes.legend(loc="upper right", fontsize=9)
        axes.set(
            xlim=(every_F[0] - 0.5, every_F[-1] + 0.5), xlabel="frame", ylabel="uncertainty"
        )
        axes.set_ylim(bottom=min(0, float(np.min(scores_F))))
        with fonts_for([title]):
            words = picture_text.label(title)
            figure.suptitle(words, x=0.01, ha="left", fontsize=11, weight="bold")
        return png(figure, 100)


def frames_shown(length, picked):
    """Frame numbers of a strip: SHOWN evenly spaced ones, the nearest of which give way to
    the picked ones.
    """
    shown = set(np.linspace(0, length - 1, min(SHOWN, length)).round().astype(int).tolist())
    step = length / SHOWN
    for pick in picked:
        shown = {number for number in shown if abs(number - pick) >= step / 2}
    some = sorted(picked)
    if len(some) > SHOWN:
        some = [
            some[place] for place in np.linspace(0, len(some) - 1, SHOWN).round().astype(int)
        ]
    return sorted(shown | set(some))


def frame_reader(path, video, cache):
    """Function from frame numbers (of the file) to pictures of a video; UserError
    (VideoError) comes when it is called. cache: folder for the indices of long videos.
    """
    labeled = video.height, video.width
    read = read_frames if video.segment is None else IndexedVideos(cache).read_frames
    return lambda numbers: read(path, list(numbers), video.file_frames, labeled)


def as_jpeg(path, widest=1000):
    """A picture file as JPEG bytes, made smaller where it is wider than `widest`."""
    with Image.open(path) as picture:
        picture = picture.convert("RGB")
        if picture.width > widest:
            height = math.ceil(picture.height * widest / picture.width)
            picture = picture.resize((widest, height), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
