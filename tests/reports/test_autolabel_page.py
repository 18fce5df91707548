# SPDX-License-Identifier: Apache-2.0
"""The page of auto labels in a real browser: no outside resource, a slider that tells the truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reports.autolabel_page import NUM_STEPS, kept_shares, write_autolabel_page
from tests.reports.cases import SPEC
from tests.reports.chrome import PROGRAM, Chrome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed"),
]

CELLS = "[...document.querySelectorAll('[data-class]')].map((cell) => cell.textContent)"
MOVE = """(() => {{ const slider = document.getElementById('threshold'); slider.value = {};
slider.dispatchEvent(new Event('input')); return document.getElementById('shown').textContent; }})()
"""


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_slider_shows_what_each_threshold_keeps(tmp_path: Path, width: int, dark: bool) -> None:
    counts = np.random.default_rng(0).integers(0, 10**9, (SPEC.num_classes, NUM_STEPS))
    counts[-1] = 0
    page = tmp_path / "autolabels.html"
    write_autolabel_page(
        page, spec=SPEC, counts=counts, images=np.full(SPEC.num_classes, 7), num_images=9,
        threshold=0.5, run={"arch": "a<b>"},
    )  # fmt: skip
    chrome = Chrome(tmp_path / "profile")
    try:
        chrome.open(page, width, dark=dark)
        for step in (10, 0, 13, NUM_STEPS - 1):
            assert chrome.run(MOVE.format(step)) == f"{step / NUM_STEPS:.2f}"
            shares = [f"{100 * share:.2f}" for share in kept_shares(counts, step)[:-1]]
            assert chrome.run(CELLS) == [*shares, ""]
            total = 100 * counts[:, step:].sum() / counts.sum()
            assert chrome.run("document.getElementById('kept').textContent") == f"{total:.2f}"
        assert chrome.problems == []
        assert chrome.run("document.documentElement.scrollWidth") <= width
        assert {url.partition(":")[0] for url in chrome.requests} <= {"file", "data"}
        if width > 1000:
            chrome.screenshot(tmp_path / "page.png")
    finally:
        chrome.close()
