# SPDX-License-Identifier: Apache-2.0
"""The part of a street scene in which things are far away: around the horizon.

Source: Leung et al., HILA (2022), the distance crops; as in Takikawa et al., "Gated-SCNN" (2019).
"""

from __future__ import annotations

RAISED = 50  # px, how far the published window lies above the centre


def distance_window(height: int, width: int, crop: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the window `crop` = (H, W) in a map of `height` x `width` pixels.

    Centred and moved up by RAISED pixels, but never out of the map; a crop larger than the map is
    the whole map.
    """
    # differs: where less than RAISED pixels lie above, the published rows start below zero,
    # which slicing counts from the end: the crop is empty, or a strip of another size.
    top, left = max(published_corner(height, width, crop)[0], 0), max(width - crop[1], 0) // 2
    return slice(top, min(top + crop[0], height)), slice(left, min(left + crop[1], width))


def published_corner(height: int, width: int, crop: tuple[int, int]) -> tuple[int, int]:
    """First row and column of the published window; the row may lie above the map."""
    return max(height - crop[0], 0) // 2 - RAISED, max(width - crop[1], 0) // 2
