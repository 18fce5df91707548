# SPDX-License-Identifier: Apache-2.0
"""From the dump flags to the sinks of one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from assembly.dump_key import image_stamps
from assembly.room import eval_workers
from assembly.run import Run
from datasets.spec import DatasetSpec, Item
from reports.autolabel import AutoLabelSink
from reports.hanet_dump import FourFoldersSink
from reports.image_dump import PICTURES, DumpSink
from reports.preview import PreviewSink
from reports.sinks import DumpIdentity, ReportingSink
from reports.submission import SubmissionSink
from reports.trees import TreePlan, TreeSink, class_ids
from reports.worst import WorstSink
from settings import Settings
from settings.outputs import PICTURE_FLAGS, TREE_FLAGS


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What sinks are opened for: the run, the classes, and the images.

    `identity` lets an interrupted dump of the same evaluation continue.
    """

    run: Run
    spec: DatasetSpec
    items: Sequence[Item]
    identity: DumpIdentity

    @property
    def settings(self) -> Settings:
        """What the run was told."""
        return self.run.settings

    @property
    def directory(self) -> Path:
        """Where the run writes."""
        return self.run.directory


def open_sinks(
    run: Run, spec: DatasetSpec, items: Sequence[Item], *, key: str
) -> list[ReportingSink]:
    """The wanted ones of SINKS for `items`; `key` names the evaluation, see `DumpIdentity`.

    Without any image, as beside videos, those that list videos too.
    """
    images, note = image_stamps(items), run.log.msg_any_rank
    identity = DumpIdentity(key=key, rank=run.world.rank, images=images, note=note)
    of = Evaluated(run=run, spec=spec, items=items, identity=identity)
    rows = SINKS.values() if items else [SINKS["trees"]]
    return [row.open(of) for row in rows if row.wanted(run.settings)]


def wants_pictures(settings: Settings) -> bool:
    """Whether images are dumped; those of a folder are unless trees are wanted instead."""
    is_plain_folder = settings.inference.eval == "folder" and not wants_trees(settings)
    return is_plain_folder or any(getattr(settings.outputs, flag) for flag in PICTURE_FLAGS)


def wants_trees(settings: Settings) -> bool:
    """Whether images are written into trees of their own."""
    return any(getattr(settings.outputs, flag) for flag in TREE_FLAGS)


def tree_plan(settings: Settings, spec: DatasetSpec) -> TreePlan:
    """Which trees; UserError for a mask of an unknown class."""
    outputs = settings.outputs
    return TreePlan(
        ids=outputs.dump_ids,
        scores=outputs.dump_scores,
        top=outputs.top_scores,
        masks=class_ids(outputs.dump_masks, spec) if outputs.dump_masks else (),
        dilate=outputs.mask_dilate,
        color=outputs.dump_color,
        composite=outputs.dump_composite,
    )


def open_trees(of: Evaluated) -> TreeSink:
    """Ids, scores, masks, colours, composites."""
    return TreeSink(
        of.directory,
        of.spec,
        of.items,
        tree_plan(of.settings, of.spec),
        of.identity,
        workers=eval_workers(of.settings),
    )


def open_pictures(of: Evaluated) -> DumpSink:
    """Every tenth part of a set, or all of it."""
    outputs = of.settings.outputs
    whole = outputs.dump_all_images or of.settings.inference.eval == "folder"
    return DumpSink(
        of.directory / PICTURES,
        of.spec,
        of.identity,
        every=1 if whole else max(len(of.items) // 10, 1),
        assets=outputs.dump_assets,
        gates=outputs.dump_attention,
    )


def open_worst(of: Evaluated) -> WorstSink:
    """The worst images of each class."""
    outputs = of.settings.outputs
    return WorstSink(
        of.directory / PICTURES,
        of.spec,
        outputs.dump_topn,
        assets=outputs.dump_topn_all,
        rank=of.run.world.rank,
    )


def open_submission(of: Evaluated) -> SubmissionSink:
    """Files for a benchmark server."""
    return SubmissionSink(of.directory, of.spec, of.items, of.identity)


def open_auto_labels(of: Evaluated) -> AutoLabelSink:
    """Labels for a training with them."""
    return AutoLabelSink(
        of.directory,
        of.spec,
        of.items,
        of.identity,
        workers=eval_workers(of.settings),
        threshold=of.settings.data.custom_coarse_prob,
    )


def open_four_folders(of: Evaluated) -> FourFoldersSink:
    """Pictures as HANet writes them."""
    return FourFoldersSink(of.directory, of.spec, of.items, of.identity)


def open_preview(of: Evaluated) -> PreviewSink:
    """Previews for TensorBoard."""
    log = of.run.log
    return PreviewSink(log.image, of.spec, step=0, is_main=log.is_main, phase="msinf", assets=True)


class SinkRow(NamedTuple):
    """When a sink is `wanted`, and what opens it."""

    wanted: Callable[[Settings], object]
    open: Callable[[Evaluated], ReportingSink]


SINKS: dict[str, SinkRow] = {  # in the order of their lines in the log
    "pictures": SinkRow(wants_pictures, open_pictures),
    "worst": SinkRow(lambda s: s.outputs.dump_topn, open_worst),
    "submission": SinkRow(lambda s: s.outputs.dump_for_submission, open_submission),
    "auto_labels": SinkRow(lambda s: s.outputs.dump_for_auto_labelling, open_auto_labels),
    "four_folders": SinkRow(lambda s: s.outputs.dump_images, open_four_folders),
    "trees": SinkRow(wants_trees, open_trees),
    "preview": SinkRow(lambda s: s.outputs.log_msinf_to_tb, open_preview),
}
