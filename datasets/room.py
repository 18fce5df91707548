# SPDX-License-Identifier: Apache-2.0
"""Whether the batches that the flags ask for fit into this machine, said before the first one."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from datasets.base import DataError, image_size
from datasets.spec import Item
from datasets.workers import check_room

IMAGE_BYTES = 3 * 4  # of a pixel: float32 colours
LABEL_BYTES = 8  # int64
RESIZING = ("pre_size", "map_crop_val", "test_scale", "scf")  # flags of other sizes than the file's


def check_training(args: argparse.Namespace, items: Sequence[Item], draws: int) -> None:
    """DataError unless batches of `--bs_trn` crops fit; `draws` are those of an epoch and rank."""
    size: tuple[int, int] | None = args.crop_size
    if args.full_crop_training and args.dataset != "nullloader":
        size = None if args.pre_size else _first_size(items)
    check_room(
        args.num_workers,
        _batch_bytes(size, args.bs_trn, args.dt_offset_wt > 0),
        math.ceil(draws / args.bs_trn),
        "--bs_trn or --crop_size",
        others=eval_workers(args),
    )


def check_evaluation(args: argparse.Namespace, items: Sequence[Item], images: int) -> int:
    """DataError unless batches of images as large as the first one fit; the number of workers.

    Nothing is known of images that are resized, nor of a folder, where each that finds no room
    costs its line.
    """
    size = args.crop_size if args.dataset == "nullloader" else _first_size(items)
    if args.eval == "folder" or any(getattr(args, name) for name in RESIZING):
        size = None
    workers = eval_workers(args)
    amount = _batch_bytes(size, args.bs_val, False)
    check_room(workers, amount, math.ceil(images / args.bs_val), "--bs_val")
    return workers


def check_pictures(args: argparse.Namespace, workers: int, batch_size: int, pictures: int) -> None:
    """As `check_training`, for the square images of a classifier."""
    amount = _batch_bytes((args.img_size, args.img_size), batch_size, False)
    flags = "--bs_trn, --bs_val or --img_size"
    check_room(workers, amount, math.ceil(pictures / batch_size), flags)


def eval_workers(args: argparse.Namespace) -> int:
    """Processes that load an evaluation: half of `--num_workers`."""
    return int(args.num_workers + 1) // 2


def _first_size(items: Sequence[Item]) -> tuple[int, int] | None:
    """Size of the first image; None when it cannot be read, which its reader says."""
    try:
        return image_size(items[0].image)
    except (DataError, IndexError):
        return None


def _batch_bytes(size: tuple[int, int] | None, count: int, has_maps: bool) -> int:
    """Bytes of the tensors of a batch; 0 when the size is not known."""
    if size is None:
        return 0
    pixel = IMAGE_BYTES + LABEL_BYTES + (LABEL_BYTES if has_maps else 0)
    return size[0] * size[1] * pixel * count
