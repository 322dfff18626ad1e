"""The decoder's last two layers as one: upsample4 -> channel dropout -> smooth is linear, so it is computed as such.

Per axis, upsample4 (transposed convolution, kernel 3, stride 2, padding 1) sends input i by tap p to j = 2i + p - 1,
and smooth (transposed, kernel 3, padding 1) sends j through tap q to o = j + q - 1. Together o = 2i + k - 2 with
k = p + q in 0…4: a transposed convolution 128 -> 1 of kernel 5³, stride 2, with the kernel

    K_b[c, k] = Σ_{p+q=k} Σ_m upsample4[c, m, p] · mask[b, m] · smooth[m, q]

per sample b and dropout mask: one GEMM (125 x 128 by 128 x places) and a fold, instead of a 128-channel tensor at full
resolution. upsample4's own output starts at j = 0, so what its tap p = 0 would send from i = 0 to j = -1 must not be
passed on; smooth's q = 2 would bring it to o = 0. Its share is taken away by inclusion and exclusion over the axes at
whose low border a place lies: Σ_{S ⊆ axes} (-1)^|S| E_S x[i = 0 on S], E_S being K with p = 0, q = 2 on the axes S.
upsample4's bias gives a map that is constant but for the outermost rows. All of it is exact, and differentiable.
"""

import itertools

import torch

TAPS = 3


def fused_tail(x, up, smooth, mask=None):
    """smooth(mask · up(x)) for the transposed convolutions `up` and `smooth`. x (B,C,T,H,W) -> (B,1,2T,2H,2W).

    mask: (R,M) factors on the channels between the two, or None; one clip (B = 1) may meet R masks.
    """
    batch = len(x) if mask is None else max(len(x), len(mask))
    with torch.autocast(x.device.type, enabled=False):
        between = smooth.weight[:, 0]                                            # (M, 3, 3, 3)
        weights = between[None] if mask is None else mask.to(between.dtype)[:, :, None, None, None] * between
        products = _products(up.weight, weights)                                 # (b, C, p: 3,3,3, q: 3,3,3)
        kernels = {borders: _composite(products, borders) for borders in itertools.product((False, True), repeat=3)}
        bias = _bias_map(up.bias, weights, x.shape[2:]) + smooth.bias            # (b, 2T, 2H, 2W)
    columns = None
    for borders, kernel in kernels.items():
        part = x[(..., *(slice(0, 1) if at else slice(None) for at in borders))]
        share = _multiply(kernel, part, batch)
        if columns is None:
            columns = share                                                      # (B, 5, 5, 5, T, H, W)
        else:
            place = (..., *(slice(2, 3) if at else slice(None) for at in borders),
                     *(slice(0, 1) if at else slice(None) for at in borders))
            columns[place] += (-1) ** sum(borders) * share
    for _ in range(3):
        columns = _fold(columns)
    return (columns + bias.to(columns.dtype))[:, None]


def _products(up, weights):
    """Σ_m up[c,m,p] · weights[b,m,q]: (C,M,3,3,3), (b,M,3,3,3) -> (b,C,3,3,3,3,3,3)."""
    left = up.flatten(2).transpose(1, 2).flatten(0, 1)                           # (C*27, M)
    return (left @ weights.flatten(2)).view(len(weights), len(up), *[TAPS] * 6)


def _composite(products, borders):
    """Sum the products with p + q = k, axis by axis; on a border axis only p = 0, q = 2. -> (b, C, k_t, k_h, k_w)."""
    for axis, at_border in enumerate(borders):
        p, q = 2 + axis, 5                                                       # this axis' p, its q always comes next
        if at_border:
            products = products.narrow(q, 2, 1).narrow(p, 0, 1).squeeze(q)
        else:
            size = [products.shape[d] for d in range(products.dim()) if d not in (p, q)]
            k = products.new_zeros(*size[:p], 2 * TAPS - 1, *size[p:])
            for tap in range(TAPS):
                k.narrow(p, tap, TAPS).add_(products.select(p, tap).movedim(q - 1, p))
            products = k
    return products


def _multiply(kernel, x, batch):
    """GEMM over the channels: (b,C,k…) and (b',C,T,H,W) -> (B, k_t, k_h, k_w, T, H, W)."""
    taps, size = kernel.shape[2:], x.shape[2:]
    left = kernel.flatten(2).transpose(1, 2).expand(batch, -1, -1)
    return torch.bmm(left.to(x.dtype), x.flatten(2).expand(batch, -1, -1)).view(batch, *taps, *size)


def _fold(columns):
    """Fold the first tap axis left into its place axis: (B,5,5,5,T,H,W) -> (B,5,5,2T,H,W) -> … -> (B,2T,2H,2W).

    Output 2m gets taps 0, 2, 4 of inputs m+1, m, m-1; output 2m+1 gets taps 1, 3 of m+1, m.
    """
    place = 3                                                                    # of the axis whose tap is gone
    even, odd = columns[:, 2].clone(), columns[:, 3].clone()
    n = even.shape[place]
    even.narrow(place, 0, n - 1).add_(columns[:, 0].narrow(place, 1, n - 1))
    even.narrow(place, 1, n - 1).add_(columns[:, 4].narrow(place, 0, n - 1))
    odd.narrow(place, 0, n - 1).add_(columns[:, 1].narrow(place, 1, n - 1))
    return torch.stack([even, odd], dim=place + 1).flatten(place, place + 1)


def _bias_map(bias, weights, size):
    """What up's bias gives after the mask and smooth: (M,), (b,M,3,3,3) -> (b,2T,2H,2W); taps that miss left out."""
    response = (bias[:, None, None, None] * weights).sum(1)                      # (b, q_t, q_h, q_w)
    for n in size:
        reaches = response.new_ones(2 * n, TAPS)
        reaches[0, 2] = reaches[-1, 0] = 0                                       # o - q + 1 lies in 0 … 2n-1
        response = (response.movedim(1, -1) @ reaches.T)
    return response
