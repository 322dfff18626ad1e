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
# devices that take clips with a kernel each one by one: oneDNN is ×1.2 to 3.5 faster so than
# with a grouped convolution (equal within 3e-7), which elsewhere saves the launches
LOOPS_OVER_CLIPS = ("cpu",)


class FusedTail(nn.Module):
    """The two layers for inputs of T frames of H x W places; it has no parameters.

    The constants A of its sums are buffers that checkpoints do not keep: made anew in every
    pass they would be copied to the device, and the host would wait for it each time.
    """

    def __init__(self, frames: int, height: int, width: int):
        super().__init__()
        self.size = frames, height, width
        constants = {
            "along_time": _along_time(frames),
            "along_side": _along_side(at_border=False),
            "along_border": _along_side(at_border=True),
            "reach_time": _reaches(frames),
            "reach_rows": _reaches(height),
            "reach_columns": _reaches(width),
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def forward(
        self,
        x: torch.Tensor,
        up: nn.ConvTranspose3d,
        smooth: nn.ConvTranspose3d,
        mask: torch.Tensor | None = None,
        shared: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """smooth(mask · up(x)) for the transposed convolutions `up` and `smooth`. x
        (B,C,T,H,W) -> (B,1,2T,2H,2W). Raises ValueError for another T, H or W.

        mask: (R,M) factors on the channels between the two, or None; one clip (B = 1) may
        meet R masks. shared: further channels (1,C',T,H,W) of the input that are the same
        for all B clips; they come after those of x.

        Logits are in the dtype of the weights, float32, whatever the autocast state.
        """
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"the tail takes {self.size}, got {tuple(x.shape[2:])}")
        with torch.autocast(x.device.type, enabled=False):
            between = smooth.weight[:, 0]  # (M, 3, 3, 3)
            weights = between[None]  # (b, M, 3, 3, 3), b = 1 or R
            if mask is not None:
                weights = mask.to(between.dtype)[:, :, None, None, None] * between
            products = _products(up.weight, weights)  # (b, C, 9, 9, 9)
            kernels = {borders: self._kernel(products, *borders) for borders in _BORDERS}
            bias = self._bias_map(up.bias, weights) + smooth.bias  # (b, 2T, 2H, 2W)
            y = _convolve(x.to(bias.dtype), _of_channels(kernels, slice(x.shape[1])))
            if shared is not None:
                rest = _of_channels(kernels, slice(x.shape[1], None))
                y = _sum(y, _convolve(shared.to(bias.dtype), rest))
            return _sum(F.pixel_shuffle(y, 2), bias)[:, None]

    def _kernel(self, products, row, column):
        """W, or its share at the first row and / or column: (b, 2T, e*f, C, T, d_h, d_w);
        axes at the border have size 1.
        """
        b, channels = products.shape[:2]
        frames = self.size[0]
        by_row, by_column = (
            self.along_border if at_border else self.along_side for at_border in (row, column)
        )
        (e, d_h), (f, d_w) = [(1, 1) if at_border else (2, TAPS) for at_border in (row, column)]
        k = (products @ by_column).transpose(3, 4) @ by_row  # (b, C, 9, f*d_w, e*d_h)
        k = k.movedim(2, 4) @ self.along_time  # (b, C, f*d_w, e*d_h, T'*T)
        k = k.view(b, channels, f, d_w, e, d_h, 2 * frames, frames)
        return k.permute(0, 6, 4, 2, 1, 7, 5, 3).flatten(2, 3)

    def _bias_map(self, bias, weights):
        """What up's bias gives after the mask and smooth: (M,), (b,M,3,3,3) ->
        (b,2T,2H,2W); taps that miss left out.
        """
        response = (bias[:, None, None, None] * weights).sum(1)  # (b, q_t, q_h, q_w)
        for reaches in (self.reach_time, self.reach_rows, self.reach_columns):
            response = response.movedim(1, -1) @ reaches.T
        return response


def _sum(x, y):
    """x + y; where no gradient is wanted, in x, which nobody else holds. Shapes, not len(): that
    would fix the batch of an exported network.
    """
    return x + y if torch.is_grad_enabled() or x.shape[0] < y.shape[0] else x.add_(y)


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


def _leads(outputs, inputs, step):
    """A (9, outputs * inputs): 1 where taps (p,q) lead from an input to an output, `step`
    telling which do.
    """
    ways = list(itertools.product(range(outputs), range(inputs)))
    taps = []
    for p, q in itertools.product(range(TAPS), range(TAPS)):
        taps.append([float(step(p, q, o, i)) for o, i in ways])
    return torch.tensor(taps)


def _along_time(frames):
    """Every output frame from every input frame; a frame before the first is no frame."""
    return _leads(
        2 * frames, frames, lambda p, q, o, i: o == 2 * i + p + q - 2 and 2 * i + p >= 1
    )


def _along_side(at_border):
    """Both places e of a cell from inputs d = -1, 0, 1; at the border what goes through
    place -1 to place 0.
    """
    if at_border:
        return _leads(1, 1, lambda p, q, o, i: (p, q) == (0, 2))
    return _leads(2, TAPS, lambda p, q, e, d: p + q == e + 4 - 2 * d)


def _reaches(size):
    """(2 size, q): 1 where tap q of smooth meets a place, o - q + 1 in 0 … 2 size - 1."""
    reaches = torch.ones(2 * size, TAPS)
    reaches[0, 2] = reaches[-1, 0] = 0
    return reaches


def _of_channels(kernels, some):
    """The kernels for some of the input's channels."""
    return {borders: kernel[:, :, :, some] for borders, kernel in kernels.items()}


def _convolve(x, kernels):
    """Clips (B,C,T,H,W) by one kernel or one each, or one clip by R kernels -> (B or R, 8T,
    H, W).
    """
    # images (B, T*C, H, W) and their borders
    parts = _borders(x.transpose(1, 2).flatten(1, 2))
    if kernels[False, False].shape[0] == 1 or x.shape[0] == 1:
        return _one_kernel(parts, kernels)
    if x.device.type not in LOOPS_OVER_CLIPS:
        return _kernel_each(parts, kernels)
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
    for part, (borders, kernel) in zip(parts, kernels.items(), strict=True):
        share = _share(part, kernel, borders)
        # (B, R, T', e, f, H, W)
        share = share.unflatten(1, (len(kernel), kernel.shape[1], *_places(borders)))
        y = _with_share(y, share, borders)
    return y.flatten(0, 1).flatten(1, 3)


def _kernel_each(parts, kernels):
    """B images and their borders by B kernels, each by its own, in one grouped convolution
    however many they are: (B, 8T, H, W).
    """
    y = None
    for part, (borders, kernel) in zip(parts, kernels.items(), strict=True):
        share = _share(part.flatten(0, 1)[None], kernel, borders, groups=len(part))
        # (1, B, T', e, f, H, W)
        share = share.unflatten(1, (len(part), kernel.shape[1], *_places(borders)))
        y = _with_share(y, share, borders)
    return y[0].flatten(1, 3)


def _places(borders):
    """(e, f): places of a cell that a kernel computes."""
    return tuple(1 if at_border else 2 for at_border in borders)


def _share(images, kernel, borders, groups=1):
    """What the kernel (b, 2T, e*f, C, T, d_h, d_w) of these borders gives of images (., T*C,
    H, W)."""
    weight = kernel.transpose(3, 4).flatten(3, 4).flatten(0, 2)  # (b*2T*e*f, T*C, d_h, d_w)
    padding = [int(not at_border) for at_border in borders]
    return F.conv2d(images, channels_last(weight), padding=padding, groups=groups)


def _with_share(y, share, borders):
    """y with the share of some borders taken away, or given back; y is None at first."""
    if y is None:
        return share
    _, _, _, e, f, height, width = share.shape
    y[:, :, :, :e, :f, :height, :width].add_(share, alpha=1 if all(borders) else -1)
    return y


def _borders(images):
    """Images (B,C,H,W) -> the images, their first row, first column and corner."""
    if torch.is_grad_enabled():
        return _Borders.apply(images)
    return images, *(_border(images, *borders) for borders in _BORDERS[1:])


def _border(images, row, column):
    return images[:, :, : 1 if row else None, : 1 if column else None]


class _Borders(torch.autograd.Function):
    """As slices, but the borders' gradients are added where they belong, into the gradient
    that the convolution of the images has just made and nobody else holds, instead of being
    padded to the full size.
    """

    @staticmethod
    def forward(ctx, images):
        return images.view_as(images), *(
            _border(images, *borders).clone() for borders in _BORDERS[1:]
        )

    @staticmethod
    def backward(ctx, grad, *of_borders):
        for borders, part in zip(_BORDERS[1:], of_borders, strict=True):
            _border(grad, *borders).add_(part)
        return grad
