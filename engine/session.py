# SPDX-License-Identifier: Apache-2.0
"""One run from its flags to its files: opening, resuming, validating, evaluating."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from config import PROJECT_ROOT, Config
from datasets import build as data
from datasets.loader import Batch
from datasets.spec import DatasetSpec
from engine import build, predict
from engine.evaluate import EvalSummary, ValLoss, evaluate
from engine.result import Gather, Result, Sink
from engine.state import TrainState
from loss.build import build_val_loss
from reports.autolabel import AutoLabelSink
from reports.compose import DumpSink, composite
from reports.page import write_page
from reports.results import write_results
from reports.submission import SubmissionSink
from runtime import checkpoint, distributed, runlog, seeds
from runtime.distributed import World
from runtime.outcome import Outcome
from runtime.precision import Precision, resolve_precision
from runtime.runlog import RunLog


def open_run(args: argparse.Namespace, outcome: Outcome) -> tuple[World, Precision, RunLog]:
    """Join the ranks, seed, open the log and write run.json."""
    world = distributed.join(args.device, args.local_rank)
    seeds.seed_everything(args.seed, world.rank, args.deterministic)
    precision, note = resolve_precision(args.precision, world.device)
    log = RunLog(Path(args.result_dir), world.is_main, progress=not args.no_progress)
    outcome.log = log
    log.open({key: value for key, value in vars(args).items() if key not in ("notes", "given")})
    log.status("running")
    for line in [*args.notes, *([note] if note else [])]:
        log.msg(line)
    log.msg(f"{world.size} x {world.device.type}, precision {precision.name}")
    return world, precision, log


def write_run_facts(args: argparse.Namespace, cfg: Config, world: World, log: RunLog) -> None:
    """run.json: everything `--from_run` and a reader need to repeat the run."""
    if not world.is_main:
        return
    flags = {key: value for key, value in vars(args).items() if key not in ("notes", "given")}
    content = {
        "flags": flags,
        "given": args.given,
        "config": cfg.to_dict(),
        "versions": runlog.versions(),
        "git": runlog.git_revision(PROJECT_ROOT),
        "world_size": world.size,
        "data": data.fingerprint(args, cfg),
    }
    runlog.write_json(log.directory / "run.json", content)


def resume(args: argparse.Namespace, state: TrainState, world: World, log: RunLog) -> None:
    """Go on from `--resume FILE|auto`; `auto` in an empty directory starts anew and says so."""
    if not args.resume:
        return
    path = Path(args.resume)
    if args.resume == "auto":
        found = checkpoint.newest(log.directory)
        if found is None:
            log.msg(f"--resume auto: no checkpoint in {log.directory}, training starts anew")
            return
        path = found
    state.unpack(checkpoint.load_plain(path), world.rank)
    log.msg(f"resumed {path} at epoch {state.progress.epoch}, step {state.progress.step}")


class PreviewSink:
    """Shows the first few blends of image and prediction in TensorBoard."""

    needs = frozenset({"image"})

    def __init__(self, log: RunLog, spec: DatasetSpec, epoch: int, count: int = 3) -> None:
        self.log, self.palette = log, spec.flat_palette()
        self.epoch, self.count = epoch, count

    def wants(self, index: int) -> bool:
        return self.log.is_main and index < self.count

    def done(self, name: str) -> bool:
        return False

    def add(self, result: Result) -> None:
        """Show one image."""
        assert result.image is not None
        blend = torch.from_numpy(composite(result.image, result.pred, self.palette).copy())
        self.log.image(f"val/{result.name}", blend.permute(2, 0, 1) / 255, self.epoch)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Nothing to collect: the event file is rank 0's."""


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
    ) -> None:
        items = data.val_items(args, cfg)
        limit = build.TEST_MODE_IMAGES if args.test_mode else None
        self.loader = data.make_eval_loader(args, cfg, spec, world.rank, world.size, items[:limit])
        self.args, self.spec, self.state = args, spec, state
        self.precision, self.world, self.log = precision, world, log
        self.val_loss = build_val_loss(spec)

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate; prints the table and logs the val row. The same dict on every rank."""
        net = self.state.evaluated
        net.eval()
        infer = build.build_infer(self.args, net, return_all=False)
        summary = run_evaluation(
            infer,
            self.loader,
            self.spec,
            self.precision,
            self.world,
            self.log,
            self.val_loss,
            sinks=[PreviewSink(self.log, self.spec, epoch)],
        )
        assert summary.scores is not None, "validation without labels"
        scores = summary.scores
        values = {
            "loss": summary.loss or 0.0,
            "mean_iu": scores.mean_iu,
            "acc_cls": scores.acc_cls,
            "acc": scores.acc,
        }
        self.log.metric("val", values, epoch)
        best = max(self.state.progress.best, scores.mean_iu)
        self.log.msg(scores.table())
        self.log.msg(
            f"this : [epoch {epoch}], [val loss {values['loss']:.5f}], [acc {scores.acc:.5f}], "
            f"[acc_cls {scores.acc_cls:.5f}], [mean_iu {scores.mean_iu:.5f}], "
            f"[fwavacc {scores.fwavacc:.5f}]; best mean_iu {best:.5f}"
        )
        return values


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
) -> EvalSummary:
    """`evaluate` on this run's ranks, with progress lines in its log."""
    progress = log.progress("evaluate")
    return evaluate(
        infer,
        loader,
        spec,
        world.device,
        sinks=sinks or [],
        val_loss=val_loss,
        metrics=metrics,
        autocast=precision.autocast,
        all_reduce=distributed.all_reduce_sum,
        gather=distributed.gather_objects,
        rank=world.rank,
        world=world.size,
        log=log.msg_any_rank,
        progress=progress,
    )


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
        if args.eval == "folder" and "dataset" not in args.given and "class_names" in facts:
            self.spec = spec_from_checkpoint(facts)
        else:
            self.spec = data.dataset_spec(args, cfg)
        self.items = data.eval_items(args, cfg)
        if args.test_mode:
            self.items = self.items[: build.TEST_MODE_IMAGES]
        labelled = all(item.label is not None for item in self.items)
        self.metrics = labelled and not args.no_metrics
        self.loader = data.make_eval_loader(
            args, cfg, self.spec, world.rank, world.size, self.items
        )
        write_run_facts(args, cfg, world, log)

    def run(self, net: nn.Module, protocol: dict[str, Any]) -> EvalSummary:
        """Evaluate, print the table, write results.json, dumps and the report page."""
        dumps, sinks = self._sinks(protocol)
        infer = build.build_infer(self.args, net, return_all=self.args.dump_assets)
        summary = run_evaluation(
            infer,
            self.loader,
            self.spec,
            self.precision,
            self.world,
            self.log,
            build_val_loss(self.spec) if self.metrics else None,
            sinks=sinks,
            metrics=self.metrics,
        )
        if self.world.is_main:
            self._report(summary, protocol, dumps, sinks)
        distributed.barrier()
        return summary

    def _sinks(self, protocol: dict[str, Any]) -> tuple[DumpSink | None, list[Sink]]:
        """What the dump flags ask for; the key lets an interrupted dump continue."""
        args, directory, rank = self.args, Path(self.args.result_dir), self.world.rank
        key = evaluation_key(protocol, [item.name for item in self.items])
        sinks: list[Sink] = []
        dumps = None
        if args.dump_assets or args.dump_all_images or args.eval == "folder":
            all_images = args.dump_all_images or args.eval == "folder"
            dumps = DumpSink(
                directory / "best_images",
                self.spec,
                every=1 if all_images else max(len(self.items) // 10, 1),
                assets=args.dump_assets,
                key=key,
                rank=rank,
            )
            sinks.append(dumps)
        if args.dump_for_submission:
            sinks.append(SubmissionSink(directory, self.spec, self.items, key=key, rank=rank))
        if args.dump_for_auto_labelling:
            sinks.append(AutoLabelSink(directory, self.spec, self.items, key=key, rank=rank))
        return dumps, sinks

    def _report(
        self,
        summary: EvalSummary,
        protocol: dict[str, Any],
        dumps: DumpSink | None,
        sinks: list[Sink],
    ) -> None:
        """Table, results.json, page and zip, on rank 0."""
        directory = Path(self.args.result_dir)
        if summary.scores is not None:
            self.log.msg(summary.scores.table())
            self.log.msg(f"Mean: {100 * summary.scores.mean_iu:.2f}")
            values = {"mean_iu": summary.scores.mean_iu, "acc": summary.scores.acc}
            values |= {"acc_cls": summary.scores.acc_cls, "loss": summary.loss or 0.0}
            self.log.metric("val", values, 0)
        speed = summary.num_images / max(summary.seconds, 1e-9)
        self.log.msg(f"{summary.num_images} images in {summary.seconds:.1f} s ({speed:.2f}/s)")
        results = write_results(directory / "results.json", summary, self.spec, protocol)
        if dumps is not None:
            page = directory / "best_images" / "index.html"
            write_page(
                page,
                title=f"{protocol['arch']} on {self.spec.name}",
                spec=self.spec,
                summary=results,
                rows=dumps.rows,
                run={**protocol, **runlog.versions()},
            )
            self.log.msg(f"report: {page}")
        for sink in sinks:
            if isinstance(sink, SubmissionSink):
                self.log.msg(f"submission: {sink.finish()}")


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
    )


def evaluation_key(protocol: dict[str, Any], names: list[str]) -> str:
    """Equal for two evaluations exactly if their dumps are interchangeable."""
    snapshot = protocol["snapshot"]
    stamp = None
    if snapshot:
        stat = Path(snapshot).stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
    text = json.dumps(runlog.plain([protocol, stamp, names]), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
