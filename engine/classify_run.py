# SPDX-License-Identifier: Apache-2.0
"""`--task classify`: the parts of its training, and one evaluation from flags to results.json."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from config import Config
from datasets import classify_build as data
from datasets.loader import Batch
from datasets.registry import open_skip_list
from engine import build
from engine.classify import ClassSummary, evaluate_classifier
from engine.compute import Compute, Watch
from engine.loop import EpochSampler
from engine.mixing import BatchMixer, Mixing, UnreadableLog
from engine.state import TrainState
from loss.objective import Objective
from loss.soft_target import SoftTargetCrossEntropy
from runtime import distributed, runlog
from runtime.distributed import Ranks, World
from runtime.outcome import stop_between
from runtime.precision import Precision
from runtime.runlog import RunLog

IGNORE = -1  # no image has this class
EVAL_FACTS = ("img_size", "crop_pct", "interpolation")  # how the scores of a file were obtained


def mixing(args: argparse.Namespace) -> Mixing:
    """How batches are mixed, as the flags say."""
    return Mixing(
        mixup=args.mixup,
        cutmix=args.cutmix,
        cutmix_minmax=args.cutmix_minmax,
        prob=args.mixup_prob,
        switch_prob=args.mixup_switch_prob,
        mode=args.mixup_mode,
        off_epoch=args.mixup_off_epoch or None,
        smoothing=args.smoothing,
    )


class Classification:
    """Classes of whole images."""

    best_by, best_name = "top1", "top-1"

    def __init__(self, args: argparse.Namespace, cfg: Config, world: World, log: RunLog) -> None:
        self.args, self.cfg, self.world, self.log = args, cfg, world, log
        self.spec = data.class_spec(args, cfg)
        self.skip = open_skip_list(cfg)
        self.train = data.pictures(cfg, self.spec, "train", self.skip)
        self.val = data.pictures(cfg, self.spec, "val", self.skip)
        self.unreadable = UnreadableLog(log.msg_any_rank, "another image takes its place")
        mix = mixing(args)
        self.mixer = BatchMixer(mix, self.num_classes, args.bs_trn) if mix.is_on else None

    @property
    def num_classes(self) -> int:
        """Number of class folders."""
        return self.spec.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Their names."""
        return self.spec.class_names

    def prepare(self, batch: Batch, epoch: int) -> Batch:
        """Note unreadable files, mix the images."""
        self.unreadable.note(batch)
        return batch if self.mixer is None else self.mixer(batch, epoch)

    def dump_augmentations(self, out_dir: Path) -> int:
        """Write augmented training images; returns how many."""
        return data.dump_augmentations(self.args, self.train, out_dir)

    def train_loader(self) -> tuple[DataLoader[Batch], EpochSampler]:
        """Augmented images of this rank, and what draws them."""
        self.log.msg(f"{len(self.train)} training, {len(self.val)} validation images")
        if self.skip is not None:
            self.log.msg(f"{len(self.skip.met)} images left out by {self.skip.path}")
            if unknown := self.skip.unknown_text():
                self.log.msg(f"warning: {unknown}")
        return data.make_train_loader(self.args, self.train, self.world.rank, self.world.size)

    def header(self) -> dict[str, Any]:
        """Architecture, options, classes, and the size of evaluated images."""
        args = self.args
        return {
            "task": "classify",
            "best_by": self.best_by,
            **build.network_header(args, self.cfg.MODEL, self.num_classes),
            "dataset": self.spec.name,
            "class_names": list(self.spec.class_names),
            **{name: getattr(args, name) for name in EVAL_FACTS},
            "seed": args.seed,
            "command": " ".join(sys.argv),
        }

    def objective(self) -> Objective:
        """Soft-target cross entropy, label smoothing where batches are not mixed."""
        criterion = SoftTargetCrossEntropy(self.args.smoothing)
        return Objective(criterion, num_classes=self.num_classes, ignore_label=IGNORE)

    def validation(
        self, state: TrainState, precision: Precision
    ) -> Callable[[int], dict[str, float]]:
        """Scores of the validation images."""
        return ClassValidation(self, state, precision)

    def fingerprint(self) -> dict[str, object]:
        """Counts and hashes of the names."""
        splits = {"train": self.train.fingerprint(), "val": self.val.fingerprint()}
        return {"dataset": self.spec.name, "root": str(self.train.root.parent), **splits}


class ClassValidation:
    """Scores of the evaluated network after an epoch; called by the training loop."""

    def __init__(self, task: Classification, state: TrainState, precision: Precision) -> None:
        self.task, self.state, self.precision = task, state, precision
        self.named: set[str] = set()  # unreadable images that the log has named
        limit = build.TEST_MODE_IMAGES if task.args.test_mode else None
        world = task.world
        self.loader = data.make_eval_loader(
            task.args, task.val.first(limit), world.rank, world.size
        )

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate; logs the val row. The same dict on every rank.

        The row stands at the epoch, with `--val_iters` at the number of optimiser steps done.
        """
        task, log = self.task, self.task.log
        by_steps, steps = bool(task.args.val_iters), self.state.progress.iteration
        number, unit = (steps, "step") if by_steps else (epoch, "epoch")
        net = self.state.evaluated.eval()
        summary = run_classifier(
            net,
            self.loader,
            task.num_classes,
            task.args,
            self.precision,
            task.world,
            log,
            self.named,
        )
        values = {"loss": summary.loss, **summary.values()}
        log.metric("val", {**values, **self.state.rates}, number)
        known = [self.state.progress.best] if self.state.progress.has_best else []
        best = max([*known, *filter(math.isfinite, [values["top1"]])], default=None)
        shown = "none" if best is None else f"{100 * best:.2f}"
        log.msg(f"this : [{unit} {number}], {summary.line()}; best top-1 {shown}")
        replaced = sum(distributed.gather_objects(task.unreadable.count))
        if replaced:
            log.msg(f"{replaced} training images could not be read so far; others took their place")
        return values


def run_classifier(
    net: nn.Module,
    loader: DataLoader[Batch],
    num_classes: int,
    args: argparse.Namespace,
    precision: Precision,
    world: World,
    log: RunLog,
    named: set[str] | None = None,
) -> ClassSummary:
    """`evaluate_classifier` on this run's ranks, with progress lines in its log."""
    return evaluate_classifier(
        net,
        loader,
        num_classes,
        Compute(device=world.device, autocast=precision.autocast),
        channels_last=args.channels_last,
        ranks=Ranks(rank=world.rank, size=world.size),
        watch=Watch(log=log.msg_any_rank, progress=stop_between(log.progress("evaluate"))),
        named=named,
    )


class ClassEvaluation:
    """One evaluation of a classifier: what `eval.py` runs.

    `facts` are the entries of a checkpoint of this program ({} for foreign files): its classes
    must be those of the folders, its image size holds where the user names none.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        cfg: Config,
        facts: dict[str, Any],
        precision: Precision,
        world: World,
        log: RunLog,
    ) -> None:
        self.args, self.precision, self.world, self.log = args, precision, world, log
        for name in EVAL_FACTS:
            if name in facts and name not in args.given and not args.from_run:
                setattr(args, name, facts[name])
        self.spec = data.class_spec(args, cfg, tuple(facts.get("class_names", ())))
        limit = build.TEST_MODE_IMAGES if args.test_mode else None
        self.pictures = data.pictures(cfg, self.spec, data.SPLITS[args.eval]).first(limit)
        self.loader = data.make_eval_loader(args, self.pictures, world.rank, world.size)

    def fingerprint(self) -> dict[str, object]:
        """Count and hash of the names."""
        found = self.pictures.fingerprint()
        return {"dataset": self.spec.name, "root": str(self.pictures.root.parent), "split": found}

    def run(self, net: nn.Module, protocol: dict[str, Any]) -> ClassSummary:
        """Evaluate, print the scores, write results.json."""
        summary = run_classifier(
            net,
            self.loader,
            self.spec.num_classes,
            self.args,
            self.precision,
            self.world,
            self.log,
        )
        self.log.msg(summary.line())
        self.log.metric("val", {**summary.values(), "loss": summary.loss}, 0)
        if self.world.is_main:
            content = {**summary.as_dict(self.spec.class_names), "protocol": protocol}
            runlog.write_json(Path(self.args.result_dir) / "results.json", content)
        distributed.barrier()
        return summary


def class_protocol(args: argparse.Namespace) -> dict[str, Any]:
    """How the scores were obtained, for results.json."""
    names = ("task", "dataset", "arch", "snapshot", *EVAL_FACTS, "precision")
    return {"split": args.eval, **{name: getattr(args, name) for name in names}}
