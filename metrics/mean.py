# SPDX-License-Identifier: Apache-2.0
"""The mean over classes, as every score here takes it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def known_mean(values: NDArray[np.float64]) -> float:
    """Plain mean of `values`, NaN left out; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
