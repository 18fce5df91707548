# SPDX-License-Identifier: Apache-2.0
"""Heads: from backbone maps to class scores, features and attention."""
