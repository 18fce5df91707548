# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 at stride 8, 16 or 32: EfficientNet-B0 without its gates, with ReLU6.

Names are timm's. Padding and epsilon are those of TensorFlow, in which it was trained.

Sources: Tan, Le, "EfficientNet: Rethinking Model Scaling" (2019); Liu, "Higher accuracy on vision
models with EfficientNet-Lite" (TensorFlow blog, 2020).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from network.backbones.efficientnet import TF_EPS, SameConv
from network.backbones.three_maps import ThreeMaps
from network.ops.init import init_transformer

STEM = 32


class Stage(NamedTuple):
    """Blocks of one width: side of the kernel, stride of the first, factor of the inner width."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LOW, SECOND = 1, 2  # stages that give the low and the second map


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with TensorFlow's epsilon."""
    return nn.BatchNorm2d(channels, eps=TF_EPS)


def _depthwise(channels: int, kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    """A convolution of each channel: size ceil(H / stride)."""
    if stride > 1:
        return SameConv(channels, channels, kernel, stride, groups=channels, bias=False)
    pads = kernel // 2 * dilation
    return nn.Conv2d(
        channels, channels, kernel, 1, pads, dilation=dilation, groups=channels, bias=False
    )


class LiteBlock(nn.Module):
    """Widen, one convolution of each channel, narrow: (B, C, H, W) -> (B, D, H', W')."""

    def __init__(self, inputs: int, stage: Stage, stride: int, dilation: int) -> None:
        super().__init__()
        width, outputs = inputs * stage.expansion, stage.channels
        self.widens = stage.expansion > 1
        self.adds = stride == 1 and inputs == outputs
        depthwise = _depthwise(width, stage.kernel, stride, dilation)
        if self.widens:
            self.conv_pw, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), norm(width)
            self.conv_dw, self.bn2 = depthwise, norm(width)
            self.conv_pwl, self.bn3 = nn.Conv2d(width, outputs, 1, bias=False), norm(outputs)
        else:
            self.conv_dw, self.bn1 = depthwise, norm(width)
            self.conv_pw, self.bn2 = nn.Conv2d(width, outputs, 1, bias=False), norm(outputs)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if self.widens:
            out = self.act(self.bn1(self.conv_pw(x)))
            out = self.act(self.bn2(self.conv_dw(out)))
            out = self.bn3(self.conv_pwl(out))
        else:
            out = self.act(self.bn1(self.conv_dw(x)))
            out = self.bn2(self.conv_pw(out))
        return out + x if self.adds else out


class EfficientNetLite0(ThreeMaps):
    """(B, 3, H, W) -> maps of 24 (stride 4), 40 (stride 8) and 320 channels (`stride`).

    A stage that would go below `stride` keeps its size, and the convolutions behind its first
    block are dilated by what it leaves out. `conv_head` and what follows belong to the classifier.
    """

    channels = (24, 40, 320)
    file_names = {"conv_head.": None, "bn2.": None, "classifier.": None}
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3  # inputs (x - 127) / 128
    listed_parts = ("blocks",)

    def __init__(self, stride: int = 16, *, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        assert stride in (8, 16, 32)
        self.strides = (4, 8, stride)
        self.conv_stem = SameConv(3, STEM, 3, 2, bias=False)
        self.bn1, self.act = norm(STEM), nn.ReLU6(inplace=True)
        stages: list[nn.Sequential] = []
        inputs, reached, dilation = STEM, 2, 1
        for stage in LITE0:
            shrinks = reached * stage.stride <= stride
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                step = stage.stride if index == 0 and shrinks else 1
                blocks.append(LiteBlock(inputs, stage, step, dilation))
                inputs = stage.channels
                if index == 0 and not shrinks:
                    dilation *= stage.stride
            reached *= stage.stride if shrinks else 1
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        init_transformer(self)  # convolutions as TensorFlow starts them

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], self.act(self.bn1(self.conv_stem(images)))
        for index, stage in enumerate(self.blocks):
            x = self.run(stage, x)
            if index in (LOW, SECOND):
                maps.append(x)
        return [*maps, x]
