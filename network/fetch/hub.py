# SPDX-License-Identifier: Apache-2.0
"""Repositories of the Hugging Face hub, downloaded by its own library into its own cache.

    hf:nvidia/mit-b0                 the configuration and the weights of a repository
    hf:nvidia/mit-b0@80983a4         of a branch, a tag or a commit
    hf:owner/name/folder/net.pth     one file of it

Without a network, or with HF_HUB_OFFLINE=1, what is in the cache is used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from network.convert.hub import CONFIG, PREPROCESSOR, WEIGHT_FILES
from network.fetch.place import Fetched, elsewhere, library
from runtime.download import sha256_of
from runtime.errors import UserError
from runtime.files import is_fatal
from runtime.limits import one_line
from runtime.remote import HUB

EXTRA = "huggingface_hub>=1.0"
SHA256 = re.compile(r"[0-9a-f]{64}")


class Repository:
    """One revision of a repository, file by file; errors name `name`, as the user typed it."""

    def __init__(self, name: str, repo: str, revision: str) -> None:
        self.hub = library("huggingface_hub", name, EXTRA)
        self.errors = library("huggingface_hub.errors", name, EXTRA)
        self.constants = library("huggingface_hub.constants", name, EXTRA)
        self.name, self.repo, self.revision = name, repo, revision or "main"
        self.commit = ""

    @property
    def folder(self) -> Path:
        """Where the cache keeps the repository."""
        cache = Path(self.constants.HF_HUB_CACHE)
        return cache / f"models--{self.repo.replace('/', '--')}"

    def file(self, filename: str) -> Path | None:
        """A file of the repository, None if it holds none of that name.

        All files come from the commit of the first one. Raises UserError; `NotCached` without a
        network.
        """
        wanted: dict[str, Any] = {
            "repo_id": self.repo,
            "filename": filename,
            "revision": self.commit or self.revision,
        }
        known = self._known(wanted)
        try:
            path = Path(self.hub.hf_hub_download(**wanted))
        except self.errors.LocalEntryNotFoundError as error:
            raise NotCached(self._offline(str(error.__cause__ or error))) from error
        except self.errors.EntryNotFoundError:
            return None
        except UserError:
            raise
        except Exception as error:  # its own, those of its transport, and those of the disk
            raise UserError(self._refusal(error)) from error
        if not known:
            self._check(path)
        self.commit = self.commit or path.relative_to(self.folder / "snapshots").parts[0]
        return path

    def _known(self, wanted: dict[str, Any]) -> bool:
        """Whether the file is in the cache already; False too for names that no repository has."""
        try:
            return isinstance(self.hub.try_to_load_from_cache(**wanted), str)
        except ValueError:  # hf_hub_download says what is wrong with the name
            return False

    def _check(self, path: Path) -> None:
        """Large files are stored under their sha256: UserError, and no file, if it is another."""
        blob = path.resolve()
        if SHA256.fullmatch(blob.name) and (found := sha256_of(blob)) != blob.name:
            path.unlink()
            blob.unlink(missing_ok=True)
            raise UserError(
                f"{self.name}: {path.name} arrived with sha256 {found[:12]}, {blob.name[:12]} "
                "wanted; it was removed"
            )

    def _offline(self, reason: str) -> str:
        at = "" if self.revision == "main" else f" --revision {self.revision}"
        return (
            f"{self.name} is not in the cache and cannot be downloaded "
            f"({one_line(reason)}): "
            + elsewhere(self.name, self.folder, f"hf download {self.repo}{at}")
        )

    def _refusal(self, error: Exception) -> str:
        """Why the hub or the disk refuses, and what to do."""
        page = f"{self.constants.ENDPOINT}/{self.repo}"
        if isinstance(error, self.errors.GatedRepoError):
            return f"{self.name}: accept its terms at {page}, then `hf auth login`"
        if isinstance(error, self.errors.RepositoryNotFoundError):
            return f"{self.name}: there is no such repository ({page}), or it needs `hf auth login`"
        if isinstance(error, self.errors.RevisionNotFoundError):
            return f"{self.name}: {self.repo} has no branch, tag or commit {self.revision}"
        if isinstance(error, self.errors.HFValidationError):
            return f"{self.name}: {one_line(str(error))}; hf:OWNER/NAME or hf:OWNER/NAME@REV wanted"
        if is_fatal(error):
            assert isinstance(error, OSError)
            return f"{self.name}: {self.folder} cannot be written: {error.strerror}"
        return f"{self.name} cannot be downloaded: {type(error).__name__}: {one_line(str(error))}"


class NotCached(UserError):
    """There is no network, and the file has not been downloaded before."""


def parse(name: str) -> tuple[str, str, str]:
    """`hf:OWNER/NAME[/FILE][@REV]` as repository, file and revision; the last two may be empty."""
    place, _, revision = name.removeprefix(HUB).partition("@")
    parts = [part for part in place.split("/") if part]
    if not parts or place.strip("/") != "/".join(parts) or name.endswith("@"):
        raise UserError(f"{name}: hf:OWNER/NAME or hf:OWNER/NAME@REV wanted")
    return "/".join(parts[:2]), "/".join(parts[2:]), revision


def fetch_hub(name: str) -> Fetched:
    """The repository or file that `name` stands for; UserError as in `Repository`."""
    repo, filename, revision = parse(name)
    return fetch_repository(name, repo, revision, filename)


def fetch_repository(name: str, repo: str, revision: str = "", filename: str = "") -> Fetched:
    """One file of a repository, or its configuration and weights as a folder."""
    source = Repository(name, repo, revision)
    if filename:
        path = source.file(filename)
        if path is None:
            raise UserError(f"{name}: {repo} has no file {filename}")
        return Fetched(name=name, path=str(path), revision=source.commit)
    config = source.file(CONFIG)
    if config is None:
        raise UserError(
            f"{name}: {repo} has no {CONFIG}, so it is no model in hub format; name a file of it: "
            f"hf:{repo}/FILE"
        )
    _weights(source)
    _optional(source, PREPROCESSOR)
    return Fetched(name=name, path=str(config.parent), revision=source.commit)


def _weights(source: Repository) -> None:
    """The first kind of weights that there is; without a network the first that was downloaded."""
    missing: NotCached | None = None
    for filename in WEIGHT_FILES:
        try:
            if source.file(filename) is not None:
                return
        except NotCached as error:
            missing = error
    if missing is not None:
        raise missing
    raise UserError(f"{source.name}: {source.repo} holds neither {' nor '.join(WEIGHT_FILES)}")


def _optional(source: Repository, filename: str) -> None:
    """A file that not every repository has; one that was not downloaded with the rest is none."""
    try:
        source.file(filename)
    except NotCached:
        return
