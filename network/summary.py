# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.summary`."""

import sys

from tools.summary import main

if __name__ == "__main__":
    sys.exit(main())
