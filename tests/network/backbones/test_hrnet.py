# SPDX-License-Identifier: Apache-2.0
"""HRNet: what it announces, and recomputation in the backward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from network.backbones.hrnet import HRNet
from tests.network.tiny import enliven, picture, tiny_net


@pytest.mark.parametrize("size", [(64, 96), (33, 61)])
def test_maps_have_the_announced_channels_and_strides(size: tuple[int, int]) -> None:
    trunk = HRNet(4, modules=(1, 1, 1), blocks=1).eval()
    maps = trunk(picture(*size))
    want = [
        (1, width, -(-size[0] // stride), -(-size[1] // stride))
        for width, stride in zip(trunk.channels, trunk.strides, strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == want


def test_depth_follows_the_options() -> None:
    trunk = HRNet(4, modules=(2, 3, 1), blocks=2)
    assert [len(stage) for stage in (trunk.stage2, trunk.stage3, trunk.stage4)] == [2, 3, 1]
    assert len(trunk.stage4[0].branches[3]) == 2


def _step(net: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients and buffers after one training forward and backward."""
    torch.manual_seed(3)
    outputs = net.train()(picture(64, 64, batch=2))
    sum(value.pow(2).mean() for value in outputs.values()).backward()
    grads = {name: item.grad for name, item in net.named_parameters()}
    return grads | dict(net.named_buffers())


@pytest.mark.parametrize("arch", ["ocrnet.HRNet", "ocrnet.HRNet_Mscale"])
def test_recomputation_changes_neither_gradients_nor_batch_norm_statistics(arch: str) -> None:
    net = tiny_net(arch)
    recomputing = copy.deepcopy(net)
    recomputing.trunk.grad_ckpt = True
    want, got = _step(net), _step(recomputing)
    for name, value in want.items():
        assert torch.equal(got[name], value), name


def test_recomputation_holds_fewer_tensors_for_the_backward_pass() -> None:
    def saved_elements(grad_ckpt: bool) -> int:
        trunk = HRNet(4, modules=(1, 2, 2), blocks=2, grad_ckpt=grad_ckpt)
        enliven(trunk)
        sizes: list[int] = []

        def pack(x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            trunk.train()(picture(64, 64, batch=2))
        return sum(sizes)

    assert saved_elements(True) < 0.5 * saved_elements(False)


def test_frozen_batch_norms_stay_frozen_under_recomputation() -> None:
    trunk = HRNet(4, modules=(1, 1, 1), blocks=1, grad_ckpt=True)
    enliven(trunk)
    trunk.train()
    for module in trunk.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    before = {name: value.clone() for name, value in trunk.named_buffers()}
    sum(x.sum() for x in trunk(picture())).backward()
    assert all(torch.equal(value, before[name]) for name, value in trunk.named_buffers())
