# SPDX-License-Identifier: Apache-2.0
"""Networks: thin arch files over backbones, heads and one multi-scale wrapper.

Whatever lies directly in this folder is an architecture file (`--arch module.Function`) or one
of `build`, `outputs`, `multiscale`, `inference`.
"""
