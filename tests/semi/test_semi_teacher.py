"""The averaged teacher, and the U-Net that corrects masks."""

import copy

import pytest
import torch
from semi_tools import tiny_detector
from torch import nn

from claus.semi.teacher import Teacher, teach
from claus.semi.unet3d import UNet3D


def test_the_teacher_is_the_exponential_average_it_claims_to_be():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    teacher = Teacher(network, 0.9)
    expected = {
        name: value.detach().clone() for name, value in network.named_parameters()
    }  # it begins there
    for _ in range(5):
        network(torch.randn(8, 3))  # batch norm moves its averages
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        teacher.follow(network)
        for name, value in network.named_parameters():
            expected[name] = 0.9 * expected[name] + 0.1 * value.detach()
    for name, value in teacher.module.named_parameters():
        torch.testing.assert_close(value, expected[name])
        assert not value.requires_grad
    for (name, own), theirs in zip(
        network.named_buffers(), teacher.module.buffers(), strict=True
    ):
        assert torch.equal(own, theirs), name


def test_its_decay_is_ninety_nine_hundredths():
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    teacher = Teacher(network)
    nn.init.ones_(network.weight)
    for step in range(1, 4):
        teacher.follow(network)
        assert teacher.module.weight.item() == pytest.approx(1 - 0.99**step)


def test_a_restored_teacher_goes_on_as_before():
    network = nn.Linear(2, 2)
    teacher = Teacher(network)
    teacher.follow(nn.Linear(2, 2))
    restored = Teacher(nn.Linear(2, 2))
    restored.load_state_dict(copy.deepcopy(teacher.state_dict()))
    for each in (teacher, restored):
        each.follow(network)
    assert torch.equal(teacher.module.weight, restored.module.weight)


def test_teaching_has_no_dropout_and_no_gradient():
    detector = tiny_detector()
    clip = torch.randn(2, 3, 8, 32, 32)
    first, again = (teach(detector.train(), clip) for _ in range(2))
    assert torch.equal(first.logits, again.logits) and not first.logits.requires_grad
    assert not torch.equal(detector(clip).logits, detector(clip).logits)  # which training has


def test_teaching_passes_the_class_mask_on():
    detector, clip = tiny_detector().eval(), torch.randn(2, 3, 8, 32, 32)
    mask = torch.tensor([[1, 0, 0], [0, 1, 0]])
    assert torch.equal(teach(detector, clip, mask).logits, detector(clip, mask).logits)
    assert not torch.equal(teach(detector, clip, mask).logits, teach(detector, clip).logits)


@pytest.mark.parametrize("shape", [(2, 8, 64, 64), (1, 8, 28, 20), (1, 5, 9, 11)])
def test_unet_keeps_the_shape(shape):
    assert UNet3D()(torch.rand(shape)).shape == shape


def test_unet_has_four_levels_and_instance_norm():
    unet = UNet3D()
    assert [block[0].out_channels for block in unet.down] == [16, 32, 64, 128]
    assert [block[0].out_channels for block in unet.up] == [64, 32, 16]
    assert {type(layer) for layer in unet.modules()} >= {nn.InstanceNorm3d}
    clips = torch.rand(2, 8, 16, 16)  # no clip sees another one of its batch
    torch.testing.assert_close(unet(clips)[:1], unet(clips[:1]), atol=1e-5, rtol=1e-4)


def test_unet_learns_to_clean_a_mask():
    torch.manual_seed(0)
    unet = UNet3D((4, 8))
    optimizer = torch.optim.Adam(unet.parameters(), 1e-2)
    target = torch.zeros(4, 4, 16, 16)
    target[:, :, 4:12, 5:11] = 1
    losses = []
    for _ in range(30):
        noisy = (0.6 * target + 0.4 * torch.rand_like(target)).clamp(0, 1)
        loss = nn.functional.binary_cross_entropy_with_logits(unet(noisy), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
