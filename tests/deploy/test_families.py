# SPDX-License-Identifier: Apache-2.0
"""Every family of networks becomes an ONNX file that gives what PyTorch gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from deploy.predict import ExportedModel
from network.backbones import hrvit
from network.contract import Network
from tests.deploy.exports import export
from tests.network.tiny import tiny_net
from tests.network.tiny_unept import tiny as tiny_unept

THREE = {"n_scales": (0.5, 1.0, 2.0)}
BLOCKS = {"hanet": (1, 1, 1, 1, 0)}
SHALLOW = {"stage_depths": (1, 1, 1, 1)}
PAIRS = {"stage_depths": (1, 1, 2, 1)}

STATIC: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ocrnet.HRNet_Mscale", THREE),
    ("basic.HRNet", {}),
    ("mscale.DeepV3W38Fuse2", {}),
    ("mscale2.DeepV3R50", {}),
    ("attnscale.DeepV3R50BP", {}),
    ("deepv3.DeepV3PlusSRNX50", {}),
    ("deeper.DeeperX71", {}),
    ("hanet.DeepR50V3PlusD_HANet", BLOCKS),
    ("segformer.B0", SHALLOW),
    ("swin.T_UPerNet", SHALLOW),
    ("hila.B0_S3", PAIRS),
    ("hrvit.b1_SegFormer", {}),
    ("unept.R50", {}),
    ("timm.DeepLabV3Plus", {"trunk": "convnext_atto"}),
    ("efficientnet.lite0_DeepV3Plus", {}),
)
# One of each way to be of any size; making such a graph takes several times as long.
DYNAMIC: tuple[tuple[str, dict[str, Any]], ...] = (
    ("unept.DeiT", {}),
    ("timm.SegFormer", {"trunk": "vit_tiny_patch16_224"}),
    ("deepv3.DeepV3PlusR50", {}),
)
TINY_HRVIT = {
    "b1": dataclasses.replace(
        hrvit.VARIANTS["b1"],
        channels=(8, 16, 32, 32),
        head_width=8,
        blocks=((1,), (1, 1), (1, 1, 1), (1, 1, 1, 1)),
    )
}


def build(arch: str, options: dict[str, Any]) -> Network:
    """A small network of the architecture with lively weights."""
    family, _, name = arch.partition(".")
    with mock.patch.dict(hrvit.VARIANTS, TINY_HRVIT):
        net = tiny_unept(name) if family == "unept" else tiny_net(arch, **options)
    assert isinstance(net, Network)
    net.arch = arch
    return net.eval()


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), STATIC, ids=[arch for arch, _ in STATIC])
def test_a_family_is_exported_for_one_size(
    arch: str, options: dict[str, Any], tmp_path: Path
) -> None:
    checks = export(build(arch, options), tmp_path / "out", size=(101, 135), output="scores")
    assert len(checks) == 1 and checks[0].differing == 0
    assert checks[0].largest_difference < 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), DYNAMIC, ids=[arch for arch, _ in DYNAMIC])
def test_a_family_is_exported_for_all_sizes(
    arch: str, options: dict[str, Any], tmp_path: Path
) -> None:
    checks = export(build(arch, options), tmp_path / "out", dynamic=True, output="scores")
    assert len(checks) == 5 and not sum(check.differing for check in checks)
    assert max(check.largest_difference for check in checks) < 5e-5
    spec = ExportedModel(tmp_path / "out").spec
    assert spec["size"] is None and spec["smallest"] == [64, 64]
