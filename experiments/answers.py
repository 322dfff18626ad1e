"""The comparisons of docs/protocol.md from a table of experiments: sentences, tables, figures.

    python experiments/answers.py experiments/results/jhmdb.csv --output experiments/results/jhmdb

Reads   the table that experiments/run.py writes, however many of its cells are in
Writes  <--output>/answers.md       a sentence for each comparison that has seeds
        <--output>/comparisons.md   every comparison: seeds, difference with its 95% interval
                                    (Student's t over seeds, paired), p, p after Holm within
                                    its family, margin of equivalence
        <--output>/scores.md        mean ± standard deviation of every variant and cycle
        <--output>/spread_cost.md   the cheapest spread for a wanted score, by prices
        <--output>/*.svg            step, paper_step, spread, spread_cost, curve
Expect  seconds. What has no rows yet is left out, with a sentence saying so.
"""

import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from claus.experiments import contrasts, spread_cost  # noqa: E402
from claus.experiments.contrasts import FAMILIES, METRICS  # noqa: E402
from claus.experiments.grids import ONLY_LABELED, SPREAD  # noqa: E402
from claus.experiments.report import contrast_figures  # noqa: E402
from claus.experiments.report.curves import curve  # noqa: E402
from claus.experiments.report.export import score_lines  # noqa: E402
from claus.experiments.report.gather import (  # noqa: E402
    experiments_of,
    metrics_of,
    read_table,
)
from claus.experiments.report.statistics import mean_of  # noqa: E402
from claus.experiments.report.tables import MAIN  # noqa: E402
from claus.flags.common import HelpFormatter  # noqa: E402
from claus.utils.markdown import table  # noqa: E402
from claus.utils.runtime import (  # noqa: E402
    UserError,
    atomic_write,
    check_writable,
    run_script,
    write_text,
)

SCORE = "capsule f-mAP@.5"
LEVEL = 0.05
MARGIN = 2.0  # points within which two arms count as equivalent
# of a mask: COCO's 79 s (Lin et al. 2014); of a box by extreme clicks: 7 s (Papadopoulos et
# al. 2017); of opening a clip of a second or two and naming its class: our assumption
SECONDS = "10:79,10:7"


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add = parser.add_argument
    add("csv", type=Path, help="table of experiments/run.py")
    add("--output", type=Path, help="folder (default: the table's name without .csv)")
    add("--model", help="only rows of this network, where the table has several")
    add("--steps", type=int, help="only rows of trainings of this many steps")
    add(
        "--beside",
        type=Path,
        help="another table with table2, such as experiments/results/silhouettes.csv: do its "
        "rules rank as here?",
    )
    add(
        "--seconds",
        default=SECONDS,
        metavar="VIDEO:FRAME,…",
        help="of opening a video and naming its class, and of a frame (default: %(default)s; "
        "a mask, a box)",
    )
    args = parser.parse_args(argv)
    try:
        args.seconds = read_seconds(args.seconds)
    except ValueError:
        parser.error(f"--seconds must be like 10:79,10:7, not {args.seconds}")
    args.output = args.output or args.csv.with_suffix("")
    return args


def read_seconds(text):
    """[(seconds of a video, seconds of a frame)] of "10:79,10:7"; ValueError otherwise."""
    pairs = []
    for pair in text.split(","):
        video, frame = map(float, pair.split(":"))
        if not (0 <= video < math.inf and 0 < frame < math.inf):
            raise ValueError(pair)
        pairs.append((video, frame))
    return pairs


def main(argv=None):
    args = parse_args(argv)
    rows = one_setting(read_rows(args.csv), args)
    folder = check_writable(args.output, clear=False)
    found = experiments_of(rows)
    sizes = [name for name in found.get("spread", {}) if "," not in name] or SPREAD
    results = contrasts.results_of(rows, contrasts.planned(sizes))
    head = f"From `{args.csv.name}`: {what_of(rows)}."
    pages = {
        "answers.md": answers(results, rows, args.beside),
        "comparisons.md": comparisons(results),
        "scores.md": scores(found),
        "spread_cost.md": prices(found.get("spread", {}), args.seconds),
    }
    for name, text in pages.items():
        title = name.removesuffix(".md").replace("_", " ").capitalize()
        write_text(folder / name, f"# {title}\n\n{head}\n\n{text}\n")
    drawn = figures(results, found)
    for name, content in drawn.items():
        with atomic_write(folder / name) as file:
            file.write(content)
    print(pages["answers.md"])
    print(f"wrote {folder}/: {', '.join([*pages, *drawn])}")
    return 0


# ------------------------------------------------------------------------------------ rows


def read_rows(path):
    """Rows of a table; UserError where it has none."""
    rows = read_table(path) if path.is_file() else []
    if not rows:
        raise UserError(f"{path} has no row yet; run experiments/run.py with --csv {path}")
    return rows


def one_setting(rows, args):
    """The rows of the network and steps asked for; UserError where several are left, or a
    cell is there twice, for then its seeds would count double.
    """
    for name in ("model", "steps"):
        wanted = getattr(args, name)
        if wanted is not None:
            rows = [row for row in rows if row[name] == wanted]
    if not rows:
        raise UserError(f"{args.csv} has no row of --model {args.model} --steps {args.steps}")
    settings = {(row["dataset"], row["model"], row["steps"]) for row in rows}
    if len(settings) > 1:
        raise UserError(
            f"{args.csv} has rows of several settings {sorted(settings, key=str)}; choose by "
            "--model and --steps, or give each its own --csv"
        )
    places = {}
    for row in rows:
        cell = row["experiment"], row["variant"], row["seed"]
        if places.setdefault(cell, row["place"]) != row["place"]:
            raise UserError(
                f"{args.csv} has {cell[0]}: {cell[1]}, seed {cell[2]} twice, of "
                f"{places[cell]} and {row['place']}; remove the rows of one"
            )
    return rows


def what_of(rows):
    """Data set, network and steps of the rows in words."""
    row = rows[0]
    return f"{row['dataset']}, `{row['model']}`, {row['steps']:g} steps a training"


# --------------------------------------------------------------------------------- answers


def answers(results, rows, beside=None):
    """Every comparison in a sentence, under its family; those that wait for seeds, counted."""
    parts = []
    for family, about in FAMILIES.items():
        of = [result for result in results if result.contrast.family == family]
        lines = [f"- {sentence(result)}" for result in of if result.test]
        waiting = sum(result.test is None for result in of)
        if waiting:
            lines.append(f"- {waiting} of {len(of)} comparisons have no seeds yet.")
        parts.append(
            f"**{about[0].upper()}{about[1:]}** (Holm over {len(of)})\n\n" + "\n".join(lines)
        )
    parts.append(f"{len(results)} comparisons in {len(FAMILIES)} families.")
    if beside:
        parts.append(predicted(rows, beside))
    return "\n\n".join(parts)


def sentence(result):
    """What one comparison says: a difference, equivalence within a margin, or how many of
    its seeds are in; before that nothing is judged.
    """
    test, contrast = result.test, result.contrast
    head = f"{contrast.label}, {METRICS[contrast.metric]}: {difference(test)}"
    if test.n < contrast.seeds:
        return f"{head}, {test.n} of {contrast.seeds} seeds so far."
    head = f"{head}, {test.n} seeds"
    if math.isnan(test.p):
        return f"{head}, all differences equal: no test."
    p = f"Holm p {in_digits(result.holm)}"
    if result.holm < LEVEL:
        return f"{head}, significant ({p})."
    margin = math.ceil(10 * test.margin) / 10
    word = "equivalent" if test.margin <= MARGIN else "undecided, equivalent only"
    return f"{head}, not significant ({p}); {word} within ± {margin:.1f}."


def difference(test):
    """The mean and its 95% interval in words."""
    if math.isnan(test.half):
        return signed(test.mean)
    return f"{signed(test.mean)} [{signed(test.mean - test.half)}, {signed(test.mean + test.half)}]"


def signed(value):
    """A number to one decimal with its sign, none of them "-0.0"."""
    return f"{round(value, 1) + 0.0:+.1f}"


def in_digits(p):
    """A p-value in two digits."""
    return "< .001" if p < 0.001 else f"{p:.2g}".removeprefix("0")


def predicted(rows, beside):
    """How the ranks of the rules in another table's table2 go with those here."""
    from scipy.stats import spearmanr

    here, there = (over_random(of) for of in (rows, read_rows(beside)))
    common = sorted(here.keys() & there.keys())
    if len(common) < 3:
        return f"{beside.name} shares {len(common)} rules with this table: too few to compare."
    rank = float(
        spearmanr([here[name] for name in common], [there[name] for name in common])[0]
    )
    return (
        f"Rules in {beside.name} and here, {SCORE} over random at the last budget: rank "
        f"correlation {rank:+.2f} over {len(common)} rules ({', '.join(common)})."
    )


def over_random(rows):
    """{rule: mean difference to random, paired by seed} at the last cycle, of step where it
    is there, else of table2.
    """
    known = contrasts.values_of(rows)
    name = "step" if ("step", "random") in known else "table2"
    found = {}
    for experiment, variant in known:
        if experiment == name and variant != "random":
            terms = contrasts.Term(name, variant, 1), contrasts.Term(name, "random", -1)
            contrast = contrasts.Contrast("", variant, terms, SCORE)
            mean = mean_of(contrasts.differences(known, contrast))
            if mean:
                found[variant] = mean.mean
    return found


# ---------------------------------------------------------------------------------- tables


def comparisons(results):
    """A table for each family."""
    head = ["", "metric", "seeds", "difference [95%]", "p", "p (Holm)", "equivalent within ±"]
    parts = []
    for family, about in FAMILIES.items():
        of = [result for result in results if result.contrast.family == family]
        lines = [line(result) for result in of]
        parts += [f"## {about[0].upper()}{about[1:]}", table(head, lines)]
    return "\n\n".join(parts)


def line(result):
    """One comparison as the cells of a table."""
    test, metric = result.test, METRICS[result.contrast.metric]
    of = f"{test.n if test else 0} of {result.contrast.seeds}"
    head = [result.contrast.label, metric, of]
    if test is None:
        return [*head, *["-"] * 4]
    if math.isnan(test.p):
        return [*head, difference(test), *["-"] * 3]
    p_values = in_digits(test.p), in_digits(result.holm)
    return [*head, difference(test), *p_values, f"{test.margin:.1f}"]


def scores(found):
    """Means of every experiment, variant and budget."""
    parts = ["Mean ± standard deviation over seeds, percent."]
    for name, variants in found.items():
        every = [row for of in variants.values() for row in of]
        names = [metric for metric in MAIN if metric in metrics_of(every)]
        head = ["% of frames", "", "seeds", *names]
        parts += [f"## {name}", table(head, score_lines(variants, names))]
    return "\n\n".join(parts)


def seeds_of(variants):
    """{size: {seed: score}} of spread's trainings with pseudo-labels."""
    known = {}
    for name, rows in variants.items():
        of = {row["seed"]: row[SCORE] for row in rows if row.get(SCORE) is not None}
        if of:
            known[name] = of
    return known


def prices(variants, seconds):
    """The cheapest spread for each wanted score at each ratio of prices, and in seconds."""
    by_seed = {name: of for name, of in seeds_of(variants).items() if "," not in name}
    if len(contrasts.by_total(by_seed)) < 2:
        return "spread has no rows yet of two numbers of frames."
    ways = spread_cost.ways_of(
        {name: mean_of(of.values()).mean for name, of in by_seed.items()}
    )
    ratios = [(f"{ratio:g}:1", ratio, None) for ratio in spread_cost.RATIOS]
    ratios += [(f"{v:g} s a video, {f:g} s a frame", v / f, f) for v, f in seconds]
    lines = []
    for wanted in spread_cost.wanted_scores(ways):
        cells = [price_cell(ways, by_seed, wanted, ratio, unit) for _, ratio, unit in ratios]
        lines.append([wanted, *cells])
    about = (
        f"The cheapest way to a wanted {SCORE}: videos × frames of each, its cost (in frames, or "
        "in hours where seconds are given), and in what share of bootstrap draws over seeds the "
        "same way is the cheapest. Between the measured numbers of frames scores are taken as "
        "linear in their logarithm."
    )
    names = ["opening a video : a frame", *(name for name, *_ in ratios)]
    return f"{about}\n\n{table(names, lines)}"


def price_cell(ways, by_seed, wanted, ratio, seconds):
    """The cheapest size and its cost in words; "-" where no way reaches the score."""
    best = spread_cost.cheapest(ways, wanted, ratio)
    if best is None:
        return "-"
    videos, frames = best.size_for(wanted)
    cost = best.cost_for(wanted, ratio)
    price = f"{cost:.0f}" if seconds is None else f"{cost * seconds / 3600:.1f} h"
    least = "≤ " if best.scores[0] >= wanted else ""
    sure = spread_cost.certainty(by_seed, wanted, ratio, best.name)
    share = "" if math.isnan(sure) else f", {100 * sure:.0f}%"
    return f"{videos:.0f} × {frames:.1f}: {least}{price}{share}"


# --------------------------------------------------------------------------------- figures


def figures(results, found):
    """{file name: SVG bytes} of what has rows."""
    drawn = {}
    for name, families in (
        ("step.svg", ("primary", "arms", "videos or frames")),
        ("paper_step.svg", ("paper's step",)),
    ):
        of = [result for result in results if result.contrast.family in families]
        if any(result.test for result in of):
            drawn[name] = contrast_figures.forest(of, METRICS)
    by_seed = seeds_of(found.get("spread", {}))
    stew = {name: of for name, of in by_seed.items() if "," not in name}
    bare = {name.partition(",")[0]: of for name, of in by_seed.items() if ONLY_LABELED in name}
    if stew:
        drawn["spread.svg"] = contrast_figures.spread(stew, METRICS[SCORE], bare)
    if len(contrasts.by_total(stew)) > 1:
        means = {name: mean_of(of.values()).mean for name, of in stew.items()}
        ways = spread_cost.ways_of(means)
        reached = [score for score in spread_cost.wanted_scores(ways)]
        if reached:
            wanted = reached[len(reached) // 2]
            drawn["spread_cost.svg"] = contrast_figures.spread_cost(
                ways, METRICS[SCORE], wanted
            )
    if "curve" in found:
        drawn["curve.svg"] = curve(found["curve"], SCORE)
    return drawn


if __name__ == "__main__":
    run_script(main)
