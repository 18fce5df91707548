# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine: cut, slow, wrong, absent, and a disk that is full."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import download as module
from runtime.download import Unreachable, download
from runtime.errors import UserError
from tests.full_disk import REASON, full_after
from tests.web_server import Site, serving

ROOT = Path(__file__).resolve().parent.parent.parent
CONTENT = os.urandom(700_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"/net.pth": CONTENT})) as running:
        yield running


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)


def address(site: Site) -> str:
    return f"{site.url}/net.pth"


def ranges(site: Site) -> list[str | None]:
    return [wanted for _, _, wanted in site.asked]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_under_its_name_and_nothing_else_stays(
    site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "net.pth"
    seen: list[tuple[int, int | None]] = []
    download(address(site), target, sha256=SHA256, progress=lambda *done: seen.append(done))
    assert target.read_bytes() == CONTENT
    assert left(target.parent) == ["net.pth"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_file_that_is_there_is_not_asked_for(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "net.pth"
    target.write_bytes(b"mine")
    download(address(site), target)
    assert target.read_bytes() == b"mine" and site.asked == [] and left(tmp_path) == ["net.pth"]


def test_a_cut_connection_goes_on_where_it_ended(site: Site, tmp_path: Path) -> None:
    site.cuts = [200_000, 200_000]
    download(address(site), tmp_path / "net.pth")
    assert (tmp_path / "net.pth").read_bytes() == CONTENT
    assert ranges(site) == [None, "bytes=200000-", "bytes=400000-"]


def test_a_server_without_ranges_is_asked_for_all_of_it_again(site: Site, tmp_path: Path) -> None:
    site.cuts, site.ranges = [200_000], False
    download(address(site), tmp_path / "net.pth")
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def cut_for_good(site: Site, target: Path) -> str:
    """The error of a connection that ends twice at the same byte, as a program would show it."""
    site.cuts = [200_000, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIES", 1)
        with pytest.raises(UserError) as caught:
            download(address(site), target)
    assert site.cuts == []
    return str(caught.value)


def test_a_part_is_never_taken_for_the_whole_and_the_next_call_goes_on(
    site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "net.pth"
    line = cut_for_good(site, target)
    assert "the connection was cut after 200,000 bytes" in line and "goes on from there" in line
    assert not target.exists() and sum(p.stat().st_size for p in tmp_path.iterdir()) >= 200_000
    site.asked.clear()
    download(address(site), target)
    assert target.read_bytes() == CONTENT and ranges(site) == ["bytes=200000-"]
    assert left(tmp_path) == ["net.pth"]


def test_another_version_on_the_server_is_not_joined_to_the_old_part(
    site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "net.pth"
    cut_for_good(site, target)
    site.files["/net.pth"] = new = os.urandom(500_000)
    download(address(site), target)
    assert target.read_bytes() == new


def test_a_part_without_a_known_version_or_hash_is_begun_anew(site: Site, tmp_path: Path) -> None:
    site.headers["ETag"] = None
    target = tmp_path / "net.pth"
    cut_for_good(site, target)
    site.asked.clear()
    download(address(site), target)
    assert target.read_bytes() == CONTENT and ranges(site) == [None]


def test_a_part_longer_than_the_file_is_begun_anew(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "net.pth"
    cut_for_good(site, target)
    site.files["/net.pth"] = CONTENT[:1000]
    download(address(site), target, sha256=hashlib.sha256(CONTENT[:1000]).hexdigest())
    assert target.read_bytes() == CONTENT[:1000]


def test_a_wrong_hash_is_one_line_and_nothing_stays(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"its sha256 is {SHA256[:12]}, 00112233 wanted") as caught:
        download(address(site), tmp_path / "net.pth", sha256="00112233")
    assert "\n" not in str(caught.value) and left(tmp_path) == []


def test_the_beginning_of_a_hash_is_enough(site: Site, tmp_path: Path) -> None:
    download(address(site), tmp_path / "net.pth", sha256=SHA256[:8])
    assert (tmp_path / "net.pth").is_file()


@pytest.mark.parametrize(
    ("status", "text"), [(404, "404 Not Found"), (403, "403 Forbidden"), (410, "410 Gone")]
)
def test_a_refusal_is_one_line_without_a_new_try(
    site: Site, tmp_path: Path, status: int, text: str
) -> None:
    site.status = status
    with pytest.raises(UserError, match=f"/net.pth: the server answers {text}"):
        download(address(site), tmp_path / "net.pth")
    assert len(site.asked) == 1 and not (tmp_path / "net.pth").exists()


def test_a_server_in_trouble_is_asked_several_times(site: Site, tmp_path: Path) -> None:
    site.status = 503
    with pytest.raises(UserError, match="503 Service Unavailable after 0 bytes, 4 times"):
        download(address(site), tmp_path / "net.pth")
    assert len(site.asked) == 4


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(Unreachable, match=r"cannot be reached \(Connection refused\)"):
        download(f"http://127.0.0.1:{port}/net.pth", tmp_path / "net.pth")
    assert not (tmp_path / "net.pth").exists()


def test_a_silent_server_is_given_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.1)
    monkeypatch.setattr(module, "TRIES", 1)
    site.pause = 1.0
    site.ranges = False  # every answer begins anew and stops at the same place
    with pytest.raises(UserError, match="the connection was cut after"):
        download(address(site), tmp_path / "net.pth")
    assert not (tmp_path / "net.pth").exists()


def test_a_slow_server_is_waited_for(site: Site, tmp_path: Path) -> None:
    site.pause = 0.02
    download(address(site), tmp_path / "net.pth")
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_a_full_disk_is_one_line_and_the_download_goes_on_once_there_is_room(
    site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "net.pth"
    with full_after(300_000), pytest.raises(UserError) as caught:
        download(address(site), target)
    line = str(caught.value)
    assert f"{target} cannot be written: {REASON}; make room" in line and "\n" not in line
    assert not target.exists()
    site.asked.clear()
    download(address(site), target)
    assert target.read_bytes() == CONTENT and ranges(site) == ["bytes=300000-"]


def test_a_file_larger_than_the_disk_is_refused_before_its_first_byte(
    site: Site, tmp_path: Path
) -> None:
    site.headers["Content-Length"] = str(10**17)
    with pytest.raises(UserError, match="100,000,000,000,000,000 bytes to come, and the disk of"):
        download(address(site), tmp_path / "net.pth")


def test_a_web_page_is_no_file(site: Site, tmp_path: Path) -> None:
    site.headers["Content-Type"] = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="sends a web page, not a file"):
        download(address(site), tmp_path / "net.pth")
    assert not (tmp_path / "net.pth").exists()


def test_a_file_of_unknown_length_needs_a_hash(site: Site, tmp_path: Path) -> None:
    site.headers["Content-Length"] = None
    with pytest.raises(UserError, match="does not say how long the file is"):
        download(address(site), tmp_path / "net.pth")
    download(address(site), tmp_path / "net.pth", sha256=SHA256)
    assert (tmp_path / "net.pth").read_bytes() == CONTENT


def test_two_processes_download_a_file_once(site: Site, tmp_path: Path) -> None:
    site.pause = 0.02
    target = tmp_path / "net.pth"
    problems: list[BaseException] = []

    def work() -> None:
        try:
            download(address(site), target)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and target.read_bytes() == CONTENT
    assert len(site.asked) == 1 and left(tmp_path) == ["net.pth"]


def test_a_killed_download_leaves_no_file_and_goes_on(site: Site, tmp_path: Path) -> None:
    site.pause = 0.1
    target = tmp_path / "net.pth"
    program = (
        "import sys; from pathlib import Path; from runtime.download import download; "
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, address(site), str(target)], cwd=ROOT
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not any(
        path.suffix == ".part" and path.stat().st_size for path in tmp_path.iterdir()
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    site.pause = 0.0
    download(address(site), target)
    assert target.read_bytes() == CONTENT
    assert str(ranges(site)[-1]).startswith("bytes=")
