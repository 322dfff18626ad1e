"""A sweep over every real clip at hand (make test-long): lengths, and frames out of order."""

import numpy as np
import pytest

from claus.datasets import jhmdb
from claus.datasets.video.display import Display
from claus.datasets.video.frame_index import IndexedVideos
from claus.datasets.video.reader import (
    iter_frames,
    pixels,
    probe,
    read_blocks,
    read_frames,
)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def truth(shared_data):
    return jhmdb.read_ground_truth(shared_data / "jhmdb", part="all")


def test_every_j_hmdb_clip_decodes_as_many_frames_as_it_has_masks(shared_data, truth):
    assert len(truth.videos) == 928
    for video in truth.videos.values():
        path = jhmdb.find_video(shared_data / "jhmdb", video.name)
        assert probe(path) == (video.frames, video.height, video.width), video.name


def test_any_frame_of_every_j_hmdb_clip_is_the_frame_asked_for(shared_data, truth, tmp_path):
    index = IndexedVideos(tmp_path)
    generator = np.random.default_rng(0)
    for video in truth.videos.values():
        path = jhmdb.find_video(shared_data / "jhmdb", video.name)
        assert next(iter_frames(path)).display == Display()
        every = [pixels(frame) for frame in iter_frames(path)]
        size = (video.height, video.width)
        blocks = [block for _, block in read_blocks(path, video.frames, 16, size)]
        assert np.array_equal(np.concatenate(blocks), every), video.name
        wanted = np.sort(generator.choice(video.frames, 4, replace=False))
        expected = np.stack([every[k] for k in wanted])
        assert np.array_equal(read_frames(path, wanted, video.frames), expected), video.name
        assert np.array_equal(index.read_frames(path, wanted, video.frames), expected), (
            video.name
        )
