# SPDX-License-Identifier: Apache-2.0
"""Tests of the benchmarks: both sides must compute the same thing."""
