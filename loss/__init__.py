# SPDX-License-Identifier: Apache-2.0
"""Training losses: criteria on one map of logits, and the objective that adds them up."""
