# SPDX-License-Identifier: Apache-2.0
"""Trunks; each states what it gives and how files name its weights, see `trunk.py`."""
