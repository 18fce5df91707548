# SPDX-License-Identifier: Apache-2.0
"""What sinks have in common: which images they take, and how an interrupted dump continues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from datasets.spec import DatasetSpec
from metrics.result import Gather, Sink
from reports.stored_images import ImageRow, ImageStamps, StoredImages
from runtime.names import is_cut, output
from runtime.progress import Log


@dataclass(frozen=True, kw_only=True)
class DumpIdentity:
    """Which evaluation a dump is of, and which of its ranks writes.

    `key` names the evaluation (checkpoint, procedure, classes): with the same key an interrupted
    dump continues, with any other, and without one, it starts anew. `images` are the images of the
    data set with the stamps of their files; those with another stamp are stored again. `note` gets
    a line about every image whose name is too long for its files.
    """

    key: str = ""
    rank: int = 0
    images: ImageStamps | None = None
    note: Log | None = None


NEW_DUMP = DumpIdentity()


@dataclass(frozen=True, kw_only=True)
class PagePart:
    """What the report page shows of a sink: its images, and links, text -> file in the folder."""

    rows: Sequence[ImageRow] = ()
    links: Mapping[str, str] = field(default_factory=dict)


class ReportingSink(Sink, Protocol):
    """A sink of an evaluation that ends with a report; both are asked on rank 0, after `close`."""

    def page_part(self) -> PagePart | None:
        """Its part of the report page, which is written where a sink has one."""

    def report(self, protocol: Mapping[str, Any]) -> str:
        """Write what needs all images at once; a line for the log, or nothing.

        `protocol` says how the predictions were obtained. Raises UserError for incomplete files.
        """


class EveryImageSink:
    """Takes every image of the data set, in every evaluation anew, and reports nothing."""

    def page_part(self) -> PagePart | None:
        """Nothing on the report page."""
        return None

    def report(self, protocol: Mapping[str, Any]) -> str:
        """No line for the log."""
        return ""

    def wants(self, index: int) -> bool:
        """Every image of the data set."""
        return True

    def done(self, name: str) -> bool:
        """Nothing is kept of an earlier evaluation."""
        return False


class ResumableSink(EveryImageSink):
    """Notes every stored image in the list `title` of `out_dir`, or of its folder `inside`.

    A subclass says what it needs and what `add` does. After `close`, `rows` holds the images of all
    ranks in data set order.
    """

    def __init__(
        self, out_dir: Path, spec: DatasetSpec, title: str, identity: DumpIdentity, inside: str = ""
    ) -> None:
        self.out_dir, self.spec, self.note = Path(out_dir), spec, identity.note
        self.stored = StoredImages(
            self.out_dir / inside, title, identity.key, identity.rank, identity.images
        )
        self.rows: list[ImageRow] = []
        self._noted: set[str] = set()

    def file(self, name: str, before: str = "", after: str = "") -> str:
        """The relative path of a file about the image `name`, sub-folders kept."""
        path = str(output(name, before=before, after=after))
        if is_cut(name, path) and name not in self._noted:
            self._noted.add(name)
            if self.note is not None:
                self.note(f"{name}: too long a name for its files, which get shorter ones: {path}")
        return path

    def done(self, name: str) -> bool:
        """Whether an earlier evaluation has stored this image."""
        return name in self.stored

    def close(
        self, rank: int, world: int, gather: Gather
    ) -> Sequence[tuple[str, Exception]] | None:
        """Wait until all ranks have written their images, and collect their rows."""
        self.rows = self.stored.merge(gather(self.stored.rows))
        return None
