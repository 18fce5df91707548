# SPDX-License-Identifier: Apache-2.0
"""Single files by address, and those that timm and torchvision list, in torch's folder."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from network.fetch import fetch
from network.fetch.web import fetch_file, named_hash
from runtime.errors import UserError
from tests.web_server import Site, serving

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TV_URL = "https://download.pytorch.org/models/resnet50-0676ba61.pth"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's folder for downloads, in a home of its own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return Path(torch.hub.get_dir()) / "checkpoints"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(files={"/a/net.pth": CONTENT, "/b/net.pth": b"other"})) as running:
        yield running


def test_an_address_becomes_a_file_in_the_folder_of_torch(site: Site, folder: Path) -> None:
    lines: list[str] = []
    found = fetch(f"{site.url}/a/net.pth?download=1", lines.append)
    path = Path(found.path)
    assert path.read_bytes() == CONTENT and path.name == "net.pth"
    assert path.parent.parent == folder
    assert found.revision == f"sha256:{SHA256}" and "downloading" in lines[0]
    asked = len(site.asked)
    assert fetch(f"{site.url}/a/net.pth?download=1") == found and len(site.asked) == asked


def test_files_of_one_name_from_two_addresses_stay_apart(site: Site, folder: Path) -> None:
    first, second = (fetch(f"{site.url}/{name}/net.pth") for name in "ab")
    assert Path(first.path).read_bytes() == CONTENT
    assert Path(second.path).read_bytes() == b"other"


def test_a_hash_in_the_address_is_checked_at_every_start(site: Site, folder: Path) -> None:
    found = fetch(f"{site.url}/a/net.pth#sha256={SHA256}")
    Path(found.path).write_bytes(b"changed since")
    with pytest.raises(UserError, match="remove it to download it again") as caught:
        fetch(f"{site.url}/a/net.pth#sha256={SHA256}")
    assert found.path in str(caught.value)
    with pytest.raises(UserError, match="00000000 wanted; what came was removed"):
        fetch(f"{site.url}/b/net.pth#sha256=00000000")


def test_without_network_one_line_says_where_it_would_be_and_how_to_get_it(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        fetch("http://127.0.0.1:9/net.pth")
    line = str(caught.value)
    assert "cannot be reached" in line and f"it was looked for at {folder}" in line
    assert 'curl -L --create-dirs -o "' in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("https://host/", "the address of a file wanted"),
        ("https:///net.pth", "the address of a file wanted"),
        ("https://me:secret@host/net.pth", "^host: no user name"),
        ("https://host/net.pth#md5=1", "only sha256= with 8 to 64 hexadecimal digits"),
        ("https://host/net.pth#sha256=xyz", "only sha256= with 8 to 64 hexadecimal digits"),
        ("ftp://host/net.pth", "a file, a folder or one of hf:, timm:"),
        ("https://[/net.pth", "is no web address"),
    ],
)
def test_an_address_that_means_nothing_is_one_line(name: str, text: str) -> None:
    with pytest.raises(UserError, match=text) as caught:
        fetch(name)
    assert "secret" not in str(caught.value)


def test_a_name_of_a_file_comes_back_as_it_is() -> None:
    found = fetch("some/folder")
    assert (found.path, found.revision) == ("some/folder", "")


def test_a_file_that_timm_downloaded_is_taken(folder: Path) -> None:
    path = folder / "hrnet-none.pth"
    folder.mkdir(parents=True)
    path = folder / "resnet50_a1_0-14fe96d1.pth"
    path.write_bytes(CONTENT)
    found = fetch("timm:resnet50.a1_in1k")
    assert (found.path, found.revision) == (str(path), f"sha256:{SHA256}")
    assert found.licence == "apache-2.0"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:hrnet_w19", "timm knows no hrnet_w19; did you mean hrnet_w1"),
        ("timm:resnet50.none", "timm has no tag none of resnet50; there are resnet50."),
        ("torchvision:resnet49", "torchvision knows no resnet49; did you mean resnet"),
        ("torchvision:resnet50.V9", "no weights V9; there are IMAGENET1K_V1, IMAGENET1K_V2"),
    ],
)
def test_a_name_that_a_library_does_not_know_gets_the_nearest(name: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        fetch(name)


def test_a_file_of_torchvision_must_have_the_hash_in_its_name(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "resnet50-0676ba61.pth").write_bytes(CONTENT)
    with pytest.raises(UserError, match=f"has sha256 {SHA256[:12]}, 0676ba61 wanted"):
        fetch("torchvision:resnet50.IMAGENET1K_V1")
    assert (folder / "resnet50-0676ba61.pth").read_bytes() == CONTENT


def test_weights_of_torchvision_come_from_its_table(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = importlib.import_module("torchvision.models")
    site.files[f"/net-{SHA256[:8]}.pth"] = CONTENT
    enum = models.get_model_weights("resnet50")
    value = SimpleNamespace(url=f"{site.url}/net-{SHA256[:8]}.pth")
    monkeypatch.setattr(enum.IMAGENET1K_V1, "_value_", value)
    found = fetch("torchvision:resnet50.IMAGENET1K_V1")
    assert found.path == str(folder / f"net-{SHA256[:8]}.pth")


@pytest.mark.parametrize(
    ("url", "mark"),
    [(TV_URL, "0676ba61"), ("https://h/mnasnet0.5_top1_67.823-3ffadce67e.pth", "3ffadce67e"),
     ("https://h/net.pth", ""), ("https://h/a-12345678/net.pth", "")],
)  # fmt: skip
def test_the_hash_in_a_name(url: str, mark: str) -> None:
    assert named_hash(url) == mark


def test_a_folder_in_place_of_the_file_is_one_line(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file"):
        fetch_file("net", f"{site.url}/a/net.pth", print, target=tmp_path)
