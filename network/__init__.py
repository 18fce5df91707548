# SPDX-License-Identifier: Apache-2.0
"""Networks: thin architecture files over trunks, heads and one multi-scale wrapper.

`contract.py` says what a network is, `outputs.py` what it returns, `build.py` makes one of a name.
A file with a table `ARCHS` is an architecture file: `--arch module.Name`.
"""
