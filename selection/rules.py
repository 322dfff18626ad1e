"""THE table of selection rules: how a rule chooses videos, how it chooses frames, what it
looks at.

A new rule is a module with the half that is new, and one entry of RULES: help texts, flags,
checks and the experiments read the table. docs/selection.md adds one step by step.
"""

from dataclasses import dataclass, replace

import numpy as np

from claus.selection.baselines import random_frames, random_videos, spaced_frames
from claus.selection.budget import Budget
from claus.selection.central import central
from claus.selection.choice import (
    ChooseFrames,
    ChooseVideos,
    Scoring,
    Selection,
    Task,
    select_hybrid,
)
from claus.selection.claus import best_frames, best_of_clusters, best_of_pool
from claus.selection.coreset import core_set
from claus.selection.frames import NEAREST, SIGMA
from claus.selection.pool import Pool
from claus.selection.strategies import select_every_video, select_whole_videos
from claus.selection.typiclust import typiclust

START_FRAMES = ("random", "equidistant")  # rules of frames that need no detector
BY_FLAG = "the score that --frame-score names"


@dataclass(frozen=True)
class Rule:
    """One rule. `about`: a line for --help · `color`: of its lines in every picture.

    score: the frame score it looks at, a name of Pool.scores or BY_FLAG, None for none ·
    damping: where the rule has its own · options: the flags that shape its choice · latents:
    whether it looks at latents or clusters · new_videos: whether it can only choose videos
    without labels.
    """

    videos: ChooseVideos
    frames: ChooseFrames
    about: str
    color: str
    score: str | None = None
    damping: str | None = None
    options: tuple[str, ...] = ()
    latents: bool = False
    new_videos: bool = False

    @property
    def random(self) -> bool:
        """Whether it looks at nothing that a detector has said."""
        return self.score is None and not self.latents


RULES = {
    "claus": Rule(
        best_of_clusters,
        best_frames,
        "the most uncertain videos of each cluster, uncertain frames far from each other",
        "#d1495b",
        score=BY_FLAG,
        options=("frame_score", "damping", "sigma"),
        latents=True,
    ),
    "claus-entropy": Rule(
        best_of_clusters,
        best_frames,
        "the same by local entropy (our own rule)",
        "#2e933c",
        score="local_entropy",
        options=("damping", "sigma"),
        latents=True,
    ),
    "claus-no-clusters": Rule(
        best_of_pool,
        best_frames,
        "as claus, in the whole pool",
        "#edae49",
        score=BY_FLAG,
        options=("frame_score", "damping", "sigma"),
    ),
    "uncertainty": Rule(
        best_of_pool,
        best_frames,
        "videos and frames of the highest scores, however close together",
        "#00798c",
        score=BY_FLAG,
        damping="none",
        options=("frame_score",),
    ),
    "entropy": Rule(
        best_of_pool,
        best_frames,
        "of the highest local entropy, the nearest frames dropped after each choice",
        "#6a4c93",
        score="local_entropy",
        damping="drop",
        options=("drop_nearest",),
    ),
    "core-set": Rule(
        core_set,
        spaced_frames,
        "videos far from all labeled ones (k-center greedy on latents), equidistant frames",
        "#b56576",
        latents=True,
        new_videos=True,
    ),
    "typiclust": Rule(
        typiclust,
        spaced_frames,
        "the most typical videos of clusters without labels, equidistant frames",
        "#7f9c3b",
        latents=True,
        new_videos=True,
    ),
    "k-means": Rule(
        central,
        spaced_frames,
        "the video in the middle of each of as many clusters as are bought, equidistant frames",
        "#c77dff",
        latents=True,
        new_videos=True,
    ),
    "equidistant": Rule(
        random_videos,
        spaced_frames,
        "random videos, frames at equal distances",
        "#30638e",
    ),
    "random": Rule(
        random_videos,
        random_frames,
        "random videos, random frames",
        "#5c6770",
    ),
}


@dataclass(frozen=True)
class RuleSettings:
    """Which rule chooses, and its options.

    video_rule, frame_rule: names of RULES; the first chooses the videos, the second their
    frames · strategy: of STRATEGIES · increment: of pool.INCREMENTS · frame_score: where a
    rule says BY_FLAG · damping, sigma (frames), drop_nearest (frames): see frames.py ·
    start_frames: of START_FRAMES, the rule of the frames of cycle 0.
    """

    video_rule: str = "claus"
    frame_rule: str = "claus"
    strategy: str = "hybrid"
    increment: str = "samples"
    frame_score: str = "paper"
    damping: str = "paper"
    sigma: float = SIGMA
    drop_nearest: int = NEAREST
    start_frames: str = "random"

    @property
    def method(self) -> str:
        """The rule's name; "core-set+claus" where core-set chooses the videos and claus
        their frames.
        """
        if self.video_rule == self.frame_rule:
            return self.video_rule
        return f"{self.video_rule}+{self.frame_rule}"

    @property
    def halves(self) -> tuple[Rule, Rule]:
        """(the rule of the videos, the rule of the frames)."""
        return RULES[self.video_rule], RULES[self.frame_rule]

    @property
    def scorings(self) -> tuple[Scoring, Scoring]:
        """How each half ranks frames."""
        return tuple(self._scoring(rule) for rule in self.halves)

    @property
    def scores(self) -> set[str]:
        """Names of the frame scores that are looked at."""
        return {scoring.score for scoring in self.scorings if scoring.score is not None}

    @property
    def options(self) -> set[str]:
        """Names of the options that shape the choice."""
        videos, frames = self.halves
        return {*videos.options, *frames.options}

    @property
    def latents(self) -> bool:
        """Whether the videos' latents or clusters are looked at."""
        return self.halves[0].latents

    @property
    def random(self) -> bool:
        """Whether nothing is looked at that a detector has said."""
        return not self.scores and not self.latents

    @property
    def candidates(self) -> str:
        """Of pool.INCREMENTS: intra gives labeled videos more frames anyway."""
        return "samples-and-frames" if self.strategy == "intra" else self.increment

    def at_start(self) -> "RuleSettings":
        """The choice of cycle 0, the same for every rule: random videos, and random frames
        unless start_frames says otherwise.
        """
        frame_rule = self.start_frames
        return replace(self, video_rule="random", frame_rule=frame_rule, increment="samples")

    def _scoring(self, rule: Rule) -> Scoring:
        return Scoring(
            self.frame_score if rule.score == BY_FLAG else rule.score,
            rule.damping or self.damping,
            self.sigma,
            self.drop_nearest,
        )


def select(
    pool: Pool, budget: Budget, settings: RuleSettings, seed: int | list[int]
) -> Selection:
    """Choose videos and frames as the settings say.

    budget: at most what pool.left() has. seed: as numpy.random.default_rng takes it, for
    the rules that draw. ValueError where the budget or an option makes no sense.
    """
    generator = np.random.default_rng(seed)
    tasks = [Task(pool, budget, generator, scoring) for scoring in settings.scorings]
    videos, frames = settings.halves
    if settings.strategy == "inter":
        return select_whole_videos(tasks[0])
    if settings.strategy == "intra":
        return select_every_video(tasks[1], frames.frames)
    return select_hybrid(videos.videos, frames.frames, *tasks)
