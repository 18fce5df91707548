# SPDX-License-Identifier: Apache-2.0
"""Tests of hiseg; they mirror the tree of the program."""
