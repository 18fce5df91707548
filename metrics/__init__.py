# SPDX-License-Identifier: Apache-2.0
"""Scores of predictions: confusion matrix with its ratios, boundary F-score, paired comparison."""
