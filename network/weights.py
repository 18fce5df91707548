# SPDX-License-Identifier: Apache-2.0
"""The name that users type for `python -m tools.weights`."""

import sys

from tools.weights import main

if __name__ == "__main__":
    sys.exit(main())
