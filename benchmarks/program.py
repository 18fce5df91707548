# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of networks share: their flags, and how far two results are apart."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from torch import Tensor

from network.ops import joined_conv
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


@contextmanager
def joined_first() -> Iterator[None]:
    """Inside, heads concatenate their maps before they convolve them, as published."""
    with patch.object(joined_conv, "LEAST_PIXELS", sys.maxsize):
        yield
