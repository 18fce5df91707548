# SPDX-License-Identifier: Apache-2.0
"""Evaluate a checkpoint, dump predictions of a folder, or write a benchmark submission.

    python eval.py --dataset cityscapes --snapshot FILE --n_scales 0.5,1.0,2.0
    python eval.py --eval folder --eval_folder DIR --dump_assets --dump_all_images --snapshot FILE
    python eval.py --eval test --dump_for_submission --dataset cityscapes --snapshot FILE

A checkpoint of this program knows its architecture and classes; for other files name `--arch`
and `--dataset`. Results: the table on stdout, results.json, best_images/index.html.
A classifier's checkpoint gives top-1 and top-5 (`--dataset imagenet`).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from config import UserError, cfg
from flags import adopt_task, parse_or_exit
from runtime.threads import loaders_of, settle

if TYPE_CHECKING:
    from runtime.outcome import Outcome


def evaluate_run(args: argparse.Namespace, outcome: Outcome) -> int:
    """One evaluation: network, loader, inference procedure, sinks, scores.

    Exit code 3 when files of a folder could not be read or are refused by the network, or when
    images could not be written; all others are done by then.
    """
    from engine import build, procedure
    from engine.class_tables import note_classes
    from engine.classify_run import ClassEvaluation, class_protocol
    from engine.session import Evaluation, open_run, write_run_facts
    from runtime.outcome import DONE, FAILED

    if args.resume:
        raise UserError("--resume goes on with a training run; an evaluation takes --snapshot")
    world, precision, log = open_run(args, outcome)
    snapshot = build.read_snapshot(args)
    facts = build.classes_of(snapshot)
    adopt_task(args, facts.get("task"))
    model = build.adopt_snapshot(args, cfg, snapshot)
    build.check_arch(args)
    kind = ClassEvaluation if args.task == "classify" else Evaluation
    evaluation = kind(args, cfg, facts, precision, world, log)
    note_classes(snapshot, evaluation.spec.class_names, log.msg)
    write_run_facts(args, cfg, world, log, evaluation.fingerprint)
    spec = evaluation.spec
    net = build.build_network(
        args, model, spec.num_classes, log, snapshot, class_names=spec.class_names
    )
    del snapshot
    net = build.place(args, net, world, log)
    protocol = class_protocol(args) if args.task == "classify" else procedure.protocol(args, model)
    summary = evaluation.run(procedure.prepared(args, net), protocol)
    if summary.unreadable:
        reason = f"{len(summary.unreadable)} of the files could not be read, predicted or written"
        log.msg("\n".join([f"failed: {reason}:", *summary.unreadable]))
        log.status("failed", reason, files=summary.unreadable)
        return FAILED
    log.status("done", **summary.headline())
    return DONE


if __name__ == "__main__":
    arguments = parse_or_exit("eval.py", eval_default="val")
    settle(loaders_of(arguments.num_workers, bool(arguments.eval)))
    from runtime.outcome import run

    sys.exit(run(lambda outcome: evaluate_run(arguments, outcome)))
