"""The sections of a report, in the order in which they are read."""

import shlex

from claus.experiments.grids import ABOUT
from claus.experiments.report import html, runs, tables
from claus.experiments.report.curves import curve, metric_title, over_values
from claus.experiments.report.gather import (
    SETTING,
    budgets_of,
    by_seed,
    experiments_of,
    folders_of,
    metrics_of,
    names_of,
    read_json,
)
from claus.experiments.report.published import curve_of, published_rows
from claus.experiments.report.statistics import mean_of, paired_difference
from claus.utils.machine import in_words

CURVES = (
    "capsule f-mAP@.5",
    "capsule v-mAP@.5",
    "capsule f-mAP@.5 aware",
    "capsule v-mAP@.5 aware",
    "capsule accuracy",
    "act frame-mAP@.5",
    "act video-mAP@.5",
)
SAID = ("capsule f-mAP@.5", "capsule f-mAP@.5 aware")  # the first paragraphs are about these
FLOORS = {"capsule f-mAP@.5": "capsule floor f@.5", "capsule v-mAP@.5": "capsule floor v@.5"}
PROTOCOLS = (
    "Two protocols, whose numbers must not be compared with each other. capsule scores the "
    "overlap of the predicted mask with the actors, regardless of the predicted class (the "
    "paper's tables use it), so class-aware scores and the accuracy are given as well. act "
    "is the frame-mAP and video-mAP of the detection literature: boxes and tubes of the "
    "right class. All scores are in percent."
)


def sections_of(rows, data, published):
    """[(heading, html)] of all rows. data: folder of the videos, or None. published:
    "ucf101", "jhmdb" or None.
    """
    experiments = experiments_of(rows)
    parts = []
    for name, variants in experiments.items():
        stem = name.partition(" (")[0]
        if stem == "full" and any(other.partition(" (")[0] != "full" for other in experiments):
            continue  # a line in every other section
        heading = f"{name}: {ABOUT[stem]}" if stem in ABOUT else name.capitalize()
        body = (
            passes_section(variants)
            if stem == "r"
            else scores_section(variants, rows, published)
        )
        parts.append((heading, body))
    if published:
        parts.append(("The paper's numbers", published_table(published)))
    parts += run_sections(experiments, data)
    parts.append(("What it cost", ledgers(rows)))
    parts.append(("How it was made", made_section(rows)))
    return parts


def full_line(rows, like, metric):
    """Mean over the fully supervised runs among the rows that were made as the rows `like`
    were, or None.
    """
    settings = {_setting(row) for row in like}
    return mean_of(
        row.get(metric)
        for row in rows
        if row["experiment"].partition(" (")[0] == "full" and _setting(row) in settings
    )


def _setting(row):
    return tuple(row.get(name) for name in SETTING)


# ----------------------------------------------------------------------------------- scores


def scores_section(variants, rows, published):
    """Curves, table and paired differences of one experiment; of all `rows` the fully
    supervised ones are a line.
    """
    every = [row for of in variants.values() for row in of]
    full = {metric: full_line(rows, every, metric) for metric in CURVES}
    names = [metric for metric in CURVES if metric in metrics_of(every)]
    seeds = sorted({row["seed"] for row in every}, key=str)
    bars = (
        f"seeds {', '.join(seeds)}; bars are the standard deviation over seeds"
        if len(seeds) > 1
        else (f"one seed ({seeds[0]}), so there are no error bars")
    )
    lead = html.paragraph(
        f"{what_of(every)}. {len(variants)} {'line' if len(variants) == 1 else 'lines'}, "
        f"{bars}."
    )
    if not names:
        return lead + html.absent("No scores are in the table.")
    figures = [
        curve_figure(
            variants,
            metric,
            full.get(metric),
            floor_of(every, metric),
            curve_of(published, metric) if published else (),
        )
        for metric in names
    ]
    if over_what(variants):
        figures = [
            html.figure(over_values(variants, metric), html.SVG, alt_of(variants, metric))
            for metric in names
        ]
    elif costs_differ(variants):
        figures += [
            html.figure(
                curve(variants, metric, "cost", full.get(metric)),
                html.SVG,
                "Over the cost: " + alt_of(variants, metric),
            )
            for metric in names[:4]
        ]
    absent = (
        ""
        if any(full.values())
        else html.absent("No fully supervised line: the experiment full was not run.")
    )
    metrics = [metric for metric in metrics_of(every) if "floor" not in metric]
    table = tables.score_table(
        variants,
        "Mean ± standard deviation over seeds, percent; the best mean of each budget is bold",
        [metric for metric in metrics if metric in tables.MAIN],
    )
    others = [metric for metric in metrics if metric not in tables.MAIN]
    more = (
        tables.score_table(variants, "Mean ± standard deviation over seeds, percent", others)
        if others
        else ""
    )
    more = more and html.details("Other thresholds", more)
    said = "".join(
        html.paragraph(outcome(variants, metric)) for metric in names if metric in SAID
    )
    return (
        lead
        + said
        + html.gallery(figures)
        + absent
        + "<h3>Scores by budget</h3>"
        + table
        + more
        + paired(variants)
    )


def over_what(variants):
    """Whether the variants are values of one number (K=2, K=5, …), to be drawn over it."""
    return len(variants) > 2 and all("=" in variant for variant in variants)


def outcome(variants, metric):
    """The largest budget in a sentence: who leads, and by how much over random choice."""
    cycle = budgets_of(variants)[-1]
    means = {
        name: mean
        for name, rows in variants.items()
        if (mean := mean_of(by_seed(rows, cycle, metric).values()))
    }
    if not means:
        return ""
    best = max(means, key=lambda name: means[name].mean)
    percent = mean_of(
        row.get("percent_of_frames") for row in variants[best] if int(row["cycle"]) == cycle
    )
    name, protocol = metric_title(metric)
    words = f"At {percent.mean:.3g}% of the frames " if percent else f"In cycle {cycle} "
    has = "has the highest" if len(means) > 1 else "has"
    words += f"{best} {has} {name} ({protocol}): {tables.mean_cell(means[best])}"
    base = tables.random_of(variants)
    if (
        base
        and base != best
        and (
            difference := paired_difference(
                by_seed(variants[best], cycle, metric), by_seed(variants[base], cycle, metric)
            )
        )
    ):
        cell = tables.difference_cell(difference)
        seeds = (
            "one seed, so no interval"
            if difference.n == 1
            else f"{difference.n} seeds, 95% interval in brackets"
        )
        words += f"; against {base} {cell[0] if isinstance(cell, tuple) else cell} ({seeds})"
    return words + "."


def curve_figure(variants, metric, full, floor, published):
    return html.figure(
        curve(variants, metric, full=full, floor=floor, published=published),
        html.SVG,
        alt_of(variants, metric)
        + (f"; fully supervised {full.mean:.1f}" if full else "")
        + (f"; without a model {floor:.1f}" if floor is not None else ""),
    )


def what_of(rows):
    """Data set, network and steps of the rows, in words."""
    words = [_values(rows, name) or "unknown" for name in ("dataset", "model")]
    steps = ", ".join(sorted({f"{row['steps']:g}" for row in rows if row.get("steps")}))
    return f"Data set {words[0]}, {words[1]} network" + (
        f", {steps} training steps in every cycle" if steps else ""
    )


def _values(rows, name):
    """What the rows have in a column, in words."""
    known = {str(row[name]) for row in rows if row.get(name) not in (None, "", "?")}
    return ", ".join(sorted(known))


def alt_of(variants, metric):
    """What a curve shows, in words: every line at its last budget."""
    ends = []
    for name, rows in variants.items():
        scores = [
            (cycle, mean_of(by_seed(rows, cycle, metric).values()))
            for cycle in budgets_of({name: rows})
        ]
        scores = [score for _, score in scores if score]
        if scores:
            ends.append(
                f"{name} from {scores[0].mean:.1f} to {scores[-1].mean:.1f}"
                if len(scores) > 1
                else f"{name} {scores[0].mean:.1f}"
            )
    return f"{' by the '.join(metric_title(metric))}; {'; '.join(ends)}"


def floor_of(rows, metric):
    """What the score needs no model for; the same for all runs of a data set."""
    floor = mean_of(row.get(FLOORS.get(metric)) for row in rows)
    return floor.mean if floor else None


def costs_differ(variants):
    """Whether at some budget the lines cost more than a twentieth apart."""
    for cycle in budgets_of(variants):
        costs = [
            mean.mean
            for rows in variants.values()
            if (mean := mean_of(by_seed(rows, cycle, "cost").values()))
        ]
        if len(costs) > 1 and max(costs) > 1.05 * min(costs):
            return True
    return False


def paired(variants):
    """Differences against random choice."""
    base = tables.random_of(variants)
    if base is None:
        return html.absent("No differences against random choice: it is not among these lines.")
    content = tables.paired_table(variants, base) if len(variants) > 1 else ""
    return f"<h3>Differences against {html.text(base)}</h3>" + (
        content or html.absent("Nothing to compare yet.")
    )


def passes_section(variants):
    """Experiment r."""
    figures = [
        html.figure(
            over_values(variants, column), html.SVG, f"{column} over the number of passes"
        )
        for column in ("same videos %", "same frames %", "rank correlation of frames")
    ]
    lead = html.paragraph(
        "The same weights, scored with fewer dropout passes. The fewer passes are a subset "
        "of all passes, so their agreement is an upper bound; the row of other passes, as "
        "many but drawn again, shows how well two full scorings agree."
    )
    return lead + html.gallery(figures) + tables.agreement_table(variants)


def published_table(dataset):
    """What the paper prints, for comparison."""
    rows = published_rows(dataset)
    names = [name for name in rows[0] if name not in ("dataset", "method")]
    head = [name.replace("_", " ").replace("percent of", "% of") for name in names]
    lines = []
    for row in rows:
        lines.append([row["method"], *(row[name] or "-" for name in names)])
    return html.table(
        "published numbers, presumably by the capsule protocol, as in the work it builds "
        "on; the semi-supervised rows count densely labeled videos",
        ["method", *head],
        lines,
    )


# ---------------------------------------------------------------------- the runs themselves


def run_sections(experiments, data):
    """Sections from the folders of one experiment: the one whose lines differ in the rule,
    or the first.
    """
    usable = {}
    for name, variants in experiments.items():
        rows = [row for of in variants.values() for row in of]
        if name.partition(" (")[0] not in ("r", "full") and folders_of(rows):
            usable[name] = variants
    if not usable:
        return [
            (
                "What was picked",
                html.absent(
                    "The run folders are not on this machine, so picks, classes and "
                    "detections are not shown."
                ),
            )
        ]
    name = max(
        usable,
        key=lambda name: len({row["method"] for rows in usable[name].values() for row in rows}),
    )
    variants = usable[name]
    folders = folders_of([row for rows in variants.values() for row in rows])
    seed = next(iter(folders))[1]
    of_seed = {variant: folder for (variant, s), folder in folders.items() if s == seed}
    of_variant = {}
    for (variant, _), folder in folders.items():
        of_variant.setdefault(variant, []).append(folder)
    claus = next(
        (
            variant
            for variant, rows in variants.items()
            if variant in of_seed and rows[0]["method"] == "claus"
        ),
        next(iter(of_seed)),
    )
    where = "" if len(usable) == 1 else f" ({name})"
    return [
        (
            f"What was picked{where}",
            runs.clusters_section(of_seed, seed) + tables.picks_tables(of_seed),
        ),
        (f"Classes and their share of the labels{where}", runs.classes_section(of_variant)),
        (f"Uncertainty over time{where}", runs.strips_section(of_seed[claus], data, claus)),
        (
            f"Best and worst detections{where}",
            runs.detections_section(
                [
                    of_seed[claus],
                    *(folder for folder in folders.values() if folder != of_seed[claus]),
                ]
            ),
        ),
    ]


def ledgers(rows):
    """Every run's ledger, to unfold."""
    parts = []
    for folder, name in names_of(rows).items():
        content = tables.ledger_table(
            folder, f"{folder.name}: labels bought in each cycle and in all"
        )
        if content:
            parts.append(html.details(name, content))
    lead = html.paragraph("Counted in the annotation files, at the prices given to each run.")
    return (
        lead + "".join(parts)
        if parts
        else html.absent(
            "No ledger: the run folders are not on this machine. The tables above give the "
            "cost of every budget."
        )
    )


def made_section(rows):
    """Commands, seeds, versions and machine."""
    commands, machines, unknown = {}, {}, 0
    for folder, name in names_of(rows).items():
        record = read_json(folder / "cell.json")
        if record.get("machine"):
            machines.setdefault(in_words(record["machine"]), []).append(folder.name)
        else:
            unknown += 1
        commands[f"{name}: {folder.name}"] = record.get("commands") or [command_of(folder)]
    seeds = sorted({row["seed"] for row in rows}, key=str)
    parts = [html.paragraph(f"Seeds: {', '.join(seeds)}.")]
    parts += [
        html.paragraph(f"{len(names)} {'run' if len(names) == 1 else 'runs'} on: {machine}.")
        for machine, names in machines.items()
    ]
    if unknown:
        parts.append(
            html.absent(
                f"{unknown} {'run' if unknown == 1 else 'runs'} did not record the machine "
                "and the versions; runs of experiments/run.py do."
            )
        )
    if not commands:
        parts.append(
            html.absent(
                "The run folders are not on this machine, so their commands, versions and "
                "machines are unknown."
            )
        )
    parts += [
        html.details(name, html.code("\n".join(lines))) for name, lines in commands.items()
    ]
    return "".join(parts)


def command_of(folder):
    """The run_cycles.py command of a run, by its run.json."""
    settings = read_json(folder / "run.json")
    if not settings:
        return f"# {folder}: made by single scripts, whose flags are not recorded"
    flags = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in settings.items()
        if name != "claus" and value not in ("", None, False)
    ]
    return shlex.join(["python", "run_cycles.py", "--run", str(folder), *flags])
