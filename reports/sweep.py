# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.sweep`."""

import sys

from tools.sweep import main

if __name__ == "__main__":
    sys.exit(main())
