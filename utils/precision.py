"""How exactly the network is computed, decided in one place.

    precision = Precision.of(settings)      # the flags of flags/common.py
    precision.take(device)                  # once, before the network runs
    with autocast(device, precision.amp):   # around each forward pass

The capsules and the losses are float32 whatever is set (models/capsules.py, losses/). A CPU
computes in float32 unless it is told otherwise.
"""

from dataclasses import dataclass, fields

import torch

_on_cpu = {"bf16": False}  # of this process


@dataclass(frozen=True)
class Precision:
    """What the flags say: float32 and the same bytes again, but for what is given up."""

    amp: bool = True  # convolutions and products in bfloat16, by autocast
    tf32: bool = False  # those that are left in float32: 10 bits of mantissa in place of 23
    cudnn_benchmark: bool = False  # algorithms by a race: rounding differs from run to run
    cpu_bf16: bool = False  # what amp is on a GPU

    @classmethod
    def of(cls, settings) -> "Precision":
        """Of any settings that have the fields of these names."""
        return cls(*(getattr(settings, field.name) for field in fields(cls)))

    def take(self, device: str | torch.device) -> "Precision":
        """Set PyTorch so, for all that follows in this process."""
        _on_cpu["bf16"] = self.cpu_bf16
        if _is_cuda(device):
            torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = self.cudnn_benchmark
            torch.backends.cudnn.deterministic = not self.cudnn_benchmark
        return self

    def name(self, device: str | torch.device) -> str:
        """ "float32", "tf32" or "bfloat16": what the convolutions are computed in there."""
        if not _is_cuda(device):
            return "bfloat16" if self.cpu_bf16 else "float32"
        return "bfloat16" if self.amp else "tf32" if self.tf32 else "float32"


def autocast(device: str | torch.device, enabled: bool = True) -> torch.autocast:
    """bf16 autocast on CUDA where it is enabled; on the CPU where Precision.take says so."""
    if _is_cuda(device):
        return torch.autocast("cuda", torch.bfloat16, enabled=enabled)
    return torch.autocast("cpu", torch.bfloat16, enabled=_on_cpu["bf16"])


def _is_cuda(device):
    return torch.device(device).type == "cuda"
