# SPDX-License-Identifier: Apache-2.0
"""What HANet's four blocks add to the forward time of DeepLabV3+.

    python -m benchmarks.hanet --quick               # MobileNetV2, 128x256: seconds
    python -m benchmarks.hanet                       # ResNet-101 at stride 8, 512x1024: minutes
    python -m benchmarks.hanet --device cuda --rounds 20

Both sides share all weights; the baseline leaves the blocks out. Two forwards of half a minute
differ by more than the blocks cost, so their time is also taken inside the forward, gate by gate.
Promised: at most 1 % of the forward time, in that second way of measuring.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import print_table, time_in_turn
from benchmarks.program import make_parser
from network.build import build_net
from network.height_gates import HeightGated, attention_blocks
from network.inference import prepare_for_inference

ARCHS = {"full": "hanet.DeepR101V3PlusD_HANet_OS8", "quick": "hanet.DeepMobileNetV3PlusD_HANet"}
NUM_CLASSES, LIMIT = 19, 0.01


def build(arch: str, reduction: int) -> HeightGated:
    """The network with four blocks, prepared as for evaluation."""
    torch.manual_seed(0)
    net = build_net(arch, NUM_CLASSES, hanet=(1, 1, 1, 1, 0), hanet_set=(3, reduction, 3))
    for layer in net.modules():  # random weights would grow from block to block of the trunk
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.5 * layer.weight[0].numel() ** -0.5)
    prepared = prepare_for_inference(net)
    assert isinstance(prepared, HeightGated)
    return prepared


def without_blocks(net: HeightGated) -> HeightGated:
    """The same network, weights shared, with its blocks left out."""
    plain = copy.copy(net)
    kept = {name: part for name, part in net._modules.items() if not name.startswith("hanet")}
    vars(plain)["_modules"] = kept
    return plain


class Timed:
    """Seconds spent in the gates of a network: pooling, block, and the multiplication."""

    def __init__(self, net: HeightGated, now: Callable[[], float]) -> None:
        self.seconds = 0.0
        self._gate, self._now = net.gate, now
        vars(net)["gate"] = self

    def __call__(self, place: int, lower: Tensor, x: Tensor, rows: Tensor | None) -> Tensor:
        start = self._now()
        result = self._gate(place, lower, x, rows)
        self.seconds += self._now() - start
        return result


def _clock(device: torch.device) -> Callable[[], float]:
    """CPU seconds of this process, or wall seconds after the queue of the GPU has run dry."""
    if device.type == "cpu":
        return time.process_time

    def synchronised() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return synchronised


def shares(net: HeightGated, call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Smallest seconds inside the gates and of the whole forward, over `rounds` calls."""
    now = _clock(next(net.parameters()).device)
    timed = Timed(net, now)
    inside, whole = float("inf"), float("inf")
    for _ in range(rounds):
        timed.seconds, start = 0.0, now()
        call()
        inside, whole = min(inside, timed.seconds), min(whole, now() - start)
    del vars(net)["gate"]
    return inside, whole


def measure(net: HeightGated, size: tuple[int, int], rounds: int) -> dict[str, float]:
    """Forward with and without blocks, and the time inside the gates."""
    device = next(net.parameters()).device
    image = torch.randn(1, 3, *size, device=device).contiguous(memory_format=torch.channels_last)
    rows = ((torch.arange(size[0], device=device) + 0.5) / size[0])[None]

    def run(which: nn.Module) -> None:
        which(image, rows)
        if device.type == "cuda":
            torch.cuda.synchronize()

    plain = without_blocks(net)
    run(plain)
    sides = {"DeepLabV3+": partial(run, plain), "with four blocks": partial(run, net)}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    inside, _ = shares(net, partial(run, net), rounds)
    return {**time_in_turn(sides, rounds, clock), "inside the gates": inside}


def main() -> None:
    """Parse, measure, print."""
    parser = make_parser(__doc__, rounds=2)
    parser.add_argument("--size", default="512,1024", help="H,W of the image")
    parser.add_argument("--reduction", type=int, default=64, help="of the blocks")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where")
    parser.add_argument("--quick", action="store_true", help="MobileNetV2, 128x256")
    args = parser.parse_args()
    torch.set_num_threads(1)
    arch = ARCHS["quick" if args.quick else "full"]
    height, width = (int(side) for side in ("128,256" if args.quick else args.size).split(","))
    net = build(arch, args.reduction).to(args.device)
    count = sum(p.numel() for block in attention_blocks(net).values() for p in block.parameters())
    total = sum(p.numel() for p in net.parameters())
    with torch.inference_mode():
        rows = measure(net, (height, width), args.rounds)
    print_table(f"{arch}, {height}x{width}, reduction {args.reduction}, {args.device}", rows)
    share = rows["inside the gates"] / rows["DeepLabV3+"]
    print(f"blocks: {100 * share:.2f} % of the forward ", end="")
    print(f"(limit {100 * LIMIT:.0f} % for ResNet-101 at 512x1024), ", end="")
    print(f"{count:,} of {total:,} parameters ({100 * count / total:.2f} %)")


if __name__ == "__main__":
    main()
