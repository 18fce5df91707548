# SPDX-License-Identifier: Apache-2.0
"""Heads: from the maps of a trunk to class scores, features and attention."""
