# SPDX-License-Identifier: Apache-2.0
"""Convolutions of several maps: the numbers and weights of the plain form, and who takes which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from network.heads.ocr import OCRHead
from network.heads.uper import UPerHead
from network.inference import fold_batch_norms
from network.ops import joined_conv
from network.ops.conv_block import ConvBlock
from network.ops.joined_conv import JoinedConv, Unjoined, join
from network.ops.resize import concat_resized

CHANNELS = (3, 5, 4)
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def no_map_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps would take the plain form."""
    monkeypatch.setattr(joined_conv, "LEAST_PIXELS", 0)


def draw() -> list[Tensor]:
    """Maps of odd sizes, the first wider than a tile."""
    generator = torch.Generator().manual_seed(1)
    sizes = ((17, 70), (9, 35), (5, 9))
    return [
        torch.randn(2, c, *size, generator=generator)
        for c, size in zip(CHANNELS, sizes, strict=True)
    ]


def made(kernel: int = 3) -> JoinedConv:
    """A layer with a bias, always the same."""
    torch.manual_seed(0)
    return JoinedConv(CHANNELS, 6, kernel, bias=True)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("memory", [torch.contiguous_format, LAST])
@torch.inference_mode()
def test_inference_gives_the_numbers_of_the_joined_maps_as_the_first_map_lies(
    kernel: int, align_corners: bool, memory: torch.memory_format
) -> None:
    layer = made(kernel).to(memory_format=memory)
    maps = [x.contiguous(memory_format=memory) for x in draw()]
    source = join(maps, align_corners)
    assert isinstance(source, Unjoined)
    got, want = layer(source), layer(concat_resized(maps, align_corners))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.stride() == want.stride()


def test_training_is_that_of_the_joined_maps_bit_for_bit() -> None:
    layer, maps = made(), draw()
    got, want = layer(join(maps, False)), layer(concat_resized(maps))
    assert got.equal(want)
    first, second = (torch.autograd.grad(x.square().sum(), layer.weight)[0] for x in (got, want))
    assert first.equal(second)


@torch.no_grad()
def test_other_numbers_small_maps_and_graphs_take_the_plain_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    maps = draw()
    assert isinstance(join([x.double() for x in maps], False), Tensor)
    assert isinstance(join([x.to("meta") for x in maps], False), Tensor)
    with torch.autocast("cpu", torch.bfloat16):
        assert isinstance(join(maps, False), Tensor)
    with torch.device("meta"):
        head = UPerHead((4, 6, 8, 10), 5, width=12).eval()
        features = [torch.empty(1, c, 64 >> i, 64 >> i) for i, c in enumerate((4, 6, 8, 10))]
    assert head(features)[0].shape == (1, 5, 64, 64)
    monkeypatch.setattr(joined_conv, "LEAST_PIXELS", 17 * 70 + 1)
    assert isinstance(join(maps, False), Tensor)


def test_weights_have_the_keys_and_the_start_of_a_plain_convolution() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(sum(CHANNELS), 6, 3, padding=1)
    same = made().state_dict()
    assert list(same) == list(plain.state_dict())
    assert all(same[key].equal(value) for key, value in plain.state_dict().items())
    blocks = []
    for inputs in (sum(CHANNELS), CHANNELS):
        torch.manual_seed(0)
        blocks.append(ConvBlock(inputs, 6, 3).state_dict())
    assert list(blocks[0]) == list(blocks[1])
    assert all(blocks[1][key].equal(value) for key, value in blocks[0].items())


class Both(nn.Module):
    """The two heads that join maps, on maps of the image's own."""

    def __init__(self) -> None:
        super().__init__()
        self.uper = UPerHead((3, 3, 3, 3), 5, width=8)
        self.ocr = OCRHead((3, 3, 3), 5, mid_channels=8, key_channels=4)

    def forward(self, images: Tensor) -> Tensor:
        maps = [images[..., ::step, ::step] for step in (1, 2, 4, 8)]
        found = self.ocr(maps[:3])
        parts: list[Tensor] = [self.uper(maps)[0], found.logits, found.aux]
        return torch.cat(parts, dim=1)


@torch.no_grad()
def test_heads_give_the_same_scores_and_hooks_and_folding_see_the_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net, images = Both().eval(), torch.randn(2, 3, 37, 45)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
    seen: list[object] = []
    for module in net.modules():
        if isinstance(module, JoinedConv):
            module.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    got = net(images)
    assert [type(each) for each in seen] == [Unjoined, Unjoined, Unjoined]
    with monkeypatch.context() as patch:
        patch.setattr(joined_conv, "LEAST_PIXELS", 1 << 20)
        want = net(images)
        assert all(isinstance(each, Tensor) for each in seen[3:])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert fold_batch_norms(net, images) == norms
    torch.testing.assert_close(net(images), want, rtol=1e-4, atol=1e-5)
