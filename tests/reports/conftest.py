# SPDX-License-Identifier: Apache-2.0
"""The browser that the pages are opened in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reports.chrome import PROGRAM, Chrome


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """Headless Chromium; tests that need it are skipped, with the reason, without one."""
    if PROGRAM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    browser = Chrome(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
