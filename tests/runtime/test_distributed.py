# SPDX-License-Identifier: Apache-2.0
"""What one process can show of the processes of a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from network.backbones.mobile_stages import mobilenet_v2
from network.build import build_net
from runtime.distributed import keep_layouts
from tests.network.test_hrvit import tiny
from tests.network.tiny import picture

SHALLOW = {"stage_depths": (1, 1, 1, 1)}
DEPTHWISE: dict[str, Callable[[], nn.Module]] = {
    "hrvit": partial(tiny, "hrvit.b1_SegFormer"),
    "mit": partial(build_net, "segformer.B0", 3, **SHALLOW),
    "hila": partial(build_net, "hila.B0_S3_224", 3, **SHALLOW),
    "mobilenet": partial(mobilenet_v2, 16),
}


@pytest.mark.parametrize(
    ("family", "order"),
    [
        *((family, torch.contiguous_format) for family in sorted(DEPTHWISE)),
        ("mit", torch.channels_last),  # where kernels of 1x1 are the ambiguous ones
    ],
)
def test_gradients_have_the_layout_of_their_parameters(
    family: str, order: torch.memory_format
) -> None:
    torch.manual_seed(0)
    net = DEPTHWISE[family]().train().to(memory_format=order)
    images = picture(32, 32, batch=2).contiguous(memory_format=order)

    def gradients() -> dict[str, torch.Tensor]:
        net.zero_grad()
        torch.manual_seed(1)
        outputs = net(images)
        maps = outputs.values() if isinstance(outputs, dict) else outputs
        sum(value.pow(2).mean() for value in maps).backward()
        return {name: item.grad for name, item in net.named_parameters() if item.requires_grad}

    free = gradients()
    keep_layouts(net)
    for name, gradient in gradients().items():
        assert gradient.stride() == net.get_parameter(name).stride(), name
        assert torch.equal(gradient, free[name]), name
