# SPDX-License-Identifier: Apache-2.0
"""Counts large tensors that are alive at the same time."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMaps(TorchDispatchMode):
    """Greatest number of memory blocks of at least `size` bytes that lived at once."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.most = size, 0
        self.blocks: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_leaves(result):
            if isinstance(item, Tensor) and item.untyped_storage().nbytes() >= self.size:
                block = StorageWeakRef(item.untyped_storage())
                self.blocks[block.cdata] = block
        self.blocks = {key: block for key, block in self.blocks.items() if not block.expired()}
        self.most = max(self.most, len(self.blocks))
        return result
