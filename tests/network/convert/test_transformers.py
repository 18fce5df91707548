# SPDX-License-Identifier: Apache-2.0
"""Published MiT, Swin and HILA files: into trunks, classifiers and whole networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from config import UserError
from network.build import build_net
from network.convert import load_official, load_trunk
from network.convert.hila import stage_set

FLAG = "reuse_bottomsa_pretraining_flag"


def published(arch: str, classes: int = 7, **options: Any) -> dict[str, Tensor]:
    """The weights of a classifier as an official file spells them."""
    net = build_net(arch, classes, **options)
    return {key.removeprefix("backbone."): value for key, value in net.state_dict().items()}


def saved(tmp_path: Path, content: dict[str, Any]) -> str:
    torch.save(content, tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")


def swin_file() -> dict[str, Any]:
    """As published: buffers beside the weights, one level deeper."""
    state = published("swin.T_224", stage_depths=(1, 2, 1, 1))
    places = "layers.0.blocks.0.attn.relative_position_index"
    mask = "layers.1.blocks.1.attn_mask"
    return {"model": {**state, places: torch.zeros(49, 49).long(), mask: torch.zeros(1, 49, 49)}}


def trunk_of(net: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in net.backbone.state_dict().items()}


def test_a_mit_file_starts_segformer(tmp_path: Path) -> None:
    state = published("segformer.B0_224")
    net = build_net("segformer.B0", 3, pretrained=saved(tmp_path, state))
    assert all(torch.equal(value, state[key]) for key, value in trunk_of(net).items())
    assert net.trunk_report.dropped == ("head.weight", "head.bias")


def test_a_mit_file_starts_hila_and_names_what_stays_fresh(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": published("segformer.B0_224")})
    net = build_net("hila.B0_S3", 3, pretrained=path)
    fresh = {name.split(".")[0] for name in net.trunk_report.fresh}
    assert fresh == {"topdown", "bottomup", "prevblock", "prevnorm"}
    assert net.trunk_report.filled == ()
    reuse = build_net("hila.B0_S3", 3, pretrained=path, hila_reuse_bottom=True)
    last, copy = reuse.backbone.block2[-1], reuse.backbone.prevblock["23"][0]
    for name, value in last.state_dict().items():
        assert torch.equal(copy.state_dict()[name], value), name
    assert copy.norm1.eps == 1e-5 and copy.drop_path.rate == 0 and last.norm1.eps == 1e-6
    assert len(reuse.trunk_report.filled) == len(last.state_dict())


def test_a_hila_file_loads_whole_and_leaves_nothing_to_copy(tmp_path: Path) -> None:
    state = {**published("hila.B0_S3_224"), FLAG: torch.ones(1)}
    path = saved(tmp_path, state)
    net = build_net("hila.B0_S3", 3, pretrained=path)
    assert net.trunk_report.fresh == ()
    assert set(net.trunk_report.dropped) == {"head.weight", "head.bias", FLAG}
    with pytest.raises(UserError, match="hila_reuse_bottom: the file .* holds these blocks"):
        build_net("hila.B0_S3", 3, pretrained=path, hila_reuse_bottom=True)


def test_the_shallow_b2_takes_the_first_blocks_of_mit_b2() -> None:
    with torch.device("meta"):
        names = build_net("hila.B2_S234", 3).backbone.file_names
    extra = {name for name, ours in names.items() if ours is None and name.startswith("block")}
    assert extra == {"block1.2.", "block2.2.", "block2.3.", "block4.2."}


@pytest.mark.slow
def test_a_swin_file_starts_swin_and_hila(tmp_path: Path) -> None:
    path, options = saved(tmp_path, swin_file()), {"stage_depths": (1, 2, 1, 1)}
    net = build_net("swin.T_UPerNet", 3, pretrained=path, **options)
    assert {name.split(".")[0] for name in net.trunk_report.fresh} == {f"norm{n}" for n in range(4)}
    assert "layers.1.blocks.1.attn_mask" in net.trunk_report.dropped
    reuse = build_net(
        "hila.SwinT_S234", 3, pretrained=path, hila_reuse_bottom=True, hila_stages=(2,), **options
    )
    filled = {name.removeprefix("layers.1.bottom_sa.0.") for name in reuse.trunk_report.filled}
    assert "attn.qkv.weight" in filled
    assert not any("fc1" in name for name in filled)  # the published MLP is half as wide


@pytest.mark.parametrize("arch", ["segformer.B0_224", "hila.B0_S3_224"])
def test_a_published_classifier_loads_whole(arch: str) -> None:
    state = published(arch)
    net = build_net(arch, 7)
    report = load_official(net, {"state_dict": {**state}})
    assert set(report.loaded) == set(net.state_dict())
    assert torch.equal(net.head.weight, state["head.weight"])


def test_a_published_swin_classifier_loads_whole() -> None:
    net = build_net("swin.T_224", 7, stage_depths=(1, 2, 1, 1))
    assert set(load_official(net, swin_file()).loaded) == set(net.state_dict())


def renamed_trunk(net: nn.Module) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in net.state_dict().items()}


@pytest.mark.parametrize(
    ("own", "theirs", "message"),
    [
        ("hila.B0_S3", "hila.B0_S34", r"S\(3,4\), the network has S\(3\); --set .*hila_stages=3,4"),
        ("hila.B0_S34", "hila.B0_S3", r"holds S\(3\), the network has S\(3,4\)"),
        ("segformer.B0", "hila.B0_S3", r"holds S\(3\), the network has no inter-level attention"),
        ("hila.B0_S3", "segformer.B0", r"holds no inter-level .* has S\(3\); .*--pretrained"),
    ],
)
def test_a_file_of_another_stage_set_is_named_in_one_line(
    own: str, theirs: str, message: str, tmp_path: Path
) -> None:
    source = build_net(theirs, 3)
    path = saved(tmp_path, renamed_trunk(source))
    with pytest.raises(UserError, match=message) as caught:
        load_official(build_net(own, 3), path)
    assert "\n" not in str(caught.value)
    assert "weights.pth holds" in str(caught.value)


def test_a_trunk_file_of_another_stage_set_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, published("hila.B0_S34_224"))
    net = build_net("hila.B0_S3", 3)
    before = trunk_of(net)
    with pytest.raises(UserError, match=r"--pretrained .* holds S\(3,4\), the network has S\(3\)"):
        load_trunk(net, path)
    assert all(torch.equal(before[key], value) for key, value in trunk_of(net).items())


def test_a_deeper_mit_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, published("segformer.B0_224", stage_depths=(2, 3, 2, 2)))
    with pytest.raises(UserError, match=re.escape("block2.2.norm1.weight is not known")):
        build_net("segformer.B0", 3, pretrained=path)


def test_stage_sets_are_read_off_names() -> None:
    assert stage_set(["net.backbone.topdown.23.0.norm1.weight", "prevnorm.12.bias"]) == (2, 3)
    assert stage_set(["backbone.layers.3.bottom_up.norm4.weight"]) == (4,)
    assert stage_set(["decode_head.conv_seg.weight"]) == ()


@pytest.mark.slow
def test_the_wide_blocks_of_published_swin_runs_load() -> None:
    options = {"stage_depths": (1, 2, 1, 1), "hila_stages": (2,)}
    source = build_net("hila.SwinT_S234", 3, hila_mlp_ratios=(2, 4, 2, 2), **options)
    state = source.state_dict()
    net = build_net("hila.SwinT_S234", 3, **options)
    narrow = {k: v for k, v in net.state_dict().items() if "bottom_sa" not in k}
    wide = {k: v for k, v in state.items() if "bottom_sa" in k}
    report = load_official(net, {**narrow, **wide})
    assert net.backbone.layers[1].bottom_sa[0].mlp.fc1.weight.shape == (4 * 96, 96)
    assert not report.mismatched
    net.eval()(torch.zeros(1, 3, 64, 64))
