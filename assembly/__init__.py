# SPDX-License-Identifier: Apache-2.0
"""From settings to the parts of a run: the only floor between the programs and the libraries."""
