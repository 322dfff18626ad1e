"""A cache of decoded clips changes nothing but the time: limits, damage, a full disk,
several processes.
"""

import errno
import os
import stat
import time

import numpy as np
import pytest

from claus.datasets.video import disk_cache
from claus.datasets.video.frame_cache import FrameCache
from claus.utils.runtime import TEMPORARY

SHAPE = (8, 6, 10, 3)  # 1440 bytes and 8 of the checksum
PLENTY = 1e-3  # 1 MB


def clip(seed):
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def video(tmp_path):
    (tmp_path / "v.avi").write_bytes(b"some video")
    return tmp_path / "v.avi"


def place(cache, video, first=0, size=(6, 10)):
    return cache.path_of(video, np.arange(first, first + 16, 2), size)


def bytes_in(cache):
    return sum(file.stat().st_size for file in cache.folder.rglob("*") if file.is_file())


def test_what_was_kept_comes_back(video, tmp_path):
    cache = FrameCache(tmp_path / "cache", PLENTY)
    assert cache.load(place(cache, video), SHAPE) is None
    cache.store(place(cache, video), clip(0))
    cache.store(place(cache, video, 3), clip(1))
    other = FrameCache(tmp_path / "cache", PLENTY)  # of another process
    for first, seed in ((0, 0), (3, 1)):
        found = other.load(place(other, video, first), SHAPE)
        assert (
            np.array_equal(found, clip(seed))
            and found.dtype == np.uint8
            and found.flags.writeable
        )


def test_a_clip_is_that_of_its_file_frames_and_size(video, tmp_path):
    cache = FrameCache(tmp_path / "cache", PLENTY)
    first = place(cache, video)
    assert first == place(cache, str(video)) and place(cache, video, 1) != first != place(
        cache, video, 0, (12, 5)
    )
    os.utime(video, ns=(0, 5))
    changed = place(cache, video)
    video.write_bytes(b"more of video")
    assert len({first, changed, place(cache, video)}) == 3


def test_a_folder_of_images_is_known_by_all_of_them(tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for k in range(3):
        (folder / f"{k}.png").write_bytes(b"image")
    before = disk_cache.signature(folder)
    (folder / "1.png").write_bytes(b"another")
    changed = disk_cache.signature(folder)
    assert changed != before and changed == disk_cache.signature(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: b"",
        lambda c: c[:-1],
        lambda c: c[:5],
        lambda c: bytes(len(c)),
        lambda c: c[:700] + bytes([c[700] ^ 1]) + c[701:],
        lambda c: c + b"x",
    ],
    ids=["empty", "cut", "cut in the checksum", "zeros", "one bit", "longer"],
)
def test_a_damaged_clip_is_made_again(video, tmp_path, spoil):
    cache = FrameCache(tmp_path / "cache", PLENTY)
    file = place(cache, video)
    cache.store(file, clip(0))
    file.write_bytes(spoil(file.read_bytes()))
    assert cache.load(file, SHAPE) is None
    cache.store(file, clip(0))
    assert np.array_equal(cache.load(file, SHAPE), clip(0))


def test_the_limit_is_kept_by_not_adding(video, tmp_path):
    cache = FrameCache(tmp_path / "cache", 1e-5)  # 10 kB: room for six clips below nine tenths
    for k in range(20):
        cache.store(place(cache, video, k), clip(k))
    assert 8000 < bytes_in(cache) <= 10_000
    assert [cache.load(place(cache, video, k), SHAPE) is not None for k in range(20)] == [
        True
    ] * 6 + [False] * 14


def test_several_processes_keep_one_limit(video, tmp_path):
    caches = [FrameCache(tmp_path / "cache", 5e-5) for _ in range(4)]
    for k in range(60):
        caches[k % 4].store(place(caches[0], video, k), clip(k))
    assert 40_000 < bytes_in(caches[0]) <= 50_000


def test_what_nobody_looked_at_for_a_day_makes_room(video, tmp_path):
    cache = FrameCache(tmp_path / "cache", 1e-5)
    for k in range(6):
        cache.store(place(cache, video, k), clip(k))
    for k in (1, 2, 3):
        os.utime(place(cache, video, k), (0, time.time() - disk_cache.UNUSED - k))
    assert cache.load(place(cache, video, 2), SHAPE) is not None  # looked at: no longer old
    later = FrameCache(tmp_path / "cache", 1e-5)
    later.store(place(later, video, 10), clip(10))
    there = [k for k in (*range(6), 10) if place(later, video, k).exists()]
    assert there == [0, 1, 2, 4, 5, 10]  # the oldest went, no more than needed


def test_files_that_the_cache_has_not_named_stay_and_do_not_count(video, tmp_path):
    """The folder may be one where the user keeps frames: frames/<video>/<number>.jpg, of
    years ago.
    """
    cache = FrameCache(tmp_path / "cache", 1e-5)
    clips = [place(cache, video, k) for k in range(6)]
    for k, file in enumerate(clips):
        cache.store(file, clip(k))
    key = clips[0].name
    kept = [
        cache.folder / "v_run" / "00001.jpg",
        cache.folder / "ab" / "00001.jpg",
        cache.folder / "0123" / key,
        cache.folder / ("00" if key[:2] != "00" else "01") / key,
        cache.folder / key[:2] / f"{key}.jpg",
        cache.folder / key[:2] / f".{key}.old.tmp",
        cache.folder / key[:2] / key[:39],
        cache.folder / key,
    ]
    gone = [
        cache.folder / key[:2] / f".{key}.abcd1234{TEMPORARY}",
        clips[5],
    ]  # of a process that was killed
    for file in (*kept, gone[0]):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(1400))
    for file in (*kept, *gone):
        os.utime(file, (0, 0))
    later = FrameCache(tmp_path / "cache", 1e-5)
    later.store(place(later, video, 10), clip(10))
    assert [file for file in kept if not file.exists()] == []
    assert (
        not gone[0].exists()
        and not gone[1].exists()
        and all(file.exists() for file in clips[:5])
    )
    assert place(later, video, 10).exists(), (
        "there was room, for what is not ours does not count"
    )


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o007, 0o660)])
def test_others_may_read_what_the_umask_lets_them(video, tmp_path, mask, rights):
    cache, before = FrameCache(tmp_path / "cache", PLENTY), os.umask(mask)
    try:
        cache.store(place(cache, video), clip(0))
    finally:
        os.umask(before)
    assert stat.S_IMODE(place(cache, video).stat().st_mode) == rights


def test_a_full_disk_is_one_warning_and_nothing_else(video, tmp_path, monkeypatch, capsys):
    disk_cache._warned.clear()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk_cache.os, "replace", full)
    cache = FrameCache(tmp_path / "cache", PLENTY)
    for k in range(3):
        cache.store(place(cache, video, k), clip(k))
    said = capsys.readouterr().err
    assert said.count("WARNING") == 1 and "the disk is full" in said and said.count("\n") == 1
    assert bytes_in(cache) == 0  # no half-written file stays


def test_a_folder_that_is_none_is_one_warning(video, tmp_path, capsys):
    disk_cache._warned.clear()
    (tmp_path / "cache").write_text("in the way")
    cache = FrameCache(tmp_path / "cache", PLENTY)
    for k in range(3):
        assert cache.load(place(cache, video, k), SHAPE) is None
        cache.store(place(cache, video, k), clip(k))
    assert capsys.readouterr().err.count("WARNING: cannot write below") == 1


def test_the_checksum_depends_on_every_byte():
    content = np.random.default_rng(0).integers(0, 256, 37, dtype=np.uint8)
    for k in range(37):
        other = content.copy()
        other[k] ^= 128
        assert disk_cache.checksum(other) != disk_cache.checksum(content)
    assert disk_cache.checksum(np.zeros(16, np.uint8)) not in (
        bytes(8),
        disk_cache.checksum(np.zeros(24, np.uint8)),
    )
