# SPDX-License-Identifier: Apache-2.0
"""Images of predictions: input, ground truth, prediction, their blend, and maps of them.

For an image "aachen/x" the files are aachen/x_input.png, aachen/x_gt.png, aachen/x_prediction.png
and aachen/composited_x.png; with assets also x_prob_mask.png, x_err_mask.png and one
x_{attn,pred}_{scale}x.png per scale; with gates one x_gate_{block}.png per block. Sub-folders of
names are kept, so images of equal name do not overwrite each other.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from datasets.spec import Color, DatasetSpec
from metrics.result import ImageResult
from reports.files import colored, encode_map, encode_png, grey
from reports.height_gates import CLASS_BLOCK, block_of, gate_facts, gate_picture
from reports.sinks import NEW_DUMP, DumpIdentity, PagePart, ResumableSink
from reports.stored_images import ImageRow, score_image
from runtime.files import write_atomic
from runtime.names import printable

BLEND = 0.4  # weight of the class colours in the composited image
COMPOSITE = "composited"
PICTURES = "best_images"  # folder of the dumped images and their pages


class DumpSink(ResumableSink):
    """Writes the pictures of every `every`-th image of the data set under `out_dir`.

    `assets` adds confidence, error, attention and per-scale maps, `gates` the height gates of
    HANet blocks.
    """

    def __init__(
        self,
        out_dir: Path,
        spec: DatasetSpec,
        identity: DumpIdentity = NEW_DUMP,
        *,
        every: int = 1,
        assets: bool = False,
        gates: bool = False,
    ) -> None:
        assert every >= 1
        if identity.key:  # a dump without maps is not continued
            identity = replace(identity, key=f"{identity.key} {assets=} {gates=}")
        super().__init__(out_dir, spec, "dump", identity)
        self.every, self.assets, self.gates = every, assets, gates

    @property
    def needs(self) -> frozenset[str]:
        needs = {"image"} | ({"prob", "assets"} if self.assets else set())
        return frozenset(needs | ({"gates"} if self.gates else set()))

    def wants(self, index: int) -> bool:
        return index % self.every == 0

    def add(self, result: ImageResult) -> None:
        """Write the pictures of one image, then note it as stored."""
        files: dict[str, str] = {}
        for kind, content in self._pictures(result).items():
            around = (f"{kind}_", ".png") if kind == COMPOSITE else ("", f"_{kind}.png")
            files[kind] = self.file(result.name, *around)
            write_atomic(self.out_dir / files[kind], content)
        size = (int(result.pred.shape[0]), int(result.pred.shape[1]))
        scores = score_image(result.confusion)
        facts = gate_facts(result.gates) if self.gates else {}
        row = ImageRow(
            name=result.name, index=result.index, size=size, files=files, facts=facts, **scores
        )
        self.stored.add(row)

    def page_part(self) -> PagePart:
        """All images that were dumped."""
        return PagePart(rows=self.rows)

    def _pictures(self, result: ImageResult) -> dict[str, bytes]:
        """Kind -> PNG, in the order of the page."""
        assert result.image is not None
        palette = self.spec.flat_palette()
        pictures = {"input": encode_png(result.image)}
        if result.label is not None:
            pictures["gt"] = encode_png(result.label, palette)
        pictures["prediction"] = encode_png(result.pred, palette)
        pictures[COMPOSITE] = encode_png(composite(result.image, result.pred, palette))
        if self.assets:
            pictures |= self._maps(result, palette)
        if self.gates:
            for kind, gate in sorted(result.gates.items()):
                title = f"{printable(result.name)}  hanet{block_of(kind)}"
                classes = self._classes() if block_of(kind) == CLASS_BLOCK else ()
                picture = gate_picture(result.image, gate, title, classes)
                pictures[kind] = encode_png(picture)
        return pictures

    def _classes(self) -> list[tuple[str, Color]]:
        """Names and colours."""
        return list(zip(self.spec.class_names, self.spec.palette, strict=True))

    def _maps(self, result: ImageResult, palette: list[int]) -> dict[str, bytes]:
        """Confidence, errors, attention and single scales."""
        pictures = {}
        if result.prob is not None:
            pictures["prob_mask"] = encode_png(grey(result.prob))
        if result.label is not None:
            errors = error_mask(result.pred, result.label, self.spec.num_classes)
            pictures["err_mask"] = encode_png(grey(errors))
        for kind, values in sorted(result.assets.items()):
            pictures[kind] = encode_map(values, palette)
        return pictures


def composite(
    image: npt.NDArray[np.uint8],
    pred: npt.NDArray[np.uint8],
    palette: list[int],
    share: float = BLEND,
) -> npt.NDArray[Any]:
    """The image (H, W, 3) under the colours of the prediction (H, W), of which it has `share`."""
    colors = Image.fromarray(colored(pred, palette))
    return np.asarray(Image.blend(Image.fromarray(image), colors, share))


def error_mask(
    pred: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.bool_]:
    """Where the prediction differs from a label that counts."""
    return (pred != label) & (label < num_classes)
