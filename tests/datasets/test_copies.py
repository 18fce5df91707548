# SPDX-License-Identifier: Apache-2.0
"""Local copies: what is kept, what leaves, and what other processes, kills and full disks do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assembly.copies import keep_copies as keep_as_set
from datasets.base import DataError, SegmentationDataset, image_size, read_image
from datasets.copies import BLOCK, GB, LEDGER, Copies
from datasets.loader import make_loader, stop_workers
from datasets.places import keep_copies, kept_copies
from datasets.registry import Folds
from datasets.registry import split_items as items_of
from datasets.samplers import EvalSampler
from runtime.files import Stamp
from settings import read_settings
from tests.full_disk import REASON, full_after
from tests.program import ROOT, environment

SIZE = 3 * BLOCK - 4  # of a file whose copy fills three blocks


@pytest.fixture
def copies(tmp_path: Path) -> Iterator[Copies]:
    made = Copies(tmp_path / "copies", GB)
    made.prepare()
    keep_copies(made)
    yield made
    keep_copies(None)


def files_of(copies: Copies) -> list[Path]:
    return sorted(copies.folder.glob("??/*"))


def bytes_of(copies: Copies) -> int:
    """What the copies and everything half-written take on the disk, while nobody takes room."""
    total = 0
    with (copies.folder / LEDGER).open() as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        for path in copies.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # it has just been renamed
                total += -(-path.stat().st_size // BLOCK) * BLOCK
    return total


def booked(copies: Copies) -> int:
    return int((copies.folder / LEDGER).read_text())


def read(copies: Copies, name: str, size: int = SIZE, time_ns: int = 1) -> bool:
    """Read a file of that name; whether its source was asked."""
    asked = []

    def source() -> bytes:
        asked.append(name)
        return name.encode().ljust(size, b".")

    stamp: Stamp = (size, time_ns)
    assert copies.read(f"/far/{name}", stamp, source) == name.encode().ljust(size, b".")
    return bool(asked)


def test_a_file_is_fetched_once(copies: Copies) -> None:
    assert read(copies, "a")
    assert not read(copies, "a")
    assert copies.find("/far/a", (SIZE, 1)) is not None
    assert booked(copies) == bytes_of(copies) == 3 * BLOCK


def test_another_size_or_time_is_another_file(copies: Copies) -> None:
    assert read(copies, "a")
    assert read(copies, "a", time_ns=2)
    assert read(copies, "a", size=10)
    assert not read(copies, "a", time_ns=2)


def test_images_and_labels_come_from_copies_until_their_source_changes(
    copies: Copies, cities: Path
) -> None:
    items = items_of("cityscapes", cities, "train", Folds())
    from datasets.cityscapes import SPEC

    dataset = SegmentationDataset(items, SPEC)
    first = dataset[0]
    assert len(files_of(copies)) == 2
    assert np.array_equal(dataset[0].image, first.image)
    stat = items[0].image.stat()
    content = items[0].image.read_bytes()
    items[0].image.write_bytes(b"#" * len(content))
    os.utime(items[0].image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert np.array_equal(dataset[0].image, first.image)  # the same size and time: from the copy
    assert image_size(items[0].image) == (24, 32)
    os.utime(items[0].image, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    with pytest.raises(DataError, match="no known image format"):
        dataset[0]
    items[0].image.unlink()
    with pytest.raises(DataError, match=r"image cannot be read: No such file"):
        dataset[0]


def test_loader_processes_keep_copies_too(copies: Copies, cities: Path) -> None:
    from datasets.cityscapes import SPEC

    dataset = SegmentationDataset(items_of("cityscapes", cities, "train", Folds()), SPEC)
    loader = make_loader(dataset, EvalSampler(len(dataset), 0, 1), 1, 2)
    assert [batch.names[0] for batch in loader] == [item.name for item in dataset.items]
    stop_workers(loader)
    assert len(files_of(copies)) == 8
    assert booked(copies) == bytes_of(copies)


def test_a_damaged_copy_is_fetched_again(copies: Copies) -> None:
    read(copies, "a")
    (path,) = files_of(copies)
    for damaged in (b"", b"abc", path.read_bytes()[:-1], b"b" + path.read_bytes()[1:]):
        path.write_bytes(damaged)
        assert read(copies, "a")
        assert not read(copies, "a")


def test_the_least_recently_used_leave_first(tmp_path: Path) -> None:
    copies = Copies(tmp_path, 10 * 3 * BLOCK)
    for number in range(10):
        read(copies, str(number))
    for age, path in enumerate(files_of(copies)):
        os.utime(path, (time.time() - 1000 - age,) * 2)
    assert not read(copies, "7")  # is the most recent one now
    read(copies, "new")
    left = [number for number in range(10) if not read_only(copies, str(number))]
    assert bytes_of(copies) <= copies.limit
    assert read_only(copies, "7")
    assert read_only(copies, "new")
    assert 1 <= len(left) <= 3


def read_only(copies: Copies, name: str) -> bool:
    return copies.find(f"/far/{name}", (SIZE, 1)) is not None


def test_room_is_never_exceeded(tmp_path: Path) -> None:
    copies = Copies(tmp_path, 5 * 3 * BLOCK + 100)
    for number in range(40):
        read(copies, str(number % 13))
        assert bytes_of(copies) <= booked(copies) <= copies.limit
    assert read(copies, "large", size=6 * 3 * BLOCK)
    assert read(copies, "large", size=6 * 3 * BLOCK)  # never fits, so nothing leaves for it
    assert len(files_of(copies)) >= 4


def test_a_smaller_room_is_made_at_the_start(tmp_path: Path) -> None:
    copies = Copies(tmp_path, GB)
    for number in range(10):
        read(copies, str(number))
    smaller = Copies(tmp_path, 4 * 3 * BLOCK)
    smaller.prepare()
    assert bytes_of(smaller) <= smaller.limit


def test_a_lost_or_wrong_account_is_counted_again(copies: Copies) -> None:
    read(copies, "a")
    for content in (b"", b"no number", b"0000000000000000000x"):
        (copies.folder / LEDGER).write_bytes(content)
        read(copies, f"b{len(content)}")
        assert booked(copies) == bytes_of(copies)


def test_what_killed_processes_left_half_written_leaves(tmp_path: Path) -> None:
    copies = Copies(tmp_path, 4 * 3 * BLOCK)
    read(copies, "a")
    old, new = (files_of(copies)[0].parent / f".{number}-1" for number in (1, 2))
    for path in (old, new):
        path.write_bytes(b"." * BLOCK)
    os.utime(old, (1, 1))
    (copies.folder / LEDGER).unlink()
    read(copies, "b")
    assert not old.exists()
    assert new.exists()
    assert booked(copies) == bytes_of(copies) == 7 * BLOCK


def test_a_full_disk_is_said_once_and_reading_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copies = Copies(tmp_path, GB)
    read(copies, "a")
    with full_after(BLOCK):
        assert read(copies, "b")
        assert read(copies, "c")
    assert read(copies, "d")
    assert not read(copies, "a")
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        f"warning: --cache_dir {tmp_path}: {REASON}: files are read where they are from now on"
    ]
    assert bytes_of(copies) == 3 * BLOCK
    assert pickle.loads(pickle.dumps(copies)).limit == GB


def test_a_folder_that_cannot_be_used_costs_one_line(tmp_path: Path, cities: Path) -> None:
    (tmp_path / "file").touch()
    for place, reason in (("file", "File exists"), ("file/below", "Not a directory")):
        lines: list[str] = []
        settings = read_settings(["--cache_dir", str(tmp_path / place), "--cache_gb", "2"])
        keep_as_set(settings, lines.append)
        assert lines == [
            f"warning: --cache_dir {tmp_path / place}: {reason}; going on without copies"
        ]
        assert kept_copies() is None


def test_settings_bound_the_room(tmp_path: Path) -> None:
    keep_as_set(read_settings(["--cache_dir", str(tmp_path), "--cache_gb", "0.5"]), print)
    found = kept_copies()
    keep_as_set(read_settings([]), print)
    assert found is not None
    assert (found.folder, found.limit) == (tmp_path, GB // 2)
    assert kept_copies() is None


READER = """
import sys, random
from pathlib import Path
from datasets.copies import Copies
folder, source, limit, seed = sys.argv[1:]
copies, files = Copies(Path(folder), int(limit)), sorted(Path(source).iterdir())
draw = random.Random(int(seed))
while True:
    path = draw.choice(files)
    stat = path.stat()
    data = copies.read(str(path), (stat.st_size, stat.st_mtime_ns), path.read_bytes)
    assert data == path.name.encode() * (stat.st_size // len(path.name)), path
    print(path, flush=True)
"""


@pytest.mark.slow
def test_processes_that_share_a_folder_and_are_killed_leave_it_sound(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, draw = tmp_path / "far", np.random.default_rng(0)
    source.mkdir()
    for number in range(40):
        name = f"{number:04d}"
        (source / name).write_bytes(name.encode() * int(draw.integers(1, 40000)))
    copies = Copies(tmp_path / "near", 20 * 80000)
    copies.prepare()

    def start(seed: int) -> subprocess.Popen[bytes]:
        arguments = [str(copies.folder), str(source), str(copies.limit), str(seed)]
        return subprocess.Popen(
            [sys.executable, "-c", READER, *arguments],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE,
        )  # fmt: skip

    running = [start(seed) for seed in range(4)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline()
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            for process in running:
                assert process.stdout is not None
                process.stdout.readline()
            assert bytes_of(copies) <= copies.limit
        assert all(process.poll() is None for process in running)
    finally:
        for process in running:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    assert bytes_of(copies) <= booked(copies) <= copies.limit
    assert len(files_of(copies)) > 10
    assert capfd.readouterr().err == ""
    for path in sorted(source.iterdir()):
        stat = path.stat()
        data = copies.find(str(path), (stat.st_size, stat.st_mtime_ns))
        assert data is None or data == path.read_bytes()


def test_members_of_archives_are_kept_under_their_own_names(
    copies: Copies, tmp_path: Path, camvid_root: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "train"), "zip", camvid_root / "train"))
    image = archive / "train0.jpg"
    first = read_image(image)
    assert len(files_of(copies)) == 1
    assert np.array_equal(read_image(image), first)
    assert np.array_equal(np.asarray(Image.open(camvid_root / "train" / "train0.jpg")), first)
