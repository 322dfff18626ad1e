"""The two pickles that extraction leaves for selection: features.pkl and uncertainty.pkl.

features.pkl     {"format": "claus-features", "version": 1, "source": str, "videos": [str] (N),
                  "latents": (N, D) float32, "clusters": (N,) int32 in [0, K), "centres":
                  (K, D) float32, "failed": {name: reason}}
uncertainty.pkl  {"format": "claus-uncertainty", "version": 1, "source": str, "settings":
                 {...}, "videos": [str] (N),
                  "offsets": (N+1,) int64, and (offsets[N],) float32 each: "paper" >= 0,
                  "authors", "area" >= 0, "entropy", "local_entropy"}; frame f of video i:
                  offsets[i] + f
`source` is the fingerprint of the checkpoint both were made with, and must agree. Needs
NumPy, not torch.
"""

import pickle
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from claus.datasets.labels.annotations import is_name, naming
from claus.utils.runtime import UserError, atomic_write
from claus.utils.safe_pickle import safe_load
from claus.utils.shape import misfit

VERSION = 1
FRAME_ARRAYS = ("paper", "authors", "area", "entropy", "local_entropy")
FRAME_SCORES = (*FRAME_ARRAYS, "per-pixel")


@dataclass(frozen=True, eq=False)
class Features:
    """Latent and cluster of every video that could be read; see the module's head for
    shapes. Checked when made.
    """

    source: str
    videos: list[str]
    latents: np.ndarray
    clusters: np.ndarray
    centers: np.ndarray
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        _check_names(self.source, self.videos)
        count = len(self.videos)
        _check_array(self.latents, "latents", (count, None), np.floating)
        _check_array(self.centers, "centers", (None, self.latents.shape[1]), np.floating)
        _check_array(self.clusters, "clusters", (count,), np.signedinteger)
        if count and not (self.clusters.min() >= 0 and self.clusters.max() < len(self.centers)):
            raise UserError(f"clusters must lie in 0..{len(self.centers) - 1}, one center each")
        texts = _texts(self.failed) if isinstance(self.failed, dict) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise UserError("failed must be a dict of video name to reason")
        if both := sorted(set(self.failed) & set(self.videos)):
            raise UserError(f"{both[0]} is among the videos and among the failed ones")


def save_features(features, path):
    """Write features.pkl atomically; the same features give the same bytes."""
    _save(
        path,
        {
            "format": "claus-features",
            "version": VERSION,
            "source": features.source,
            "videos": list(features.videos),
            "latents": _plain(features.latents, np.float32),
            "clusters": _plain(features.clusters, np.int32),
            "centres": _plain(features.centers, np.float32),
            "failed": dict(features.failed),
        },
    )


def load_features(path):
    """Read and check features.pkl -> Features; UserError naming the file. Of a large pool
    the columns beside it may stand alone, see score_columns.py.
    """
    if found := _columns_alone(path):
        return found.features()
    content = _load(
        path, "claus-features", ("source", "videos", "latents", "clusters", "centres", "failed")
    )
    content["centers"] = content.pop("centres")
    with naming(str(path)):
        return Features(**content)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Scores of every frame of every video that could be read; see the module's head.
    Checked when made.
    """

    source: str
    settings: dict
    videos: list[str]
    offsets: np.ndarray
    paper: np.ndarray
    authors: np.ndarray
    area: np.ndarray
    entropy: np.ndarray
    local_entropy: np.ndarray

    def __post_init__(self):
        _check_names(self.source, self.videos)
        problem = misfit(self.settings, {str: (str, float, bool, None)})
        if problem:
            raise UserError(f"settings must be a dict of names and values: {problem}")
        _check_array(self.offsets, "offsets", (len(self.videos) + 1,), np.signedinteger)
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 1).any():
            raise UserError(
                "offsets must start at 0 and rise: every video has a frame at least"
            )
        for name in FRAME_ARRAYS:
            _check_array(getattr(self, name), name, (int(self.offsets[-1]),), np.floating)
        for name in ("paper", "area"):
            if (getattr(self, name) < 0).any():
                raise UserError(f"{name} must not be negative")

    def frame_score(self, name):
        """One of FRAME_SCORES (total,). per-pixel: U_f of `paper` by the share of the
        picture that is foreground, so the mean -ln M over the foreground but for a
        constant; 0 without any. Unlike U_f it does not grow with the actor.
        """
        if name != "per-pixel":
            return getattr(self, name)
        return np.divide(
            self.paper, self.area, out=np.zeros_like(self.paper), where=self.area > 0
        )


def save_uncertainty(uncertainty, path):
    """Write uncertainty.pkl atomically; the same scores give the same bytes."""
    arrays = {name: _plain(getattr(uncertainty, name), np.float32) for name in FRAME_ARRAYS}
    _save(
        path,
        {
            "format": "claus-uncertainty",
            "version": VERSION,
            "source": uncertainty.source,
            "settings": dict(uncertainty.settings),
            "videos": list(uncertainty.videos),
            "offsets": _plain(uncertainty.offsets, np.int64),
            **arrays,
        },
    )


def load_uncertainty(path):
    """Read and check uncertainty.pkl -> Uncertainty; UserError naming the file. See
    load_features.
    """
    if found := _columns_alone(path):
        return found.uncertainty()
    content = _load(
        path, "claus-uncertainty", ("source", "settings", "videos", "offsets", *FRAME_ARRAYS)
    )
    with naming(str(path)):
        return Uncertainty(**content)


def check_same_source(
    features, uncertainty, features_path="features.pkl", uncertainty_path="uncertainty.pkl"
):
    """Raise UserError unless both come from one checkpoint and list the same videos in the
    same order.
    """
    pair = f"{features_path} and {uncertainty_path}"
    fix = "make both again with cluster_extract.py"
    if features.source != uncertainty.source:
        raise UserError(
            f"{pair} come from different checkpoints ({features.source[:16]} and "
            f"{uncertainty.source[:16]}): {fix}"
        )
    if list(features.videos) != list(uncertainty.videos):
        raise UserError(f"{pair} do not list the same videos: {fix}")


def _columns_alone(path):
    """The ScoreColumns beside a pickle that is not there, None without them."""
    from claus.artifacts import score_columns  # which knows what the pickles hold

    return None if Path(path).exists() else score_columns.find(Path(path).parent)


def _save(path, content):
    with atomic_write(path) as file:
        pickler = pickle.Pickler(file, protocol=4)
        # no back references: the bytes depend on the values, not on which objects are
        # shared
        pickler.fast = True
        pickler.dump(content)


def _load(path, form, keys):
    content = safe_load(path)
    fix = "make it again with cluster_extract.py"
    if not isinstance(content, dict) or content.get("format") != form:
        raise UserError(f"{path}: this is not a {form} file; {fix}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: version {content.get('version')} of {form}, this program reads "
            f"{VERSION}; {fix}"
        )
    if missing := [key for key in keys if key not in content]:
        raise UserError(f"{path}: {missing[0]} is missing; {fix}")
    return {key: content[key] for key in keys}


def _plain(array, dtype):
    """A contiguous array that owns its memory, so that equal content is equal bytes."""
    return np.array(array, dtype=dtype, order="C", copy=True)


def _texts(failed):
    return [*failed, *failed.values()]


def _check_names(source, videos):
    if not isinstance(source, str) or not source:
        raise UserError("source must be the fingerprint of a checkpoint")
    texts = isinstance(videos, list) and all(isinstance(name, str) for name in videos)
    if not texts or not all(map(is_name, videos)):
        raise UserError("videos must be a list of names")
    if len(set(videos)) != len(videos):
        raise UserError("a video is listed twice")


def _check_array(array, name, shape, kind):
    """Raise UserError unless `array` is a finite array of `kind` with this shape (None: any
    positive length).
    """
    of_kind = isinstance(array, np.ndarray) and np.issubdtype(array.dtype, kind)
    words = kind.__name__.removeprefix("signed")
    if not of_kind or array.ndim != len(shape):
        raise UserError(f"{name} must be an array of {words} with {len(shape)} axes")
    pairs = zip(array.shape, shape, strict=True)
    if any(size < 1 if want is None else size != want for size, want in pairs):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise UserError(f"{name} has shape {array.shape}, expected ({wanted})")
    if not np.isfinite(array).all():
        raise UserError(f"{name} holds a value that is not finite")
