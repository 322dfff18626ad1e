"""The clips of chosen frames are those that a pass over the whole video shows."""

import numpy as np
import pytest
import torch
from made_videos import counts_shown, whole, write_counted

from claus.datasets.clips.chosen_clips import ChosenClips
from claus.datasets.clips.geometry import GEOMETRY
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels.annotations import Video
from claus.datasets.labels.segment import Segment

SMALL = GEOMETRY["small", "whole"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("chosen") / "a.mp4"
    write_counted(path, 75)
    return path


@pytest.mark.parametrize("fill", ("black", "last"))
@pytest.mark.parametrize("wanted", ([0], [74], [3, 4, 40, 73], [70, 71]))
def test_same_clips_as_of_the_whole_video(path, fill, wanted):
    video = Video("a", 75, 48, 64)
    everything = whole(
        VideoTiles([video], lambda _: path, SMALL, phases=2, fill=fill).chunks(0)
    )
    places = list(zip(everything["tile"].tolist(), everything["phase"].tolist(), strict=True))
    clips = ChosenClips([video], {"a": wanted}, lambda _: path, SMALL, fill)
    found = whole(clips.chunks(0))
    assert len(found["clips"]) == len({(frame // 16, frame % 2) for frame in wanted})
    assert set(wanted) <= set(found["frames"].ravel().tolist())
    for clip, frames, tile, phase in zip(
        found["clips"], found["frames"], found["tile"], found["phase"], strict=True
    ):
        same = places.index((int(tile), int(phase)))
        assert torch.equal(clip, everything["clips"][same])
        assert np.array_equal(frames, everything["frames"][same])


def test_of_a_segment_the_numbers_of_the_entry(path):
    video = Video("a_f000020-000059", 40, 48, 64, segment=Segment("a", 20, 75))
    clips = ChosenClips([video], {video.name: [5]}, lambda _: path, SMALL, "black")
    (chunk,) = clips.chunks(0)
    shown = counts_shown(chunk["clips"][0].numpy())
    assert chunk["frames"][0].tolist() == list(range(1, 17, 2))
    assert shown == [20 + frame for frame in range(1, 17, 2)]


def test_fills_that_are_not_of_evaluation_are_refused():
    with pytest.raises(ValueError, match="fill"):
        ChosenClips([], {}, lambda _: None, SMALL, "shift")
