"""Frame scores against slow loops in double precision, and their limits by hand."""

import math

import numpy as np
import pytest
import torch

from claus.selection.uncertainty import (
    NO_FOREGROUND,
    SCORES,
    binary_entropy,
    frame_scores,
    local_entropy,
)


def entropy(p):
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def slow_scores(logits, threshold):
    """All but the local entropy, pixel by pixel."""
    passes, frames, height, width = logits.shape
    result = {name: np.zeros(frames) for name in SCORES if name != "local_entropy"}
    for t in range(frames):
        surprise = authors = count = 0
        for y, x in np.ndindex(height, width):
            p = [1 / (1 + math.exp(-float(logits[r, t, y, x]))) for r in range(passes)]
            mean = sum(p) / passes
            result["entropy"][t] += entropy(mean) / (height * width)
            if mean >= threshold:
                surprise += sum(-math.log(q) for q in p) / passes
                authors += -math.log(mean)
                count += 1
        result["paper"][t] = surprise
        result["authors"][t] = authors / count if count else -10
        result["area"][t] = count / (height * width)
    return result


def slow_local_entropy(mean, window, grid):
    """One frame: windows cut off at the border, cells as even as they go."""
    height, width = mean.shape
    reach = window // 2
    spread = np.zeros_like(mean)
    for y, x in np.ndindex(height, width):
        inside = [
            mean[b, a]
            for b in range(max(y - reach, 0), min(y + reach + 1, height))
            for a in range(max(x - reach, 0), min(x + reach + 1, width))
        ]
        spread[y, x] = entropy(sum(inside) / len(inside)) - sum(map(entropy, inside)) / len(
            inside
        )
    cells = [
        spread[
            i * height // grid : -(-(i + 1) * height // grid),
            j * width // grid : -(-(j + 1) * width // grid),
        ]
        for i in range(grid)
        for j in range(grid)
    ]
    return sum(cell.max() for cell in cells) / len(cells)


@pytest.mark.parametrize("threshold", [0.4, 0.7])
def test_against_loops(threshold):
    logits = 2 * torch.randn(4, 3, 11, 9, generator=torch.Generator().manual_seed(0))
    scores = frame_scores(logits, threshold)
    assert tuple(scores) == SCORES and all(
        v.shape == (3,) and v.dtype == torch.float64 for v in scores.values()
    )
    for name, expected in slow_scores(logits.numpy(), threshold).items():
        np.testing.assert_allclose(scores[name].numpy(), expected, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    "height, width, window, grid", [(11, 9, 5, 4), (8, 8, 3, 8), (16, 12, 5, 8)]
)
def test_local_entropy_against_loops(height, width, window, grid):
    mean = torch.rand(2, height, width, generator=torch.Generator().manual_seed(1))
    slow = [slow_local_entropy(frame.double().numpy(), window, grid) for frame in mean]
    np.testing.assert_allclose(local_entropy(mean, window, grid).numpy(), slow, rtol=1e-4)


def logit(p):
    return math.log(p / (1 - p))


def passes(*probabilities):
    """One frame of one row: (R,1,1,W) logits from R rows of probabilities."""
    return torch.tensor([[logit(p) for p in row] for row in probabilities])[:, None, None]


def test_two_passes_by_hand():
    scores = frame_scores(
        passes((0.9, 0.5, 0.1), (0.5, 0.5, 0.3))
    )  # means .7 .5 .2: two pixels of foreground
    assert scores["paper"].item() == pytest.approx(
        -(math.log(0.9) + math.log(0.5)) / 2 - math.log(0.5), rel=1e-5
    )
    assert scores["authors"].item() == pytest.approx(
        -(math.log(0.7) + math.log(0.5)) / 2, rel=1e-5
    )
    assert scores["area"].item() == pytest.approx(2 / 3)
    assert scores["entropy"].item() == pytest.approx(
        (entropy(0.7) + entropy(0.5) + entropy(0.2)) / 3, rel=1e-5
    )


def test_the_mean_prediction_decides_what_is_foreground():
    # .9 and .05: one pass is sure of it, the mean .475 counts; .7 and .05: the mean .375
    # does not
    assert frame_scores(passes((0.9,), (0.05,)))["area"].item() == 1
    assert frame_scores(passes((0.7,), (0.05,)))["area"].item() == 0


def test_a_mean_equal_to_the_threshold_counts():
    logits = torch.zeros(3, 1, 2, 2)
    assert frame_scores(logits, 0.5)["area"].item() == 1
    assert frame_scores(logits, 0.5)["paper"].item() == pytest.approx(4 * math.log(2))


def test_a_frame_without_foreground():
    scores = frame_scores(torch.full((5, 2, 4, 4), -3.0))
    assert scores["paper"].tolist() == [0, 0] and scores["area"].tolist() == [0, 0]
    assert scores["authors"].tolist() == [NO_FOREGROUND] * 2 == [-10, -10]


def test_a_frame_does_not_depend_on_its_neighbors():
    logits = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    whole, alone = frame_scores(logits), frame_scores(logits[:, 2:3])
    for name in SCORES:
        assert whole[name][2].item() == pytest.approx(alone[name].item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_do_not_overflow(dtype):
    logits = torch.full((2, 1, 8, 8), 6e4, dtype=dtype)
    logits[1] = -6e4  # mean .5; one pass has -ln M = 60000
    scores = frame_scores(logits)
    assert all(torch.isfinite(value).all() for value in scores.values())
    assert scores["paper"].item() == pytest.approx(64 * 3e4, rel=0.01)
    assert scores["authors"].item() == pytest.approx(math.log(2))
    for sure in (6e4, -6e4):
        scores = frame_scores(torch.full((3, 1, 8, 8), sure, dtype=dtype))
        assert (
            scores["paper"].item()
            == scores["entropy"].item()
            == scores["local_entropy"].item()
            == 0
        )


def test_an_overflown_background_pixel_is_still_background():
    logits = torch.zeros(3, 1, 8, 8)
    logits[:, :, 0, 0] = -math.inf
    assert frame_scores(logits)["paper"].item() == pytest.approx(63 * math.log(2))


def test_binary_entropy_by_hand():
    p = torch.tensor([0, 0.25, 0.5, 1])
    torch.testing.assert_close(
        binary_entropy(p), torch.tensor([0, entropy(0.25), math.log(2), 0])
    )


def test_local_entropy_is_of_disagreement_not_of_doubt():
    unsure = torch.full((1, 16, 16), 0.5)
    assert local_entropy(unsure).item() == pytest.approx(0, abs=1e-7)
    edge = torch.zeros(1, 16, 16)
    edge[..., 8:] = 1
    # cells of 2 x 2; windows of 5 x 5 that see both sides: columns 6 to 9, 2/5 or 3/5 of
    # them on the other side in columns 7 and 8: of the eight columns of cells two have a
    # maximum, H(2/5), the others nothing
    assert local_entropy(edge).item() == pytest.approx(2 / 8 * entropy(0.4), rel=1e-5)


def test_surprise_of_any_logit_is_that_of_float64():
    """-ln M over the whole range of float32 logits, saturated ones among them."""
    rows = torch.cat([torch.linspace(-200, 60, 2601), torch.tensor([-15.0, -14.999, 0.0])])
    sure = torch.full_like(rows, 60.0)  # the other pass, so that every pixel is foreground
    for logit_of_a_pixel in rows.split(1):
        logits = torch.stack([logit_of_a_pixel, sure[:1]])[:, None, None]
        score = frame_scores(logits)["paper"].item()
        expected = torch.nn.functional.softplus(-logits.double()).mean().item()
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-7)
