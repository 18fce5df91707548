# SPDX-License-Identifier: Apache-2.0
"""`python -m scripts.doctor`: whether this machine can train, see `__main__`."""
