# SPDX-License-Identifier: Apache-2.0
"""The trunks of the DeepLab family: sizes, dilation, published names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from network.backbones.deeplab_trunks import TRUNKS, make_trunk
from network.backbones.efficientnet import EfficientNetB4
from network.backbones.resnet import ResNet
from network.backbones.three_maps import ThreeMaps
from network.backbones.xception import Unit
from tests.network.tiny import TINY_TRUNKS, enliven, picture

SMALL: dict[str, Callable[..., ThreeMaps]] = {**TINY_TRUNKS, "efficientnet-b4": EfficientNetB4}


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"resnet-101", "seresnext-101"}))
@torch.inference_mode()
def test_maps_have_the_announced_channels_and_strides_at_any_size(name: str) -> None:
    trunk = SMALL[name]().eval()
    # The pool of SE-ResNeXt, without padding, loses a pixel at some odd sizes.
    height, width = (48, 64) if name.startswith("seresnext") else (45, 66)
    maps = trunk(picture(height, width))
    assert tuple(x.shape[1] for x in maps) == trunk.channels
    for x, stride in zip(maps, trunk.strides, strict=True):
        assert tuple(x.shape[2:]) == (-(-height // stride), -(-width // stride))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet-50", 23_508_032),
        ("resnet-101", 42_500_160),
        ("seresnext-50", 25_510_896),
        ("seresnext-101", 46_906_416),
        ("efficientnet-b4", 16_742_216),
    ],
)
def test_parameter_counts(name: str, count: int) -> None:
    with torch.device("meta"):
        trunk = make_trunk(name)
    assert sum(item.numel() for item in trunk.parameters()) == count


def test_every_trunk_is_known_by_its_published_name() -> None:
    assert set(TRUNKS) == set(SMALL)


def dilations(stage: nn.Module) -> set[tuple[int, int]]:
    """(dilation, stride) of all kernels above 1x1."""
    convs = [m for m in stage.modules() if isinstance(m, nn.Conv2d) and m.kernel_size != (1, 1)]
    return {(each.dilation[0], each.stride[0]) for each in convs}


@pytest.mark.parametrize("name", ["resnet-50", "seresnext-50"])
def test_all_3x3_of_a_dilated_stage_have_its_dilation(name: str) -> None:
    with torch.device("meta"):
        trunk = make_trunk(name)
    assert dilations(trunk.layer3) == {(2, 1)}
    assert dilations(trunk.layer4) == {(4, 1)}


def test_efficientnet_has_stride_8() -> None:
    with torch.device("meta"):
        features = make_trunk("efficientnet-b4").features
    assert dilations(features[3:4]) == {(1, 1), (1, 2)}
    assert dilations(features[4:6]) == {(2, 1)}
    assert dilations(features[6:8]) == {(4, 1)}


@torch.inference_mode()
def test_the_shortcut_of_an_xception_unit_sees_the_rectified_input() -> None:
    unit = Unit(4, 4).eval()
    image = picture(8, 8)
    x = torch.cat([image, image[:, :1]], dim=1)
    kept = x.clone()
    torch.testing.assert_close(unit(x), unit(x.relu()))
    assert torch.equal(x, kept), "the input belongs to the caller"


@pytest.mark.parametrize("name", ["resnet-50", "wrn38", "xception71"])
def test_recomputed_stages_give_the_same_gradients(name: str) -> None:
    grads = []
    for grad_ckpt in (False, True):
        torch.manual_seed(0)
        trunk = SMALL[name](grad_ckpt=grad_ckpt)
        enliven(trunk)
        for module in trunk.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
        trunk.train()(picture(32, 32, batch=2))[-1].square().mean().backward()
        grads.append({key: item.grad for key, item in trunk.named_parameters()})
    torch.testing.assert_close(grads[0], grads[1])


def test_resnet_is_torchvisions_but_for_stride_and_dilation() -> None:
    trunk = ResNet(blocks=(1, 1, 1, 1))
    assert {key.split(".")[0] for key in trunk.state_dict()} == {f"layer{n}" for n in range(5)}
    assert trunk.layer4[0].downsample[0].stride == (1, 1)
