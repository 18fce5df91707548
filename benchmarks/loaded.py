# SPDX-License-Identifier: Apache-2.0
"""A short training on a quiet machine, and beside programs that keep every core busy.

    python -m benchmarks.loaded             # seconds of both, and their ratio

What: `train.py` on synthetic streets, one epoch. Baseline: nothing else runs. It fails above a
ratio of four, which is what a fair share of the cores and a little waiting cost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.program import train
from datasets.synthetic import ScenePlan, write_synthetic

LIMIT = 4.0
BUSY = "while True: pass"
TINY = [
    "--arch",
    "ocrnet.HRNet_Mscale",
    "--set",
    "MODEL.hrnet_width=8",
    "--set",
    "MODEL.hrnet_modules=1,1,1",
    "--set",
    "MODEL.hrnet_blocks=1",
    "--set",
    "MODEL.ocr_mid_channels=64",
    "--set",
    "MODEL.ocr_key_channels=32",
    "--segattn_bot_ch",
    "32",
    "--dataset",
    "synthetic",
    "--class_uniform_tile",
    "64",
    "--crop_size",
    "64,128",
    "--bs_trn",
    "4",
    "--num_workers",
    "1",
    "--max_epoch",
    "2",
]


def seconds(root: Path, name: str) -> float:
    """Time of one training of the set below `root`."""
    started = time.monotonic()
    train(TINY, root, name)
    return time.monotonic() - started


def main() -> int:
    """Print both times; exit code 1 above the limit."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_synthetic(root / "set", ScenePlan(size=(64, 128), train=48, val=8, test=1, seed=0))
        quiet = seconds(root, "quiet")
        cores = range(os.cpu_count() or 1)
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in cores]
        try:
            loaded = seconds(root, "loaded")
        finally:
            for process in busy:
                process.kill()
                process.wait()
    ratio = loaded / quiet
    print(f"quiet {quiet:.1f} s, beside {len(busy)} busy processes {loaded:.1f} s: {ratio:.2f} x")
    return int(ratio > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
