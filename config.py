# SPDX-License-Identifier: Apache-2.0
"""The one configuration of a run: `cfg`, filled once and then frozen.

    cfg.DATASET.CITYSCAPES_DIR          # published spelling; `--set` finds keys in any case
    cfg.settings.optimiser.lr           # every other setting, by its group
    python train.py --set DATASET.CV_SPLITS=3 --set MODEL.HRNET_WIDTH=18

Settings are declared in `settings/`; values come, in rising order, from their defaults,
`paths.yml` in the project root, the environment (`HISEG_CITYSCAPES_DIR=...`), flags and `--set`.
`cfg` is for programs and notebooks: code of this project takes the `Settings` it is given, its
libraries plain arguments. This module imports nothing but the standard library and PyYAML.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from runtime import streams
from runtime.errors import UserError, near, wrong_input
from settings import PROJECT_ROOT, Settings, read_settings, tree_of
from settings.data import DATASETS
from settings.loss import LossConfig
from settings.model import ModelConfig
from settings.roots import DatasetConfig

__all__ = [
    "DATASETS",
    "PROJECT_ROOT",
    "Config",
    "DatasetConfig",
    "LossConfig",
    "ModelConfig",
    "UserError",
    "cfg",
    "near",
    "parse_args",
    "parse_or_exit",
    "tree_of",
    "wrong_input",
]


class Config:
    """The published tree: a read-only view of the settings of this process.

    Before `adopt` it shows the defaults; afterwards every write is an error, so that a value read
    anywhere in a run is the value written to `run.json`.
    """

    settings: Settings

    def __init__(self) -> None:
        vars(self).update(settings=Settings(), _frozen=False)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cfg is read-only; {name} is set by flags, paths.yml or --set")

    def adopt(self, settings: Settings) -> None:
        """Show `settings` from here on; AttributeError the second time."""
        if vars(self)["_frozen"]:
            raise AttributeError("cfg is frozen: it shows the settings of this process already")
        vars(self).update(settings=settings, _frozen=True)

    @property
    def DATASET(self) -> DatasetConfig:
        """Where the data is."""
        return self.settings.DATASET

    @property
    def MODEL(self) -> ModelConfig:
        """Options of the networks."""
        return self.settings.MODEL

    @property
    def LOSS(self) -> LossConfig:
        """Weights of the terms of the training loss."""
        return self.settings.LOSS

    @property
    def ASSETS_PATH(self) -> str:
        """Folder of weights and caches."""
        return self.settings.ASSETS_PATH

    def expand(self, path: str) -> str:
        """`path` with ASSETS_PATH replaced by the folder it stands for, and ~ by the home."""
        return self.settings.expand(path)

    def to_dict(self) -> dict[str, object]:
        """The tree as plain dictionaries."""
        return tree_of(self.settings)


cfg = Config()


def parse_args(
    argv: Sequence[str] | None = None, prog: str = "train.py", eval_default: str | None = None
) -> Settings:
    """The settings of `argv` (default: the command line), which `cfg` shows from here on.

    Raises UserError for anything wrong; `--help` prints and exits as usual.
    """
    settings = read_settings(argv, prog, eval_default)
    cfg.adopt(settings)
    return settings


def parse_or_exit(prog: str = "train.py", eval_default: str | None = None) -> Settings:
    """`parse_args` of the command line; a wrong one ends the program before torch is imported."""
    streams.tolerate()
    try:
        return parse_args(None, prog, eval_default)
    except UserError as error:
        sys.exit(wrong_input(error))
