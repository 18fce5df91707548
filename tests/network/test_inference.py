# SPDX-License-Identifier: Apache-2.0
"""The copy of a network that only predicts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from network.inference import prepare_for_inference
from tests.network.tiny import picture, tiny_net


@pytest.mark.parametrize("arch", ["ocrnet.HRNet", "ocrnet.HRNet_Mscale", "ocrnet.HRNet18"])
@pytest.mark.parametrize("size", [(64, 96), (128, 64), (45, 67)])
@torch.inference_mode()
def test_the_prepared_copy_gives_the_same_outputs(arch: str, size: tuple[int, int]) -> None:
    options = {"n_scales": (0.5, 1.0, 2.0)} if arch.endswith("_Mscale") else {}
    net = tiny_net(arch, **options).eval()
    prepared = prepare_for_inference(net)
    image = picture(*size, batch=2)
    want, got = net(image, return_all=True), prepared(image, return_all=True)
    assert set(got) == set(want)
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=1e-4, atol=1e-4 * float(value.abs().max()))


def test_no_batch_norm_is_left_and_the_original_stays_as_it_was() -> None:
    net = tiny_net().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    prepared = prepare_for_inference(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    assert not prepared.training and net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.net.backbone.conv1.weight.requires_grad
