# SPDX-License-Identifier: Apache-2.0
"""The benchmark of deformable attention compares like with like."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.unept import OURS, REFERENCE, backward_side, direct, network_side, operator_side


def test_both_operators_give_the_same() -> None:
    torch.testing.assert_close(operator_side(REFERENCE, 4)(), operator_side(OURS, 4)())
    torch.testing.assert_close(backward_side(REFERENCE, 4)(), backward_side(OURS, 4)())


@pytest.mark.slow
def test_the_reference_network_is_built_on_the_direct_formulation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def counted(*inputs: Any) -> torch.Tensor:
        calls.append(1)
        return direct(*inputs)

    monkeypatch.setattr("benchmarks.unept.direct", counted)
    own, reference = network_side(OURS, 64)(), network_side(REFERENCE, 64)()
    assert len(calls) == 4  # two layers of the encoder, two of the decoder
    torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-4)
