# SPDX-License-Identifier: Apache-2.0
"""Labels made by a network: {name}.png with raw ids, {name}_prob.png with confidences.

The confidence is the largest softmax value times 255, truncated. Sub-folders of names are
kept, which gives the layout that the auto-labelled training set is read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.spec import DatasetSpec, Item
from reports.files import encode_png, grey, safe_name, write_atomic
from reports.journal import ImageRow, Journal
from reports.rawids import image_size, to_raw_ids, to_size

if TYPE_CHECKING:
    from engine.result import Gather, Result


class AutoLabelSink:
    """Writes ids and confidences of every image under `out_dir`, at the size of its file.

    `items` are the images of the data set. `key` as in DumpSink.
    """

    needs = frozenset({"prob"})

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        *,
        key: str = "",
        rank: int = 0,
    ) -> None:
        self.out_dir, self.spec = Path(out_dir), spec
        self.images = {item.name: item.image for item in items}
        self.journal = Journal(self.out_dir, "autolabel", key, rank)
        self.rows: list[ImageRow] = []

    def wants(self, index: int) -> bool:
        return True

    def done(self, name: str) -> bool:
        return name in self.journal

    def add(self, result: Result) -> None:
        """Write both files of one image, then note it as stored."""
        assert result.prob is not None
        size = image_size(self.images[result.name])
        ids = to_size(to_raw_ids(result.pred, self.spec), size, result.name)
        prob = to_size(grey(result.prob)[:, :, 0], size, result.name)
        path = safe_name(result.name)
        files = {"ids": f"{path}.png", "prob": f"{path}_prob.png"}
        write_atomic(self.out_dir / files["prob"], encode_png(prob))
        write_atomic(self.out_dir / files["ids"], encode_png(ids))
        self.journal.add(ImageRow(name=result.name, index=result.index, size=size, files=files))

    def close(self, rank: int, world: int, gather: Gather) -> None:
        """Collect the rows of all ranks."""
        self.rows = self.journal.merge(gather(self.journal.rows))
