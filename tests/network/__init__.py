# SPDX-License-Identifier: Apache-2.0
"""Tests of the networks, on width-4 models unless numbers are recorded for the full one."""
