# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.check`."""

import sys

from tools.check import main

if __name__ == "__main__":
    sys.exit(main())
