# SPDX-License-Identifier: Apache-2.0
"""Images per second of several ranks on as many cores, against one rank on one core.

    python -m benchmarks.ranks                      # two ranks, one core each
    python -m benchmarks.ranks --ranks 4 --rounds 3

The whole program: `train.py` on synthetic streets with one loader process per rank, started by
torch's launcher, at the same batch per rank. Sides take turns; the best second epoch
counts, because the first starts the loaders. It fails below 0.8 times the number of ranks, and
needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

from benchmarks.program import POSITIVE, train
from datasets.synthetic import ScenePlan, write_synthetic
from runtime.limits import counted
from runtime.threads import usable_cpus

LIMIT = 0.8  # of a perfect scaling
IMAGES = 96  # in an epoch
FLAGS = (
    "--dataset synthetic --arch timm.SegFormer --trunk resnet18d --segattn_bot_ch 64"
    " --class_uniform_tile 64 --crop_size 192,384 --bs_trn 8 --optimizer adamw --lr 0.001"
    " --max_epoch 2 --val_freq 5 --num_workers 1 --no_preflight"
)
LAST_LINE = re.compile(r"^\[epoch 1\], \[iter (\d+) / \1\].* ([\d.]+) images/s", re.MULTILINE)


def images_per_second(root: Path, name: str, ranks: int) -> float:
    """The rate of the second epoch of a training with `ranks` on as many cores."""
    launcher = ["-m", "torch.distributed.launch", f"--nproc_per_node={ranks}"] if ranks > 1 else []
    everything = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(everything)[:ranks])  # what starts now inherits it
    try:
        told = train(FLAGS.split(), root, name, launcher)
    finally:
        os.sched_setaffinity(0, everything)
    found = LAST_LINE.search(told)
    if found is None:
        raise RuntimeError(f"no rate of the second epoch in:\n{told}")
    return float(found[2])


def main() -> int:
    """Print both rates and their ratio; exit code 1 below the limit."""
    parser = argparse.ArgumentParser(description="images per second of several ranks")
    parser.add_argument("--ranks", type=POSITIVE, default=2, help="ranks, and cores they use")
    parser.add_argument("--rounds", type=POSITIVE, default=2, help="trainings of each side")
    args = parser.parse_args()
    if args.ranks > usable_cpus():
        parser.error(f"--ranks {args.ranks}: only {counted(usable_cpus(), 'core')} here")
    best = {1: 0.0, args.ranks: 0.0}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        plan = ScenePlan(size=(192, 384), train=IMAGES, val=4, test=1, seed=0)
        write_synthetic(root / "set", plan)
        for number in range(args.rounds):
            for ranks in best:
                rate = images_per_second(root, f"{ranks}_{number}", ranks)
                best[ranks] = max(best[ranks], rate)
    for ranks, rate in best.items():
        print(f"  {ranks} rank(s) on as many cores{rate:9.2f} images/s  x {rate / best[1]:.2f}")
    return int(best[args.ranks] < LIMIT * args.ranks * best[1])


if __name__ == "__main__":
    sys.exit(main())
