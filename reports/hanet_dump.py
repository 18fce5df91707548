# SPDX-License-Identifier: Apache-2.0
"""The images that HANet's evaluation writes, in four folders below the run directory.

    rgb/NAME_color.png        prediction in the colours of the classes, palette image
    pred/NAME.png             raw label ids, as benchmark servers want them
    compose/NAME_compose.png  image and colours, half each
    diff/NAME_diff.png        the blend where the prediction is wrong, white elsewhere

NAME is the file name of the image without its ending and folders. Without a label there is no diff.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.spec import DatasetSpec, Item
from metrics.result import ImageResult
from reports.files import encode_png
from reports.image_dump import composite
from reports.rawids import to_raw_ids
from reports.sinks import NEW_DUMP, DumpIdentity, ResumableSink
from reports.stored_images import ImageRow
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.names import relative

WHITE, HALF = 255, 0.5


class FourFoldersSink(ResumableSink):
    """Writes the four pictures of every image.

    `items` are the images of the split: UserError if two of them share a file name.
    """

    needs: frozenset[str] = frozenset({"image"})

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        identity: DumpIdentity = NEW_DUMP,
    ) -> None:
        super().__init__(out_dir, spec, "four", identity)
        counts = Counter(relative(item.name).name for item in items)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise UserError(
                f"--dump_images: {counts[twice[0]]} images are named {twice[0]}; use "
                "--dump_all_images, which keeps folders"
            )

    def add(self, result: ImageResult) -> None:
        """Write the pictures of one image, then note it as stored."""
        name = relative(result.name).name
        files = {}
        for kind, (end, content) in self._pictures(result).items():
            files[kind] = f"{kind}/{self.file(name, after=f'{end}.png')}"
            write_atomic(self.out_dir / files[kind], content)
        size = (int(result.pred.shape[0]), int(result.pred.shape[1]))
        self.stored.add(ImageRow(name=result.name, index=result.index, size=size, files=files))

    def _pictures(self, result: ImageResult) -> dict[str, tuple[str, bytes]]:
        """Folder -> end of the file name, PNG."""
        assert result.image is not None
        palette = self.spec.flat_palette()
        blend = composite(result.image, result.pred, palette, HALF)
        pictures = {
            "rgb": ("_color", encode_png(result.pred, palette)),
            "pred": ("", encode_png(to_raw_ids(result.pred, self.spec))),
            "compose": ("_compose", encode_png(blend)),
        }
        if result.label is not None:
            right = (result.pred == result.label) | (result.label >= self.spec.num_classes)
            shown = np.where(right[..., None], np.uint8(WHITE), blend)
            pictures["diff"] = ("_diff", encode_png(shown))
        return pictures
