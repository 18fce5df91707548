# SPDX-License-Identifier: Apache-2.0
"""ADE20K from training to the archive for its server, by the real programs."""

from __future__ import annotations

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.base import image_size
from tests.program import TINY, run

pytestmark = pytest.mark.slow
TEST_SCALE = ("--test_scale", "256,64", "--size_divisor", "32", "--num_workers", "0")


@pytest.fixture(scope="module")
def trained(ade20k_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of one epoch on the miniature."""
    directory = tmp_path_factory.mktemp("run")
    result = run(
        "train.py", *TINY, *TEST_SCALE, "--dataset", "ade20k", "--augmentation", "mmseg",
        "--set", f"DATASET.ADE20K_DIR={ade20k_root}", "--class_uniform_pct", "0",
        "--set", f"DATASET.CENTROID_ROOT={directory}/centroids", "--img_scale", "160,64",
        "--crop_size", "64,64", "--max_epoch", "1", "--result_dir", str(directory),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return directory


def test_validation_of_the_run_is_repeated_at_the_size_of_the_files(
    trained: Path, tmp_path: Path
) -> None:
    result = run("eval.py", "--from_run", str(trained), "--num_workers", "0", "--dump_all_images",
                 "--result_dir", str(tmp_path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["protocol"]["test_scale"] == [256, 64]
    dumped = (tmp_path / "best_images").glob("*_prediction.png")
    assert {image_size(path) for path in dumped} == {(60, 72), (48, 72)}
    rows = [row.split(",") for row in (trained / "metrics.csv").read_text().splitlines()]
    losses = [float(row[2]) for row in rows if row[0] == "val"]
    assert found["metrics"]["loss"] == pytest.approx(losses[0], rel=1e-4)


def test_the_test_images_become_an_archive_for_the_server(
    trained: Path, ade20k_root: Path, tmp_path: Path
) -> None:
    result = run("eval.py", "--from_run", str(trained), "--eval", "test", "--num_workers", "0",
                 "--dump_for_submission", "--result_dir", str(tmp_path))  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    pictures = sorted((ade20k_root / "images" / "testing").iterdir())
    with zipfile.ZipFile(tmp_path / "submission.zip") as archive:
        assert archive.namelist() == [f"{path.stem}.png" for path in pictures]
        for path in pictures:
            ids = np.asarray(Image.open(BytesIO(archive.read(f"{path.stem}.png"))))
            assert ids.shape == image_size(path)
            assert ids.min() >= 1 and ids.max() <= 150
