"""Features of a frozen encoder on disk: nothing but the time changes; damage, limits, kills."""

import functools
import os

import numpy as np
import pytest
import torch
from made_videos import gray_frames, whole

from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.clips.training_clips import TrainingClips
from claus.datasets.labels.annotations import Annotations, Tube, Video
from claus.datasets.sprites import write_video
from claus.datasets.video import disk_cache, feature_cache
from claus.datasets.video.feature_cache import FeatureCache
from claus.models.detector import PRESETS, Detector, DetectorConfig
from claus.models.lite import Trunk, flipped, record_length
from claus.utils.runtime import UserError

SIZE = 32
WHOLE = ClipGeometry((SIZE, SIZE), (SIZE, SIZE), SIZE)
PLENTY = 0.1
FRAMES = 21


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return Trunk()


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "v.avi", gray_frames(FRAMES))
    return Video("v", FRAMES, 48, 64)


def cache_of(tmp_path, trunk, gigabytes=PLENTY):
    return FeatureCache(tmp_path / "cache", gigabytes, WHOLE, "-1..1").take(trunk)


def files(tmp_path):
    return [f for f in (tmp_path / "cache" / "features").rglob("*") if f.is_file()]


def no_decoding(monkeypatch):
    def stop(*_):
        raise AssertionError("decoded")

    for way in ("read_entry", "read_frames"):
        monkeypatch.setattr(feature_cache.IndexedVideos, way, stop)


def test_records_are_the_same_with_the_cache_and_without(tmp_path, trunk, video):
    path, frames = tmp_path / "v.avi", [3, 0, 20, 3]
    kept = cache_of(tmp_path, trunk).records(path, video, frames)
    plain = cache_of(tmp_path / "other", trunk, 0).records(path, video, frames)
    assert kept.shape == (4, record_length(SIZE)) and kept.dtype == torch.float16
    torch.testing.assert_close(kept, plain, rtol=2e-3, atol=2e-3)
    assert torch.equal(kept[0], kept[3]) and not torch.equal(kept[0], kept[1])
    assert len(files(tmp_path)) == 1 and not files(tmp_path / "other")


def test_what_is_kept_is_not_decoded_again(tmp_path, trunk, video, monkeypatch):
    path = tmp_path / "v.avi"
    first = cache_of(tmp_path, trunk).records(path, video, range(FRAMES))
    no_decoding(monkeypatch)
    again = cache_of(tmp_path, trunk)  # of another process
    assert torch.equal(again.records(path, video, range(FRAMES)), first)
    runs = list(again.runs(path, video, [[0, 2], [20]]))
    assert torch.equal(torch.cat(runs), first[[0, 2, 20]])


@pytest.mark.parametrize("place", [2, -5])  # a checksum, a record
def test_a_damaged_file_is_made_again(tmp_path, trunk, video, place):
    path, cache = tmp_path / "v.avi", cache_of(tmp_path, trunk)
    before = cache.records(path, video, range(FRAMES))
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert torch.equal(cache.records(path, video, range(FRAMES)), before)
    assert torch.equal(cache_of(tmp_path, trunk).records(path, video, [0, 20]), before[[0, 20]])
    assert file.read_bytes() != bytes(content)


def test_a_foreign_file_is_made_again(tmp_path, trunk, video):
    path, cache = tmp_path / "v.avi", cache_of(tmp_path, trunk)
    before = cache.records(path, video, [5])
    (file,) = files(tmp_path)
    file.write_bytes(b"something else")
    assert torch.equal(cache.records(path, video, [5]), before)


def test_another_file_other_weights_and_another_length_are_not_mixed_up(tmp_path, trunk, video):
    path, cache = tmp_path / "v.avi", cache_of(tmp_path, trunk)
    first = cache.path_of(path, video)
    torch.manual_seed(1)
    assert cache_of(tmp_path, Trunk()).path_of(path, video) != first
    assert cache.path_of(path, Video("v", 20, 48, 64)) != first
    os.utime(path, ns=(0, 5))
    assert cache.path_of(path, video) != first


def test_a_write_that_is_killed_leaves_nothing_that_is_read(
    tmp_path, trunk, video, monkeypatch
):
    path, cache = tmp_path / "v.avi", cache_of(tmp_path, trunk)
    computed = cache._computed

    def killed(block):
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(1)
        return computed(block)

    calls = []
    monkeypatch.setattr(cache, "_computed", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.records(path, video, [0])
    assert not files(tmp_path)
    monkeypatch.undo()
    assert cache.records(path, video, [0]).isfinite().all() and len(files(tmp_path)) == 1


def test_a_full_disk_is_one_warning_and_nothing_else(
    tmp_path, trunk, video, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    path, cache = tmp_path / "v.avi", cache_of(tmp_path, trunk)
    monkeypatch.setattr(feature_cache, "put_in_place", full)
    monkeypatch.setattr(disk_cache, "_warned", set())
    found = cache.records(path, video, [1, 2])
    assert found.shape == (2, record_length(SIZE))
    cache.records(path, video, [3])
    assert capsys.readouterr().err.count("the disk is full") == 1
    assert not files(tmp_path)


def test_a_full_folder_goes_on_computing(tmp_path, trunk, video):
    path = tmp_path / "v.avi"
    cache = cache_of(tmp_path, trunk, 1e-6)
    runs = list(cache.runs(path, video, [[0, 1], [7]]))
    torch.testing.assert_close(
        torch.cat(runs), cache.records(path, video, [0, 1, 7]), rtol=2e-3, atol=2e-3
    )
    assert not files(tmp_path)


def test_a_video_that_is_too_large_deletes_nothing_and_smaller_ones_are_kept(tmp_path, trunk):
    write_video(tmp_path / "v.avi", gray_frames(FRAMES))
    write_video(tmp_path / "w.avi", gray_frames(8))
    small, large = Video("w", 8, 48, 64), Video("v", FRAMES, 48, 64)
    cache = cache_of(tmp_path, trunk, 8 * 2 * record_length(SIZE) * 1.5e-9)
    cache.records(tmp_path / "w.avi", small, [0])
    (kept,) = files(tmp_path)
    os.utime(kept, (0, 0))  # not used for a day
    cache.records(tmp_path / "v.avi", large, [0])
    cache_of(tmp_path, trunk, 0).records(tmp_path / "v.avi", large, [0])
    assert files(tmp_path) == [kept]
    kept.unlink()
    cache.records(tmp_path / "w.avi", small, [0])
    assert files(tmp_path) == [kept]


def test_a_missing_video_is_named(tmp_path, trunk, video):
    (tmp_path / "bad.avi").write_bytes(b"no video")
    with pytest.raises(UserError, match=r"bad\.avi"):
        cache_of(tmp_path, trunk).records(tmp_path / "bad.avi", video, [0])
    with pytest.raises(UserError, match=r"gone\.avi is gone"):
        cache_of(tmp_path, trunk).records(tmp_path / "gone.avi", video, [0])
    assert not files(tmp_path)


def test_training_clips_and_tiles_show_the_same_frames_as_pictures(tmp_path, trunk, video):
    """The frames under a clip of records are those under the clip of pictures."""
    cache, path = cache_of(tmp_path, trunk), tmp_path / "v.avi"
    find = functools.partial(lambda folder, name: folder / f"{name}.avi", tmp_path)
    for fill in ("repeat", "black", "shift"):
        common = dict(phases=2, fill=fill)
        records = whole(VideoTiles([video], find, WHOLE, **common, features=cache).chunks(0))
        pictures = whole(VideoTiles([video], find, WHOLE, **common).chunks(0))
        assert np.array_equal(records["frames"], pictures["frames"])
        every = cache.records(path, video, range(FRAMES))
        every = torch.cat([every, cache.black()])  # frame -1
        assert torch.equal(records["clips"], every[torch.from_numpy(records["frames"])])

    boxes = np.array([[10, 10, 40, 40]] * 2, np.int64)
    tube = Tube(0, 0, np.array([4, 12]), boxes)
    labeled = Video("v", FRAMES, 48, 64, 0, np.array([4, 12]), [tube])
    labels = Annotations("ucf101", ("a",), {"v": labeled})
    clips = TrainingClips(labels, find, WHOLE, 0, features=cache)
    plain = TrainingClips(labels, find, WHOLE, 0)
    seen = set()
    for position in range(8):
        one, other = clips[0, position, "v"], plain[0, position, "v"]
        assert torch.equal(one["target"], other["target"]) and one["anchor"] == other["anchor"]
        straight = cache.records(path, labeled, np.sort(_indices(clips, position)))
        mirrored = torch.equal(one["frames"], flipped(straight))
        assert mirrored or torch.equal(one["frames"], straight)
        seen.add(mirrored)
    assert seen == {False, True}


def _indices(clips, position):
    from claus.datasets.clips.geometry import clip_indices

    rng = np.random.default_rng([0, 2, 0, position])
    return clip_indices(FRAMES, int(rng.choice([4, 12])))


def test_there_is_a_cache_only_where_features_stay_the_same():
    laptop = Detector(DetectorConfig(2, **{**PRESETS["laptop"], "size": 96}))
    cropped = ClipGeometry((40, 40), (SIZE, SIZE), SIZE)

    def cache(detector, geometry=WHOLE):
        return feature_cache.feature_cache(detector, geometry, "-1..1", "x", 1)

    assert cache(laptop) is not None
    assert cache(laptop, cropped) is None
    laptop.conv1.freeze(False)
    assert cache(laptop) is None
    assert cache(Detector(DetectorConfig(2, **PRESETS["small"]))) is None
