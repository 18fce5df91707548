# SPDX-License-Identifier: Apache-2.0
"""From a command line and all other sources to frozen, checked settings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtime.remote import is_remote
from settings.catalogue import keys, with_values
from settings.from_run import read_run
from settings.model import check_scales
from settings.parser import CommandLine, read_flags
from settings.rules import check_flags, check_keys
from settings.sources import key_values
from settings.spellings import meant, without_idle
from settings.task import asks_file, check_task, with_task_defaults
from settings.tree import ASSETS, Settings
from settings.workers import check_workers

FILE_FLAGS = ("snapshot", "snapshot_pe")


def resolve(line: CommandLine, eval_default: str | None = None) -> Settings:
    """The settings that `line` and the other sources describe; nothing changes them afterwards.

    `eval_default`: the value of `--eval` where the user gives none. Raises UserError for unknown
    keys, wrong types, values out of range and settings that could have no effect.
    """
    values, entries = dict(line.values), _entries(line)
    if values.get("from_run"):
        directory = os.path.expanduser(str(values["from_run"]))
        values["from_run"] = directory
        unnamed = {"snapshot"} if not values.get("snapshot") else set()
        saved = read_run(Path(directory), line.given - unnamed)
        values |= saved.values
        entries = (*saved.entries, *entries)
        if saved.snapshot:
            values["snapshot"] = saved.snapshot
    values.setdefault("eval", eval_default)
    settings = _filled(values, key_values(line.values, entries), entries)
    settings = with_task_defaults(replace(settings, given=line.given))
    settings = _with_boundary_heads(meant(settings))
    check_scales(settings.MODEL.n_scales)
    if not asks_file(settings):
        check_task(settings)
    check_flags(settings)
    settings = without_idle(settings)
    check_keys(settings)
    check_workers(settings.data.num_workers)
    return _with_paths(settings)


def unchecked(line: CommandLine) -> Settings:
    """The settings that `line` and the other sources describe, for programs that read a few only.

    No old spellings, no checks of useless settings. UserError for unknown keys and wrong values.
    """
    entries = _entries(line)
    settings = _filled(dict(line.values), key_values(line.values, entries), entries)
    return replace(settings, given=line.given)


def _entries(line: CommandLine) -> tuple[str, ...]:
    """The texts of `--set`."""
    found = line.values.get("set", ())
    assert isinstance(found, tuple)
    return found


def _filled(
    values: dict[str, object], by_key: dict[str, object], entries: tuple[str, ...]
) -> Settings:
    """Settings with `values` by name, over which those by key win."""
    named = {keys()[key].name: value for key, value in by_key.items() if key != ASSETS}
    settings = with_values(Settings(), {**values, **named, "set": entries})
    if ASSETS in by_key:
        settings = replace(settings, ASSETS_PATH=str(by_key[ASSETS]))
    return settings


def _with_boundary_heads(settings: Settings) -> Settings:
    """Boundary supervision trains heads for it."""
    if settings.loss.dt_offset_wt <= 0 or settings.inference.eval:
        return settings
    return replace(settings, MODEL=replace(settings.MODEL, boundary_heads=True))


def _with_paths(settings: Settings) -> Settings:
    """Paths with ASSETS_PATH and ~ replaced, the run directory absolute; remote names stay."""

    def expanded(path: Any) -> Any:
        return settings.expand(path) if path and not is_remote(path) else path

    network, run = settings.network, settings.run
    result_dir = os.path.abspath(settings.expand(run.result_dir))
    files = {name: expanded(getattr(network, name)) for name in FILE_FLAGS}
    folder = expanded(settings.inference.eval_folder)
    return replace(
        settings,
        network=replace(network, **files),
        MODEL=replace(settings.MODEL, pretrained=expanded(settings.MODEL.pretrained)),
        run=replace(run, result_dir=result_dir, resume=expanded(run.resume)),
        inference=replace(settings.inference, eval_folder=folder),
    )


def read_settings(
    argv: Sequence[str] | None = None, prog: str = "train.py", eval_default: str | None = None
) -> Settings:
    """`resolve` of `argv` (default: the command line); `--help` prints and exits as usual."""
    return resolve(read_flags(argv, prog), eval_default)
