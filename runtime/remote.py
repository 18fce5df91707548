# SPDX-License-Identifier: Apache-2.0
"""Which names of weights mean something elsewhere, and not a file of this machine."""

from __future__ import annotations

HUB, TIMM, TORCHVISION = "hf:", "timm:", "torchvision:"
WEB = ("https://", "http://")
SCHEMES = (HUB, TIMM, TORCHVISION, *WEB)


def is_remote(name: str) -> bool:
    """Whether `name` has to be fetched; a local file of such a name is `./hf:name`."""
    return name.startswith(SCHEMES) or "://" in name.split("/./")[0]
