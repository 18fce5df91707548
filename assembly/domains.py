# SPDX-License-Identifier: Apache-2.0
"""One network on several data sets, whatever their classes: what `tools.domains` runs.

A set that was evaluated is kept in `domains/SET.json` of the run directory, and not evaluated again
while network, procedure and files stay the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from assembly.data import make_eval_loader
from assembly.dataset import dataset_spec
from assembly.dump_key import evaluation_key
from assembly.inference import build_infer, large_of, prepared, protocol_of
from assembly.network import build_network, check_arch, place
from assembly.prediction import named_classes
from assembly.run import Run, open_run, write_run_facts
from assembly.sets import Sets
from assembly.snapshot import Snapshot, adopted, classes_of, read_snapshot
from assembly.validation import TEST_MODE_IMAGES, evaluate_images
from datasets.common_classes import ClassTable
from datasets.spec import DatasetSpec, Item
from engine.evaluate import EvalRules
from metrics.confusion import confusion_matrix
from metrics.domains import Counts, Domain, Meanings
from metrics.result import ImageResult
from reports.counted import CountedSink
from reports.domains_page import Measured, Network, write_domains
from runtime import distributed
from runtime.errors import UserError
from runtime.files import read_mapping, write_atomic
from runtime.limits import counted
from runtime.outcome import DONE, Outcome
from settings import Settings

FORMAT, FOLDER = "hiseg-domain-1", "domains"


@dataclass(frozen=True, kw_only=True)
class Set:
    """A set that can be evaluated; key: of its result, see `stored`."""

    name: str
    settings: Settings
    spec: DatasetSpec
    meanings: Meanings
    items: list[Item]
    fingerprint: dict[str, object]
    key: str


def evaluate_domains(
    settings: Settings, sets: Sequence[str], table: ClassTable, outcome: Outcome
) -> int:
    """Evaluate the network of `settings` on each of `sets`; table, page and JSON. The exit code.

    A set that cannot be evaluated is a line; UserError if none can.
    """
    run = open_run(settings, outcome).fetched()
    snapshot = read_snapshot(run.local_settings.network.snapshot)
    if snapshot is None:
        raise UserError("an evaluation needs weights: --snapshot FILE or --from_run DIR")
    if classes_of(snapshot).get("task") == "classify":
        raise UserError(f"{snapshot.path} is a classifier; a segmentation network is wanted")
    run = run.with_settings(adopted(run.settings, snapshot))
    check_arch(run.settings)
    spec, log = named_classes(run.settings, snapshot), run.log
    network = Network(spec=spec, meanings=_meanings(table, spec, spec.name, log.msg))
    if not any(network.meanings):
        raise UserError(
            f"{snapshot.path}: none of its classes ({', '.join(spec.class_names[:4])}, ...) is a "
            "common one; --classes FILE says what they cover"
        )
    found = [_open(run, name, table) for name in sets]
    for problem in (each for each in found if isinstance(each, Measured)):
        log.msg(f"{problem.name} is left out: {problem.problem}")
    known = [each for each in found if isinstance(each, Set)]
    if not known:
        raise UserError("none of --sets can be evaluated, for the reasons above")
    write_run_facts(run, lambda: {each.name: each.fingerprint for each in known})
    measure = _Measurer(run, network.spec, snapshot)
    measured = [each if isinstance(each, Measured) else measure(each) for each in found]
    if not any(each.domain for each in measured):
        last = next(each for each in measured if each.name == known[-1].name)
        raise UserError(f"none of --sets has scores; {last.name}: {last.problem}")
    if run.world.is_main:
        log.msg(write_domains(run.directory, network, measured, protocol_of(run.settings)))
    distributed.barrier()
    log.status("done")
    return DONE


def _meanings(
    table: ClassTable, spec: DatasetSpec, shown: str, log: Callable[[str], None]
) -> Meanings:
    """The meanings of the classes of `spec`; a line about those that have none."""
    found = table.meanings(spec.name, spec.class_names, custom=spec.custom)
    lacking = [name for name, each in zip(spec.class_names, found, strict=True) if not each]
    if lacking:
        more = f" and {len(lacking) - 8} more" if len(lacking) > 8 else ""
        log(f"{shown}: not compared, for want of a common class: {', '.join(lacking[:8])}{more}")
    return found


def _open(run: Run, name: str, table: ClassTable) -> Set | Measured:
    """The set `name`, or why it cannot be evaluated; collective."""
    data = dataclasses.replace(run.settings.data, dataset=name)
    settings = dataclasses.replace(run.settings, data=data)
    split, problem = str(settings.inference.eval), ""
    try:
        spec, sets = dataset_spec(settings), Sets(settings)
        items = sets.evaluated
        if not all(item.label for item in items):
            problem = f"split {split} has no labels"
    except UserError as error:
        problem = str(error).removeprefix(f"--dataset {name}: ")
    problem = next(filter(None, distributed.gather_objects(problem)), "")
    if problem:
        return Measured(name=name, split=split, problem=problem)
    for line in sets.lines():
        run.log.msg(f"{name}: {line}")
    meanings = _meanings(table, spec, name, run.log.msg)
    items = items[:TEST_MODE_IMAGES] if settings.run.test_mode else items
    fingerprint = sets.fingerprint()
    local = run.with_settings(settings).local_settings
    key = evaluation_key(local, protocol_of(settings), spec, run.precision.name)
    text = json.dumps([key, fingerprint, len(items)])
    return Set(
        name=name,
        settings=settings,
        spec=spec,
        meanings=meanings,
        items=items,
        fingerprint=fingerprint,
        key=hashlib.sha256(text.encode()).hexdigest(),
    )


class _Measurer:
    """Evaluates sets; the network is built for the first one that is not stored."""

    def __init__(self, run: Run, spec: DatasetSpec, snapshot: Snapshot) -> None:
        self.run, self.spec, self.snapshot = run, spec, snapshot
        self.net: nn.Module | None = None

    def __call__(self, of: Set) -> Measured:
        """What was counted in one set, now or earlier; collective."""
        path = self.run.directory / FOLDER / f"{of.name}.json"
        content = distributed.of_main(stored(path, of.key) if self.run.world.is_main else None)
        if content:
            self.run.log.msg(f"{of.name}: already evaluated, {path}")
        else:
            content = self._evaluated(of)
            if self.run.world.is_main and not content["not_finite"]:
                text = json.dumps(content, allow_nan=False)
                write_atomic(path, f"{text}\n".encode())
        own = (of.spec.name, of.spec.custom)
        facts = {name: content[name] for name in ("split", "images", "seconds")}
        facts["is_home"] = own == (self.spec.name, self.spec.custom)
        if content["not_finite"]:
            problem = f"NaN or infinite scores in {content['not_finite']} of its images"
            return Measured(name=of.name, problem=problem, **facts)
        domain = Domain(
            name=of.name,
            class_names=of.spec.class_names,
            meanings=of.meanings,
            counts=np.array(content["counts"], np.int64),
        )
        return Measured(name=of.name, domain=domain, **facts)

    def _evaluated(self, of: Set) -> dict[str, Any]:
        """The content of the file of one set."""
        run, settings = self.run.with_settings(of.settings), of.settings
        run.log.msg(f"{of.name}: {counted(len(of.items), 'image')}")
        loader = make_eval_loader(
            settings, of.spec, run.world.rank, run.world.size, of.items, run.log.msg
        )
        infer = build_infer(settings, self._network(), return_all=False)
        counter = CountedSink(of.name, pair_counts(of.spec, self.spec), unscored)
        rules = EvalRules(metrics=False, large=large_of(settings, run.log.msg_any_rank))
        summary = evaluate_images(run, infer, loader, self.spec, rules=rules, sinks=[counter])
        counts = counter.scores.counts
        assert counts is not None, "all images have labels"
        return {
            "format": FORMAT,
            "key": of.key,
            "set": of.name,
            "split": str(settings.inference.eval),
            "images": summary.num_images,
            "not_finite": summary.not_finite,
            "seconds": round(summary.seconds, 3),
            "classes": list(of.spec.class_names),
            "network_classes": list(self.spec.class_names),
            "counts": counts.tolist(),
        }

    def _network(self) -> nn.Module:
        if self.net is None:
            run, names = self.run, self.spec.class_names
            local = run.local_settings
            net = build_network(local, len(names), run.log, self.snapshot, class_names=names)
            self.net = prepared(run.settings, place(run.settings, net, run.world, run.log))
        return self.net


def stored(path: Path, key: str) -> dict[str, Any]:
    """The content of the file of a set if it has this key; {} for any other, and without one."""
    content = read_mapping(path)
    return content if (content.get("format"), content.get("key")) == (FORMAT, key) else {}


def pair_counts(own: DatasetSpec, network: DatasetSpec) -> Callable[[ImageResult], Counts]:
    """What counts the pixels of an image by class of the set (rows) and of the network."""
    most = max(own.num_classes, network.num_classes)

    def count(result: ImageResult) -> Counts:
        assert result.label is not None
        pair = torch.from_numpy(result.pred), torch.from_numpy(result.label)
        matrix = confusion_matrix(*pair, most).numpy()
        counts: Counts = matrix[: own.num_classes, : network.num_classes]
        return counts

    return count


def unscored(counts: Counts) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The classes of a set have no scores of their own: they are compared in groups."""
    return np.full(len(counts), np.nan)
