"""Views of a clip: its mirror image, and the strong view, which changes colors and
sharpness and no geometry.

A strong view draws other numbers for every clip, the same for all frames of it. Color
changes are linear, so a clip's are one 3x3 matrix and an offset, and the whole batch is one
product on the device.
"""

import math

import torch
import torch.nn.functional as F

LUMA = (0.2989, 0.587, 0.114)  # of torchvision's gray
TO_YIQ = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
FROM_YIQ = torch.linalg.inv(TO_YIQ)
BRIGHTNESS = CONTRAST = SATURATION = (0.6, 1.4)
HUE = 36.0  # degrees to either side
GRAY, BLUR = 0.2, 0.5  # how often
SIGMA = (0.1, 2.0)  # of the blur, pixels
BLUR_SIDE = 9  # of its kernel


def mirrored(x):
    """x flipped left to right; (..., W)."""
    return x.flip(-1)


def strong_view(frames):
    """uint8 or float frames (B,T,3,H,W) in 0…255 -> float of the same shape and range,
    strongly changed.

    Brightness, contrast, saturation, hue, for some clips gray, for some a blur. Uses
    torch's generator of the device.
    """
    count, device = len(frames), frames.device

    def draw(low, high):
        return torch.empty(count, device=device).uniform_(low, high)

    saturation = draw(*SATURATION) * (torch.rand(count, device=device) >= GRAY)
    x = color(frames.float(), draw(*BRIGHTNESS), draw(*CONTRAST), saturation, draw(-HUE, HUE))
    blurred = (torch.rand(count, device=device) < BLUR)[:, None, None, None, None]
    return torch.where(blurred, blur(x, draw(*SIGMA)), x)


def color(x, brightness, contrast, saturation, hue):
    """Colors of clips x (B,T,3,H,W) in 0…255 changed by factors (B,) and hue angles (B,)
    in degrees.

    Brightness, then contrast (about the clip's mean gray), then saturation (about each
    pixel's gray; 0 is gray) are torchvision's adjust_*; hue turns the chrominance plane of
    YIQ, which leaves every pixel's luma as it is.
    """
    luma = x.new_tensor(LUMA)
    x = (x * _wide(brightness)).clamp(0, 255)
    mean = torch.einsum("btchw,c->b", x, luma) / (x.shape[1] * x.shape[3] * x.shape[4])
    x = (x * _wide(contrast) + _wide((1 - contrast) * mean)).clamp(0, 255)
    gray = luma.expand(3, 3)  # every row gives the luma
    eye = torch.eye(3, device=x.device)
    saturate = saturation[:, None, None] * eye + (1 - saturation)[:, None, None] * gray
    x = torch.einsum("bij,btjhw->btihw", _hue_matrix(hue) @ saturate, x)
    return x.clamp(0, 255)


def _hue_matrix(degrees):
    """(B,3,3): to YIQ, turn I and Q, and back."""
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).unflatten(
        1, (3, 3)
    )
    return FROM_YIQ.to(turn.device) @ turn @ TO_YIQ.to(turn.device)


def blur(x, sigma):
    """Gaussian blur of clips x (B,T,3,H,W), sigma (B,) pixels, as torchvision's
    gaussian_blur with a kernel of 9.
    """
    at = torch.arange(BLUR_SIDE, device=x.device) - BLUR_SIDE // 2
    kernel = torch.exp(-(at**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]  # (B, 1, side)
    rows = x.flatten(1, 2).transpose(0, 1)  # (T*3, B, H, W)
    rows = F.pad(rows, [BLUR_SIDE // 2] * 4, mode="reflect")
    rows = F.conv2d(rows, kernel[:, :, None], groups=len(x))
    rows = F.conv2d(rows, kernel[:, :, :, None], groups=len(x))
    return rows.transpose(0, 1).unflatten(1, x.shape[1:3])


def _wide(factor):
    return factor[:, None, None, None, None]
