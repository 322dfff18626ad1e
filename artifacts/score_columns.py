"""What extraction leaves of a large pool, in columns: what features.pkl and uncertainty.pkl
hold, in cycle<k>/pool.columns/.

    names                               uint8, UTF-8 with a line break between two
    offsets clusters latents centers    as in scores.py
    paper authors area entropy local_entropy

They take the place of the pickles from LARGE frames on, or stand beside them. Then they count
as long as the pickles have the size and time of change that they say.
"""

import os
from pathlib import Path

import numpy as np

from claus.artifacts.cycle import POOL_COLUMNS
from claus.artifacts.scores import FRAME_ARRAYS, Features, Uncertainty
from claus.datasets.labels.annotations import naming
from claus.utils import columns
from claus.utils.columns import Columns, DamagedColumns, Writer
from claus.utils.runtime import UserError
from claus.utils.shape import misfit

LARGE = 10_000_000  # frames of a pool from which on the columns stand alone
TOGETHER = 256  # videos that are written at once
PICKLES = ("features.pkl", "uncertainty.pkl")
FIX = "make it again with cluster_extract.py --force"
ABOUT = {  # what the head says of the columns
    "source": str,
    "settings": {str: (str, float, bool, None)},
    "failed": {str: str},
    "pickles": list,
}


class ScoreColumns:
    """The columns of a cycle; UserError where they are damaged.

    source, settings, failed, offsets, clusters, centers: as in Features and Uncertainty ·
    videos: names · latents: ColumnRows.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        with self._named():
            self._columns = Columns(folder)
            about = self._columns.about
            if problem := misfit(about, ABOUT):
                raise DamagedColumns(f"{folder / columns.HEAD}: {problem}")
            self.source, self.settings = about["source"], about["settings"]
            self.failed, self.pickles = about["failed"], about["pickles"]
            self.videos = self._columns.read("names").tobytes().decode().split("\n")
            self.offsets = self._columns.read("offsets")
            self.clusters = self._columns.read("clusters")
            self.centers = self._columns.read("centers")
            self.latents = ColumnRows(self, "latents")

    def frame_score(self, name: str) -> np.ndarray:
        """See Uncertainty.frame_score; a new array."""
        if name != "per-pixel":
            return self.read(name)
        paper, area = self.read("paper"), self.read("area")
        seen = area > 0
        np.divide(paper, area, out=paper, where=seen)
        paper[~seen] = 0
        return paper

    def read(self, name: str) -> np.ndarray:
        """A whole column."""
        with self._named():
            return self._columns.read(name)

    def rows(self, name: str, wanted: np.ndarray) -> np.ndarray:
        """Rows of a column, by rising numbers."""
        with self._named():
            return self._columns.rows(name, wanted)

    def shape(self, name: str) -> tuple[int, ...]:
        """Rows and width of a column."""
        return self._columns.shape(name)

    def features(self) -> Features:
        """The same as features.pkl, all in memory."""
        latents = self.read("latents")
        names = self.videos, latents, self.clusters, self.centers, self.failed
        with naming(str(self.folder)):
            return Features(self.source, *names)

    def uncertainty(self) -> Uncertainty:
        """The same as uncertainty.pkl, all in memory."""
        scores = {name: self.read(name) for name in FRAME_ARRAYS}
        with naming(str(self.folder)):
            return Uncertainty(self.source, self.settings, self.videos, self.offsets, **scores)

    def keep_pickles(self) -> None:
        """The pickles beside the columns were written from them."""
        states = [state(self.folder.parent / name) for name in PICKLES]
        self._columns.say({**self._columns.about, "pickles": states})

    def _named(self):
        return _Named(self.folder)


class _Named:
    """Inside, damage becomes a UserError that names the folder."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if isinstance(error, DamagedColumns | KeyError | UnicodeDecodeError):
            said = str(error) if isinstance(error, DamagedColumns) else "damaged"
            raise UserError(f"{self.folder}: {said}; {FIX}") from error


class ColumnRows:
    """An array (N,D) on disk, of which rows are read when they are asked for: all of them by
    numpy.asarray.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, found: ScoreColumns, name: str, places: np.ndarray | None = None):
        self._found, self._name, self._places = found, name, places
        rows, *width = found.shape(name)
        self.shape = (rows if places is None else len(places), *width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: np.ndarray | slice) -> "ColumnRows":
        """The rows at these places, still on disk."""
        if isinstance(places, slice):
            if places == slice(None):
                return self
            places = np.arange(len(self))[places]
        if self._places is not None:
            places = self._places[places]
        return ColumnRows(self._found, self._name, np.asarray(places, np.int64))

    def rows(self, wanted: np.ndarray) -> np.ndarray:
        """Rows by number, in any order, in memory."""
        wanted = np.asarray(wanted, np.int64)
        wanted = wanted if self._places is None else self._places[wanted]
        if (wanted[1:] >= wanted[:-1]).all():
            return self._found.rows(self._name, wanted)
        order = np.argsort(wanted, kind="stable")
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        found[order] = self._found.rows(self._name, wanted[order])
        return found

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self._places is None:
            found = self._found.read(self._name)
        else:
            found = self.rows(np.arange(len(self)))
        return found if dtype is None else found.astype(dtype, copy=False)


def find(folder: str | Path) -> ScoreColumns | None:
    """The columns of a cycle's folder; None where there are none, or pickles that were
    written since.
    """
    folder = Path(folder)
    place = folder / POOL_COLUMNS
    if not (place / columns.HEAD).exists():
        return None
    states = [state(folder / name) for name in PICKLES]
    there = [one for one in states if one is not None]
    try:
        found = ScoreColumns(place)
    except UserError:
        if len(there) == len(PICKLES):
            return None
        raise
    if there and found.pickles != states:
        return None
    return found


def state(path: Path) -> list[int] | None:
    """Size and time of change of a file, None where there is none."""
    try:
        known = os.stat(path)
    except OSError:
        return None
    return [known.st_size, known.st_mtime_ns]


class PoolWriter:
    """Writes the columns of a cycle video by video, see Writer; whole once close() returns."""

    def __init__(self, folder: Path, width: int):
        self._folder, self._writer = folder, Writer(folder / POOL_COLUMNS)
        self._latents = self._writer.column("latents", np.float32, width)
        self._scores = {name: self._writer.column(name, np.float32) for name in FRAME_ARRAYS}
        self._names, self._lengths, self._clusters, self._waiting = [], [], [], []

    def add(self, name: str, latent: np.ndarray, cluster: int, scores: dict) -> None:
        """A video: latent (D,), its cluster, and of each of FRAME_ARRAYS a score (F,) >= 0
        for `paper` and `area`. UserError, some videos later, where a number is not finite.
        """
        self._names.append(name)
        self._lengths.append(len(scores["paper"]))
        self._clusters.append(cluster)
        self._waiting.append((latent, scores))
        if len(self._waiting) == TOGETHER:
            self._write()

    def _write(self):
        """Write the videos that wait."""
        if not self._waiting:
            return
        latents, scores = zip(*self._waiting, strict=True)
        columns = {name: [one[name] for one in scores] for name in self._scores}
        arrays = {name: np.concatenate(values) for name, values in columns.items()}
        latents = np.stack(latents)
        if not all(np.isfinite(array).all() for array in (latents, *arrays.values())):
            names = self._names[-len(self._waiting) :]
            raise UserError(
                f"a score of one of the videos {names[0]} … {names[-1]} is not finite; train "
                "the detector again"
            )
        self._latents.append(latents)
        for name, array in arrays.items():
            self._scores[name].append(array)
        self._waiting = []

    def close(self, about: dict, centers: np.ndarray) -> None:
        """All videos are there. about: source, settings and failed."""
        self._write()
        writer = self._writer
        writer.put("names", np.frombuffer("\n".join(self._names).encode(), np.uint8))
        writer.put("offsets", np.cumsum([0, *self._lengths], dtype=np.int64))
        writer.put("clusters", np.array(self._clusters, np.int32))
        writer.put("centers", np.asarray(centers, np.float32))
        writer.close({**about, "pickles": [state(self._folder / name) for name in PICKLES]})

    def __enter__(self) -> "PoolWriter":
        return self

    def __exit__(self, *error) -> None:
        self._writer.__exit__(*error)
