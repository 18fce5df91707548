# SPDX-License-Identifier: Apache-2.0
"""One architecture: the entry of a table `ARCHS` in a file of this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from network.contract import Network
from settings.model import ModelConfig

Build = Callable[[int, ModelConfig], Network]


@dataclass(frozen=True)
class Arch:
    """What a name that `--arch` takes stands for.

    `about` says it in a line. `build` gets the number of classes and the options; `reads` names
    the options that have an effect, so that any other that is set can be refused. The `pred` of a
    `classifier` is (B, K), one class per image, for `--task classify`.
    """

    about: str
    build: Build
    reads: frozenset[str]
    classifier: bool = False
