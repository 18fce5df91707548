# SPDX-License-Identifier: Apache-2.0
"""1x1 convolutions and linear layers on one thread: by oneDNN and as PyTorch chooses.

python -m benchmarks.onednn
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.measure import print_table, time_in_turn
from benchmarks.program import make_parser
from network.build import build_net
from network.ops.onednn import prefer_onednn
from network.outputs import PRED

LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "1x1 convolution, 720 to 720 channels, 64x64, batch 2": (
        nn.Conv2d(720, 720, 1),
        (2, 720, 64, 64),
    ),
    "1x1 convolution, 64 to 256 channels, 32x64, batch 4": (nn.Conv2d(64, 256, 1), (4, 64, 32, 64)),
    "linear, 64 to 256 channels, 16,384 tokens": (nn.Linear(64, 256), (1, 16384, 64)),
    "linear, 320 to 1280 channels, 1,024 tokens": (nn.Linear(320, 1280), (1, 1024, 320)),
}
ARCHS = ("ocrnet.HRNet18_Mscale", "segformer.B1", "efficientnet.lite0_DeepV3Plus", "unept.R50")
NUM_CLASSES = 19


def layer_step(layer: nn.Module, inputs: Tensor) -> Callable[[], None]:
    """Forward and backward of one layer."""
    like = torch.ones_like(layer(inputs))

    def step() -> None:
        inputs.grad = None
        layer(inputs).backward(like)

    return step


def training_step(net: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    """Forward and backward with cross entropy."""

    def step() -> None:
        nn.functional.cross_entropy(net(images)[PRED], labels).backward()

    step()
    return step


def compare(title: str, sides: dict[str, Callable[[], None]], rounds: int) -> None:
    """One table; the first side is what PyTorch chooses."""
    print_table(title, time_in_turn(sides, rounds))


def main() -> None:
    """Print a table for each layer and network."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--archs", nargs="*", default=ARCHS, metavar="ARCH")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for title, (layer, shape) in LAYERS.items():
        inputs = torch.randn(shape)
        if len(shape) == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            layer.to(memory_format=torch.channels_last)
        inputs.requires_grad_()
        ours = prefer_onednn(nn.Sequential(copy.deepcopy(layer)))
        sides = {"PyTorch": layer_step(layer, inputs), "oneDNN": layer_step(ours, inputs)}
        compare(f"{title}, forward and backward", sides, 3 * arguments.rounds)
    for arch in arguments.archs:
        torch.manual_seed(0)
        images = torch.randn(2, 3, 256, 256)
        labels = torch.randint(0, NUM_CLASSES, (2, 256, 256))
        net = build_net(arch, NUM_CLASSES).train()
        last = copy.deepcopy(net).to(memory_format=torch.channels_last)
        ours = prefer_onednn(copy.deepcopy(last))
        pixels = images.contiguous(memory_format=torch.channels_last)
        sides = {
            "contiguous": training_step(net, images, labels),
            "channels_last": training_step(last, pixels, labels),
            "channels_last, oneDNN": training_step(ours, pixels, labels),
        }
        compare(f"{arch}, training step, 2 x 256x256", sides, arguments.rounds)


if __name__ == "__main__":
    main()
