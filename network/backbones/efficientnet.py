# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-B4 at stride 8: torchvision's network with dilated last stages.

Source: Tan, Le, "EfficientNet: Rethinking Model Scaling" (2019).
"""

from __future__ import annotations

from torch import Tensor
from torchvision.models import efficientnet_b4

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import dilate

NUM_STAGES = 8  # stem and seven stages; the 1x1 convolution to 1792 channels is the classifier's
TAPS = (1, 2)  # stages that give the low and the second map
DILATIONS = {4: 2, 5: 2, 6: 4, 7: 4}


class EfficientNetB4(ThreeMaps):
    """(B, 3, H, W) -> maps of 24 (stride 2), 32 (stride 4) and 448 channels (stride 8).

    Every depthwise convolution behind the third stride has dilation 2, behind the fourth 4, as
    in the other trunks. Keys under `features.` are torchvision's.
    """

    channels = (24, 32, 448)
    strides = (2, 4, 8)
    file_names = {"features.8.": None, "classifier.": None}

    def __init__(self, *, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        self.features = efficientnet_b4(weights=None, num_classes=1).features[:NUM_STAGES]
        for index, dilation in DILATIONS.items():
            dilate(self.features[index], dilation)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for index, stage in enumerate(self.features):
            x = self.run(stage, x)
            if index in TAPS:
                maps.append(x)
        return [*maps, x]
