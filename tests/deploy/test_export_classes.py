# SPDX-License-Identifier: Apache-2.0
"""Exports whose model.json was edited, behind the predictor."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import Predictor
from runtime.errors import UserError
from tests.deploy.red import changed, red_export


@pytest.mark.parametrize(
    "palette", [None, [], [[0, 0, 0]], [[0, 0], [1, 1]], ["a", "b"], [[0, 0, 256], [0, 0, 0]]]
)
def test_a_palette_that_is_not_one_colour_a_class_is_one_line(
    tmp_path: Path, palette: object
) -> None:
    folder = changed(red_export(tmp_path / "model"), palette=palette)
    with pytest.raises(UserError, match="model.json is damaged: palette does not hold a colour"):
        Predictor(folder)
