# SPDX-License-Identifier: Apache-2.0
"""Measured promises: each program prints a table (what, baseline, ours, ratio)."""
