# SPDX-License-Identifier: Apache-2.0
"""Attention from pairs of scales, against the formula written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.network.tiny import picture, tiny_net


def up(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


@pytest.mark.parametrize("scales", [[1.0], [0.5, 1.0], [0.5, 1.0, 2.0]])
@torch.inference_mode()
def test_attention_sees_the_scale_and_the_next_higher_one(scales: list[float]) -> None:
    net = tiny_net("mscale2.HRNet", n_scales=scales).eval()
    image = picture(66, 90)
    size, joint, above = (66, 90), None, None
    for scale in sorted(scales, reverse=True):
        scaled = tuple(int(side * scale) for side in size)
        maps = net.net.maps(up(image, scaled))
        pred = up(maps.logits, scaled)
        if joint is None:
            joint = pred
        else:
            pair = torch.cat([maps.feats, up(above, maps.feats.shape[2:])], dim=1)
            attention = up(net.scale_attn(pair), scaled)
            if scale >= 1:
                joint = attention * pred + (1 - attention) * up(joint, scaled)
            else:
                joint = up(attention * pred, size) + (1 - up(attention, size)) * joint
        above = maps.feats
    outputs = net(image, return_all=True)
    torch.testing.assert_close(outputs["pred"], joint)
    assert ("attn_10x" in outputs) == (len(scales) > 1)
    if len(scales) > 1:
        torch.testing.assert_close(outputs["attn_10x"], up(attention, size))


def test_training_gives_both_scales_and_the_map_at_the_size_of_the_image() -> None:
    outputs = tiny_net("mscale2.HRNet").train()(picture(batch=2))
    assert {key: tuple(value.shape[2:]) for key, value in outputs.items()} == {
        "pred": (64, 96),
        "pred_05x": (32, 48),
        "pred_10x": (64, 96),
        "attn_10x": (64, 96),
    }
