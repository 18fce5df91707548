# SPDX-License-Identifier: Apache-2.0
"""The transformer block of HRViT: cross-shaped attention, diversity shortcut, mixed-scale FFN.

Tokens are (B, H, W, C), contiguous, so a map is a channels_last image without a copy.
Source: Gu et al., "Multi-Scale High-Resolution Vision Transformer for Semantic Segmentation"
(2021), section 3.2; attribute names are those of the published weights.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from network.ops.conv import conv
from network.ops.drop_path import DropPath
from network.ops.part import Part
from network.ops.stripes import row_stripe_attention
from network.ops.tokens import to_image, to_tokens

__all__ = ["Block", "CrossShapedAttention", "DiversityShortcut", "MixedScaleFFN", "head_width"]

LOCAL_KERNEL = 3
DENSE_SHORTCUT = 96  # channels up to which one dense product beats many small ones


def head_width(channels: int, nominal: int) -> int:
    """Channels of an attention head: about `nominal`, at most half of all `channels`."""
    return min(channels // (channels // nominal), channels // 2)


class CrossShapedAttention(Part):
    """Half of the channels attend in stripes of `window` rows, half in stripes of columns.

    Keys are the values. A depthwise convolution of the values is the local path. Tokens to
    tokens; the last step is a batch norm over all tokens, whose scale starts at zero.
    """

    def __init__(self, channels: int, nominal_head_width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.heads = channels // 2 // head_width(channels, nominal_head_width)
        self.to_qkv = nn.Linear(channels, 2 * channels)  # queries, values: there are no keys
        self.parallel_conv = nn.Sequential(
            nn.Hardswish(), conv(channels, channels, LOCAL_KERNEL, bias=True, groups=channels)
        )
        self.to_out = nn.Sequential(nn.Linear(channels, channels))
        self.attn_bn = nn.BatchNorm2d(channels)
        nn.init.zeros_(self.attn_bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[3] // 2
        query, value = self.to_qkv(x).chunk(2, dim=3)
        rows = row_stripe_attention(query[..., :half], value[..., :half], self.window, self.heads)
        columns = row_stripe_attention(
            query[..., half:].transpose(1, 2),
            value[..., half:].transpose(1, 2),
            self.window,
            self.heads,
        ).transpose(1, 2)
        local = to_tokens(self.parallel_conv(to_image(value)))
        mixed = F.hardswish(torch.cat([rows, columns], dim=3) + local)
        return to_tokens(self.attn_bn(to_image(self.to_out(mixed))))

    def inference_form(self) -> nn.Module:
        """The same with the batch norm inside the linear layer before it."""
        form = copy.copy(self)
        vars(form)["_modules"] = dict(self._modules)  # so that `self` keeps its own
        linear = self.to_out[0]
        assert isinstance(linear, nn.Linear)
        form.to_out = nn.Sequential(fuse_linear_bn_eval(linear, self.attn_bn))
        form.set_submodule("attn_bn", nn.Identity())
        return form

    def published_macs(self, x: Tensor) -> int:
        """Multiply-adds by the published count: the scores are those of padded stripes."""
        batch, height, width, channels = x.shape
        tokens = batch * height * width
        linear = tokens * channels * 3 * channels
        local = tokens * channels * (LOCAL_KERNEL**2 + 1)
        scores = sum(
            batch * math.ceil(side / self.window) * (self.window * other) ** 2 * channels // 2
            for side, other in ((height, width), (width, height))
        )
        return linear + local + scores + 2 * tokens * channels


class DiversityShortcut(Part):
    """A nonlinear projection that keeps tokens apart: tokens (..., C) to tokens.

    The token is read as a matrix of `rows` x `columns`; its columns are mixed, then its rows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        exponent = math.floor(math.log2(channels))
        self.columns = 2 ** math.ceil(exponent / 2)
        assert channels % self.columns == 0, channels
        self.rows = channels // self.columns
        self.proj_right = nn.Linear(self.columns, self.columns)
        self.proj_left = nn.Linear(self.rows, self.rows)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] <= DENSE_SHORTCUT:
            return self._dense(x)
        matrix = F.gelu(self.proj_right(x.reshape(-1, self.rows, self.columns)))
        mixed = torch.matmul(self.proj_left.weight, matrix) + self.proj_left.bias[:, None]
        return mixed.reshape(x.shape)

    def _dense(self, x: Tensor) -> Tensor:
        """The same by two products with matrices C x C: more sums, but one pass each."""
        right, left = self._matrices()
        return F.linear(F.gelu(F.linear(x, *right)), *left)

    def _matrices(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Weight (C, C) and bias (C,) of either projection, applied to the whole token."""
        right, left = self.proj_right, self.proj_left
        weight = right.weight
        side = max(self.rows, self.columns)
        eye = torch.eye(side, device=weight.device, dtype=weight.dtype)
        by_rows = torch.kron(eye[: self.rows, : self.rows], right.weight)
        by_columns = torch.kron(left.weight, eye[: self.columns, : self.columns])
        right_bias = right.bias.repeat(self.rows)
        return (by_rows, right_bias), (by_columns, left.bias.repeat_interleave(self.columns))

    def inference_form(self) -> nn.Module:
        """Where the matrices are worth it, two linear layers that hold them."""
        channels = self.rows * self.columns
        if channels > DENSE_SHORTCUT:
            return self
        layers = [nn.Linear(channels, channels) for _ in range(2)]
        for layer, (weight, bias) in zip(layers, self._matrices(), strict=True):
            layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return nn.Sequential(layers[0], nn.GELU(), layers[1])

    def published_macs(self, x: Tensor) -> int:
        """Multiply-adds of the two small linear layers."""
        return x.numel() * (self.columns + self.rows)


class TwoScaleConv(Part):
    """Depthwise 3x3 on the first half of the channels, 5x5 on the second: (B, C, H, W) to same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv_3 = conv(half, half, 3, bias=True, groups=half)
        self.conv_5 = conv(channels - half, channels - half, 5, bias=True, groups=channels - half)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self._joint(), padding=2, groups=x.shape[1])

    def _joint(self) -> tuple[Tensor, Tensor]:
        """Kernels and bias of one 5x5 convolution that does both: zeros surround the 3x3 ones."""
        kernels = torch.cat([F.pad(self.conv_3.weight, (1, 1, 1, 1)), self.conv_5.weight])
        assert self.conv_3.bias is not None and self.conv_5.bias is not None
        return kernels, torch.cat([self.conv_3.bias, self.conv_5.bias])

    def inference_form(self) -> nn.Module:
        """The one convolution."""
        kernels, bias = self._joint()
        layer = conv(len(kernels), len(kernels), 5, bias=True, groups=len(kernels))
        layer.weight, layer.bias = nn.Parameter(kernels), nn.Parameter(bias)
        return layer

    def published_macs(self, x: Tensor) -> int:
        """Multiply-adds of the two convolutions and their biases."""
        per_channel = [layer.weight[0].numel() + 1 for layer in (self.conv_3, self.conv_5)]
        return x.numel() * sum(per_channel) // len(per_channel)


class MixedScaleFFN(nn.Module):
    """Linear to `hidden` channels, `TwoScaleConv`, GELU, Linear back: tokens to tokens."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.conv = TwoScaleConv(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(to_tokens(self.conv(to_image(self.fc1(x))))))


class Block(nn.Module):
    """x + (attention + shortcut), then + FFN; `drop_path` may leave out either sum."""

    def __init__(
        self,
        channels: int,
        *,
        nominal_head_width: int,
        window: int,
        ffn_ratio: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(channels)
        self.attn = CrossShapedAttention(channels, nominal_head_width, window)
        self.des = DiversityShortcut(channels)
        self.ffn_norm = nn.LayerNorm(channels)
        self.ffn = MixedScaleFFN(channels, int(channels * ffn_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        # The shortcut reads x itself, not its norm.
        x = x + self.drop_path(self.attn(self.attn_norm(x)) + self.des(x))
        return x + self.drop_path(self.ffn(self.ffn_norm(x)))
