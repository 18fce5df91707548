# SPDX-License-Identifier: Apache-2.0
"""Learning rates as the flags describe them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assembly.rates import build_schedule, learning_rate
from config import UserError
from settings import read_settings


def rate_of(*argv: str):
    """Learning rate from (step, epoch, base) as the flags describe it; ten steps an epoch."""
    return build_schedule(read_settings(argv), 10)


def test_the_smallest_rate_is_absolute_whatever_the_base_of_a_group():
    rate = rate_of("--lr_by", "iter", "--max_iter", "100", "--lr", "0.1", "--min_lr", "0.02")
    assert [rate(i, 0, 0.1) for i in (0, 50, 100)] == pytest.approx([0.1, 0.06, 0.02])
    assert [rate(i, 0, 1.0) for i in (0, 50, 100)] == pytest.approx([1.0, 0.51, 0.02])


def test_steps_count_epochs_or_iterations():
    by_step = ["--lr_schedule", "step", "--lr_step", "2", "--lr_gamma", "0.5"]
    assert [rate_of(*by_step)(30 + e, e, 1.0) for e in (0, 1, 2, 4)] == [1, 1, 0.5, 0.25]
    rate = rate_of(*by_step, "--lr_by", "iter", "--warmup_iters", "2", "--warmup_ratio", "0.5")
    assert [rate(i, 0, 1.0) for i in (0, 1, 2, 3, 4)] == [0.5, 0.75, 0.5, 0.5, 0.25]


def test_a_quick_check_has_no_warm_up_longer_than_itself():
    rate = rate_of("--test_mode", "--lr_by", "iter", "--max_iter", "9999", "--warmup_iters", "1500",
                   "--warmup_ratio", "0.1")  # fmt: skip
    assert rate(0, 0, 1.0) == 1.0


def test_a_rate_scaled_below_the_smallest_names_the_product():
    argv = ["--task", "classify", "--bs_trn", "8", "--lr_batch", "512"]
    told = read_settings(argv)
    wanted = r"--min_lr 1e-05 is above .*--lr 0\.0005 x 8/512 = 7\.8e-06 \(--lr_batch\)"
    with pytest.raises(UserError, match=wanted):
        learning_rate(told, 1)
    told = replace(told, data=replace(told.data, bs_trn=64))
    assert learning_rate(told, 1) == pytest.approx(0.0005 / 8)
