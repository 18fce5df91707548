# SPDX-License-Identifier: Apache-2.0
"""The heads on trunks of timm: all families train and predict at any size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from config import UserError
from network.build import build_net, used_options
from network.contract import Network
from network.heads.hanet import HANET_OPTIONS
from network.height_gates import attention_blocks
from network.inference import prepare_for_inference
from tests.network.tiny import picture

ROOT = Path(__file__).resolve().parent.parent.parent
HEADS = ("DeepLabV3Plus", "OCR", "SegFormer", "UPerNet")
NARROW = {"ocr_mid_channels": 16, "ocr_key_channels": 8, "segattn_bot_ch": 16}
FAST = ("resnet18", "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224")
# One of each kind of file in timm that people take trunks from.
SLOW = (
    "beit_base_patch16_224", "botnet26t_256", "coatnet_nano_rw_224", "convnext_atto",
    "convnextv2_atto", "davit_tiny", "deit_tiny_distilled_patch16_224", "densenet121", "dla34",
    "edgenext_xx_small", "efficientformerv2_s0", "efficientnet_b0", "efficientvit_b0",
    "eva02_tiny_patch14_224", "fastvit_t8", "focalnet_tiny_srf", "ghostnet_050",
    "hiera_tiny_224", "hrnet_w18_small", "inception_next_atto", "levit_128s",
    "maxvit_nano_rw_256", "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "mobilevit_xxs",
    "mvitv2_tiny", "nextvit_small", "poolformer_s12", "pvt_v2_b0", "regnety_002", "repvgg_a0",
    "resnext50_32x4d", "seresnet18", "swin_s3_tiny_224", "swinv2_tiny_window8_256",
    "tf_efficientnet_lite0", "tiny_vit_5m_224", "vgg11", "vit_small_patch14_dinov2",
    "vit_small_patch16_dinov3", "xception41",
)  # fmt: skip


def net_on(trunk: str, head: str = "SegFormer", **options: Any) -> Network:
    torch.manual_seed(0)
    arch = f"timm.{head}"
    small = {name: value for name, value in NARROW.items() if name in used_options(arch)}
    return build_net(arch, 3, trunk=trunk, **{**small, **options})


def train_once(net: nn.Module) -> dict[str, torch.Tensor]:
    """One step on all outputs; every parameter that is trained must have moved a loss."""
    outputs: dict[str, torch.Tensor] = net.train()(picture(64, 96, batch=2))
    sum(x.square().mean() for x in outputs.values()).backward()
    idle = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    torch.optim.SGD(net.parameters(), lr=1e-3).step()
    return outputs


@torch.inference_mode()
def predicts(net: nn.Module) -> None:
    net.eval()
    for height, width in ((64, 96), (65, 97), (33, 32)):
        scores = net(picture(height, width))["pred"]
        assert tuple(scores.shape) == (1, 3, height, width)
        assert bool(scores.isfinite().all())


@pytest.mark.parametrize(("trunk", "head"), list(zip(FAST, HEADS, strict=False)))
def test_a_family_trains_and_predicts_at_any_size(trunk: str, head: str) -> None:
    net = net_on(trunk, head)
    outputs = train_once(net)
    assert ("aux" in outputs) == (head in ("OCR", "UPerNet"))
    predicts(net)


@pytest.mark.slow
@pytest.mark.parametrize("trunk", SLOW)
def test_every_family_trains_and_predicts_at_any_size(trunk: str) -> None:
    net = net_on(trunk, HEADS[SLOW.index(trunk) % 2 * 2], grad_ckpt=True)
    train_once(net)
    predicts(net)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_every_head_has_scales_boundaries_and_checkpointing(head: str) -> None:
    net = net_on("mobilenetv3_small_050", f"{head}_Mscale", boundary_heads=True, grad_ckpt=True)
    assert {"pred", "mask", "dir", "pred_05x", "attn_05x"} <= train_once(net).keys()
    predicts(net)


def test_height_attention_joins_deeplab_alone() -> None:
    net = net_on("mobilenetv3_small_050", hanet=(1, 1, 1, 1, 1), head="DeepLabV3Plus")
    assert len(attention_blocks(net)) == 5
    assert "row_logits" in train_once(net)
    assert used_options("timm.DeepLabV3Plus") >= HANET_OPTIONS
    with pytest.raises(UserError, match=r"hanet=.* has no effect on timm\.OCR"):
        net_on("resnet18", "OCR", hanet=(1, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("trunk", "options", "line"),
    [
        (
            "convnext_atoo",
            {},
            "--trunk convnext_atoo is no model of timm .*; did you mean convnext_",
        ),
        (
            "resnet18.gone_in1k",
            {},
            "timm knows no weights gone_in1k of resnet18; there are .*a1_in1k",
        ),
        (
            "swin_tiny_patch4_window7_224",
            {"output_stride": 8},
            "--trunk swin_tiny_patch4_window7_224 cannot be built with --output_stride 8",
        ),
        ("resnet18", {"output_stride": 12}, "cannot be built with --output_stride 12: 8, 16 or 32"),
        ("vgg11", {"output_stride": 16}, "--output_stride 16: timm's model refuses it"),
        ("test_vit", {"output_stride": 16}, "--output_stride 16: timm's model has no such option"),
        ("hf-hub:somebody/net", {}, "is no model of timm"),
    ],
)
def test_a_trunk_that_cannot_be_is_one_line(trunk: str, options: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        net_on(trunk, **options)
    assert "\n" not in str(caught.value)


def test_a_trunk_for_an_architecture_that_has_one_is_refused() -> None:
    with pytest.raises(UserError, match=r"--trunk resnet18: ocrnet\.HRNet has a trunk of its own"):
        build_net("ocrnet.HRNet", 3, trunk="resnet18")


@pytest.mark.parametrize(
    "trunk", ["resnet18", "mobilenetv3_small_050", "tf_efficientnet_lite0", "resnetv2_18"]
)
def test_the_form_for_inference_answers_the_same(trunk: str) -> None:
    net = enliven_norms(net_on(trunk)).eval()
    fast, image = prepare_for_inference(net), picture(65, 97)
    with torch.inference_mode():
        wanted, got = net(image)["pred"], fast(image)["pred"]
    assert float((wanted - got).abs().max()) < 1e-3 * float(wanted.abs().max())


def enliven_norms(net: nn.Module) -> nn.Module:
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)
            nn.init.normal_(part.running_mean, std=0.2)
    return net


LIST = """
import sys
from network.build import arch_help
names = arch_help()
print([name for name in names if name.startswith("timm.")], "timm" in sys.modules)
"""


@pytest.mark.slow
def test_the_list_of_architectures_does_without_timm() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIST], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == f"{[f'timm.{head}' for head in HEADS]} False", done.stderr
