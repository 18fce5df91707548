# SPDX-License-Identifier: Apache-2.0
"""The lines of docs/python.md do what they say, from another working directory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy import Predictor
from tests.program import ROOT, environment

TEXT = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
FIRST, OPTIONS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[:2]


@pytest.mark.slow
def test_the_five_lines_run_from_anywhere(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    places = {"/path/to/hiseg": str(ROOT), "best_checkpoint.pth": str(checkpoint)}
    assert len([line for line in FIRST.splitlines() if line]) == 5
    program = f"{FIRST}\nprint(prediction.classes)"
    for place, here in places.items():
        assert place in program
        program = program.replace(place, here)
    shutil.copy(photos / "turned.jpg", tmp_path / "street.jpg")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    wanted = Predictor(checkpoint).predict(photos / "turned.jpg")
    assert done.stdout.strip() == str(wanted.classes)
    written = np.asarray(Image.open(tmp_path / "street_classes.png"))
    np.testing.assert_array_equal(written, wanted.composite())
    assert {path.name for path in tmp_path.iterdir()} == {"street.jpg", "street_classes.png"}


def test_every_option_on_the_page_is_one(tmp_path: Path) -> None:
    """The examples fail for want of their files, not of their options."""
    calls = [line.split("  #")[0] for line in OPTIONS.splitlines() if line.startswith("Predictor")]
    assert len(calls) == 5
    for call in calls:
        with pytest.raises(ValueError, match=r"checkpoint \w+\.pth does not exist"):
            eval(call.replace(', device="cuda:1"', ""), {"Predictor": Predictor})


def test_every_part_of_the_page_exists() -> None:
    from deploy.prediction import Prediction

    table = TEXT.split("## What a prediction holds")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    names = {word for row in rows for word in re.findall(r"`(\w+)", row)} - {"Prediction"}
    fields = set(Prediction.__dataclass_fields__)
    assert len(names) >= 12 and not {n for n in names if not hasattr(Prediction, n)} - fields
