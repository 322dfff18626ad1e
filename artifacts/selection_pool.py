"""What a cycle chooses from: the videos of the annotation file, and what the detector of
the cycle before says of them.

Everything is arrays over N videos, or flat over all their frames: frame f of video i is
element offsets[i] + f.
"""

from dataclasses import dataclass

import numpy as np

from claus.artifacts import handoffs
from claus.selection.frames import eligible_frames
from claus.utils.runtime import UserError


@dataclass(frozen=True, eq=False)
class Pool:
    """The N videos that a cycle chooses from, in the order of the annotation file, and what
    is known of them.

    offsets (N+1,) of their frames in flat arrays · candidates_N (N,) bool: may be chosen ·
    labeled_N (N,) bool: has labels · labeled (total,) bool: labeled frames, None where
    no candidate has any · set_aside {name: reason} of videos that could not be read and are
    not among the N. Where the pickles of the cycle before were read also: source, the
    fingerprint of the checkpoint · latents_N_D · clusters_N (N,) int · centers_K_D; and for
    the rules that need them scores and nothing_seen (total,) per frame, with the settings
    of the extraction.
    """

    names: list[str]
    offsets: np.ndarray
    candidates_N: np.ndarray
    labeled_N: np.ndarray
    labeled: np.ndarray | None
    set_aside: dict[str, str]
    source: str | None = None
    latents_N_D: np.ndarray | None = None
    clusters_N: np.ndarray | None = None
    centers_K_D: np.ndarray | None = None
    scores: np.ndarray | None = None
    nothing_seen: np.ndarray | None = None
    extraction: dict | None = None

    def left(self):
        """(videos, frames) that may still be chosen."""
        frames_N = np.diff(self.offsets)
        if self.labeled is not None:
            frames_N = frames_N - eligible_frames(self.labeled, self.offsets)
        return int(self.candidates_N.sum()), int(frames_N[self.candidates_N].sum())


def make_pool(before, set_aside, increment, names=None, **known):
    """The Pool of the videos `names` (default: all that are not set aside) of an annotation
    file.

    increment: "samples", candidates are the videos without labels; "frames", those with
    labels that have more frames; "samples-and-frames", both.
    """
    videos = before.videos
    names = [name for name in videos if name not in set_aside] if names is None else names
    lengths_N = np.fromiter((videos[name].frames for name in names), np.int64, len(names))
    marked_N = np.fromiter(
        (len(videos[name].labeled_frames) for name in names), np.int64, len(names)
    )
    offsets = np.concatenate([[0], np.cumsum(lengths_N)])
    labeled_N, labeled = marked_N > 0, None
    if increment == "samples":
        return Pool(names, offsets, ~labeled_N, labeled_N, labeled, set_aside, **known)
    labeled = np.zeros(offsets[-1], bool)
    for video in np.flatnonzero(labeled_N).tolist():
        labeled[offsets[video] + videos[names[video]].labeled_frames] = True
    candidates_N = (marked_N < lengths_N) & (labeled_N if increment == "frames" else True)
    return Pool(names, offsets, candidates_N, labeled_N, labeled, set_aside, **known)


def unscored_pool(args, before, increment):
    """The Pool of a rule that needs no score. What features.pkl says cannot be read is set
    aside, where it is there.

    The latest of an earlier cycle counts; that of the cycle before also gives the clusters
    of the picture.
    """
    for cycle in range(args.cycle - 1, -1, -1):
        path = handoffs.cycle_dir(args.run, cycle, args.files) / "features.pkl"
        if not path.exists():
            continue
        features = handoffs.load_features(path)
        failed = {
            name: reason for name, reason in features.failed.items() if name in before.videos
        }
        names = [name for name in before.videos if name not in failed]
        if cycle < args.cycle - 1 or set(names) != set(features.videos):
            return make_pool(before, failed, increment, names)
        return make_pool(
            before,
            failed,
            increment,
            names,
            **_clusters(features, places(features.videos, names)),
        )
    return make_pool(before, {}, increment)


def scored_pool(args, before, increment, mend):
    """The Pool with scores, latents and clusters of the cycle before. mend: the command
    that makes its pickles.
    """
    features, uncertainty = load_extracted(args, before, mend)
    scored = set(features.videos)
    names = [name for name in before.videos if name in scored]
    place = places(features.videos, names)
    frames = frames_in_order(uncertainty.offsets, place)
    scores = uncertainty.frame_score(args.frame_score)[frames]
    seen = (
        uncertainty.paper[frames] if args.frame_score == "authors" else scores
    )  # an empty sum: no foreground
    return make_pool(
        before,
        features.failed,
        increment,
        names,
        scores=scores,
        nothing_seen=seen == 0,
        extraction=uncertainty.settings,
        **_clusters(features, place),
    )


def load_extracted(args, before, mend):
    """Features and uncertainty of the cycle before, proved to belong to each other and to
    the annotation file.
    """
    folder = handoffs.cycle_dir(args.run, args.cycle - 1, args.files)
    paths = [folder / name for name in ("features.pkl", "uncertainty.pkl", "annotations.pkl")]
    for path in paths[:2]:
        if not path.exists():
            raise UserError(f"{path} is not there: {mend}")
    features, uncertainty = (
        handoffs.load_features(paths[0]),
        handoffs.load_uncertainty(paths[1]),
    )
    handoffs.check_same_source(features, uncertainty, *paths[:2])
    detector = folder / "detector.pt"
    if detector.exists() and handoffs.fingerprint(detector) != features.source:
        raise UserError(f"{paths[0]} was made from other weights than {detector}: {mend}")
    scored = set(features.videos)
    if missing := [
        name for name in before.videos if name not in scored and name not in features.failed
    ]:
        raise UserError(
            f"{paths[0]} lacks {len(missing)} videos of {paths[2]}, the first "
            f"{missing[0]}: {mend}"
        )
    if unknown := [name for name in features.videos if name not in before.videos]:
        raise UserError(
            f"{paths[0]} has {len(unknown)} videos that {paths[2]} has not, the first "
            f"{unknown[0]}: {mend}"
        )
    for name, frames in zip(
        uncertainty.videos, np.diff(uncertainty.offsets).tolist(), strict=True
    ):
        if frames != before.videos[name].frames:
            raise UserError(
                f"{paths[1]} has {frames} frames of {name}, {paths[2]} has "
                f"{before.videos[name].frames}: "
                f"{mend}"
            )
    return features, uncertainty


def places(names, wanted):
    """Where each of the `wanted` names stands among `names`, int64; a slice of all where
    they are the same list.
    """
    if names == wanted:
        return slice(None)
    place = {name: index for index, name in enumerate(names)}
    return np.array([place[name] for name in wanted], dtype=np.int64)


def frames_in_order(offsets, place):
    """Indices that put flat frame arrays with `offsets` into the order of the videos
    `place` (of places()).
    """
    if isinstance(place, slice):
        return place
    lengths = np.diff(offsets)[place]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(
        offsets[place] - (ends - lengths), lengths
    )


def _clusters(features, place):
    """What a Pool takes from features.pkl."""
    return {
        "source": features.source,
        "latents_N_D": features.latents[place],
        "clusters_N": features.clusters[place],
        "centers_K_D": features.centers,
    }
