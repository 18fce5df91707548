# SPDX-License-Identifier: Apache-2.0
"""One of the processes that the doctor starts: adds up 1 and 2 over both, and prints the sum."""

from __future__ import annotations

import os
import sys

import torch

from runtime import distributed

if __name__ == "__main__":
    world = distributed.join(sys.argv[1], int(os.environ["LOCAL_RANK"]), 60.0)
    own = torch.tensor([world.rank + 1.0], device=world.device)
    print(f"sum {distributed.all_reduce_sum(own).item():g}", flush=True)
    distributed.leave()
