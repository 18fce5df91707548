# SPDX-License-Identifier: Apache-2.0
"""Programs that take a network out of the house: exports, and predictors of them."""
