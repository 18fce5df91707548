# SPDX-License-Identifier: Apache-2.0
"""Key layouts of the HMSA networks: the official files and our own checkpoints.

Official files name the parts of a multi-scale network side by side (`backbone.*`, `ocr.*`,
`scale_attn.*`); here the wrapper holds the single-scale network under `net.`. Both ways are
served, so weights of a single-scale network also go into its multi-scale form.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from torch import Tensor

WRAPPER_PREFIX, SAVED_PREFIX = "net.", "module."


def strip_saved_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys without the leading `module.` that a saved DataParallel or DDP wrapper leaves.

    Only as a prefix, and only if all keys have it: `se_module.fc1` is a name of a layer.
    """
    if not all(key.startswith(SAVED_PREFIX) for key in state):
        return dict(state)
    return {key.removeprefix(SAVED_PREFIX): value for key, value in state.items()}


def official_name(key: str) -> str:
    """The official spelling of a key of ours, without the `module.` prefix."""
    return key.removeprefix(WRAPPER_PREFIX)


def to_wanted(key: str, wanted: Set[str]) -> str:
    """The key of `wanted` that `key` of a file stands for; `key` itself if there is none."""
    inner = key.removeprefix(WRAPPER_PREFIX)
    for candidate in (key, inner, WRAPPER_PREFIX + inner):
        if candidate in wanted:
            return candidate
    return key
