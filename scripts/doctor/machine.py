# SPDX-License-Identifier: Apache-2.0
"""Devices, cores, memory, shared memory and file handles."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator

from runtime.memory import available, shared_free, size_text
from runtime.threads import usable_cpus
from scripts.doctor.finding import FAIL, OK, WARN, Found, at_least

GIB = 2**30
DRIVER = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
MIN_HANDLES = 1024
OLDEST = (7, 5)  # compute capability with tensor cores that torch still builds for


def driver() -> str:
    """The version of the NVIDIA driver, "" where there is no nvidia-smi."""
    if shutil.which(DRIVER[0]) is None:
        return ""
    try:
        answer = subprocess.run(DRIVER, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "without an answer"
    lines = answer.stdout.split()
    return lines[0] if answer.returncode == 0 and lines else "without an answer"


def devices() -> Iterator[Found]:
    """The GPUs that torch sees, and why it may see none."""
    import torch

    version, built = driver(), torch.version.cuda
    if not torch.cuda.is_available():
        if not version:
            yield OK, "no NVIDIA driver: the CPU computes, which is for trying things out"
        elif built is None:
            yield (
                FAIL,
                f"driver {version}, but this torch ({torch.__version__}) was built without CUDA",
                "install the one that pytorch.org names for your driver",
            )
        else:
            yield (
                FAIL,
                f"driver {version}, torch for CUDA {built}, but torch sees no device",
                "look at CUDA_VISIBLE_DEVICES, nvidia-smi, and whether the driver is new enough "
                "(in Docker: --gpus all)",
            )
        return
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        free, total = torch.cuda.mem_get_info(number)
        text = (
            f"cuda:{number} {properties.name}, {size_text(free)} of {size_text(total)} free, "
            f"compute capability {properties.major}.{properties.minor}, driver {version}, "
            f"CUDA {built}, cuDNN {torch.backends.cudnn.version()}"
        )
        if free < total / 2:
            yield WARN, text, "another program uses its memory: nvidia-smi shows which"
        elif (properties.major, properties.minor) < OLDEST:
            yield WARN, text, "an old one: use --precision fp32"
        else:
            yield OK, text


def threads() -> Iterator[Found]:
    """Cores, and how many threads torch takes."""
    import torch

    cores, wanted = usable_cpus(), os.environ.get("OMP_NUM_THREADS", "")
    text = f"{cores} of {os.cpu_count()} cores for this process, torch takes "
    text += f"{torch.get_num_threads()} threads, OMP_NUM_THREADS {wanted or 'not set'}"
    if cores == 1:
        yield WARN, text, "loading and computing share one core; --num_workers 0 or 1 is enough"
    elif wanted.isdecimal() and int(wanted) > cores:
        yield WARN, text, f"set OMP_NUM_THREADS to {cores} at most, or unset it"
    else:
        yield OK, text


def memory() -> Iterator[Found]:
    """What this process may still get."""
    amount = available()
    if amount is None:
        yield WARN, "the system does not say how much is free"
        return
    level = at_least(amount, 8 * GIB, 2 * GIB)
    way = "" if level == OK else "small --crop_size, --bs_trn and --num_workers need less"
    yield level, f"{size_text(amount)} that this process can get", way


def shared() -> Iterator[Found]:
    """/dev/shm, through which loader processes hand over their batches."""
    amount = shared_free()
    if amount is None:
        yield WARN, "no /dev/shm", "--num_workers 0 loads without it"
        return
    level = at_least(amount, 2 * GIB, GIB / 8)
    way = "" if level == OK else "docker --shm-size 16g or --ipc host; --num_workers 0 needs none"
    yield level, f"/dev/shm has {size_text(amount)} free", way


def handles() -> Iterator[Found]:
    """Open files of one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = f"{soft} open files per process, up to {hard} can be set"
    if soft < MIN_HANDLES:
        yield WARN, text, f"ulimit -n {min(hard, 65536)} before many loader processes"
    else:
        yield OK, text
