# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.attention`."""

import sys

from tools.attention import main

if __name__ == "__main__":
    sys.exit(main())
