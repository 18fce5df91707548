# SPDX-License-Identifier: Apache-2.0
"""Weights that lie elsewhere, brought to this machine.

    found = fetch("hf:nvidia/segformer-b0-finetuned-cityscapes-1024-1024")
    found.path, found.revision            # a folder in the hub's own cache, a commit

They go where the libraries keep theirs, so nothing is stored twice: the hub's cache (HF_HOME) and
torch's (TORCH_HOME). A name of a file comes back as it is.
"""

from network.fetch.locate import fetch
from network.fetch.place import Fetched

__all__ = ["Fetched", "fetch"]
