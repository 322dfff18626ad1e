"""The decoder's last two layers as one convolution: upsample4 -> channel dropout -> smooth
is linear.

Per axis, upsample4 (transposed convolution, kernel 3, stride 2, padding 1) sends input i by
tap p to j = 2i + p - 1, and smooth (transposed, kernel 3, padding 1) sends j through tap q
to o = j + q - 1, so that o = 2i + p + q - 2. Output o = 2m + e (e = 0, 1) therefore sees
the inputs m - 1, m, m + 1 only: a 3x3 convolution that computes the four places of every
2x2 cell as four channels. Time is short (T frames), so it is unrolled: all T input frames
are input channels, all 2T output frames output channels. With x_(t,c) the input frames laid
side by side,

    y_(t', e, f) = Σ_(t,c) W[(t',e,f), (t,c)] * x_(t,c),      logits = pixel_shuffle(y)
    W[(t',e,f), (t,c), d_h, d_w]
        = Σ_(p,q) A_T[p_t,q_t,t',t] A[p_h,q_h,e,d_h] A[p_w,q_w,f,d_w] P[c,p,q]
    P[c,p,q] = Σ_m upsample4[c,m,p] · mask[m] · smooth[m,q]

where A is 1 where the two taps p, q lead from one place to the other, else 0. One
convolution T·C -> 8T instead of a 128-channel tensor at full resolution. upsample4's own
output begins at j = 0: what p = 0 would send from i = 0 to j = -1 must not be passed on to
o = 0 by q = 2. In time A_T leaves it out; in height and width it touches the first row and
the first column, whose shares are taken away again (and the corner's, taken twice, given
back). upsample4's bias gives a map that is constant but for the outermost rows. All of it
is exact, and differentiable.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from claus.models.frame_conv import channels_last

TAPS = 3


def fused_tail(
    x: torch.Tensor,
    up: nn.ConvTranspose3d,
    smooth: nn.ConvTranspose3d,
    mask: torch.Tensor | None = None,
    shared: torch.Tensor | None = None,
) -> torch.Tensor:
    """smooth(mask · up(x)) for the transposed convolutions `up` and `smooth`. x (B,C,T,H,W)
    -> (B,1,2T,2H,2W).

    mask: (R,M) factors on the channels between the two, or None; one clip (B = 1) may meet
    R masks. shared: further channels (1,C',T,H,W) of the input that are the same for all B
    clips; they come after those of x.
    """
    frames = x.shape[2]
    with torch.autocast(x.device.type, enabled=False):
        between = smooth.weight[:, 0]  # (M, 3, 3, 3)
        weights = between[None]  # (b, M, 3, 3, 3), b = 1 or R
        if mask is not None:
            weights = mask.to(between.dtype)[:, :, None, None, None] * between
        products = _products(up.weight, weights)  # (b, C, 9, 9, 9)
        kernels = {borders: _kernel(products, frames, *borders) for borders in _BORDERS}
        # (b, 2T, 2H, 2W)
        bias = _bias_map(up.bias, weights, (frames, *x.shape[3:])) + smooth.bias
    own = {borders: kernel[:, :, :, : x.shape[1]] for borders, kernel in kernels.items()}
    y = _convolve(x, own)
    if shared is not None:
        rest = {borders: kernel[:, :, :, x.shape[1] :] for borders, kernel in kernels.items()}
        y = y + _convolve(shared, rest)
    return (F.pixel_shuffle(y, 2) + bias.to(y.dtype))[:, None]


# (first row, first column)
_BORDERS = (
    (False, False),
    (True, False),
    (False, True),
    (True, True),
)


def _products(up, weights):
    """Σ_m up[c,m,p] · weights[b,m,q]: (C,M,3,3,3), (b,M,3,3,3) -> (b, C, pq_t, pq_h, pq_w),
    each of 9.
    """
    left = up.flatten(2).transpose(1, 2).flatten(0, 1)  # (C*27, M)
    products = (left @ weights.flatten(2)).view(len(weights), len(up), *[TAPS] * 6)
    return products.permute(0, 1, 2, 5, 3, 6, 4, 7).reshape(len(weights), len(up), 9, 9, 9)


def _leads(outputs, inputs, step, like):
    """A (9, outputs * inputs): 1 where taps (p,q) lead from an input to an output, `step`
    telling which do.
    """
    ways = list(itertools.product(range(outputs), range(inputs)))
    taps = []
    for p, q in itertools.product(range(TAPS), range(TAPS)):
        taps.append([step(p, q, o, i) for o, i in ways])
    return torch.tensor(taps, dtype=like.dtype, device=like.device)


def _along_time(frames, like):
    """Every output frame from every input frame; a frame before the first is no frame."""
    return _leads(
        2 * frames, frames, lambda p, q, o, i: o == 2 * i + p + q - 2 and 2 * i + p >= 1, like
    )


def _along_side(at_border, like):
    """Both places e of a cell from inputs d = -1, 0, 1; at the border what goes through
    place -1 to place 0.
    """
    if at_border:
        return _leads(1, 1, lambda p, q, o, i: (p, q) == (0, 2), like)
    return _leads(2, TAPS, lambda p, q, e, d: p + q == e + 4 - 2 * d, like)


def _kernel(products, frames, row, column):
    """W, or its share at the first row and / or column: (b, 2T, e*f, C, T, d_h, d_w); axes
    at the border have size 1.
    """
    b, channels = products.shape[:2]
    sides = [_along_side(at_border, products) for at_border in (row, column)]
    (e, d_h), (f, d_w) = [(1, 1) if at_border else (2, TAPS) for at_border in (row, column)]
    k = (products @ sides[1]).transpose(3, 4) @ sides[0]  # (b, C, 9, f*d_w, e*d_h)
    k = k.movedim(2, 4) @ _along_time(frames, products)  # (b, C, f*d_w, e*d_h, T'*T)
    k = k.view(b, channels, f, d_w, e, d_h, 2 * frames, frames)
    return k.permute(0, 6, 4, 2, 1, 7, 5, 3).flatten(2, 3)


def _convolve(x, kernels):
    """Clips (B,C,T,H,W) by one kernel or one each, or one clip by R kernels -> (B or R, 8T,
    H, W).
    """
    parts = _Borders.apply(x.transpose(1, 2).flatten(1, 2))  # images (B, T*C, H, W) and borders
    if kernels[False, False].shape[0] == 1 or x.shape[0] == 1:
        return _one_kernel(parts, kernels)
    clips = zip(*(part.split(1) for part in parts), strict=True)
    each = zip(*(kernel.split(1) for kernel in kernels.values()), strict=True)
    return torch.cat(
        [
            _one_kernel(clip, dict(zip(_BORDERS, kernel, strict=True)))
            for clip, kernel in zip(clips, each, strict=True)
        ]
    )


def _one_kernel(parts, kernels):
    """Images and their borders by one kernel (B -> B), or one image by R kernels (1 -> R):
    (., 8T, H, W).
    """
    y = None
    for part, ((row, column), kernel) in zip(parts, kernels.items(), strict=True):
        count, out = kernel.shape[:2]  # R, 2T
        weight = kernel.transpose(3, 4).flatten(3, 4).flatten(0, 2)  # (R*2T*e*f, T*C, d_h, d_w)
        share = F.conv2d(part, channels_last(weight), padding=(int(not row), int(not column)))
        # (B, R, T', e, f, H, W)
        share = share.unflatten(1, (count, out, 1 if row else 2, 1 if column else 2))
        if y is None:
            y = share
        else:
            place = y[
                :, :, :, : share.shape[3], : share.shape[4], : share.shape[5], : share.shape[6]
            ]
            place.add_(share, alpha=1 if row and column else -1)
    return y.flatten(0, 1).flatten(1, 3)


class _Borders(torch.autograd.Function):
    """Images (B,C,H,W) -> the images, their first row, first column and corner.

    As slices, but the borders' gradients are added where they belong, into the gradient
    that the convolution of the images has just made and nobody else holds, instead of being
    padded to the full size.
    """

    @staticmethod
    def forward(ctx, images):
        return images.view_as(images), *(
            images[:, :, : 1 if row else None, : 1 if column else None].clone()
            for row, column in _BORDERS[1:]
        )

    @staticmethod
    def backward(ctx, grad, *of_borders):
        for (row, column), part in zip(_BORDERS[1:], of_borders, strict=True):
            grad[:, :, : 1 if row else None, : 1 if column else None] += part
        return grad


def _bias_map(bias, weights, size):
    """What up's bias gives after the mask and smooth: (M,), (b,M,3,3,3) -> (b,2T,2H,2W);
    taps that miss left out.
    """
    response = (bias[:, None, None, None] * weights).sum(1)  # (b, q_t, q_h, q_w)
    for n in size:
        reaches = response.new_ones(2 * n, TAPS)
        reaches[0, 2] = reaches[-1, 0] = 0  # o - q + 1 lies in 0 … 2n-1
        response = response.movedim(1, -1) @ reaches.T
    return response
