# SPDX-License-Identifier: Apache-2.0
"""`--from_run DIR`: network, data set and evaluation settings of an earlier run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from config import FLAG_KEYS, UserError

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


def _set_entries(section: str, values: dict[str, object], given: set[str]) -> list[str]:
    """`values` of a saved section as `--set` texts, without those the user typed a flag for."""
    typed = {key for flag, key in FLAG_KEYS.items() if flag in given}
    entries = []
    for leaf, value in values.items():
        if f"{section}.{leaf}" not in typed:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            entries.append(f"{section}.{leaf}={text}")
    return entries


def _newest_checkpoint(directory: Path) -> Path:
    """The best, else the last checkpoint of a run directory."""
    for prefix in ("best", "last"):
        found = list(directory.glob(f"{prefix}_checkpoint_ep*.pth"))
        if found:
            return max(found, key=lambda path: path.stat().st_mtime_ns)
    raise UserError(f"--from_run {directory}: no checkpoint there; name one with --snapshot")


def adopt_run(args: argparse.Namespace, given: set[str]) -> None:
    """Take network, data set and checkpoint from `--from_run`; typed flags win."""
    directory = Path(args.from_run)
    try:
        saved = json.loads((directory / "run.json").read_text())
        flags, tree = saved["flags"], saved["config"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"--from_run {directory}: no readable run.json there") from error
    for name in FROM_RUN:
        if name not in given and name in flags:  # runs of earlier versions lack some
            value = flags[name]
            setattr(args, name, tuple(value) if isinstance(value, list) else value)
    entries = _set_entries("MODEL", {**tree["MODEL"], "pretrained": ""}, given)
    entries += _set_entries("DATASET", tree["DATASET"], given)
    args.set = entries + (args.set or [])
    if not args.snapshot:
        args.snapshot = str(_newest_checkpoint(directory))
