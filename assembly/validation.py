# SPDX-License-Identifier: Apache-2.0
"""Scores of the evaluated network while it trains, and one pass over images on all ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.utils.data import DataLoader

from assembly.data import make_eval_loader
from assembly.inference import build_infer
from assembly.objective import build_val_loss
from assembly.run import Run
from assembly.trials import PictureBytes, evaluation_trial, image_work
from datasets.batch import Batch
from datasets.spec import DatasetSpec, Item
from engine.evaluate import EvalRules, EvalSummary, evaluate
from engine.predict import Infer
from engine.rehearsal import Trial
from engine.state import TrainState
from metrics.result import Sink, score_values
from reports.image_scores import FILE, LAST_FILE, ImageScoresSink
from reports.preview import NUM_PREVIEWS, PreviewSink
from runtime.distributed import APART

TEST_MODE_IMAGES = 7


class Validation:
    """Scores of the evaluated network after an epoch; called by the training loop."""

    def __init__(
        self, run: Run, spec: DatasetSpec, state: TrainState, items: Sequence[Item]
    ) -> None:
        limit = TEST_MODE_IMAGES if run.settings.run.test_mode else None
        self.run, self.spec, self.state = run, spec, state
        self.items = list(items[:limit])
        self.loader = make_eval_loader(
            run.settings, spec, run.world.rank, run.world.size, self.items
        )
        self.rules = EvalRules(val_loss=build_val_loss(spec))

    def _infer(self) -> Infer:
        """How the evaluated network is asked."""
        return build_infer(self.run.settings, self.state.evaluated.eval(), return_all=False)

    def trial(self) -> Trial:
        """The evaluation of the largest images of this rank, by itself and without a word."""
        pictures = PictureBytes()
        preview = PreviewSink(
            pictures, self.spec, step=0, is_main=self.run.world.is_main, count=len(self.items)
        )

        def run(batch: Batch) -> None:
            evaluate(
                self._infer(),
                [batch],
                self.spec,
                self.run.compute,
                sinks=[preview],
                rules=self.rules,
                ranks=APART,
            )

        shown = min(len(self.items), NUM_PREVIEWS)
        work, sizes = image_work(self.run.settings, self.spec, self.items)
        return evaluation_trial(self.loader, run, work, sizes, lambda: shown * pictures.mean())

    def __call__(self, epoch: int) -> dict[str, float]:
        """Validate; prints the table and logs the val row. The same dict on every rank.

        The row stands at the epoch, with `--val_iters` at the number of optimiser steps done.
        """
        log, val_iters = self.run.log, self.run.settings.run.val_iters
        by_steps, steps = bool(val_iters), self.state.progress.iteration
        number, unit = (steps, "step") if by_steps else (epoch, "epoch")
        preview = PreviewSink(log.image, self.spec, step=number, is_main=log.is_main)
        images = ImageScoresSink(self.spec)
        summary = evaluate_images(
            self.run,
            self._infer(),
            self.loader,
            self.spec,
            rules=self.rules,
            sinks=[preview, images],
        )
        assert summary.scores is not None, "validation without labels"
        scores = summary.scores
        values = {"loss": summary.loss or 0.0, **score_values(summary)}
        if log.is_main:  # before the row, with which the validation counts as done
            self._keep(images, epoch, summary.not_finite, values["mean_iu"])
        log.metric("val", {**values, **self.state.rates}, number)
        if not summary.not_finite:
            ious = zip(self.spec.class_names, scores.iou.tolist(), strict=True)
            log.scalars({f"iou/{name}": iou for name, iou in ious if math.isfinite(iou)}, number)
        best = self.state.progress.best_with(values["mean_iu"])
        log.msg(scores.table())
        log.msg(scores.summary())
        log.msg(
            f"this : [{unit} {number}], [val loss {values['loss']:.5f}], [acc {scores.acc:.5f}], "
            f"[acc_cls {scores.acc_cls:.5f}], [mean_iu {scores.mean_iu:.5f}], "
            f"[fwavacc {scores.fwavacc:.5f}]; best mean_iu "
            + ("none" if best is None else f"{best:.5f}")
        )
        return values

    def _keep(self, images: ImageScoresSink, epoch: int, not_finite: int, score: float) -> None:
        """Write the counts of each image, also as those of the best checkpoint that this makes."""
        progress = self.state.progress
        for name in (LAST_FILE, FILE) if progress.improves(score) else (LAST_FILE,):
            images.write(
                self.run.directory / name,
                epoch=epoch,
                iteration=progress.iteration,
                not_finite=not_finite,
            )


def evaluate_images(
    run: Run,
    infer: Infer,
    loader: DataLoader[Batch],
    spec: DatasetSpec,
    *,
    rules: EvalRules,
    sinks: Sequence[Sink],
) -> EvalSummary:
    """`engine.evaluate` on this run's ranks, with progress lines in its log."""
    log = run.log
    summary = evaluate(
        infer,
        loader,
        spec,
        run.compute,
        sinks=sinks,
        rules=rules,
        ranks=run.ranks,
        watch=run.watch("evaluate"),
    )
    if summary.not_finite:
        broken = f"{summary.not_finite} of {summary.num_images} images"
        log.msg(f"warning: NaN or infinite scores in {broken}: what they score is no result")
    elif not math.isfinite(summary.loss or 0.0):
        log.msg("warning: the loss is not finite although all largest scores are")
    return summary
