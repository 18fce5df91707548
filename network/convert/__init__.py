# SPDX-License-Identifier: Apache-2.0
"""Weights from files into networks, never partly in silence.

    report = load_official(net, "FILE.pth")     # any known layout; UserError unless complete

Nothing in a file is run while it is read, and nothing is copied before everything fits.
"""

from network.convert.checkpoint import read_checkpoint
from network.convert.imagenet import load_trunk
from network.convert.load import load_official
from network.convert.report import LoadReport

__all__ = ["LoadReport", "load_official", "load_trunk", "read_checkpoint"]
