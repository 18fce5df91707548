# SPDX-License-Identifier: Apache-2.0
"""scripts.doctor: what is wrong with a machine is a line that says what would help."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.doctor import files, machine, packages
from scripts.doctor.compute import precisions
from scripts.doctor.finding import FAIL, OK, WARN, Check, Finding, findings, worst
from tests.archives import write_zip
from tests.class_folders import write_class_folders
from tests.program import ROOT, environment


def found(check: Check) -> list[Finding]:
    return list(findings("x", check))


@pytest.mark.parametrize(
    ("version", "wanted", "holds"),
    [
        ("2.14.1+cu130", ">=2.11,<3", True),
        ("2.9.1", ">=2.11,<3", False),
        ("3.0", ">=2.11,<3", False),
        ("3.0.0", "<3", False),
        ("0.0.11", "==0.0.11", True),
        ("0.0.12", "==0.0.11", False),
        ("2.11.0rc1", ">=2.11", True),
        ("10.0", ">=9.1.2", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, wanted: str, holds: bool) -> None:
    assert packages.fits(version, wanted) is holds


def test_packages_outside_of_their_range_and_missing_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        '[project]\nrequires-python = ">=99"\n'
        'dependencies = ["numpy>=1", "torch<1", "no-such-package>=2"]\n'
    )
    monkeypatch.setattr(packages, "PYPROJECT", path)
    by_level = {each.level: each.line() for each in found(packages.required)}
    assert by_level[OK].startswith("ok   x             numpy ")
    assert "torch" in by_level[WARN] and "is not <1, which was tested" in by_level[WARN]
    assert by_level[FAIL].endswith('no-such-package is not installed; pip install "."')
    assert found(packages.python)[0].level == FAIL


def test_a_check_that_breaks_is_a_finding_and_no_traceback() -> None:
    def broken() -> Iterator[tuple[str, str]]:
        yield OK, "first"
        raise ImportError("libcudart.so.13:\n cannot open")

    first, second = found(broken)
    assert (first.level, second.level) == (OK, FAIL)
    assert second.line() == "fail x             ImportError: libcudart.so.13: cannot open"
    assert worst([first, second]) == FAIL and worst([first]) == worst([]) == OK


def test_a_data_root_is_listed_or_named_with_what_is_wrong(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HISEG_CAMVID_DIR", str(camvid_root))
    monkeypatch.setenv("HISEG_KITTI_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HISEG_GTAV_DIR", str(tmp_path))
    lines = {each.line().split()[2].rstrip(":"): each for each in found(files.data)}
    assert lines["camvid"].level == OK
    assert lines["camvid"].text.endswith(": train 4, val 2 images")
    assert lines["kitti"].level == lines["gtav"].level == FAIL
    assert "nowhere, which is not there" in lines["kitti"].text
    assert "tools.check --dataset gtav" in lines["gtav"].way
    assert "HISEG_CAMVID_DIR" in found(files.settings)[0].text


def test_archives_are_data_roots_too(
    camvid_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = write_zip(tmp_path / "camvid.zip", {"CamVid": camvid_root}, extra="CamVid/x")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(packed.read_bytes()[:-50])
    folders = write_class_folders(tmp_path / "folders", classes=2)
    for split in ("train", "val"):
        write_zip(tmp_path / "classes" / f"{split}.zip", {split: folders / split})
    for key, root in (("CAMVID", packed), ("KITTI", cut), ("IMAGENET", tmp_path / "classes")):
        monkeypatch.setenv(f"HISEG_{key}_DIR", str(root))
    lines = {each.line().split()[2].rstrip(":"): each for each in found(files.data)}
    assert lines["camvid"].text.endswith(": train 4, val 2 images")
    assert lines["kitti"].level == FAIL and "damaged or truncated zip" in lines["kitti"].text
    assert lines["imagenet"].text.endswith("classes has its folders")


def test_a_wrong_key_is_what_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HISEG_CAMVIDDIR", "/data")
    (only,) = found(files.settings)
    assert only.level == FAIL and "CAMVID_DIR" in only.text


def test_a_place_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HISEG_ASSETS_PATH", str(tmp_path / "file" / "assets"))
    lines = [each.line() for each in found(files.writing)]
    (wrong,) = [line for line in lines if line.startswith("fail")]
    assert "ASSETS_PATH: " in wrong and "cannot be written" in wrong
    assert not list(tmp_path.glob("file?*")), "nothing is left"


@pytest.mark.parametrize(
    ("content", "level"),
    [(None, WARN), ("LOGROOT: logs\n", FAIL), ("[", FAIL), ("LOGROOT: {here}/runs\n", OK)],
)
def test_runx_is_asked_for_an_absolute_folder(
    content: str | None, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ROOT", tmp_path)
    if content is not None:
        (tmp_path / ".runx").write_text(content.format(here=tmp_path))
    (only,) = found(files.runx)
    assert only.level in (level, WARN) and (level == OK or only.level == level)
    assert level == OK or "scripts.setup_local" in only.way


def test_few_file_handles_are_a_warning() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        (only,) = found(machine.handles)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert only.level == WARN and "ulimit -n" in only.way
    assert found(machine.handles)[0].text.startswith(f"{soft} open files")


def test_every_precision_of_the_cpu_gives_the_loss_of_fp32() -> None:
    import torch

    before = torch.get_float32_matmul_precision()
    found_here = found(precisions)
    assert found_here[0].level == OK and "fp32 " in found_here[0].text
    assert "bf16 " in found_here[0].text
    assert torch.get_float32_matmul_precision() == before


def doctor(*flags: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.doctor", *flags],
        cwd=ROOT, env=environment(**extra), capture_output=True, text=True, timeout=280,
    )  # fmt: skip


@pytest.mark.slow
def test_the_program_says_whether_anything_failed(tmp_path: Path) -> None:
    done = doctor("--json", HISEG_KITTI_DIR=str(tmp_path / "nowhere"))
    assert done.returncode == 1, done.stdout + done.stderr
    content = json.loads(done.stdout)
    assert content["level"] == FAIL and done.stderr == ""
    by_check = {each["check"]: each for each in content["findings"] if each["level"] != OK}
    assert "nowhere" in by_check["data"]["text"] and by_check["data"]["way"]
    (processes,) = [each for each in content["findings"] if each["check"] == "processes"]
    assert processes["level"] == OK and "added up a number" in processes["text"]


@pytest.mark.slow
def test_it_also_works_where_torch_does_not(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    done = doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr == ""
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("fail")]
    assert {"devices", "threads", "precision", "processes"} <= set(failed)
    assert "memory" not in failed and done.stdout.splitlines()[-1].endswith(" fail")
