# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of SegFormer and HILA compare like with like."""

from __future__ import annotations

import pytest

from benchmarks import hila, segformer


@pytest.mark.slow
def test_both_forms_of_hila_give_the_same_scores() -> None:
    assert hila.compare() < 1e-4


@pytest.mark.slow
def test_transformers_gives_the_same_scores() -> None:
    pytest.importorskip("transformers")
    assert segformer.compare("B0") < 1e-3
