# SPDX-License-Identifier: Apache-2.0
"""From a pickled checkpoint to a safetensors file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from network.convert import load_official, read_checkpoint
from scripts.convert_checkpoint import main
from tests.network.tiny import tiny_net

ROOT = Path(__file__).resolve().parents[2]


class Intruder:
    """Runs a command when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A checkpoint with everything the official program puts in one."""
    path = tmp_path / "official.pth"
    state = {
        f"module.{k.removeprefix('net.')}": v for k, v in tiny_net(seed=1).state_dict().items()
    }
    torch.save({"state_dict": state, "epoch": 7, "optimizer": {"state": {0: torch.ones(2)}}}, path)
    return path


def test_the_converted_file_loads_as_the_original_did(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    assert main([str(official), str(target)]) == 0
    one, other = tiny_net(seed=2), tiny_net(seed=3)
    load_official(one, official)
    load_official(other, target)
    for name, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    content = read_checkpoint(target)
    assert content["epoch"] == 7 and "optimizer" not in content
    assert content["source_sha256"] == hashlib.sha256(official.read_bytes()).hexdigest()


def test_the_program_prints_both_digests(official: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    command = [sys.executable, "scripts/convert_checkpoint.py", str(official), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for path in (official, target):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in done.stdout


def test_code_in_the_file_needs_trust(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target, trap = tmp_path / "w.pth", tmp_path / "out.safetensors", tmp_path / "trap"
    torch.save({"state_dict": tiny_net().state_dict(), "x": Intruder(trap)}, source)
    assert main([str(source), str(target)]) == 2
    output = capsys.readouterr()
    assert output.out == output.err and output.out.startswith("error: ")
    assert output.out.count("\n") == 1
    assert not trap.exists() and not target.exists()
    assert main([str(source), str(target), "--trust"]) == 0
    assert trap.exists() and target.exists()


def test_a_wrong_target_leaves_nothing_behind(official: Path, tmp_path: Path) -> None:
    assert main([str(official), str(tmp_path / "out.pth")]) == 2
    assert main([str(official), str(tmp_path / "nowhere" / "out.safetensors")]) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["official.pth"]


def test_a_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert main([str(tmp_path), str(tmp_path / "out.safetensors")]) == 2
    assert "is a folder; name the file of weights in it" in capsys.readouterr().err
