"""The annotation file of a large pool and its columns: the same videos, however they are read."""

import pickle

import numpy as np
import pytest

from claus.artifacts.ledger import paid_for
from claus.datasets.labels import annotations as annotation_file
from claus.datasets.labels import pool_columns
from claus.datasets.labels.annotations import Annotations, LazyVideos, Tube, Video
from claus.datasets.labels.segment import Segment
from claus.utils.runtime import UserError

BOXES = [[1, 2, 30, 40], [2, 3, 31, 41]]


def labeled(name, label=1):
    tubes = (Tube(label, 1, [3, 7], BOXES), Tube(label, 4, [7], BOXES[:1]))
    return Video(name, 50, 48, 64, label, [3, 7, 9], tubes)


@pytest.fixture
def pool():
    """Seven videos, two labeled, one a segment, one both named in another alphabet."""
    videos = [Video(f"A/v{number}", 20 + number, 48, 64) for number in range(4)]
    videos.insert(1, labeled("A/x"))
    videos.append(Video("long~1", 30, 48, 64, segment=Segment("long", 5, 90, (0.2, 1.4))))
    videos.append(labeled("B/ü日", 0))
    return Annotations("own", ("a", "b"), {video.name: video for video in videos})


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(annotation_file, "LARGE", 5)
    monkeypatch.setattr(pool_columns, "CHUNK", 3)


def content(labels):
    """All that an annotation file says, as builtins."""
    records = [annotation_file.video_to(video) for video in labels.videos.values()]
    return labels.dataset, labels.classes, list(labels.videos), repr(records)


def check_same(found, wanted):
    assert content(found) == content(wanted)
    assert [video.name for video in found.labeled()] == [v.name for v in wanted.labeled()]
    assert found.counts() == wanted.counts()
    assert found.total_frames() == wanted.total_frames()
    assert paid_for(found).tolist() == paid_for(wanted).tolist()


def test_a_large_pool_comes_back_from_columns_as_from_the_pickle(pool, large, tmp_path):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    found = annotation_file.load(path)
    assert isinstance(found.videos, LazyVideos)
    check_same(found, pool)
    check_same(annotation_file._read(path), pool)
    assert "A/v2" in found.videos and "A/v9" not in found.videos
    with pytest.raises(KeyError):
        found.videos["A/v9"]


def test_the_pickle_of_a_large_pool_holds_what_that_of_a_small_one_does(
    pool, tmp_path, monkeypatch
):
    annotation_file.save(pool, tmp_path / "small.pkl")
    assert not (tmp_path / "small.columns").exists()
    monkeypatch.setattr(annotation_file, "LARGE", 5)
    annotation_file.save(pool, tmp_path / "large.pkl")
    small, large = (
        pickle.loads((tmp_path / f"{name}.pkl").read_bytes()) for name in ("small", "large")
    )
    assert list(small) == list(large) and repr(small) == repr(large)


def test_a_pickle_alone_is_given_columns_when_it_is_read(pool, tmp_path, monkeypatch):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    monkeypatch.setattr(annotation_file, "LARGE", 5)
    assert not isinstance(annotation_file.load(path).videos, LazyVideos)
    found = annotation_file.load(path)
    assert isinstance(found.videos, LazyVideos)
    check_same(found, pool)


def test_columns_of_another_pickle_are_not_believed(pool, large, tmp_path):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    kept = path.read_bytes()
    annotation_file.save(pool.without(["A/v0"]), path)
    path.write_bytes(kept)
    check_same(annotation_file.load(path), pool)


@pytest.mark.parametrize("name", ["names", "labeled", "record", "starts", "sums"])
def test_damaged_columns_are_made_again(pool, large, tmp_path, name):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    damaged = tmp_path / "annotations.columns" / f"{name}.npy"
    changed = bytearray(damaged.read_bytes())
    changed[-1] ^= 1
    damaged.write_bytes(changed)
    for _ in range(2):
        check_same(annotation_file.load(path), pool)


def test_a_damaged_record_is_named(pool, large, tmp_path):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    damaged = tmp_path / "annotations.columns" / "records.npy"
    changed = bytearray(damaged.read_bytes())
    changed[200] ^= 1
    damaged.write_bytes(changed)
    with pytest.raises(UserError, match="annotations.columns is damaged: remove it"):
        annotation_file.load(path).labeled()


def test_changes_of_a_lazy_pool_are_those_of_a_pool_in_memory(pool, large, tmp_path):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    found = annotation_file.load(path)
    for change in (
        lambda labels: labels.with_changed({"A/v2": labeled("A/v2"), "A/x": labeled("A/x", 0)}),
        lambda labels: labels.joined({"C/new": Video("C/new", 9, 8, 8)}),
        lambda labels: labels.without(["A/x", "A/v0", "nobody"]),
        lambda labels: labels.with_changed(
            {"A/v3": labeled("A/v3"), "C/new": labeled("C/new")}
        ),
        lambda labels: labels.without(["A/v3"]),
    ):
        found, pool = change(found), change(pool)
        check_same(found, pool)
        places = np.flatnonzero(found.videos.numbers["labeled"]).tolist()
        frames = [found.videos.labeled_frames(place).tolist() for place in places]
        assert frames == [video.labeled_frames.tolist() for video in pool.labeled()]
        annotation_file.save(found, tmp_path / "again.pkl")
        check_same(annotation_file.load(tmp_path / "again.pkl"), pool)
        check_same(annotation_file._read(tmp_path / "again.pkl"), pool)


def test_a_label_that_is_no_class_is_refused(pool, large, tmp_path):
    path = tmp_path / "annotations.pkl"
    annotation_file.save(pool, path)
    with pytest.raises(UserError, match="label 7 is not a class"):
        annotation_file.load(path).with_changed({"A/v2": labeled("A/v2", 7)})
