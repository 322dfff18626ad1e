"""Figures of the comparisons: differences with intervals, scores over the spread, and what a
score costs; SVG bytes.
"""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from claus.experiments.contrasts import by_total
from claus.experiments.grids import size_of
from claus.experiments.report.curves import MARKERS, OTHERS, SETTINGS, svg
from claus.experiments.report.statistics import mean_of
from claus.experiments.spread_cost import cost


def forest(results, metrics):
    """Differences with their 95% intervals, a row for each label and a panel for each metric.

    results: of contrasts.results_of, those of one figure · metrics: {metric: its title}.
    Filled where Holm leaves the difference significant at 5%.
    """
    labels = list(dict.fromkeys(result.contrast.label for result in results))
    with matplotlib.rc_context(SETTINGS):
        size = (4 + 3 * len(metrics), 1.2 + 0.36 * len(labels))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axes, (metric, title) in zip(panels, metrics.items(), strict=True):
            axes.axvline(0, color="0.4", lw=1)
            for result in results:
                if result.contrast.metric == metric and result.test:
                    _difference(axes, labels.index(result.contrast.label), result)
            axes.set_xlabel(f"{title}, percentage points")
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.5, -0.5)
        return svg(figure)


def _difference(axes, place, result):
    """One row: the mean, its interval and how many seeds."""
    test, sure = result.test, result.holm < 0.05
    half = 0 if math.isnan(test.half) else test.half
    color = OTHERS[1] if sure else "0.35"
    axes.errorbar(
        test.mean,
        place,
        xerr=half,
        color=color,
        marker="o",
        capsize=3,
        ms=6,
        mfc=color if sure else "white",
    )
    axes.annotate(
        f"n={test.n}",
        (1.01, place),
        xycoords=("axes fraction", "data"),
        fontsize=9,
        ha="left",
        va="center",
        color="0.45",
    )


def spread(by_seed, title, bare=()):
    """The score over the number of videos, a line for each number of labeled frames; bars
    are the standard deviation over seeds.

    by_seed: {"22x3": {seed: score}} · bare: the same of trainings on labeled frames alone.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        for of, style, words in ((by_seed, "-", ""), (dict(bare), "--", ", no pseudo-labels")):
            for place, (total, sizes) in enumerate(by_total(of).items()):
                means = [mean_of(of[size].values()) for size in sizes]
                axes.errorbar(
                    [size_of(size)[0] for size in sizes],
                    [mean.mean for mean in means],
                    [0 if math.isnan(mean.std) else mean.std for mean in means],
                    ls=style,
                    color=OTHERS[place + (2 if style == "--" else 0)],
                    marker=MARKERS[place],
                    capsize=3,
                    label=f"{total} frames{words}",
                )
                if style == "-":
                    for size, mean in zip(sizes, means, strict=True):
                        at = size_of(size)[0], mean.mean
                        axes.annotate(
                            size.replace("x", " × "),
                            at,
                            (5, -12),
                            textcoords="offset points",
                            fontsize=9,
                        )
        axes.set_xscale("log")
        axes.set_xlabel("labeled videos")
        axes.set_ylabel(f"{title}, percent")
        figure.legend(loc="outside lower center", ncols=2, fontsize=11, frameon=False)
        return svg(figure)


def spread_cost(ways, title, wanted, ratios=(0, 10)):
    """Left: the score over its cost where opening a video costs as much as a frame. Right:
    the cost of the score `wanted` over the price of opening a video, a line for each way.
    """
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(10, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        prices = np.linspace(*ratios, 101)
        for place, way in enumerate(ways):
            look = {"color": OTHERS[place % len(OTHERS)], "label": way.name}
            at = [cost(size, 1) for size in way.sizes]
            left.plot(at, way.scores, marker=MARKERS[place % len(MARKERS)], **look)
            costs = [way.cost_for(wanted, ratio) for ratio in prices]
            if not math.isinf(costs[0]):
                right.plot(prices, costs, **look)
        left.set_xscale("log")
        left.set_xlabel("cost, opening a video = 1 frame")
        left.set_ylabel(f"{title}, percent")
        right.set_xlabel("price of opening a video, in frames")
        right.set_ylabel(f"cost of {title} {wanted:g}, in frames")
        right.set_ylim(bottom=0)
        left.legend(fontsize=11, frameon=False)
        return svg(figure)
