# SPDX-License-Identifier: Apache-2.0
"""The benchmark of one pass compares networks that agree, the reference in its published form."""

from __future__ import annotations

import pytest

from benchmarks.forward import BUILT, NETWORKS, PREPARED, PUBLISHED, make_side
from benchmarks.program import joined_first, largest_share
from network.ops import joined_conv


@pytest.mark.slow
@pytest.mark.parametrize("arch", NETWORKS)
def test_all_sides_give_the_same_scores(arch: str) -> None:
    want = make_side(PUBLISHED, arch, (128, 128))()
    for name in (BUILT, PREPARED):
        assert largest_share(want, make_side(name, arch, (128, 128))()) < 1e-4


def test_the_published_form_joins_maps_of_any_size_and_only_inside() -> None:
    before = joined_conv.LEAST_PIXELS
    with joined_first():
        assert joined_conv.LEAST_PIXELS > 1 << 40
    assert before == joined_conv.LEAST_PIXELS
