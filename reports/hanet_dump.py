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
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.spec import DatasetSpec, Item
from reports.files import encode_png
from reports.journal import ImageRow, Images
from reports.journal_sink import JournalSink
from reports.rawids import to_raw_ids
from runtime.errors import UserError
from runtime.files import write_atomic
from runtime.names import relative

if TYPE_CHECKING:
    from engine.result import Result

WHITE = 255


class FourFoldersSink(JournalSink):
    """Writes the four pictures of every image.

    `items` are the images of the split: UserError if two of them share a file name.
    """

    needs: frozenset[str] = frozenset({"image"})

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        items: Sequence[Item],
        *,
        key: str = "",
        rank: int = 0,
        images: Images | None = None,
    ) -> None:
        super().__init__(out_dir, spec, "four", key, rank, images=images)
        counts = Counter(relative(item.name).name for item in items)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise UserError(
                f"--dump_images: {counts[twice[0]]} images are named {twice[0]}; use "
                "--dump_all_images, which keeps folders"
            )

    def add(self, result: Result) -> None:
        """Write the pictures of one image, then note it as stored."""
        name = relative(result.name).name
        files = {}
        for kind, (end, content) in self._pictures(result).items():
            files[kind] = f"{kind}/{self.file(name, after=f'{end}.png')}"
            write_atomic(self.out_dir / files[kind], content)
        size = (int(result.pred.shape[0]), int(result.pred.shape[1]))
        self.journal.add(ImageRow(name=result.name, index=result.index, size=size, files=files))

    def _pictures(self, result: Result) -> dict[str, tuple[str, bytes]]:
        """Folder -> end of the file name, PNG."""
        assert result.image is not None
        palette = self.spec.flat_palette()
        blend = half_blend(result.image, result.pred, palette)
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


def half_blend(
    image: npt.NDArray[np.uint8], pred: npt.NDArray[np.uint8], palette: list[int]
) -> npt.NDArray[Any]:
    """Image (H, W, 3) and the colours of the prediction (H, W), half each."""
    colors = np.asarray(palette, np.uint8).reshape(256, 3)[pred]
    return np.asarray(Image.blend(Image.fromarray(image), Image.fromarray(colors), 0.5))
