# SPDX-License-Identifier: Apache-2.0
"""`--from_run DIR`: network, data set and evaluation settings of an earlier run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import UserError
from runtime.limits import brief
from settings.catalogue import Setting, catalogue, keys
from settings.parser import converter
from settings.sources import checked, find_key

SECTIONS = ("MODEL", "DATASET")  # of the saved tree, that an evaluation takes over


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """Of a run directory: values of flags by name, `--set` texts of its keys, its checkpoint."""

    values: dict[str, object]
    entries: tuple[str, ...]
    snapshot: str


def _text(value: object, where: str) -> str:
    """A saved value as one would type it; UserError for what nobody could type."""
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list) for part in parts):
        raise UserError(f"{where}: text, a number or a list of them wanted")
    return ",".join("none" if part is None else str(part) for part in parts)


def _entries(
    section: str, values: Mapping[str, object], given: Collection[str], where: str
) -> list[str]:
    """`values` of a saved section as `--set` texts, without those the user typed a flag for.

    Each is checked here, where the file can be named in an error.
    """
    entries = []
    for leaf, value in values.items():
        key = f"{section}.{leaf}"
        if key in keys() and keys()[key].name in given:
            continue
        text = "" if value is None else _text(value, f"{where}: config.{key}")
        checked(find_key(key, where), text, where)
        entries.append(f"{key}={text}")
    return entries


def _flag_value(setting: Setting, value: object, where: str) -> object:
    """A saved flag after the checks that a typed one goes through; UserError names the file."""
    place = f"{where}: flags.{setting.name}"
    if setting.base is bool:
        if isinstance(value, bool):
            return value
        raise UserError(f"{place}: true or false wanted")
    if value is None:
        if not setting.is_optional:
            raise UserError(f"{place} is null, a value wanted")
        return None
    text, choices = _text(value, place), setting.declared.choices
    if choices:
        if text not in choices:
            raise UserError(f"{place} is {brief(text)}; there are {', '.join(choices)}")
        return text
    try:
        return converter(setting)(text)
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{place}: {error}") from None


def _mapping(content: object, key: str, where: str) -> Mapping[str, object]:
    """The object under `key`; UserError for anything else."""
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, dict):
        raise UserError(f"{where}: no {key} in it, so it is not that of a run")
    return value


def _newest_checkpoint(directory: Path) -> Path:
    """The best, else the last checkpoint of a run directory."""
    for prefix in ("best", "last"):
        found = list(directory.glob(f"{prefix}_checkpoint_ep*.pth"))
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
    raise UserError(f"--from_run {directory}: no checkpoint there; name one with --snapshot")


def read_run(directory: Path, given: Collection[str]) -> SavedRun:
    """What an evaluation takes over from a run directory, but for the flags in `given`.

    UserError for a run.json that is none, or holds what no flag or key could be.
    """
    where = f"--from_run {directory}/run.json"
    try:
        saved = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--from_run {directory}: no readable run.json there") from error
    flags, sections = _mapping(saved, "flags", where), _mapping(saved, "config", where)
    values = {
        name: _flag_value(setting, flags[name], where)
        for name, setting in catalogue().items()
        if setting.declared.inherited and name not in given and name in flags
    }
    entries: list[str] = []
    for section in SECTIONS:
        content = dict(_mapping(sections, section, where))
        if section == "MODEL":
            content["pretrained"] = ""  # the checkpoint holds what became of it
        entries += _entries(section, content, given, where)
    snapshot = "" if "snapshot" in given else str(_newest_checkpoint(directory))
    return SavedRun(values=values, entries=tuple(entries), snapshot=snapshot)
