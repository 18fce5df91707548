# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 and ResNet-101 at stride 8: torchvision's network with dilated last stages.

Source: He et al., "Deep Residual Learning for Image Recognition" (2016); dilation as in Chen et
al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017).
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import dilate

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNet(ThreeMaps):
    """(B, 3, H, W) -> maps of 256 (stride 4), 512 and 2048 channels (stride 8).

    Every 3x3 convolution of layer3 has dilation 2 and of layer4 dilation 4. `blocks` of the four
    stages are those of `depth` (50 or 101) unless given.
    """

    channels = (256, 512, 2048)
    strides = (4, 8, 8)
    file_names = {
        "conv1.": "layer0.0.",
        "bn1.": "layer0.1.",
        "fc.": None,
    }

    def __init__(
        self,
        depth: int = 50,
        *,
        blocks: tuple[int, int, int, int] | None = None,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        layers = list(blocks or BLOCKS[depth])
        # One class is enough for a classifier that is thrown away.
        source = torchvision_resnet.ResNet(torchvision_resnet.Bottleneck, layers, num_classes=1)
        self.layer0 = nn.Sequential(source.conv1, source.bn1, source.relu, source.maxpool)
        self.layer1, self.layer2 = source.layer1, source.layer2
        # torchvision's own dilation leaves the first block of a stage at that of the stage before.
        self.layer3, self.layer4 = dilate(source.layer3, 2), dilate(source.layer4, 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.run(self.layer1, self.layer0(images))
        second = self.run(self.layer2, low)
        final = self.run(self.layer4, self.run(self.layer3, second))
        return [low, second, final]
