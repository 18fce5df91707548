# SPDX-License-Identifier: Apache-2.0
"""What a run takes from a checkpoint, and what it refuses before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from assembly import inference as procedure
from assembly import network as build
from config import Config, ModelConfig, UserError
from engine.state import check_options
from network.build import build_net
from settings import Settings, read_settings

FACTS = {"arch": "segformer.B0", "num_classes": 2, "dataset": "harbour", "model_options": {}}


def resolved(*argv: str) -> Settings:
    told = read_settings(argv)
    cfg = Config()
    return told


def adopted(*argv: str, **facts: Any) -> Settings:
    told = resolved(*argv)
    build.adopt_snapshot(told, build.Snapshot("x.pth", {}, {**FACTS, **facts}))
    return told


def test_an_evaluation_takes_network_and_data_set_of_the_file() -> None:
    evaluation = ("--eval", "val", "--snapshot", "x.pth")
    assert adopted(*evaluation).arch == "segformer.B0"
    assert adopted(*evaluation, dataset="kitti").dataset == "kitti"
    assert adopted(*evaluation).dataset == "custom"  # the name in the YAML of a custom set
    assert adopted(*evaluation, dataset="camvid", custom=True).dataset == "custom"
    assert adopted(*evaluation, "--dataset", "camvid").dataset == "camvid"
    assert adopted(*evaluation, positions=False).no_pos_dataset


def test_only_networks_with_row_positions_are_marked_as_trained_without() -> None:
    from datasets.camvid import SPEC

    plain, _ = resolved("--no_pos_dataset")
    assert build.checkpoint_header(plain, ModelConfig(), SPEC)["positions"]
    blocks = ModelConfig(hanet=(1, 1, 1, 1, 0))
    assert not build.checkpoint_header(plain, blocks, SPEC)["positions"]


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
    assert procedure.input_scales(args) == scales
    assert procedure.protocol(told.MODEL)["averaged_scales"] == (scales or None)
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1)).eval()
    image = torch.rand(1, 3, 50, 70)
    sizes = [(round(50 * scale), round(70 * scale)) for scale in scales or (1.0,)]
    with torch.inference_mode():
        got = procedure.build_infer(args, net, return_all=False)(image, None)["pred"]
        want = torch.zeros(1, 3, 50, 70)
        for size in sizes:
            resized = F.interpolate(image, size, mode="bilinear", align_corners=False)
            scores = net(resized)["pred"]
            want += F.interpolate(scores, (50, 70), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, want / len(sizes))


def test_the_weight_of_an_auxiliary_loss_needs_a_head_for_it() -> None:
    net = build_net("segformer.B0", 3, stage_depths=(1, 1, 1, 1))
    build.build_optimizer(resolved("--arch", "segformer.B0")[0], net, 0.1, None)
    args, _ = resolved("--arch", "segformer.B0", "--aux_weight", "0.4")
    with pytest.raises(UserError, match=r"--aux_weight has no effect on segformer\.B0"):
        build.build_optimizer(args, net, 0.1, None)


def test_options_of_the_network_must_be_those_of_a_resumed_file() -> None:
    saved = {"pretrained": "mit_b0.pth", "hrnet_width": 18, "hila_stages": []}
    check_options(saved, {**saved, "pretrained": ""})  # the file has the weights
    with pytest.raises(ValueError, match=r"has hila_stages none \(this run \[3\]\)$"):
        check_options(saved, {**saved, "hila_stages": [3]})
