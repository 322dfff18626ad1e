"""Read what a cycle chooses from: the annotation file and the pickles of the cycle before
become a Pool (selection/pool.py), with the names of its videos beside it.
"""

from dataclasses import dataclass

import numpy as np

from claus.artifacts import score_columns
from claus.artifacts.changes import withdrawn
from claus.artifacts.cycle import Cycle
from claus.artifacts.parts import fingerprint
from claus.artifacts.scores import (
    Features,
    Uncertainty,
    check_same_source,
    load_features,
    load_uncertainty,
)
from claus.datasets.labels.annotations import Annotations, LazyVideos
from claus.selection.pool import FrameScores, Pool, find_candidates
from claus.selection.rules import RuleSettings
from claus.utils.runtime import UserError


@dataclass(frozen=True, eq=False)
class NamedPool:
    """A Pool of N videos, and where it comes from.

    names: of the videos, in the order of the annotation file · unreadable: {name: reason}
    of videos that could not be read and are not among the N · source: fingerprint of the
    checkpoint that latents and scores come from, None without them · extraction: settings
    that the scores were made with, None without them.
    """

    pool: Pool
    names: list[str]
    unreadable: dict[str, str]
    source: str | None = None
    extraction: dict | None = None


def pool_of_labels(
    before: Annotations, unreadable: dict[str, str], increment: str = "samples"
) -> NamedPool:
    """The pool that an annotation file alone tells of: every video that can be read."""
    names = _names(before)
    if unreadable:
        names = [name for name in names if name not in unreadable]
    return NamedPool(_pool(before, names, increment), names, unreadable)


def read_pool(before: Annotations, cycle: Cycle, settings: RuleSettings, fix: str) -> NamedPool:
    """The pool of cycle 1 or later, with what the rules of `settings` look at.

    before: the labels so far · cycle: the one to choose for · fix: the command that makes
    the pickles of the cycle before. UserError naming the file where one is missing or does
    not belong to the others.
    """
    increment = settings.candidates
    if settings.random:
        return _random_pool(before, cycle, increment)
    features, uncertainty = _read_extracted(before, cycle.before(), settings, fix)
    names = _names(before)
    if names != features.videos:
        scored = set(features.videos)
        names = [name for name in names if name in scored]
    place = _places(features.videos, names)
    scores, extraction = {}, None
    if uncertainty is not None:
        extraction = uncertainty.settings
        frames = _frames_in_order(uncertainty.offsets, place)
        for name in settings.scores:
            scores[name] = _frame_scores(uncertainty, name, frames)
    pool = _pool(before, names, increment, scores=scores, **_latents(features, place))
    return NamedPool(pool, names, features.failed, features.source, extraction)


def _random_pool(before: Annotations, cycle: Cycle, increment: str) -> NamedPool:
    """The pool of a rule that looks at nothing. Videos that features.pkl says cannot be
    read are left out, where it is there.

    The latest of an earlier cycle counts; that of the cycle before also gives the clusters
    of the picture.
    """
    for number in range(cycle.number - 1, -1, -1):
        earlier = cycle.run.cycle(number)
        features = score_columns.find(earlier.folder)
        if features is None and not earlier.features.exists():
            continue
        features = features or load_features(earlier.features)
        failed = {name: why for name, why in features.failed.items() if name in before.videos}
        names = [name for name in before.videos if name not in failed]
        latest = number == cycle.number - 1
        if not latest or set(names) != set(features.videos):
            return NamedPool(_pool(before, names, increment), names, failed)
        latents = _latents(features, _places(features.videos, names))
        pool = _pool(before, names, increment, **latents)
        return NamedPool(pool, names, failed, features.source)
    return pool_of_labels(before, {}, increment)


def _names(before: Annotations) -> list[str]:
    """Names of all videos; of a large pool the list that it has."""
    videos = before.videos
    return videos.names if isinstance(videos, LazyVideos) else list(videos)


def _pool(before: Annotations, names: list[str], increment: str, **known) -> Pool:
    """The Pool of the videos `names`; known: its other fields."""
    if isinstance(before.videos, LazyVideos):
        places = before.videos.places(names)
        lengths_N = before.videos.numbers["frames"][places].astype(np.int64)
        marked_N = before.videos.numbers["labeled"][places].astype(np.int64)
        rows = np.arange(len(before.videos))[places]
    else:
        videos = [before.videos[name] for name in names]
        count = len(videos)
        lengths_N = np.fromiter((video.frames for video in videos), np.int64, count)
        marked_N = np.fromiter((len(video.labeled_frames) for video in videos), np.int64, count)
    offsets = np.concatenate([[0], np.cumsum(lengths_N)])
    labeled_N, labeled = marked_N > 0, None
    if increment != "samples":
        labeled = np.zeros(offsets[-1], bool)
        for place in np.flatnonzero(labeled_N).tolist():
            if isinstance(before.videos, LazyVideos):
                frames = before.videos.labeled_frames(int(rows[place]))
            else:
                frames = videos[place].labeled_frames
            labeled[offsets[place] + frames] = True
    candidates_N = find_candidates(increment, lengths_N, marked_N)
    return Pool(offsets, candidates_N, labeled_N, labeled, **known)


def _latents(features: Features, place: np.ndarray | slice) -> dict:
    """What a Pool takes from features.pkl."""
    return {
        "latents_N_D": features.latents[place],
        "clusters_N": features.clusters[place],
        "centers_K_D": features.centers,
    }


def _frame_scores(
    uncertainty: Uncertainty, name: str, frames: np.ndarray | slice
) -> FrameScores:
    """One frame score in the order of the pool. The score of the authors' code is not 0
    where nothing is seen, so the sum of the paper says where that is.
    """
    values = uncertainty.frame_score(name)[frames]
    if name == "authors":
        return FrameScores(values, uncertainty.frame_score("paper")[frames] == 0)
    return FrameScores(values, values == 0)


def _read_extracted(
    before: Annotations, last: Cycle, settings: RuleSettings, fix: str
) -> tuple[Features, Uncertainty | None]:
    """(Features, Uncertainty or None where no score is looked at) of the cycle before,
    proved to belong to each other and to the annotation file.
    """
    columns = score_columns.find(last.folder)
    if columns is not None:
        features, uncertainty = columns, columns if settings.scores else None
    else:
        features, uncertainty = _read_pickles(last, settings, fix)
    if last.detector.exists() and fingerprint(last.detector) != features.source:
        raise UserError(
            f"{last.features} was made from other weights than {last.detector}: {fix}"
        )
    _check_videos(before, features, last, fix)
    if uncertainty is not None:
        _check_lengths(before, uncertainty, last, fix)
    return features, uncertainty


def _read_pickles(last: Cycle, settings: RuleSettings, fix: str):
    """As _read_extracted, proved to belong to each other."""
    needed = [last.features, last.uncertainty] if settings.scores else [last.features]
    for path in needed:
        if not path.exists():
            raise UserError(f"{path} is missing: {fix}")
    features, uncertainty = load_features(last.features), None
    if settings.scores:
        uncertainty = load_uncertainty(last.uncertainty)
        check_same_source(features, uncertainty, last.features, last.uncertainty)
    return features, uncertainty


def _check_videos(before: Annotations, features: Features, last: Cycle, fix: str) -> None:
    """UserError unless features.pkl has the videos of the annotation file."""
    if not features.failed and _names(before) == features.videos:
        return
    known = {*features.videos, *features.failed}
    missing = [name for name in before.videos if name not in known]
    if missing:
        raise UserError(
            f"{last.features} lacks {len(missing)} videos of {last.annotations}, the "
            f"first {missing[0]}: {fix}"
        )
    gone = withdrawn(last.run)
    unknown = [n for n in features.videos if n not in before.videos and n not in gone]
    if unknown:
        raise UserError(
            f"{last.features} has {len(unknown)} videos that {last.annotations} has not, "
            f"the first {unknown[0]}: {fix}"
        )


def _check_lengths(
    before: Annotations, uncertainty: Uncertainty, last: Cycle, fix: str
) -> None:
    """UserError unless every video has as many scores as frames."""
    lengths = np.diff(uncertainty.offsets)
    if isinstance(before.videos, LazyVideos) and before.videos.names == uncertainty.videos:
        if np.array_equal(before.videos.numbers["frames"], lengths):
            return
    lengths = lengths.tolist()
    for name, frames in zip(uncertainty.videos, lengths, strict=True):
        if name in before.videos and frames != before.videos[name].frames:
            raise UserError(
                f"{last.uncertainty} has {frames} frames of {name}, {last.annotations} "
                f"has {before.videos[name].frames}: {fix}"
            )


def _places(names: list[str], wanted: list[str]) -> np.ndarray | slice:
    """Where each of the `wanted` names stands among `names`, int64; a slice of all where
    they are the same list.
    """
    if names is wanted or names == wanted:
        return slice(None)
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[name] for name in wanted], dtype=np.int64)


def _frames_in_order(offsets: np.ndarray, place: np.ndarray | slice) -> np.ndarray | slice:
    """Indices that put flat frame arrays with `offsets` into the order of the videos
    `place` (of _places).
    """
    if isinstance(place, slice):
        return place
    lengths = np.diff(offsets)[place]
    ends = np.cumsum(lengths)
    total = ends[-1] if len(ends) else 0
    shift = np.repeat(offsets[place] - (ends - lengths), lengths)
    return np.arange(total) + shift
