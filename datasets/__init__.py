# SPDX-License-Identifier: Apache-2.0
"""Data sets: what they contain (spec), where their files are (listing), how they are read."""
