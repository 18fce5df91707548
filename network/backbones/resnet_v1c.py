# SPDX-License-Identifier: Apache-2.0
"""ResNet-50 with a stem of three 3x3 convolutions, at stride 8.

Sources: He et al., "Bag of Tricks for Image Classification with CNNs" (2019), section 4, for the
stem; Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation" (2017) for the
dilated stages.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from network.backbones.trunk import Trunk
from network.ops.conv import conv_bn_relu


class ResNetV1c(Trunk):
    """(B, 3, H, W) -> [512, 1024, 2048] channels, three depths at one resolution: ceil(H / 8).

    The first block of a dilated stage keeps the dilation of the stage before, the others have 2
    (stage 3) and 4 (stage 4). `grad_ckpt` cuts between the stages.
    """

    channels = (512, 1024, 2048)
    strides = (8, 8, 8)
    file_names = {
        **{f"conv{n + 1}.": f"stem.{3 * n}." for n in range(3)},
        **{f"bn{n + 1}.": f"stem.{3 * n + 1}." for n in range(3)},
        "fc.": None,
    }

    def __init__(
        self, blocks: tuple[int, int, int, int] = (3, 4, 6, 3), *, grad_ckpt: bool = False
    ) -> None:
        super().__init__(grad_ckpt)
        source = torchvision_resnet.ResNet(
            torchvision_resnet.Bottleneck,
            list(blocks),
            num_classes=1,  # of a classifier that is thrown away
            replace_stride_with_dilation=[False, True, True],
        )
        self.stem = nn.Sequential(
            *conv_bn_relu(3, 32, 3, stride=2),
            *conv_bn_relu(32, 32, 3),
            *conv_bn_relu(32, 64, 3),
        )
        self.maxpool = source.maxpool
        self.layer1, self.layer2 = source.layer1, source.layer2
        self.layer3, self.layer4 = source.layer3, source.layer4

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(self.stem(images))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = self.run(stage, x)
            maps.append(x)
        return maps[1:]
