# SPDX-License-Identifier: Apache-2.0
"""What a run takes from a checkpoint, and what it refuses before anything starts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from assembly import inference, snapshot
from assembly.network import checkpoint_header
from assembly.optimiser import build_optimizer
from assembly.snapshot import Snapshot
from config import ModelConfig, UserError
from engine.state import check_options
from network.build import build_net
from settings import Settings, read_settings

FACTS = {"arch": "segformer.B0", "num_classes": 2, "dataset": "harbour", "model_options": {}}


def resolved(*argv: str) -> Settings:
    return read_settings(argv)


def adopted(*argv: str, **facts: Any) -> Settings:
    return snapshot.adopted(resolved(*argv), Snapshot("x.pth", {}, {**FACTS, **facts}))


def test_an_evaluation_takes_network_and_data_set_of_the_file() -> None:
    evaluation = ("--eval", "val", "--snapshot", "x.pth")
    assert adopted(*evaluation).network.arch == "segformer.B0"
    assert adopted(*evaluation, dataset="kitti").data.dataset == "kitti"
    assert adopted(*evaluation).data.dataset == "custom"  # the name in the YAML of a custom set
    assert adopted(*evaluation, dataset="camvid", custom=True).data.dataset == "custom"
    assert adopted(*evaluation, "--dataset", "camvid").data.dataset == "camvid"
    assert adopted(*evaluation, positions=False).data.no_pos_dataset


def test_only_networks_with_row_positions_are_marked_as_trained_without() -> None:
    from datasets.camvid import SPEC

    plain = resolved("--no_pos_dataset")
    assert checkpoint_header(plain, SPEC)["positions"]
    blocks = dataclasses.replace(plain, MODEL=ModelConfig(hanet=(1, 1, 1, 1, 0)))
    assert not checkpoint_header(blocks, SPEC)["positions"]


@pytest.mark.parametrize(
    ("argv", "scales"),
    [
        ([], ()),
        (["--default_scale", "0.5"], (0.5,)),
        (["--multi_scale_inference", "--extra_scales", "2"], (1.0, 2.0)),
        (["--multi_scale_inference", "--default_scale", "1.5"], (1.5, 0.5, 2.0)),
    ],
)
def test_the_default_scale_is_evaluated_with_and_without_others(
    argv: list[str], scales: tuple[float, ...]
) -> None:
    told = resolved("--eval", "val", *argv)
    assert inference.input_scales(told) == scales
    assert inference.protocol_of(told)["averaged_scales"] == (scales or None)
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1)).eval()
    image = torch.rand(1, 3, 50, 70)
    sizes = [(round(50 * scale), round(70 * scale)) for scale in scales or (1.0,)]
    with torch.inference_mode():
        got = inference.build_infer(told, net, return_all=False)(image, None)["pred"]
        want = torch.zeros(1, 3, 50, 70)
        for size in sizes:
            resized = F.interpolate(image, size, mode="bilinear", align_corners=False)
            scores = net(resized)["pred"]
            want += F.interpolate(scores, (50, 70), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, want / len(sizes))


def test_the_weight_of_an_auxiliary_loss_needs_a_head_for_it() -> None:
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1))
    build_optimizer(resolved("--arch", "segformer.B0"), net, 0.1, None)
    told = resolved("--arch", "segformer.B0", "--aux_weight", "0.4")
    with pytest.raises(UserError, match=r"--aux_weight has no effect on segformer\.B0"):
        build_optimizer(told, net, 0.1, None)


def test_options_of_the_network_must_be_those_of_a_resumed_file() -> None:
    saved = {"pretrained": "mit_b0.pth", "hrnet_width": 18, "hila_stages": []}
    check_options(saved, {**saved, "pretrained": ""})  # the file has the weights
    with pytest.raises(ValueError, match=r"has hila_stages none \(this run \[3\]\)$"):
        check_options(saved, {**saved, "hila_stages": [3]})
