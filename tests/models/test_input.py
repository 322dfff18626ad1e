"""Pixels in the range that a network was trained on, by hand."""

import torch

from claus.models.input import normalize


def test_normalize_by_hand():
    frames = torch.zeros(1, 2, 3, 1, 1, dtype=torch.uint8)
    frames[0, 1, 2], frames[0, 0, 1] = 255, 51
    clip = normalize(frames, "-1..1")
    assert clip.shape == (1, 3, 2, 1, 1) and clip.dtype == torch.float32
    torch.testing.assert_close(
        clip[0, :, :, 0, 0], torch.tensor([[-1.0, -1.0], [-0.6, -1.0], [-1.0, 1.0]])
    )
    torch.testing.assert_close(
        normalize(frames, "0..1")[0, :, :, 0, 0],
        torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.0, 1.0]]),
    )
