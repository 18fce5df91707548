# SPDX-License-Identifier: Apache-2.0
"""WiderResNet-38 (A2): few, wide pre-activation blocks, stride 8 by dilation.

Source: Wu, Shen, van den Hengel, "Wider or Deeper: Revisiting the ResNet Model for Visual
Recognition" (2016). Attribute names are those of the published weights.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from network.backbones.three_maps import ThreeMaps
from network.ops.conv import bn_relu, conv


class Block(nn.Module):
    """Batch norm and ReLU, then two 3x3 convolutions or 1x1, 3x3, 1x1, plus a shortcut.

    `widths` are the outputs of the two or three convolutions. The first carries the stride, the
    3x3 ones the dilation; dropout of whole channels comes before the last.
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        *,
        stride: int = 1,
        dilation: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.bn1 = bn_relu(inputs)
        kernels = (3, 3) if len(widths) == 2 else (1, 3, 1)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        before = inputs
        for number, (width, kernel) in enumerate(zip(widths, kernels, strict=True), start=1):
            if number > 1:
                layers[f"bn{number}"] = bn_relu(before)
            if number == len(widths) and dropout:
                layers["dropout"] = nn.Dropout2d(dropout)
            layers[f"conv{number}"] = conv(
                before,
                width,
                kernel,
                stride if number == 1 else 1,
                dilation=dilation if kernel == 3 else 1,
            )
            before = width
        self.convs = nn.Sequential(layers)
        changes = stride != 1 or inputs != before
        self.proj_conv = conv(inputs, before, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.bn1(x)
        shortcut = x if self.proj_conv is None else self.proj_conv(activated)
        return self.convs(activated) + shortcut


def _stage(
    inputs: int,
    widths: Sequence[int],
    count: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    dropout: float = 0.0,
) -> nn.Sequential:
    """`count` blocks, named from `block1` on; the first takes `inputs` and the stride."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, count + 1):
        blocks[f"block{number}"] = Block(
            inputs if number == 1 else widths[-1],
            widths,
            stride=stride if number == 1 else 1,
            dilation=dilation,
            dropout=dropout,
        )
    return nn.Sequential(blocks)


class WiderResNet38(ThreeMaps):
    """(B, 3, H, W) -> maps of 2w (stride 2), 4w (stride 4) and 64w channels (stride 8), w = 64.

    The last map is the bare sum of the last block: no norm, no ReLU.
    """

    strides = (2, 4, 8)
    file_names = {"bn_out.": None, "classifier.": None}

    def __init__(self, width: int = 64, *, grad_ckpt: bool = False) -> None:
        super().__init__(grad_ckpt)
        w = width
        self.channels = (2 * w, 4 * w, 64 * w)
        self.mod1 = nn.Sequential(OrderedDict(conv1=conv(3, w, 3)))
        self.mod2 = _stage(w, (2 * w, 2 * w), 3)
        self.mod3 = _stage(2 * w, (4 * w, 4 * w), 3)
        self.mod4 = _stage(4 * w, (8 * w, 8 * w), 6, stride=2)
        self.mod5 = _stage(8 * w, (8 * w, 16 * w), 3, dilation=2)
        self.mod6 = _stage(16 * w, (8 * w, 16 * w, 32 * w), 1, dilation=4, dropout=0.3)
        self.mod7 = _stage(32 * w, (16 * w, 32 * w, 64 * w), 1, dilation=4, dropout=0.5)

    def forward(self, images: Tensor) -> list[Tensor]:
        low = self.run(self.mod2, self._half(self.mod1(images)))
        second = self.run(self.mod3, self._half(low))
        final = second
        for stage in (self.mod4, self.mod5, self.mod6, self.mod7):
            final = self.run(stage, final)
        return [low, second, final]

    @staticmethod
    def _half(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, stride=2, padding=1)
