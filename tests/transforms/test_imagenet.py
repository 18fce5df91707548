# SPDX-License-Identifier: Apache-2.0
"""What a classifier sees: the evaluation crop by hand, training crops by their draws."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from config import UserError
from transforms.imagenet import (
    Augmentation,
    drawing_from,
    eval_transform,
    load_timm,
    train_transform,
)
from transforms.normalize import MEAN, STD

PICTURE = np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8)


def test_evaluation_resizes_the_short_side_to_248_and_crops_the_centre() -> None:
    got = eval_transform(224, 0.9, "bicubic")(PICTURE)
    resized = Image.fromarray(PICTURE).resize((330, 248), Image.Resampling.BICUBIC)
    crop = np.asarray(resized)[12 : 12 + 224, 53 : 53 + 224] / 255
    want = ((crop - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)
    torch.testing.assert_close(got, torch.from_numpy(want).float())


def test_augmentation_is_a_function_of_the_seed() -> None:
    transform = train_transform(32, Augmentation())

    def drawn(seed: tuple[int, ...]) -> torch.Tensor:
        with drawing_from(seed):
            return transform(PICTURE)

    assert drawn((1, 2)).shape == (3, 32, 32)
    assert torch.equal(drawn((1, 2)), drawn((1, 2)))
    assert not torch.equal(drawn((1, 2)), drawn((2, 1)))


def test_no_policy_no_erasing_no_flip_leaves_a_plain_crop() -> None:
    quiet = Augmentation(
        scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0, color_jitter=0, policy=None, erase_prob=0,
        interpolation="bicubic",
    )  # fmt: skip
    with drawing_from((0,)):
        got = train_transform(64, quiet)(PICTURE[:, :300])
    want = np.asarray(Image.fromarray(PICTURE[:, :300]).resize((64, 64), Image.Resampling.BICUBIC))
    scaled = (want / 255 - np.array(MEAN)) / np.array(STD)
    torch.testing.assert_close(got, torch.from_numpy(scaled.transpose(2, 0, 1)).float())


def test_erasing_fills_a_box_with_noise() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    erase = Augmentation(hflip=0, color_jitter=0, policy=None, erase_prob=1.0)
    with drawing_from((0,)):
        picture = train_transform(64, erase)(grey)
    values = picture[0]
    assert 0.02 < float((values != values.mode().values.mode().values).float().mean()) < 0.5


def test_unknown_policy_is_one_line() -> None:
    with pytest.raises(UserError, match="--aa nonsense is not an augmentation policy"):
        train_transform(32, Augmentation(policy="nonsense"))


def test_absent_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UserError) as error:
        load_timm("not_loaded_yet")
    wanted = '--task classify needs timm, which is not installed: pip install ".[imagenet]"'
    assert str(error.value) == wanted
