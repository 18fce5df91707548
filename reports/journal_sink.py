# SPDX-License-Identifier: Apache-2.0
"""What all sinks that write files for every image share: a journal of what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.spec import DatasetSpec
from reports.journal import ImageRow, Images, Journal
from runtime.names import is_cut, output

if TYPE_CHECKING:
    from engine.result import Gather


class JournalSink:
    """Notes every stored image in the journal `title` of `out_dir`, or of its folder `inside`.

    `key` names the evaluation (checkpoint, procedure, classes): with the same key an interrupted
    dump continues, with any other, and without one, it starts again. `images` are the images of the
    data set with the stamps of their files; those with another stamp are stored again. A subclass
    says what it needs and what `add` does. After `close`, `rows` holds the images of all ranks in
    data set order. `note` gets a line about every image whose name is too long for its files.
    """

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        title: str,
        key: str,
        rank: int,
        inside: str = "",
        images: Images | None = None,
    ) -> None:
        self.out_dir, self.spec = Path(out_dir), spec
        self.journal = Journal(self.out_dir / inside, title, key, rank, images)
        self.rows: list[ImageRow] = []
        self.note: Callable[[str], None] | None = None
        self._noted: set[str] = set()

    def file(self, name: str, before: str = "", after: str = "") -> str:
        """The relative path of a file about the image `name`, sub-folders kept."""
        path = str(output(name, before=before, after=after))
        if is_cut(name, path) and name not in self._noted:
            self._noted.add(name)
            if self.note is not None:
                self.note(
                    f"{name}: the name is too long for its files, which get shorter ones: {path}"
                )
        return path

    def wants(self, index: int) -> bool:
        """Every image of the data set."""
        return True

    def done(self, name: str) -> bool:
        """Whether the journal knows this image."""
        return name in self.journal

    def close(
        self, rank: int, world: int, gather: Gather
    ) -> Sequence[tuple[str, Exception]] | None:
        """Wait until all ranks have written their images, and collect their rows."""
        self.rows = self.journal.merge(gather(self.journal.rows))
        return None
