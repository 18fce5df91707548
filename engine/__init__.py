# SPDX-License-Identifier: Apache-2.0
"""The training loop, evaluation, inference procedures, optimisers and schedules."""
