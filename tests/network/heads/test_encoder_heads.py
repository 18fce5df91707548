# SPDX-License-Identifier: Apache-2.0
"""The heads of the encoder-decoder networks: shapes, key names, what training adds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from network.backbones.trunk import Trunk
from network.encoder_decoder import EncoderDecoder
from network.heads.fcn import FCNHead
from network.heads.uper import UPerHead
from network.outputs import AUX, PRED

CHANNELS = (4, 6, 8, 10)


class Pyramid(Trunk):
    """A trunk of four strided convolutions."""

    channels, strides = CHANNELS, (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        sides = zip((3, *CHANNELS), CHANNELS, strict=False)
        self.stages = nn.ModuleList(
            nn.Conv2d(a, b, 3, 4 if index == 0 else 2, 1) for index, (a, b) in enumerate(sides)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


@pytest.fixture
def net() -> EncoderDecoder:
    torch.manual_seed(0)
    head = UPerHead(CHANNELS, 5, width=12)
    return EncoderDecoder(Pyramid(), head, FCNHead(CHANNELS[2], 5, width=7))


def test_any_input_size_comes_back_with_the_auxiliary_scores_in_training_only(
    net: EncoderDecoder,
) -> None:
    images = torch.randn(2, 3, 75, 101)
    trained = net(images)
    assert {key: tuple(value.shape) for key, value in trained.items()} == {
        PRED: (2, 5, 75, 101),
        AUX: (2, 5, 75, 101),
    }
    assert set(net.eval()(images)) == {PRED}


def test_gradients_reach_every_parameter(net: EncoderDecoder) -> None:
    outputs = net(torch.randn(2, 3, 64, 64))
    (outputs[PRED].square().sum() + outputs[AUX].square().sum()).backward()
    assert [name for name, item in net.named_parameters() if item.grad is None] == []


def test_the_keys_are_those_of_the_published_files(net: EncoderDecoder) -> None:
    keys = net.state_dict().keys()
    for wanted in (
        "decode_head.psp_modules.3.1.conv.weight",
        "decode_head.psp_modules.0.1.bn.running_mean",
        "decode_head.bottleneck.conv.weight",
        "decode_head.lateral_convs.2.bn.weight",
        "decode_head.fpn_convs.0.conv.weight",
        "decode_head.fpn_bottleneck.bn.bias",
        "decode_head.conv_seg.bias",
        "auxiliary_head.convs.0.conv.weight",
        "auxiliary_head.conv_seg.weight",
    ):
        assert wanted in keys
    assert "decode_head.bottleneck.conv.bias" not in keys


def test_the_wrapped_network_says_how_wide_its_features_are(net: EncoderDecoder) -> None:
    maps = net.eval().maps(torch.randn(1, 3, 64, 96))
    assert maps.feats.shape == (1, net.feature_channels, 16, 24) and net.feature_channels == 12
    assert maps.logits.shape == (1, 5, 16, 24)
