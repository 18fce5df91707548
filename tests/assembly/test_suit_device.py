# SPDX-License-Identifier: Apache-2.0
"""Which memory format a network gets on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from assembly.network import suit_device
from tests.network.tiny import tiny_net

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("arch", "asked", "given"),
    [
        ("ocrnet.HRNet_Mscale", False, True),
        ("segformer.B0", False, False),
        ("segformer.B0", True, True),
    ],
)
def test_the_trunk_says_which_memory_format_a_cpu_gets(arch: str, asked: bool, given: bool) -> None:
    net = suit_device(tiny_net(arch), CPU, asked)
    kernels = [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]
    wide = next(kernel for kernel in kernels if min(kernel.shape) > 1)
    assert wide.is_contiguous(memory_format=torch.channels_last) == given


@pytest.mark.slow
def test_a_network_predicts_the_same_in_both_formats() -> None:
    net = tiny_net().eval()
    image = torch.randn(1, 3, 96, 160)
    with torch.no_grad():
        want = net(image)["pred"]
        got = suit_device(net, CPU)(image)["pred"]
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
