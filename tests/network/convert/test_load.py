# SPDX-License-Identifier: Apache-2.0
"""Loading weights: whole, by name, or refused with one line."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from config import UserError
from network.backbones.efficientnet import EfficientNetB4
from network.backbones.resnet import ResNet
from network.build import build_net
from network.convert import load_official, load_trunk, read_checkpoint
from network.convert.nvidia import official_name
from tests.network.tiny import NUM_CLASSES, TINY, tiny_net

ARCH = "ocrnet.HRNet_Mscale"


def official_state(net: nn.Module) -> dict[str, Tensor]:
    """The weights of `net` as an official file spells them."""
    return {f"module.{official_name(key)}": value for key, value in net.state_dict().items()}


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def refused(net: nn.Module, source: Any, **options: Any) -> str:
    """The message of the refusal; the network must not have been touched."""
    before = copy.deepcopy(net)
    with pytest.raises(UserError) as caught:
        load_official(net, source, **options)
    assert_same_weights(before, net)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_official_file_loads_whole(suffix: str, tmp_path: Path) -> None:
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        # The published files carry the score as a NumPy number beside optimizer and command.
        torch.save(
            {
                "state_dict": official_state(source),
                "epoch": 3,
                "mean_iu": np.float64(0.5),
                "command": "x",
            },
            path,
        )
    else:
        safetensors.torch.save_file(official_state(source), path)
    report = load_official(net, path)
    assert_same_weights(source, net)
    assert report.layout == "nvidia"
    assert set(report.loaded) == set(net.state_dict())
    assert not (report.dropped or report.missing or report.unexpected or report.mismatched)
    assert str(report) == f"layout nvidia: {len(report.loaded)} tensors loaded"


def test_keys_without_the_saved_prefix_load_too() -> None:
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    state = {key.removeprefix("module."): value for key, value in official_state(source).items()}
    load_official(net, state)
    assert_same_weights(source, net)


def own_checkpoint(net: nn.Module, **changes: Any) -> dict[str, Any]:
    return {
        "arch": ARCH,
        "num_classes": NUM_CLASSES,
        "model_options": {},
        "state_dict": net.state_dict(),
        **changes,
    }


def test_our_own_checkpoint_is_recognised() -> None:
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    assert load_official(net, own_checkpoint(source)).layout == "hiseg"
    assert_same_weights(source, net)


def test_missing_batch_counters_of_old_files_are_no_loss() -> None:
    source, net = tiny_net(seed=1), tiny_net(seed=2)
    state = {k: v for k, v in official_state(source).items() if "num_batches" not in k}
    load_official(net, state)
    assert_same_weights(source, net)


def test_a_single_scale_file_goes_into_the_multi_scale_network_on_request() -> None:
    source, net = tiny_net("ocrnet.HRNet", seed=1), tiny_net(seed=2)
    assert "missing (scale_attn.conv0.weight" in refused(net, official_state(source))
    report = load_official(net, official_state(source), partial=("scale_attn",))
    assert_same_weights(source, net.net)
    assert all(name.startswith("scale_attn.") for name in report.missing)


def test_a_multi_scale_file_goes_into_the_single_scale_network_on_request() -> None:
    source, net = tiny_net(seed=1), tiny_net("ocrnet.HRNet", seed=2)
    checkpoint = own_checkpoint(source)
    message = refused(net, checkpoint)
    assert "unexpected (scale_attn" in message and "--allow_partial PREFIX" in message
    evaluation = refused(net, checkpoint, offer_partial=False)
    assert "unexpected (scale_attn" in evaluation and "--allow_partial" not in evaluation
    report = load_official(net, checkpoint, partial=("scale_attn",))
    assert_same_weights(source.net, net)
    assert all(name.startswith("scale_attn.") for name in report.dropped)


def test_boundary_heads_come_and_go_with_a_prefix_that_the_refusal_names() -> None:
    plain, heads = tiny_net(seed=1), tiny_net(seed=2, boundary_heads=True)
    way = "; add --allow_partial boundary: the heads of --dt_offset_wt "
    assert refused(heads, own_checkpoint(plain)).endswith(way + "start from random weights")
    assert refused(plain, own_checkpoint(heads)).endswith(way + "are left out")
    report = load_official(heads, own_checkpoint(plain), partial=("boundary",))
    assert report.missing and all(".boundary." in name for name in report.missing)


@pytest.mark.slow
def test_another_class_count_is_named_and_loads_on_request() -> None:
    net = tiny_net(seed=2)
    source = build_net(ARCH, 5, **TINY, segattn_bot_ch=8)
    checkpoint = own_checkpoint(source, num_classes=5)
    message = refused(net, checkpoint)
    heads = ("ocr.cls_head", "ocr.aux_head.2")
    assert message == (
        f"the state dict does not fit {ARCH}: the file has 5 classes, the network has 3; --dataset "
        f"names the data set of the file; or --allow_partial {','.join(heads)} starts with a new "
        "classifier"
    )
    message = refused(net, checkpoint, dataset="camvid", offer_partial=False)
    assert "has 5 classes, camvid has 3; --dataset" in message and "partial" not in message
    ways = {
        "kitti": "it was trained on kitti: give that --dataset, or custom for a set of your own",
        "camvid": "camvid had other classes when the file was trained",
    }
    for name, way in ways.items():
        named = {**checkpoint, "dataset": name}
        assert way in refused(net, named, dataset="camvid", offer_partial=False)
    before = net.net.ocr.cls_head.weight.clone()
    report = load_official(net, checkpoint, partial=heads)
    assert len(report.mismatched) == 4
    assert torch.equal(net.net.ocr.cls_head.weight, before)
    assert torch.equal(net.net.backbone.conv1.weight, source.net.backbone.conv1.weight)


def test_another_arch_is_refused_by_name() -> None:
    net = tiny_net(hrnet_width=6)
    message = refused(net, own_checkpoint(tiny_net(), arch="ocrnet.HRNet18_Mscale"))
    assert "ocrnet.HRNet18_Mscale" in message and "does not fit ocrnet.HRNet_Mscale" in message
    assert "it holds another network, " in message


def test_only_training_may_start_from_a_network_without_inter_level_attention() -> None:
    plain = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1))
    net = build_net("hila.B0_S34", 3, stage_depths=(1, 1, 1, 1))
    assert "or --pretrained to start from the file" in refused(net, plain.state_dict())
    evaluation = refused(net, plain.state_dict(), offer_partial=False)
    assert evaluation.endswith("take its plain form as --arch")


def test_mmseg_files_are_called_so() -> None:
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1))
    report = load_official(net, {"meta": {}, "state_dict": net.state_dict()})
    assert str(report).startswith("layout mmseg: ")
    short = refused(
        net, {key: value for key, value in net.state_dict().items() if "pred" not in key}
    )
    assert "the state dict (mmseg) does not fit segformer.B0 with 3 classes: 2 missing" in short


def test_a_partial_prefix_is_a_whole_name_and_must_exist() -> None:
    net, source = tiny_net(seed=2), tiny_net("ocrnet.HRNet", seed=1)
    assert "no weight of that name" in refused(net, official_state(source), partial=("scale_at",))


def test_a_file_without_weights_is_refused() -> None:
    assert "holds no weights" in refused(tiny_net(), {"epoch": 3})


def saved(path: Path) -> Path:
    torch.save({"state_dict": official_state(tiny_net())}, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_a_truncated_file_is_one_line(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        saved(path)
    else:
        safetensors.torch.save_file(official_state(tiny_net()), path)
    os.truncate(path, int(path.stat().st_size * share))
    assert "truncated" in refused(tiny_net(), path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    assert "does not exist" in refused(tiny_net(), tmp_path / "none.pth")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.pth", b"<html>404</html>", "is no checkpoint: it begins with b'<html>404</html>'$"),
     ("a.pth", b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS.*; git lfs pull"),
     ("a.safetensors", b"version https://git-lfs.git", "pointer of Git LFS.*; git lfs pull")],
)  # fmt: skip
def test_a_text_in_place_of_weights_is_not_offered_to_be_trusted(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / name)


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "picture.pth"
    path.write_bytes(b"\x89PNG\r\n" + bytes(range(256)))
    assert str(path) in refused(tiny_net(), path)
    torch.save([1, 2], path)
    assert "holds a list" in refused(tiny_net(), path)


class Intruder:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run_and_the_way_out_is_named(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    torch.save({"state_dict": official_state(tiny_net()), "x": Intruder(trap)}, tmp_path / "w.pth")
    message = refused(tiny_net(), tmp_path / "w.pth")
    assert "scripts/convert_checkpoint.py" in message and "--trust" in message
    assert not trap.exists()
    read_checkpoint(tmp_path / "w.pth", trust=True)
    assert trap.exists()


def trunk_file(net: nn.Module, prefix: str = "", **changes: Tensor) -> dict[str, Tensor]:
    """An ImageNet classifier around the trunk of `net`."""
    trunk = net.trunk
    state = {prefix + key: value for key, value in trunk.state_dict().items()}
    extra = {"incre_modules.0.0.conv1.weight": torch.ones(2), "classifier.bias": torch.ones(1000)}
    return state | {prefix + key: value for key, value in extra.items()} | changes


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("arch", [ARCH, "ocrnet.HRNet"])
def test_an_imagenet_file_fills_the_trunk(prefix: str, arch: str, tmp_path: Path) -> None:
    source, path = tiny_net(arch, seed=1), tmp_path / "imagenet.pth"
    torch.save(trunk_file(source, prefix), path)
    net = tiny_options_net(arch, pretrained=str(path))
    assert {name.removeprefix(prefix) for name in net.trunk_report.dropped} == {
        "incre_modules.0.0.conv1.weight",
        "classifier.bias",
    }
    assert_same_weights(source.trunk, net.trunk)


def tiny_options_net(arch: str, **options: Any) -> nn.Module:
    """As built, weights untouched."""
    return build_net(arch, NUM_CLASSES, **TINY, **options)


def test_a_torchvision_resnet_fills_the_trunk_of_its_name(tmp_path: Path) -> None:
    blocks = (1, 1, 1, 1)
    source = torchvision.models.resnet.ResNet(torchvision.models.resnet.Bottleneck, blocks)
    path = tmp_path / "resnet.pth"
    torch.save(source.state_dict(), path)
    trunk = ResNet(blocks=blocks)
    report = load_trunk(trunk, str(path))
    assert set(report.dropped) == {"fc.weight", "fc.bias"}
    assert torch.equal(trunk.layer0[0].weight, source.conv1.weight)
    assert torch.equal(trunk.layer4[0].bn3.bias, source.layer4[0].bn3.bias)


@pytest.mark.slow
def test_a_torchvision_efficientnet_fills_the_trunk_of_its_name(tmp_path: Path) -> None:
    source = torchvision.models.efficientnet_b4(num_classes=2)
    path = tmp_path / "efficientnet.pth"
    torch.save(source.state_dict(), path)
    trunk = EfficientNetB4()
    report = load_trunk(trunk, str(path))
    assert all(key.startswith(("features.8.", "classifier.")) for key in report.dropped)
    assert_same_weights(source.features[:8], trunk.features)


def test_a_trunk_of_another_width_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.pth"
    torch.save(trunk_file(tiny_net(hrnet_width=6)), path)
    with pytest.raises(UserError, match="does not fit the trunk.*has shape"):
        tiny_options_net(ARCH, pretrained=str(path))


def test_a_trunk_with_unknown_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "imagenet.pth"
    torch.save(trunk_file(tiny_net(), stage9=torch.ones(1)), path)
    with pytest.raises(UserError, match="stage9 is not known"):
        tiny_options_net(ARCH, pretrained=str(path))


def test_a_missing_trunk_file_is_refused() -> None:
    with pytest.raises(UserError, match="does not exist"):
        tiny_options_net(ARCH, pretrained="nowhere.pth")


def test_the_classifier_is_reported_as_dropped(tmp_path: Path) -> None:
    net = tiny_net()
    report = load_official(net, trunk_file(tiny_net(seed=1)), partial=("ocr", "scale_attn"))
    assert report.layout == "imagenet"
    assert set(report.dropped) == {"incre_modules.0.0.conv1.weight", "classifier.bias"}


@pytest.mark.parametrize("with_sums", [True, False])
def test_a_checkpoint_damaged_in_the_middle_is_refused(tmp_path: Path, with_sums: bool) -> None:
    path, weights = tmp_path / "a.pth", {"state_dict": {"w": torch.ones(5000), "b": torch.ones(9)}}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(with_sums)
    try:
        torch.save(weights, path)
    finally:
        torch.serialization.set_crc32_options(before)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], torch.ones(5000))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    if with_sums:  # otherwise nothing tells
        with pytest.raises(UserError, match=r"a.pth is damaged: \S+ inside has a wrong checksum"):
            read_checkpoint(path)
