"""Three-dimensional convolutions of few frames as two-dimensional ones: a video here has 1,
2, 4 or 8 frames.

Output frame t of a convolution with kernel K (kt,kh,kw), stride s and padding `low` in time is

    out[t] = Σ_k K[k] * x[t s - low + k]      over those k whose frame exists
           = [K[k1] … K[kn]] * concat(x[t s - low + k1], …, x[t s - low + kn])

one 2-D convolution of the frames laid side by side as channels; taps that meet only padding
are never computed. At T = 1 a 3x3x3 kernel is its center tap. Transposed convolutions go
the same way. All is exact.

Videos (B,C,T,H,W) are kept in torch.channels_last_3d: a frame is then a channels_last
image, which is what the 2-D kernels of oneDNN and cuDNN like best, and T x H may be viewed
as one axis.
"""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> list[int]:
    """(low, high) zeros per axis, last axis first as F.pad expects them, so that out =
    ceil(size / stride).
    """
    padding = []
    for n, k, s in reversed(list(zip(size, kernel, stride, strict=True))):
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        padding += [total // 2, total - total // 2]
    return padding


def conv_frames(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    scale: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """Same-padded convolution (B,C,T,H,W) -> list of frames (B,O,H/sh,W/sw).

    weight (O,C,kt,kh,kw); bias and scale (O,) or None, the scale a factor on the weight's rows.
    """
    kernel = weight.shape[2:]
    w_low, w_high, h_low, h_high, low, _ = same_padding(x.shape[2:], kernel, stride)
    if (h_low, w_low) != (h_high, w_high):
        x, h_low, w_low = F.pad(x, (w_low, w_high, h_low, h_high)), 0, 0
    frames, out = x.unbind(2), []
    for first in range(-low, -low + -(-len(frames) // stride[0]) * stride[0], stride[0]):
        at = range(max(first, 0), min(first + kernel[0], len(frames)))
        taps = weight[:, :, at.start - first : at.stop - first].transpose(1, 2).flatten(1, 2)
        taps = taps if scale is None else taps * scale[:, None, None, None]
        out.append(
            _convolve(frames[at.start : at.stop], taps, bias, stride[1:], (h_low, w_low))
        )
    return out


def pointwise(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """1x1x1 convolution (B,C,T,H,W) -> (B,O,T,H,W)."""
    weight = weight if scale is None else weight * scale[:, None, None, None, None]
    return _video(F.conv2d(_images(x), weight[:, :, 0], bias), x.shape[0])


def double_frames(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """Transposed convolution, kernel 3, stride 2, padding 1, output padding 1: (B,C,T,H,W)
    -> list of 2T frames.

    Input t sends tap p to 2t + p - 1: output 2t has tap 1 of t, output 2t + 1 tap 2 of t
    and tap 0 of t + 1. weight (C,O,3,3,3); a frame is (B,O,2H,2W).
    """
    frames, out = x.unbind(2), []
    for t in range(len(frames)):
        following = frames[t : t + 2]
        odd = [weight[:, :, 2], weight[:, :, 0]][: len(following)]
        odd = torch.cat(odd)  # (C or 2C, O, 3, 3)
        for some, taps in ((frames[t : t + 1], weight[:, :, 1]), (following, odd)):
            out.append(_convolve(some, taps, bias, (2, 2), (1, 1), transposed=True))
    return out


def pool_frames(x: torch.Tensor, kernel: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """Same-padded max-pooling of numbers that are never negative, (B,C,T,H,W) ->
    (B,C,T/st,H/sh,W/sw).
    """
    if (kernel[0], stride[0]) == (1, 1):
        return _pool_places(x, kernel, stride)
    frames, low = x.unbind(2), same_padding(x.shape[2:], kernel, stride)[4]
    starts = range(-low, -low + -(-len(frames) // stride[0]) * stride[0], stride[0])
    windows = [range(max(first, 0), min(first + kernel[0], len(frames))) for first in starts]
    pooled = {}
    for at in windows:
        if at not in pooled:
            highest = functools.reduce(torch.maximum, frames[at.start : at.stop])
            pooled[at] = _pool_places(highest.unsqueeze(2), kernel, stride)
    return (
        torch.cat([pooled[at] for at in windows], dim=2)
        if len(windows) > 1
        else pooled[windows[0]]
    )


def _pool_places(x, kernel, stride):
    """Pool each frame. Padding counts as nothing here and as 0 by definition: the same for
    what is never negative.
    """
    if tuple(kernel[1:]) == (1, 1) == tuple(stride[1:]):
        return x
    w_low, _, h_low, _ = same_padding(x.shape[3:], kernel[1:], stride[1:])
    # no dilation, incomplete windows count
    settings = kernel[1:], stride[1:], (h_low, w_low), (1, 1), True
    if torch.is_grad_enabled():
        images = _MaxPool.apply(_images(x), *settings)
    else:
        images = F.max_pool2d(_images(x), *settings)
    return _video(images, x.shape[0])


def join(frames: Sequence[torch.Tensor]) -> torch.Tensor:
    """List of T frames (B,C,H,W) -> video (B,C,T,H,W)."""
    return (
        torch.cat([frame.unsqueeze(2) for frame in frames], dim=2)
        if len(frames) > 1
        else frames[0].unsqueeze(2)
    )


def _images(x):
    """Video (B,C,T,H,W) -> its frames as images (B*T,C,H,W)."""
    return x.squeeze(2) if x.shape[2] == 1 else x.transpose(1, 2).flatten(0, 1)


def _video(images, batch):
    """_images' inverse."""
    return (
        images.unsqueeze(2)
        if images.shape[0] == batch
        else images.unflatten(0, (batch, -1)).transpose(1, 2)
    )


def _convolve(frames, taps, bias, stride, padding, transposed=False):
    """2-D convolution of frames (B,C,H,W) laid side by side as channels, (B, n * C, H, W)."""
    device = taps.device.type
    if torch.is_autocast_enabled(device):  # it does not look into a Function
        dtype = torch.get_autocast_dtype(device)
        frames, taps, bias = (
            [f.to(dtype) for f in frames],
            taps.to(dtype),
            None if bias is None else bias.to(dtype),
        )
    taps = channels_last(taps)
    if torch.is_grad_enabled():
        return _SideBySide.apply(taps, bias, stride, padding, transposed, *frames)
    return torch.convolution(
        _image(frames), taps, bias, *_settings(stride, padding, transposed)
    )


def _settings(stride, padding, transposed):
    """What aten's convolution takes after the bias: no dilation, one group."""
    output_padding = (1, 1) if transposed else (0, 0)
    return stride, padding, (1, 1), transposed, output_padding, 1


class _SideBySide(torch.autograd.Function):
    """The convolution of several frames as one image, which is made again for the backward
    pass instead of being kept.
    """

    @staticmethod
    def forward(ctx, taps, bias, stride, padding, transposed, *frames):
        ctx.save_for_backward(taps, *frames)
        ctx.settings = _settings(stride, padding, transposed)
        ctx.bias_size = None if bias is None else list(bias.shape)
        return torch.convolution(_image(frames), taps, bias, *ctx.settings)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        taps, *frames = ctx.saved_tensors
        needed = (
            any(ctx.needs_input_grad[5:]),
            ctx.needs_input_grad[0],
            ctx.bias_size is not None,
        )
        of_image, of_taps, of_bias = torch.ops.aten.convolution_backward(
            grad, _image(frames), taps, ctx.bias_size, *ctx.settings, needed
        )
        of_frames = of_image.chunk(len(frames), dim=1) if needed[0] else [None] * len(frames)
        return of_taps, of_bias, None, None, None, *of_frames


def _image(frames):
    """Frames side by side."""
    return channels_last(frames[0] if len(frames) == 1 else torch.cat(frames, dim=1))


class _MaxPool(torch.autograd.Function):
    """2-D max-pooling that finds the places of the maxima again for the backward pass, 8
    bytes each, instead of keeping them.
    """

    @staticmethod
    def forward(ctx, images, *settings):
        ctx.save_for_backward(images)
        ctx.settings = settings
        return F.max_pool2d(images, *ctx.settings)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (images,) = ctx.saved_tensors
        _, places = torch.ops.aten.max_pool2d_with_indices(images, *ctx.settings)
        of_images = torch.ops.aten.max_pool2d_with_indices_backward(
            grad, images, *ctx.settings, places
        )
        return of_images, *[None] * len(ctx.settings)


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """Images or weights (N,C,H,W) with the channels innermost. (A convolution goes by its
    weight where the strides of an image alone could mean either layout, as those of a
    single one can.)
    """
    return images.contiguous(memory_format=torch.channels_last)
