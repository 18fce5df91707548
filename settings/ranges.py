# SPDX-License-Identifier: Apache-2.0
"""Ranges that several settings share: every number is finite and has one."""

from __future__ import annotations

from settings.declare import Bounds

COUNT = Bounds(0, 10**9)  # of images, steps, epochs
POSITIVE_COUNT = Bounds(1, 10**9)
SINCE = Bounds(-1, 10**9)  # a step or epoch, -1 for never
BATCH = Bounds(1, 65536)  # images in one batch of a process
PIXELS = Bounds(1, 16384)  # a side of an image, a crop or a window: 3 GiB as numbers
WIDTHS = Bounds(1, 4096)  # channels of a layer
CLASS_IDS = Bounds(0, 65535)
PROCESS = Bounds(0, 10**6)  # a rank
SEED = Bounds(0, 2**63 - 1)
FACTOR = Bounds(0, 1e6)  # a weight or factor
POSITIVE_FACTOR = Bounds(0, 1e6, above=True)
RATE = Bounds(0, 1000.0)  # a learning rate or decay
POSITIVE_RATE = Bounds(0, 1000.0, above=True)
EXPONENT = Bounds(0, 100.0)  # of a schedule
POSITIVE_EXPONENT = Bounds(0, 100.0, above=True)
SCALES = Bounds(0.05, 8.0)  # of inference at several scales
FRACTION = Bounds(0, 1)
SHARE = Bounds(0, 1, above=True)
