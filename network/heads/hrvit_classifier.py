# SPDX-License-Identifier: Apache-2.0
"""The classifier on the four maps of HRViT: widened, joined from fine to coarse, pooled.

Source: Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition"
(2020), section 3.4; attribute names are those of the published weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from network.ops.conv import conv, conv_bn

PLANES, EXPANSION, FINAL_WIDTH = (32, 64, 128, 256), 4, 2048


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a projected residual sum: (B, inputs, h, w) -> (B, 4 * planes, h, w)."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1, self.bn1 = conv(inputs, planes, 1), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv(planes, planes, 3), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = conv(planes, outputs, 1), nn.BatchNorm2d(outputs)
        self.downsample = conv_bn(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    layer = conv(inputs, outputs, kernel, stride, bias=True)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class HRViTClassifierHead(nn.Module):
    """Four maps (B, C_i, h_i, w_i) to class scores (B, K).

    `dropout`: in 0..1, before the last layer.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, dropout: float) -> None:
        super().__init__()
        widths = [EXPANSION * planes for planes in PLANES]
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(inputs, planes))
            for inputs, planes in zip(channels, PLANES, strict=True)
        )
        self.downsamp_modules = nn.ModuleList(
            _conv_bn_relu(fine, coarse, 3, 2)
            for fine, coarse in zip(widths[:-1], widths[1:], strict=True)
        )
        self.final_layer = _conv_bn_relu(widths[-1], FINAL_WIDTH, 1, 1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(FINAL_WIDTH, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        joint = self.incre_modules[0](features[0])
        for down, widen, feature in zip(
            self.downsamp_modules, self.incre_modules[1:], features[1:], strict=True
        ):
            joint = widen(feature) + down(joint)
        pooled = self.final_layer(joint).mean(dim=(2, 3))
        return self.classifier(self.dropout(pooled))
