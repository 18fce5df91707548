# SPDX-License-Identifier: Apache-2.0
"""Learning rates as the flags describe them."""

from __future__ import annotations

import pytest

import flags
from config import Config
from engine.rates import build_schedule


def rate_of(*argv: str):
    """Learning rate from (step, epoch, base) as the flags describe it; ten steps an epoch."""
    args, given = flags.read_flags(argv)
    flags.resolve(args, given, Config())
    return build_schedule(args, 10)


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


def test_cosine_warms_up_counts_from_epoch_zero_and_ends_at_its_lowest_rate():
    curve = cosine(1e-3, 300, warmup_epochs=20, warmup_lr=1e-6, min_lr=1e-5)
    rates = [1e-3 * curve(e) for e in (0, 10, 20, 150, 299, 300, 309)]
    high = 1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi * 20 / 300)) / 2
    assert rates[:4] == pytest.approx([1e-6, 5.005e-4, high, 5.05e-4])
    assert high / 1e-3 == pytest.approx(0.989, abs=5e-4)
    assert rates[4] > 1e-5 and rates[5:] == pytest.approx([1e-5, 1e-5])


def test_cosine_rates_are_those_of_timm():
    weights = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weights], lr=1e-3)
    reference = CosineLRScheduler(
        optimizer, t_initial=30, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6, cycle_limit=1
    )
    curve = cosine(1e-3, 30, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5)
    for epoch in range(33):
        reference.step(epoch)
        assert 1e-3 * curve(epoch) == pytest.approx(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_epochs": 10}, "--warmup_epochs 10 is not below --max_epoch 10"),
        ({"min_lr": 0.2}, "--min_lr 0.2 is above --lr 0.1"),
    ],
)
def test_wrong_cosine_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        cosine(0.1, 10, **{"warmup_epochs": 1, "warmup_lr": 0.0, "min_lr": 0.0, **options})
