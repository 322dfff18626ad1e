"""Linking as the frames come gives the tubes of linking a whole video."""

import numpy as np
import pytest

from claus.metrics.boxes import Boxes
from claus.metrics.linking import LinkRule, OpenTubes, link


def moving_boxes(rng, frames):
    """Boxes of four actors that move, jump and are missed: (frame, box, score) by frame."""
    rows, place = [], rng.uniform(0, 60, (4, 2))
    for frame in range(frames):
        place += rng.normal(0, 3, (4, 2))
        for actor in rng.permutation(4):
            if rng.random() < 0.7:
                corner = place[actor].round()
                rows.append((frame, [*corner, *(corner + 20)], rng.random()))
    return rows


@pytest.mark.parametrize("rule", [LinkRule(), LinkRule(0.2, 8), LinkRule(0.4, 0, "score")])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_whole_videos_linking(rule, seed):
    rows = moving_boxes(np.random.default_rng(seed), 60)
    frame, box, score = (np.array(column) for column in zip(*rows, strict=True))
    none = np.zeros(len(rows), int)
    whole = link(Boxes(none, frame, none, box, score), rule)
    tubes, open_tubes, closed = {}, OpenTubes(rule), []
    for number in range(60):
        at = np.flatnonzero(frame == number)
        closed += open_tubes.close(number)
        for row, tube in zip(at, open_tubes.add(number, box[at], score[at]), strict=True):
            assert tube not in closed
            tubes.setdefault(int(tube), []).append(row)
    ends = sorted((frame[r[0]], frame[r[-1]], score[r].mean().round(9)) for r in tubes.values())
    expected = [(tube.frames[0], tube.frames[-1], round(tube.score, 9)) for tube in whole]
    assert ends == sorted(expected)
    assert len(tubes) > 4  # they break


def test_what_needs_whole_tubes_is_refused():
    with pytest.raises(ValueError, match="still open"):
        OpenTubes(LinkRule(min_length=3))
