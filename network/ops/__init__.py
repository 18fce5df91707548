# SPDX-License-Identifier: Apache-2.0
"""Small layers and functions that several backbones and heads share."""
