# SPDX-License-Identifier: Apache-2.0
"""What a batch needs at least, beside the memory that there is: known before the first batch."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from config import UserError

FLOAT, INT64 = 4, 8  # bytes
WORKER = 32 * 2**20  # bytes that a loader process has for itself, at least
CGROUP_LIMITS = (
    "/sys/fs/cgroup/memory.max",  # version 2
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",  # version 1
)


def host_memory() -> int:
    """Bytes of the machine, or of the container where that is less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for name in CGROUP_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def batch_bytes(args: argparse.Namespace, num_classes: int) -> int:
    """Lower bound of a training batch: images, and for maps labels and one set of scores."""
    if args.task == "classify":
        return int(args.bs_trn) * int(args.img_size) ** 2 * 3 * FLOAT
    height, width = args.crop_size
    return int(args.bs_trn) * height * width * ((3 + num_classes) * FLOAT + INT64)


def check_memory(args: argparse.Namespace, num_classes: int, device: torch.device) -> None:
    """Raise UserError when a batch or the loader processes cannot fit, whatever the network."""
    host = host_memory()
    is_cuda = device.type == "cuda"
    limit = torch.cuda.get_device_properties(device).total_memory if is_cuda else host
    is_known = args.task == "classify" or not args.full_crop_training  # that is as the images
    need = batch_bytes(args, num_classes) if is_known else 0
    if need > min(limit, host):
        size = f"--img_size {args.img_size}"
        if args.task == "segment":
            size = f"--crop_size {args.crop_size[0]},{args.crop_size[1]}"
        raise UserError(
            f"--bs_trn {args.bs_trn} and {size}: one batch with its scores needs "
            f"{need / 2**30:.0f} GiB at least, there are {min(limit, host) / 2**30:.0f} GiB; "
            "take less of one of them"
        )
    if args.num_workers * WORKER > host:
        raise UserError(
            f"--num_workers {args.num_workers}: these processes need "
            f"{args.num_workers * WORKER / 2**30:.0f} GiB at least, there are "
            f"{host / 2**30:.0f} GiB; take fewer"
        )
