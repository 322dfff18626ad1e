"""How far masks move: overlaps of squares whose overlap is known."""

import numpy as np
import pytest
from jhmdb_maker import square_masks, write_mat

from claus.experiments.silhouettes import mask_motion
from claus.utils.runtime import UserError


def test_overlap_of_a_square_that_moves_a_pixel_a_frame():
    total, pairs = mask_motion.overlaps(square_masks(6))
    assert pairs.tolist() == [5, 4, 3, 2, 1, 0, 0, 0]  # pairs 1, 2, … frames apart
    expected = [(8 - d) / (8 + d) for d in range(1, 6)]  # of a square of 8 that is d further
    np.testing.assert_allclose(total[:5] / pairs[:5], expected, rtol=1e-6)


def test_frames_without_a_pixel_are_left_out():
    masks = np.zeros((3, 4, 4), bool)
    assert mask_motion.overlaps(masks)[1].sum() == 0
    masks[0, 0, 0] = True
    total, pairs = mask_motion.overlaps(masks)
    assert total.sum() == 0 and pairs[:2].tolist() == [1, 1]


def test_the_table_names_its_folders(tmp_path, capsys):
    for clip in range(3):
        write_mat(
            tmp_path / "set" / "puppet_mask" / "run" / f"clip{clip}" / "puppet_mask.mat",
            square_masks(12),
        )
    output = tmp_path / "motion.md"
    assert (
        mask_motion.main([str(tmp_path / "set"), "--every", "1", "--output", str(output)]) == 0
    )
    assert (
        "| set, 3 clips | 0.78 | 0.60 | 0.45 |" in output.read_text()
        and "| 0.93 | 0.75 |" in output.read_text()
    )
    with pytest.raises(UserError, match="no mask below"):
        mask_motion.main([str(tmp_path), "--output", str(output)])
