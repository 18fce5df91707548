# SPDX-License-Identifier: Apache-2.0
"""`--from_run DIR`: network, data set and evaluation settings of an earlier run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from config import FLAG_KEYS, UserError, check_entry
from runtime.limits import brief

FROM_RUN = (
    "arch",
    "dataset",
    "cv",
    "city_mode",
    "scf",
    "no_pos_dataset",
    "pre_size",
    "map_crop_val",
    "test_scale",
    "size_divisor",
    "slide_crop",
    "slide_stride",
    "slide_pad",
    "task",
    "img_size",
    "crop_pct",
    "interpolation",
)


def _text(value: object, where: str) -> str:
    """A saved value as one would type it; UserError for what nobody could type."""
    parts = value if isinstance(value, list) else [value]
    if any(isinstance(part, dict | list) for part in parts):
        raise UserError(f"{where}: text, a number or a list of them wanted")
    return ",".join("none" if part is None else str(part) for part in parts)


def _set_entries(
    section: str, values: Mapping[str, object], given: set[str], where: str
) -> list[str]:
    """`values` of a saved section as `--set` texts, without those the user typed a flag for.

    Each is checked here, where the file can be named in an error.
    """
    typed = {key for flag, key in FLAG_KEYS.items() if flag in given}
    entries = []
    for leaf, value in values.items():
        key = f"{section}.{leaf}"
        if key in typed:
            continue
        text = "" if value is None else _text(value, f"{where}: config.{key}")
        check_entry(key, text, where)
        entries.append(f"{key}={text}")
    return entries


def _flag_value(action: argparse.Action, value: object, where: str) -> object:
    """A saved flag after the checks that a typed one goes through; UserError names the file."""
    if action.nargs == 0:
        if isinstance(value, bool):
            return value
        raise UserError(f"{where}: flags.{action.dest}: true or false wanted")
    if value is None:
        if action.default is not None:
            raise UserError(f"{where}: flags.{action.dest} is null, a value wanted")
        return None
    text = _text(value, f"{where}: flags.{action.dest}")
    try:
        converted = action.type(text) if callable(action.type) else text
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{where}: flags.{action.dest}: {error}") from None
    if action.choices is not None and converted not in action.choices:
        raise UserError(
            f"{where}: flags.{action.dest} is {brief(text)}; there are {', '.join(action.choices)}"
        )
    return converted


def _mapping(tree: object, key: str, where: str) -> Mapping[str, object]:
    """The object under `key`; UserError for anything else."""
    value = tree.get(key) if isinstance(tree, dict) else None
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


def adopt_run(args: argparse.Namespace, given: set[str]) -> None:
    """Take network, data set and checkpoint from `--from_run`; typed flags win.

    UserError for a run.json that is none, or holds what no flag or key could be.
    """
    from flags.parser import build_parser  # which imports this file

    directory = Path(args.from_run)
    where = f"--from_run {directory}/run.json"
    try:
        saved = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--from_run {directory}: no readable run.json there") from error
    flags, tree = _mapping(saved, "flags", where), _mapping(saved, "config", where)
    actions = {action.dest: action for action in build_parser()._actions}
    for name in FROM_RUN:
        if name not in given and name in flags:  # runs of earlier versions lack some
            setattr(args, name, _flag_value(actions[name], flags[name], where))
    model, data = _mapping(tree, "MODEL", where), _mapping(tree, "DATASET", where)
    entries = _set_entries("MODEL", {**model, "pretrained": ""}, given, where)
    entries += _set_entries("DATASET", data, given, where)
    args.set = entries + (args.set or [])
    if not args.snapshot:
        args.snapshot = str(_newest_checkpoint(directory))
