# SPDX-License-Identifier: Apache-2.0
"""The distance crop: where it lies, and that it never leaves the map."""

from __future__ import annotations

import numpy as np
import pytest

from metrics.distance_crop import distance_window


def test_window_is_centred_and_raised():
    rows, columns = distance_window(1024, 2048, (624, 1248))
    assert (rows.start, rows.stop, columns.start, columns.stop) == (150, 774, 400, 1648)


@pytest.mark.parametrize(
    ("size", "crop", "shape"),
    [
        ((1024, 2048), (926, 1852), (926, 1852)),
        ((1024, 2048), (1024, 2048), (1024, 2048)),
        ((512, 683), (600, 700), (512, 683)),
        ((20, 30), (10, 8), (10, 8)),
        ((1, 1), (5, 5), (1, 1)),
    ],
)
def test_window_of_a_small_map_keeps_its_size_or_is_the_map(size, crop, shape):
    assert np.empty(size)[distance_window(*size, crop)].shape == shape
