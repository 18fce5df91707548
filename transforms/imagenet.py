# SPDX-License-Identifier: Apache-2.0
"""Images for ImageNet classifiers: timm's augmentation and its evaluation crop.

timm is only needed here and for mixing batches (`engine.mixing`); it is imported when a transform
is made, and if it is missing the user gets one line.
"""

from __future__ import annotations

import contextlib
import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from runtime.errors import UserError
from transforms.normalize import MEAN, STD

Pixels = npt.NDArray[np.uint8]
ImageTransform = Callable[[Pixels], Tensor]

NEEDS_TIMM = '--task classify needs timm, which is not installed: pip install ".[imagenet]"'


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image; the defaults are the published recipe's.

    scale: share of the area that the crop covers. ratio: its width by its height. hflip, vflip:
    probabilities. color_jitter: strength, without effect under RandAugment. policy: a timm
    policy such as `rand-m9-mstd0.5-inc1`, None for none. interpolation: `random` draws from
    bilinear and bicubic. erase_*: probability, filling and largest number of erased boxes.
    Source: shared recipe of HRViT and HILA (timm / DeiT).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.4
    policy: str | None = "rand-m9-mstd0.5-inc1"
    interpolation: str = "random"
    erase_prob: float = 0.25
    erase_mode: str = "pixel"
    erase_count: int = 1


def load_timm(module: str) -> Any:
    """The module `timm.<module>`; UserError when timm is not installed."""
    try:
        return importlib.import_module(f"timm.{module}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "timm":
            raise
        raise UserError(NEEDS_TIMM) from error


def train_transform(size: int, augmentation: Augmentation) -> ImageTransform:
    """uint8 (H, W, 3) RGB -> float32 (3, size, size), augmented and normalised.

    Draws from the global generators of Python, NumPy and torch: call it inside `drawing_from`.
    Raises UserError for a policy that timm does not know.
    """
    factory = load_timm("data.transforms_factory")
    try:
        transform = factory.transforms_imagenet_train(
            size,
            scale=augmentation.scale,
            ratio=augmentation.ratio,
            hflip=augmentation.hflip,
            vflip=augmentation.vflip,
            color_jitter=augmentation.color_jitter or None,
            auto_augment=augmentation.policy,
            interpolation=augmentation.interpolation,
            mean=MEAN,
            std=STD,
            re_prob=augmentation.erase_prob,
            re_mode=augmentation.erase_mode,
            re_count=augmentation.erase_count,
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise UserError(
            f"--aa {augmentation.policy} is not an augmentation policy of timm"
        ) from error
    return _FromArray(transform)


def eval_transform(size: int, crop_pct: float, interpolation: str) -> ImageTransform:
    """uint8 (H, W, 3) RGB -> float32 (3, size, size): resize, central crop, normalise.

    The short side becomes floor(size / crop_pct) pixels (224 and 0.9: 248).
    """
    factory = load_timm("data.transforms_factory")
    transform = factory.transforms_imagenet_eval(
        size, crop_pct=crop_pct, interpolation=interpolation, mean=MEAN, std=STD
    )
    return _FromArray(transform)


class _FromArray:
    """timm's transforms take Pillow images; ours are arrays. A class, so that it pickles."""

    def __init__(self, transform: Callable[[Image.Image], Tensor]) -> None:
        self.transform = transform

    def __call__(self, pixels: Pixels) -> Tensor:
        return self.transform(Image.fromarray(pixels))


@contextlib.contextmanager
def drawing_from(seed: Sequence[int]) -> Iterator[None]:
    """Inside, the global generators start from `seed`; afterwards they are as before.

    So the draws of an image depend on nothing but its seed, in a worker process and in the main
    one, whose states are part of a checkpoint.
    """
    words = np.random.SeedSequence(tuple(seed)).generate_state(3)
    python, numpy = random.getstate(), np.random.get_state()
    torch_state = torch.get_rng_state()
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.default_generator.manual_seed(int(words[2]))  # torch.manual_seed would wake CUDA
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torch_state)
