# SPDX-License-Identifier: Apache-2.0
"""The n-scale benchmark compares like with like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.measure import Measured, peak_of_call, print_table, time_in_turn
from benchmarks.nscale import as_published, build, draw, ours, published_procedure
from network.inference import prepare_for_inference


def test_both_sides_give_the_same_scores() -> None:
    net, image = build(width=4), draw((64, 128))
    got = ours(prepare_for_inference(net), image)
    want = published_procedure(as_published(net), image)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def test_the_peak_is_what_a_call_holds_at_most() -> None:
    mib = 2**20

    def call() -> None:
        for _ in range(3):
            np.ones(64 * mib, np.uint8)

    assert 60 * mib < peak_of_call(call) < 100 * mib


def test_sides_take_turns() -> None:
    calls: list[str] = []
    seconds = time_in_turn({name: lambda n=name: calls.append(n) for name in "ab"}, rounds=2)
    assert calls == ["a", "b", "a", "b"]
    assert set(seconds) == {"a", "b"}


def test_ratios_are_to_the_first_side(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"first": Measured(seconds=2.0, peak_bytes=400), "second": Measured(seconds=1.0)}
    print_table("title", rows)
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "second",
        "1000.00",
        "ms",
        "x",
        "0.500",
    ]
