"""The guard against waits: each kind of wait is caught where it is, and clean code passes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from no_waits import Wait, _run_backward, no_waits, pretended_cuda
from torch import nn

WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x.sum()),
    "bool": lambda x: bool(x.sum()),
    "if": lambda x: 1 if torch.isfinite(x).all() else 0,
    "tolist": lambda x: x.tolist(),
    "equal": lambda x: torch.equal(x, x),
    "cpu": lambda x: x.cpu(),
    "to cpu": lambda x: x.to("cpu"),
    "into pageable": lambda x: torch.empty(3, 4).copy_(x, non_blocking=True),
    "tensor": lambda x: torch.tensor([1.0, 2.0], device="cuda"),
    "scalar tensor": lambda x: torch.tensor(1.0, device="cuda"),
    "new_tensor": lambda x: x.new_tensor([1.0]),
    "to": lambda x: torch.tensor(3.0).to(x.device),
    "dtype and device": lambda x: torch.zeros(3).to(x),
    "as_tensor": lambda x: torch.as_tensor(np.ones(3), device="cuda"),
    "cuda": lambda x: torch.ones(2).to("cuda"),
    "large": lambda x: torch.zeros(2**15).to("cuda", non_blocking=True),
    "copy_": lambda x: x.copy_(torch.zeros(3, 4)),
    "one element": lambda x: x.__setitem__((0, 0), 1.0),
    "list of indices": lambda x: x[[0, 1]],
    "indices of the host": lambda x: x[torch.tensor([0, 1])],
    "nonzero": lambda x: x.nonzero(),
    "boolean": lambda x: x[x > 0],
    "boolean write": lambda x: x.__setitem__(x > 0, 0.0),
    "masked_select": lambda x: torch.masked_select(x, x > 0),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().flatten().bincount(),
    "in a backward pass": lambda x: _Waits.apply(x.requires_grad_()).sum().backward(),
}


class _Waits(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        return grad * float(grad.sum())


@pytest.mark.parametrize("kind", WAITS)
def test_each_wait_is_caught(kind):
    with pretended_cuda():
        x = torch.ones(3, 4, device="cuda")
        with no_waits(), pytest.raises(Wait, match=r"aten\S+ .* called by tests/test_no_waits"):
            WAITS[kind](x)


def test_what_does_not_wait_passes():
    with pretended_cuda():
        layer = nn.Conv2d(3, 4, 3).to("cuda")
        optimizer = torch.optim.Adam(layer.parameters(), fused=True)
        x = torch.ones(2, 3, 8, 8).to("cuda")
        large = torch.zeros(2**15).pin_memory()
        label = torch.zeros(2, dtype=torch.long, device="cuda")
        with no_waits() as seen:
            mask = torch.from_numpy(np.ones((2, 3), np.float32))
            mask = mask.to("cuda", non_blocking=True)
            large.to("cuda", non_blocking=True)
            y = layer(x * mask[:, :, None, None] + torch.tensor(2.0))
            y = torch.where(y > 0, y, y.new_full((), 0.5)).masked_fill(y > 3, 3.0)
            y[0] = 0.0
            F.one_hot(y.mean((2, 3)).argmax(1), 4)
            loss = F.cross_entropy(y.mean((2, 3)), label)
            loss.backward()
            optimizer.step()
            # real, of unknown value
            finite = torch.isfinite(loss).to("cpu", non_blocking=True)
        assert bool(finite)
        assert seen.operators["aten.convolution.default"] == 1
        assert seen.operators["aten.convolution_backward.default"] == 1
        assert not seen.operators["aten.view.default"]
        assert len(seen.copies) == 2 and "test_no_waits.py" in seen.copies[0]
        assert layer.weight.grad.is_cuda


def test_the_host_has_values_of_its_own():
    with pretended_cuda():
        torch.ones(3, device="cuda")
        with no_waits():
            assert (torch.arange(5)[[1, 2]] + 1).tolist() == [2, 3]
            assert float(torch.from_numpy(np.ones(3)).sum()) == 3
            assert torch.arange(4)[torch.arange(4) > 1].numpy().sum() == 5


def test_waits_can_be_listed():
    with pretended_cuda():
        x = torch.ones(3, 4, device="cuda")
        with no_waits(raises=False) as seen:
            torch.tensor([1.0], device="cuda")
            x[[0, 1]].cpu()
        assert len(seen.waits) == 3
        with pytest.raises(Wait):
            float(x.sum())


class _Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx, factor, x, y):
        ctx.factor = factor
        return factor * x + y, x * 5, y * 1

    @staticmethod
    def backward(ctx, of_sum, of_x, of_y):
        return None, ctx.factor * of_sum + 5 * of_x, of_sum + of_y


def test_its_backward_pass_is_that_of_autograd():
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(5, 4, requires_grad=True)
    first, second, _ = _Both.apply(3.0, layer(x), layer(x * 2).bfloat16().float())
    y = (first + second.unbind(1)[1][:, None]).relu().split(2)
    loss = (y[0].sum() + (y[2] ** 2).mean() + x.new_zeros(3, requires_grad=True).sum(),)
    ones = (torch.ones(()),)
    leaves = [*layer.parameters(), x]
    theirs = torch.autograd.grad(loss, [*leaves, second], retain_graph=True)
    ours = _run_backward(loss, ones, True, False, [*leaves, second])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    for _ in range(2):
        _run_backward(loss, ones, True, False)
    for leaf, b in zip(leaves, theirs, strict=False):
        torch.testing.assert_close(leaf.grad, 2 * b)


@pytest.mark.parametrize("amp", [True, False])
def test_autocast(amp):
    with pretended_cuda(), torch.autocast("cuda", torch.bfloat16, enabled=amp), no_waits():
        layer = nn.Linear(3, 4, device="cuda")
        y = layer(torch.ones(2, 3, device="cuda"))
        assert y.dtype == (torch.bfloat16 if amp else torch.float32)


def test_setup_is_not_watched():
    with pretended_cuda():
        assert torch.ones(3).to("cuda").cpu().sum() == 3
        torch.tensor([1.0, 2.0], device="cuda")
    assert torch.ones(2)[torch.ones(2) > 0].sum() == 2
    with pytest.raises(RuntimeError, match="stands inside"), no_waits():
        pass
