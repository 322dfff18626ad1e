import torch
import torch.nn.functional as F

from claus.losses.cross_entropy import binary_cross_entropy


def logits_and_targets():
    made = torch.Generator().manual_seed(0)
    logits = torch.cat([torch.linspace(-120, 120, 4001), 5 * torch.randn(4000, generator=made)])
    return logits, torch.rand(len(logits), generator=made)


def test_it_is_the_binary_cross_entropy():
    logits, target = logits_and_targets()
    exact = F.binary_cross_entropy_with_logits(
        logits.double(), target.double(), reduction="none"
    )
    found = binary_cross_entropy(logits, target)
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=4e-6)
    small = logits.abs() < 10  # where t·x is rounded as finely
    torch.testing.assert_close(found.double()[small], exact[small], rtol=0, atol=1e-6)


def test_its_gradient():
    logits, target = logits_and_targets()
    logits.requires_grad_()
    weight = torch.rand(len(logits), generator=torch.Generator().manual_seed(1))
    (weight * binary_cross_entropy(logits, target)).sum().backward()
    found, logits.grad = logits.grad, None
    error = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    (weight * error).sum().backward()
    torch.testing.assert_close(found, logits.grad)
