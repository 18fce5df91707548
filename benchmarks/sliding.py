# SPDX-License-Identifier: Apache-2.0
"""Sliding windows: `--bs_window` windows in one forward pass against one at a time.

    python -m benchmarks.sliding                 # GPU if there is one, else one CPU thread

HANet on ShuffleNetV2 at stride 16, windows with a third of overlap, one scale, not mirrored. Both
sides are the evaluation's own procedure and have to give the same scores.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.measure import print_table, time_in_turn
from engine.predict import Infer, whole
from engine.windows_hanet import hanet_sliding
from network.build import build_net
from network.inference import prepare_for_inference
from transforms.normalize import to_tensor
from transforms.sample import row_positions

ARCH = "hanet.DeepShuffleNetV3PlusD_HANet"
BATCH, LIMIT = 16, 0.7
CPU_CASE, GPU_CASE = ((192, 384), 64), ((1024, 2048), 256)  # image (H, W), window side


def build() -> nn.Module:
    """The network as evaluation runs it, on random weights."""
    torch.manual_seed(0)
    net = build_net(ARCH, 19, hanet=(1, 1, 1, 1, 0), hanet_set=(3, 32, 3)).eval()
    return prepare_for_inference(net)


def draw(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A random 8-bit image as network input (1, 3, H, W), and its row positions (1, H)."""
    levels = torch.randint(0, 256, (*size, 3), generator=torch.Generator().manual_seed(0))
    image = to_tensor(levels.to(torch.uint8).numpy())[None]
    return image, torch.from_numpy(row_positions(size[0]))[None]


def procedure(net: nn.Module, side: int, batch_windows: int) -> Infer:
    """Windows of `side` pixels at scale 1."""
    return hanet_sliding(
        whole(net), (1.0,), tile=(side, side), flip=False, batch_windows=batch_windows
    )


def compare(
    net: nn.Module, size: tuple[int, int], side: int, device: str, rounds: int
) -> Mapping[str, float]:
    """Fastest seconds of each side (CPU time without a GPU), after the scores were compared."""
    inputs = [value.to(device) for value in draw(size)]
    sides = {
        f"{batch} windows a pass": procedure(net.to(device), side, batch) for batch in (1, BATCH)
    }

    def run(infer: Infer) -> Tensor:
        with torch.inference_mode():
            scores = infer(*inputs)["pred"]
        if device == "cuda":
            torch.cuda.synchronize()
        return scores

    one, many = (run(infer) for infer in sides.values())
    torch.testing.assert_close(many, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))
    clock = time.perf_counter if device == "cuda" else time.process_time
    return time_in_turn({name: partial(run, infer) for name, infer in sides.items()}, rounds, clock)


def main() -> None:
    """Compare, measure, print."""
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size, side = GPU_CASE if device == "cuda" else CPU_CASE
    seconds = compare(build(), size, side, device, rounds=10)
    name = torch.cuda.get_device_name() if device == "cuda" else "one CPU thread"
    title = f"sliding windows of {side} px, {size[0]}x{size[1]}, ShuffleNetV2 HANet, {name}"
    print_table(title, seconds, LIMIT)


if __name__ == "__main__":
    main()
