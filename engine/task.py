# SPDX-License-Identifier: Apache-2.0
"""What training needs to know of its task: data, loss, validation. One class a task.

task = open_task(args, cfg, world, log)
loader, sampler = task.train_loader()
... task.num_classes, task.header(), task.objective(), task.validation(...), task.prepare
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader

from config import Config
from datasets import build as data
from datasets import registry
from datasets.loader import Batch
from datasets.sets import Sets
from engine import build
from engine.classify_run import Classification
from engine.loop import EpochSampler, as_loaded
from engine.memory import check_memory
from engine.session import Validation
from engine.state import TrainState
from loss.build import build_objective
from loss.objective import Objective
from runtime.distributed import World
from runtime.precision import Precision
from runtime.runlog import RunLog


class Task(Protocol):
    """The parts of a training that depend on what is predicted.

    best_by: the score that decides which checkpoint is best; best_name: as people call it.
    """

    best_by: str
    best_name: str

    @property
    def num_classes(self) -> int:
        """Number of classes that the network predicts."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names."""

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """What the network sees of a batch that is on the device."""

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented training images; returns how many."""

    def train_loader(self) -> tuple[DataLoader[Batch], EpochSampler]:
        """Batches of this rank, and what draws them."""

    def header(self) -> dict[str, Any]:
        """The plain entries that make a checkpoint usable without any flag."""

    def objective(self) -> Objective:
        """The loss."""

    def validation(
        self, state: TrainState, precision: Precision
    ) -> Callable[[int], dict[str, float]]:
        """What gives the scores of the evaluated network after an epoch."""

    def fingerprint(self) -> dict[str, object]:
        """What identifies the data, for run.json."""


class Segmentation:
    """Maps of classes."""

    best_by, best_name = "mean_iu", "mIoU"

    def __init__(self, args: argparse.Namespace, cfg: Config, world: World, log: RunLog) -> None:
        self.args, self.cfg, self.world, self.log = args, cfg, world, log
        self.spec = registry.dataset_spec(args, cfg)
        self.sets = Sets(args, cfg)

    @property
    def num_classes(self) -> int:
        """Number of classes of the data set."""
        return self.spec.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names."""
        return self.spec.class_names

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """The batch as it came from the loader."""
        return as_loaded(batch, epoch)

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented images and labels; returns how many."""
        return data.dump_augmentations(self.args, self.cfg, out_dir)

    def train_loader(self) -> tuple[DataLoader[Batch], EpochSampler]:
        """Crops of this rank, class-uniform as the flags say; all labels are checked first."""
        world, seed = self.world, self.args.seed
        loader, sampler, _ = data.make_train_loader(
            self.args, self.cfg, world.rank, world.size, seed, self.log.msg, self.sets
        )
        return loader, sampler

    def header(self) -> dict[str, Any]:
        """Architecture, options, classes and colours."""
        return build.checkpoint_header(self.args, self.cfg.MODEL, self.spec)

    def objective(self) -> Objective:
        """The loss the flags describe."""
        return build_objective(self.args, self.cfg, self.spec)

    def validation(
        self, state: TrainState, precision: Precision
    ) -> Callable[[int], dict[str, float]]:
        """Scores of the validation split."""
        return Validation(
            self.args, self.cfg, self.spec, state, precision, self.world, self.log, self.sets.val
        )

    def fingerprint(self) -> dict[str, object]:
        """Counts and hashes of the splits."""
        return self.sets.fingerprint()


def open_task(args: argparse.Namespace, cfg: Config, world: World, log: RunLog) -> Task:
    """The task of `--task`, with its data; UserError when no batch of it can fit the memory."""
    kind: type[Segmentation] | type[Classification]
    kind = Classification if args.task == "classify" else Segmentation
    task = kind(args, cfg, world, log)
    check_memory(args, task.num_classes, world.device)
    return task
