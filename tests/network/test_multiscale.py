# SPDX-License-Identifier: Apache-2.0
"""The multi-scale wrapper, against the published formulas written out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network import multiscale
from network.contract import OneScale
from network.multiscale import MultiScale, ScalePass, fold
from network.outputs import Maps
from tests.network.tiny import NUM_CLASSES, picture, tiny_net


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def one_pass(net: MultiScale, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction, auxiliary prediction and attention, all at the size of `image`."""
    size = image.shape[2:]
    maps = net.net.maps(image)
    return up(maps.logits, size), up(maps.aux, size), up(net.scale_attn(maps.feats), size)


def written_out(net: MultiScale, image: Tensor, scales: list[float]) -> Tensor:
    """The n-scale rule as published: full-size maps of every scale, blended from the top."""
    size, joint = image.shape[2:], None
    for scale in sorted(scales, reverse=True):
        scaled = tuple(int(side * scale) for side in size)
        pred, _, attention = one_pass(net, up(image, scaled) if scale != 1 else image)
        if joint is None:
            joint = pred
        elif scale >= 1:
            joint = attention * pred + (1 - attention) * up(joint, scaled)
        else:
            joint = up(attention * pred, size) + (1 - up(attention, size)) * joint
    assert joint is not None
    return joint


@pytest.mark.parametrize(
    "scales", [[1.0], [0.5, 1.0], [0.5, 1.0, 2.0], [0.25, 0.5, 1.0, 2.0], [1.0, 1.5], [0.7, 1.0]]
)
@torch.inference_mode()
def test_n_scale_inference_equals_the_published_rule(scales: list[float]) -> None:
    net = tiny_net(n_scales=scales).eval()
    image = picture(66, 81)
    torch.testing.assert_close(net(image)["pred"], written_out(net, image, scales))


@torch.inference_mode()
def test_inference_without_n_scales_uses_the_training_pair() -> None:
    net = tiny_net(mscale_lo_scale=0.75).eval()
    image = picture()
    torch.testing.assert_close(net(image)["pred"], written_out(net, image, [0.75, 1.0]))


def frozen(net: nn.Module) -> nn.Module:
    """Train mode as the losses see it, but nothing random and no batch statistics."""
    net.train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout2d | nn.Dropout):
            module.eval()
    return net


def test_training_gives_the_joint_and_the_single_predictions() -> None:
    net, image = frozen(tiny_net()), picture(66, 90)
    outputs = net(image)
    pred_lo, aux_lo, attention = one_pass(net, up(image, (33, 45)))
    pred_hi, aux_hi, _ = one_pass(net, image)
    size = (66, 90)
    weight = up(attention, size)
    torch.testing.assert_close(
        outputs,
        {
            "pred": up(attention * pred_lo, size) + (1 - weight) * pred_hi,
            "aux": up(attention * aux_lo, size) + (1 - weight) * aux_hi,
            "pred_05x": pred_lo,
            "pred_10x": pred_hi,
            "attn_05x": attention,
        },
    )


@torch.inference_mode()
def test_eval_and_training_agree_where_both_give_a_map() -> None:
    net, image = tiny_net(), picture(65, 64)
    trained = frozen(net)(image)
    evaluated = net.eval()(image, return_all=True)
    assert set(evaluated) == {"pred", "pred_05x", "pred_10x", "attn_05x"}
    for key, value in evaluated.items():
        torch.testing.assert_close(value, trained[key])


@torch.inference_mode()
def test_the_unused_attention_of_the_highest_scale_is_neither_run_nor_returned() -> None:
    net, calls = tiny_net(n_scales=(0.5, 1.0, 1.5)).eval(), []
    net.scale_attn.register_forward_hook(lambda *_: calls.append(1))
    outputs = net(picture(), return_all=True)
    assert len(calls) == 2
    assert {key for key in outputs if key.startswith("attn")} == {"attn_05x", "attn_10x"}


def test_both_scales_move_the_statistics_of_the_attention_head() -> None:
    net = tiny_net().train()
    net(picture(batch=2))
    assert net.scale_attn.bn0.num_batches_tracked.item() == 2


def test_the_low_scale_runs_first_in_training() -> None:
    net, heights = tiny_net().train(), []
    net.net.backbone.register_forward_pre_hook(lambda _, inputs: heights.append(inputs[0].shape[2]))
    net(picture(64, 64, batch=2))
    assert heights == [32, 64]


class TwoMaps(OneScale):
    """The least a network must offer to be wrapped: no auxiliary prediction, stride 8."""

    def __init__(self) -> None:
        super().__init__(feature_channels=5)
        self.score, self.features = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 5, 16, 16)
        self.seen: list[Tensor | None] = []

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        self.seen.append(rows)
        return Maps(logits=self.score(images), feats=self.features(images))


def test_any_network_with_scores_and_features_can_be_wrapped() -> None:
    torch.manual_seed(0)
    net = MultiScale(TwoMaps(), nn.Sequential(nn.Conv2d(5, 1, 1), nn.Sigmoid()))
    assert set(net(picture())) == {"pred", "pred_05x", "pred_10x", "attn_05x"}
    outputs = net.eval()(picture(), rows=torch.linspace(0, 1, 64)[None])
    assert tuple(outputs["pred"].shape) == (1, 4, 64, 96)
    assert [rows.shape[1] for rows in net.net.seen[-2:]] == [32, 64]


@torch.inference_mode()
def test_joining_a_few_classes_at_a_time_changes_nothing(monkeypatch: Any) -> None:
    net, image = tiny_net(n_scales=(0.5, 1.0, 2.0)).eval(), picture()
    want = net(image)["pred"]
    monkeypatch.setattr(multiscale, "CLASSES_AT_ONCE", 1)
    torch.testing.assert_close(net(image)["pred"], want)
    assert want.shape[1] == NUM_CLASSES


def test_full_trust_in_the_low_scale_gives_the_low_scale() -> None:
    size = (8, 8)
    lo, hi = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 8, 8)

    def passes(trust: float) -> list[ScalePass]:
        attention = torch.full((1, 1, 4, 4), trust)
        top = ScalePass(scale=1.0, size=size, logits=hi, aux=None, attention=None)
        low = ScalePass(scale=0.5, size=(4, 4), logits=lo, aux=None, attention=attention)
        return [top, low]

    torch.testing.assert_close(fold(passes(1.0), [hi, lo], size, False), up(lo, size))
    torch.testing.assert_close(fold(passes(0.0), [hi, lo], size, False), hi)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, {"conv0", "bn0", "conv1", "bn1", "conv2"}),
        ({"mscale_no3x3": True}, {"conv0", "bn0", "conv2"}),
        ({"mscale_dropout": True}, {"conv0", "bn0", "conv1", "bn1", "conv2"}),
        ({"mscale_old_arch": True}, {"0", "1", "3", "4", "6"}),
    ],
)
def test_variants_of_the_attention_head_have_the_published_keys(
    options: dict[str, Any], keys: set[str]
) -> None:
    net = tiny_net(**options)
    assert {key.split(".")[0] for key in net.scale_attn.state_dict()} == keys
    assert bool((net.eval()(picture(), return_all=True)["attn_05x"] <= 1).all())
    assert any(isinstance(m, nn.Dropout) for m in net.modules()) == bool(
        options.get("mscale_dropout")
    )


def test_the_old_attention_head_starts_at_one_half_and_can_learn() -> None:
    from network.heads.scale_attention import ScaleAttention

    head = ScaleAttention(6, 4, old_names=True)
    attention = head(torch.randn(2, 6, 5, 5))
    torch.testing.assert_close(attention, torch.full((2, 1, 5, 5), 0.5))
    (attention * torch.randn(2, 1, 5, 5)).sum().backward()
    assert head.get_submodule("6").weight.grad.abs().sum() > 0
