# SPDX-License-Identifier: Apache-2.0
"""Whether the batches that settings ask for fit into this machine, said before the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from datasets.base import DataError, image_size
from datasets.registry import is_black
from datasets.spec import Item
from datasets.workers import check_room
from settings import Settings

PIXEL_BYTES = 3 + 1  # colours and class of a pixel, as they travel
MAP_BYTES = 8  # of boundary supervision: two float32 maps
NUMBER_BYTES = 3 * 4  # of a classifier's images, which are normalised where they are read


def check_training(settings: Settings, items: Sequence[Item], draws: int) -> None:
    """DataError unless batches of `--bs_trn` crops fit; `draws` are those of an epoch and rank."""
    data, crops = settings.data, settings.augmentation
    size: tuple[int, int] | None = crops.crop_size
    if crops.full_crop_training and not is_black(data.dataset):
        size = None if crops.pre_size else _first_size(items)
    check_room(
        data.num_workers,
        _batch_bytes(size, data.bs_trn, PIXEL_BYTES + MAP_BYTES * (settings.loss.dt_offset_wt > 0)),
        math.ceil(draws / data.bs_trn),
        "--bs_trn or --crop_size",
        others=eval_workers(settings),
    )


def check_evaluation(settings: Settings, items: Sequence[Item], images: int) -> int:
    """DataError unless batches of images as large as the first one fit; the number of workers.

    Nothing is known of images that are resized, nor of a folder, where each that finds no room
    costs its line.
    """
    data, sizes = settings.data, settings.augmentation
    size = sizes.crop_size if is_black(data.dataset) else _first_size(items)
    resizes = sizes.pre_size or sizes.map_crop_val or sizes.test_scale or data.scf
    if settings.inference.eval == "folder" or resizes:
        size = None
    workers = eval_workers(settings)
    amount = _batch_bytes(size, data.bs_val, PIXEL_BYTES)
    check_room(workers, amount, math.ceil(images / data.bs_val), "--bs_val")
    return workers


def check_images(settings: Settings, workers: int, batch_size: int, images: int) -> None:
    """As `check_training`, for the square images of a classifier."""
    side = settings.classification.img_size
    amount = _batch_bytes((side, side), batch_size, NUMBER_BYTES)
    flags = "--bs_trn, --bs_val or --img_size"
    check_room(workers, amount, math.ceil(images / batch_size), flags)


def eval_workers(settings: Settings) -> int:
    """Processes that load an evaluation: half of `--num_workers`."""
    return (settings.data.num_workers + 1) // 2


def _first_size(items: Sequence[Item]) -> tuple[int, int] | None:
    """Size of the first image; None when it cannot be read, which its reader says."""
    try:
        return image_size(items[0].image)
    except (DataError, IndexError):
        return None


def _batch_bytes(size: tuple[int, int] | None, count: int, pixel: int) -> int:
    """Bytes of the tensors of a batch with `pixel` bytes each; 0 when the size is not known."""
    return 0 if size is None else size[0] * size[1] * pixel * count
