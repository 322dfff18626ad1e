"""What a piece of work must cost at the least, what the device can do at the most, and
where the time goes.
"""

import statistics
import time

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from claus.utils.markdown import table


def roofline(device, tiny=False):
    """(FLOP/s of a bf16 matrix product, bytes/s read and written by a copy) of this device,
    on random data.
    """
    n, size = (256, 2**20) if tiny else (8192, 2**31)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * n**3 / best(lambda: a @ b, device), 2 * size / best(
        lambda: target.copy_(source), device
    )


def best(function, device, rounds=10):
    """Median seconds of a call."""
    seconds = []
    for _ in range(rounds + 3):
        wait(device)
        began = time.perf_counter()
        function()
        wait(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[3:])


def wait(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


class Costs(TorchDispatchMode):
    """Counts of every operation that runs inside, backward too: (FLOP, bytes of its
    tensors, each once); no views.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    @classmethod
    def of(cls, function):
        with cls() as costs:
            function()
        return costs

    def __torch_dispatch__(self, func, types, inputs=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*inputs, **kwargs)
        packet = func._overloadpacket
        if not func.is_view:
            flop = (
                flop_registry[packet](*inputs, **kwargs, out_val=out)
                if packet in flop_registry
                else 0
            )
            self.operations.append((flop, _bytes((inputs, kwargs, out))))
        return out

    def seconds(self, flop_rate, byte_rate):
        """Least time: each operation bound by its arithmetic or by its traffic."""
        return sum(max(flop / flop_rate, size / byte_rate) for flop, size in self.operations)


def _bytes(tree):
    storages = {}
    for x in torch.utils._pytree.tree_leaves(tree):
        if isinstance(x, torch.Tensor):
            size = min(x.numel() * x.element_size(), x.untyped_storage().nbytes())
            storages[x.data_ptr()] = max(size, storages.get(x.data_ptr(), 0))
    return sum(storages.values())


def profile(function, cuda, most=15):
    """One call under the profiler -> (seconds of kernels, number of kernels, table of the
    longest operations).
    """
    from torch.profiler import ProfilerActivity

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        function()
        if cuda:
            torch.cuda.synchronize()
    kind = "CUDA" if cuda else "CPU"
    events = [event for event in profiler.key_averages() if event.device_type.name == kind]
    own = {
        event.key: (event.self_device_time_total if cuda else event.self_cpu_time_total)
        for event in events
    }
    total = sum(own.values())
    events.sort(key=lambda event: -own[event.key])
    rows = [
        [
            event.key.replace("|", "/")[:70],
            event.count,
            f"{own[event.key] / 1000:.2f}",
            f"{100 * own[event.key] / max(total, 1):.0f}%",
        ]
        for event in events[:most]
    ]
    return (
        total / 1e6,
        sum(event.count for event in events),
        table(["operation", "calls", "ms", "share"], rows),
    )
