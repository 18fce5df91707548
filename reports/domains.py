# SPDX-License-Identifier: Apache-2.0
"""Another name of `python -m tools.domains`."""

import sys

from tools.domains import main

if __name__ == "__main__":
    sys.exit(main())
