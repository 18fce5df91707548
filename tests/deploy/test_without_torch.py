# SPDX-License-Identifier: Apache-2.0
"""The predictor in an environment without torch gives the ids of an evaluation."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets.synthetic_scene import render
from deploy.export import main as export
from tests.deploy.checkpoints import write_checkpoint
from tests.deploy.exports import lively_hrnet
from tests.program import assert_one_line_error, run

LIBRARIES = ("numpy", "onnxruntime", "opencv-python-headless")


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the three libraries of the predictor."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *LIBRARIES]
    done = subprocess.run(install, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip(f"the package index is out of reach: {done.stderr.strip()[-200:]}")
    probe = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
    assert probe.returncode, "torch is there"
    return python


def photos(folder: Path) -> None:
    """A scene in colour, grey, with 16 bits, turned by EXIF, and in a sub-folder."""
    (folder / "deep er").mkdir(parents=True)
    scene = Image.fromarray(render((1,), 136, 200)[0])
    scene.save(folder / "colour.jpg")
    scene.convert("L").save(folder / "grey.png")
    exif = Image.Exif()
    exif[274] = 6
    scene.save(folder / "turned.jpg", exif=exif)
    deep = np.asarray(scene)[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(folder / "sixteen.png"), deep)
    scene.save(folder / "deep er" / "sub.png")


@pytest.mark.slow
def test_the_copied_folder_gives_the_ids_of_an_evaluation(
    bare_python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_checkpoint(tmp_path / "a.safetensors", lively_hrnet())
    made, moved, images = tmp_path / "made", tmp_path / "else where", tmp_path / "photos"
    photos(images)
    flags = ["--snapshot", str(file), "--out", str(made), "--dynamic"]
    code = export([*flags, "--image", str(images / "colour.jpg")])
    assert code == 0, capsys.readouterr().err
    shutil.move(made, moved)
    small = Image.fromarray(render((2,), 40, 200)[0])
    small.save(images / "small.png")

    evaluation = run(
        "eval.py", "--eval", "folder", "--eval_folder", str(images), "--snapshot", str(file),
        "--dump_for_auto_labelling", "--num_workers", "0",
        "--result_dir", str(tmp_path / "run"), "--device", "cpu",
    )  # fmt: skip
    assert evaluation.returncode == 0, evaluation.stdout + evaluation.stderr
    command = [bare_python, moved / "predict.py", images, "--out", tmp_path / "ids", "--raw_ids"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "small.png: an image of 200x40 pixels: this export takes 64x64 and more" in done.stderr
    for name in ("colour", "grey", "turned", "sixteen", "deep er/sub"):
        found = cv2.imread(str(tmp_path / "ids" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        wanted = cv2.imread(str(tmp_path / "run" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        assert found.shape == wanted.shape == ((200, 136) if name == "turned" else (136, 200))
        assert len(np.unique(wanted)) > 1
        assert (found != wanted).mean() <= 1e-4, name
    again = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert again.returncode == 2 and "exists; --overwrite replaces it" in again.stderr


@pytest.mark.slow
def test_a_wrong_call_of_the_programs_ends_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "deploy/predict.py", tmp_path, tmp_path, "--out", tmp_path / "ids"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/model.json: No such file or directory: {tmp_path} is no export"
    ]
    assert_one_line_error(run("-m", "deploy.export", "--out", str(tmp_path)), "exists")
