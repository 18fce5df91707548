# SPDX-License-Identifier: Apache-2.0
"""What only shows on a GPU: the scaler of fp16 after an overflow, and synchronised batch norm."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules._functions import SyncBatchNorm

from benchmarks.gpu.bench import Row
from runtime.precision import choose_precision

SECTION = "smoke"


def measure(device: torch.device) -> Iterator[Row]:
    """A row for each; CUDA alone has them."""
    checks: dict[str, Callable[[torch.device], str]] = {"fp16 scaler": _scaler, "SyncBN": _sync_bn}
    for name, check in checks.items():
        if device.type != "cuda":
            yield Row(section=SECTION, name=name, problem="needs CUDA")
        elif problem := check(device):
            yield Row(section=SECTION, name=name, problem=problem, is_wrong=True)
        else:
            yield Row(section=SECTION, name=name, values={"result": "right"})


def _scaler(device: torch.device) -> str:
    """What is wrong: a step with an overflow is left out, halves the scale, and the next counts."""
    precision, _ = choose_precision("fp16", device)
    scaler = precision.scaler()
    layer = nn.Linear(8, 8).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scales = []
    for value in (1e30, 1.0):
        before = layer.weight.detach().clone()
        with precision.autocast():
            output = layer(torch.ones(2, 8, device=device))
        scaler.scale((output.float() * value).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scales.append((scaler.get_scale(), not torch.equal(before, layer.weight)))
    (first, moved), (second, moved_then) = scales
    is_right = first == 32768.0 and second == first and not moved and moved_then
    return "" if is_right else f"scales {first:g}, {second:g}; moved {moved}, {moved_then}"


def _sync_bn(device: torch.device) -> str:
    """What is wrong: with one process it gives what plain batch norm gives, by way of NCCL.

    The layer itself would take plain batch norm for a single process, hence the function below it.
    """
    with tempfile.TemporaryDirectory() as place:
        meeting = f"file://{place}/meeting"
        dist.init_process_group("nccl", init_method=meeting, rank=0, world_size=1)
        try:
            return _differs_from_plain(device)
        finally:
            dist.destroy_process_group()


def _differs_from_plain(device: torch.device) -> str:
    torch.manual_seed(0)
    plain, images = nn.BatchNorm2d(4).to(device), torch.randn(2, 4, 8, 8, device=device)
    want = plain(images)
    plain.reset_running_stats()
    synced = SyncBatchNorm.apply(
        images, plain.weight, plain.bias, plain.running_mean, plain.running_var, plain.eps,
        plain.momentum, dist.group.WORLD, 1,
    )  # fmt: skip
    error = float((want - synced).abs().max())
    return "" if error < 1e-5 else f"differs by {error:.1e}"
