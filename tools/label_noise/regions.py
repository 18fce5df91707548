# SPDX-License-Identifier: Apache-2.0
"""Where a label and a network that did not see it disagree with confidence, as ranked regions.

A network is confident of a class where it gives it at least the probability that it gives, on
average, to the class of a label where that class is labelled (Northcutt et al., "Confident
Learning", JAIR 2021, equation 2). Neighbouring pixels of one labelled and one predicted class are a
region, ranked by

    score = sum over its pixels of log(p(predicted) / p(labelled)) * sqrt(share)

the evidence for the other class in nats, times how much of an object is meant: the share of the
labelled or of the predicted object (a connected part of one class) that the region covers. It is 1
for an object of the wrong class and for one that is missing, and next to nothing for the bands
along outlines, where every label and every network differ by some pixels.
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
CONFIDENT_SHARE = 0.25  # of the pixels of a region
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


def self_confidence(answer: Answer, classes: int) -> npt.NDArray[np.float64]:
    """Of every class (2, K): the sum of its probabilities where it is labelled, the pixels."""
    counts = answer.label < classes
    label = answer.label[counts]
    sums = np.bincount(label, answer.given[counts], classes)
    return np.stack([sums, np.bincount(label, minlength=classes)])


def limits_of(sums: Iterable[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """The probability (K,) from which on a class is predicted with confidence.

    sums: those of `self_confidence`. Of a class that is labelled nowhere nothing is known: 1.
    """
    total, pixels = np.sum(list(sums), axis=0)
    return np.where(pixels > 0, total / np.maximum(pixels, 1), 1.0)


def regions_of(
    answer: Answer, limits: npt.NDArray[np.float64], image: int = 0, smallest: int = 1
) -> list[Region]:
    """The regions of one image with at least `smallest` pixels, a quarter of them confident."""
    classes = len(limits)
    differs = (answer.label < classes) & (answer.pred != answer.label)
    pairs = np.where(differs, answer.label.astype(np.int32) * classes + answer.pred + 1, 0)
    parts = measure.label(pairs, background=0, connectivity=CORNERS)
    places = np.flatnonzero(parts)
    if not len(places):
        return []
    part = parts.ravel()[places]
    area = np.bincount(part)
    first = np.zeros(len(area), np.intp)
    first[part[::-1]] = places[::-1]  # one pixel of each
    label, pred = answer.label.ravel()[first], answer.pred.ravel()[first]
    top, given = answer.top.ravel()[places], answer.given.ravel()[places]
    evidence = np.log(np.maximum(top, LEAST) / np.maximum(given, LEAST))
    wholes = [_object_sizes(ids, classes).ravel()[first] for ids in (answer.label, answer.pred)]
    share = area / np.minimum(*wholes)
    score = np.bincount(part, evidence) * np.sqrt(share)
    confident = np.bincount(part, top >= limits[answer.pred.ravel()[places]]) / np.maximum(area, 1)
    tops, givens = (np.bincount(part, values) / np.maximum(area, 1) for values in (top, given))
    boxes = ndimage.find_objects(parts)
    kept = np.flatnonzero((area >= smallest) & (confident >= CONFIDENT_SHARE) & (score > 0))
    return [
        Region(
            image=image,
            left=boxes[number - 1][1].start,
            top=boxes[number - 1][0].start,
            mask=parts[boxes[number - 1]] == number,
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
