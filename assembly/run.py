# SPDX-License-Identifier: Apache-2.0
"""A run is opened: ranks, seeds, directory, log; and what it writes about itself."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from assembly.copies import keep_copies
from assembly.maker import maker
from assembly.snapshot import Snapshot
from assembly.weights import Weights, fetch_weights
from engine.compute import Compute, Watch
from engine.state import TrainState
from network.convert import read_checkpoint
from network.convert.schema import check_resumable
from runtime import checkpoint, distributed, rundir, runlog, seeds
from runtime.distributed import Ranks, World
from runtime.errors import UserError
from runtime.limits import one_line
from runtime.outcome import Outcome, stop_between
from runtime.precision import Precision, resolve_precision
from runtime.runlog import RunLog
from runtime.threads import usable_cpus
from runtime.trackers.contract import Maker
from settings import PROJECT_ROOT, Settings, flag_values, tree_of
from settings.trackers import TRACKERS


@dataclass(frozen=True, kw_only=True)
class Run:
    """An open run: its settings, its ranks, its arithmetic, its log, its weights' origin."""

    settings: Settings
    world: World
    precision: Precision
    log: RunLog
    weights: Weights = Weights()

    @property
    def directory(self) -> Path:
        """Where it writes."""
        return self.log.directory

    @property
    def ranks(self) -> Ranks:
        """Its processes, as libraries gather over them."""
        return Ranks(rank=self.world.rank, size=self.world.size)

    @property
    def compute(self) -> Compute:
        """Where and in which arithmetic an evaluation computes."""
        return Compute(device=self.world.device, autocast=self.precision.autocast)

    def watch(self, what: str) -> Watch:
        """Lines of any rank, and how far `what` is; a signal ends it between two images."""
        progress = stop_between(self.log.progress(what))
        return Watch(log=self.log.msg_any_rank, progress=progress)

    def with_settings(self, settings: Settings) -> Run:
        """The same run with what a checkpoint knows better."""
        return replace(self, settings=settings)

    def fetched(self, resumed: Snapshot | None = None) -> Run:
        """The same run with the weights that its settings name on this machine; collective."""
        weights = fetch_weights(self.settings, self.world, self.log.msg, resumed)
        return replace(self, weights=weights)

    @property
    def local_settings(self) -> Settings:
        """The settings with files of this machine in place of remote names; for reading only."""
        return self.weights.localised(self.settings)


def open_run(settings: Settings, outcome: Outcome) -> Run:
    """Join the ranks, seed, choose the directory and open the log in it.

    UserError when a training would write over another run; what is no training goes to a folder of
    its own there, which `run.result_dir` then names.
    """
    own = settings.run
    assert own.local_rank is not None, "resolved from the environment"
    world = distributed.join(own.device, own.local_rank, own.dist_timeout)
    makers = tracker_makers(settings) if world.is_main else {}
    seeds.seed_everything(own.seed, world.rank, own.deterministic)
    precision, note = resolve_precision(own.precision, world.device)
    place, moved = rundir.choose(
        Path(own.result_dir), _other_than_training(settings), own.resume, world
    )
    settings = replace(settings, run=replace(own, result_dir=str(place)))
    goes_on = bool(own.resume) and checkpoint.newest(place) is not None
    log = RunLog(place, world.is_main, progress=not own.no_progress)
    outcome.log = log
    log.open(flag_values(settings), makers, goes_on)
    log.status("running")
    for line in [*settings.notes, *filter(None, [note, moved])]:
        log.msg(line)
    threads = f"{torch.get_num_threads()} of {usable_cpus()} cores"
    log.msg(f"{world.size} x {world.device.type}, precision {precision.name}, threads: {threads}")
    keep_copies(settings, log.msg)
    return Run(settings=settings, world=world, precision=precision, log=log)


def tracker_makers(settings: Settings) -> dict[str, Maker]:
    """What opens each tracker of `--tracker`, by name; UserError for one that is not installed.

    A run that logs no number has the TensorBoard file alone.
    """
    names = settings.run.tracker
    if settings.run.summary or settings.augmentation.dump_augmentation_images:
        names = tuple(name for name in names if name == "tensorboard")
    for name in names:
        kind = TRACKERS[name]
        try:
            importlib.import_module(kind.package)
        except Exception as error:  # a broken one may raise anything
            missing = isinstance(error, ModuleNotFoundError) and error.name == kind.package
            what = "is not installed" if missing else f"cannot be imported ({one_line(str(error))})"
            raise UserError(
                f"--tracker {name}: the package {kind.package} {what}; pip install {kind.install}, "
                "or leave it out"
            ) from error
    return {name: maker(TRACKERS[name].made_by) for name in names}


def _other_than_training(settings: Settings) -> str:
    """What a run that does not train is, empty for a training."""
    kinds = {
        "eval": settings.inference.eval,
        "summary": settings.run.summary,
        "augmented": settings.augmentation.dump_augmentation_images,
    }
    return next((name for name, is_on in kinds.items() if is_on), "")


def write_run_facts(run: Run, fingerprint: Callable[[], dict[str, object]]) -> None:
    """run.json: everything `--from_run` and a reader need to repeat the run.

    `fingerprint` gives what identifies the data; it is asked on rank 0 only.
    """
    if not run.world.is_main:
        return
    content = {
        "flags": flag_values(run.settings),
        "given": sorted(run.settings.given),
        "config": tree_of(run.settings),
        "versions": runlog.versions(),
        "git": runlog.git_revision(PROJECT_ROOT),
        "world_size": run.world.size,
        "data": fingerprint(),
        **run.weights.facts,
    }
    runlog.write_json(run.directory / "run.json", content)


def read_resumed(run: Run) -> Snapshot | None:
    """The file of `--resume FILE|auto`; `auto` in an empty directory starts anew and says so."""
    resume = run.settings.run.resume
    if not resume:
        return None
    path = Path(resume)
    if resume == "auto":
        found = checkpoint.newest(run.directory)
        if len(set(distributed.gather_objects(found and found.name))) > 1:
            raise UserError(
                f"--resume auto: not every process finds the same checkpoint in {run.directory}; "
                "--result_dir must be on a file system that all machines share"
            )
        if found is None:
            run.log.msg(f"--resume auto: no checkpoint in {run.directory}, training starts anew")
            return None
        path = found
    content = read_checkpoint(path)
    if path.suffix == ".safetensors":
        raise UserError(f"{path} holds no training state; --snapshot takes its weights")
    check_resumable(content, str(path))
    return Snapshot(str(path), content, content)


def resume(file: Snapshot | None, state: TrainState, kept: dict[str, Any], run: Run) -> None:
    """Go on from `file`, if there is one; `kept` are the settings that go into its own files."""
    state.facts["settings"] = kept
    if file is None:
        return
    applied = state.unpack(file.content, run.world.rank)
    progress = state.progress
    run.log.msg(
        f"resumed {file.path} at epoch {progress.epoch}, step {progress.step} "
        f"({progress.iteration} steps in all)"
    )
    for line in applied:
        run.log.msg(f"resumed with another setting, from here on: {line}")
