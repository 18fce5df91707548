# SPDX-License-Identifier: Apache-2.0
"""The copy of a network that only predicts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from network.build import build_net
from network.inference import compiled, prepare_for_inference
from tests.network.tiny import TINY, enliven, picture, tiny_net

ROOT = Path(__file__).resolve().parents[2]


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


class SecondReader(nn.Module):
    """A network that reads the output of a convolution both before and after its batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.conv(images)
        return {"pred": x + self.bn(x)}


def test_a_network_that_can_not_be_folded_is_noticed() -> None:
    net = SecondReader()
    enliven(net)
    with pytest.raises(AssertionError, match="answers differently"):
        prepare_for_inference(net)


class Sizes(TorchDispatchMode):
    """Notes each new tensor of at least `least` channels and `size` pixels a side."""

    def __init__(self, least: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.least, self.size, self.found = least, size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dim() == 4 and not result._is_view():
            channels, *size = result.shape[1:]
            self.found += channels >= self.least and all(
                side >= full for side, full in zip(size, self.size, strict=True)
            )
        return result


@pytest.mark.parametrize("prepared", [False, True])
def test_inference_makes_one_full_size_score_map_however_many_scales(prepared: bool) -> None:
    net = build_net(
        "ocrnet.HRNet_Mscale", 9, **TINY, segattn_bot_ch=8, n_scales=(0.5, 1.0, 1.9)
    ).eval()  # at 1.9 the stem's 64 channels at half the size stay below the size looked for
    net = prepare_for_inference(net) if prepared else net
    size = (160, 96)
    with torch.no_grad(), Sizes(9, size) as sizes:
        net(picture(*size))
    assert sizes.found == 1


@pytest.mark.slow
def test_compilation_changes_no_score_and_leaves_the_tiled_head_alone():
    net = prepare_for_inference(tiny_net("ocrnet.HRNet_Mscale"))
    images = picture(64, 96)
    with torch.no_grad():
        expected = net(images)["pred"]
        got = compiled(net, backend="eager")(images)["pred"]
    assert any(getattr(module, "is_eager", False) for module in net.modules())
    torch.testing.assert_close(got, expected)


def test_programs_start_without_the_compiler():
    modules = "sys, assembly.training, assembly.evaluation"
    code = f"import {modules}; print('torch._dynamo' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.stdout.strip() == "False", done.stderr
