"""Scores of a video's frames: which prediction serves which frame, with one phase and two,
whole and shifted tiles.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from claus import engine
from claus.datasets.clips.geometry import ClipGeometry
from claus.datasets.clips.tiles import VideoTiles
from claus.datasets.labels.annotations import Video
from claus.selection.uncertainty import SCORES


def in_the_picture(values_T):
    """Maps (T,4,4) of these values, with other ones in the bars."""
    maps = torch.full((len(values_T), 4, 4), -7.0)
    maps[:, :, 1:3] = values_T[:, None, None]
    return maps


@pytest.fixture
def scored(monkeypatch):
    """Function (frames, phases, tail) -> score of each frame, where a clip frame's score is
    the number of its frame.
    """

    def score(frames, phases, tail, size=99, stops=False):
        plan = [
            clip
            for tile in VideoTiles([], None, None, phases, tail).plan(frames)
            for clip in tile
        ]
        shown, tiles, numbers = (np.array(column) for column in zip(*plan, strict=True))
        chunks = [
            {
                "clips": torch.as_tensor(shown[first : first + size]),
                "frames": shown[first : first + size],
                "tile": tiles[first : first + size],
                "phase": numbers[first : first + size],
            }
            for first in range(0, len(shown), size)
        ]
        monkeypatch.setattr(engine, "seeded_masks", lambda *names: ())
        monkeypatch.setattr(engine, "normalize", lambda clip, pixel_range: clip[0])
        monkeypatch.setattr(
            engine,
            "frame_scores",
            lambda logits, threshold: dict.fromkeys(SCORES, logits[:, 0, 0]),
        )
        trained = SimpleNamespace(
            detector=torch.nn.Linear(1, 1),
            pixel_range="",
            geometry=ClipGeometry((4, 4), (4, 4), 4, "letterbox"),  # of which 2 columns show
        )
        settings = engine.ScoreSettings(passes=1, phases=phases, tail=tail)

        def forward(detector, clip):
            return in_the_picture(clip), clip[:2].float()[None]

        def work(chunks):
            return trained, Video("v", frames, 8, 4), chunks, settings, forward

        done, kept = None, []
        for chunk in chunks[:-1] if stops else ():
            # a run for each chunk, of which only what it kept is left
            engine.score_video(*work([chunk]), done, lambda arrays: kept.append(arrays()))
            done = kept[-1]
            assert engine.clips_done(done) == len(kept) * size
        result = engine.score_video(*work(chunks[-1:] if stops else chunks), done)
        assert len(result["latents"]) == tiles.max() + 1
        return result["paper"].tolist()

    return score


def test_two_phases_give_every_frame_its_own(scored):
    for frames in (1, 8, 16, 17, 33, 35, 40):
        for tail in ("repeat", "shift"):
            assert scored(frames, 2, tail) == list(range(frames))


def test_with_one_phase_a_prediction_serves_two_frames(scored):
    pairs = [frame // 2 * 2 for frame in range(40)]
    assert scored(40, 1, "repeat") == pairs
    assert scored(35, 1, "repeat") == pairs[:35]
    # 32, 33, 34 are of the last tile, which shows 20, 22, …, 34
    assert scored(35, 1, "shift") == [*pairs[:32], 32, 32, 34]
    # it shows 25, 27, …, 39: frame 32 is served by the prediction of 31, 33 and 34 by that
    # of 33
    assert scored(40, 1, "shift") == [*pairs[:32], 31, 33, 33, 35, 35, 37, 37, 39]
    assert scored(32, 1, "shift") == pairs[:32] and scored(9, 1, "shift") == pairs[:9]


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_chunks_do_not_change_the_scores(scored, size):
    for frames in (1, 16, 17, 33, 35, 80):
        for phases in (1, 2):
            for tail in ("repeat", "shift"):
                expected = scored(frames, phases, tail)
                assert scored(frames, phases, tail, size) == expected
                assert scored(frames, phases, tail, size, stops=True) == expected
