# SPDX-License-Identifier: Apache-2.0
"""Experiment trackers behind the calls of the log: one small class each, none of them required."""
