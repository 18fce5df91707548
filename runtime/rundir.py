# SPDX-License-Identifier: Apache-2.0
"""Who owns a directory: a run never overwrites what another one left there."""

from __future__ import annotations

import os
from pathlib import Path

from runtime import checkpoint, distributed, val_rows
from runtime.distributed import World
from runtime.errors import UserError
from runtime.files import leftovers, read_mapping

RUN_FACTS, RESULTS = "run.json", "results.json"


def _is_evaluation(directory: Path) -> bool | None:
    """What run.json says; None without it. A file that cannot be read counts as a training."""
    path = directory / RUN_FACTS
    if not path.exists():
        return None
    flags = read_mapping(path).get("flags")
    return isinstance(flags, dict) and bool(flags.get("eval"))


def _checkpoints(directory: Path) -> list[str]:
    """Names of the checkpoints of a training, last ones first."""
    patterns = (f"{checkpoint.LAST}*.pth", f"{checkpoint.BEST}*.pth")
    return [path.name for pattern in patterns for path in sorted(directory.glob(pattern))]


def holds_training(directory: Path) -> bool:
    """Whether a training has written there."""
    return bool(_checkpoints(directory)) or _is_evaluation(directory) is False


def _worth_keeping(directory: Path) -> str:
    """A file that a new training would replace or mix with its own; "" if there is none.

    A training that ended before its first checkpoint has left nothing of that kind.
    """
    names = _checkpoints(directory)
    if names:
        return names[0]
    for name in (RESULTS, RUN_FACTS):
        if (directory / name).exists() and _is_evaluation(directory):
            return f"{name} of an evaluation"
    return val_rows.METRICS if val_rows.has_rows(directory) else ""


def check_training(directory: Path, resume: str | None) -> None:
    """UserError unless a training may write to `directory`: free, or continued by `resume`.

    resume: the file, `auto` for the newest one in `directory`, empty for a new training.
    """
    found = _worth_keeping(directory)
    if not found:
        return
    what = f"--result_dir {directory} holds a run ({found})"
    ways = "--resume auto goes on with it, another --result_dir starts a new one"
    if not resume:
        newest = checkpoint.newest(directory)
        raise UserError(f"{what}; {ways if newest else 'another --result_dir starts a new one'}")
    if resume == "auto":
        if checkpoint.newest(directory) is None:
            raise UserError(
                f"{what}, but no last checkpoint for --resume auto to go on from; --resume FILE "
                "takes another file of it, another --result_dir starts a new one"
            )
    elif Path(directory).resolve() not in Path(resume).resolve().parents:
        raise UserError(f"{what}, and --resume {resume} is not a file of it; {ways}")


def sweep(directory: Path, below: bool) -> int:
    """Remove half-written files of processes that are gone; with `below` also in sub-folders.

    Code copied by runx, links and the folders of other runs are left alone. Returns how many.
    """
    count = 0
    for place, folders, _ in os.walk(directory):
        here = Path(place)
        for path in leftovers(here):
            path.unlink(missing_ok=True)
            count += 1
        inner = [name for name in folders if name != "code" and not name.startswith(".")]
        folders[:] = [name for name in inner if below and not (here / name / RUN_FACTS).exists()]
    return count


def choose(wanted: Path, other: str, resume: str | None, world: World) -> tuple[Path, str]:
    """Where this run may write, without leftovers, and a line if that is not `wanted`.

    `other` says what a run that does not train is ("eval", "summary", "augmented"): beside a
    training it goes to a folder of that name. `resume` as in `check_training`. Raises UserError on
    every rank if rank 0 finds another run in the way.
    """
    problem, moves = "", False
    if world.is_main:
        try:
            if other:
                moves = holds_training(wanted)
            else:
                check_training(wanted, resume)
        except UserError as error:
            problem = str(error)
    problem, moves = distributed.of_main((problem, moves))
    if problem:
        raise UserError(problem)
    here = wanted / other if moves else wanted
    if world.is_main:
        sweep(here, below=other == "eval")
    distributed.barrier()  # no rank writes before
    what = "this evaluation is" if other == "eval" else "what this writes is"
    return here, f"{wanted} holds a training: {what} in {here}" if moves else ""
