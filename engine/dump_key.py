# SPDX-License-Identifier: Apache-2.0
"""What decides about a dumped file, so that one of another network, class table or image is redone.

key = evaluation_key(args, cfg.MODEL, protocol, spec, precision.name)   # of all images alike
images = image_stamps(items)                                            # of each one
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from config import ModelConfig
from datasets.spec import DatasetSpec, Item
from runtime.runlog import plain

# Flags that change no dumped file: where and how fast a program runs, which images it takes and
# which dumps it makes of them. Every other flag, also one to come, makes another evaluation.
WITHOUT_INFLUENCE = frozenset((
    "bs_trn", "bs_val", "bs_window", "ckpt", "ckpt_path", "custom_coarse_prob", "date", "given",
    "dist_timeout", "dump_all_images", "dump_assets", "dump_attention", "dump_for_auto_labelling",
    "dump_for_submission", "dump_images", "dump_topn", "dump_topn_all", "eval_distance_crop",
    "eval_f1", "eval_f1_labels", "eval_f1_missing", "eval_f1_start", "eval_f1_step_size",
    "eval_f1_th", "exp", "exp_name", "from_run", "global_rank", "local_rank", "log_msinf_to_tb",
    "mod_f1", "no_metrics", "no_progress", "notes", "num_workers", "overwrite", "result_dir",
    "resume", "set", "set_cityscapes_root", "split", "split_count", "split_index", "tb_path",
    "tb_tag", "test_mode",
))  # fmt: skip


def evaluation_key(
    args: argparse.Namespace,
    model: ModelConfig,
    protocol: Mapping[str, Any],
    spec: DatasetSpec,
    precision: str,
) -> str:
    """Equal for two evaluations exactly if what they write of the same image is interchangeable.

    It covers weights, flags, options of the network and the class table: ids, names, colours.
    """
    flags = {key: value for key, value in vars(args).items() if key not in WITHOUT_INFLUENCE}
    files = [_stamps(Path(path)) for path in (args.snapshot, args.snapshot_pe) if path]
    parts = [flags, dataclasses.asdict(model), dict(protocol), files, precision, _table(spec)]
    text = json.dumps(plain(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _table(spec: DatasetSpec) -> list[list[str]]:
    """Every field of the class table; the order of a mapping does not count."""
    values = {item.name: getattr(spec, item.name) for item in dataclasses.fields(spec)}
    return [
        [name, repr(sorted(value.items(), key=repr) if isinstance(value, Mapping) else value)]
        for name, value in sorted(values.items())
    ]


def image_stamps(items: Sequence[Item]) -> dict[str, tuple[int, str]]:
    """Name -> position in the set, and path, size and time of the files it is made from."""
    return {item.name: (index, _item_stamp(item)) for index, item in enumerate(items)}


def _item_stamp(item: Item) -> str:
    files = [(str(path), _stamp(path)) for path in (item.image, *item.label_files())]
    rules = [] if item.auto is None else item.auto.rules()
    reading = [item.turned, item.levels]
    return hashlib.sha256(json.dumps([files, rules, reading]).encode()).hexdigest()[:32]


def _stamps(path: Path) -> list[tuple[int, int] | None]:
    """The stamp of a file of weights, of a folder those of all files in it."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [_stamp(file) for file in files]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of a file; None where it is not there, which whoever reads it says."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
