# SPDX-License-Identifier: Apache-2.0
"""From the dump flags to the sinks of one evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config import UserError
from datasets.spec import DatasetSpec, Item
from engine.dump_key import image_stamps
from metrics.result import Sink
from reports.autolabel import AutoLabelSink
from reports.boundary import BoundarySink
from reports.hanet_dump import FourFoldersSink
from reports.image_dump import DumpSink
from reports.preview import PreviewSink
from reports.sinks import DumpIdentity
from reports.submission import SubmissionSink
from reports.worst import WorstSink
from runtime.runlog import RunLog

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


def wants_maps(args: argparse.Namespace) -> bool:
    """Whether any flag needs attention and single-scale maps from the network."""
    return bool(args.dump_assets or args.dump_topn_all or args.log_msinf_to_tb)


def open_dumps(
    args: argparse.Namespace,
    spec: DatasetSpec,
    items: Sequence[Item],
    *,
    key: str,
    rank: int,
    log: RunLog,
) -> Dumps:
    """Sinks for `items`; `key` lets an interrupted dump of the same evaluation continue."""
    directory = Path(args.result_dir)
    identity = DumpIdentity(key=key, rank=rank, images=image_stamps(items), note=log.msg_any_rank)
    folder = directory / PICTURES
    pictures = worst = submission = auto = None
    others: list[Sink] = []
    if args.dump_assets or args.dump_attention or args.dump_all_images or args.eval == "folder":
        whole = args.dump_all_images or args.eval == "folder"
        every = 1 if whole else max(len(items) // 10, 1)
        pictures = DumpSink(
            folder,
            spec,
            identity,
            every=every,
            assets=args.dump_assets,
            gates=args.dump_attention,
        )
    if args.dump_topn:
        worst = WorstSink(folder, spec, args.dump_topn, assets=args.dump_topn_all, rank=rank)
    boundary = open_boundary(args, spec) if args.eval_f1 else None
    modified = open_boundary(args, spec, modified=True) if args.mod_f1 else None
    if args.dump_for_submission:
        submission = SubmissionSink(directory, spec, items, identity)
    if args.dump_for_auto_labelling:
        workers = (args.num_workers + 1) // 2
        auto = AutoLabelSink(directory, spec, items, identity, workers=workers)
    if args.dump_images:
        others.append(FourFoldersSink(directory, spec, items, identity))
    if args.log_msinf_to_tb:
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


def open_boundary(
    args: argparse.Namespace, spec: DatasetSpec, *, modified: bool = False
) -> BoundarySink:
    """The sink of the boundary scores; UserError for labels that the data set has not."""
    if args.eval_f1_labels == "raw" and not spec.zero_label:
        raise UserError(
            f"--eval_f1_labels raw: the labels of {spec.name} are not shifted by a zero label; "
            "leave it out"
        )
    return BoundarySink(
        spec,
        args.eval_f1_th,
        modified=modified,
        ignore_missing=args.eval_f1_missing == "skip",
        raw_labels=args.eval_f1_labels == "raw",
        crop=args.eval_distance_crop,
    )
