# SPDX-License-Identifier: Apache-2.0
"""1x1 convolutions give the same whoever computes them, and only those of every pixel change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from assembly.network import suit_device
from network.ops.pixel_conv import PixelConv, use_pixel_convs
from tests.network.tiny import tiny_net

CPU = torch.device("cpu")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("size", [(1, 8, 5, 6), (2, 8, 5, 6), (1, 8, 60, 61), (3, 8, 1, 1)])
def test_values_and_gradients_are_those_of_torch(
    size: tuple[int, ...], groups: int, layout: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 12, 1, groups=groups).to(memory_format=layout)
    ours = nn.Sequential(copy.deepcopy(plain))
    use_pixel_convs(ours)
    assert isinstance(ours[0], PixelConv)
    image = torch.randn(size).to(memory_format=layout)
    results = []
    for layer in (plain, ours[0]):
        leaf = image.clone().requires_grad_()
        out = layer(leaf)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append((out, leaf.grad, layer.weight.grad, layer.bias.grad))
    for want, got in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_other_number_formats_go_the_usual_way() -> None:
    net = nn.Sequential(nn.Conv2d(8, 4, 1))
    want = copy.deepcopy(net)
    use_pixel_convs(net)
    image = torch.randn(2, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(image), want(image))
    assert torch.equal(net.double()(image.double()), want.double()(image.double()))


def test_only_convolutions_of_single_pixels_change() -> None:
    others = [
        nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1, padding=1),
        nn.ConvTranspose2d(4, 4, 1), nn.Conv1d(4, 4, 1),
    ]  # fmt: skip
    net = nn.ModuleList([*others, nn.Conv2d(4, 4, 1)])
    names = list(net.state_dict())
    use_pixel_convs(net)
    assert [isinstance(layer, PixelConv) for layer in net] == [False] * len(others) + [True]
    assert list(net.state_dict()) == names


@pytest.mark.parametrize(
    ("arch", "asked", "given"),
    [
        ("ocrnet.HRNet_Mscale", False, True),
        ("deepv3.DeepV3PlusR50", False, False),
        ("deepv3.DeepV3PlusR50", True, True),
    ],
)
def test_the_trunk_says_which_memory_format_a_cpu_gets(arch: str, asked: bool, given: bool) -> None:
    net = suit_device(tiny_net(arch), CPU, asked)
    kernel = next(m.weight for m in net.modules() if isinstance(m, nn.Conv2d) and m.stride[0] == 2)
    assert kernel.is_contiguous(memory_format=torch.channels_last) == given
    assert any(isinstance(module, PixelConv) for module in net.modules())


@pytest.mark.slow
def test_a_network_predicts_the_same_on_every_path() -> None:
    net = tiny_net().eval()
    image = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        want = net(image)["pred"]
        got = suit_device(net, CPU)(image)["pred"]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
