# SPDX-License-Identifier: Apache-2.0
"""Height-driven attention: a gate for every channel and row of a map, from a map before it.

Source: Choi, Kim, Choo, "Cars Can't Fly up in the Sky: Improving Urban-Scene Segmentation via
Height-driven Attention Networks" (2020), section 3. Attribute names are those of the published
weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.bins import bin_means, bins
from network.ops.rows import STEPS, row_steps
from runtime.errors import UserError
from settings.model import ModelConfig

HANET_OPTIONS = frozenset(  # that `height_attention` reads
    {
        "hanet",
        "hanet_set",
        "hanet_pos",
        "hanet_pooling",
        "hanet_dropout",
        "pos_rfactor",
        "pos_noise",
    }
)
UP_TO_50, ABOVE_50 = 100.0, 10.0  # base of the sinusoids by number of channels


@dataclass(frozen=True, kw_only=True)
class HANetSettings:
    """Options of a block.

    kernel of the last convolution (odd); reduction: hidden channels are inputs / reduction
    rounded up, or inputs * -reduction below zero; layers: 2 or 3 convolutions. injection: 0
    without height code, 1 on the pooled map, 2 after the first layer; sinusoid: the fixed code,
    else a learned one. row_steps: steps (128 to an image) that share a row of the code; the
    map is pooled to 128 // row_steps rows. dropout of whole channels; noise: standard deviation,
    in rows of the code, of the positions in training.
    """

    kernel: int = 3
    reduction: int = 32
    layers: int = 3
    injection: int = 2
    sinusoid: bool = True
    row_steps: int = 8
    max_pooling: bool = False
    dropout: float = 0.0
    noise: float = 0.0

    @property
    def rows(self) -> int:
        """Rows of the pooled map."""
        return STEPS // self.row_steps

    def hidden(self, channels: int) -> int:
        """Width of the first layer for a map of `channels`."""
        if self.reduction < 0:
            return channels * -self.reduction
        return math.ceil(channels / self.reduction)


def sinusoids(rows: int, channels: int) -> Tensor:
    """The fixed height code (rows, channels) float32, in 0..2.

    Even channels 1 + sin, odd ones 1 + cos of row / base^(2 * floor(j / 2) / channels).
    """
    base = ABOVE_50 if channels > 50 else UP_TO_50
    channel = torch.arange(channels, dtype=torch.float64)
    rates = base ** (2 * (channel // 2) / channels)
    angles = torch.arange(rows, dtype=torch.float64)[:, None] / rates
    code = torch.where(channel % 2 == 0, angles.sin(), angles.cos())
    # The last bits of the published table: the one is added after rounding.
    return code.float() + 1


class HeightCode(nn.Module):
    """Adds to (B, C, R) what the table holds for the height of each of the R rows.

    The table has a row for padding, R, which is none of its own: a sinusoid goes on there.
    """

    def __init__(self, channels: int, settings: HANetSettings) -> None:
        super().__init__()
        self.rows, self.row_steps, self.noise = settings.rows, settings.row_steps, settings.noise
        self.pos_layer = nn.Embedding(settings.rows + 1, channels)
        if settings.sinusoid:
            self.pos_layer.weight.data = sinusoids(settings.rows + 1, channels)
            self.pos_layer.weight.requires_grad_(False)
        else:
            nn.init.zeros_(self.pos_layer.weight)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        """x (B, C, R); rows (B, H) as in `network/ops/rows.py`."""
        index = row_steps(rows, self.rows) // self.row_steps
        if self.training and self.noise > 0:
            index = self._moved(index)
        return x + self.pos_layer(index).transpose(1, 2).to(x.dtype)

    def _moved(self, index: Tensor) -> Tensor:
        # Cut towards zero, as in the torch of the authors: a floor would move half of all rows.
        limit = 16 // self.row_steps
        noise = (torch.randn(index.shape, device=index.device) * self.noise).long()
        return (index + noise.clamp(-limit, limit)).clamp(0, self.rows)


class HANet(nn.Module):
    """Gates (B, outputs, H') in 0..1 for a map H' rows high, from a map (B, channels, H, W)."""

    def __init__(self, channels: int, outputs: int, settings: HANetSettings) -> None:
        super().__init__()
        hidden, kernel = settings.hidden(channels), settings.kernel
        self.rows, self.max_pooling = settings.rows, settings.max_pooling
        self.pos_emb1d_1st = HeightCode(channels, settings) if settings.injection == 1 else None
        self.pos_emb1d_2nd = HeightCode(hidden, settings) if settings.injection == 2 else None
        self.dropout = nn.Dropout1d(settings.dropout)
        self.attention_first = nn.Sequential(
            nn.Conv1d(channels, hidden, 1, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()
        )
        if settings.layers == 3:
            self.attention_second = nn.Sequential(
                nn.Conv1d(hidden, 2 * hidden, 3, padding=1), nn.BatchNorm1d(2 * hidden), nn.ReLU()
            )
            last = nn.Conv1d(2 * hidden, outputs, kernel, padding=kernel // 2)
            self.attention_third = nn.Sequential(last)
        else:
            last = nn.Conv1d(hidden, outputs, kernel, padding=kernel // 2)
            self.attention_second, self.attention_third = nn.Sequential(last), nn.Sequential()
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, lower: Tensor, height: int, rows: Tensor | None) -> Tensor:
        """The gate for a map `height` rows high; rows (B, h) of any h, None: no height code."""
        return row_gate(self.row_logits(lower, rows), height)

    def row_logits(self, lower: Tensor, rows: Tensor | None) -> Tensor:
        """lower (B, channels, H, W) -> (B, outputs, R), before the sigmoid."""
        x = pooled(lower, self.rows, self.max_pooling)
        if self.pos_emb1d_1st is not None and rows is not None:
            x = self.pos_emb1d_1st(x, rows)
        x = self.attention_first(self.dropout(x))
        if self.pos_emb1d_2nd is not None and rows is not None:
            x = self.pos_emb1d_2nd(x, rows)
        return self.attention_third(self.attention_second(x))


def pooled(x: Tensor, rows: int, maximum: bool = False) -> Tensor:
    """(B, C, H, W) -> (B, C, rows): mean or maximum over the width and over bins of rows."""
    if torch.compiler.is_exporting():
        return _pooled_by_bins(x, rows, maximum)
    # Bins hold whole rows, all of the same width: over the width first is the same. Which way is
    # fast depends on the memory format, by a factor of 5 to 30.
    if x.is_contiguous(memory_format=torch.channels_last):
        pool = F.adaptive_max_pool2d if maximum else F.adaptive_avg_pool2d
        return pool(x, (rows, 1))[..., 0]
    if maximum:
        return F.adaptive_max_pool1d(x.amax(3), rows)
    return F.adaptive_avg_pool1d(x.mean(3), rows)


def _pooled_by_bins(x: Tensor, rows: int, maximum: bool) -> Tensor:
    """The same for a graph in which H may be unknown: adaptive pooling has no form for that."""
    if maximum:
        inside = bins(x.shape[2], rows, x.device)
        return x.amax(3)[:, :, None].masked_fill(~inside, float("-inf")).amax(3)
    return x.mean(3) @ bin_means(x.shape[2], rows, x).T


def row_gate(logits: Tensor, height: int) -> Tensor:
    """(B, C, R) -> (B, C, height) in 0..1; interpolated after the sigmoid."""
    return F.interpolate(logits.sigmoid(), size=height, mode="linear", align_corners=False)


def gated(x: Tensor, gate: Tensor) -> Tensor:
    """x (B, C, H, W) times gate (B, C, H); in the memory of `x` when no gradient is wanted."""
    gate = gate.to(x.dtype)
    if x.is_contiguous(memory_format=torch.channels_last):  # neighbours in memory, like those of x
        gate = gate.transpose(1, 2).contiguous().transpose(1, 2)
    factor = gate[..., None]
    return x * factor if torch.is_grad_enabled() else x.mul_(factor)


def hanet_settings(model: ModelConfig) -> HANetSettings:
    """The options of the blocks; UserError for those that describe no block."""
    kernel, reduction, layers = model.hanet_set
    if reduction == 0 or kernel < 1 or kernel % 2 == 0 or layers not in (2, 3):
        raise UserError(
            f"hanet_set {kernel},{reduction},{layers}: an odd kernel, a reduction that is not 0 "
            "and 2 or 3 layers wanted, e.g. 3,64,3"
        )
    injection, code = (*model.hanet_pos, -1, -1)[:2]
    if injection not in (0, 1, 2) or code not in (0, 1):
        raise UserError(
            f"hanet_pos {injection},{code}: wanted the layer that gets the height code (0 none, "
            "1, 2) and its kind (1 sinusoids, 0 learned), e.g. 2,1"
        )
    if model.pos_rfactor < 1:
        raise UserError(
            f"pos_rfactor {model.pos_rfactor}: HANet blocks need 1..{STEPS}, "
            "8 for the published 16 rows"
        )
    if model.hanet_pooling not in ("mean", "max"):
        raise UserError(f"hanet_pooling={model.hanet_pooling} is unknown; there are mean, max")
    return HANetSettings(
        kernel=kernel,
        reduction=reduction,
        layers=layers,
        injection=injection,
        sinusoid=code == 1,
        row_steps=model.pos_rfactor,
        max_pooling=model.hanet_pooling == "max",
        dropout=model.hanet_dropout,
        noise=model.pos_noise,
    )
