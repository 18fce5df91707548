# SPDX-License-Identifier: Apache-2.0
"""The HANet block beside its recorded numbers: options, positions, noise, refused settings."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from config import ModelConfig, UserError
from network.heads.hanet import (
    HANet,
    HANetSettings,
    HeightCode,
    gated,
    hanet_settings,
    pooled,
    sinusoids,
)

CHANNELS, OUTPUTS = 24, 10


def block(**options: object) -> HANet:
    torch.manual_seed(0)
    return HANet(CHANNELS, OUTPUTS, HANetSettings(**{"reduction": 4, **options}))


def rows(height: int, batch: int = 1) -> torch.Tensor:
    return ((torch.arange(height) + 0.5) / height).repeat(batch, 1)


@pytest.mark.parametrize("layers", [2, 3])
@pytest.mark.parametrize("injection", [0, 1, 2])
@pytest.mark.parametrize("height", [3, 16, 37])
@torch.inference_mode()
def test_a_gate_lies_in_0_to_1_at_any_height(layers: int, injection: int, height: int) -> None:
    net = block(layers=layers, injection=injection).eval()
    gate = net(torch.randn(2, CHANNELS, height, 5), 21, rows(height, 2))
    assert gate.shape == (2, OUTPUTS, 21)
    assert 0 <= float(gate.min()) < float(gate.max()) <= 1


@pytest.mark.parametrize("size", [(16, 8), (37, 11), (5, 3)])
@pytest.mark.parametrize("maximum", [False, True])
def test_pooling_is_adaptive_pooling_of_both_sides(size: tuple[int, int], maximum: bool) -> None:
    x = torch.randn(2, 4, *size)
    last = x.contiguous(memory_format=torch.channels_last)
    pool = F.adaptive_max_pool2d if maximum else F.adaptive_avg_pool2d
    want = pool(x, (16, 1))[..., 0]
    torch.testing.assert_close(pooled(x, 16, maximum), want)
    torch.testing.assert_close(pooled(last, 16, maximum), want)


@pytest.mark.parametrize(("reduction", "hidden"), [(4, 6), (5, 5), (7, 4), (64, 1), (-2, 48)])
def test_the_first_layer_is_as_wide_as_the_reduction_says(reduction: int, hidden: int) -> None:
    assert block(reduction=reduction).attention_first[0].out_channels == hidden


def test_a_learned_code_starts_at_zero_and_is_trained_a_sinusoid_is_not() -> None:
    x = torch.randn(1, CHANNELS, 16, 4)
    learned, fixed = block(sinusoid=False).eval(), block(sinusoid=True).eval()
    assert torch.equal(learned(x, 16, rows(16)), learned(x, 16, None))
    assert not torch.equal(fixed(x, 16, rows(16)), fixed(x, 16, None))
    learned(x, 16, rows(16)).sum().backward()
    assert learned.pos_emb1d_2nd.pos_layer.weight.grad.abs().sum() > 0
    assert not fixed.pos_emb1d_2nd.pos_layer.weight.requires_grad
    assert "pos_emb1d_2nd.pos_layer.weight" in fixed.state_dict()


def test_where_a_crop_lies_decides_the_gate() -> None:
    net, x = block().eval(), torch.randn(1, CHANNELS, 16, 4)
    upper, lower = rows(32)[:, :16], rows(32)[:, 16:]
    assert not torch.allclose(net(x, 16, upper), net(x, 16, lower))


def test_noise_moves_rows_to_both_sides_alike_and_only_in_training() -> None:
    code = HeightCode(1, HANetSettings(noise=0.5))
    code.pos_layer.weight.data = torch.arange(17.0)[:, None]
    torch.manual_seed(0)
    x, positions = torch.zeros(20_000, 1, 16), rows(16).expand(20_000, -1)
    moved = code.train()(x, positions)[:, 0] - torch.arange(16.0)
    assert set(moved[:, 1:15].unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    share = [float((moved[:, 2:14] == side).float().mean()) for side in (-1, 1)]
    assert share == pytest.approx([0.0228, 0.0228], abs=0.002)  # a normal beyond two sigma
    assert bool((code.eval()(x, positions)[:, 0] == torch.arange(16.0)).all())


def test_the_row_of_padding_is_the_sinusoid_that_follows() -> None:
    assert sinusoids(17, 6).shape == (17, 6)
    assert torch.equal(sinusoids(17, 6)[:16], sinusoids(16, 6))
    assert float(sinusoids(17, 60).min()) >= 0 and float(sinusoids(17, 60).max()) <= 2


def test_dropout_drops_whole_channels_of_a_sample() -> None:
    net = block(dropout=0.5, injection=0).train()
    seen: list[torch.Tensor] = []
    net.attention_first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(torch.rand(4, CHANNELS, 16, 4) + 1, 16, None)
    dropped = (seen[0] == 0).float().mean(2)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}


def test_a_gate_multiplies_every_column_alike() -> None:
    x, gate = torch.randn(1, 2, 3, 4), torch.rand(1, 2, 3)
    want = x * gate[:, :, :, None].expand_as(x)
    torch.testing.assert_close(gated(x, gate), want)
    last = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        got = gated(last, gate)
    assert got is last
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"hanet_set": (3, 0, 3)}, "reduction that is not 0"),
        ({"hanet_set": (2, 64, 3)}, "an odd kernel"),
        ({"hanet_set": (3, 64, 4)}, "2 or 3 layers"),
        ({"hanet_pos": (3, 1)}, "hanet_pos 3,1"),
        ({"hanet_pos": (2,)}, "hanet_pos 2,-1"),
        ({"pos_rfactor": 0}, "pos_rfactor 0"),
        ({"hanet_pooling": "median"}, "median is unknown; there are mean, max"),
    ],
)
def test_settings_that_describe_no_block_are_refused(options: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        hanet_settings(dataclasses.replace(ModelConfig(), **options))
