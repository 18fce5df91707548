# SPDX-License-Identifier: Apache-2.0
"""1x1 products by oneDNN: the same numbers and weights, by the library that is wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from network.ops import onednn
from network.ops.onednn import prefer_onednn

SLOW = "aten::_slow_conv2d_forward"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch's choice depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Tokens(nn.Module):
    """A map through 1x1 and 3x3 convolutions, then its pixels through linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, padding=1))
        self.strided = nn.Conv2d(24, 16, 1, stride=2, padding=1, groups=2)
        self.tokens = nn.Sequential(nn.Linear(16, 40), nn.GELU(), nn.Linear(40, 5, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(self.strided(self.maps(images)).permute(0, 2, 3, 1))


def answers(net: nn.Module) -> list[Tensor]:
    """Output and gradients for an image of odd sizes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 37, 29, generator=generator)
    output = net(images.contiguous(memory_format=torch.channels_last))
    net.zero_grad()
    output.square().mean().backward()
    return [output.detach(), *(each.grad for each in net.parameters() if each.grad is not None)]


def called(net: nn.Module, inputs: Tensor) -> set[str]:
    """Names of PyTorch's functions behind one pass."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        net(inputs)
    return {event.key for event in seen.key_averages()}


def test_outputs_gradients_and_keys_stay(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "LEAST", 0)
    torch.manual_seed(0)
    net = Tokens().to(memory_format=torch.channels_last)
    want, state = answers(net), net.state_dict()
    ours = prefer_onednn(net)
    assert [type(each) for each in ours.get_submodule("tokens").children()] == [
        onednn.Linear,
        nn.GELU,
        onednn.Linear,
    ]
    assert {key: value.data_ptr() for key, value in ours.state_dict().items()} == {
        key: value.data_ptr() for key, value in state.items()
    }
    for one, two in zip(want, answers(ours), strict=True):
        torch.testing.assert_close(one, two)


def test_one_thread_computes_1x1_products_by_onednn(one_thread: None) -> None:
    net = nn.Conv2d(64, 64, 1).to(memory_format=torch.channels_last)
    images = torch.randn(1, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    assert SLOW in called(net, images)  # else PyTorch chooses better now, and the detour can go
    found = called(prefer_onednn(net), images)
    assert SLOW not in found and "aten::mkldnn_convolution" in found


def test_a_small_call_takes_the_short_way() -> None:
    ours = prefer_onednn(nn.Sequential(nn.Linear(8, 4)))
    assert not any("conv" in name for name in called(ours, torch.zeros(2, 8)))
