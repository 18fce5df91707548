# SPDX-License-Identifier: Apache-2.0
"""Packages of the same names, in fresh processes: ours are imported, or one line says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT, environment


def python(program: str, cwd: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `program` from `cwd`."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd, env=environment(**extra), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with a `datasets` of somebody else."""
    (tmp_path / "elsewhere" / "datasets").mkdir(parents=True)
    (tmp_path / "elsewhere" / "datasets" / "__init__.py").write_text("theirs = True\n")
    return tmp_path / "elsewhere"


def test_a_foreign_package_that_was_imported_before_is_named(foreign: Path, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path[:0] = [{str(foreign)!r}]; import datasets\n"
        f"sys.path.insert(0, {str(ROOT)!r}); from deploy import Predictor"
    )
    last = python(program, tmp_path).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and str(foreign / "datasets") in last
    assert "separate processes" in last


def test_a_foreign_package_that_would_be_imported_is_named(foreign: Path, tmp_path: Path) -> None:
    before = f"import sys; sys.path[:0] = [{str(foreign)!r}, {str(ROOT)!r}]"
    program = f"{before}\nfrom deploy import Predictor"
    last = python(program, tmp_path).stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: `import datasets` would take") and str(ROOT) in last


def test_the_path_of_the_project_is_all_that_is_needed(foreign: Path, tmp_path: Path) -> None:
    loaded = "print(sorted({'torch', 'numpy', 'cv2', 'datasets'} & set(sys.modules)))"
    program = f"import sys, deploy\n{loaded}\nfrom deploy import Predictor, Prediction\n{loaded}"
    done = python(program, tmp_path, PYTHONPATH=f"{ROOT}:{foreign}")
    assert done.stdout.splitlines() == ["[]", "['cv2', 'datasets', 'numpy']"], done.stderr


def test_the_package_has_nothing_else(tmp_path: Path) -> None:
    done = python("from deploy import Nothing", tmp_path, PYTHONPATH=str(ROOT))
    assert "cannot import name 'Nothing'" in done.stderr
