# SPDX-License-Identifier: Apache-2.0
"""One pass of three networks at one scale, against the published procedure.

    python -m benchmarks.forward --archs ocrnet.HRNet     # seconds
    python -m benchmarks.forward                          # a minute

The reference side is the same network step by step as published: maps joined at the size of the
first before a head convolves them, every batch norm on its own; HRViT's tokens and images turned
into each other, HILA's windows unfolded before they are projected. "As built" is what `build_net`
gives, "prepared" what evaluation makes of it. One thread. Promised of the prepared network: at most
0.75 of the time of HRViT-b1 with UPerNet, 0.65 of HILA on Swin-T, 0.8 of HRNet-W48 with OCR.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.hila import FORMS
from benchmarks.hrvit import trunk_as_written
from benchmarks.measure import measure, print_table
from benchmarks.program import joined_first, make_parser, print_difference
from network.backbones.hrvit import HRViT
from network.build import build_net
from network.inference import prepare_for_inference
from network.outputs import PRED

NUM_CLASSES = 19
PUBLISHED, BUILT, PREPARED = "as published", "as built", "prepared"
SIDES = (PUBLISHED, BUILT, PREPARED)
Size = tuple[int, int]
NETWORKS: dict[str, tuple[Size, float]] = {  # size of the image, limit
    "hrvit.b1_UPerNet": ((256, 256), 0.75),
    "hila.SwinT_S234": ((256, 256), 0.65),
    "ocrnet.HRNet": ((128, 256), 0.8),
}


def build(arch: str) -> nn.Module:
    """The network in eval mode, with random weights under which no layer is without effect."""
    torch.manual_seed(0)
    net = build_net(arch, NUM_CLASSES)
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=0.72 * module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
    return net.eval()


def _as_published(net: nn.Module) -> nn.Module:
    """`net` itself, its layers in the published form."""
    for module in list(net.modules()):
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if type(module) in FORMS:
            module.__class__ = FORMS[type(module)]
        if isinstance(module, HRViT):
            vars(module)["forward"] = partial(trunk_as_written, module)
    return net


@torch.inference_mode()
def _published(net: nn.Module, image: Tensor) -> Tensor:
    with joined_first():
        pred: Tensor = net(image)[PRED]
    return pred


@torch.inference_mode()
def _ours(net: nn.Module, image: Tensor) -> Tensor:
    pred: Tensor = net(image)[PRED]
    return pred


def draw(size: Size) -> Tensor:
    """An image (1, 3, H, W)."""
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def make_side(name: str, arch: str, size: Size) -> Callable[[], Tensor]:
    """One side ready to be called; the image has been through it already."""
    torch.set_num_threads(1)
    net = build(arch)
    if name == PUBLISHED:
        side = partial(_published, _as_published(net), draw(size))
    else:
        side = partial(_ours, prepare_for_inference(net) if name == PREPARED else net, draw(size))
    side()
    return side


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--archs", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    args = parser.parse_args()
    for arch in args.archs:
        size, limit = NETWORKS[arch]
        print_difference(*(make_side(name, arch, size)() for name in (PUBLISHED, PREPARED)))
        rows = measure(make_side, SIDES, arch, size, rounds=args.rounds)
        print_table(f"{arch}, {size[0]}x{size[1]}, one thread", rows, limit)


if __name__ == "__main__":
    main()
