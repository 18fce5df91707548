# SPDX-License-Identifier: Apache-2.0
"""From the dump flags to the sinks of one evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assembly.dump_key import image_stamps
from assembly.room import eval_workers
from assembly.run import Run
from datasets.spec import DatasetSpec, Item
from metrics.result import Sink
from reports.autolabel import AutoLabelSink
from reports.boundary import BoundarySink
from reports.hanet_dump import FourFoldersSink
from reports.image_dump import DumpSink
from reports.preview import PreviewSink
from reports.sinks import DumpIdentity
from reports.submission import SubmissionSink
from reports.worst import WorstSink
from runtime.errors import UserError
from settings import Settings

PICTURES = "best_images"  # folder of the dumped images and their pages


@dataclass(frozen=True, kw_only=True)
class Dumps:
    """The sinks the flags ask for: `sinks` are all of them, the others are the named ones."""

    sinks: list[Sink]
    pictures: DumpSink | None = None
    worst: WorstSink | None = None
    boundary: BoundarySink | None = None
    modified: BoundarySink | None = None
    submission: SubmissionSink | None = None
    auto: AutoLabelSink | None = None


def wants_maps(settings: Settings) -> bool:
    """Whether any flag needs attention and single-scale maps from the network."""
    outputs = settings.outputs
    return outputs.dump_assets or outputs.dump_topn_all or outputs.log_msinf_to_tb


def open_dumps(run: Run, spec: DatasetSpec, items: Sequence[Item], *, key: str) -> Dumps:
    """Sinks for `items`; `key` lets an interrupted dump of the same evaluation continue."""
    settings, log, rank = run.settings, run.log, run.world.rank
    outputs, is_folder = settings.outputs, settings.inference.eval == "folder"
    directory = run.directory
    identity = DumpIdentity(key=key, rank=rank, images=image_stamps(items), note=log.msg_any_rank)
    folder = directory / PICTURES
    pictures = worst = submission = auto = None
    others: list[Sink] = []
    wanted = outputs.dump_assets, outputs.dump_attention, outputs.dump_all_images, is_folder
    if any(wanted):
        whole = outputs.dump_all_images or is_folder
        pictures = DumpSink(
            folder,
            spec,
            identity,
            every=1 if whole else max(len(items) // 10, 1),
            assets=outputs.dump_assets,
            gates=outputs.dump_attention,
        )
    if outputs.dump_topn:
        worst = WorstSink(folder, spec, outputs.dump_topn, assets=outputs.dump_topn_all, rank=rank)
    boundary = open_boundary(settings, spec) if outputs.eval_f1 else None
    modified = open_boundary(settings, spec, modified=True) if outputs.mod_f1 else None
    if outputs.dump_for_submission:
        submission = SubmissionSink(directory, spec, items, identity)
    if outputs.dump_for_auto_labelling:
        workers = eval_workers(settings)
        auto = AutoLabelSink(directory, spec, items, identity, workers=workers)
    if outputs.dump_images:
        others.append(FourFoldersSink(directory, spec, items, identity))
    if outputs.log_msinf_to_tb:
        main = log.is_main
        others.append(
            PreviewSink(log.image, spec, step=0, is_main=main, phase="msinf", assets=True)
        )
    named: tuple[Sink | None, ...] = (pictures, worst, boundary, modified, submission, auto)
    sinks = [sink for sink in named if sink is not None] + others
    return Dumps(
        sinks=sinks,
        pictures=pictures,
        worst=worst,
        boundary=boundary,
        modified=modified,
        submission=submission,
        auto=auto,
    )


def open_boundary(settings: Settings, spec: DatasetSpec, *, modified: bool = False) -> BoundarySink:
    """The sink of the boundary scores; UserError for labels that the data set has not."""
    outputs = settings.outputs
    if outputs.eval_f1_labels == "raw" and not spec.zero_label:
        raise UserError(
            f"--eval_f1_labels raw: the labels of {spec.name} are not shifted by a zero label; "
            "leave it out"
        )
    return BoundarySink(
        spec,
        outputs.eval_f1_th,
        modified=modified,
        ignore_missing=outputs.eval_f1_missing == "skip",
        raw_labels=outputs.eval_f1_labels == "raw",
        crop=outputs.eval_distance_crop,
    )
