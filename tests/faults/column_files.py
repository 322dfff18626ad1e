"""The columns of a large pool, folders of files (utils/columns.py): one of the files mutated,
or the head and its checksum with it.
"""

import functools
import json
import pickle
import shutil
import zlib
from pathlib import Path

import numpy as np

from . import mutate
from .files import REMADE, Kind, plain_video, small_labels

HEAD = "head.json"


def packed(folder, columns):
    """A file that holds a folder's files, those of the folder `columns` to be mutated."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}
    path = folder.parent / "packed.pkl"
    path.write_bytes(pickle.dumps([columns, files], 4))
    return path


def unpacked(path):
    """The folder again."""
    folder = path.parent / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in pickle.loads(path.read_bytes())[1].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def of_columns(content, rng, forged=False):
    """(kind, packed files) with one of the columns, or the head, mutated; forged: the head,
    which says the checksum that it now has.
    """
    columns, files = pickle.loads(content)
    names = sorted(name for name in files if name.startswith(columns))
    head = f"{columns}/{HEAD}"
    name = head if forged or rng.random() < 0.3 else names[int(rng.integers(len(names)))]
    if not forged and rng.random() < 0.05:
        del files[name]
        return "file left out", pickle.dumps([columns, files], 4)
    change = mutate.of_json_file if name == head else mutate.of_bytes
    kind, files[name] = change(files[name], rng)
    if forged:
        files[name] = sealed(files[name])
    return kind, pickle.dumps([columns, files], 4)


def sealed(content):
    """A head with the checksum of what it says, where it is one."""
    try:
        head = json.loads(content)
        head.pop("sum", None)
        text = json.dumps(head, sort_keys=True).encode()
        return json.dumps({**head, "sum": zlib.crc32(text)}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content


# ------------------------------------------------------------------------ annotation files


def make_pool(folder):
    from claus.datasets.labels import annotations, pool_columns

    path = Path(folder) / "whole" / "annotations.pkl"
    path.parent.mkdir()
    annotations.save(small_labels(), path)
    pool_columns.write_beside(small_labels(), path)
    return packed(path.parent, "annotations.columns")


def read_pool(path):
    from claus.annotators.simulated import strip_labels
    from claus.artifacts.ledger import paid_for
    from claus.artifacts.pool_reader import pool_of_labels
    from claus.datasets.labels import pool_columns

    target = unpacked(path) / "annotations.pkl"
    found = pool_columns.load(target)
    if found is None:
        return REMADE  # from the pickle
    names = list(found.videos)
    videos = [plain_video(found.videos[name]) for name in names]
    frames = [found.videos.labeled_frames(place).tolist() for place in range(len(names))]
    if found.total_frames() < 10**7:
        pool_of_labels(found, {}, "frames")
    strip_labels(found)
    labeled = [video.name for video in found.labeled()]
    about = found.dataset, list(found.classes), paid_for(found).tolist()
    return [list(about), videos, frames, labeled]


# ---------------------------------------------------------------------------------- scores


def make_scores(folder):
    from claus.artifacts.score_columns import PoolWriter
    from claus.artifacts.scores import FRAME_ARRAYS

    place, rng = Path(folder) / "whole", np.random.default_rng(0)
    place.mkdir()
    with PoolWriter(place, 5) as writer:
        for number, name in enumerate(("A/a", "B/ü", "A/d")):
            frames = 4 + number
            scores = {one: rng.random(frames, np.float32) for one in FRAME_ARRAYS}
            writer.add(name, rng.random(5, np.float32), number % 2, scores)
        about = {"source": "sha256:0", "settings": {"passes": 2}, "failed": {"B/z": "why"}}
        writer.close(about, rng.random((2, 5), np.float32))
    return packed(place, "pool.columns")


def read_scores(path):
    from claus.artifacts import score_columns
    from claus.artifacts.pool_reader import _frame_scores, _frames_in_order, _latents, _places
    from claus.artifacts.scores import FRAME_SCORES

    found = score_columns.find(unpacked(path))
    if found is None:
        return REMADE
    order = list(reversed(found.videos))
    latents = _latents(found, _places(found.videos, order))
    frames = _frames_in_order(found.offsets, np.arange(len(order))[::-1])
    scores = [vars(_frame_scores(found, name, frames)) for name in FRAME_SCORES]
    features, uncertainty = found.features(), found.uncertainty()
    whole = [np.asarray(one).tolist() for one in (features.latents, uncertainty.offsets)]
    about = [found.source, sorted(found.settings.items()), sorted(found.failed.items())]
    return [
        about,
        found.videos,
        {name: np.asarray(values).tolist() for name, values in latents.items()},
        [[np.asarray(values).tolist() for values in one.values()] for one in scores],
        whole,
        features.clusters.tolist(),
        features.centers.tolist(),
    ]


FORGED = functools.partial(of_columns, forged=True)
KINDS = [
    Kind("annotations.columns", make_pool, read_pool, of_columns, sealed=True),
    Kind("annotations.columns with another head", make_pool, read_pool, FORGED),
    Kind("pool.columns", make_scores, read_scores, of_columns, sealed=True),
    Kind("pool.columns with another head", make_scores, read_scores, FORGED),
]
