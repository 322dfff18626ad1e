"""The comparisons of the protocol: tests, Holm, equivalence and costs with answers worked out
by hand, and the pages made of invented rows.
"""

import csv
import math

import numpy as np
import pytest

from claus.experiments import answers, contrasts, spread_cost
from claus.experiments.contrasts import Contrast, Term
from claus.experiments.grids import ARMS, cells_of
from claus.experiments.report.statistics import holm, paired_test
from claus.utils.runtime import UserError

F, V = contrasts.METRICS


# ------------------------------------------------------------------------------ statistics


def test_a_paired_test_by_hand():
    # mean 2, standard deviation 1, standard error 1/√3, t = 2√3 with 2 degrees of freedom,
    # for which p = 1 - t / √(t² + 2)
    test = paired_test([1, 2, 3])
    t = 2 * math.sqrt(3)
    assert (test.mean, test.n) == (2, 3)
    assert test.p == pytest.approx(1 - t / math.sqrt(t**2 + 2))
    assert test.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)  # t at .975
    assert test.margin == pytest.approx(2 + 2.919986 / math.sqrt(3), rel=1e-6)  # t at .95
    assert paired_test([-1, -2, -3]).margin == pytest.approx(test.margin)


def test_a_margin_is_just_where_both_one_sided_tests_reject():
    from scipy.stats import ttest_1samp

    differences = np.random.default_rng(0).normal(0.4, 2, 12)
    margin = paired_test(differences).margin
    for shift in (1.001, 0.999):
        at = margin * shift
        p = max(
            ttest_1samp(differences, -at, alternative="greater").pvalue,
            ttest_1samp(differences, at, alternative="less").pvalue,
        )
        assert (p < 0.05) == (shift > 1)


def test_few_or_equal_differences():
    assert paired_test([]) is None and paired_test([math.nan, None]) is None
    one = paired_test([3.0])
    assert one.mean == 3 and math.isnan(one.p) and math.isnan(one.margin)
    equal = paired_test([57.6 - 55.9, 1.7])  # scores are rounded: no spread is no certainty
    assert math.isnan(equal.p) and equal.half < 1e-9


def test_holm_by_hand():
    # .005·4 = .02, .01·3 = .03, .03·2 = .06, and .04·1 may not be below the one before
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.5]).tolist() == pytest.approx([0.8, 0.8])
    assert holm([0.6, 0.9]).tolist() == [1, 1]  # at most 1


def test_holm_of_a_family_that_is_not_complete_counts_all_its_comparisons():
    adjusted = holm([math.nan, 0.01, 0.02], 3)
    assert math.isnan(adjusted[0]) and adjusted[1:].tolist() == pytest.approx([0.03, 0.04])
    with pytest.raises(ValueError, match="3 p-values are more than 2 comparisons"):
        holm([0.1, 0.1, 0.1], 2)


# ------------------------------------------------------------------------------- contrasts


def row(experiment, variant, seed, cycle, score, **more):
    return {
        "experiment": experiment,
        "variant": variant,
        "seed": str(seed),
        "cycle": float(cycle),
        F: score,
        V: score + 1,
        **more,
    }


def test_the_protocol_has_this_many_comparisons():
    planned = contrasts.planned()
    counts = {name: 0 for name in contrasts.FAMILIES}
    for contrast in planned:
        counts[contrast.family] += 1
    assert list(counts.values()) == [2, 18, 4, 8, 6, 10, 8, 8, 18, 4] and len(planned) == 86
    variants = {}
    for name in ("spread", "place", "step", "fig6", "curve", "table2", "full"):
        cells = cells_of(name, None, "jhmdb", "small")
        variants[name] = {cell.variant for cell in cells}
    for contrast in planned:
        assert sum(term.weight for term in contrast.terms) == 0
        for term in contrast.terms:
            assert term.variant in variants[term.experiment], term


def test_effects_of_videos_and_of_frames_by_hand():
    at = {
        "claus": 10.0,
        "claus videos, random frames": 8.0,
        "random videos, claus frames": 7.0,
        "random": 6.0,
    }
    rows = [row("step", name, 0, 1, score) for name, score in at.items()]
    known = contrasts.values_of(rows)
    halves = [c for c in contrasts.planned() if c.family == "videos or frames"]
    found = {c.label: contrasts.differences(known, c) for c in halves if c.metric == F}
    assert found == {"videos: claus - random": [2.5], "frames: claus - random": [1.5]}


def test_only_seeds_with_all_arms_count_and_each_cycle_is_its_own():
    rows = [
        row("curve", "claus", seed, cycle, 10 * seed + cycle)
        for seed in (0, 1, 2)
        for cycle in range(3)
    ]
    rows += [row("curve", "random", seed, cycle, 1.0) for seed in (1, 2, 3) for cycle in (0, 1)]
    known = contrasts.values_of(rows)

    def of(cycle):
        terms = Term("curve", "claus", 1, cycle), Term("curve", "random", -1, cycle)
        return contrasts.differences(known, Contrast("curve", "", terms, F))

    assert of(1) == [10.0, 20.0]
    assert of(2) == []  # random has no third cycle
    assert of(contrasts.LAST) == [11.0, 21.0]  # each run's own last


def test_holm_is_within_the_family():
    rows = []
    for seed in range(6):
        wobble = 0.1 * (-1) ** seed
        rows.append(row("step", "random", seed, 1, 50.0))
        for place, arm in enumerate(ARMS):
            if arm != "random":
                rows.append(row("step", arm, seed, 1, 50.0 + place + wobble))
    results = contrasts.results_of(rows, contrasts.planned())
    primary = [result for result in results if result.contrast.family == "primary"]
    assert len(primary) == 2
    for result in primary:  # equal p of both metrics: twice
        assert result.holm == pytest.approx(2 * result.test.p)
    arms = [result for result in results if result.contrast.family == "arms"]
    least = min(result.test.p for result in arms)
    assert min(result.holm for result in arms) == pytest.approx(18 * least)
    assert all(result.test is None for result in results if result.contrast.family == "curve")


# -------------------------------------------------------------------------------- the cost

SCORES = {"66x1": 40.0, "660x1": 70.0, "22x3": 30.0, "220x3": 60.0}


def test_a_cost_by_hand():
    one, three = spread_cost.ways_of(SCORES)
    assert (one.name, three.name) == ("1 frame a video", "3 frames a video")
    # 55 is halfway from 40 to 70: 66·√10 videos; 25/30 of the way from 30 to 60
    assert one.cost_for(55, 1) == pytest.approx(66 * math.sqrt(10) * 2)
    assert three.cost_for(55, 1) == pytest.approx(22 * 10 ** (25 / 30) * 4)
    assert spread_cost.cheapest([one, three], 55, 1) is one
    assert spread_cost.cheapest([one, three], 55, 10) is three
    assert one.cost_for(35, 0) == 66  # at most the smallest that was measured
    assert three.size_for(65) is None and three.cost_for(65, 0) == math.inf
    assert spread_cost.cheapest([three], 65, 0) is None
    assert spread_cost.wanted_scores([one, three]) == [30, 35, 40, 45, 50, 55, 60, 65, 70]


def test_a_way_may_have_another_number_of_frames_at_each_total():
    ways = spread_cost.ways_of({**SCORES, "11x6": 20.0, "66x10": 50.0})
    assert ways[2].name == "6 to 10 frames a video"
    videos, frames = ways[2].size_for(35)  # halfway
    assert (videos, frames) == pytest.approx((math.sqrt(11 * 66), math.sqrt(60)))


def test_certainty_is_the_share_of_draws():
    by_seed = {name: {0: score, 1: score} for name, score in SCORES.items()}
    assert spread_cost.certainty(by_seed, 55, 1, "1 frame a video") == 1
    assert spread_cost.certainty(by_seed, 55, 10, "1 frame a video") == 0
    by_seed["220x3"] = {0: 30.0, 1: 90.0}  # as good as its mean, 60, in half of the draws
    assert 0.1 < spread_cost.certainty(by_seed, 55, 10, "3 frames a video") < 0.9
    assert math.isnan(spread_cost.certainty({"66x1": {0: 1.0}}, 1, 1, ""))


# --------------------------------------------------------------------------------- the page


@pytest.fixture
def table(tmp_path):
    """A table with some of everything."""
    rows = []
    generator = np.random.default_rng(0)
    for name in ("spread", "step", "curve", "full"):
        for cell in cells_of(name, None, "jhmdb", "small"):
            for cycle in range(max(1, len(cell.schedule.split(",")))):
                score = 40 + 5 * cycle + generator.normal()
                if name == "spread":
                    videos, frames = contrasts.size_of(cell.variant)
                    score += 10 * math.log10(videos) + 2 * math.log10(frames)
                rows.append(
                    row(name, cell.variant, cell.seed, cycle, round(score, 1))
                    | {
                        "dataset": "jhmdb",
                        "model": "small",
                        "steps": 300,
                        "run": cell.variant,
                        "schedule": cell.schedule,
                        "method": cell.method,
                        "cost": 100,
                        "percent_of_frames": 1 + cycle,
                        "loss": cell.loss,
                        "semi": "",
                        "strategy": "hybrid",
                        "increment": "samples",
                    }
                )
    path = tmp_path / "results.csv"
    write(path, rows)
    return path


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_pages_and_figures_are_made_of_a_table(table, capsys):
    assert answers.main([str(table)]) == 0
    folder = table.with_suffix("")
    said = (folder / "answers.md").read_text()
    assert "claus - random, f-mAP@.5: " in said and "20 seeds, not significant" in said
    assert "18 of 18 comparisons have no seeds yet." in said  # the paper's step
    assert "86 comparisons in 10 families." in said
    for name in ("step", "spread", "spread_cost", "curve"):
        assert (folder / f"{name}.svg").read_bytes().startswith(b"<?xml"), name
    assert not (folder / "paper_step.svg").exists()
    cost = (folder / "spread_cost.md").read_text()
    assert "| 10 s a video, 79 s a frame |" in cost and " h, " in cost
    assert "## step" in (folder / "scores.md").read_text()
    first = (folder / "step.svg").read_bytes()
    answers.main([str(table)])
    assert (folder / "step.svg").read_bytes() == first


def test_a_table_with_nothing_but_the_start_says_so(tmp_path):
    path = tmp_path / "results.csv"
    rows = [
        row("full", "fully supervised", 0, 0, 70.0)
        | {"dataset": "d", "model": "small", "steps": 300, "run": "x", "schedule": "100/100"}
    ]
    for name in ("method", "strategy", "increment", "loss", "semi"):
        rows[0][name] = ""
    write(path, rows)
    assert answers.main([str(path)]) == 0
    assert "no rows yet" in (tmp_path / "results" / "spread_cost.md").read_text()


def test_a_cell_that_is_there_twice_is_refused(table):
    rows = read(table)
    write(table, [*rows, {**rows[0], "run": "elsewhere"}])
    with pytest.raises(UserError, match=r"66x1, seed 0 twice, of 66x1 and elsewhere"):
        answers.main([str(table)])


def test_rows_of_two_networks_are_not_mixed(table):
    rows = read(table)
    write(table, [*rows, {**rows[0], "model": "full"}])
    with pytest.raises(UserError, match="several settings"):
        answers.main([str(table)])
    assert answers.main([str(table), "--model", "small"]) == 0
    with pytest.raises(UserError, match="no row of --model laptop"):
        answers.main([str(table), "--model", "laptop"])
    with pytest.raises(UserError, match="has no row yet"):
        answers.main([str(table.parent / "other.csv")])


def test_nothing_is_judged_before_its_seeds_are_in(table, capsys):
    rows = read(table)
    write(table, [r for r in rows if r["variant"] != "claus" or int(r["seed"]) < 19])
    answers.main([str(table)])
    said = capsys.readouterr().out.splitlines()
    primary = [line for line in said if line.startswith("- claus - random, f-mAP@.5")]
    assert primary[0].endswith(", 19 of 20 seeds so far.")
    (arm,) = (line for line in said if line.startswith("- k-means - random, f-mAP@.5"))
    assert ", 5 seeds, " in arm and "Holm p" in arm


def test_what_is_undecided_is_not_called_equivalent():
    (contrast, *_) = contrasts.planned()
    said = []
    for spread in (1, 9):
        test = paired_test([spread * (-1) ** seed for seed in range(20)])
        said.append(answers.sentence(contrasts.Result(contrast, test, 1.0)))
    assert said[0].endswith("not significant (Holm p 1); equivalent within ± 0.4.")
    assert said[1].endswith("; undecided, equivalent only within ± 3.6.")


def test_numbers_have_their_sign():
    assert [answers.signed(x) for x in (-0.04, 0.04, -1.25)] == ["+0.0", "+0.0", "-1.2"]


def test_whether_another_table_ranks_the_rules_alike(table, capsys):
    rows = read(table)
    other = table.parent / "other.csv"
    write(other, [r for r in rows if r["experiment"] == "step"])
    assert answers.main([str(table), "--beside", str(other)]) == 0
    assert "rank correlation +1.00 over 10 rules" in capsys.readouterr().out


def test_seconds_are_pairs():
    assert answers.read_seconds("10:79,0:7") == [(10, 79), (0, 7)]
    for wrong in ("10", "10:0", "-1:3", "a:b"):
        with pytest.raises(ValueError):
            answers.read_seconds(wrong)
