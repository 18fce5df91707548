# SPDX-License-Identifier: Apache-2.0
"""A step of a small network in each precision, and two processes that add up a number."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.doctor.finding import FAIL, OK, WARN, Found

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_DEVIATION = 0.05  # of loss and gradient, relative to fp32
WAIT = 120.0  # seconds for two processes to meet
LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


def precisions() -> Iterator[Found]:
    """Forward and backward on every kind of device, compared with fp32."""
    import torch

    kinds = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for kind in kinds:
        yield from _on(torch.device(kind))


def _on(device: Any) -> Iterator[Found]:
    import torch

    from runtime.precision import choose_precision
    from settings.run import PRECISIONS

    times: list[str] = []
    wanted: tuple[float, float] | None = None
    for name in PRECISIONS:
        if device.type == "cpu" and name in ("tf32", "fp16"):  # there is no such thing
            continue
        precision, _ = choose_precision(name, device)
        with precision.borrowed():
            _step(device, precision)  # the first one loads libraries
            started = time.monotonic()
            found = _step(device, precision)
        times.append(f"{name} {1000 * (time.monotonic() - started):.0f} ms")
        wanted = wanted or found
        wrong = [
            value for value, right in zip(found, wanted, strict=True)
            if not math.isclose(value, right, rel_tol=MAX_DEVIATION)
        ]  # fmt: skip
        if wrong:
            text = f"{device.type}: {name} gives {wrong[0]:g}, fp32 {wanted[0]:g}"
            yield FAIL, text, f"train with --precision fp32; {name} is broken here"
    text = f"{device.type}: forward and backward of a small network: {', '.join(times)}"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        yield WARN, f"{text}; bf16 is emulated", "use --precision fp16"
    else:
        yield OK, text


def _step(device: Any, precision: Any) -> tuple[float, float]:
    """Loss and size of the gradient of one step with fixed weights and images."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    draw = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1)
    )
    for parameter in net.parameters():
        nn.init.uniform_(parameter, -0.3, 0.3, generator=draw)
    net = net.to(device)
    images = torch.rand(2, 3, 64, 64, generator=draw).to(device)
    labels = torch.randint(0, 4, (2, 64, 64), generator=draw).to(device)
    scaler = precision.scaler()
    with precision.autocast():
        scores = F.interpolate(net(images), size=(64, 64), mode="bilinear", align_corners=False)
    loss = F.cross_entropy(scores.float(), labels)
    scaler.scale(loss).backward()
    scale = scaler.get_scale()
    gradients = [item.grad for item in net.parameters() if item.grad is not None]
    norm = nn.utils.get_total_norm(gradients) / scale
    return loss.item(), norm.item()


def processes() -> Iterator[Found]:
    """Two processes over gloo, and over NCCL where there are two GPUs."""
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        yield WARN, "this torch has no distributed package: one process alone can train"
        return
    nccl = ""
    if dist.is_nccl_available() and torch.cuda.is_available():
        nccl = f", NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}"
    kinds = ["cpu", *(["cuda"] if torch.cuda.device_count() > 1 else [])]
    for kind in kinds:
        text = f"two processes on {kind}{nccl if kind == 'cuda' else ' (gloo)'}"
        started = time.monotonic()
        problem = all_reduce(kind)
        if problem:
            way = (
                "GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names the network to use; NCCL_DEBUG=INFO"
            )
            yield FAIL, f"{text}: {problem}", f"{way} says more"
        else:
            yield OK, f"{text} added up a number in {time.monotonic() - started:.1f} s"


def all_reduce(device: str) -> str:
    """Run `scripts.doctor.adding` in two processes; what went wrong, "" for nothing."""
    command = [sys.executable, *LAUNCH, "-m", "scripts.doctor.adding", device]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {WAIT:.0f} s"
    if done.returncode == 0 and done.stdout.count("sum 3") == 2:
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
    return " ".join((lines or ["no message"])[0].split())[:200]
