# SPDX-License-Identifier: Apache-2.0
"""Parameters and multiply-adds of a network, stage by stage.

    python -m tools.summary hrvit.b1_SegFormer --size 512,512 --num_classes 150
    python -m tools.summary ocrnet.HRNet_Mscale --size 1024,2048 --n_scales 0.5,1,2
    python -m tools.summary timm.UPerNet --trunk swin_tiny_patch4_window7_224

Takes every name that `--arch` takes. Nothing is computed, so any size is quick. `GMACs` are the
multiply-adds of one image as they are done here, in 10^9; `published` counts as papers do, where
the numbers are called FLOPs (see `network/count.py`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from torch import nn

from network.backbones.trunk import Trunk
from network.build import build_net, is_classifier, resolve_arch
from network.contract import OneScale
from network.count import Macs, count_macs
from runtime import streams
from runtime.errors import UserError, wrong_input

IMAGENET_CLASSES, CITYSCAPES_CLASSES = 1000, 19


def stages(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Names and modules of the parts that are listed, in order, none inside another.

    A network inside a wrapper, a trunk, and what a trunk names in `listed_parts` are opened.
    """
    further = net.listed_parts if isinstance(net, Trunk) else ()
    for name, part in net.named_children():
        opened = isinstance(part, OneScale | Trunk) or name in further
        opened = opened or (prefix != "" and isinstance(part, nn.ModuleList))
        if opened and any(True for _ in part.children()):
            yield from stages(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def num_parameters(net: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(item.numel() for item in net.parameters())


def table(net: nn.Module, size: tuple[int, int]) -> list[str]:
    """Lines: one per stage that has parameters or does anything, and the sum."""
    parts = dict(stages(net))
    macs = count_macs(net, size, parts)
    counts = {name: num_parameters(part) for name, part in parts.items()}
    counts[""] = num_parameters(net) - sum(counts.values())
    width = max(len(name) for name in [*parts, "elsewhere"]) + 2
    lines = [f"{'':{width}}{'parameters':>14}{'GMACs':>12}{'published':>12}"]
    total = Macs()
    for name, count in counts.items():
        row = macs[name]
        total.add(row.computed, row.published)
        if count or row.published:
            lines.append(_line(name or "elsewhere", width, count, row))
    return [*lines, _line("total", width, sum(counts.values()), total)]


def _line(name: str, width: int, count: int, macs: Macs) -> str:
    return f"{name:{width}}{count:14,}{macs.computed / 1e9:12.3f}{macs.published / 1e9:12.3f}"


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition(",")
    if not (height.isdecimal() and width.isdecimal()) or min(int(height), int(width)) < 32:
        raise UserError(f"--size {text}: H,W in pixels wanted, at least 32 each, such as 512,512")
    return int(height), int(width)


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--n_scales {text}: numbers wanted, such as 0.5,1.0,2.0") from None


def report(
    arch: str, size: str, num_classes: int | None, n_scales: str | None, trunk: str = ""
) -> list[str]:
    """What to print; UserError for an unknown network, size, scale, trunk or number of classes."""
    arch, sides = resolve_arch(arch), _size(size)
    classes = num_classes
    if classes is None:
        classes = IMAGENET_CLASSES if is_classifier(arch) else CITYSCAPES_CLASSES
    options: dict[str, Any] = {} if n_scales is None else {"n_scales": _scales(n_scales)}
    net = build_net(arch, classes, trunk=trunk, **options)
    title = f"{arch} on {trunk}" if trunk else arch
    return [f"{title}, {classes} classes, {sides[0]}x{sides[1]}", *table(net, sides)]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 0, or 2 when the input is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.summary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("arch", metavar="ARCH", help="a name that --arch takes")
    parser.add_argument("--size", default="512,512", metavar="H,W", help="of the image")
    parser.add_argument("--num_classes", type=int, help="default 19, of a classifier 1000")
    parser.add_argument("--trunk", default="", metavar="NAME", help="a model of timm, for timm.*")
    parser.add_argument("--n_scales", metavar="S,...", help="scales of a network that has them")
    args = parser.parse_args(arguments)
    streams.tolerate()
    try:
        print("\n".join(report(args.arch, args.size, args.num_classes, args.n_scales, args.trunk)))
    except UserError as error:
        return wrong_input(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
