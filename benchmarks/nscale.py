# SPDX-License-Identifier: Apache-2.0
"""n-scale evaluation (0.5, 1, 2) of HRNet_Mscale, against the published procedure.

    python -m benchmarks.nscale --quick              # width 18, 128x256: seconds
    python -m benchmarks.nscale                      # width 48, 512x1024: minutes
    python -m benchmarks.nscale --width 48 --size 256,512 --rounds 1

The reference side runs the network as published: every layer on its own, NCHW, attention at every
scale, and class scores, auxiliary scores and attention of every scale brought to the size of the
scaled image and kept. Promised: at most 0.6 of its time and 0.5 of its peak memory, single
thread, and the same classes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import measure, print_table
from benchmarks.program import joined_first, make_parser, print_difference
from network.build import build_net
from network.inference import prepare_for_inference
from network.multiscale import MultiScale

SCALES = (0.5, 1.0, 2.0)
NUM_CLASSES = 19
REFERENCE, OURS = "published procedure", "ours"


def build(width: int) -> MultiScale:
    """The network with random weights and batch norms that do something."""
    torch.manual_seed(0)
    net = build_net("ocrnet.HRNet_Mscale", NUM_CLASSES, hrnet_width=width, n_scales=SCALES)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.72 * module.weight[0].numel() ** -0.5)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.05)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    assert isinstance(net, MultiScale)
    return net.eval()


def draw(size: tuple[int, int]) -> Tensor:
    """A smooth image, (1, 3, H, W)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, 24, 48, generator=generator)
    return F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)


def as_published(net: MultiScale) -> MultiScale:
    """The OCR head's activations out of place, as the published program has them."""
    for module in net.net.get_submodule("ocr").modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return net


def _up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def published_procedure(net: MultiScale, image: Tensor) -> Tensor:
    """Joint class scores (1, K, H, W) the way the published program forms them."""
    size = (image.shape[2], image.shape[3])
    kept: dict[float, tuple[Tensor, Tensor, Tensor]] = {}
    joint, joint_aux = torch.empty(0), torch.empty(0)
    for scale in sorted(SCALES, reverse=True):
        scaled = (int(size[0] * scale), int(size[1] * scale))
        with joined_first():
            maps = net.net.maps(_up(image, scaled))
        assert maps.aux is not None
        pred, aux = _up(maps.logits, scaled), _up(maps.aux, scaled)
        attention = _up(net.scale_attn(maps.feats), scaled)
        kept[scale] = (pred, aux, attention)
        if scale == max(SCALES):
            joint, joint_aux = pred, aux
        elif scale >= 1:
            joint = attention * pred + (1 - attention) * _up(joint, scaled)
            joint_aux = attention * aux + (1 - attention) * _up(joint_aux, scaled)
        else:
            pred, aux = _up(attention * pred, size), _up(attention * aux, size)
            attention = _up(attention, size)
            joint = pred + (1 - attention) * joint
            joint_aux = aux + (1 - attention) * joint_aux
    return joint


@torch.inference_mode()
def ours(net: nn.Module, image: Tensor) -> Tensor:
    """Joint class scores of the prepared network."""
    pred: Tensor = net(image)["pred"]
    return pred


def make_side(name: str, width: int, size: tuple[int, int]) -> Callable[[], Tensor]:
    """One side ready to be called; a small image has been through it already."""
    torch.set_num_threads(1)
    net = build(width)
    if name == REFERENCE:
        side = partial(published_procedure, as_published(net))
    else:
        side = partial(ours, prepare_for_inference(net))
    side(draw((64, 128)))
    return partial(side, draw(size))


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=2)
    parser.add_argument("--size", default="512,1024", help="H,W of the image")
    parser.add_argument("--width", type=int, default=48, help="HRNet width")
    parser.add_argument("--quick", action="store_true", help="width 18, 128x256")
    args = parser.parse_args()
    if args.quick:
        args.size, args.width = "128,256", 18
    height, width = (int(side) for side in args.size.split(","))
    size = (height, width)
    print_difference(*(make_side(name, args.width, size)() for name in (REFERENCE, OURS)))
    rows = measure(make_side, (REFERENCE, OURS), args.width, size, rounds=args.rounds)
    # Weights and what importing costs are there before; all that a prediction needs is counted.
    title = f"HRNet_Mscale W{args.width}, {height}x{width}, scales 0.5, 1, 2, one thread"
    print_table(title + " (limits 0.6 and 0.5)", rows)


if __name__ == "__main__":
    main()
