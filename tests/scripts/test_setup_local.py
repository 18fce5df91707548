# SPDX-License-Identifier: Apache-2.0
"""The settings of this machine: what runx copies, and that nobody's file is overwritten."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import setup_local

ROOT = Path(setup_local.__file__).resolve().parent.parent


def test_code_copy_of_a_run_is_complete_and_small(tmp_path: Path) -> None:
    settings = setup_local.runx_settings(ROOT / "logs")
    patterns = str(settings["CODE_IGNORE_PATTERNS"]).split(",")
    copy = tmp_path / "code"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*patterns, "*.pth"))
    files = [path for path in copy.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 5e6
    for package in ("datasets", "engine", "loss", "metrics", "network", "reports", "runtime"):
        wanted = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert wanted <= {path.relative_to(copy) for path in files}, package
    assert (copy / "train.py").exists()
    assert not (copy / "tests").exists()
    assert not (copy / ".git").exists()


def test_logroot_is_absolute_and_left_out_of_the_copy() -> None:
    settings = setup_local.runx_settings(ROOT / "my_runs" / "here")
    assert os.path.isabs(str(settings["LOGROOT"]))
    assert "my_runs" in str(settings["CODE_IGNORE_PATTERNS"]).split(",")


def test_a_file_of_the_user_is_kept_and_with_force_backed_up(tmp_path: Path) -> None:
    path = tmp_path / ".runx"
    path.write_text("LOGROOT: /mine\n")
    assert "kept" in setup_local.place(path, "", {"LOGROOT": "/new"}, force=False)
    assert path.read_text() == "LOGROOT: /mine\n"
    setup_local.place(path, "", {"LOGROOT": "/new"}, force=True)
    assert yaml.safe_load(path.read_text()) == {"LOGROOT": "/new"}
    assert (tmp_path / ".runx.bak").read_text() == "LOGROOT: /mine\n"
    assert "up to date" in setup_local.place(path, "", {"LOGROOT": "/new"}, force=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project folder that holds nothing but the program under test."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(setup_local.__file__, tmp_path / "scripts")
    return tmp_path


def setup(clone: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/setup_local.py", *flags]
    return subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)


def test_a_fresh_clone_gets_both_files(clone: Path) -> None:
    assert setup(clone, "--camvid", "some/camvid").returncode == 0
    runx = yaml.safe_load((clone / ".runx").read_text())
    paths = yaml.safe_load((clone / "paths.yml").read_text())
    assert runx["LOGROOT"] == str(clone / "logs")
    assert paths["DATASET"]["SYNTHETIC_DIR"] == str(clone / "data" / "synthetic")
    assert paths["DATASET"]["CAMVID_DIR"] == str(clone / "some" / "camvid")


def test_a_kept_relative_logroot_is_an_error(clone: Path) -> None:
    (clone / ".runx").write_text("LOGROOT: logs\n")
    done = setup(clone)
    assert done.returncode == 2
    assert "LOGROOT must be an absolute path" in done.stdout
