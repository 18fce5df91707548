# SPDX-License-Identifier: Apache-2.0
"""All settings of a run in one frozen object."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from settings.augmentation import AugmentationSettings
from settings.classification import ClassificationSettings
from settings.data import DataSettings
from settings.hanet import HanetSettings
from settings.inference import InferenceSettings
from settings.loss import LossConfig, LossSettings
from settings.model import ModelConfig
from settings.network import NetworkSettings
from settings.optimiser import OptimiserSettings
from settings.outputs import OutputSettings
from settings.published import OldSpellings
from settings.roots import DatasetConfig
from settings.run import RunSettings
from settings.schedule import ScheduleSettings

PROJECT_ROOT = Path(__file__).resolve().parent.parent
ASSETS = "ASSETS_PATH"  # a key of its own, and a word in paths that stands for its value


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run: the groups, and what reading them found.

    Groups in capitals are the published sections of `cfg`, whose keys `--set` takes. `given` names
    the flags that the user typed, `notes` are lines for the log. Nothing changes afterwards: what a
    checkpoint knows better gives a new object (`dataclasses.replace`).
    """

    network: NetworkSettings = NetworkSettings()
    MODEL: ModelConfig = ModelConfig()
    data: DataSettings = DataSettings()
    DATASET: DatasetConfig = DatasetConfig()
    augmentation: AugmentationSettings = AugmentationSettings()
    loss: LossSettings = LossSettings()
    LOSS: LossConfig = LossConfig()
    optimiser: OptimiserSettings = OptimiserSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    hanet: HanetSettings = HanetSettings()
    run: RunSettings = RunSettings()
    inference: InferenceSettings = InferenceSettings()
    outputs: OutputSettings = OutputSettings()
    classification: ClassificationSettings = ClassificationSettings()
    published: OldSpellings = OldSpellings()
    ASSETS_PATH: str = str(PROJECT_ROOT / "assets")
    given: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def expand(self, path: str) -> str:
        """`path` with ASSETS_PATH replaced by the folder it stands for, and ~ by the home."""
        return os.path.expanduser(path.replace(ASSETS, self.ASSETS_PATH))
