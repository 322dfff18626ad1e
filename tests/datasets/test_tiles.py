"""Videos as a stream of clips: every frame is covered, tails are filled as told, chunks are
the whole in pieces, and a bad video does not stop the others.
"""

import functools
import weakref

import numpy as np
import pytest
import torch
from made_videos import gray_frames, numbers, whole

from claus.datasets.clips.geometry import ClipGeometry, center_crop, transform
from claus.datasets.clips.tiles import CHUNK, FILLS, PADDED, TileLoader, Unreadable, VideoTiles
from claus.datasets.labels.annotations import Video
from claus.datasets.sprites import write_video
from claus.datasets.video.reader import read_frames
from claus.utils.runtime import UserError

PLAIN = ClipGeometry((48, 64), (48, 64), 16)


def find(folder, name):
    path = folder / f"{name}.avi"
    if not path.is_file():
        raise UserError(f"video {name}: no file {path}")
    return path


def tiles_of(made_videos, frames, **options):
    """The tiles of a video of as many gray frames."""
    name = f"gray{frames}"
    if not (made_videos / f"{name}.avi").exists():
        write_video(made_videos / f"{name}.avi", gray_frames(frames))
    tiles = VideoTiles(
        [Video(name, frames, 48, 64)], functools.partial(find, made_videos), PLAIN, **options
    )
    return whole(tiles.chunks(0))


def shown(item):
    """Frame numbers that the clips show, -1 for black."""
    return [numbers(clip) for clip in item["clips"].numpy()]


def test_one_phase_by_hand(made_videos):
    item = tiles_of(made_videos, 40)
    expected = [list(range(0, 16, 2)), list(range(16, 32, 2)), [32, 34, 36, 38, 39, 39, 39, 39]]
    assert item["frames"].tolist() == expected == shown(item)
    assert item["tile"].tolist() == [0, 1, 2] and item["phase"].tolist() == [0, 0, 0]
    assert (
        item["clips"].shape == (3, 8, 3, 16, 16)
        and item["clips"].dtype == torch.uint8
        and item["name"] == "gray40"
    )


def test_two_phases_by_hand(made_videos):
    item = tiles_of(made_videos, 35, phases=2)
    assert (
        item["frames"].tolist()
        == shown(item)
        == [
            list(range(0, 16, 2)),
            list(range(1, 16, 2)),
            list(range(16, 32, 2)),
            list(range(17, 32, 2)),
            [32, 34, 34, 34, 34, 34, 34, 34],
            [33, 34, 34, 34, 34, 34, 34, 34],
        ]
    )
    assert item["tile"].tolist() == [0, 0, 1, 1, 2, 2] and item["phase"].tolist() == [
        0,
        1,
        0,
        1,
        0,
        1,
    ]


def test_a_tail_filled_with_black(made_videos):
    item = tiles_of(made_videos, 35, phases=2, fill="black")
    assert (
        item["frames"][4:].tolist() == shown(item)[4:] == [[32, 34] + [-1] * 6, [33] + [-1] * 7]
    )
    assert not item["clips"][4, 2:].any() and not item["clips"][5, 1:].any()
    assert shown(item)[:4] == item["frames"][:4].tolist()


def test_a_clip_of_black_alone_is_left_out(made_videos):
    item = tiles_of(made_videos, 33, phases=2, fill="black")
    assert item["tile"].tolist() == [0, 0, 1, 1, 2] and item["phase"].tolist() == [
        0,
        1,
        0,
        1,
        0,
    ]
    assert item["frames"][4].tolist() == [32] + [-1] * 7
    assert (
        len(tiles_of(made_videos, 33, phases=2)["clips"]) == 6
    )  # while the last frame can be repeated


def test_a_tail_may_show_the_last_frame_unscored(made_videos):
    """The pictures are the last frame's, their number is -1; the rest is as with black."""
    item = tiles_of(made_videos, 35, phases=2, fill="last")
    black = tiles_of(made_videos, 35, phases=2, fill="black")
    assert item["frames"].tolist() == black["frames"].tolist()
    assert shown(item)[:4] == shown(black)[:4]
    assert shown(item)[4:] == [[32] + [34] * 7, [33] + [34] * 7]


def test_a_last_tile_that_is_shifted_to_end_with_the_video(made_videos):
    item = tiles_of(made_videos, 35, phases=2, fill="shift")
    assert (
        item["frames"].tolist()
        == shown(item)
        == [
            list(range(0, 16, 2)),
            list(range(1, 16, 2)),
            list(range(16, 32, 2)),
            list(range(17, 32, 2)),
            list(range(19, 35, 2)),
            list(range(20, 35, 2)),
        ]
    )  # of the tile before, odd frames too
    assert shown(tiles_of(made_videos, 35, fill="shift"))[-1] == list(
        range(20, 35, 2)
    )  # with one phase the last frame too
    assert shown(tiles_of(made_videos, 9, fill="shift")) == [
        [0, 2, 4, 6, 8, 8, 8, 8]
    ]  # too short for a whole one
    repeated, same = (
        tiles_of(made_videos, 32, phases=2, fill=fill) for fill in ("repeat", "shift")
    )
    assert torch.equal(repeated["clips"], same["clips"])


@pytest.mark.parametrize("frames", [1, 2, 7, 15, 16, 17, 31, 32, 40])
@pytest.mark.parametrize("fill", FILLS)
def test_every_frame_is_covered(made_videos, frames, fill):
    both, one = (tiles_of(made_videos, frames, phases=phases, fill=fill) for phases in (2, 1))
    for item in (both, one):
        expected = item["frames"]
        if fill == "last":
            expected = np.where(expected < 0, expected.max(), expected)
        assert shown(item) == expected.tolist()
        assert len(np.unique(item["tile"])) == -(-frames // 16)
    covered = both["frames"][both["frames"] >= 0]
    assert set(covered) == set(range(frames))
    if fill in PADDED:
        assert len(covered) == frames  # each once
    # with one phase a prediction serves two frames: every frame or the one before it
    seen = set(one["frames"].ravel().tolist())
    assert all(frame in seen or (frame - 1 in seen) for frame in range(frames))


def test_clips_are_center_crops(made_videos):
    geometry = ClipGeometry((72, 96), (60, 70), 32)
    tiles = VideoTiles(
        [Video("square", 30, 72, 96)], functools.partial(find, made_videos), geometry
    )
    frames = read_frames(made_videos / "square.avi", range(0, 16, 2), 30)
    assert center_crop(geometry) == (6, 13)
    assert torch.equal(next(tiles.chunks(0))["clips"][0], transform(frames, geometry, (6, 13)))


def test_other_lengths_and_strides(made_videos):
    item = tiles_of(made_videos, 20, phases=3, length=2, stride=3)
    assert item["frames"][:3].tolist() == [[0, 3], [1, 4], [2, 5]] and item["frames"][
        -1
    ].tolist() == [19, 19]


@pytest.mark.parametrize("phases", [1, 2])
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("frames", [1, 7, 16, 17, 32, 35, 40])
def test_chunks_are_the_whole_cut_in_pieces(made_videos, frames, fill, phases):
    size = 16 * (frames // 16 + 1)
    expected = tiles_of(made_videos, frames, phases=phases, fill=fill, chunk=size)
    n = len(expected["clips"])
    for chunk in (1, 2, 3, 4, 8):
        video = Video(expected["name"], frames, 48, 64)
        find_video = functools.partial(find, made_videos)
        tiles = VideoTiles([video], find_video, PLAIN, phases, fill, chunk=chunk)
        parts = list(tiles.chunks(0))
        sizes = [len(part["clips"]) for part in parts]
        assert sizes == [chunk] * (n // chunk) + [n % chunk] * (n % chunk > 0)
        joined = whole(parts)
        assert joined["name"] == expected["name"] and torch.equal(
            joined["clips"], expected["clips"]
        )
        for key in ("frames", "tile", "phase"):
            assert all(len(part[key]) == len(part["clips"]) for part in parts)
            np.testing.assert_array_equal(joined[key], expected[key])
            assert joined[key].dtype == expected[key].dtype == np.int64


def test_batches_of_eight_lie_as_in_the_whole_video():
    assert CHUNK % 8 == 0 and VideoTiles([], None, PLAIN).chunk == CHUNK


@pytest.mark.parametrize("fill", FILLS)
def test_what_is_alive_does_not_grow_with_the_video(made_videos, monkeypatch, fill):
    """Of all chunks, whoever holds them, only the last is left when the next is made."""
    made, held = [], []

    def watched(tiles, name, clips, make=VideoTiles._chunk):
        held.append(sum(clips() is not None for clips in made))
        chunk = make(tiles, name, clips)
        if chunk is not None:
            made.append(weakref.ref(chunk["clips"]))
        return chunk

    monkeypatch.setattr(VideoTiles, "_chunk", watched)
    find_video = functools.partial(find, made_videos)
    videos = [Video("gray40", 40, 48, 64), Video("gray40", 33, 48, 64)]
    tiles = VideoTiles(videos, find_video, PLAIN, 2, fill, chunk=1)
    for _, chunks in TileLoader(tiles, workers=0):
        for chunk in chunks:
            assert len(chunk["clips"]) == 1
    assert len(made) == 12 - (fill in PADDED) and max(held) == 1


def failing(folder, made_videos):
    """Five videos in `folder`, of which the first is missing, the third damaged and the
    fourth too short for its annotation.
    """
    for name in ("gray20", "square"):
        (folder / f"{name}.avi").write_bytes((made_videos / f"{name}.avi").read_bytes())
    (folder / "damaged.avi").write_text("no video")
    return [
        Video("missing", 20, 48, 64),
        Video("gray20", 20, 48, 64),
        Video("damaged", 20, 48, 64),
        Video("square", 60, 72, 96),
        Video("gray20", 14, 48, 64),
    ]


@pytest.mark.parametrize("workers", [0, 2, 9])
@pytest.mark.parametrize("chunk", [1, CHUNK])
def test_failed_videos_are_named_and_the_others_go_on(made_videos, tmp_path, workers, chunk):
    videos = failing(tmp_path, made_videos)
    tiles = VideoTiles(videos, functools.partial(find, tmp_path), PLAIN, chunk=chunk)
    loader = TileLoader(tiles, workers)
    found, failed, taken = [], {}, []
    for video, chunks in loader:
        found.append(video)
        parts = []
        try:
            parts += chunks
        except Unreadable as error:
            failed[video.name] = str(error)
        else:
            taken.append(whole(parts))
            assert taken[-1]["name"] == video.name
    assert len(loader) == 5 and found == videos
    assert list(failed) == ["missing", "damaged", "square"]
    assert "no file" in failed["missing"] and "damaged.avi" in failed["damaged"]
    assert "30 frames where the annotation has 60" in failed["square"]
    assert shown(taken[0])[1] == [16, 18, 19, 19, 19, 19, 19, 19]
    assert shown(taken[1]) == [[0, 2, 4, 6, 8, 10, 12, 13]]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_video_that_is_left_early_does_not_shift_the_next(made_videos, workers):
    lengths = (40, 39, 33)
    videos = [Video("gray40", frames, 48, 64) for frames in lengths]
    tiles = VideoTiles(videos, functools.partial(find, made_videos), PLAIN, chunk=1)
    firsts = [next(chunks)["tile"].tolist() for _, chunks in TileLoader(tiles, workers)]
    assert firsts == [[0], [0], [0]]


def test_a_failure_in_the_middle_comes_after_the_chunks_before_it(made_videos, tmp_path):
    (video,) = failing(tmp_path, made_videos)[3:4]
    tiles = VideoTiles([video], functools.partial(find, tmp_path), PLAIN, chunk=1)
    for _, chunks in TileLoader(tiles, 0):
        assert next(chunks)["frames"].tolist() == [list(range(0, 16, 2))]
        with pytest.raises(Unreadable, match="30 frames where the annotation has 60"):
            next(chunks)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("phases", [1, 2])
def test_what_is_left_of_a_video_are_its_last_chunks(made_videos, fill, phases):
    for frames in (33, 35, 40):
        every = tiles_of(made_videos, frames, fill=fill, phases=phases)
        for done in range(len(every["clips"])):
            rest = {f"gray{frames}": done}
            item = tiles_of(made_videos, frames, fill=fill, phases=phases, done=rest)
            for key in ("clips", "frames", "tile", "phase"):
                np.testing.assert_array_equal(item[key], every[key][done:])
        video = Video(f"gray{frames}", frames, 48, 64)
        finder, rest = functools.partial(find, made_videos), {video.name: len(every["clips"])}
        tiles = VideoTiles([video], finder, PLAIN, phases, fill, done=rest)
        assert list(tiles.chunks(0)) == []


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="one of repeat, black, last, shift, not 'white'"):
        VideoTiles([], None, PLAIN, fill="white")
