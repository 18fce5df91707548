# SPDX-License-Identifier: Apache-2.0
"""HRViT's trunk: sizes, shortcuts of computation against the plain form, recomputation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from network.backbones.hrvit import VARIANTS, Fusion, HRViT
from network.backbones.hrvit_block import (
    CrossShapedAttention,
    DiversityShortcut,
    TwoScaleConv,
    head_width,
)
from network.ops.drop_path import DropPath
from tests.network.backbones.tiny_hrvit import TINY, tiny_hrvit
from tests.network.tiny import enliven, picture


@pytest.mark.parametrize("size", [(64, 96), (33, 61), (32, 129)])
@torch.inference_mode()
def test_maps_have_the_announced_channels_and_strides(size: tuple[int, int]) -> None:
    trunk = tiny_hrvit().eval()
    maps = trunk(picture(*size))
    want = [
        (1, width, -(-size[0] // stride), -(-size[1] // stride))
        for width, stride in zip(trunk.channels, trunk.strides, strict=True)
    ]
    assert [tuple(x.shape) for x in maps] == want


@torch.inference_mode()
def test_a_repeated_coarse_map_is_cut_at_the_bottom_and_right() -> None:
    fusion = Fusion((4, 6), (4, 6)).eval()
    enliven(fusion)
    fine, coarse = torch.randn(1, 4, 5, 3), torch.randn(1, 6, 3, 2)
    path = fusion.blocks[0][1]
    repeated = path(coarse).repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :5, :3]
    assert torch.equal(fusion([fine, coarse])[0], F.gelu(fine + repeated))


@pytest.mark.parametrize("channels", [8, 48, 240])
def test_the_shortcut_mixes_columns_then_rows_of_the_token(channels: int) -> None:
    torch.manual_seed(0)
    shortcut = DiversityShortcut(channels).double()
    token = torch.randn(1, 2, 3, channels, dtype=torch.float64)
    matrix = token.reshape(6, shortcut.rows, shortcut.columns)
    mixed = F.gelu(shortcut.proj_right(matrix)).transpose(1, 2)
    want = shortcut.proj_left(mixed).transpose(1, 2).reshape(token.shape)
    assert torch.allclose(shortcut(token), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("channels", "rows", "columns"),
    [(32, 4, 8), (48, 6, 8), (96, 12, 8), (240, 15, 16), (384, 24, 16), (512, 16, 32)],
)
def test_the_token_is_read_as_a_matrix_of_the_published_shape(
    channels: int, rows: int, columns: int
) -> None:
    shortcut = DiversityShortcut(channels)
    assert (shortcut.rows, shortcut.columns) == (rows, columns)


def test_one_convolution_does_the_work_of_the_two_depthwise_ones() -> None:
    torch.manual_seed(0)
    pair = TwoScaleConv(10).double()
    x = torch.randn(2, 10, 7, 6, dtype=torch.float64)
    want = torch.cat([pair.conv_3(x[:, :5]), pair.conv_5(x[:, 5:])], dim=1)
    assert torch.allclose(pair(x), want, rtol=0, atol=1e-12)


def test_heads_have_the_published_width_except_where_the_branch_is_too_narrow() -> None:
    widths = {
        name: [head_width(channels, variant.head_width) for channels in variant.channels]
        for name, variant in VARIANTS.items()
    }
    assert widths == {"b1": [16, 32, 32, 32], "b2": [24] * 4, "b3": [32] * 4}


def test_attention_starts_as_nothing_so_that_a_block_starts_near_identity() -> None:
    attention = CrossShapedAttention(8, 8, 2).train()
    assert not attention(torch.randn(1, 4, 4, 8)).any()


def test_linear_layers_of_a_segmentation_trunk_start_small() -> None:
    torch.manual_seed(0)
    for module in HRViT(TINY).modules():
        if isinstance(module, nn.Linear):
            assert module.weight.abs().max() < 0.1 and not module.bias.any()


def step(trunk: nn.Module) -> dict[str, torch.Tensor]:
    """Gradients and buffers after one training forward and backward."""
    torch.manual_seed(3)
    sum(x.pow(2).mean() for x in trunk.train()(picture(40, 52, batch=2))).backward()
    return {name: item.grad for name, item in trunk.named_parameters()} | dict(
        trunk.named_buffers()
    )


@pytest.mark.slow
def test_recomputation_changes_neither_gradients_nor_batch_norm_statistics() -> None:
    want = step(tiny_hrvit(drop_path=0.5))
    got = step(tiny_hrvit(drop_path=0.5, grad_ckpt=True))
    assert all(value is not None for value in want.values())
    assert [name for name, value in want.items() if not torch.equal(got[name], value)] == []


def test_recomputation_keeps_fewer_tensors_for_the_backward_pass() -> None:
    def saved_elements(grad_ckpt: bool) -> int:
        sizes: list[int] = []

        def pack(x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.numel())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            tiny_hrvit(grad_ckpt=grad_ckpt).train()(picture(64, 64))
        return sum(sizes)

    assert saved_elements(True) < 0.6 * saved_elements(False)


def test_the_rate_of_drop_path_rises_to_the_last_block() -> None:
    rates = [m.rate for m in tiny_hrvit(drop_path=0.5).modules() if isinstance(m, DropPath)]
    assert rates[0] == 0 and rates[-1] == 0.5 and rates == sorted(rates)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (CrossShapedAttention(16, 8, 2), (1, 5, 4, 16)),
        (DiversityShortcut(48), (1, 5, 4, 48)),
        (DiversityShortcut(128), (1, 5, 4, 128)),
        (TwoScaleConv(10), (1, 10, 5, 4)),
    ],
    ids=["attention", "dense shortcut", "wide shortcut", "two convolutions"],
)
@torch.no_grad()
def test_the_inference_form_gives_the_same(layer: nn.Module, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    enliven(layer.eval().double())
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(*size, dtype=torch.float64)
    want, got = layer(x), layer.inference_form()(x)
    assert torch.allclose(got, want, rtol=0, atol=1e-12) and want.any()
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
