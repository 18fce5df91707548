# SPDX-License-Identifier: Apache-2.0
"""Where a label and a network that did not see it disagree with confidence, as ranked regions.

A network is confident of a class where it gives it at least the probability that it gives, on
average, to the class of a label where that class is labelled (Northcutt et al., "Confident
Learning", JAIR 2021, equation 2).

Connected pixels of one labelled class a and one predicted class b are a region, if the network is
confident of one of them. It ranks by

    score = sum over its pixels of log(p(b) / p(a)) * sqrt(share) * -log(p(b | a))

the evidence for the other class in nats, times how much of an object is meant, times how unusual
the pair of classes is. `share` is that part of the labelled or of the predicted object (connected
pixels of one class) which the region covers: 1 for an object of the wrong class and for a missing
one, and next to nothing for the bands along outlines, where every label and every network differ by
some pixels. p(b | a) is how often the networks see b where a is labelled: classes that are mixed up
anyway come later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from tools.label_noise.predictions import Answer

LEAST = 1e-3  # probabilities below are taken for this one: half precision knows no better
CORNERS = 2  # pixels that touch at a corner are neighbours


@dataclass(frozen=True, kw_only=True)
class Region:
    """Connected pixels of one labelled and one predicted class.

    image: its place in the list of images. left, top: corner of `mask` (h, w) in pixels.
    confidence, given: mean probabilities of the predicted and of the labelled class. share: see
    above.
    """

    image: int
    left: int
    top: int
    mask: npt.NDArray[np.bool_]
    label: int
    predicted: int
    confidence: float
    given: float
    share: float
    score: float

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, width, height in pixels."""
        height, width = self.mask.shape
        return self.left, self.top, width, height


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What networks say about all labels of a set, or of one image; they can be added.

    sums: of the probabilities of every class (K,) where it is labelled. pixels: by labelled and by
    predicted class (K, K).
    """

    sums: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.int64]

    def __add__(self, other: Usual) -> Usual:
        return Usual(sums=self.sums + other.sums, pixels=self.pixels + other.pixels)

    @property
    def limits(self) -> npt.NDArray[np.float64]:
        """The probability (K,) from which on a class is predicted with confidence.

        Of a class that is labelled nowhere nothing is known: 1.
        """
        pixels = self.pixels.sum(1)
        return np.where(pixels > 0, self.sums / np.maximum(pixels, 1), 1.0)

    @property
    def surprise(self) -> npt.NDArray[np.float64]:
        """-log(p(b | a)), (K, K); every pair counts one pixel more, so that none has never been."""
        more = self.pixels + 1.0
        return -np.log(more / more.sum(1, keepdims=True))


def usual(answer: Answer, classes: int) -> Usual:
    """`Usual` of one image."""
    counts = answer.label < classes
    label, pred = answer.label[counts].astype(np.int64), answer.pred[counts]
    pixels = np.bincount(label * classes + pred, minlength=classes**2)
    return Usual(
        sums=np.bincount(label, answer.given[counts], classes).astype(np.float64),
        pixels=pixels.reshape(classes, classes),
    )


def regions_of(
    answer: Answer,
    limits: npt.NDArray[np.float64],
    surprise: npt.NDArray[np.float64],
    image: int = 0,
    smallest: int = 1,
) -> list[Region]:
    """The regions of one image with at least `smallest` pixels; the rest as `Usual` has it."""
    classes = len(limits)
    differs = (answer.label < classes) & (answer.pred != answer.label)
    pairs = np.where(differs, answer.label.astype(np.int32) * classes + answer.pred + 1, 0)
    parts = measure.label(pairs, background=0, connectivity=CORNERS)
    places = np.flatnonzero(parts)
    if not len(places):
        return []
    part = parts.ravel()[places] - 1
    area = np.bincount(part)
    first = np.empty(len(area), np.intp)
    first[part[::-1]] = places[::-1]  # one pixel of each
    label, pred = answer.label.ravel()[first], answer.pred.ravel()[first]
    top, given = answer.top.ravel()[places], answer.given.ravel()[places]
    evidence = np.log(np.maximum(top, LEAST) / np.maximum(given, LEAST))
    wholes = [_object_sizes(ids, classes).ravel()[first] for ids in (answer.label, answer.pred)]
    share = area / np.minimum(*wholes)
    score = np.bincount(part, evidence) * np.sqrt(share) * surprise[label, pred]
    is_certain = np.bincount(part, top >= limits[answer.pred.ravel()[places]]) > 0
    tops, givens = (np.bincount(part, values) / area for values in (top, given))
    boxes = ndimage.find_objects(parts)
    kept = np.flatnonzero((area >= smallest) & is_certain)
    return [
        Region(
            image=image,
            left=boxes[number][1].start,
            top=boxes[number][0].start,
            mask=parts[boxes[number]] == number + 1,
            label=int(label[number]),
            predicted=int(pred[number]),
            confidence=float(tops[number]),
            given=float(givens[number]),
            share=float(share[number]),
            score=float(score[number]),
        )
        for number in kept.tolist()
    ]


def _object_sizes(ids: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int64]:
    """Of every pixel (H, W): of how many pixels the connected part of its class is."""
    known = np.where(ids < classes, ids.astype(np.int32) + 1, 0)
    objects = measure.label(known, background=0, connectivity=CORNERS)
    sizes: npt.NDArray[np.int64] = np.bincount(objects.ravel())[objects]
    return sizes


def ranked(regions: Iterable[Region]) -> list[Region]:
    """The worst first; of equal ones in the order of the images."""
    return sorted(
        regions, key=lambda region: (-region.score, region.image, region.top, region.left)
    )
