# SPDX-License-Identifier: Apache-2.0
"""`train.py` in a process that may take so many MiB beyond what it holds before it starts.

python tests/limited_train.py MIB FLAGS...
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn

import assembly.training  # noqa: F401  # what is loaded later would count
from config import parse_or_exit
from runtime.outcome import run
from train import main

if __name__ == "__main__":
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1))
    net(torch.rand(2, 3, 32, 32)).sum().backward()  # and so would what the first step sets up
    room = int(sys.argv.pop(1)) << 20
    parsed = parse_or_exit()
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + room, resource.RLIM_INFINITY))
    sys.exit(run(lambda outcome: main(parsed, outcome)))
