# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.domains` by the name of what it writes."""

import sys

from tools.domains import main

if __name__ == "__main__":
    sys.exit(main())
