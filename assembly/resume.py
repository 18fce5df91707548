# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint keeps of settings and processes, and what `--resume` does where they differ."""

from __future__ import annotations

import dataclasses

from assembly.run import Run
from assembly.snapshot import Snapshot
from engine.resume_rules import STEPS, Kept, ResumeRules, plain, ranks_of
from engine.turns import Turns
from runtime.limits import counted
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


def take_turns(file: Snapshot | None, run: Run) -> Turns:
    """The part of this process in the run: as a rank of its own, or for the ranks of a file."""
    world, settings = run.world, run.settings
    ranks = world.size
    if file is not None:
        own = {name: catalogue()[name].of(settings) for name in ("bs_trn", "accum_steps")}
        ranks = ranks_of(file.content, own, world.size)
    return Turns(ranks, world.rank, world.size, settings.run.seed)


def sharing_line(turns: Turns, run: Run) -> str:
    """What another number of processes than that of the layout changes; "" if it is the same."""
    if turns.ranks == turns.world:
        return ""
    settings, is_cuda = run.settings, run.world.device.type == "cuda"
    each, batch = settings.optimiser.accum_steps, settings.data.bs_trn
    goers = f"{counted(turns.world, 'process')} {'goes' if turns.world == 1 else 'go'}"
    parts = [
        f"{goers} on with a run of {turns.ranks}: each adds up "
        f"{counted(turns.ranks * each // turns.world, 'batch')} a step instead of {each} "
        f"(--accum_steps), so a step keeps its {counted(turns.ranks * each * batch, 'image')}"
    ]
    if not turns.keeps_draws:
        parts.append("random numbers of the network are drawn anew")
    if settings.optimiser.syncbn and is_cuda:
        size = turns.world * batch
        parts.append(
            f"--syncbn normalises over {counted(size, 'image')} instead of {turns.ranks * batch}"
        )
    return "; ".join(parts)
