# SPDX-License-Identifier: Apache-2.0
"""`hf:` against a hub on this machine, in other processes: the library reads HF_ENDPOINT once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from network.fetch.hub import parse
from runtime.errors import UserError
from tests.web_server import COMMIT, OTHER_COMMIT, Site, serving

ROOT = Path(__file__).resolve().parent.parent.parent.parent
REPO = "owner/net"
CONFIG = json.dumps({"architectures": ["SegformerModel"]}).encode()
PROGRAM = """
import sys
from network.fetch import fetch
from runtime.errors import UserError
for name in sys.argv[1:]:
    try:
        found = fetch(name)
        print(found.path, found.revision)
    except UserError as error:
        print("error:", error)
"""


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site()) as running:
        running.put(REPO, "config.json", CONFIG)
        running.put(REPO, "model.safetensors", b"weights")
        running.put(REPO, "preprocessor_config.json", b"{}")
        yield running


def fetched(site: Site | None, home: Path, *names: str, **environment: str) -> list[str]:
    """A line for each name: path and revision, or the error. Without `site` nobody listens."""
    env = {
        **os.environ,
        "HF_ENDPOINT": site.url if site else "http://127.0.0.1:9",
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_repository_becomes_a_folder_in_the_cache_of_the_hub_and_stays_usable_without_network(
    site: Site, tmp_path: Path
) -> None:
    lines = fetched(site, tmp_path, f"hf:{REPO}")
    folder = tmp_path / "hub" / "models--owner--net" / "snapshots" / COMMIT
    assert lines == [f"{folder} {COMMIT}"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json"
    ]  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    names = (f"hf:{REPO}", f"hf:{REPO}@{COMMIT}")
    assert fetched(None, tmp_path, *names, HF_HUB_OFFLINE="1") == lines * 2


@pytest.mark.slow
def test_what_a_name_can_ask_for(site: Site, tmp_path: Path) -> None:
    site.put("owner/old", "config.json", CONFIG, OTHER_COMMIT)
    site.put("owner/old", "pytorch_model.bin", b"pickle", OTHER_COMMIT)
    site.put("owner/bare", "deep/net.pth", b"alone")
    site.put("owner/empty", "config.json", CONFIG)
    lines = fetched(
        site, tmp_path,
        f"hf:owner/old@{OTHER_COMMIT}", "hf:owner/bare/deep/net.pth", "hf:owner/bare",
        "hf:owner/empty", "hf:owner/none", "hf:owner/bare/none.pth", "hf:o..w//x", "hf:owner/--x--",
    )  # fmt: skip
    cache = tmp_path / "hub"
    assert lines[0] == f"{cache}/models--owner--old/snapshots/{OTHER_COMMIT} {OTHER_COMMIT}"
    assert lines[1] == f"{cache}/models--owner--bare/snapshots/{COMMIT}/deep/net.pth {COMMIT}"
    assert "hf:owner/bare: owner/bare has no config.json" in lines[2]
    assert "owner/empty holds neither model.safetensors nor pytorch_model.bin" in lines[3]
    assert "hf:owner/none: there is no such repository" in lines[4]
    assert "owner/bare has no file none.pth" in lines[5]
    assert "hf:OWNER/NAME or hf:OWNER/NAME@REV wanted" in lines[6]
    assert "hf:OWNER/NAME or hf:OWNER/NAME@REV wanted" in lines[7]
    assert len(lines) == 8


def test_without_network_one_line_says_where_it_would_be_and_how_to_get_it(tmp_path: Path) -> None:
    (line,) = fetched(None, tmp_path, f"hf:{REPO}@v1", HF_HUB_OFFLINE="1")
    assert line.startswith(f"error: hf:{REPO}@v1 is not in the cache and cannot be downloaded")
    assert f"it was looked for at {tmp_path}/hub/models--owner--net" in line
    assert f"`hf download {REPO} --revision v1` brings it there" in line


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_no_network(site: Site, tmp_path: Path) -> None:
    (line,) = fetched(site, tmp_path, f"hf:{REPO}")
    again, other = fetched(None, tmp_path, f"hf:{REPO}", "hf:owner/other")
    assert again == line
    assert "hf:owner/other is not in the cache and cannot be downloaded" in other


@pytest.mark.slow
def test_weights_of_another_hash_than_the_hub_says_are_removed(site: Site, tmp_path: Path) -> None:
    site.headers["ETag"] = '"' + "0" * 64 + '"'
    (line,) = fetched(site, tmp_path, f"hf:{REPO}/model.safetensors")
    assert "model.safetensors arrived with sha256" in line and "000000000000 wanted" in line
    files = [path for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()]
    assert not [path for path in files if path.name == "model.safetensors"]
    assert not [path for path in files if path.name == "0" * 64]


@pytest.mark.slow
def test_a_library_that_is_not_installed_is_named_with_the_command(tmp_path: Path) -> None:
    hidden = tmp_path / "huggingface_hub"
    hidden.mkdir()
    (hidden / "__init__.py").write_text(
        "raise ModuleNotFoundError('No module named huggingface_hub', name='huggingface_hub')"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    (line,) = fetched(None, tmp_path, f"hf:{REPO}", PYTHONPATH=path, PYTHONSAFEPATH="1")
    assert line == f'error: hf:{REPO} needs huggingface_hub: pip install "huggingface_hub>=1.0"'


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hf:nvidia/mit-b0", ("nvidia/mit-b0", "", "")),
        ("hf:gpt2@main", ("gpt2", "", "main")),
        ("hf:a/b/c/d.pth@v1.0", ("a/b", "c/d.pth", "v1.0")),
    ],
)
def test_the_parts_of_a_name(name: str, parts: tuple[str, str, str]) -> None:
    assert parse(name) == parts


@pytest.mark.parametrize("name", ["hf:", "hf:@main", "hf:a//b", "hf:a/b@"])
def test_a_name_without_a_repository_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="hf:OWNER/NAME or hf:OWNER/NAME@REV wanted"):
        parse(name)
