# SPDX-License-Identifier: Apache-2.0
"""Confusion matrices of single images, entries that are not zero alone: a few hundred bytes each.

From them the scores of any subset of the images, or of the same images of another evaluation,
follow without another prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Ints = NDArray[np.int64]
Cells = NDArray[np.uint32]


class ImageEntries(NamedTuple):
    """One image: its name, and the entries of its matrix as places (label * K + prediction) with
    their pixels."""

    name: str
    cells: Cells
    pixels: Ints

    @classmethod
    def of(cls, name: str, matrix: Ints) -> ImageEntries:
        """Those of a matrix (K, K), rows ground truth."""
        cells = np.flatnonzero(matrix)
        return cls(name, cells.astype(np.uint32), matrix.ravel()[cells])


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """The N images of an evaluation of K classes, in the order of the data set.

    Image i has the entries `starts[i]:starts[i + 1]` of `cells` and `pixels`, see `ImageEntries`.
    """

    class_names: tuple[str, ...]
    names: tuple[str, ...]
    starts: Ints  # (N + 1,)
    cells: Cells
    pixels: Ints

    @classmethod
    def of(cls, class_names: Sequence[str], images: Mapping[int, ImageEntries]) -> ImageCounts:
        """Those of images by their position in the data set."""
        ordered = [images[index] for index in sorted(images)]
        sizes = [len(each.cells) for each in ordered]
        return cls(
            class_names=tuple(class_names),
            names=tuple(each.name for each in ordered),
            starts=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64),
            cells=np.concatenate([np.empty(0, np.uint32), *(each.cells for each in ordered)]),
            pixels=np.concatenate([np.empty(0, np.int64), *(each.pixels for each in ordered)]),
        )

    def take(self, names: Sequence[str]) -> ImageCounts:
        """The images of these names, in that order; KeyError for an unknown one."""
        places = {name: number for number, name in enumerate(self.names)}
        images = {}
        for position, name in enumerate(names):
            part = slice(*self.starts[places[name] : places[name] + 2])
            images[position] = ImageEntries(name, self.cells[part], self.pixels[part])
        return ImageCounts.of(self.class_names, images)

    def areas(self) -> Any:
        """Pixels of every class in every image: a sparse matrix (N, 3 K) of int64.

        Of each image the K numbers of pixels that are right, then those of the label, then those
        of the prediction: all that the scores are made of.
        """
        count = len(self.class_names)
        image = np.repeat(np.arange(len(self.names)), np.diff(self.starts))
        label, prediction = np.divmod(self.cells.astype(np.int64), count)
        right = label == prediction
        rows = np.concatenate([image[right], image, image])
        columns = np.concatenate([label[right], count + label, 2 * count + prediction])
        values = np.concatenate([self.pixels[right], self.pixels, self.pixels])
        shape = (len(self.names), 3 * count)
        return sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()
