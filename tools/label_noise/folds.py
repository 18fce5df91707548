# SPDX-License-Identifier: Apache-2.0
"""The training images in folds: one network each, trained on the others, predicts its own.

    DIR/folds.json                 what the folds were made with; other flags are refused
    DIR/fold0/train.txt            skip list of the training: the images of the fold
    DIR/fold0/predictions.txt      skip list of the prediction: all others
    DIR/fold0/train/               a run of train.py
    DIR/fold0/predictions/         a run of eval.py, with --dump_scores

A fold is made of blocks of the list, because neighbours (of a video, of a city) are alike. All data
sets have such folds. Those of `--cv` leave images out: each holds as many cities as the published
val, three of 21.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from assembly import sets
from assembly.dataset import dataset_spec, open_skip_list
from datasets.registry import row_of
from datasets.spec import Item
from runtime import checkpoint
from runtime.errors import UserError
from runtime.files import read_mapping, write_atomic
from runtime.limits import counted
from runtime.outcome import DONE, FAILED
from settings import PROJECT_ROOT, Settings, read_settings

RECORD = "folds.json"
TRAINING, PREDICTIONS = "train", "predictions"
BLOCKS = 4  # of each fold
TOP_SCORES = 3  # of each pixel: the others are known well enough by what these leave
UNLISTED = re.compile(r"[\\\r\n]|\s$")  # what a skip list reads as something else
OURS = ("cv", "resume", "eval", "summary", "dump_augmentation_images")  # what the folds decide


@dataclass(frozen=True, kw_only=True)
class FoldPlan:
    """What makes the folds below `directory`; the same plan goes on where it was interrupted.

    train_flags: of train.py, those of every fold. eval_flags: of eval.py, besides.
    launcher: the words that start a Python program.
    """

    directory: Path
    folds: int
    train_flags: tuple[str, ...]
    eval_flags: tuple[str, ...] = ()
    launcher: tuple[str, ...] = (sys.executable,)

    def fold(self, number: int) -> Path:
        """The folder of a fold."""
        return self.directory / f"fold{number}"

    @property
    def predictions(self) -> list[Path]:
        """Where each fold is predicted."""
        return [self.fold(number) / PREDICTIONS for number in range(self.folds)]

    def record(self) -> dict[str, object]:
        """What must stay the same when the folds go on."""
        flags = {"train_flags": list(self.train_flags), "eval_flags": list(self.eval_flags)}
        return {"folds": self.folds, **flags}


def train_and_predict(plan: FoldPlan) -> int:
    """Bring every fold to its end; the exit code of the program that failed, else 0.

    Finished programs are not started again, an interrupted one goes on. UserError for flags that
    do not fit, before anything is written.
    """
    settings = _settings(plan)
    if shutil.which(plan.launcher[0]) is None:
        raise UserError(f"--launcher {plan.launcher[0]}: there is no such program")
    items = sets.train_items(settings)
    if len(items) < plan.folds:
        there = f"there {'is' if len(items) == 1 else 'are'} only"
        raise UserError(f"--folds {plan.folds}: {there} {counted(len(items), 'training image')}")
    write_lists(plan, settings, items)
    top = TOP_SCORES if dataset_spec(settings).num_classes > TOP_SCORES else 0
    for number in range(plan.folds):
        run, predicted = plan.fold(number) / TRAINING, plan.fold(number) / PREDICTIONS
        for program, place in (("train.py", run), ("eval.py", predicted)):
            if read_mapping(place / "status.json").get("status") == "done":
                continue
            print(f"fold {number + 1} of {plan.folds}: {program} in {place}", flush=True)
            flags = _train_flags(plan, run) if place == run else _eval_flags(plan, run, top)
            skip = f"DATASET.SKIP_LIST={plan.fold(number) / place.name}.txt"
            places = ["--set", skip, "--result_dir", str(place)]
            code = _run([*plan.launcher, str(PROJECT_ROOT / program), *flags, *places])
            if code != DONE:
                end = (
                    f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
                )
                print(f"fold {number + 1} of {plan.folds}: {program} {end}")
                return code if code > 0 else FAILED
    return DONE


def _train_flags(plan: FoldPlan, run: Path) -> list[str]:
    goes_on = checkpoint.newest(run) is not None
    return [*plan.train_flags, *(("--resume", "auto") if goes_on else ())]


def _eval_flags(plan: FoldPlan, run: Path, top: int) -> list[str]:
    """top: how many classes keep their scores, 0 for all."""
    flags = ["--from_run", str(run), "--eval", "trn", "--dump_scores"]
    flags += ["--top_scores", str(top)] if top else []
    # The best checkpoint was chosen by scores of a validation, the last one by nothing.
    return [*flags, "--snapshot", str(checkpoint.newest(run)), *plan.eval_flags]


def _run(command: Sequence[str]) -> int:
    """Run a program to its end, and return how that was, below zero for a signal that killed it.

    Signals that arrive here end it after it has saved, and raise KeyboardInterrupt where it died
    of them before it could answer.
    """
    stopped = False
    with subprocess.Popen(command) as process:

        def stop(number: int, frame: FrameType | None) -> None:
            nonlocal stopped
            stopped = True
            process.terminate()

        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, stop) for kind in kinds]
        try:
            code = process.wait()
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
    if stopped and code < 0:
        raise KeyboardInterrupt
    return code


def _settings(plan: FoldPlan) -> Settings:
    """The settings of the trainings but for their folds; UserError as train.py has it."""
    settings = read_settings([*plan.train_flags, "--result_dir", str(plan.directory)])
    wrong = [name for name in OURS if name in settings.given]
    if wrong:
        raise UserError(f"--{wrong[0]}: the folds decide that; leave it out")
    row_of(settings.data.dataset)
    before, now = read_mapping(plan.directory / RECORD), plan.record()
    changed = [key for key in now if before and before.get(key) != now[key]]
    if changed:
        key = changed[0]
        raise UserError(
            f"{plan.directory / RECORD}: the folds there have {key} {before.get(key)}, not "
            f"{now[key]}; the same ones go on, another --result_dir starts anew"
        )
    return settings


def parts(items: Sequence[Item], folds: int) -> list[list[Item]]:
    """`items` dealt out to the folds in blocks of neighbours."""
    blocks = min(BLOCKS * folds, len(items))
    edges = [number * len(items) // blocks for number in range(blocks + 1)]
    dealt: list[list[Item]] = [[] for _ in range(folds)]
    for number, (first, stop) in enumerate(zip(edges, edges[1:], strict=False)):
        dealt[number % folds] += items[first:stop]
    return dealt


def write_lists(plan: FoldPlan, settings: Settings, items: Sequence[Item]) -> None:
    """The skip lists of all folds and the record. UserError where the images changed since."""
    skip = open_skip_list(settings)
    own = skip.entries if skip is not None else []
    for item in items:
        if UNLISTED.search(os.path.abspath(item.image)):
            raise UserError(f"{item.image}: a skip list cannot hold such a name; rename the image")
    texts: dict[Path, bytes] = {}
    for number, held in enumerate(parts(items, plan.folds)):
        inside = {item.image for item in held}
        others = [item for item in items if item.image not in inside]
        for name, left_out in ((TRAINING, held), (PREDICTIONS, others)):
            lines = [*own, *(os.path.abspath(item.image) for item in left_out), ""]
            texts[plan.fold(number) / f"{name}.txt"] = os.fsencode("\n".join(lines))
    changed = [path for path, text in texts.items() if path.exists() and path.read_bytes() != text]
    if changed:
        raise UserError(
            f"{changed[0]}: the training images are not those that the folds were made of; "
            "another --result_dir starts anew"
        )
    for path, text in texts.items():
        write_atomic(path, text)
    write_atomic(plan.directory / RECORD, json.dumps(plan.record(), indent=1).encode())
