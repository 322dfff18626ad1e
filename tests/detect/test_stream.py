"""A file as tiles, without knowing its length: the clips of VideoTiles, and times."""

import os

import av
import numpy as np
import pytest
import torch
from made_videos import gray_frames, write_counted
from PIL import Image

from claus.datasets.clips.geometry import GEOMETRY, ClipGeometry, center_crop
from claus.datasets.clips.stream import clips_of, cover, read_header, read_tiles
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels.annotations import Video
from claus.datasets.sprites import write_video
from claus.datasets.video.reader import VideoError

WIDE = GEOMETRY["small", "wide"]


@pytest.mark.parametrize("count", [1, 15, 16, 17, 33, 40])
@pytest.mark.parametrize("fill", ["black", "last"])
def test_clips_are_those_of_a_video_whose_length_is_known(tmp_path, count, fill):
    write_video(tmp_path / "v.avi", gray_frames(count))
    tiles = VideoTiles(
        [Video("v", count, 48, 64)], lambda name: tmp_path / "v.avi", WIDE, 2, fill
    )
    expected = [
        (clip, frames)
        for chunk in tiles.chunks(0)
        for clip, frames in zip(chunk["clips"], chunk["frames"], strict=True)
    ]
    found = []
    for tile in read_tiles(tmp_path / "v.avi", WIDE, [center_crop(WIDE)]):
        (pictures,) = tile.pictures
        pictures = torch.cat([pictures, torch.zeros_like(pictures[:1])])
        last = tile.pictures.shape[1] - 1
        clips = clips_of(tile, last + 1 if fill == "black" else last)
        found += zip(pictures[torch.from_numpy(clips.places)], clips.frames, strict=True)
    assert len(found) == len(expected)
    for (clip, frames), (other, numbers) in zip(found, expected, strict=True):
        assert torch.equal(clip, other) and np.array_equal(frames, numbers)


@pytest.mark.parametrize("key", GEOMETRY)
def test_the_crops_cover_the_frame(key):
    geometry = GEOMETRY[key]
    seen = np.zeros(geometry.frame, bool)
    for top, left in cover(geometry):
        assert top + geometry.crop[0] <= geometry.frame[0]
        seen[top : top + geometry.crop[0], left : left + geometry.crop[1]] = True
    assert seen.all() or geometry.fit != "stretch"
    whole = ClipGeometry((64, 64), (64, 64), 64)
    assert cover(whole) == [(0, 0)]


def test_times_are_those_of_the_container(tmp_path):
    ticks = [0, 40, 80, 200, 230, 500]  # a rate that varies, in ms
    write_counted(tmp_path / "v.mp4", 6, ticks=ticks)
    header = read_header(tmp_path / "v.mp4")
    (tile,) = read_tiles(tmp_path / "v.mp4", WIDE, [(0, 0)], header.start)
    with av.open(str(tmp_path / "v.mp4")) as container:
        base = container.streams.video[0].time_base
        exact = [float(frame.pts * base) for frame in container.decode(video=0)]
    assert np.allclose(tile.times, exact) and len(set(np.diff(exact).round(6))) > 2


def test_what_is_no_video_is_said_in_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "words.mp4").write_text("no video " * 100)
    for name in ("still.png", "still.jpg"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    for name, said in {
        "pipe.mp4": "is a pipe",
        "empty.mp4": "is empty",
        "words.mp4": "no video that can be opened",
        "still.png": "is a still picture",
        "still.jpg": "is a still picture",
        "none.mp4": "cannot be read",
    }.items():
        with pytest.raises(VideoError, match=said) as error:
            read_header(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)
