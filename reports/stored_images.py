# SPDX-License-Identifier: Apache-2.0
"""What a dump has written so far, so that an interrupted one continues.

Each rank appends one JSON line for every stored image to `.{title}-{rank}.jsonl` after the image's
files are complete. The first line holds the key of the evaluation (checkpoint, procedure, classes):
files with another key belong to another evaluation and are not trusted. Every row also holds the
stamp of its image's files, so an image that changed is stored again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.files import write_atomic

ImageStamps = Mapping[str, tuple[int, str]]  # name -> position in the data set, stamp of its files


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One stored image. `files` maps a kind ("input", "attn_05x", ...) to a relative path.

    `mean_iu` and `accuracy` are of this image alone, None without a label; `mistakes` are the
    largest (ground truth, prediction, share of the scored pixels). `facts` is what else a sink
    records about the image, in JSON types. `stamp` stands for the files it was made from.
    """

    name: str
    index: int
    size: tuple[int, int]  # height, width in pixels
    files: dict[str, str] = field(default_factory=dict)
    mean_iu: float | None = None
    accuracy: float | None = None
    mistakes: tuple[tuple[int, int, float], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    stamp: str = ""


def score_image(confusion: npt.NDArray[np.int64] | None, num_mistakes: int = 3) -> dict[str, Any]:
    """The score entries of an ImageRow from the (K, K) matrix of one image.

    The mean is over the classes in label or prediction. Nothing scored: no entries.
    """
    if confusion is None or confusion.sum() == 0:
        return {}
    hits, total = np.diag(confusion), int(confusion.sum())
    union = confusion.sum(0) + confusion.sum(1) - hits
    wrong = confusion - np.diag(hits)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:num_mistakes]
    pairs = [divmod(int(place), len(hits)) for place in largest]
    return {
        "mean_iu": float((hits[union > 0] / union[union > 0]).mean()),
        "accuracy": float(hits.sum() / total),
        "mistakes": tuple((g, p, float(wrong[g, p] / total)) for g, p in pairs if wrong[g, p]),
    }


class StoredImages:
    """Rows of the images stored under `directory`, by name.

    With an empty key nothing is ever continued: every evaluation starts from the beginning. With
    `images`, rows of all other images, and of those whose stamp has changed, do not count.
    """

    def __init__(
        self, directory: Path, title: str, key: str, rank: int, images: ImageStamps | None = None
    ) -> None:
        self.directory, self.title, self.key, self.images = directory, title, key, images
        self.rows: dict[str, ImageRow] = {}
        if key:
            for path in sorted(directory.glob(f".{title}-*.jsonl")):
                self.rows |= self._read(path)
        self.path = directory / f".{title}-{rank}.jsonl"
        self._own = self._read(self.path) if key else {}
        self._opened = False

    def _read(self, path: Path) -> dict[str, ImageRow]:
        """Rows whose files exist; an incomplete last line, which a kill leaves, is dropped."""
        rows = {}
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        if not lines or lines[0] != self._header():
            return {}
        for line in lines[1:]:
            try:
                content = json.loads(line)
                content["size"] = tuple(content["size"])
                content["mistakes"] = tuple(tuple(item) for item in content["mistakes"])
                row = self._current(ImageRow(**content))
            except (ValueError, TypeError, KeyError):  # a full disk or a crash of the machine
                break
            if row and all((self.directory / file).exists() for file in row.files.values()):
                rows[row.name] = row
        return rows

    def _current(self, row: ImageRow) -> ImageRow | None:
        """`row` at its present position; None if the image is gone or has changed."""
        if self.images is None:
            return row
        index, stamp = self.images.get(row.name, (0, None))
        return dataclasses.replace(row, index=index) if row.stamp == stamp else None

    def _header(self) -> str:
        return json.dumps({"key": self.key})

    def __contains__(self, name: str) -> bool:
        return name in self.rows

    def add(self, row: ImageRow) -> None:
        """Note a stored image; on disk when this returns."""
        if not self._opened:
            self._rewrite()
        if self.images is not None:
            row = dataclasses.replace(row, stamp=self.images[row.name][1])
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(row)) + "\n")
        self.rows[row.name] = row

    def _rewrite(self) -> None:
        """Rewrite this rank's file, which may end in an incomplete line or belong to something
        else."""
        kept = [json.dumps(dataclasses.asdict(row)) for row in self._own.values()]
        write_atomic(self.path, "\n".join([self._header(), *kept, ""]).encode())
        self._opened = True

    def merge(self, others: list[dict[str, ImageRow]]) -> list[ImageRow]:
        """Take over the rows of all ranks; returns them in the order of the data set."""
        for rows in others:
            self.rows |= rows
        return sorted(self.rows.values(), key=lambda row: (row.index, row.name))
