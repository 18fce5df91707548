# SPDX-License-Identifier: Apache-2.0
"""Train a network, or evaluate one with `--eval`.

    python train.py --dataset synthetic --crop_size 128,256 --set MODEL.hrnet_width=8
    python train.py --dataset camvid --arch ocrnet.HRNet18_Mscale --crop_size 360,480 --rmi_loss
    python -m torch.distributed.launch --nproc_per_node=8 train.py --dataset cityscapes ...
    python train.py --task classify --dataset imagenet --arch hrvit.b1_224 --fp16 ...

Every flag: `python train.py --help`. The run directory (`--result_dir`) receives checkpoints,
logging.log, metrics.csv, status.json and run.json; `--resume auto` goes on where it stopped.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from config import parse_or_exit
from runtime.threads import loaders_of, settle

if TYPE_CHECKING:
    from runtime.outcome import Outcome
    from settings import Settings


def main(settings: Settings, outcome: Outcome) -> int:
    """Train, or evaluate when `--eval` is given; returns the exit code."""
    if settings.network.arch == "help":
        from assembly.network import print_archs

        return print_archs(settings)
    if settings.inference.eval:
        from assembly.evaluation import evaluate

        return evaluate(settings, outcome)
    from assembly.training import train

    return train(settings, outcome)


if __name__ == "__main__":
    parsed = parse_or_exit()
    settle(loaders_of(parsed.data.num_workers, bool(parsed.inference.eval)))
    from runtime.outcome import run

    sys.exit(run(lambda outcome: main(parsed, outcome)))
