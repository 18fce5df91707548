# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds, so that a killed run continues bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from engine.optim import WeightAverage
from engine.resume_optimizer import check_fits, check_optimizer, load_optimizer
from engine.resume_rules import (
    Comparison,
    ResumeRules,
    compare_facts,
    compare_settings,
    different_options,
    recorded,
    refusal,
)
from engine.turns import Turns
from engine.whole import WHOLE, Whole

FORMAT = "hiseg-1"


@dataclass
class Progress:
    """Where training stands: `step` batches of `epoch` are done; `iteration` counts all steps.

    `best` was reached in `best_epoch` after `best_iteration` steps; it is -1 until a validation
    gives a score. `validated` is the iteration of the last validation; in a file written just
    before one it is an earlier iteration. `waited`: validations since the best one.
    """

    epoch: int = 0
    step: int = 0
    iteration: int = 0
    best: float = -1.0
    best_epoch: int = -1
    skipped: int = 0
    best_iteration: int = -1
    validated: int = -1
    waited: int = 0

    @property
    def has_best(self) -> bool:
        """Whether any validation gave a score."""
        return self.best_epoch >= 0

    def improves(self, score: float) -> bool:
        """Whether `score` is the best one so far; one that is not finite never is."""
        return math.isfinite(score) and score > self.best

    def best_with(self, score: float) -> float | None:
        """The best score if a validation gives `score` now; None if none is finite so far."""
        known = [self.best] if self.has_best else []
        return max([*known, *filter(math.isfinite, [score])], default=None)


@dataclass(kw_only=True)
class TrainState:
    """The live objects of a training run that a checkpoint must hold.

    `facts` are the plain entries that make a checkpoint self-describing: arch, num_classes,
    model_options, class_names, palette, dataset, command, seed. `rules` say what `unpack` refuses.
    `turns`: for how many ranks the run is laid out, which its files call `world_size`. `holding`:
    what each process keeps of the weights.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: WeightAverage | None
    progress: Progress
    facts: dict[str, Any]
    turns: Turns = field(default_factory=Turns)
    holding: Whole = WHOLE
    rules: ResumeRules = ResumeRules()

    @property
    def evaluated(self) -> nn.Module:
        """The network whose scores count: the weight average if there is one."""
        return self.net if self.ema is None else self.ema.module

    @property
    def rates(self) -> dict[str, float]:
        """The current learning rates: `lr`, and `lr_NAME` of every parameter group with a name."""
        groups = self.optimizer.param_groups
        named = {f"lr_{group['name']}": group["lr"] for group in groups if "name" in group}
        return {"lr": float(groups[0]["lr"]), **named}

    def pack(self) -> dict[str, Any]:
        """The checkpoint; collective, call it on every rank.

        `state_dict` is always the evaluated network, so readers need not know about averages.
        """
        random_states = self.turns.random_states()
        content: dict[str, Any] = {
            "format": FORMAT,
            **self.facts,
            "state_dict": self.holding.whole_state(self.evaluated.state_dict()),
            "optimizer": self.holding.whole_state(self.optimizer.state_dict()),
            "scaler": self.scaler.state_dict(),
            "progress": dict(vars(self.progress)),
            "epoch": self.progress.epoch,
            str(self.facts.get("best_by", "mean_iu")): self.progress.best,
            "__metric": self.progress.best,
            "random": random_states,
            "world_size": self.turns.ranks,
        }
        if self.ema is not None:
            content["live_state_dict"] = self.holding.whole_state(self.net.state_dict())
            content["ema_updates"] = int(self.ema.n_averaged.item())
        return content

    def unpack(self, content: dict[str, Any]) -> list[str]:
        """Continue from `content`; returns lines about settings that changed and hold from here on.

        ValueError, in one line, if it belongs to another run or if settings changed that cannot be
        applied. In these cases nothing has been changed.
        """
        if content.get("format") != FORMAT:
            raise ValueError("--resume needs a checkpoint of this program; use --snapshot instead")
        progress = Progress(**content["progress"])
        found = Comparison()
        own = self.facts.get("settings")
        if own is not None:
            found = compare_settings(
                recorded(content), own, self.rules, progress.epoch, progress.step
            )
        defaults = self.rules.option_defaults
        refused = compare_facts(content, self.facts, self.turns.ranks, defaults) + found.refused
        if ("live_state_dict" in content) != (self.ema is not None) and not any(
            text.startswith("--ema") for text in refused
        ):
            refused.append("--ema or not (give it as there)")
        if refused:
            raise ValueError(refusal(refused))
        self._load(content)
        self.progress = progress
        return found.applied

    def _load(self, content: dict[str, Any]) -> None:
        """Weights, optimiser, scaler, average and random states of `content`."""
        live = content.get("live_state_dict", content["state_dict"])
        check_fits(self.net.state_dict(), live, "state_dict")
        if self.ema is not None:
            check_fits(self.ema.module.state_dict(), content["state_dict"], "state_dict")
        check_optimizer(self.optimizer, content["optimizer"])
        self.holding.load_weights(self.net, live)
        if self.ema is not None:
            self.holding.load_weights(self.ema.module, content["state_dict"])
            self.ema.n_averaged.fill_(content["ema_updates"])
        load_optimizer(self.optimizer, content["optimizer"], self.holding)
        if content["scaler"]:  # else the file has another precision, and the scale starts again
            self.scaler.load_state_dict(content["scaler"])
        self.turns.set_random_states(content["random"])


def check_options(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """ValueError that names the options of the network that differ from those of a checkpoint."""
    differ = different_options(saved, own)
    if differ:
        raise ValueError(f"--resume: the checkpoint has {', '.join(differ)}")
