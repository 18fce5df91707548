# SPDX-License-Identifier: Apache-2.0
"""Another name of `python -m tools.label_noise`."""

import sys

from tools.label_noise.program import main

if __name__ == "__main__":
    sys.exit(main())
