# SPDX-License-Identifier: Apache-2.0
"""What a batch needs at least, beside the memory that there is: known before the first batch."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from runtime.errors import UserError
from settings import Settings

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


def batch_bytes(settings: Settings, num_classes: int) -> int:
    """Lower bound of a training batch: images, and for maps labels and one set of scores."""
    count = settings.data.bs_trn
    if settings.classification.task == "classify":
        return count * settings.classification.img_size**2 * 3 * FLOAT
    height, width = settings.augmentation.crop_size
    return count * height * width * ((3 + num_classes) * FLOAT + INT64)


def check_memory(settings: Settings, num_classes: int, device: torch.device) -> None:
    """Raise UserError when a batch or the loader processes cannot fit, whatever the network."""
    host, workers = host_memory(), settings.data.num_workers
    is_cuda = device.type == "cuda"
    limit = torch.cuda.get_device_properties(device).total_memory if is_cuda else host
    classifies = settings.classification.task == "classify"
    # a full crop is as large as the images are
    is_known = classifies or not settings.augmentation.full_crop_training
    need = batch_bytes(settings, num_classes) if is_known else 0
    if need > min(limit, host):
        height, width = settings.augmentation.crop_size
        size = f"--crop_size {height},{width}"
        if classifies:
            size = f"--img_size {settings.classification.img_size}"
        raise UserError(
            f"--bs_trn {settings.data.bs_trn} and {size}: one batch with its scores needs "
            f"{need / 2**30:.0f} GiB at least, there are {min(limit, host) / 2**30:.0f} GiB; "
            "take less of one of them"
        )
    if workers * WORKER > host:
        raise UserError(
            f"--num_workers {workers}: these processes need {workers * WORKER / 2**30:.0f} GiB "
            f"at least, there are {host / 2**30:.0f} GiB; take fewer"
        )
