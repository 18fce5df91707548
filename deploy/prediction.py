# SPDX-License-Identifier: Apache-2.0
"""The result for one image: ids, scores, confidence, pictures; importing it does not load torch."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from assembly.answer import Picture
from datasets.spec import flat_palette
from deploy.legend import with_legend
from reports.files import colored, encode_png, levels
from reports.image_dump import BLEND, composite
from reports.trees import encode_scores
from runtime.errors import UserError, near
from runtime.files import write_atomic

Color = tuple[int, int, int]
Scores = npt.NDArray[np.float32]

KINDS = ("composite", "color", "ids", "raw_ids", "confidence", "scores")
WIDE_IDS = 256  # classes or raw ids from which 8 bits are too few


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What the train ids 0..K-1 stand for: names, colours, and the ids of the data set's files."""

    names: tuple[str, ...]
    palette: tuple[Color, ...]
    raw_ids: tuple[int, ...]

    @cached_property
    def flat_palette(self) -> list[int]:
        """RGB values one after the other, of all ids of 8 bits at least; black for no class."""
        return flat_palette(self.palette)

    def numbers(self, names: Sequence[str]) -> list[int]:
        """The train ids of classes; UserError for an unknown name."""
        for name in names:
            if name not in self.names:
                raise UserError(
                    f"{name}: no such class{near(name, self.names)}; there are "
                    f"{', '.join(self.names)}"
                )
        return [number for number, name in enumerate(self.names) if name in names]


class ClassShare(NamedTuple):
    """A class that is present: its share of the pixels in 0..1, its train id and its colour."""

    name: str
    share: float
    id: int
    color: Color


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """What a network says about one image.

    image: uint8 (H, W, 3) RGB. ids: train ids (H, W), 0..K-1, uint8 or uint16. known: the classes
    that they stand for. name: file or number of the image. given_confidence and give_scores are
    behind `confidence` and `scores`.
    """

    image: Picture
    ids: npt.NDArray[Any]
    known: Classes
    name: str = ""
    given_confidence: npt.NDArray[np.float32] | None = None
    give_scores: Callable[[], Scores]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return int(self.ids.shape[0]), int(self.ids.shape[1])

    @cached_property
    def raw_ids(self) -> npt.NDArray[Any]:
        """The ids of the data set's own files (H, W), uint8, or uint16 where one is above 255.

        UserError for ids that a file of ids cannot hold.
        """
        if max(self.known.raw_ids) >= 1 << 16 or min(self.known.raw_ids) < 0:
            raise UserError("the raw ids of these classes lie outside 0..65535; take .ids")
        is_wide = max(self.known.raw_ids) >= WIDE_IDS
        table = np.array(self.known.raw_ids, np.uint16 if is_wide else np.uint8)
        found: npt.NDArray[Any] = table[self.ids]
        return found

    @cached_property
    def scores(self) -> Scores:
        """Scores (K, H, W) float32 of all classes: logits, whose softmax are the probabilities.

        Unless they were kept (`predict(image, scores=True)`) the network is asked once more.
        UserError for an export that gives ids alone.
        """
        return self.give_scores()

    @property
    def probabilities(self) -> Scores:
        """The probabilities (K, H, W) float32 of all classes, which add up to 1: of `scores`."""
        exponents = np.exp(self.scores - self.scores.max(axis=0))
        result: Scores = exponents / exponents.sum(axis=0)
        return result

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """The probability (H, W) float32 of the predicted class, 0..1; UserError as `scores`."""
        if self.given_confidence is None:
            found: npt.NDArray[np.float32] = self.probabilities.max(axis=0)
            return found
        return self.given_confidence

    @property
    def color(self) -> Picture:
        """The colours of the classes, uint8 (H, W, 3) RGB."""
        return colored(self.ids, self.known.flat_palette)

    def composite(self, alpha: float = BLEND) -> Picture:
        """The image with `alpha` (0..1) of the colours over it, uint8 (H, W, 3) RGB."""
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha={alpha!r}: 0 (the image) to 1 (the colours) wanted")
        return composite(self.image, self.ids, self.known.flat_palette, alpha)

    @cached_property
    def classes(self) -> list[ClassShare]:
        """The classes that are present, the largest first."""
        counts = np.bincount(self.ids.ravel(), minlength=len(self.known.names))
        order = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
        return [
            ClassShare(
                name=self.known.names[number],
                share=float(counts[number] / self.ids.size),
                id=number,
                color=self.known.palette[number],
            )
            for number in order
        ]

    def mask(self, *names: str) -> npt.NDArray[np.bool_]:
        """Where one of the classes is, bool (H, W); UserError for an unknown name."""
        return np.isin(self.ids, self.known.numbers(names))

    def show(self, alpha: float = BLEND) -> Image.Image:
        """The composite above its classes with their shares, as a PIL image."""
        return with_legend(
            self.composite(alpha),
            [(f"{each.name} {100 * each.share:.1f} %", each.color) for each in self.classes],
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        buffer = io.BytesIO()
        self.show().save(buffer, format="PNG")
        return buffer.getvalue()

    def __repr__(self) -> str:
        height, width = self.size
        shown = [f"{each.name} {100 * each.share:.1f} %" for each in self.classes[:3]]
        more = ", ..." if len(self.classes) > 3 else ""
        return f"<Prediction {self.name} {width}x{height}: {', '.join(shown)}{more}>"

    def save(self, path: str | os.PathLike[str], kind: str = "composite") -> Path:
        """Write one of KINDS as the ending says; a file of that name is replaced.

        Pictures: any format of Pillow. Ids: grey PNG or TIFF of 8 bits, or 16 where needed.
        Confidence: grey, 255 is certain. Scores: `.npz` with `scores`, float16 (K, H, W), and
        `classes`. UserError for an unknown kind and for an ending that would change the values.
        """
        path = Path(path)
        content = encoded(self, kind, path)
        try:
            write_atomic(path, content)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror}") from error
        return path


def encoded(prediction: Prediction, kind: str, path: Path) -> bytes:
    """The content of the file `path` that `Prediction.save` writes."""
    if kind not in KINDS:
        raise UserError(f"kind={kind!r}: {', '.join(KINDS)} wanted{near(kind, KINDS)}")
    ending = path.suffix.lower()
    if kind == "scores":
        if ending != ".npz":
            raise UserError(f"{path}: scores are written as .npz")
        scores = prediction.scores.astype(np.float16)
        return encode_scores(scores, None, prediction.known.names)
    if kind in ("composite", "color"):
        pixels = prediction.composite() if kind == "composite" else prediction.color
        return _picture(pixels, path)
    if ending not in (".png", ".tif", ".tiff"):
        raise UserError(f"{path}: {kind} are written as .png or .tif, which keep every value")
    values: npt.NDArray[Any] = prediction.ids
    if kind != "ids":
        values = prediction.raw_ids if kind == "raw_ids" else levels(prediction.confidence)
    return encode_png(values) if ending == ".png" else _picture(values, path)


def _picture(pixels: npt.NDArray[Any], path: Path) -> bytes:
    """`pixels` in the format that the ending of `path` names."""
    Image.init()  # only then are all endings known
    form = Image.EXTENSION.get(path.suffix.lower())
    if form is None or form not in Image.SAVE:
        raise UserError(f"{path}: Pillow writes no such files; .png, .jpg, .webp, ... wanted")
    if form == "PNG":
        return encode_png(pixels)
    buffer = io.BytesIO()
    options = {"quality": 95} if form in ("JPEG", "WEBP") else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format=form, **options)
    return buffer.getvalue()
