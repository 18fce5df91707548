# SPDX-License-Identifier: Apache-2.0
"""Deformable attention and `unept.R50`, against the direct formulation with grid sampling.

    python -m benchmarks.unept --quick          # levels of 12x12, an image of 96x96: seconds
    python -m benchmarks.unept                  # three levels of 60x60, 480x480: a minute

The direct formulation samples every level with `grid_sample`, stacks the samples of all levels
and sums them with their weights. Promised, on a single thread: the operator in at most 0.6 of its
time and 0.5 of its peak memory with the same result to 1e-5; the network in at most 0.7 of the
time of the same network built on it. Training (`--backward`) is measured too, without a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import measure, print_table
from benchmarks.program import make_parser
from network.build import build_net
from network.heads import deformable
from network.ops.deform_attn import deformable_attention
from network.ops.resize import Size

HEADS, CHANNELS, LEVELS, POINTS = 8, 32, 3, 16
NUM_CLASSES = 150
REFERENCE, OURS = "direct grid_sample", "ours"
OPERATOR_LIMITS, NETWORK_LIMIT = (0.6, 0.5), 0.7
Operator = Callable[[Tensor, Sequence[Size], Tensor, Tensor], Tensor]


def direct(value: Tensor, shapes: Sequence[Size], locations: Tensor, weights: Tensor) -> Tensor:
    """`deformable_attention` as the formula reads: all samples first, then one weighted sum."""
    batch, _, heads, channels = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    cells = value.split([height * width for height, width in shapes], dim=1)
    grids = 2 * locations - 1
    samples = []
    for level, (height, width) in enumerate(shapes):
        table = cells[level].flatten(2).transpose(1, 2)
        table = table.reshape(batch * heads, channels, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        samples.append(
            F.grid_sample(table, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        )
    weights = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    total = (torch.stack(samples, dim=-2).flatten(-2) * weights).sum(-1)
    return total.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


OPERATORS: dict[str, Operator] = {REFERENCE: direct, OURS: deformable_attention}


def draw(side: int) -> tuple[Tensor, list[Size], Tensor, Tensor]:
    """Values, sizes, locations and weights of every cell of three levels asking all three."""
    generator = torch.Generator().manual_seed(0)
    queries = LEVELS * side * side
    value = torch.randn(1, queries, HEADS, CHANNELS, generator=generator)
    places = torch.rand(1, queries, 1, 1, 1, 2, generator=generator)
    offsets = torch.randn(1, queries, HEADS, LEVELS, POINTS, 2, generator=generator)
    scores = torch.randn(1, queries, HEADS, LEVELS * POINTS, generator=generator)
    weights = scores.softmax(-1).unflatten(-1, (LEVELS, POINTS))
    return value, [(side, side)] * LEVELS, places + 4 * offsets / side, weights


def operator_side(name: str, side: int) -> Callable[[], Tensor]:
    """The operator `name` on drawn numbers, forward."""
    torch.set_num_threads(1)
    inputs = draw(side)

    def call() -> Tensor:
        with torch.inference_mode():
            return OPERATORS[name](*inputs)

    return call


def backward_side(name: str, side: int) -> Callable[[], Tensor]:
    """Forward and backward of the operator `name`, gradients of all inputs."""
    torch.set_num_threads(1)
    value, shapes, locations, weights = draw(side)
    inputs = tuple(x.requires_grad_() for x in (value, locations, weights))

    def call() -> Tensor:
        output = OPERATORS[name](inputs[0], shapes, inputs[1], inputs[2])
        return torch.autograd.grad(output.sum(), inputs)[0]

    return call


def build(size: int) -> nn.Module:
    """`unept.R50` with random weights, batch norms as they start."""
    torch.manual_seed(0)
    return build_net("unept.R50", NUM_CLASSES, query_grid=(size // 8, size // 8)).eval()


def network_side(name: str, size: int) -> Callable[[], Tensor]:
    """A forward pass of an image of `size` x `size`."""
    torch.set_num_threads(1)
    net = build(size)
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))

    def call() -> Tensor:
        swap = mock.patch.object(deformable, "deformable_attention", direct)
        with torch.inference_mode(), swap if name == REFERENCE else nullcontext():
            scores: Tensor = net(image)["pred"]
            return scores

    return call


def report(
    title: str, function: Callable[[str, int], Callable[[], Tensor]], size: int, rounds: int
) -> None:
    """Compare the results of both sides, measure time and memory, print."""
    want, got = (function(name, size)() for name in OPERATORS)
    print(f"largest difference {float((want - got).abs().max()):.1e}")
    print_table(title, measure(function, OPERATORS, size, rounds=rounds))


def main() -> None:
    """Parse, compare, measure, print."""
    parser = make_parser(__doc__, rounds=3)
    parser.add_argument("--size", type=int, default=480, help="side of the image, pixels")
    parser.add_argument("--backward", action="store_true", help="training of the operator too")
    parser.add_argument("--quick", action="store_true", help="an image of 96x96")
    args = parser.parse_args()
    size = 96 if args.quick else args.size
    side = size // 8
    title = f"{LEVELS * side * side} queries, 3 levels of {side}x{side}, 8 heads, one thread"
    limits = "{:g} and {:g}".format(*OPERATOR_LIMITS)
    report(f"{title} (limits {limits})", operator_side, side, args.rounds)
    if args.backward:
        report(f"{title}, forward and backward", backward_side, side, args.rounds)
    title = f"unept.R50, {size}x{size}, one thread (limit {NETWORK_LIMIT})"
    report(title, network_side, size, args.rounds)


if __name__ == "__main__":
    main()
