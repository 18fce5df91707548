# SPDX-License-Identifier: Apache-2.0
"""Batches that cannot fit, or show a set absurdly often, are refused before the first of them."""

from __future__ import annotations

import pytest
import torch

from assembly.memory import check_memory, host_memory
from config import UserError
from datasets.classify import ImageSampler
from datasets.samplers import TrainSampler
from tests.settings.test_classification import ARGV as CLASSIFY
from tests.settings.test_classification import resolved

CPU = torch.device("cpu")


def test_the_memory_of_the_machine_is_known() -> None:
    assert 2**28 < host_memory() < 2**50


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--crop_size", "16384", "--bs_trn", "65536"], "--crop_size 16384,16384: one batch"),
        (["--bs_trn", "65536", "--crop_size", "896"], "--bs_trn 65536 and --crop_size 896,896"),
        ([*CLASSIFY, "--img_size", "4096", "--bs_trn", "65536"], "--img_size 4096: one batch"),
    ],
)
def test_a_batch_beyond_the_memory_is_one_line(argv: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        check_memory(resolved(*argv), 19, CPU)
    assert "GiB" in str(error.value) and "\n" not in str(error.value)


def test_usual_batches_pass() -> None:
    for argv in ([], ["--bs_trn", "4", "--crop_size", "512,1024"], CLASSIFY):
        check_memory(resolved(*argv), 19, CPU)
    check_memory(resolved("--full_crop_training", "--bs_trn", "65536"), 19, CPU)  # not known


def train_sampler(count: int, batch: int, world: int) -> TrainSampler:
    return TrainSampler(lambda epoch: [(n, None) for n in range(count)], 0, 0, world, batch)


def test_a_batch_may_be_larger_than_a_small_set_but_not_absurdly() -> None:
    assert len(train_sampler(6, 8, 1)) == 8
    assert len(train_sampler(1, 16, 2)) == 16
    assert len(ImageSampler(6, 0, 0, 1, 8)) == 8
    for batch, world in ((65536, 1), (1000, 8)):
        words = f"--bs_trn {batch} x {world} processes: .* each of the 6 images"
        with pytest.raises(ValueError, match=words) as error:
            train_sampler(6, batch, world)
        assert f"--bs_trn {384 // world} or less" in str(error.value)
        with pytest.raises(ValueError, match=words):
            ImageSampler(6, 0, 0, world, batch)
