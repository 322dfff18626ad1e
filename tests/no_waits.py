"""A pretended GPU, and a guard against code that makes the host wait for it.

    with pretended_cuda():
        detector = Detector(config).to("cuda")
        clip = torch.rand(2, 3, 8, 64, 64).to("cuda")
        with no_waits() as seen:
            detector(clip).logits.sum().backward()
    assert seen.operators["aten.convolution.default"] == 40

pretended_cuda(): tensors on "cuda" have a shape, a dtype and a device but no values (PyTorch's
FakeTensorMode); they need no card. Tensors on the CPU are real ones, as are NumPy's arrays. What
`.to("cpu", non_blocking=True)` gives is real as well, and all ones: its values are not known.
Autocast on "cuda" works. torch.cuda.* (events, streams, memory) does not.

no_waits(): inside it, what waits on a real card raises Wait, an AssertionError that names the
operator and the line of this repository that called it:

- float(x), bool(x), x.item(), x.tolist(), x.cpu(), `if x:`, torch.equal and their like;
- copies host -> device that block: torch.tensor(…, device="cuda"), x.to("cuda"), x[0, 0] = 1.0,
  and indices that lie on the CPU, x[[0, 1]] among them. With non_blocking=True they pass up to
  64 KiB, which the driver stages at once, and beyond that from pinned memory alone;
- results whose shape depends on values: nonzero, boolean indexing, unique, bincount ...

It gives a Seen: `operators`, a Counter of the operators that ran on the card (views are left out:
they launch nothing), and `copies`, one line for each copy host -> device that passed.

A `with no_waits(raises=False) as seen` goes on after a wait and lists it in `seen.waits`, as long
as that can be done (a value that nobody has cannot be read).
"""

import contextlib
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

ROOT = Path(__file__).resolve().parent.parent
STAGED = 2**16  # bytes: a copy from pageable memory that does not wait, CUDA's API reference
aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
# of the card's values, though the fake tensors do not say so
READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.bincount.default,
}
INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}


class Wait(AssertionError):
    """The host would wait for the card."""


@dataclass
class Seen:
    """What ran inside no_waits()."""

    operators: Counter = field(default_factory=Counter)  # name -> calls on the card
    copies: list = field(default_factory=list)  # host -> device, that do not wait
    waits: list = field(default_factory=list)  # with raises=False


class _Card(TorchDispatchMode):
    """Runs what touches "cuda" on fake tensors and all else as it is."""

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.watch, self.raises = None, True
        self.pinned = set()  # storages

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)]
        if func is aten.is_pinned.default and not isinstance(args[0], FakeTensor):
            return _storage(args[0]) in self.pinned
        if func is aten._pin_memory.default and not isinstance(args[0], FakeTensor):
            with unset_fake_temporarily():
                copy = args[0].clone()
            self.pinned.add(_storage(copy))
            return copy
        wanted = kwargs.get("device")
        if not _on_cuda(wanted) and not any(isinstance(x, FakeTensor) for x in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if self.watch is not None:
            self._look(func, args, kwargs, tensors)
        home = func in COPIES and wanted is not None and not _on_cuda(wanted)
        if home or (func is aten.copy_.default and not isinstance(args[0], FakeTensor)):
            return _ones(func, args, kwargs)
        try:
            return func(*self._faked(args), **self._faked(kwargs))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise Wait(_told(func, "needs values of the card")) from error

    def _faked(self, tree):
        return tree_map_only(torch.Tensor, self._fake_of, tree)

    def _fake_of(self, x):
        if isinstance(x, FakeTensor):
            return x
        with unset_fake_temporarily():
            return self.fake.from_tensor(x)

    def _look(self, func, args, kwargs, tensors):
        """Note the operator; raise Wait where it waits."""
        why = self._waits(func, args, kwargs, tensors)
        if why is not None:
            if self.raises:
                raise Wait(_told(func, why))
            self.watch.waits.append(_told(func, why))
        elif func in COPIES and not _from_cuda(func, args):
            self.watch.copies.append(_told(func, "copies to the card"))
        if not func.is_view and func.namespace != "prim":
            self.watch.operators[str(func)] += 1

    def _waits(self, func, args, kwargs, tensors):
        if func in READS and any(x.is_cuda for x in tensors):
            return "reads a value of the card"
        if func in INDEXING and args[0].is_cuda:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                return "indexes by a boolean mask"
            if any(not index.is_cuda for index in indices):
                return "copies its indices from the host to the card"
        if func not in COPIES:
            return None
        if func is aten.copy_.default:
            into, source = args[:2]
            blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking"))
            to_cuda = into.is_cuda
        else:
            source, blocking = args[0], not kwargs.get("non_blocking")
            to_cuda = _on_cuda(kwargs.get("device", source.device))
        if source.is_cuda == to_cuda:
            return None
        if not to_cuda:
            if func is aten.copy_.default and _storage(args[0]) not in self.pinned:
                return "copies from the card to pageable memory"
            return "copies from the card to the host" if blocking else None
        if blocking:
            return "copies from the host to the card, and waits for it"
        if source.nbytes > STAGED and _storage(source) not in self.pinned:
            return f"copies {source.nbytes} bytes of pageable memory to the card"
        return None


def _storage(x):
    return x.untyped_storage()._cdata


def _on_cuda(device):
    return device is not None and torch.device(device).type == "cuda"


def _from_cuda(func, args):
    return args[1 if func is aten.copy_.default else 0].is_cuda


def _ones(func, args, kwargs):
    """The copy on the host of what has no values."""
    with unset_fake_temporarily():
        if func is aten.copy_.default:
            return args[0].fill_(1)
        return torch.ones(tuple(args[0].shape), dtype=kwargs.get("dtype") or args[0].dtype)


def _told(func, why):
    return f"{func} {why}, called by {_caller()}"


def _caller():
    """file:line of the innermost frame that is code of this repository."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if "site-packages" not in path and path != __file__ and path.startswith(str(ROOT)):
            return f"{Path(path).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "nobody of this repository"


def _run_backward(outputs, grads, retain_graph, create_graph, inputs=(), *_, **more):
    """What autograd's engine does, on this thread. The engine itself asks for the streams of
    the card. Hooks are not called.
    """
    wanted = {_edge(x): place for place, x in enumerate(inputs)}
    found = [None] * len(inputs)
    waiting = _consumers([_edge(x)[0] for x in outputs])
    arrived = {}  # node -> {number of its output: gradient}
    for x, grad in zip(outputs, grads, strict=True):
        _arrive(arrived, _edge(x), grad)
    ready = [node for node in arrived if waiting[node] == 0]
    with torch.set_grad_enabled(create_graph):
        while ready:
            node = ready.pop()
            given = arrived.pop(node, {})
            for number, grad in given.items():
                if (node, number) in wanted:
                    found[wanted[node, number]] = grad
            of_inputs = [None] * len(node.next_functions)
            if given:
                of_inputs = _apply(node, given, accumulate=not inputs)
            for edge, grad in zip(node.next_functions, of_inputs, strict=True):
                if edge[0] is None:
                    continue
                if grad is not None:
                    _arrive(arrived, edge, grad)
                waiting[edge[0]] -= 1
                if waiting[edge[0]] == 0:
                    ready.append(edge[0])
    return tuple(found)


def _edge(x):
    """(node, number of its output) that a tensor comes from."""
    edge = torch.autograd.graph.get_gradient_edge(x)
    return edge.node, edge.output_nr


def _consumers(roots):
    """How many edges lead to each node."""
    counts, seen, left = Counter(), set(), list(roots)
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        for following, _ in node.next_functions:
            if following is not None:
                counts[following] += 1
                left.append(following)
    return counts


def _arrive(arrived, edge, grad):
    node, number = edge
    of = node._input_metadata[number]
    given = arrived.setdefault(node, {})
    if grad.shape != tuple(of.shape):
        grad = grad.sum_to_size(tuple(of.shape))
    if grad.dtype != of.dtype:
        grad = grad.to(of.dtype)
    given[number] = grad if number not in given else given[number] + grad


def _apply(node, given, accumulate):
    """Gradients of a node's inputs from those of its outputs."""
    if hasattr(node, "variable"):
        x, grad = node.variable, given[0]
        if accumulate:
            x.grad = grad.detach() if x.grad is None else x.grad + grad
        return []
    metadata = node._input_metadata
    grads = [given.get(number) for number in range(len(metadata))]
    if not hasattr(node, "apply"):
        out = node(*grads)
        return out if isinstance(out, tuple) else (out,)
    # an autograd.Function: no gradient is zeros to it, and it gives one for each argument
    for number, of in enumerate(metadata):
        if grads[number] is None:
            grads[number] = torch.zeros(tuple(of.shape), dtype=of.dtype, device=of.device)
    out = node.apply(*grads)
    out = out if isinstance(out, tuple) else (out,)
    asked = iter(grad for grad, need in zip(out, node.needs_input_grad, strict=True) if need)
    return [None if edge[0] is None else next(asked) for edge in node.next_functions]


_cards = []  # the innermost last


@contextlib.contextmanager
def pretended_cuda():
    """Inside it "cuda" is a device whose tensors have no values."""
    card = _Card()
    with contextlib.ExitStack() as stack:
        # else autocast is turned off where there is no card
        never = mock.Mock(return_value=False)
        stack.enter_context(
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", never)
        )
        always = mock.Mock(return_value=True)
        stack.enter_context(mock.patch("torch.cuda.is_bf16_supported", always))
        # else the engine would ask for the card's streams
        stack.enter_context(mock.patch("torch.autograd._engine_run_backward", _run_backward))
        stack.enter_context(
            mock.patch("torch.autograd.graph._engine_run_backward", _run_backward)
        )
        stack.enter_context(card.fake)  # below the card, which gets every operator first
        stack.enter_context(card)
        _cards.append(card)
        stack.callback(_cards.pop)
        yield


@contextlib.contextmanager
def no_waits(raises=True):
    """Inside pretended_cuda(): raise Wait at the first operator that waits -> Seen."""
    if not _cards:
        raise RuntimeError("no_waits() stands inside pretended_cuda()")
    card = _cards[-1]
    before = card.watch, card.raises
    card.watch, card.raises = Seen(), raises
    try:
        yield card.watch
    finally:
        card.watch, card.raises = before
