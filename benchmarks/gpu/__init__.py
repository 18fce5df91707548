# SPDX-License-Identifier: Apache-2.0
"""What one GPU makes of this project, in one command: `python -m benchmarks.gpu`."""
