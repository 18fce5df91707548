# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-B4 at stride 8: torchvision's network with dilated last stages.

Source: Tan, Le, "EfficientNet: Rethinking Model Scaling" (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import efficientnet_b4

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import dilate
from network.ops.resize import parts_of

NUM_STAGES = 8  # stem and seven stages; the 1x1 convolution to 1792 channels is the classifier's
TAPS = (1, 2)  # stages that give the low and the second map
TF_FORM, TF_EPS, EPS = "tf_form", 1e-3, 1e-5  # entry of a file; of the batch norms
DILATIONS = {4: 2, 5: 2, 6: 4, 7: 4}


class SameConv(nn.Conv2d):
    """A convolution whose padding, one more at the right and below if odd, is TensorFlow's."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((parts_of(size, stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(
            F.pad(x, pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )


def _with_padding(conv: nn.Conv2d, same: bool) -> nn.Conv2d:
    """`conv` with TensorFlow's padding or that of torchvision, on the same weights."""
    new = (SameConv if same else nn.Conv2d)(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0], conv.kernel_size[1]),
        stride=(conv.stride[0], conv.stride[1]),
        padding=conv.kernel_size[0] // 2,
        groups=conv.groups,
        bias=conv.bias is not None,
    )
    new.weight, new.bias = conv.weight, conv.bias
    return new


class EfficientNetB4(ThreeMaps):
    """(B, 3, H, W) -> maps of 24 (stride 2), 32 (stride 4) and 448 channels (stride 8).

    Every depthwise convolution behind the third stride has dilation 2, behind the fourth 4, as
    in the other trunks. Keys under `features.` are torchvision's.
    """

    channels = (24, 32, 448)
    strides = (2, 4, 8)
    file_names = {"features.8.": None, "classifier.": None}
    listed_parts = ("features",)

    def __init__(self, *, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        self.features = efficientnet_b4(weights=None, num_classes=1).features[:NUM_STAGES]
        for index, dilation in DILATIONS.items():
            dilate(self.features[index], dilation)

    def adapt_to_file(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Takes TensorFlow's padding and epsilon if the file says so by an entry `tf_form`.

        The entry goes into checkpoints, so that a network stays what it was trained as.
        """
        if not state:
            return state
        tf_form = TF_FORM in state
        if tf_form:
            self.register_buffer(TF_FORM, torch.ones(1).to(next(self.parameters()).device))
        elif TF_FORM in self._buffers:
            delattr(self, TF_FORM)
        for name, layer in list(self.features.named_modules()):
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps = TF_EPS if tf_form else EPS
            elif isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
                self.features.set_submodule(name, _with_padding(layer, tf_form))
        return state

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for index, stage in enumerate(self.features):
            x = self.run(stage, x)
            if index in TAPS:
                maps.append(x)
        return [*maps, x]
