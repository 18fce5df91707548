# SPDX-License-Identifier: Apache-2.0
"""One run from its flags to its files: opening, resuming, validating, evaluating."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from config import PROJECT_ROOT, Config, UserError
from datasets import build as data
from datasets import registry
from datasets.loader import Batch
from datasets.sets import Sets
from datasets.spec import DatasetSpec, Item
from engine import build, dump_key, predict, procedure
from engine.compute import Compute, Watch
from engine.dumps import PICTURES, Dumps, open_dumps, wants_maps
from engine.evaluate import EvalRules, EvalSummary, ValLoss, evaluate
from engine.state import TrainState
from loss.build import build_val_loss
from metrics.bands import bands_table
from metrics.boundary_scores import BoundaryScores
from metrics.result import Sink, score_values
from network.convert import read_checkpoint
from network.convert.schema import check_resumable
from reports.page import write_page
from reports.preview import PreviewSink
from reports.results import write_results
from reports.worst import PAGE as WORST_PAGE
from runtime import checkpoint, distributed, rundir, runlog, seeds
from runtime.distributed import Ranks, World
from runtime.outcome import Outcome, stop_between
from runtime.precision import Precision, resolve_precision
from runtime.runlog import RunLog
from runtime.threads import usable_cpus


def _flags(args: argparse.Namespace) -> dict[str, Any]:
    """The flags alone, without what parsing noted about them."""
    return {key: value for key, value in vars(args).items() if key not in ("notes", "given")}


def open_run(args: argparse.Namespace, outcome: Outcome) -> tuple[World, Precision, RunLog]:
    """Join the ranks, seed, choose the directory and open the log in it.

    UserError when a training would write over another run; what is no training goes to a folder of
    its own there, which `args.result_dir` then names.
    """
    world = distributed.join(args.device, args.local_rank, args.dist_timeout)
    seeds.seed_everything(args.seed, world.rank, args.deterministic)
    precision, note = resolve_precision(args.precision, world.device)
    moved = rundir.choose(args, world)
    log = RunLog(Path(args.result_dir), world.is_main, progress=not args.no_progress)
    outcome.log = log
    log.open(_flags(args))
    log.status("running")
    for line in [*args.notes, *filter(None, [note, moved])]:
        log.msg(line)
    threads = f"{torch.get_num_threads()} of {usable_cpus()} cores"
    log.msg(f"{world.size} x {world.device.type}, precision {precision.name}, threads: {threads}")
    return world, precision, log


def write_run_facts(
    args: argparse.Namespace,
    cfg: Config,
    world: World,
    log: RunLog,
    fingerprint: Callable[[], dict[str, object]],
) -> None:
    """run.json: everything `--from_run` and a reader need to repeat the run.

    `fingerprint` gives what identifies the data; it is asked on rank 0 only.
    """
    if not world.is_main:
        return
    content = {
        "flags": _flags(args),
        "given": args.given,
        "config": cfg.to_dict(),
        "versions": runlog.versions(),
        "git": runlog.git_revision(PROJECT_ROOT),
        "world_size": world.size,
        "data": fingerprint(),
    }
    runlog.write_json(log.directory / "run.json", content)


def read_resumed(args: argparse.Namespace, log: RunLog) -> build.Snapshot | None:
    """The file of `--resume FILE|auto`; `auto` in an empty directory starts anew and says so."""
    if not args.resume:
        return None
    path = Path(args.resume)
    if args.resume == "auto":
        found = checkpoint.newest(log.directory)
        if len(set(distributed.gather_objects(found and found.name))) > 1:
            raise UserError(
                f"--resume auto: not every process finds the same checkpoint in {log.directory}; "
                "--result_dir must be on a file system that all machines share"
            )
        if found is None:
            log.msg(f"--resume auto: no checkpoint in {log.directory}, training starts anew")
            return None
        path = found
    content = read_checkpoint(path)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds no training state; --snapshot takes its weights")
    check_resumable(content, str(path))
    return build.Snapshot(str(path), content, content)


def resume(
    file: build.Snapshot | None,
    state: TrainState,
    settings: dict[str, Any],
    world: World,
    log: RunLog,
) -> None:
    """Go on from `file`, if there is one; `settings` of this run are kept in its own files."""
    state.facts["settings"] = settings
    if file is None:
        return
    applied = state.unpack(file.content, world.rank)
    progress = state.progress
    log.msg(
        f"resumed {file.path} at epoch {progress.epoch}, step {progress.step} "
        f"({progress.iteration} steps in all)"
    )
    for line in applied:
        log.msg(f"resumed with another setting, from here on: {line}")


class Validation:
    """Scores of the evaluated network after an epoch; called by the training loop."""

    def __init__(
        self,
        args: argparse.Namespace,
        cfg: Config,
        spec: DatasetSpec,
        state: TrainState,
        precision: Precision,
        world: World,
        log: RunLog,
        items: list[Item],
    ) -> None:
        limit = build.TEST_MODE_IMAGES if args.test_mode else None
        self.loader = data.make_eval_loader(args, cfg, spec, world.rank, world.size, items[:limit])
        self.args, self.spec, self.state = args, spec, state
        self.precision, self.world, self.log = precision, world, log
        self.val_loss = build_val_loss(spec)

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate; prints the table and logs the val row. The same dict on every rank.

        The row stands at the epoch, with `--val_iters` at the number of optimiser steps done.
        """
        by_steps, steps = bool(self.args.val_iters), self.state.progress.iteration
        number, unit = (steps, "step") if by_steps else (epoch, "epoch")
        net = self.state.evaluated
        net.eval()
        infer = procedure.build_infer(self.args, net, return_all=False)
        summary = run_evaluation(
            infer,
            self.loader,
            self.spec,
            self.precision,
            self.world,
            self.log,
            self.val_loss,
            sinks=[self._preview(number)],
        )
        assert summary.scores is not None, "validation without labels"
        scores = summary.scores
        values = {"loss": summary.loss or 0.0, **score_values(summary)}
        self.log.metric("val", {**values, **self.state.rates}, number)
        known = [self.state.progress.best] if self.state.progress.has_best else []
        best = max([*known, *filter(math.isfinite, [values["mean_iu"]])], default=None)
        self.log.msg(scores.table())
        self.log.msg(scores.summary())
        self.log.msg(
            f"this : [{unit} {number}], [val loss {values['loss']:.5f}], [acc {scores.acc:.5f}], "
            f"[acc_cls {scores.acc_cls:.5f}], [mean_iu {scores.mean_iu:.5f}], "
            f"[fwavacc {scores.fwavacc:.5f}]; best mean_iu "
            + ("none" if best is None else f"{best:.5f}")
        )
        return values

    def _preview(self, number: int) -> PreviewSink:
        log = self.log
        return PreviewSink(log.image, self.spec, step=number, is_main=log.is_main)


def run_evaluation(
    infer: predict.Infer,
    loader: DataLoader[Batch],
    spec: DatasetSpec,
    precision: Precision,
    world: World,
    log: RunLog,
    val_loss: ValLoss | None,
    *,
    sinks: list[Sink] | None = None,
    metrics: bool = True,
    crop: tuple[int, int] | None = None,
    skip_refused: bool = False,
) -> EvalSummary:
    """`evaluate` on this run's ranks, with progress lines in its log."""
    summary = evaluate(
        infer,
        loader,
        spec,
        Compute(device=world.device, autocast=precision.autocast),
        sinks=sinks or [],
        rules=EvalRules(metrics=metrics, val_loss=val_loss, crop=crop, skip_refused=skip_refused),
        ranks=Ranks(rank=world.rank, size=world.size),
        watch=Watch(log=log.msg_any_rank, progress=stop_between(log.progress("evaluate"))),
    )
    if summary.not_finite:
        broken = f"{summary.not_finite} of {summary.num_images} images"
        log.msg(f"warning: NaN or infinite scores in {broken}: what they score is no result")
    elif not math.isfinite(summary.loss or 0.0):
        log.msg("warning: the loss is not finite although all largest scores are")
    return summary


class Evaluation:
    """One evaluation from data to report: what `eval.py` runs.

    `facts` are the entries of a checkpoint of this program ({} for foreign files): a folder of
    images is shown in its classes and colours when no data set is named.
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
        self.cfg = cfg
        if args.eval == "folder" and "dataset" not in args.given and "class_names" in facts:
            self.spec = spec_from_checkpoint(facts)
        else:
            self.spec = registry.dataset_spec(args, cfg)
        sets = Sets(args, cfg)
        every = sets.evaluated
        for line in sets.lines():
            log.msg(line)
        self.items = published_slice(args, every)
        if args.test_mode:
            self.items = self.items[: build.TEST_MODE_IMAGES]
        self.slice: list[int] | None = None
        if args.eval_f1_start >= 0:
            self.slice = [args.eval_f1_start, args.eval_f1_start + len(self.items)]
            which = f"only, of {len(every)}" if len(self.items) < len(every) else "(all)"
            log.msg(f"all scores are of images {self.slice[0]} to {self.slice[1] - 1} {which}")
        labelled = all(item.label is not None for item in self.items)
        self.metrics = labelled and not args.no_metrics
        for flag in ("dump_topn", "eval_f1", "mod_f1", "eval_distance_crop"):
            if getattr(args, flag) and not labelled:
                raise UserError(f"--{flag} compares with labels, and --eval {args.eval} has none")
        self.loader = data.make_eval_loader(
            args, cfg, self.spec, world.rank, world.size, self.items, log.msg
        )
        self.fingerprint: Callable[[], dict[str, object]] = sets.fingerprint

    def run(self, net: nn.Module, protocol: dict[str, Any]) -> EvalSummary:
        """Evaluate, print the table, write results.json, dumps and the report page.

        `protocol` says how; the images of `--eval_f1_start` are added here, [first, end).
        """
        key = dump_key.evaluation_key(
            self.args, self.cfg.MODEL, protocol, self.spec, self.precision.name
        )
        protocol = {**protocol, "images": self.slice}
        dumps = open_dumps(
            self.args, self.spec, self.items, key=key, rank=self.world.rank, log=self.log
        )
        infer = procedure.build_infer(self.args, net, return_all=wants_maps(self.args))
        if self.args.dump_attention:
            infer = procedure.with_gates(self.args, net, infer)
        summary = run_evaluation(
            infer,
            self.loader,
            self.spec,
            self.precision,
            self.world,
            self.log,
            build_val_loss(self.spec) if self.metrics else None,
            sinks=dumps.sinks,
            metrics=self.metrics,
            crop=self.args.eval_distance_crop,
            skip_refused=self.args.eval == "folder",
        )
        if self.world.is_main:
            self._report(summary, protocol, dumps)
        distributed.barrier()
        return summary

    def _report(self, summary: EvalSummary, protocol: dict[str, Any], dumps: Dumps) -> None:
        """Tables, results.json, pages and zip, on rank 0."""
        directory = Path(self.args.result_dir)
        outlines = [sink.scores for sink in (dumps.boundary, dumps.modified) if sink is not None]
        self._log_scores(summary, outlines)
        speed = summary.num_images / max(summary.seconds, 1e-9)
        self.log.msg(f"{summary.num_images} images in {summary.seconds:.1f} s ({speed:.2f}/s)")
        results = write_results(directory / "results.json", summary, self.spec, protocol, outlines)
        if dumps.pictures is not None or dumps.worst is not None:
            page = directory / PICTURES / "index.html"
            write_page(
                page,
                title=f"{protocol['arch']} on {self.spec.name}",
                spec=self.spec,
                summary=results,
                rows=dumps.pictures.rows if dumps.pictures is not None else [],
                run={**protocol, **runlog.versions()},
                links={} if dumps.worst is None else {"Worst images of each class": WORST_PAGE},
            )
            self.log.msg(f"report: {page}")
        if dumps.worst is not None:
            self.log.msg(f"worst images: {directory / PICTURES / WORST_PAGE}")
        if dumps.submission is not None:
            self.log.msg(f"submission: {dumps.submission.finish()}")
        if dumps.auto is not None:
            page = dumps.auto.finish(self.args.custom_coarse_prob, protocol)
            self.log.msg(f"auto labels: {page}")

    def _log_scores(self, summary: EvalSummary, outlines: list[BoundaryScores]) -> None:
        """Tables on stdout, the val row, and with --log_msinf_to_tb scalars of their own."""
        scores = summary.scores
        if scores is None:
            return
        self.log.msg(scores.table())
        if summary.bands is not None:
            self.log.msg(bands_table(summary.bands))
        self.log.msg(f"Mean: {100 * scores.mean_iu:.2f}")
        self.log.msg(scores.summary())
        for each in outlines:
            self.log.msg(each.table(self.spec.class_names))
        values = score_values(summary)
        self.log.metric("val", {**values, "loss": summary.loss or 0.0}, 0)
        if self.args.log_msinf_to_tb:
            ious = zip(self.spec.class_names, scores.iou.tolist(), strict=True)
            values |= {f"iou/{name}": iou for name, iou in ious if not math.isnan(iou)}
            for name, value in values.items():
                self.log.scalar(f"msinf/{name}", value, 0)


def published_slice(args: argparse.Namespace, items: list[Item]) -> list[Item]:
    """The images of `--eval_f1_start` and `--eval_f1_step_size`; all without."""
    start = args.eval_f1_start
    if start < 0:
        return items
    if start >= len(items):
        raise UserError(f"--eval_f1_start {start}: there are {len(items)} images, 0 is the first")
    return items[start : start + args.eval_f1_step_size]


def spec_from_checkpoint(facts: dict[str, Any]) -> DatasetSpec:
    """Classes and colours as a checkpoint of this program recorded them."""
    ids = facts["train_id_to_id"]
    return DatasetSpec(
        name=facts["dataset"],
        class_names=tuple(facts["class_names"]),
        palette=tuple((color[0], color[1], color[2]) for color in facts["palette"]),
        id_to_train_id={raw: train for train, raw in enumerate(ids)},
        ignore_label=facts["ignore_label"],
        train_id_to_id=tuple(ids),
        custom=bool(facts.get("custom")),
    )
