# SPDX-License-Identifier: Apache-2.0
"""Files are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from runtime.checkpoint import SaveError, save
from runtime.files import stamp_if_there, stamp_of, write_atomic
from tests.full_disk import REASON, full_after


def test_folders_are_made_and_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.bin"
    write_atomic(path, b"first", sync=True)
    write_atomic(path, lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("sync", [False, True])
def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, sync: bool) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    with full_after(100), pytest.raises(OSError, match=REASON):
        write_atomic(path, bytes(10_000), sync=sync)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_writer_leaves_the_old_file_alone(tmp_path: Path) -> None:
    def interrupted(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    path = tmp_path / "x"
    write_atomic(path, b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, interrupted)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_on_a_full_disk_is_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    with full_after(1000), pytest.raises(SaveError) as caught:
        save(path, lambda file: torch.save({"weight": torch.zeros(10_000)}, file))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_stamp_is_another_one_when_size_or_time_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    assert stamp_if_there(path) is None
    with pytest.raises(FileNotFoundError):
        stamp_of(path)
    path.write_bytes(b"four")
    first = stamp_of(path)
    assert first == stamp_if_there(path) == (4, path.stat().st_mtime_ns)
    os.utime(path, ns=(first[1], first[1] + 1))
    assert stamp_of(path) == (4, first[1] + 1)
    path.write_bytes(b"five!")
    assert stamp_of(path)[0] == 5
