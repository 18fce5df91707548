# SPDX-License-Identifier: Apache-2.0
"""Layouts of other programs, brought into our names before anything is compared."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from network.convert import efficientnet_pytorch, hrnet_ocr, huggingface, mmseg1, timm
from network.convert.names import STILL_WINDOWS, TRUNK, Translated

TRANSLATORS = (
    huggingface.translate,
    mmseg1.translate,
    hrnet_ocr.translate,
    timm.translate,
    efficientnet_pytorch.translate,
)


def translate(state: Mapping[str, Tensor]) -> Translated | None:
    """`state` in our names if it is in one of these layouts, else None."""
    for each in TRANSLATORS:
        found = each(state)
        if found is not None:
            return found
    return None


def trunk_of(found: Translated) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of the trunk by its own names, and the names of all else.

    How a classifier treats small maps is not for other networks on its trunk.
    """
    state = {key: value for key, value in found.state.items() if key != STILL_WINDOWS}
    inside = {key: value for key, value in state.items() if key.startswith(TRUNK)}
    others = [key for key in state if key not in inside]
    return {key.removeprefix(TRUNK): v for key, v in inside.items()}, [*found.dropped, *others]
