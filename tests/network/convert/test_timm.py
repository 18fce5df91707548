# SPDX-License-Identifier: Apache-2.0
"""Trunks of timm and torchvision give the same maps here, or are refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from config import UserError
from network.backbones.efficientnet import EfficientNetB4
from network.backbones.hrnet import HRNet
from network.backbones.resnet import ResNet
from network.backbones.resnet_stages import ResNetKind, ResNetStages
from network.backbones.resnet_v1c import ResNetV1c
from network.backbones.seresnext import SEResNeXt
from network.build import build_net
from network.convert import load_official, load_trunk
from network.convert.report import LoadReport
from network.ops.conv import dilate
from tests.network.convert.foreign import CLOSE, apart, lively
from tests.network.convert.test_huggingface import Holder

ONE = (1, 1, 1, 1)
SWIN = {"depths": (1, 2, 1, 1), "strict_img_size": False, "always_partition": True}


def theirs(name: str, **options: Any) -> nn.Module:
    return lively(timm.create_model(name, pretrained=False, **options))


def loaded(trunk: nn.Module, state: dict[str, Tensor], path: Path) -> LoadReport:
    """What becomes of a file in a trunk, which is then in evaluation mode."""
    torch.save(state, path)
    return load_trunk(trunk.eval(), str(path))


def image(*size: int) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(7))


def compare(trunk: nn.Module, picture: Tensor, want: list[Tensor]) -> None:
    with torch.no_grad():
        maps = trunk(picture)
    assert len(maps) == len(want)
    assert max(apart(a, b) for a, b in zip(want, maps, strict=True)) < CLOSE


@pytest.mark.parametrize(
    ("name", "make", "rates", "taken"),
    [
        ("resnet50", lambda: ResNet(blocks=ONE), {"layer3": 2, "layer4": 4}, (1, 2, 4)),
        (
            "legacy_seresnext50_32x4d",
            lambda: SEResNeXt(blocks=ONE),
            {"layer3": 2, "layer4": 4},
            (1, 2, 4),
        ),
        (
            "wide_resnet50_2",
            lambda: ResNetStages(ResNetKind(blocks=ONE, width=128), 16),
            {"layer4": 2},
            (1, 3, 4),
        ),
        (
            "resnet101s",
            lambda: ResNetStages(ResNetKind(blocks=ONE, wide_stem=True), 16),
            {"layer4": 2},
            (1, 3, 4),
        ),
    ],
)
def test_residual_trunks_give_the_same_maps(
    name: str, make: Any, rates: dict[str, int], taken: tuple[int, ...], tmp_path: Path
) -> None:
    net, trunk = theirs(name, layers=ONE), make()
    report = loaded(trunk, net.state_dict(), tmp_path / "w.pth")
    assert len(report.dropped) == 2 and not report.fresh
    stages = ["layer1", "layer2", "layer3", "layer4"]
    for stage, rate in rates.items():
        dilate(net.get_submodule(stage), rate)
    found: dict[str, Tensor] = {}
    for stage in stages:
        net.get_submodule(stage).register_forward_hook(
            lambda _, __, out, stage=stage: found.update({stage: out})
        )
    picture = image(97, 65)
    with torch.no_grad():
        net(picture)
    compare(trunk, picture, [found[stages[number - 1]] for number in taken])


def test_the_stem_of_three_convolutions_is_that_of_resnet50c(tmp_path: Path) -> None:
    options = {"layers": ONE, "features_only": True, "output_stride": 8}
    net, trunk = theirs("resnet50c", **options), ResNetV1c(ONE)
    report = loaded(trunk, net.state_dict(), tmp_path / "w.pth")
    assert report.layout == "timm" and not report.fresh
    picture = image(97, 65)
    with torch.no_grad():
        want = net(picture)[2:]
    compare(trunk, picture, want)


def test_hrnet_gives_the_same_maps_up_to_the_kind_of_resize(tmp_path: Path) -> None:
    net, trunk = theirs("hrnet_w18", features_only=True, feature_location=""), HRNet(18)
    report = loaded(trunk, net.state_dict(), tmp_path / "w.pth")
    assert not report.fresh
    picture = image(64, 96)
    for module in net.modules():
        if isinstance(module, nn.Upsample):  # nearest in the classifier, bilinear for maps
            module.mode = "bilinear"
    with torch.no_grad():
        want = net(picture)[-4:]
    compare(trunk, picture, want)


def test_swin_gives_the_same_maps(tmp_path: Path) -> None:
    net = theirs("swin_tiny_patch4_window7_224", features_only=True, **SWIN)
    ours = build_net("swin.T_UPerNet", 3, stage_depths=(1, 2, 1, 1)).eval()
    report = loaded(ours.backbone, net.state_dict(), tmp_path / "w.pth")
    assert report.layout == "timm" and len(report.fresh) == 8
    picture = image(224, 448)
    for number in range(4):
        ours.backbone.set_submodule(f"norm{number}", nn.Identity())
    with torch.no_grad():
        want = [each.permute(0, 3, 1, 2) for each in net(picture)]
    compare(ours.backbone, picture, want)


@pytest.mark.parametrize("source", ["timm", "torchvision"])
def test_swin_classifiers_answer_the_same(source: str) -> None:
    ours = build_net("swin.T_224", 5, stage_depths=(1, 1, 1, 2)).eval()
    if source == "timm":
        net = theirs("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 2), num_classes=5)
    else:
        net = lively(
            torchvision.models.SwinTransformer(
                [4, 4], 96, [1, 1, 1, 2], [3, 6, 12, 24], [7, 7], num_classes=5
            )
        )
    report = load_official(ours, net.state_dict())
    assert report.layout == source and not report.missing
    picture = image(224, 224)
    with torch.no_grad():
        assert apart(net(picture), ours(picture)["pred"]) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b4", "tf_efficientnet_b4"])
def test_both_kinds_of_efficientnet_give_their_maps(name: str, tmp_path: Path) -> None:
    net = theirs(name, features_only=True, out_indices=(0, 1, 2))
    maps = []
    for title in ("efficientnet_b4.pth", "tf_efficientnet_b4_aa-818f208c.pth"):
        trunk = EfficientNetB4()
        report = loaded(trunk, net.state_dict(), tmp_path / title)
        assert report.layout == "timm" and not report.fresh
        with torch.no_grad():
            maps.append(trunk(image(96, 65))[:2])
            want = net(image(96, 65))[:2]
    own, other = maps if name.startswith("eff") else maps[::-1]
    assert max(apart(a, b) for a, b in zip(want, own, strict=True)) < CLOSE
    assert max(apart(a, b) for a, b in zip(want, other, strict=True)) > 100 * CLOSE


def test_the_padding_of_tensorflow_stays_in_checkpoints(tmp_path: Path) -> None:
    net = theirs("tf_efficientnet_b4")
    trunk, again = EfficientNetB4(), EfficientNetB4()
    loaded(trunk, net.state_dict(), tmp_path / "tf_efficientnet_b4.pth")
    state = {f"backbone.{key}": value for key, value in trunk.state_dict().items()}
    load_official(Holder(again).eval(), {"model_options": {}, "state_dict": state})
    with torch.no_grad():
        for one, other in zip(trunk(image(64, 64)), again(image(64, 64)), strict=True):
            assert torch.equal(one, other)


def refused(trunk: nn.Module, state: dict[str, Tensor], path: Path) -> str:
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    with pytest.raises(UserError) as caught:
        loaded(trunk, state, path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())
    return str(caught.value)


@pytest.mark.slow
def test_networks_that_only_look_alike_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    state = theirs("seresnext50_32x4d", layers=ONE).state_dict()
    assert "legacy_seresnext50_32x4d" in refused(SEResNeXt(blocks=ONE), state, path)
    with torch.device("meta"):
        shapes = timm.create_model("xception71", features_only=True).state_dict()
    state = {key: torch.zeros(1) for key in shapes}
    assert "timm's Xception, which has other units" in refused(ResNet(blocks=ONE), state, path)
    state = theirs("efficientnet_b4").state_dict()
    assert "keep timm's name at the beginning" in refused(EfficientNetB4(), state, path)
    assert "is not known" in refused(ResNet(blocks=ONE), theirs("resnet18").state_dict(), path)


def hub_folder(path: Path, name: str, net: nn.Module, **inputs: Any) -> str:
    path.mkdir()
    safetensors.torch.save_file(net.state_dict(), path / "model.safetensors")
    config = {"architecture": name, "num_classes": 5, "pretrained_cfg": inputs}
    (path / "config.json").write_text(json.dumps(config))
    return str(path)


def test_a_folder_of_timm_says_which_efficientnet_it_is(tmp_path: Path) -> None:
    net = theirs("tf_efficientnet_b4", num_classes=5)
    path = hub_folder(tmp_path / "hub", "tf_efficientnet_b4", net, mean=[0.485, 0.456, 0.406])
    trunk = EfficientNetB4()
    report = load_trunk(trunk.eval(), path)
    assert "tf_form" in trunk.state_dict() and "tf_efficientnet_b4" in report.note


def test_a_folder_of_timm_says_how_its_inputs_are_normalised(tmp_path: Path) -> None:
    net = theirs("resnet50", layers=ONE, num_classes=5)
    path = hub_folder(tmp_path / "hub", "resnet50", net, mean=[0.5] * 3, std=[0.5] * 3)
    trunk = ResNet(blocks=ONE)
    load_trunk(trunk, path)
    assert (trunk.mean, trunk.std) == ((0.5,) * 3, (0.5,) * 3)
    half = hub_folder(tmp_path / "half", "resnet50", net, mean=[0.5] * 3)
    with pytest.raises(UserError, match=r"gives mean 0\.5 0\.5 0\.5 of its inputs and not both"):
        load_trunk(ResNet(blocks=ONE), half)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("tf_efficientnet_b4_ap-dedb23e6.pth", 0.5),
        ("tf_efficientnet_b4.ap_in1k.pth", 0.5),
        ("tf_efficientnet_b4_aa-818f208c.pth", 0.485),
        ("efficientnet_b4_ra2_320-7eb33cd5.pth", 0.485),
    ],
)
def test_a_file_of_advprop_wants_other_inputs(name: str, mean: float, tmp_path: Path) -> None:
    trunk = EfficientNetB4()
    loaded(trunk, theirs("efficientnet_b4").state_dict(), tmp_path / name)
    assert trunk.mean[0] == mean
