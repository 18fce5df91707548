# SPDX-License-Identifier: Apache-2.0
"""What training needs to know of its task: data, loss, validation. One class per task.

task = open_task(run)
loader, sampler = task.train_loader(ranks)
... task.spec, task.header(), task.objective(), task.validation(state), task.prepare
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader

from assembly import data
from assembly.class_weights import with_class_weights
from assembly.classification import Classification
from assembly.dataset import dataset_spec
from assembly.memory import check_memory
from assembly.network import checkpoint_header
from assembly.objective import build_objective
from assembly.run import Run
from assembly.sets import Sets
from assembly.trials import of_largest
from assembly.validation import Validation
from datasets.batch import Batch
from datasets.imagenet import ClassSpec
from datasets.registry import is_black
from datasets.spec import DatasetSpec
from engine.feed import EpochSampler, as_loaded
from engine.rehearsal import Trial
from engine.state import TrainState
from loss.objective import Objective


class Validator(Protocol):
    """Gives the scores of the evaluated network; called by the training loop after an epoch."""

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate and log; the same dict on every rank."""

    def trial(self) -> Trial:
        """The batch of this rank that needs most, to be evaluated beforehand."""


class Task(Protocol):
    """The parts of a training that depend on what is predicted.

    best_by: the score that decides which checkpoint is best; best_name: as people call it.
    """

    best_by: str
    best_name: str

    @property
    def spec(self) -> DatasetSpec | ClassSpec:
        """The classes that the network predicts."""

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """What the network sees of a batch that is on the device."""

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented training images; returns how many."""

    def train_loader(self, ranks: int) -> tuple[DataLoader[Batch], EpochSampler]:
        """Batches of this process in a run laid out for `ranks`, and what draws them."""

    def header(self) -> dict[str, Any]:
        """The plain entries that make a checkpoint usable without any flag."""

    def objective(self) -> Objective:
        """The loss."""

    def larger(self, draws: list[Any]) -> list[Any]:
        """Draws like `draws` that make the largest batch there is."""

    def validation(self, state: TrainState) -> Validator:
        """What gives the scores of the evaluated network after an epoch."""

    def fingerprint(self) -> dict[str, object]:
        """What identifies the data, for run.json."""


class Segmentation:
    """Maps of classes."""

    best_by, best_name = "mean_iu", "mIoU"

    def __init__(self, run: Run) -> None:
        self.run = run
        self.spec = dataset_spec(run.settings)
        self.sets = Sets(run.settings)

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """The batch as it came from the loader."""
        return as_loaded(batch, epoch)

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented images and labels; returns how many."""
        return data.dump_augmentations(self.run.settings, out_dir)

    def train_loader(self, ranks: int) -> tuple[DataLoader[Batch], EpochSampler]:
        """Crops of this process, class-uniform if so set; all labels are checked first."""
        loader, sampler, _ = data.make_train_loader(
            self.run.settings,
            self.run.world.rank,
            self.run.world.size,
            self.run.settings.run.seed,
            self.run.log.msg,
            self.sets,
            ranks,
        )
        return loader, sampler

    def header(self) -> dict[str, Any]:
        """Architecture, options, classes and colours."""
        return checkpoint_header(self.run.settings, self.spec)

    def objective(self) -> Objective:
        """The loss that the settings describe."""
        run = self.run
        settings = with_class_weights(run.settings, self.spec, self.sets, run.log.msg)
        return build_objective(settings, self.spec)

    def larger(self, draws: list[Any]) -> list[Any]:
        """The draws themselves; where crops are as large as images, as many of the largest one."""
        settings = self.run.settings
        if is_black(settings.data.dataset) or not settings.augmentation.full_crop_training:
            return draws
        return of_largest(draws, self.sets.train, settings.data.num_workers)

    def validation(self, state: TrainState) -> Validator:
        """Scores of the validation split."""
        return Validation(self.run, self.spec, state, self.sets.val)

    def fingerprint(self) -> dict[str, object]:
        """Counts and hashes of the splits."""
        return self.sets.fingerprint()


def open_task(run: Run) -> Task:
    """The task of `--task`, with its data; UserError when no batch of it can fit the memory."""
    kind: type[Segmentation] | type[Classification]
    kind = Classification if run.settings.classification.task == "classify" else Segmentation
    task = kind(run)
    check_memory(run.settings, task.spec.num_classes, run.world.device)
    return task
