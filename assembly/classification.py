# SPDX-License-Identifier: Apache-2.0
"""`--task classify`: the parts of its training, and one evaluation to its results.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from assembly import classification_data as data
from assembly.dataset import open_skip_list
from assembly.network import network_header
from assembly.run import Run
from assembly.snapshot import EVAL_FACTS
from assembly.trials import evaluation_trial
from assembly.validation import TEST_MODE_IMAGES
from datasets.batch import Batch
from engine.classify import ClassSummary, evaluate_classifier
from engine.feed import EpochSampler
from engine.mixing import BatchMixer, Mixing, UnreadableLog
from engine.rehearsal import Trial
from engine.state import TrainState
from loss.objective import Objective
from loss.soft_target import SoftTargetCrossEntropy
from runtime import distributed, runlog
from runtime.distributed import APART
from runtime.limits import counted
from settings import Settings
from settings.classification import ClassificationSettings

IGNORE = -1  # no image has this class


def mixing(recipe: ClassificationSettings) -> Mixing:
    """How batches are mixed."""
    return Mixing(
        mixup=recipe.mixup,
        cutmix=recipe.cutmix,
        cutmix_minmax=recipe.cutmix_minmax,
        prob=recipe.mixup_prob,
        switch_prob=recipe.mixup_switch_prob,
        mode=recipe.mixup_mode,
        off_epoch=recipe.mixup_off_epoch or None,
        smoothing=recipe.smoothing,
    )


def sizing(settings: Settings) -> dict[str, Any]:
    """How images of an evaluation are sized, by the names of the settings."""
    return {name: getattr(settings.classification, name) for name in EVAL_FACTS}


class Classification:
    """Classes of whole images."""

    best_by, best_name = "top1", "top-1"

    def __init__(self, run: Run) -> None:
        settings = run.settings
        self.run = run
        self.spec = data.class_spec(settings)
        self.skip = open_skip_list(settings)
        self.train = data.images_of(settings, self.spec, "train", self.skip)
        self.val = data.images_of(settings, self.spec, "val", self.skip)
        self.unreadable = UnreadableLog(run.log.msg_any_rank, "another image takes its place")
        mix = mixing(settings.classification)
        batch = settings.data.bs_trn
        self.mixer = BatchMixer(mix, self.spec.num_classes, batch) if mix.is_on else None

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """Note unreadable files, mix the images."""
        self.unreadable.note(batch)
        return batch if self.mixer is None else self.mixer(batch, epoch)

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented training images; returns how many."""
        return data.dump_augmentations(self.run.settings, self.train, out_dir)

    def train_loader(self, ranks: int) -> tuple[DataLoader[Batch], EpochSampler]:
        """Augmented images of this process, and what draws them."""
        log = self.run.log
        log.msg(f"{len(self.train)} training, {len(self.val)} validation images")
        if self.skip is not None:
            log.msg(f"{counted(len(self.skip.met), 'image')} left out by {self.skip.path}")
            if unknown := self.skip.unknown_text():
                log.msg(f"warning: {unknown}")
        return data.make_train_loader(self.run.settings, self.train, self.run.world, ranks)

    def header(self) -> dict[str, Any]:
        """Architecture, options, classes, and the size of evaluated images."""
        settings = self.run.settings
        return {
            "task": "classify",
            "best_by": self.best_by,
            **network_header(settings, self.spec.num_classes),
            "dataset": self.spec.name,
            "class_names": list(self.spec.class_names),
            **sizing(settings),
            "seed": settings.run.seed,
            "command": " ".join(sys.argv),
        }

    def objective(self) -> Objective:
        """Soft-target cross entropy, label smoothing where batches are not mixed."""
        criterion = SoftTargetCrossEntropy(self.run.settings.classification.smoothing)
        return Objective(criterion, num_classes=self.spec.num_classes, ignore_label=IGNORE)

    def larger(self, draws: list[Any]) -> list[Any]:
        """The draws themselves: all images have one size."""
        return draws

    def validation(self, state: TrainState) -> ClassValidation:
        """Scores of the validation images."""
        return ClassValidation(self, state)

    def fingerprint(self) -> dict[str, object]:
        """Counts and hashes of the names."""
        splits = {"train": self.train.fingerprint(), "val": self.val.fingerprint()}
        return {"dataset": self.spec.name, "root": str(self.train.root.parent), **splits}


class ClassValidation:
    """Scores of the evaluated network after an epoch; called by the training loop."""

    def __init__(self, task: Classification, state: TrainState) -> None:
        self.task, self.state = task, state
        self.named: set[str] = set()  # unreadable images that the log has named
        limit = TEST_MODE_IMAGES if task.run.settings.run.test_mode else None
        images = task.val.first(limit)
        self.count = len(images)
        self.loader = data.make_eval_loader(task.run.settings, images, task.run.world)

    def trial(self) -> Trial:
        """The evaluation of the first images of this rank, by itself and without a word."""
        task = self.task

        def run(batch: Batch) -> None:
            evaluate_classifier(
                self.state.evaluated.eval(),
                [batch],
                task.spec.num_classes,
                task.run.compute,
                channels_last=task.run.settings.run.channels_last,
                ranks=APART,
            )

        side = task.run.settings.classification.img_size
        work, sizes = [1] * self.count, [(side, side)] * self.count
        return evaluation_trial(self.loader, run, work, sizes, int)

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate; logs the val row. The same dict on every rank.

        The row stands at the epoch, with `--val_iters` at the number of optimiser steps done.
        """
        task, log = self.task, self.task.run.log
        by_steps, steps = task.run.settings.run.val_iters, self.state.progress.iteration
        number, unit = (steps, "step") if by_steps else (epoch, "epoch")
        net = self.state.evaluated.eval()
        summary = run_classifier(task.run, net, self.loader, task.spec.num_classes, self.named)
        values = {"loss": summary.loss, **summary.values()}
        log.metric("val", {**values, **self.state.rates}, number)
        best = self.state.progress.best_with(values["top1"])
        shown = "none" if best is None else f"{100 * best:.2f}"
        log.msg(f"this : [{unit} {number}], {summary.line()}; best top-1 {shown}")
        replaced = sum(distributed.gather_objects(task.unreadable.count))
        if replaced:
            log.msg(
                f"{counted(replaced, 'unreadable training image')} so far; others took their place"
            )
        return values


def run_classifier(
    run: Run,
    net: nn.Module,
    loader: DataLoader[Batch],
    num_classes: int,
    named: set[str] | None = None,
) -> ClassSummary:
    """`evaluate_classifier` on this run's ranks, with progress lines in its log."""
    return evaluate_classifier(
        net,
        loader,
        num_classes,
        run.compute,
        channels_last=run.settings.run.channels_last,
        ranks=run.ranks,
        watch=run.watch("evaluate"),
        named=named,
    )


class ClassEvaluation:
    """One evaluation of a classifier: what `eval.py` runs.

    `facts` are the entries of a checkpoint of this program ({} for foreign files): its classes
    must be those of the folders.
    """

    def __init__(self, run: Run, facts: dict[str, Any]) -> None:
        settings = run.settings
        self.run = run
        assert settings.inference.eval is not None
        split = data.SPLITS[settings.inference.eval]
        self.spec = data.class_spec(settings, tuple(facts.get("class_names", ())))
        limit = TEST_MODE_IMAGES if settings.run.test_mode else None
        self.images = data.images_of(settings, self.spec, split).first(limit)
        self.loader = data.make_eval_loader(settings, self.images, run.world)

    def fingerprint(self) -> dict[str, object]:
        """Count and hash of the names."""
        found = self.images.fingerprint()
        return {"dataset": self.spec.name, "root": str(self.images.root.parent), "split": found}

    def score(self, net: nn.Module) -> ClassSummary:
        """Evaluate, print the scores, write results.json."""
        run, log = self.run, self.run.log
        summary = run_classifier(run, net, self.loader, self.spec.num_classes)
        log.msg(summary.line())
        log.metric("val", {**summary.values(), "loss": summary.loss}, 0)
        if run.world.is_main:
            protocol = class_protocol(run.settings)
            content = {**summary.as_dict(self.spec.class_names), "protocol": protocol}
            runlog.write_json(run.directory / "results.json", content)
        distributed.barrier()
        return summary


def class_protocol(settings: Settings) -> dict[str, Any]:
    """How the scores were obtained, for results.json."""
    return {
        "split": settings.inference.eval,
        "task": settings.classification.task,
        "dataset": settings.data.dataset,
        "arch": settings.network.arch,
        "snapshot": settings.network.snapshot,
        **sizing(settings),
        "precision": settings.run.precision,
    }
