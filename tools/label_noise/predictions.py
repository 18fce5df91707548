# SPDX-License-Identifier: Apache-2.0
"""What networks said about labelled images: dumps of `eval.py --dump_scores`, read and checked."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assembly import sets
from assembly.dataset import dataset_spec
from datasets.headers import size_text
from datasets.ids import read_item_label
from datasets.spec import DatasetSpec, Item
from reports.trees import MANIFEST
from runtime.errors import UserError
from runtime.files import read_mapping
from runtime.limits import counted
from runtime.remote import is_remote
from runtime.rundir import RUN_FACTS
from settings import CommandLine, Settings
from settings.from_run import read_run
from settings.resolve import unchecked

WANTED = "name the --result_dir of an evaluation with --dump_scores"
PARTS = ("split_count", "split_index")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a label and a network say about every pixel of an image, all (H, W).

    label: train ids. pred: the most probable class. top: its probability. given: that of the
    label's class, where pixels are ignored that of any.
    """

    label: npt.NDArray[np.uint8]
    pred: npt.NDArray[np.uint8]
    top: npt.NDArray[np.float32]
    given: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """An image with a label, and the file of scores about it."""

    item: Item
    scores: Path

    def read(self, spec: DatasetSpec) -> Answer:
        """Label and scores; UserError where they do not fit together."""
        label = read_item_label(self.item, spec)
        scores, ids = self._scores(spec)
        if scores.shape[1:] != label.shape:
            raise UserError(
                f"{self.scores} is {size_text(*scores.shape[1:])}, but the label "
                f"{self.item.label} is {size_text(*label.shape)} (width x height)"
            )
        if ids is None:
            best = np.argmax(scores, 0)
            top = np.take_along_axis(scores, best[None], 0)[0]
            place = np.where(label < spec.num_classes, label, 0)
            given = np.take_along_axis(scores, place[None].astype(np.intp), 0)[0]
            return Answer(label=label, pred=best.astype(np.uint8), top=top, given=given)
        is_label = ids == label
        # A class that is not among the kept ones is at most as probable as the last of them.
        left = np.clip(1 - scores.sum(0), 0, scores[-1])
        given = np.where(is_label.any(0), (scores * is_label).sum(0), left)
        return Answer(label=label, pred=ids[0], top=scores[0], given=given)

    def _scores(
        self, spec: DatasetSpec
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8] | None]:
        """Probabilities (T, H, W), and the ids of the classes where these are not all in order."""
        try:
            with np.load(self.scores, allow_pickle=False) as file:
                names = [str(name) for name in file["classes"]]
                scores = file["scores"].astype(np.float32)
                ids = file.get("ids")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.scores}: no scores of --dump_scores: {error}") from error
        if names != list(spec.class_names):
            raise UserError(
                f"{self.scores} has the classes {_brief(names)}, but the labels of {spec.name} "
                f"have {_brief(spec.class_names)}"
            )
        is_whole = len(scores) == len(names) if ids is None else ids.shape == scores.shape
        if scores.ndim != 3 or not is_whole:
            raise UserError(f"{self.scores}: no scores of --dump_scores: shape {scores.shape}")
        return scores, ids


def _brief(names: Sequence[str], most: int = 6) -> str:
    more = f", ... ({len(names)})" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """All predicted images, each once, in the order of their runs.

    notes: what a reader must know.
    """

    spec: DatasetSpec
    images: list[Predicted]
    notes: list[str]


def read_predictions(directories: Iterable[Path]) -> Predictions:
    """The predicted images of evaluations. UserError for what is none, and networks that saw them.

    Of an image in several of them the first counts.
    """
    images: dict[str, Predicted] = {}
    notes: list[str] = []
    spec, first, again = None, Path(), 0
    for directory in directories:
        facts = _flags(directory)
        settings = _evaluated(directory, facts)
        own = dataset_spec(settings)
        if spec is not None and own.class_names != spec.class_names:
            raise UserError(
                f"{directory} has the classes {_brief(own.class_names)}, but {first} has "
                f"{_brief(spec.class_names)}; compare runs of one class set"
            )
        spec, first = spec or own, first if spec else directory
        found = _predicted(directory, settings)
        notes += _check_unseen(directory, str(facts.get("snapshot") or ""), found)
        for image in found:
            path = os.path.realpath(image.item.image)
            again += path in images
            images.setdefault(path, image)
    assert spec is not None, "there is a directory"
    if again:
        notes.append(f"more than one prediction of {counted(again, 'image')}: the first one counts")
    return Predictions(spec=spec, images=list(images.values()), notes=notes)


def _flags(directory: Path) -> Mapping[str, Any]:
    """The flags of a run; UserError for a folder that holds none."""
    flags = read_mapping(directory / RUN_FACTS).get("flags")
    if not isinstance(flags, dict):
        raise UserError(f"{directory}: no predictions there (no readable {RUN_FACTS}); {WANTED}")
    return flags


def _settings_of(directory: Path, values: Mapping[str, object]) -> Settings:
    """The settings that say which images a run took."""
    saved = read_run(directory, {"snapshot"})
    return unchecked(CommandLine(values={**saved.values, **values, "set": saved.entries}))


def _evaluated(directory: Path, flags: Mapping[str, Any]) -> Settings:
    """The settings of an evaluation of labelled images."""
    kind = flags.get("eval")
    if not kind:
        raise UserError(f"{directory} is a training, no predictions; {WANTED}")
    if kind in ("folder", "train_extra"):
        raise UserError(f"{directory} holds predictions of --eval {kind}, which have no labels")
    parts = {name: flags[name] for name in PARTS if isinstance(flags.get(name), int)}
    return _settings_of(directory, {"eval": kind, **parts})


def _predicted(directory: Path, settings: Settings) -> list[Predicted]:
    """The images of an evaluation; UserError where scores or labels are missing."""
    items = {item.name: item for item in sets.eval_items(settings)}
    path, found = directory / MANIFEST, []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        files = {str(row["name"]): row["files"].get("scores") for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{directory}: no predictions there (no readable {MANIFEST}); {WANTED}"
        ) from error
    for name, file in files.items():
        item = items.get(name)
        if item is None:
            raise UserError(f"{path}: image {name} is not in {settings.data.dataset} as it is now")
        if item.label is None:
            raise UserError(f"{path}: image {name} has no label")
        if not file:
            raise UserError(f"{directory}: predictions without scores; {WANTED}")
        found.append(Predicted(item=item, scores=directory / file))
    if not found:
        raise UserError(f"{path} lists no image; {WANTED}")
    return found


def _check_unseen(directory: Path, snapshot: str, found: Sequence[Predicted]) -> list[str]:
    """What is not known about the network of an evaluation; UserError if it saw its images."""
    seen, notes = images_seen(snapshot)
    images = [image.item.image for image in found]
    shared = [image for image in images if os.path.realpath(image) in seen]
    if shared:
        raise UserError(
            f"{directory}: its network {snapshot} was trained on {len(shared)} of the "
            f"{len(images)} images that it predicts ({shared[0]}), so it repeats their labels; "
            "predict images that it did not see"
        )
    return notes


def images_seen(snapshot: str) -> tuple[set[str], list[str]]:
    """The training images of a network and of those it started from, as their runs tell.

    Second: why that is not all, if it is not.
    """
    seen: set[str] = set()
    passed: set[Path] = set()
    while snapshot:
        run = Path(snapshot).parent
        if run in passed:
            break
        passed.add(run)
        flags = read_mapping(run / RUN_FACTS).get("flags")
        if is_remote(snapshot) or not isinstance(flags, dict) or flags.get("eval"):
            return seen, [f"{snapshot}: no record of its training, so what it saw is not known"]
        try:
            items = sets.train_items(_settings_of(run, {}))
        except UserError as error:
            return seen, [f"{snapshot}: what it saw is not known: {error}"]
        seen |= {os.path.realpath(item.image) for item in items}
        snapshot = str(flags.get("snapshot") or "")
    return seen, []
