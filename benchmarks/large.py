# SPDX-License-Identifier: Apache-2.0
"""Peak memory of `eval.py` on a large image and on one of four times as many pixels.

    python -m benchmarks.large                          # 4096x4096 and 8192x8192
    python -m benchmarks.large --sides 2048 4096

What: a tiny HRNet-OCR predicts one PNG of smooth noise with `--dump_ids`, in windows above
`--max_pixels`. Baseline: the smaller image. Memory is the largest resident set of the process; it
fails above a ratio of 1.5. A score map of the larger image would alone take 4.75 GiB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.measure import MIB
from network.build import build_net
from settings import PROJECT_ROOT

LIMIT = 1.5
ARCH, CLASSES = "ocrnet.HRNet", 19
TINY = {
    "hrnet_width": 4,
    "hrnet_modules": (1, 1, 1),
    "hrnet_blocks": 1,
    "ocr_mid_channels": 16,
    "ocr_key_channels": 8,
}


def write_network(path: Path) -> list[str]:
    """Random weights in `path`; the flags that name them."""
    torch.manual_seed(0)
    net = build_net(ARCH, CLASSES, **TINY)
    torch.save({"state_dict": net.state_dict()}, path)
    flags = ["--arch", ARCH, "--dataset", "cityscapes", "--snapshot", str(path)]
    for name, value in TINY.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        flags += ["--set", f"MODEL.{name}={text}"]
    return flags


def write_image(path: Path, side: int) -> None:
    """A square PNG that a photo could be."""
    coarse = np.random.default_rng(0).integers(0, 256, (side // 64, side // 64, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR))


def peak_of(command: Sequence[str]) -> int:
    """Bytes of the largest resident set of a program; CalledProcessError if it fails."""
    free = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=free, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    with process.stdout as output:
        said = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(said.decode(errors="replace"))
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return usage.ru_maxrss * 1024


def peaks(root: Path, sides: Sequence[int], max_pixels: int) -> dict[int, int]:
    """Side of the image -> bytes."""
    flags = write_network(root / "tiny.pth")
    found = {}
    for side in sides:
        image = root / f"{side}.png"
        write_image(image, side)
        found[side] = peak_of(
            [sys.executable, "eval.py", *flags, "--eval", "folder", "--eval_folder", str(image),
             "--dump_ids", "train", "--num_workers", "0", "--max_pixels", str(max_pixels),
             "--result_dir", str(root / f"out{side}")]
        )  # fmt: skip
    return found


def main() -> int:
    """Print both; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sides", type=int, nargs=2, default=(4096, 8192), help="of the images")
    parser.add_argument("--max_pixels", type=int, default=2 << 20, help="of one pass")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = peaks(Path(folder), arguments.sides, arguments.max_pixels)
    print(f"peak memory of one image, --max_pixels {arguments.max_pixels} (limit {LIMIT:g})")
    first = found[arguments.sides[0]]
    for side, peak in found.items():
        print(f"  {side:6}x{side:<6} {peak / MIB:8.0f} MiB  x {peak / first:.3f}")
    return int(found[arguments.sides[1]] / first > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
