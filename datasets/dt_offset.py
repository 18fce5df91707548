# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.dt_offset`."""

import sys

from tools.dt_offset import main

if __name__ == "__main__":
    sys.exit(main())
