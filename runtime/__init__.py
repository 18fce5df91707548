# SPDX-License-Identifier: Apache-2.0
"""What every run needs, whatever it computes: processes, precision, seeds, log, checkpoints."""
