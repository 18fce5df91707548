# SPDX-License-Identifier: Apache-2.0
"""Evaluate a checkpoint, dump predictions of a folder, or write a benchmark submission.

    python eval.py --dataset cityscapes --snapshot FILE --n_scales 0.5,1.0,2.0
    python eval.py --eval folder --eval_folder DIR --dump_assets --dump_all_images --snapshot FILE
    python eval.py --eval test --dump_for_submission --dataset cityscapes --snapshot FILE

A checkpoint of this program knows its architecture and classes; for other files name `--arch`
and `--dataset`. Results: the table on stdout, results.json, best_images/index.html.
A classifier's checkpoint gives top-1 and top-5 (`--dataset imagenet`).
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
    """One evaluation; returns the exit code."""
    from assembly.evaluation import evaluate

    return evaluate(settings, outcome)


if __name__ == "__main__":
    parsed = parse_or_exit("eval.py", eval_default="val")
    settle(loaders_of(parsed.data.num_workers, True))
    from runtime.outcome import run

    sys.exit(run(lambda outcome: main(parsed, outcome)))
