# SPDX-License-Identifier: Apache-2.0
"""The old name of `python -m tools.deformable`."""

import sys

from tools.deformable import main

if __name__ == "__main__":
    sys.exit(main())
