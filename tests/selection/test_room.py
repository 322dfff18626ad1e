"""The room as a whole: what it needs to be imported, and the table of its rules."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from claus.selection.budget import Budget
from claus.selection.pool import INCREMENTS, FrameScores, Pool, find_candidates
from claus.selection.rules import BY_FLAG, RULES, RuleSettings, select
from claus.selection.strategies import STRATEGIES

ONLY_NUMPY_AND_SCIPY = """
import importlib, pathlib, sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        allowed = {"claus", "numpy", "scipy", *sys.stdlib_module_names}
        if name.partition(".")[0] not in allowed:
            raise ImportError(f"{name} is refused")


sys.meta_path.insert(0, Refuse())
for path in sorted(pathlib.Path("selection").glob("*.py")):
    importlib.import_module(f"claus.selection.{path.stem}")
"""


def test_the_room_imports_with_numpy_and_scipy_alone():
    done = subprocess.run(
        [sys.executable, "-c", ONLY_NUMPY_AND_SCIPY], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def a_pool():
    """Twelve videos of six frames in three clusters, two of them labeled."""
    generator = np.random.default_rng(5)
    scores = {}
    for name in ("paper", "local_entropy"):
        values = generator.random(72)
        scores[name] = FrameScores(values, values < 0.1)
    return Pool(
        np.arange(0, 73, 6),
        np.arange(12) >= 2,
        np.arange(12) < 2,
        latents_N_D=generator.normal(size=(12, 4)),
        clusters_N=np.arange(12) % 3,
        centers_K_D=np.zeros((3, 4)),
        scores=scores,
    )


@pytest.mark.parametrize("videos", RULES)
@pytest.mark.parametrize("frames", RULES)
def test_any_two_halves_spend_the_budget_on_distinct_unlabeled_frames(videos, frames):
    chosen = select(a_pool(), Budget(4, 11), RuleSettings(videos, frames), [0, 1])
    assert len(set(chosen.videos.tolist())) == 4 and min(chosen.videos) >= 2
    assert sorted(map(len, chosen.frames)) == [2, 3, 3, 3] and chosen.spent == 11
    for picked in chosen.frames:
        assert len(set(picked.tolist())) == len(picked)
        assert picked.min() >= 0 and picked.max() < 6
    # each half is the one of its rule: the videos do not depend on the rule of the frames
    alone = select(a_pool(), Budget(4, 11), RuleSettings(videos, videos), [0, 1])
    assert chosen.videos.tolist() == alone.videos.tolist()


def test_what_a_rule_reads_follows_from_what_it_looks_at():
    for name, rule in RULES.items():
        assert ("frame_score" in rule.options) == (rule.score == BY_FLAG), name
        assert rule.score is not None or not rule.options, name
        assert ("damping" in rule.options) == ("sigma" in rule.options), name
        assert not (rule.damping and "damping" in rule.options), name
    colors = [rule.color for rule in RULES.values()]
    assert len(set(colors)) == len(colors)
    assert [name for name, rule in RULES.items() if rule.random] == ["equidistant", "random"]


def test_a_rule_of_its_own_score_and_damping_does_not_read_the_flags():
    flags = RuleSettings("entropy", "claus", frame_score="area", damping="authors", sigma=2.0)
    videos, frames = flags.scorings
    assert (videos.score, videos.damping) == ("local_entropy", "drop")
    assert (frames.score, frames.damping, frames.sigma) == ("area", "authors", 2.0)
    assert flags.scores == {"local_entropy", "area"}
    assert RuleSettings("uncertainty", "uncertainty").scorings[0].damping == "none"
    assert RuleSettings("core-set", "core-set").scores == set()


def test_the_first_cycle_is_random_whatever_the_rule():
    for strategy in STRATEGIES:
        start = RuleSettings("claus", "entropy", strategy, "frames").at_start()
        assert (start.method, start.strategy, start.increment) == (
            "random",
            strategy,
            "samples",
        )


def test_candidates_by_increment():
    # of 4 frames each: none, some and all of them labeled
    lengths, marked = np.array([4, 4, 4]), np.array([0, 2, 4])
    expected = {
        "samples": [True, False, False],
        "samples-and-frames": [True, True, False],
        "frames": [False, True, False],
    }
    for increment in INCREMENTS:
        assert find_candidates(increment, lengths, marked).tolist() == expected[increment]
    with pytest.raises(ValueError, match="increment must be one of samples"):
        find_candidates("videos", lengths, marked)
