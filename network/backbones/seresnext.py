# SPDX-License-Identifier: Apache-2.0
"""SE-ResNeXt-50 and -101 (32x4d) at stride 8: grouped bottlenecks with channel gates.

Sources: Xie et al., "Aggregated Residual Transformations" (2017); Hu et al.,
"Squeeze-and-Excitation Networks" (2018). Attribute names are those of the published weights.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import SqueezeExcitation

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import conv_bn, dilate

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
GROUPS, GROUP_WIDTH, REDUCTION = 32, 4, 16


class GatedBottleneck(Bottleneck):  # type: ignore[misc]  # torchvision has no types
    """torchvision's grouped bottleneck with a gate for every channel before the sum."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        outputs = planes * self.expansion
        shortcut = conv_bn(inputs, outputs, 1, stride) if inputs != outputs else None
        super().__init__(inputs, planes, stride, shortcut, GROUPS, GROUP_WIDTH)
        self.se_module = SqueezeExcitation(outputs, outputs // REDUCTION)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.se_module(self.bn3(self.conv3(out)))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def _stage(inputs: int, planes: int, num_blocks: int, stride: int) -> nn.Sequential:
    outputs = planes * GatedBottleneck.expansion
    rest = (GatedBottleneck(outputs, planes, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(GatedBottleneck(inputs, planes, stride), *rest)


class SEResNeXt(ThreeMaps):
    """(B, 3, H, W) -> maps of 256 (stride 4), 512 and 2048 channels (stride 8).

    Every 3x3 convolution of layer3 has dilation 2 and of layer4 dilation 4. `blocks` of the four
    stages are those of `depth` (50 or 101) unless given.
    """

    channels = (256, 512, 2048)
    strides = (4, 8, 8)
    file_names = {"last_linear.": None}

    def __init__(
        self,
        depth: int = 50,
        *,
        blocks: tuple[int, int, int, int] | None = None,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        counts = blocks or BLOCKS[depth]
        self.layer0 = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                bn1=nn.BatchNorm2d(64),
                relu1=nn.ReLU(inplace=True),
                pool=nn.MaxPool2d(3, stride=2, ceil_mode=True),
            )
        )
        self.layer1 = _stage(64, 64, counts[0], stride=1)
        self.layer2 = _stage(256, 128, counts[1], stride=2)
        self.layer3 = dilate(_stage(512, 256, counts[2], stride=2), 2)
        self.layer4 = dilate(_stage(1024, 512, counts[3], stride=2), 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.run(self.layer1, self.layer0(images))
        second = self.run(self.layer2, low)
        final = self.run(self.layer4, self.run(self.layer3, second))
        return [low, second, final]
