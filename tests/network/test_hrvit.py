# SPDX-License-Identifier: Apache-2.0
"""HRViT networks by their names: sizes, parameters, files, several scales."""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn

from config import UserError
from network import hrvit
from network.build import build_net, list_archs, list_classifiers
from network.convert import load_official
from network.convert.load import detect
from network.heads.hrvit_head import HRViTHead
from network.inference import prepare_for_inference
from network.ops.resize import concat_resized
from network.outputs import AUX, PRED
from tests.network.backbones.tiny_hrvit import TINY
from tests.network.tiny import NUM_CLASSES, enliven, picture

SEGMENTERS = ("hrvit.b1_SegFormer", "hrvit.b1_UPerNet")


def tiny(arch: str, seed: int = 0, **options: object) -> nn.Module:
    """`arch` on a narrow trunk, with lively weights unless they come from a file."""
    torch.manual_seed(seed)
    narrow = {"HRViTHead": HRViTHead, "UPerHead": hrvit.UPerHead, "FCNHead": hrvit.FCNHead}
    small = {
        name: lambda *args, head=head, **kw: head(*args, **{**kw, "width": 12})
        for name, head in narrow.items()
    }
    sizes = dict.fromkeys(hrvit.VARIANTS, TINY)
    with mock.patch.multiple(hrvit, VARIANTS=sizes, **small):
        net = build_net(arch, NUM_CLASSES, **options)
    if "pretrained" not in options:
        enliven(net)
    return net


def test_every_promised_name_is_listed() -> None:
    names = {f"hrvit.b{n}_{form}" for n in (1, 2, 3) for form in ("224", "SegFormer", "UPerNet")}
    assert {arch for arch in list_archs() if arch.startswith("hrvit.")} == names
    assert {f"hrvit.b{n}_224" for n in (1, 2, 3)} <= set(list_classifiers())


COUNTS = {
    ("b1_SegFormer", 19): 8_149_451,
    ("b2_224", 1000): 32_486_408,
    ("b3_UPerNet", 150): 55_815_588,
}
MORE_COUNTS = {  # what the others are made of as well
    ("b1_224", 1000): 19_685_152,
    ("b3_224", 1000): 37_870_304,
    ("b2_SegFormer", 19): 20_776_115,
    ("b3_SegFormer", 19): 28_623_755,
    ("b1_SegFormer", 150): 8_183_118,
    ("b2_SegFormer", 150): 20_809_782,
    ("b3_SegFormer", 150): 28_724_494,
    ("b1_UPerNet", 150): 35_952_100,
    ("b2_UPerNet", 150): 49_696_972,
}
TRUNK_COUNTS = {"b1": 7_758_008, "b2": 20_310_944, "b3": 25_507_960}


@pytest.mark.parametrize(
    ("arch", "num_classes", "count"),
    [
        *((*key, count) for key, count in COUNTS.items()),
        *(pytest.param(*key, n, marks=pytest.mark.slow) for key, n in MORE_COUNTS.items()),
    ],
)
def test_published_parameter_counts(arch: str, num_classes: int, count: int) -> None:
    with torch.device("meta"):
        net = build_net(f"hrvit.{arch}", num_classes)
    assert sum(item.numel() for item in net.parameters()) == count


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TRUNK_COUNTS))
def test_published_parameter_counts_of_the_trunk(name: str) -> None:
    with torch.device("meta"):
        trunk = hrvit.HRViT(hrvit.VARIANTS[name])
    assert sum(item.numel() for item in trunk.parameters()) == TRUNK_COUNTS[name]


@pytest.mark.parametrize("arch", SEGMENTERS)
@pytest.mark.parametrize("size", [(33, 47), (64, 96)])
@torch.inference_mode()
def test_any_size_gives_scores_at_the_size_of_the_input(arch: str, size: tuple[int, int]) -> None:
    outputs = tiny(arch).eval()(picture(*size))
    assert {key: x.shape for key, x in outputs.items()} == {PRED: (1, NUM_CLASSES, *size)}


@pytest.mark.parametrize("arch", ["hrvit.b1_SegFormer", "hrvit.b1_UPerNet", "hrvit.b1_224"])
def test_training_reaches_every_parameter(arch: str) -> None:
    net = tiny(arch).train()
    outputs = net(picture(40, 52, batch=2))
    sum(value.pow(2).mean() for value in outputs.values()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []
    assert (AUX in outputs) == ("UPerNet" in arch)


@torch.inference_mode()
def test_a_classifier_answers_pictures_of_any_size_with_one_row_of_scores() -> None:
    net = tiny("hrvit.b1_224").eval()
    assert net(picture(64, 64, batch=2))[PRED].shape == (2, NUM_CLASSES)
    assert net(picture(33, 70))[PRED].shape == (1, NUM_CLASSES)


@torch.inference_mode()
def test_the_head_equals_concatenation_and_two_convolutions() -> None:
    torch.manual_seed(0)
    head = HRViTHead((4, 6, 8, 10), 3, width=12).eval().double()
    enliven(head.double())
    maps = [torch.randn(1, c, 8 >> i, 8 >> i).double() for i, c in enumerate((4, 6, 8, 10))]
    wide = concat_resized([block(x) for block, x in zip(head.convs, maps, strict=True)])
    feats = head.fusion_conv(wide)
    assert torch.allclose(head(maps)[1], feats, rtol=0, atol=1e-12)
    assert torch.allclose(head(maps)[0], head.conv_seg(feats), rtol=0, atol=1e-12)


@pytest.mark.parametrize("arch", SEGMENTERS)
@torch.inference_mode()
def test_the_prepared_network_gives_the_same_scores(arch: str) -> None:
    net, image = tiny(arch).eval(), picture(40, 52)
    got = prepare_for_inference(net)(image)[PRED]
    assert torch.allclose(got, net(image)[PRED], rtol=0, atol=1e-4)


def test_the_published_rates_of_drop_path_are_the_defaults() -> None:
    def rate(arch: str, **options: float) -> float:
        with torch.device("meta"):
            net = build_net(arch, 19, **options)
        return max(getattr(module, "rate", 0.0) for module in net.modules())

    assert rate("hrvit.b3_UPerNet") == 0.3
    assert rate("hrvit.b1_224", drop_path=0.25) == 0.25


@pytest.mark.parametrize("entry", ["state_dict", "state_dict_ema"])
def test_a_published_classifier_file_becomes_the_trunk(tmp_path: Path, entry: str) -> None:
    weights = tiny("hrvit.b1_224", seed=1).state_dict()
    flags = argparse.Namespace(model="HRViT_b1_224", lr=1e-3)
    content = {"epoch": 3, "arch": "HRViT_b1_224", "args": flags, entry: weights}
    torch.save(content, tmp_path / "model_best.pth.tar")
    net = tiny("hrvit.b1_SegFormer", pretrained=str(tmp_path / "model_best.pth.tar"))
    assert {name.split(".")[0] for name in net.trunk_report.dropped} == {"head"}
    for name, value in net.backbone.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert len(net.trunk_report.loaded) == len(net.backbone.state_dict())


def test_a_classifier_starts_from_the_trunk_of_another_and_with_a_head_of_its_own(
    tmp_path: Path,
) -> None:
    weights = tiny("hrvit.b1_224", seed=1).state_dict()
    weights["head.classifier.weight"] = torch.zeros(NUM_CLASSES + 1, 2048)
    assert detect(weights, {}) == "hrvit"
    for facts in ({}, {"model_options": {}}):  # a published file, and one of this program
        torch.save({"state_dict": weights, **facts}, tmp_path / "other.pth")
        net = tiny("hrvit.b1_224", pretrained=str(tmp_path / "other.pth"))
        report = net.trunk_report
        for names in (report.dropped, report.fresh):
            assert {name.split(".")[0] for name in names} == {"head"}
        assert {name.split(".")[0] for name in report.loaded} == {"stem", "features"}
        for name, value in net.state_dict().items():
            assert name.startswith("head.") or torch.equal(value, weights[name]), name


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        other = build_net("hrvit.b2_224", 10).state_dict()
    weights = {name: torch.zeros(value.shape) for name, value in other.items()}
    torch.save({"state_dict": weights}, tmp_path / "b2.pth.tar")
    with pytest.raises(UserError, match="does not fit the trunk"):
        tiny("hrvit.b1_SegFormer", pretrained=str(tmp_path / "b2.pth.tar"))


def test_a_published_segmentation_file_loads_completely(tmp_path: Path) -> None:
    source, net = tiny("hrvit.b1_UPerNet", seed=1), tiny("hrvit.b1_UPerNet")
    meta = {"iter": 160000, "CLASSES": ("wall", "sky", "tree"), "PALETTE": [[0, 1, 2]]}
    torch.save({"meta": meta, "state_dict": source.state_dict()}, tmp_path / "iter_160000.pth")
    report = load_official(net, tmp_path / "iter_160000.pth")
    assert not (report.dropped or report.missing)
    loaded = net.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize("arch", SEGMENTERS)
def test_the_multi_scale_form_trains_and_runs_at_any_scales(arch: str) -> None:
    net = tiny(f"{arch}_Mscale", n_scales=(0.5, 1.0, 2.0), segattn_bot_ch=8).train()
    outputs = net(picture(48, 64, batch=2))
    assert {"pred_05x", "pred_10x", "attn_05x"} <= set(outputs)
    sum(value.pow(2).mean() for value in outputs.values()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []
    with torch.inference_mode():
        assert net.eval()(picture(33, 47))[PRED].shape == (1, NUM_CLASSES, 33, 47)
    assert net.arch == f"{arch}_Mscale"


def test_weights_of_one_scale_go_into_the_multi_scale_form() -> None:
    source = tiny("hrvit.b1_SegFormer", seed=1)
    net = tiny("hrvit.b1_SegFormer_Mscale", segattn_bot_ch=8)
    report = load_official(net, source.state_dict(), partial=["scale_attn"])
    assert all(name.startswith("scale_attn.") for name in report.missing)
    assert torch.equal(net.net.decode_head.conv_seg.weight, source.decode_head.conv_seg.weight)


def test_a_classifier_has_no_multi_scale_form() -> None:
    with pytest.raises(UserError, match="--arch help"):
        build_net("hrvit.b1_224_Mscale", 10)


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(UserError, match="aux_head=False has no effect on hrvit.b1_SegFormer"):
        build_net("hrvit.b1_SegFormer", 19, aux_head=False)
    with pytest.raises(UserError, match="n_scales=.* has no effect on hrvit.b1_SegFormer"):
        build_net("hrvit.b1_SegFormer", 19, n_scales=(0.5, 1.0))


def test_the_auxiliary_head_can_be_left_out() -> None:
    net = tiny("hrvit.b1_UPerNet", aux_head=False).train()
    assert AUX not in net(picture(64, 64, batch=2)) and net.auxiliary_head is None
