# SPDX-License-Identifier: Apache-2.0
"""Aligned Xception-71 at stride 8: residual units of depthwise separable convolutions.

Sources: Chollet, "Xception" (2017); Chen et al., "Encoder-Decoder with Atrous Separable
Convolution" (2018). Attribute names are those of the published weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import conv

# Channels of: stem, stem, block1, block2, blocks 3-19, block20, conv3 and conv4, conv5.
PUBLISHED_WIDTHS = (32, 64, 128, 256, 728, 1024, 1536, 2048)
PUBLISHED_MIDDLE = 16


class Separable(nn.Module):
    """Depthwise 3x3 with batch norm, then pointwise 1x1; nothing after it."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = conv(inputs, inputs, 3, stride, dilation=dilation, groups=inputs)
        self.bn = nn.BatchNorm2d(inputs)
        self.pointwise = conv(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.bn(self.conv1(x)))


class Unit(nn.Module):
    """`repeats` times ReLU, separable convolution, batch norm; no ReLU after the sum.

    With stride 2 a last strided one follows. `exit_unit`: the width grows in the second
    convolution, and one more without dilation follows. `rectified`: the input went through a
    ReLU already, so that the unit begins with a convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        repeats: int = 2,
        *,
        stride: int = 1,
        dilation: int = 1,
        rectified: bool = False,
        exit_unit: bool = False,
    ) -> None:
        super().__init__()
        self.rectified = rectified
        middle = inputs if exit_unit else outputs
        widths = [(inputs, middle), (middle, outputs), *[(outputs, outputs)] * (repeats - 2)]
        convs = [Separable(*pair, dilation=dilation) for pair in widths]
        if stride > 1:
            convs.append(Separable(outputs, outputs, stride=stride, dilation=dilation))
        if exit_unit:
            convs.append(Separable(outputs, outputs))
        layers: list[nn.Module] = []
        for separable in convs:
            norm = nn.BatchNorm2d(separable.pointwise.out_channels)
            layers += [nn.ReLU(inplace=True), separable, norm]
        # The leading ReLU is in `forward`, since the shortcut sees its result too; its place in
        # the numbering stays, except in the units that never had one.
        self.rep = nn.Sequential(*([] if rectified else [nn.Identity()]), *layers[1:])
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.skip, self.skipbn = conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        if not self.rectified:
            x = F.relu(x)
        return self.rep(x) + self.skipbn(self.skip(x))


class Xception71(ThreeMaps):
    """(B, 3, H, W) -> maps of 64 (stride 2), 128 (stride 4) and 2048 channels (stride 8)."""

    strides = (2, 4, 8)
    file_names = {"fc.": None}

    def __init__(
        self,
        widths: tuple[int, ...] = PUBLISHED_WIDTHS,
        *,
        middle: int = PUBLISHED_MIDDLE,
        grad_ckpt: bool = False,
    ) -> None:
        super().__init__(grad_ckpt)
        w = widths
        self.channels = (w[1], w[2], w[7])
        self.conv1, self.bn1 = conv(3, w[0], 3, 2), nn.BatchNorm2d(w[0])
        self.conv2, self.bn2 = conv(w[0], w[1], 3), nn.BatchNorm2d(w[1])
        self.block1 = Unit(w[1], w[2], stride=2, rectified=True)
        self.block2 = Unit(w[2], w[3], rectified=True)
        self.block3 = Unit(w[3], w[4], stride=2)
        for number in range(4, 4 + middle):
            self.add_module(f"block{number}", Unit(w[4], w[4], 3, dilation=2))
        self.add_module(f"block{4 + middle}", Unit(w[4], w[5], dilation=2, exit_unit=True))
        self.deep_units = [f"block{number}" for number in range(2, 5 + middle)]
        self.conv3, self.bn3 = Separable(w[5], w[6], dilation=4), nn.BatchNorm2d(w[6])
        self.conv4, self.bn4 = Separable(w[6], w[6], dilation=4), nn.BatchNorm2d(w[6])
        self.conv5, self.bn5 = Separable(w[6], w[7], dilation=4), nn.BatchNorm2d(w[7])

    def forward(self, images: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        low = F.relu(self.bn2(self.conv2(x)), inplace=True)
        second = F.relu(self.run(self.block1, low))
        final = second
        for name in self.deep_units:
            final = self.run(self.get_submodule(name), final)
        final = F.relu(final)
        final = F.relu(self.bn3(self.conv3(final)), inplace=True)
        final = F.relu(self.bn4(self.conv4(final)), inplace=True)
        final = F.relu(self.bn5(self.conv5(final)), inplace=True)
        return [low, second, final]
