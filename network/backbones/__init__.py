# SPDX-License-Identifier: Apache-2.0
"""Backbones; each announces `channels` and `strides` of the maps it returns."""
