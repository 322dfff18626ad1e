"""Scores over labels, with error bars over seeds: matplotlib pictures as SVG bytes."""

import io
import math

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from claus.experiments.report.gather import budgets_of, by_seed
from claus.experiments.report.statistics import mean_of
from claus.selection.rules import RULES
from claus.utils import picture_text

COLORS = {name: rule.color for name, rule in RULES.items()}
OTHERS = (
    "#d1495b",
    "#00798c",
    "#edae49",
    "#6a4c93",
    "#2e933c",
    "#30638e",
    "#b56576",
    "#5c6770",
)
MARKERS = "osD^vPX*hp<>"  # at least one for every rule
# of the first variants, and of those for which no color is left
LINES = (
    "-",
    (0, (5, 2)),
    (0, (1, 1)),
)
# points between the lines at a budget, so that bars of equal scores do not hide each other
ASIDE = 3
SETTINGS = {
    "font.size": 12.5,
    "svg.hashsalt": "report",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
}


def color_of(variants):
    """{variant: (color, marker, line style)}: rules keep theirs in every report, other
    variants get the next.
    """
    taken = {COLORS.get(name) for name in variants}
    spare = [color for color in OTHERS if color not in taken] or list(OTHERS)
    looks, used = {}, 0
    for place, name in enumerate(variants):
        if name not in COLORS:
            line = LINES[used // len(spare) % len(LINES)]
            looks[name], used = (
                (spare[used % len(spare)], MARKERS[place % len(MARKERS)], line),
                used + 1,
            )
        else:
            looks[name] = COLORS[name], MARKERS[list(COLORS).index(name)], LINES[0]
    return looks


def curve(variants, metric, x="percent_of_frames", full=None, floor=None, published=()):
    """SVG bytes of one metric over labels. variants: {name: rows}. x: column across.

    full: Mean of the fully supervised runs. floor: number that no model is needed for.
    published: [(percent of frames, score)] of the paper. Bars are the standard deviation
    over seeds. The top axis shows the cost at each budget.
    """
    with matplotlib.rc_context(SETTINGS), picture_text.fonts_for(variants):
        figure = Figure(figsize=(6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        ticks = {}
        for place, (name, (color, marker, line)) in enumerate(color_of(variants).items()):
            points = points_of(variants[name], metric, x)
            aside = ScaledTranslation(
                (place - (len(variants) - 1) / 2) * ASIDE / 72, 0, figure.dpi_scale_trans
            )
            if points:
                errors = [0 if math.isnan(point.std) else point.std for _, point, _ in points]
                axes.errorbar(
                    [at for at, _, _ in points],
                    [point.mean for _, point, _ in points],
                    errors,
                    label=picture_text.label(name),
                    color=color,
                    marker=marker,
                    ls=line,
                    ms=6,
                    lw=1.8,
                    capsize=3,
                    mec="white",
                    mew=0.6,
                    transform=axes.transData + aside,
                )
                axes.update_datalim(
                    [
                        (at, point.mean + sign * error)
                        for (at, point, _), error in zip(points, errors, strict=True)
                        for sign in (-1, 1)
                    ]
                )
            for at, _, cost in points:
                ticks.setdefault(round(at, 4), []).append(cost)
        for value, style, label in (
            (full and full.mean, "--", "fully supervised"),
            (floor, ":", "no model"),
        ):
            if value is not None:
                axes.axhline(
                    value, color="black", ls=style, lw=1.2, label=f"{label} {value:.1f}"
                )
        within = [(at, score) for at, score in published if not ticks or at <= 1.3 * max(ticks)]
        if within and x == "percent_of_frames":
            axes.plot(
                *zip(*within, strict=True), color="0.72", lw=2, zorder=1, label="paper's CLAUS"
            )
        _axes_of(axes, ticks, x, metric)
        figure.legend(loc="outside lower center", ncols=2, fontsize=11, frameon=False)
        _headline(figure, *metric_title(metric))
        return svg(figure)


def points_of(rows, metric, x):
    """[(mean of x, Mean of the metric, mean cost)] of a variant's cycles, rising."""
    points = []
    for cycle in budgets_of({"": rows}):
        at, score = (mean_of(by_seed(rows, cycle, name).values()) for name in (x, metric))
        cost = mean_of(by_seed(rows, cycle, "cost").values())
        if at and score:
            points.append((at.mean, score, cost.mean if cost else math.nan))
    return points


def _axes_of(axes, ticks, x, metric):
    """Labels, a logarithmic axis where the budgets span more than a factor of ten, the
    budgets as ticks, the cost.
    """
    axes.set_ylabel(f"{metric.partition(' ')[2]}, percent")
    axes.set_xlabel(
        {"percent_of_frames": "labeled frames, % of all", "cost": "cost of the labels"}.get(
            x, x
        )
    )
    axes.autoscale_view()
    low, high = axes.get_ylim()
    axes.set_ylim(max(0, low), max(high, 1))
    places = sorted(ticks)
    if len(places) > 1 and min(places) > 0 and max(places) > 10 * min(places):
        axes.set_xscale("log")
        margin = (places[-1] / places[0]) ** 0.06
        axes.set_xlim(places[0] / margin, places[-1] * margin)
    elif len(places) > 1:
        margin = 0.06 * (places[-1] - places[0])
        axes.set_xlim(places[0] - margin, places[-1] + margin)
    elif places:
        axes.set_xlim(0, 2 * places[0] or 1)
    if x != "percent_of_frames":
        return
    places = apart(places, axes)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{at:.3g}" for at in places]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    costs = [_known(ticks[at]) for at in places]
    if any(costs):
        top = axes.secondary_xaxis("top")
        top.xaxis.set_major_locator(FixedLocator(places))
        top.xaxis.set_major_formatter(FixedFormatter([_range(values) for values in costs]))
        top.xaxis.set_minor_locator(NullLocator())
        top.set_xlabel("cost of the labels", fontsize=10)
        top.tick_params(labelsize=9.5)


def metric_title(metric):
    """(name of the column, what its protocol is about); numbers of different protocols do
    not compare.
    """
    protocol, _, name = metric.partition(" ")
    about = (
        "boxes and tubes of the right class"
        if protocol == "act"
        else "masks of the right class"
        if ("aware" in name)
        else "class of the video"
        if name == "accuracy"
        else "masks, regardless of class"
    )
    return name, f"{protocol} protocol: {about}"


def _headline(figure, name, about=""):
    """Two lines at the upper left: the name, and the protocol below it."""
    figure.suptitle(
        f"{name}\n", x=0.01, ha="left", fontsize=13, weight="bold", linespacing=1.25
    )
    figure.text(0.01, 0.985 - 0.052, about, ha="left", va="top", fontsize=11, color="0.35")


def _known(values):
    return [value for value in values if not math.isnan(value)]


def apart(places, axes, least=0.09):
    """The places that are at least a share `least` of the axis from the one before."""
    low, high = (
        math.log10(end) if axes.get_xscale() == "log" else end for end in axes.get_xlim()
    )
    kept, last = [], -math.inf
    for place in places:
        at = ((math.log10(place) if axes.get_xscale() == "log" else place) - low) / (high - low)
        if at - last >= least:
            kept.append(place)
            last = at
    return kept


def _range(values):
    """ "120", or "110–140" where the lines differ by more than a twentieth."""
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:.0f}–{high:.0f}" if high > 1.05 * low else f"{sum(values) / len(values):.0f}"


def over_values(variants, metric):
    """SVG bytes of one metric over what the variants' names end with (K=2, K=5, …), a line
    for each budget.

    A variant with more behind its number ("R=20, other passes") is a hollow point beside
    the line.
    """
    names, cycles = list(variants), budgets_of(variants)
    known = metric.startswith(("capsule ", "act "))
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(6, 4.7), layout="constrained")
        axes = figure.add_subplot()
        for place, cycle in enumerate(cycles):
            means = [mean_of(by_seed(variants[name], cycle, metric).values()) for name in names]
            look = dict(
                color=OTHERS[place % len(OTHERS)],
                marker=MARKERS[place % len(MARKERS)],
                capsize=3,
                ms=6,
            )
            for beside, line in (
                (False, {"lw": 1.8, "label": budget_name(variants, cycle)}),
                (True, {"lw": 0, "elinewidth": 1.8, "mfc": "white"}),
            ):
                shown = [
                    (at, mean)
                    for at, mean in enumerate(means)
                    if mean and ("," in names[at]) == beside
                ]
                if shown:
                    axes.errorbar(
                        [at for at, _ in shown],
                        [mean.mean for _, mean in shown],
                        [0 if math.isnan(mean.std) else mean.std for _, mean in shown],
                        **look,
                        **line,
                    )
        axes.set_xticks(
            range(len(names)), [name.partition("=")[2].replace(", ", "\n") for name in names]
        )
        axes.set_xlabel(names[0].partition("=")[0])
        axes.set_ylabel(f"{metric_title(metric)[0]}, percent" if known else metric)
        if len(cycles) > 1:
            figure.legend(loc="outside lower center", ncols=2, fontsize=11, frameon=False)
        _headline(figure, *(metric_title(metric) if known else (metric,)))
        return svg(figure)


def budget_name(variants, cycle):
    """ "5% of the frames", or the cycle's number where the table does not say."""
    percent = mean_of(
        row.get("percent_of_frames")
        for rows in variants.values()
        for row in rows
        if int(row["cycle"]) == cycle
    )
    return f"{percent.mean:.3g}% of the frames" if percent else f"cycle {cycle}"


def svg(figure):
    """The figure as SVG bytes, the same for the same figure."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(
        buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white"
    )
    return buffer.getvalue()
