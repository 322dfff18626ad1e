"""Tables of a report: scores by budget, paired differences, what was picked, what it cost."""

import csv
import math

import numpy as np

from claus.artifacts.scores import load_features
from claus.artifacts.selection_file import load_selection
from claus.datasets.labels import annotations as annotation_file
from claus.experiments.report import html
from claus.experiments.report.gather import budgets_of, by_seed, metrics_of
from claus.experiments.report.statistics import mean_of, paired_difference
from claus.experiments.table import AGREEMENT
from claus.utils.runtime import UserError

COMPARED = (
    "capsule f-mAP@.5",
    "capsule v-mAP@.5",
    "capsule f-mAP@.5 aware",
    "capsule v-mAP@.5 aware",
    "act frame-mAP@.5",
    "act video-mAP@.5",
)
GROUPS = (
    "capsule: masks, regardless of class",
    "capsule: masks of the right class",
    "capsule: class",
    "act: boxes and tubes of the right class",
)
LABELS = ("percent_of_frames", "videos", "frames", "boxes", "cost")
MAIN = (
    *COMPARED[:4],
    "capsule accuracy",
    "act frame-mAP@.5",
    "act video-mAP@.2",
    "act video-mAP@.5",
)


def group_of(name):
    """Which of GROUPS a metric column belongs to."""
    if name.startswith("act "):
        return GROUPS[3]
    return (
        GROUPS[2] if name == "capsule accuracy" else GROUPS[1] if "aware" in name else GROUPS[0]
    )


def grouped(names):
    """The names in the order of GROUPS, and [(group, how many)]."""
    ordered, groups = [], []
    for title in GROUPS:
        part = [name for name in names if group_of(name) == title]
        ordered += part
        if part:
            groups.append((title, len(part)))
    return ordered, groups


def short(name):
    """A metric's name below the head of its group."""
    return name.partition(" ")[2].removesuffix(" aware")


def score_table(variants, caption, names):
    """Mean ± standard deviation over seeds of metrics, a block of rows for each budget; the
    best mean is bold.

    What all variants share, the random start, is one row.
    """
    names, groups = grouped(names)
    lines, blocks = [], []
    for cycle in budgets_of(variants):
        blocks.append(len(lines))
        here = {
            variant: rows for variant, rows in variants.items() if by_seed(rows, cycle, "cycle")
        }
        if len(here) > 1 and _all_alike(here.values(), cycle, names):
            here = {"all (shared start)": next(iter(here.values()))}
        scores = {}
        for variant, rows in here.items():
            scores[variant] = [mean_of(by_seed(rows, cycle, name).values()) for name in names]
        tops = [best_of(means) for means in zip(*scores.values(), strict=True)]
        for variant, means in scores.items():
            cells = [
                (mean_cell(mean), "best" if mean and round(mean.mean, 1) == top else "")
                for mean, top in zip(means, tops, strict=True)
            ]
            percent, *labels = (labels_cell(here[variant], cycle, name) for name in LABELS)
            lines.append(
                [
                    variant,
                    percent,
                    *cells,
                    *labels,
                    str(len(by_seed(here[variant], cycle, "cycle"))),
                ]
            )
    head = ["", "% of frames", *map(short, names), "videos", "frames", "boxes", "cost", "seeds"]
    return html.table(
        caption, head, lines, [("", 2), *groups, ("labels so far", 4), ("", 1)], blocks
    )


def _all_alike(variants, cycle, names):
    """Whether all variants have the same scores of every seed."""
    found = set()
    for rows in variants:
        found.add(str([by_seed(rows, cycle, name) for name in names]))
    return len(found) == 1


def best_of(means):
    """The highest mean, to one decimal; None where all are alike."""
    known = [round(mean.mean, 1) for mean in means if mean]
    return max(known) if len(set(known)) > 1 else None


def labels_cell(rows, cycle, name):
    """What was labeled, its mean over seeds; "-" where the table does not say."""
    mean = mean_of(by_seed(rows, cycle, name).values())
    if mean is None:
        return "-"
    return (
        f"{mean.mean:.3g}"
        if name == "percent_of_frames"
        else f"{mean.mean:.1f}".removesuffix(".0")
    )


def mean_cell(mean):
    """ "51.2 ± 1.3", "51.2" for one seed, "-" for none."""
    if mean is None:
        return "-"
    return f"{mean.mean:.1f}" if math.isnan(mean.std) else f"{mean.mean:.1f} ± {mean.std:.1f}"


def random_of(variants):
    """The variant that chooses at random and differs in nothing else; None where there is
    none.
    """
    for name, rows in variants.items():
        rules = {(row["method"], row["strategy"]) for row in rows}
        if rules == {("random", "hybrid")} and len(budgets_of({name: rows})) > 1:
            return name
    return None


def paired_table(variants, base):
    """Differences against the variant `base`, seed by seed, with the 95% interval of their
    mean.
    """
    every = [row for rows in variants.values() for row in rows]
    names, groups = grouped([name for name in COMPARED if name in metrics_of(every)])
    lines, blocks = [], []
    for found in differences(variants, base, names):
        blocks.append(len(lines))
        lines += [
            [variant, percent, seeds, *map(difference_cell, means)]
            for variant, percent, seeds, means in found
        ]
    if not lines:
        return ""
    return html.table(
        f"Percentage points more than {base}, with the same seed; in brackets the 95% "
        "interval of the mean (Student's t), colored where it leaves out 0",
        ["", "% of frames", "seeds", *map(short, names)],
        lines,
        [("", 3), *groups],
        blocks,
    )


def differences(variants, base, names):
    """For each budget [(variant, % of frames, seeds, differences of the metrics `names`
    against `base`)].

    Left out is a budget at which all are the same: a first cycle that all share.
    """
    budgets = []
    for cycle in budgets_of(variants):
        lines = []
        for variant, rows in variants.items():
            if variant == base or not by_seed(rows, cycle, "cycle"):
                continue
            found = [
                paired_difference(
                    by_seed(rows, cycle, name), by_seed(variants[base], cycle, name)
                )
                for name in names
            ]
            seeds = max((difference.n for difference in found if difference), default=0)
            lines.append(
                (variant, labels_cell(rows, cycle, "percent_of_frames"), str(seeds), found)
            )
        if any(mean and (mean.mean or mean.std > 0) for *_, found in lines for mean in found):
            budgets.append(lines)
    return budgets


def difference_cell(mean):
    """("+2.1 [+0.3, +3.9]", css class); one seed has no interval."""
    if mean is None:
        return "-"
    if math.isnan(mean.half):
        return f"{mean.mean:+.1f}"
    low, high = mean.mean - mean.half, mean.mean + mean.half
    return (
        f"{mean.mean:+.1f} [{low:+.1f}, {high:+.1f}]",
        "good" if low > 0 else "bad" if high < 0 else "",
    )


def agreement_table(variants):
    """Experiment r: what other numbers of passes choose."""
    lines = []
    for name, rows in variants.items():
        seconds = mean_cell(mean_of(by_seed(rows, 1, "seconds").values()))
        lines.append([name, *agreement_cells(rows), seconds])
    return html.table(
        "Choice for the next cycle compared with that of the most passes, same weights "
        "(mean ± standard deviation over seeds)",
        ["passes", *AGREEMENT, "seconds"],
        lines,
    )


def agreement_cells(rows):
    """A cell for each of AGREEMENT, of the rows of one number of passes."""
    cells = []
    for column in AGREEMENT:
        mean = mean_of(by_seed(rows, 1, column).values())
        cells.append(correlation_cell(mean) if "correlation" in column else mean_cell(mean))
    return cells


def correlation_cell(mean):
    return "-" if mean is None else f"{mean.mean:.3f}"


# --------------------------------------------------------------------- runs on this machine


def picks_tables(folders):
    """What each run picked in its second cycle, by cluster and by class: folders {variant:
    run folder} of one seed.
    """
    by_cluster, by_class = {}, {}
    for variant, folder in folders.items():
        try:
            names = [
                row["video"]
                for row in load_selection(folder / "cycle1" / "selection.json")["videos"]
            ]
        except UserError:
            continue
        by_class[variant] = picked_classes(folder, names)
        path = folder / "cycle0" / "features.pkl"
        if path.exists():
            features = load_features(path)
            clusters = np.arange(len(features.centers))
            picked = features.clusters[np.isin(features.videos, names)]
            columns = by_cluster.setdefault(
                features.source, {"in the pool": _counts(features.clusters, clusters)}
            )
            columns[variant] = _counts(picked, clusters)
    parts = [
        _counts_table(
            "Videos picked in cycle 1, by cluster",
            "cluster",
            range(len(columns["in the pool"])),
            columns,
        )
        for columns in by_cluster.values()
    ]
    by_class = {variant: found for variant, found in by_class.items() if found}
    if by_class:
        parts.append(
            _counts_table(
                "Videos picked in cycle 1, by the class that the annotator gave",
                "class",
                next(iter(by_class.values())),
                {variant: list(found.values()) for variant, found in by_class.items()},
            )
        )
    return f'<div class="side">{"".join(parts)}</div>'


def _counts(values, kinds):
    return [int((values == kind).sum()) for kind in kinds]


def picked_classes(folder, names):
    """{class: how many of the videos got it}; {} where cycle 1's annotation file is not
    there.
    """
    path = folder / "cycle1" / "annotations.pkl"
    if not path.exists():
        return {}
    labels = annotation_file.load(path)
    found = dict.fromkeys(labels.classes, 0)
    for name in names:
        if name in labels.videos and labels.videos[name].label is not None:
            found[labels.classes[labels.videos[name].label]] += 1
    return found


def _counts_table(caption, what, names, columns):
    lines = []
    for place, name in enumerate(names):
        lines.append([name, *(str(values[place]) for values in columns.values())])
    return html.table(caption, [what, *columns], lines)


def ledger_table(folder, caption):
    """A run's ledger.csv; "" where it is missing."""
    path = folder / "ledger.csv"
    if not path.exists():
        return ""
    with open(path, encoding="utf-8", newline="") as file:
        head, *lines = list(csv.reader(file))
    return html.table(caption, [name.replace("_", " ") for name in head], lines)
