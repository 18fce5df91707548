# SPDX-License-Identifier: Apache-2.0
"""Key layouts of the HMSA networks: the official files and our own checkpoints.

Official files name the parts of a multi-scale network side by side (`backbone.*`, `ocr.*`,
`scale_attn.*`); here the wrapper holds the network of one scale under `net.`. Both ways are
served, so weights of a network of one scale also go into its multi-scale form. The group of the
trunk is `backbone.`, except that files of `deeper.*` call it `trunk.`, and published classifiers
have no group around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from torch import Tensor

WRAPPER_PREFIX, SAVED_PREFIX = "net.", "module."
BACKBONE_PREFIX, DEEPER_TRUNK_PREFIX = "backbone.", "trunk."


def strip_saved_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the leading `module.` that a saved DataParallel or DDP wrapper leaves.

    Only as a prefix, and only if all keys have it: `se_module.fc1` is a name of a layer.
    """
    if not all(key.startswith(SAVED_PREFIX) for key in state):
        return dict(state)
    return {key.removeprefix(SAVED_PREFIX): value for key, value in state.items()}


def official_name(key: str, arch: str = "") -> str:
    """The official spelling of a key of ours, in a network `arch`, without `module.`."""
    name = key.removeprefix(WRAPPER_PREFIX)
    if arch.startswith("deeper.") and name.startswith(BACKBONE_PREFIX):
        return DEEPER_TRUNK_PREFIX + name.removeprefix(BACKBONE_PREFIX)
    return name


def to_wanted(key: str, wanted: Set[str]) -> str:
    """The key of `wanted` that `key` of a file stands for; `key` itself if there is none."""
    inner = key.removeprefix(WRAPPER_PREFIX)
    if inner.startswith(DEEPER_TRUNK_PREFIX):
        inner = BACKBONE_PREFIX + inner.removeprefix(DEEPER_TRUNK_PREFIX)
    for candidate in (key, inner, WRAPPER_PREFIX + inner, BACKBONE_PREFIX + key):
        if candidate in wanted:
            return candidate
    return key
