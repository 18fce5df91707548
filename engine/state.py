# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint holds, so that a killed run goes on bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from runtime import distributed, seeds

FORMAT = "hiseg-1"
STARTING_POINTS = {"pretrained"}  # options that say where weights began, which are in the file


@dataclass
class Progress:
    """Where training stands: `step` batches of `epoch` are done; `iteration` counts all steps.

    `best` was reached in `best_epoch` after `best_iteration` steps; it is -1 as long as no
    validation gave a score. `validated` is the iteration of the last validation; in a file written
    just before one it is an earlier iteration.
    """

    epoch: int = 0
    step: int = 0
    iteration: int = 0
    best: float = -1.0
    best_epoch: int = -1
    skipped: int = 0
    best_iteration: int = -1
    validated: int = -1

    @property
    def has_best(self) -> bool:
        """Whether any validation gave a score."""
        return self.best_epoch >= 0


@dataclass(kw_only=True)
class TrainState:
    """The live objects of a training run that a checkpoint must hold.

    `facts` are the plain entries that make a checkpoint self-describing: arch, num_classes,
    model_options, class_names, palette, dataset, command, seed.
    """

    net: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: AveragedModel | None
    progress: Progress
    facts: dict[str, Any]
    world_size: int = 1

    @property
    def evaluated(self) -> nn.Module:
        """The network whose scores count: the weight average when there is one."""
        return self.net if self.ema is None else self.ema.module

    @property
    def rates(self) -> dict[str, float]:
        """The learning rates of now: `lr`, and `lr_NAME` of every parameter group with a name."""
        groups = self.optimizer.param_groups
        named = {f"lr_{group['name']}": group["lr"] for group in groups if "name" in group}
        return {"lr": float(groups[0]["lr"]), **named}

    def pack(self) -> dict[str, Any]:
        """The checkpoint; collective, call it on every rank.

        `state_dict` is always the evaluated network, so readers need not know about averages.
        """
        random_states = distributed.gather_objects(seeds.random_state())
        content: dict[str, Any] = {
            "format": FORMAT,
            **self.facts,
            "state_dict": self.evaluated.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "progress": dict(vars(self.progress)),
            "epoch": self.progress.epoch,
            str(self.facts.get("best_by", "mean_iu")): self.progress.best,
            "__metric": self.progress.best,
            "random": random_states,
            "world_size": self.world_size,
        }
        if self.ema is not None:
            content["live_state_dict"] = self.net.state_dict()
            content["ema_updates"] = int(self.ema.n_averaged.item())
        return content

    def unpack(self, content: dict[str, Any], rank: int) -> None:
        """Go on from `content`; ValueError when it belongs to another run.

        Another world size is refused: the draws of the ranks would no longer be the same.
        """
        if content.get("format") != FORMAT:
            raise ValueError("--resume needs a checkpoint of this program; use --snapshot instead")
        for name in ("arch", "num_classes", "seed"):
            if content[name] != self.facts[name]:
                raise ValueError(
                    f"--resume: the checkpoint has {name} {content[name]}, "
                    f"this run {self.facts[name]}"
                )
        check_options(content["model_options"], self.facts["model_options"])
        if content.get("param_rules", []) != self.facts.get("param_rules", []):
            raise ValueError(
                "--resume: --param_rules must be given as in the run that wrote the file"
            )
        positions = self.facts.get("positions")
        if content.get("positions", positions) != positions:
            trained, way = ("without", "add") if positions else ("with", "leave out")
            raise ValueError(
                f"--resume: the file was trained {trained} row positions; {way} --no_pos_dataset"
            )
        if content["world_size"] != self.world_size:
            raise ValueError(
                f"--resume: the checkpoint was written by {content['world_size']} processes, "
                f"this run has {self.world_size}; start as many, or use --snapshot"
            )
        if ("live_state_dict" in content) != (self.ema is not None):
            raise ValueError("--resume: --ema must be given as in the run that wrote the file")
        self.net.load_state_dict(content.get("live_state_dict", content["state_dict"]))
        if self.ema is not None:
            self.ema.module.load_state_dict(content["state_dict"])
            self.ema.n_averaged.fill_(content["ema_updates"])
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError:
            raise ValueError(
                "--resume: other parameters are trained than in the run that wrote the file; give "
                "--aux_weight (0 or not) and --train_only as there, or use --snapshot"
            ) from None
        self.scaler.load_state_dict(content["scaler"])
        self.progress = Progress(**content["progress"])
        seeds.set_random_state(content["random"][rank])


def _shown(option: object) -> object:
    """An option of the network in an error line, where nothing must not be an empty place."""
    return "none" if option is None or option in ("", [], ()) else option


def check_options(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """ValueError that names the options of the network that differ from those of a checkpoint."""
    differ = [
        f"{name} {_shown(saved.get(name))} (this run {_shown(own.get(name))})"
        for name in sorted((saved.keys() | own.keys()) - STARTING_POINTS)
        if saved.get(name) != own.get(name)
    ]
    if not differ:
        return
    way = "; boundary_heads follows --dt_offset_wt" if "boundary_heads" in " ".join(differ) else ""
    raise ValueError(f"--resume: the checkpoint has {', '.join(differ)}{way}")
