# SPDX-License-Identifier: Apache-2.0
"""`--pretrained` takes the trunk of a classifier that this program trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from config import ModelConfig, UserError
from network.build import build_net

PAIRS = [
    ("segformer.B0_224", "segformer.B0", {"stage_depths": (1, 1, 1, 1)}),
    pytest.param(
        "swin.T_224", "swin.T_UPerNet", {"stage_depths": (1, 1, 1, 1)}, marks=pytest.mark.slow
    ),
    ("hila.B0_S3_224", "hila.B0_S3", {"stage_depths": (1, 1, 1, 1)}),
    pytest.param("hrvit.b1_224", "hrvit.b1_SegFormer", {}, marks=pytest.mark.slow),
]


def save(net: nn.Module, path: Path) -> Path:
    """A checkpoint of this program, as far as loading looks at it."""
    facts = {"task": "classify", "model_options": dataclasses.asdict(ModelConfig())}
    torch.save({**facts, "state_dict": net.state_dict()}, path)
    return path


@pytest.mark.parametrize(("classifier", "segmenter", "options"), PAIRS)
def test_the_trunk_of_a_classifier_arrives_whole(
    classifier: str, segmenter: str, options: dict, tmp_path: Path
) -> None:
    source = build_net(classifier, 3, **options)
    file = save(source, tmp_path / "best.pth")
    net = build_net(segmenter, 4, **options, pretrained=str(file))
    report = net.trunk_report
    assert report.layout == "hiseg"
    theirs = source.state_dict()
    for key, value in net.backbone.state_dict().items():
        name = key if key in theirs else f"backbone.{key}"
        if name in theirs:
            assert torch.equal(value, theirs[name]), key
        else:
            assert key in report.fresh
    assert any("head" in key for key in report.dropped)


def test_the_trunk_of_another_classifier_is_refused(tmp_path: Path) -> None:
    file = save(build_net("segformer.B0_224", 3, stage_depths=(1, 1, 1, 1)), tmp_path / "b0.pth")
    with pytest.raises(UserError, match="b0.pth does not fit the trunk"):
        build_net("segformer.B0", 4, stage_depths=(2, 1, 1, 1), pretrained=str(file))
