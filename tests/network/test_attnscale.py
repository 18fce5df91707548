# SPDX-License-Identifier: Apache-2.0
"""Weights for all scales from one head."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from config import UserError
from network.attnscale import AllScales, PairedScales, plain_head
from network.contract import OneScale
from network.outputs import Maps
from tests.network.tiny import picture, tiny_net


class ScaleByHeight(OneScale):
    """Scores and features that say how high the image was."""

    def __init__(self) -> None:
        super().__init__(feature_channels=1)

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        values = torch.full_like(images[:, :1, ::4, ::4], images.shape[2])
        return Maps(logits=values.expand(-1, 2, -1, -1), feats=values)


class PassOn(nn.Module):
    """A head whose weights are the features it was given."""

    def forward(self, feats: Tensor) -> Tensor:
        return feats


class Pairs(nn.Module):
    """Answers 0.2, 0.6 for the first pair and 0.3, 0.1 for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = iter([(0.2, 0.6), (0.3, 0.1)])

    def forward(self, feats: Tensor) -> Tensor:
        values = torch.tensor(next(self.answers))[None, :, None, None]
        return values.expand(1, 2, *feats.shape[2:])


def test_features_stand_with_scale_one_first_and_weights_in_the_order_of_the_scales() -> None:
    net = AllScales(ScaleByHeight(), PassOn(), (2.0, 0.5, 1.0)).eval()
    outputs = net(picture(64, 96), return_all=True)
    weights = [float(outputs[f"attn_{scale}x"].mean()) for scale in ("05", "10", "20")]
    assert weights == [64, 32, 128]
    want = 64 * 32 + 32 * 64 + 128 * 128
    torch.testing.assert_close(outputs["pred"], torch.full((1, 2, 64, 96), float(want)))
    assert tuple(outputs["pred_20x"].shape) == (1, 2, 128, 192)


def test_a_pair_shares_out_what_the_pair_before_gave_to_their_common_scale() -> None:
    net = PairedScales(ScaleByHeight(), Pairs(), (0.5, 1.0, 2.0)).eval()
    outputs = net(picture(64, 96), return_all=True)
    weights = [float(outputs[f"attn_{scale}x"].mean()) for scale in ("05", "10", "20")]
    assert weights == pytest.approx([0.2, 0.45, 0.15])


class FromFeatures(nn.Module):
    """Two weights in 0..1 that vary from pixel to pixel."""

    def forward(self, feats: Tensor) -> Tensor:
        mixed = feats[:, :1] * 1.7 - feats[:, 1:]
        return torch.cat([mixed, 0.5 - 2 * mixed], dim=1).sigmoid()


class Pixels(OneScale):
    """Scores and features are the image at stride 4."""

    def __init__(self) -> None:
        super().__init__(feature_channels=1)

    def one_pass(
        self, images: Tensor, rows: Tensor | None = None, *, features: bool = True
    ) -> Maps:
        return Maps(logits=images[:, :2, ::4, ::4], feats=images[:, 2:3, ::4, ::4])


@torch.inference_mode()
def test_each_pair_is_resized_to_the_image_before_it_is_shared_out() -> None:
    image, size, head = picture(64, 96), (64, 96), FromFeatures()

    def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    sizes = {0.5: (32, 48), 1.0: size, 2.0: (128, 192)}
    maps = {scale: bilinear(image, each)[..., ::4, ::4] for scale, each in sizes.items()}
    feats = {scale: bilinear(each[:, 2:3], (16, 24)) for scale, each in maps.items()}
    first = bilinear(head(torch.cat([feats[0.5], feats[1.0]], 1)), size)
    second = bilinear(head(torch.cat([feats[1.0], feats[2.0]], 1)), size)
    second = second * first[:, 1:] / second.sum(1, keepdim=True)
    weights = {0.5: first[:, :1], 1.0: second[:, :1], 2.0: second[:, 1:]}
    want = sum(
        weights[scale] * bilinear(bilinear(maps[scale][:, :2], sizes[scale]), size)
        for scale in sizes
    )
    net = PairedScales(Pixels(), head, (0.5, 1.0, 2.0)).eval()
    outputs = net(image, return_all=True)
    torch.testing.assert_close(outputs["pred"], want)
    for scale, key in ((0.5, "attn_05x"), (1.0, "attn_10x"), (2.0, "attn_20x")):
        torch.testing.assert_close(outputs[key], weights[scale])


@torch.inference_mode()
def test_a_pair_without_any_trust_gives_zero_not_nan() -> None:
    head = nn.Conv2d(2, 2, 1)
    for weight in head.parameters():
        nn.init.zeros_(weight)
    net = PairedScales(ScaleByHeight(), head, (0.5, 1.0, 2.0)).eval()
    assert float(net(picture(32, 32))["pred"].abs().sum()) == 0


def test_the_plain_head_makes_the_map_two_pixels_larger() -> None:
    assert plain_head(5, 3)(torch.randn(1, 5, 6, 8)).shape == (1, 3, 8, 10)


@pytest.mark.parametrize("scales", [None, (0.5, 1.0)])
def test_the_head_is_built_for_the_scales(scales: tuple[float, ...] | None) -> None:
    with torch.device("meta"):
        net = tiny_net("attnscale.DeepV3W38", n_scales=scales)
    count = len(scales or (0.5, 1.0, 2.0))
    assert net.scale_attn[0].in_channels == 304 * count
    assert net.scale_attn[2].out_channels == count
    assert len(net.scales) == count


def test_paired_attention_with_one_scale_is_refused() -> None:
    with pytest.raises(UserError, match="n_scales"):
        tiny_net("attnscale.DeepV3R50BP", n_scales=(1.0,))


def test_training_gives_every_scale_and_every_weight() -> None:
    outputs = tiny_net("attnscale.DeepV3W38", n_scales=(0.5, 1.0)).train()(picture(32, 48, batch=2))
    assert {key: tuple(value.shape[1:]) for key, value in outputs.items()} == {
        "pred": (3, 32, 48),
        "pred_05x": (3, 16, 24),
        "pred_10x": (3, 32, 48),
        "attn_05x": (1, 32, 48),
        "attn_10x": (1, 32, 48),
    }
