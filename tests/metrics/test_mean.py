# SPDX-License-Identifier: Apache-2.0
"""The mean over classes leaves out what is not known."""

from __future__ import annotations

import math

import numpy as np

from metrics.mean import known_mean


def test_unknown_values_do_not_count() -> None:
    assert known_mean(np.array([0.25, np.nan, 0.75])) == 0.5


def test_nothing_known_has_no_mean() -> None:
    assert math.isnan(known_mean(np.array([np.nan, np.nan])))
    assert math.isnan(known_mean(np.zeros(0)))
