# SPDX-License-Identifier: Apache-2.0
"""What the sinks that write files of every image have in common: a journal of what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from datasets.spec import DatasetSpec
from reports.journal import ImageRow, Journal

if TYPE_CHECKING:
    from engine.result import Gather


class JournalSink:
    """Notes every stored image in the journal `title` of `out_dir`, or of its folder `inside`.

    `key` names the evaluation (checkpoint, procedure, data): with the same key an interrupted
    dump continues, with any other, and without one, it starts anew. A subclass says what it
    needs and what `add` does. After `close`, `rows` holds the images of all ranks in data set
    order.
    """

    def __init__(
        self, out_dir: Path, spec: DatasetSpec, title: str, key: str, rank: int, inside: str = ""
    ) -> None:
        self.out_dir, self.spec = Path(out_dir), spec
        self.journal = Journal(self.out_dir / inside, title, key, rank)
        self.rows: list[ImageRow] = []

    def wants(self, index: int) -> bool:
        """Every image of the data set."""
        return True

    def done(self, name: str) -> bool:
        """Whether the journal knows this image."""
        return name in self.journal

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Wait until all ranks have written their images, and collect their rows."""
        self.rows = self.journal.merge(gather(self.journal.rows))
