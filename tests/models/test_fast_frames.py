"""Convolutions and pooling frame by frame against the three-dimensional ones."""

import pytest
import torch
import torch.nn.functional as F

from claus.models.frame_conv import (
    conv_frames,
    double_frames,
    join,
    pointwise,
    pool_frames,
    same_padding,
)

SIZES = [(1, 5, 6), (2, 4, 7), (3, 1, 2), (4, 3, 3), (5, 6, 1), (8, 2, 5)]


def video(size, batch=2, channels=3):
    torch.manual_seed(sum(size))
    return torch.randn(batch, channels, *size, dtype=torch.float64, requires_grad=True)


def same(fast, plain, inputs):
    """Equal values, and equal gradients of a sum with unequal weights."""
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-12)
    weights = torch.rand_like(plain)
    ours, theirs = (
        torch.autograd.grad((y * weights).sum(), inputs, retain_graph=True)
        for y in (fast, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kernel, stride",
    [
        ((3, 3, 3), (1, 1, 1)),
        ((3, 3, 3), (2, 1, 1)),
        ((7, 7, 7), (2, 2, 2)),
        ((1, 3, 3), (1, 1, 1)),
        ((1, 1, 1), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_convolution(size, kernel, stride, batch):
    x = video(size, batch)
    weight, bias = (
        torch.randn(4, 3, *kernel).double().requires_grad_(),
        torch.randn(4).double().requires_grad_(),
    )
    plain = F.conv3d(F.pad(x, same_padding(size, kernel, stride)), weight, bias, stride)
    same(join(conv_frames(x, weight, bias, stride)), plain, [x, weight, bias])
    scale = torch.rand(4).double()
    torch.testing.assert_close(
        join(conv_frames(x, weight, bias, stride, scale)),
        join(conv_frames(x, weight * scale.view(4, 1, 1, 1, 1), bias, stride)),
    )
    if kernel == (1, 1, 1):
        same(pointwise(x, weight, bias), plain, [x, weight, bias])


@pytest.mark.parametrize("size", SIZES)
def test_transposed_convolution(size):
    x, weight = video(size), torch.randn(3, 4, 3, 3, 3).double().requires_grad_()
    bias = torch.randn(4).double().requires_grad_()
    plain = F.conv_transpose3d(x, weight, bias, stride=2, padding=1, output_padding=1)
    same(join(double_frames(x, weight, bias)), plain, [x, weight, bias])
    torch.testing.assert_close(join(double_frames(x, weight)), plain - bias.view(4, 1, 1, 1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kernel, stride",
    [
        ((3, 3, 3), (1, 1, 1)),
        ((1, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (2, 1, 1)),
        ((2, 1, 1), (2, 1, 1)),
    ],
)
def test_pooling(size, kernel, stride):
    x = video(size)
    active = F.relu(x)  # ties at 0 then have no gradient to quarrel about
    plain = F.max_pool3d(F.pad(active, same_padding(size, kernel, stride)), kernel, stride)
    same(pool_frames(active, kernel, stride), plain, [x])


def test_gradcheck():
    x = video((2, 3, 3), 1, 2)
    weight = torch.randn(2, 2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: join(conv_frames(x, w, stride=(2, 1, 1))), (x, weight)
    )
    assert torch.autograd.gradcheck(lambda x, w: join(double_frames(x, w)), (x, weight))
    assert torch.autograd.gradcheck(lambda x: pool_frames(x, (3, 3, 3), (1, 1, 1)), (x.abs(),))


@pytest.mark.parametrize("batch", [1, 2])
def test_videos_stay_channels_last(batch):
    """The layout that makes it fast: a frame's channels innermost, whatever the batch and
    the number of frames.
    """
    x = video((4, 6, 6), batch, 8).detach().float()
    for y in (join(conv_frames(some, torch.randn(8, 8, 3, 3, 3))) for some in (x, x[:, :, :1])):
        z = pool_frames(pointwise(y, torch.randn(5, 8, 1, 1, 1)), (3, 3, 3), (1, 1, 1))
        for result in (y, z):
            assert result.stride(1) == 1 and result.is_contiguous(
                memory_format=torch.channels_last_3d
            )


def test_windows_are_not_kept_for_the_backward_pass():
    x, weight, held = (
        torch.randn(1, 4, 4, 8, 8, requires_grad=True),
        torch.randn(4, 4, 3, 3, 3, requires_grad=True),
        {},
    )

    def hold(t):
        held[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda t: t):
        out = conv_frames(x, weight)
    taps = 10 / 3 * weight.nbytes  # four windows with 2, 3, 3 and 2 taps in time
    assert len(out) == 4 and sum(held.values()) <= 2 * x.nbytes + taps + 1
