# SPDX-License-Identifier: Apache-2.0
"""From polygons to a checked set, with the programs that the pages name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.program import ROOT, environment

pytestmark = pytest.mark.slow


def test_a_converted_set_passes_the_check_that_is_printed(tmp_path: Path) -> None:
    images, annotations = [], []
    for number in range(4):
        name = f"photo {number}.png"
        picture = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
        Image.fromarray(picture).save(tmp_path / name)
        images.append({"id": number, "file_name": name, "height": 64, "width": 96})
        box = [8, 8, 60, 8, 60, 40, 8, 40]
        annotations.append({"image_id": number, "category_id": 1, "segmentation": [box]})
    content = {"images": images, "annotations": annotations,
               "categories": [{"id": 1, "name": "ship"}]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(content))

    def python(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment(), text=True,
                              capture_output=True, timeout=120)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    shown = python("-m", "datasets.convert", str(tmp_path / "x.json"), "--out",
                   str(tmp_path / "set"), "--background", "sea", "--val_share", "0.25")  # fmt: skip
    check = re.search(r"^python (-m tools.check .*)$", shown, re.MULTILINE)
    assert check is not None, shown
    report = python(*check[1].split())
    assert "ship" in report and "sea" in report
    labels = sorted((tmp_path / "set" / "labels").rglob("*.png"))
    assert [path.parent.name for path in labels].count("val") == 1 and len(labels) == 4
    assert (np.asarray(Image.open(labels[0])) == 1).sum() == 52 * 32
