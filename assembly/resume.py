# SPDX-License-Identifier: Apache-2.0
"""The settings that a checkpoint keeps, and what `--resume` does where they differ."""

from __future__ import annotations

import dataclasses

from engine.resume_rules import STEPS, Kept, ResumeRules, plain
from settings import Settings, catalogue
from settings.declare import APPLIED, BETWEEN_EPOCHS, REFUSED, Resume
from settings.model import ModelConfig

KEPT = (APPLIED, BETWEEN_EPOCHS, REFUSED)


def resume_rules() -> ResumeRules:
    """The declared rules of all settings."""

    def named(rule: Resume) -> frozenset[str]:
        return frozenset(name for name, each in catalogue().items() if each.resume is rule)

    defaults = {name: plain(value) for name, value in dataclasses.asdict(ModelConfig()).items()}
    return ResumeRules(
        refused=named(REFUSED), between_epochs=named(BETWEEN_EPOCHS), option_defaults=defaults
    )


def kept_settings(settings: Settings, steps_per_epoch: int) -> Kept:
    """The settings that decide a run, in plain types, as a checkpoint keeps them.

    steps_per_epoch: loader batches.
    """
    kept = {
        name: plain(each.of(settings)) for name, each in catalogue().items() if each.resume in KEPT
    }
    return {**kept, STEPS: steps_per_epoch}
