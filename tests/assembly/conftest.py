# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the data sets, which tests of their loaders share."""

from tests.datasets.conftest import cities as cities
