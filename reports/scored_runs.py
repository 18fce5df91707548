# SPDX-License-Identifier: Apache-2.0
"""Two runs that are compared: where their scores per image lie, and what they were told."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reports.image_scores import FILE, LAST_FILE, ImageScores, read_image_scores
from reports.run_facts import MISSING, FlagTexts, settings_of, shown, text_of
from runtime.errors import UserError
from runtime.files import read_mapping
from runtime.limits import counted

CHECKPOINT = re.compile(r"^(best|last)_checkpoint_ep(\d+)\.pth$")
LISTED = 3  # names in an error
TRAINING = "Training: settings"  # title of what two trainings were told
Row = tuple[str, str, str]  # what it is, in A, in B


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """An evaluation, or the validation of a training, with its scores per image.

    folder: where it wrote. training: the run that made the network, None if it is not there.
    """

    folder: Path
    scores: ImageScores
    facts: Mapping[str, Any]  # run.json
    training: Path | None
    notes: tuple[str, ...] = ()

    @property
    def flags(self) -> dict[str, Any]:
        """What it was told."""
        return _flags(self.facts)

    @property
    def is_evaluation(self) -> bool:
        """Whether it is no validation of a training."""
        return "epoch" not in self.scores.facts

    @property
    def what(self) -> str:
        """What was scored."""
        flags, images = self.flags, len(self.scores.counts.names)
        split = flags.get("eval", "evaluation") if self.is_evaluation else "validation"
        epoch = "" if self.is_evaluation else f", epoch {self.scores.facts['epoch']}"
        return shown(
            f"{split} of {flags.get('dataset', 'a data set')}, {counted(images, 'image')}{epoch}"
        )


def open_run(given: Path) -> ScoredRun:
    """The run of a folder, of a checkpoint in it, or of a file of scores.

    Raises UserError for what is none of these, and for one without scores per image.
    """
    match = CHECKPOINT.match(given.name)
    if given.is_dir():
        places = [given / FILE, given / "eval" / FILE]
    elif not given.is_file():
        raise UserError(f"{given}: no such file or folder")
    elif given.suffix == ".npz":
        places = [given]
    else:
        last = match is not None and match[1] == "last"
        places = [given.parent / (LAST_FILE if last else FILE)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(_how_to_score(places[0].parent, given))
    scores, facts = read_image_scores(file), read_mapping(file.parent / "run.json")
    run = ScoredRun(folder=file.parent, scores=scores, facts=facts, training=None)
    run = replace(run, training=_training_of(run))
    number = match[2] if match else _best_epoch(run)
    return replace(run, notes=tuple(_notes(run, number)))


def _flags(facts: Mapping[str, Any]) -> dict[str, Any]:
    flags = facts.get("flags")
    return flags if isinstance(flags, dict) else {}


def _how_to_score(folder: Path, given: Path) -> str:
    """Why there are no scores per image in `folder`, or of the checkpoint `given` in it, and the
    command that writes them."""
    flags = _flags(read_mapping(folder / "run.json"))
    place = shlex.quote(str(folder))
    start = f"{folder} holds no {LAST_FILE if given.name.startswith('last_') else FILE}"
    if not flags:
        return f"{start}: it is no run and no evaluation of this program"
    if flags.get("task") == "classify":
        return f"{start}: a classifier has one score per image and cannot be compared here"
    if given.suffix == ".pth":
        network = f"--from_run {place} --snapshot {shlex.quote(str(given))}"
        return f"{start}; python eval.py {network} --result_dir DIR writes it; compare DIR"
    if not flags.get("eval"):
        return f"{start}; python eval.py --from_run {place} --result_dir {place} writes it"
    if flags.get("eval") == "folder" or flags.get("no_metrics"):
        return f"{start}: its images were not compared with labels"
    options = {"dataset": flags.get("dataset"), "eval": flags["eval"],
               "snapshot": flags.get("snapshot"), "result_dir": folder}  # fmt: skip
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value]
    return f"{start}; python eval.py {' '.join(words)} writes it"


def _training_of(run: ScoredRun) -> Path | None:
    """The folder of the training: its own, or that of the checkpoint that was evaluated."""
    if not run.is_evaluation:
        return run.folder if run.facts else None
    snapshot = run.flags.get("snapshot")
    folder = Path(snapshot).parent if isinstance(snapshot, str) else None
    if folder is None or not (folder / "run.json").is_file():
        return None
    return None if _flags(read_mapping(folder / "run.json")).get("eval") else folder


def _best_epoch(run: ScoredRun) -> str | None:
    """The epoch of the best checkpoint beside the scores of a training."""
    names = [path.name for path in run.folder.glob("best_checkpoint_ep*.pth")]
    matches = [match for match in map(CHECKPOINT.match, names) if match]
    return matches[0][2] if len(matches) == 1 and not run.is_evaluation else None


def _notes(run: ScoredRun, epoch: str | None) -> list[str]:
    """What a reader of the scores must know; `epoch`: of the checkpoint that they stand for."""
    own, notes = run.scores.facts, []
    if epoch is not None and own.get("epoch") is not None and str(own["epoch"]) != epoch:
        notes.append(f"scores of epoch {own['epoch']}, but the checkpoint is of epoch {epoch}")
    if own.get("not_finite"):
        notes.append(f"NaN or infinite scores in {own['not_finite']} images, which mean nothing")
    if run.training is None:
        notes.append("the run that made the checkpoint is not there: its settings are not compared")
    return [f"{shown(str(run.folder))}: {note}" for note in notes]


def paired(a: ScoredRun, b: ScoredRun, common: bool) -> tuple[ScoredRun, ScoredRun]:
    """Both runs with the same images in the same order, with `common` with those that both have.

    Raises UserError for other classes, other images, or none in common.
    """
    left, right = a.scores.counts, b.scores.counts
    if left.class_names != right.class_names:
        raise UserError(
            f"runs of different classes: {a.folder} has {_listed(left.class_names)}, "
            f"{b.folder} has {_listed(right.class_names)}"
        )
    in_a, in_b = set(left.names), set(right.names)
    only_a = [name for name in left.names if name not in in_b]
    only_b = [name for name in right.names if name not in in_a]
    kept = [name for name in left.names if name in in_b]
    if (only_a or only_b) and not (common and kept):
        sides = ((a, only_a), (b, only_b))
        texts = [f"{len(names)} only in {run.folder} ({_listed(names)})"
                 for run, names in sides if names]  # fmt: skip
        way = f"; --common compares the {len(kept)} that both have" if kept else ""
        raise UserError(f"runs on different images: {', '.join(texts)}{way}")
    return (
        replace(a, scores=replace(a.scores, counts=left.take(kept))),
        replace(b, scores=replace(b.scores, counts=right.take(kept))),
    )


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f", ... {len(names)} in all" if len(names) > LISTED else ""
    return ", ".join(map(shown, names[:LISTED])) + more


def differences(a: ScoredRun, b: ScoredRun) -> dict[str, list[Row]]:
    """Title -> what differs, of the trainings and, where both are, of the evaluations."""
    pairs = {"Training": (a.training, b.training)}
    if a.is_evaluation and b.is_evaluation:
        pairs["Evaluation"] = (a.folder, b.folder)
    found = {}
    for title, (left, right) in pairs.items():
        if left is None or right is None:
            continue
        for part, read in (("settings", _settings), ("versions", _versions), ("data", _data)):
            rows = _differing(read(left), read(right))
            if rows:
                found[f"{title}: {part}"] = rows
    return found


def _settings(folder: Path) -> FlagTexts:
    return settings_of(folder, [])


def _versions(folder: Path) -> FlagTexts:
    facts = read_mapping(folder / "run.json")
    versions = facts.get("versions")
    own = versions if isinstance(versions, dict) else {}
    wanted = {**own, "commit": facts.get("git"), "processes": facts.get("world_size")}
    return {name: shown(text_of(value)) for name, value in wanted.items()}


def _data(folder: Path) -> FlagTexts:
    """The fingerprint of the data, one entry per split and fact."""
    data = read_mapping(folder / "run.json").get("data")
    texts = {}
    for name, value in (data if isinstance(data, dict) else {}).items():
        parts = value if isinstance(value, dict) else {"": value}
        for key, each in parts.items():
            texts[shown(f"{name} {key}".strip())] = shown(text_of(each))
    return texts


def _differing(a: FlagTexts, b: FlagTexts) -> list[Row]:
    names = dict.fromkeys([*a, *b])
    pairs = [(name, a.get(name, MISSING), b.get(name, MISSING)) for name in names]
    return [(name, left, right) for name, left, right in pairs if left != right]
