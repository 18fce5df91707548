# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: flags, a training as a program, and how far two results are apart."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from torch import Tensor

from network.ops import joined_conv
from settings import PROJECT_ROOT
from settings.convert import number
from settings.ranges import POSITIVE_COUNT

POSITIVE = number(int, POSITIVE_COUNT)  # type of a flag: a whole number from 1


def make_parser(text: str | None, rounds: int) -> argparse.ArgumentParser:
    """A parser described by `text`, with --rounds."""
    parser = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=POSITIVE, default=rounds, help="calls of each side")
    return parser


def largest_share(reference: Tensor, got: Tensor) -> float:
    """The largest difference of two maps as a share of the largest value of `reference`."""
    return float((got - reference).abs().max() / reference.abs().max())


def print_difference(reference: Tensor, got: Tensor) -> None:
    """Print how far two score maps (B, K, H, W) are apart, and where their classes differ."""
    differ = int((reference.argmax(1) != got.argmax(1)).sum())
    share, total = largest_share(reference, got), reference[:, 0].numel()
    print(f"largest difference {share:.1e} of the largest score; ", end="")
    print(f"another class in {differ} of {total} pixels")


def train(flags: Sequence[str], root: Path, name: str, launcher: Sequence[str] = ()) -> str:
    """Run `train.py` on the synthetic set `root`/set into `root`/`name`; what it printed.

    It chooses its threads by itself, whatever the environment says. RuntimeError if it fails.
    """
    out = root / name
    command = [sys.executable, *launcher, "train.py", *flags, "--result_dir", str(out)]
    command += ["--set", f"DATASET.SYNTHETIC_DIR={root}/set"]
    command += ["--set", f"DATASET.CENTROID_ROOT={out}/centroids"]
    free = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    done = subprocess.run(
        command, cwd=PROJECT_ROOT, env=free, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


@contextmanager
def joined_first() -> Iterator[None]:
    """Inside, heads concatenate their maps before they convolve them, as published."""
    with patch.object(joined_conv, "LEAST_PIXELS", sys.maxsize):
        yield
