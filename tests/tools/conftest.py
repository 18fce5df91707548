# SPDX-License-Identifier: Apache-2.0
"""Fixtures of data sets and pages, which tests of the programs share."""

from tests.datasets.conftest import bdd_root as bdd_root
from tests.datasets.conftest import cities as cities
from tests.datasets.conftest import gtav_root as gtav_root
from tests.datasets.conftest import kitti_root as kitti_root
from tests.reports.conftest import chrome as chrome
