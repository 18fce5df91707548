# SPDX-License-Identifier: Apache-2.0
"""Single files by web address, in the folder of `torch.hub`.

https://host/net.pth
https://host/net.pth#sha256=9f86d081884c7d65...     checked, at every start
"""

from __future__ import annotations

import hashlib
import re
import urllib.parse
from pathlib import Path

import torch

from network.fetch.place import Fetched, Tell, elsewhere
from runtime.download import Unreachable, download, sha256_of
from runtime.errors import UserError
from runtime.names import HASH_LETTERS, part
from runtime.progress import Pace, Progress

MARK = "sha256="
NAMED_HASH = re.compile(r"-([0-9a-f]{8,})\.")  # torch's convention: name-HASH.pth
HEX = re.compile(r"[0-9a-f]{8,64}")


def torch_folder() -> Path:
    """Where torch, timm and torchvision keep what they download."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def named_hash(url: str) -> str:
    """The beginning of the sha256 that a file name holds by torch's convention; else empty."""
    found = NAMED_HASH.search(_basename(url))
    return found[1] if found else ""


def _basename(url: str) -> str:
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return path.rsplit("/", 1)[-1]


def fetch_file(
    name: str, url: str, tell: Tell, *, target: Path | None = None, sha256: str = ""
) -> Fetched:
    """The file at `url`, downloaded to `target` unless it is there.

    target: by default the name that torch, timm and torchvision give it. sha256: what it must
    have, or the beginning of it. Raises UserError; a file that is there and has another hash
    stays, it is not ours.
    """
    target = target or torch_folder() / part(_basename(url))
    if not target.exists():
        tell(f"{name}: downloading {url}")
        try:
            download(url, target, sha256=sha256, progress=_teller(name, tell))
        except Unreachable as error:
            command = f'curl -L --create-dirs -o "{target}" "{url}"'
            raise UserError(f"{name}: {error}: {elsewhere(name, target, command)}") from error
    if not target.is_file():
        raise UserError(f"{name}: {target} is no file")
    found = sha256_of(target)
    if not found.startswith(sha256):
        raise UserError(
            f"{name}: {target} has sha256 {found[: max(len(sha256), 12)]}, {sha256} wanted; remove "
            "it to download it again"
        )
    return Fetched(name=name, path=str(target), revision=f"sha256:{found}")


def _teller(name: str, tell: Tell) -> Progress:
    """A line about the download every few seconds."""
    pace = Pace()

    def report(done: int, total: int | None) -> None:
        if pace.is_due():
            share = "" if not total else f" of {total / 1e6:,.0f}"
            tell(f"{name}: {done / 1e6:,.0f}{share} MB")

    return report


def fetch_address(name: str, tell: Tell) -> Fetched:
    """The file of an address that the user typed; UserError as in `fetch_file`.

    Files of one name come from many addresses, so each address has a folder of its own.
    """
    url, _, fragment = name.partition("#")
    try:
        split = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UserError(f"{name} is no web address: {error}") from error
    if not split.netloc or not _basename(url):
        raise UserError(f"{name}: the address of a file wanted, https://HOST/FOLDER/FILE")
    if split.username is not None:
        raise UserError(f"{split.hostname}: no user name in an address: logs would show it")
    sha256 = fragment.removeprefix(MARK).lower() if fragment else ""
    if fragment and (not fragment.startswith(MARK) or not HEX.fullmatch(sha256)):
        raise UserError(f"{name}: after # only {MARK} with 8 to 64 hexadecimal digits is known")
    mark = hashlib.sha256(url.encode()).hexdigest()[:HASH_LETTERS]
    target = torch_folder() / mark / part(_basename(url))
    return fetch_file(name, url, tell, target=target, sha256=sha256)
