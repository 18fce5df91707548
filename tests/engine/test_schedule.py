# SPDX-License-Identifier: Apache-2.0
"""Learning-rate factors are pure functions of the position."""

from __future__ import annotations

import math

import pytest
import torch
from timm.scheduler import CosineLRScheduler

from config import UserError
from engine.schedule import cosine, poly, poly2, poly_iter, scl_poly, step_down, with_warmup
from settings import read_settings


def test_poly_falls_from_one_to_zero_and_stays_there():
    factor = poly(10, 2.0)
    assert [factor(e) for e in (0, 5, 7.5, 10, 12)] == [1, 0.25, 0.0625, 0, 0]


def test_poly2_doubles_the_exponent_from_its_step_on():
    factor = poly2(10, 1.0, 5)
    assert [factor(e) for e in (4, 5, 8)] == pytest.approx([0.6, 0.25, 0.04])


def test_scaled_poly_restarts_at_the_end_of_the_relaxation():
    factor = scl_poly(10, start=6, rescale=0.5, second_power=2.0)
    assert [factor(e) for e in (0, 5, 6, 8, 10)] == pytest.approx([1, 0.5, 0.5, 0.125, 0])


def test_order_of_calls_does_not_matter():
    factor = poly2(10, double_from=5)
    forward = [factor(e) for e in range(10)]
    assert [factor(e) for e in reversed(range(10))] == forward[::-1]


def test_wrong_settings_are_refused_in_a_sentence():
    with pytest.raises(UserError, match="'lion' .choose from 'poly', 'poly2'"):
        read_settings(["--lr_schedule", "lion"])
    with pytest.raises(ValueError, match="step needs --lr_step N"):
        step_down(None)
    for start in (-1, 10):
        wanted = f"scl-poly needs --rlx_off_epoch within 0..10, got {start}"
        with pytest.raises(ValueError, match=wanted):
            scl_poly(10, start=start)
    with pytest.raises(ValueError, match="positive"):
        poly(0)


def test_warm_up_multiplies_the_decaying_value_and_joins_it_without_a_jump():
    factor = poly_iter(160_000, warmup_iters=1500)
    assert 6e-5 * factor(0) == pytest.approx(6e-11)
    assert factor(750) == pytest.approx((1 - 750 / 160_000) * (1 - 0.5 * (1 - 1e-6)))
    assert factor(1500) == 1 - 1500 / 160_000
    assert factor(160_000) == 0


def test_warm_up_longer_than_the_training_is_refused():
    with pytest.raises(ValueError, match="--warmup_iters 20 is outside 0..10"):
        poly_iter(10, warmup_iters=20)


def test_poly_ends_at_the_smallest_rate():
    factor = poly_iter(10, power=2.0, min_factor=0.1)
    assert [factor(i) for i in (0, 5, 10, 12)] == pytest.approx([1, 0.9 * 0.25 + 0.1, 0.1, 0.1])


def test_steps_go_down_a_stair_by_epoch_and_by_iteration():
    factor = step_down(126_000)
    assert [factor(i) for i in (0, 125_999, 126_000, 252_000)] == pytest.approx([1, 1, 0.1, 0.01])
    by_epoch = step_down(4, 0.5)
    assert [by_epoch(e) for e in (0, 3, 4, 8)] == [1, 1, 0.5, 0.25]
    warm = with_warmup(factor, 10, 0.5)
    assert [warm(i) for i in (0, 5, 10)] == [0.5, 0.75, 1]


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
