# SPDX-License-Identifier: Apache-2.0
"""One evaluation from data to report: what `eval.py` runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from assembly.classification import ClassEvaluation
from assembly.data import make_eval_loader
from assembly.dataset import dataset_spec
from assembly.dump_key import evaluation_key
from assembly.inference import build_infer, large_of, prepared, protocol_of, with_gates
from assembly.metrics import METRICS, open_metrics
from assembly.network import build_network, check_arch, place
from assembly.objective import build_val_loss
from assembly.run import Run, open_run, write_run_facts
from assembly.sets import Sets
from assembly.sinks import open_sinks
from assembly.snapshot import adopted, classes_of, read_snapshot
from assembly.validation import TEST_MODE_IMAGES, evaluate_images
from assembly.videos import VideoRun, VideosFound
from datasets.spec import DatasetSpec, Item
from datasets.video import is_video
from engine.class_tables import note_classes
from engine.classify import ClassSummary
from engine.evaluate import EvalRules, EvalSummary
from metrics.bands import bands_table
from metrics.result import Measured, refuse_unread, score_values
from reports.image_dump import PICTURES
from reports.image_scores import FILE, ImageScoresSink
from reports.page import write_page
from reports.results import write_results
from reports.sinks import ReportingSink
from reports.trees import TreeSink
from runtime import distributed, runlog
from runtime.errors import UserError
from runtime.limits import counted
from runtime.outcome import DONE, FAILED, Outcome
from settings import Settings, catalogue, with_task


def evaluate(settings: Settings, outcome: Outcome) -> int:
    """Network, loader, inference procedure, sinks, scores; the exit code.

    It is 3 when files of a folder could not be read or are refused by the network, or when
    images could not be written; all others are done by then.
    """
    if settings.run.resume:
        raise UserError("--resume goes on with a training run; an evaluation takes --snapshot")
    run = open_run(settings, outcome).fetched()
    snapshot = read_snapshot(run.local_settings.network.snapshot)
    facts = classes_of(snapshot)
    run = run.with_settings(adopted(with_task(run.settings, facts.get("task")), snapshot))
    check_arch(run.settings)
    classifies = run.settings.classification.task == "classify"
    evaluation = (ClassEvaluation if classifies else Evaluation)(run, facts)
    spec, log = evaluation.spec, run.log
    note_classes(snapshot, spec.class_names, log.msg)
    write_run_facts(run, evaluation.fingerprint)
    net = build_network(
        run.local_settings, spec.num_classes, log, snapshot, class_names=spec.class_names
    )
    del snapshot
    net = place(run.settings, net, run.world, log)
    summary: EvalSummary | ClassSummary = evaluation.score(prepared(run.settings, net))
    if summary.unreadable:
        reason = f"{len(summary.unreadable)} of the files could not be read, predicted or written"
        log.msg("\n".join([f"failed: {reason}:", *summary.unreadable]))
        log.status("failed", reason, files=summary.unreadable)
        return FAILED
    log.status("done", **summary.headline())
    return DONE


class Evaluation:
    """One evaluation of a segmentation network.

    `facts` are the entries of a checkpoint of this program ({} for foreign files): a folder of
    images is shown in its classes and colours when no data set is named.
    """

    def __init__(self, run: Run, facts: dict[str, Any]) -> None:
        settings, log = run.settings, run.log
        self.run, self.settings = run, settings
        is_folder = settings.inference.eval == "folder"
        if is_folder and "dataset" not in settings.given and "class_names" in facts:
            self.spec = spec_from_checkpoint(facts)
        else:
            self.spec = dataset_spec(settings)
        sets = Sets(settings)
        every = sets.evaluated
        for line in sets.lines():
            log.msg(line)
        chosen = published_slice(settings, every)
        if settings.run.test_mode:
            chosen = chosen[:TEST_MODE_IMAGES]
        clips = {item.name: item for item in chosen if is_folder and is_video(item.image)}
        self.videos = list(clips.values())
        self.items = [item for item in chosen if item.name not in clips]
        if clips:
            log.msg(f"videos among them: {len(clips)}")
        self.slice = self._slice(len(every))
        labelled = all(item.label is not None for item in self.items)
        self.metrics = labelled and not settings.inference.no_metrics
        if not labelled:
            self._refuse_scores()
        self.loader = make_eval_loader(
            settings, self.spec, run.world.rank, run.world.size, self.items, log.msg
        )
        self.fingerprint: Callable[[], dict[str, object]] = sets.fingerprint

    def _slice(self, total: int) -> list[int] | None:
        """First and last + 1 of the images of `--eval_f1_start`; None without it."""
        start = self.settings.outputs.eval_f1_start
        if start < 0:
            return None
        found = [start, start + len(self.items)]
        which = f"only, of {total}" if len(self.items) < total else "(all)"
        self.run.log.msg(f"all scores are of images {found[0]} to {found[1] - 1} {which}")
        return found

    def _refuse_scores(self) -> None:
        """UserError for what compares with labels, of which there are none."""
        comparing = ("dump_topn", *METRICS, "eval_distance_crop")
        for flag in (flag for flag in comparing if catalogue()[flag].of(self.settings)):
            raise UserError(
                f"--{flag} compares with labels, and --eval {self.settings.inference.eval} has none"
            )

    def score(self, net: nn.Module) -> EvalSummary:
        """Evaluate, print the table, write results.json, dumps and the report page."""
        settings, run = self.settings, self.run
        protocol = protocol_of(settings)
        key = evaluation_key(run.local_settings, protocol, self.spec, run.precision.name)
        protocol = {**protocol, "images": self.slice}
        sinks = open_sinks(run, self.spec, self.items, key=key)
        metrics = open_metrics(settings, self.spec)
        needs = frozenset[str]().union(*(sink.needs for sink in sinks))
        infer = build_infer(settings, net, return_all="assets" in needs)
        if "gates" in needs:
            infer = with_gates(settings, net, infer)
        rules = EvalRules(
            metrics=self.metrics,
            val_loss=build_val_loss(self.spec) if self.metrics else None,
            crop=settings.outputs.eval_distance_crop,
            skip_refused=settings.inference.eval == "folder",
            large=large_of(settings, run.log.msg_any_rank),
            top_scores=settings.outputs.top_scores,
            refuse_none=not self.videos,
        )
        images = ImageScoresSink(self.spec)
        every = [*sinks, *metrics, *([images] if self.metrics else [])]
        summary = evaluate_images(run, infer, self.loader, self.spec, rules=rules, sinks=every)
        if self.videos:
            videos = VideoRun(run, self.spec, self.videos, rules, key)
            summary = self._with_videos(summary, videos.predict(infer), sinks)
        if run.world.is_main:
            self._report(summary, protocol, sinks, [metric.scores for metric in metrics])
            images.write(run.directory / FILE, not_finite=summary.not_finite)
        distributed.barrier()
        return summary

    def _with_videos(
        self, summary: EvalSummary, found: VideosFound, sinks: Sequence[ReportingSink]
    ) -> EvalSummary:
        """`summary` with the lines about videos; UserError if nothing at all could be predicted."""
        unreadable = [*summary.unreadable, *found.unreadable]
        refuse_unread(summary.num_images + summary.skipped + len(found.lines), unreadable)
        for sink in sinks:
            if isinstance(sink, TreeSink):
                sink.videos = found.lines
        speed = found.frames / max(found.seconds, 1e-9)
        skipped = f", {found.skipped} of an earlier run" if found.skipped else ""
        self.run.log.msg(
            f"videos: {len(found.lines)}{skipped}, {found.frames} frames in {found.seconds:.1f} s "
            f"({speed:.2f}/s)"
        )
        if found.not_finite:
            self.run.log.msg(f"warning: NaN or infinite scores in {found.not_finite} frames")
        return replace(
            summary,
            unreadable=unreadable,
            not_finite=summary.not_finite + found.not_finite,
        )

    def _report(
        self,
        summary: EvalSummary,
        protocol: dict[str, Any],
        sinks: Sequence[ReportingSink],
        measured: Sequence[Measured],
    ) -> None:
        """Tables, results.json, pages and zip, on rank 0."""
        directory, log = self.run.directory, self.run.log
        self._log_scores(summary, measured)
        if self.items:
            speed = summary.num_images / max(summary.seconds, 1e-9)
            log.msg(
                f"{counted(summary.num_images, 'image')} in {summary.seconds:.1f} s ({speed:.2f}/s)"
            )
        results = write_results(directory / "results.json", summary, self.spec, protocol, measured)
        parts = [part for part in (sink.page_part() for sink in sinks) if part is not None]
        if parts:
            page = directory / PICTURES / "index.html"
            write_page(
                page,
                title=f"{protocol['arch']} on {self.spec.name}",
                spec=self.spec,
                summary=results,
                rows=[row for part in parts for row in part.rows],
                run={**protocol, **runlog.versions()},
                links={text: file for part in parts for text, file in part.links.items()},
            )
            log.msg(f"report: {page}")
        for line in filter(None, (sink.report(protocol) for sink in sinks)):
            log.msg(line)

    def _log_scores(self, summary: EvalSummary, measured: Sequence[Measured]) -> None:
        """Tables on stdout, the val row, and with --log_msinf_to_tb scalars of their own."""
        scores, log = summary.scores, self.run.log
        if scores is None:
            return
        log.msg(scores.table())
        if summary.bands is not None:
            log.msg(bands_table(summary.bands))
        log.msg(f"Mean: {100 * scores.mean_iu:.2f}")
        log.msg(scores.summary())
        for each in measured:
            log.msg(each.table(self.spec.class_names))
        values = score_values(summary)
        log.metric("val", {**values, "loss": summary.loss or 0.0}, 0)
        if self.settings.outputs.log_msinf_to_tb:
            ious = zip(self.spec.class_names, scores.iou.tolist(), strict=True)
            values |= {f"iou/{name}": iou for name, iou in ious if not math.isnan(iou)}
            log.scalars({f"msinf/{name}": value for name, value in values.items()}, 0)


def published_slice(settings: Settings, items: list[Item]) -> list[Item]:
    """The images of `--eval_f1_start` and `--eval_f1_step_size`; all without."""
    start = settings.outputs.eval_f1_start
    if start < 0:
        return items
    if start >= len(items):
        raise UserError(f"--eval_f1_start {start}: there are {len(items)} images, 0 is the first")
    return items[start : start + settings.outputs.eval_f1_step_size]


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
