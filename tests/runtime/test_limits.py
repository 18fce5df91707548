# SPDX-License-Identifier: Apache-2.0
"""Texts that fit into a line."""

from __future__ import annotations

import pytest

from runtime.limits import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "image", "0 images"), (1, "image", "1 image"), (2, "class", "2 classes"),
     (1, "batch", "1 batch"), (3, "batch", "3 batches"), (2, "more line", "2 more lines")],
)  # fmt: skip
def test_a_number_has_its_noun_in_the_right_form(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
