# SPDX-License-Identifier: Apache-2.0
"""Train a network, or evaluate one with `--eval`.

    python train.py --dataset synthetic --crop_size 128,256 --set MODEL.hrnet_width=8
    python train.py --dataset camvid --arch ocrnet.HRNet18_Mscale --crop_size 360,480 --rmi_loss
    python -m torch.distributed.launch --nproc_per_node=8 train.py --dataset cityscapes ...
    python train.py --task classify --dataset imagenet --arch hrvit.b1_224 --fp16 ...

Every flag: `python train.py --help`. The run directory (`--result_dir`) receives checkpoints,
logging.log, metrics.csv, status.json and run.json; `--resume auto` goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from config import cfg
from flags import parse_or_exit
from runtime.threads import loaders_of, settle

if TYPE_CHECKING:
    from engine.state import Progress
    from engine.task import Task
    from runtime.outcome import Outcome
    from runtime.runlog import RunLog


def main(args: argparse.Namespace, outcome: Outcome) -> int:
    """Train, or evaluate when `--eval` is given; returns the exit code."""
    if args.arch == "help":
        from network.build import list_archs, list_classifiers

        print("\n".join(list_classifiers() if args.task == "classify" else list_archs()))
        return 0
    if args.eval:
        from eval import evaluate_run

        return evaluate_run(args, outcome)
    return train_run(args, outcome)


def train_run(args: argparse.Namespace, outcome: Outcome) -> int:
    """Build everything the flags describe and run the schedule to its end."""
    from engine import build, rates
    from engine.class_tables import note_classes
    from engine.compute import Platform
    from engine.loop import Feed, Trainer
    from engine.resume_rules import settings_of
    from engine.session import open_run, read_resumed, resume, write_run_facts
    from engine.task import open_task
    from runtime.outcome import DONE, StopFlag

    build.check_arch(args)
    world, precision, log = open_run(args, outcome)
    task = open_task(args, cfg, world, log)
    if args.dump_augmentation_images:
        return _dump_augmentations(task, Path(args.result_dir) / "augmented", log)
    loader, sampler = task.train_loader()
    snapshot = build.read_snapshot(args)
    resumed = read_resumed(args, log)
    names = task.class_names
    note_classes(snapshot, names, log.msg)
    net = build.build_network(
        args, cfg.MODEL, task.num_classes, log, snapshot, resumed, class_names=names
    )
    if args.summary:
        for name, part in net.named_children():
            log.msg(f"{name:<24}{sum(item.numel() for item in part.parameters()):>14,}")
        log.status("done")
        return DONE
    net = build.place(args, net, world, log)
    state = build.build_state(args, net, task.header(), precision, world, log, snapshot)
    del snapshot
    trainer = Trainer(
        state=state,
        objective=task.objective(),
        feed=Feed(loader=loader, sampler=sampler, prepare=task.prepare),
        platform=Platform(world=world, precision=precision),
        log=log,
        settings=build.build_settings(args, task.best_by),
        validate=task.validation(state, precision),
        stop=StopFlag(),
    )
    trainer.schedule = rates.build_schedule(args, trainer.steps_per_epoch)
    trainer.schedules = rates.group_schedules(args, trainer.steps_per_epoch)
    resume(resumed, state, settings_of(args, cfg, trainer.steps_per_epoch), world, log)
    del resumed
    write_run_facts(args, cfg, world, log, task.fingerprint)
    trainer.fit()
    _report(state.progress, task.best_name, log)
    return DONE


def _dump_augmentations(task: Task, folder: Path, log: RunLog) -> int:
    """Write augmented training images instead of training; the exit code, 0."""
    log.msg(f"{task.dump_augmentations(folder)} augmented images in {folder}")
    log.status("done")
    return 0


def _report(progress: Progress, score: str, log: RunLog) -> None:
    """The best score, to the log and status.json."""
    if progress.has_best:
        log.msg(
            f"done: best {score} {100 * progress.best:.2f} in epoch {progress.best_epoch}, "
            f"step {progress.best_iteration}"
        )
    else:
        log.msg(f"done: no validation gave a {score}, there is no best checkpoint")
    best = progress.best if progress.has_best else None
    log.status("done", best=best, epoch=progress.epoch, iteration=progress.iteration)


if __name__ == "__main__":
    arguments = parse_or_exit()
    settle(loaders_of(arguments.num_workers, bool(arguments.eval)))
    from runtime.outcome import run

    sys.exit(run(lambda outcome: main(arguments, outcome)))
