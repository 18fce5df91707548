# SPDX-License-Identifier: Apache-2.0
"""Recorded numbers of the published implementations against this code."""
