# SPDX-License-Identifier: Apache-2.0
"""By which numbers images are normalised: those of the data, and those that weights ask for.

Everything that hands images around normalises them with `IMAGENET`. Weights that were trained on
other inputs say so, and their network changes the images at its entry (`network/contract.py`).
"""

from __future__ import annotations

from typing import NamedTuple

Color = tuple[float, float, float]
MEAN_RANGE, STD_RANGE = (-10.0, 10.0), (1e-4, 1e3)  # for images of values 0..1, or of 0..255


class Normalisation(NamedTuple):
    """Images with values 0..1 become (x - mean) / std, channel by channel: red, green, blue."""

    mean: Color
    std: Color

    def __str__(self) -> str:
        return f"mean {_listed(self.mean)}, std {_listed(self.std)}"


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NAMED = {
    "imagenet": IMAGENET,
    "half": Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # -1..1, as of Inception
    "unit": Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),  # 0..1 as they are
    "clip": Normalisation(
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    ),
}


def _listed(values: Color) -> str:
    return " ".join(f"{value:.4g}" for value in values)


def problem_of(norm: Normalisation) -> str | None:
    """What is wrong with the numbers; None: nothing."""
    for name, values, (low, high) in (
        ("mean", norm.mean, MEAN_RANGE),
        ("std", norm.std, STD_RANGE),
    ):
        for value in values:
            if not low <= value <= high:
                return f"{name} {value:.4g} is outside {low:g}..{high:g}"
    return None


def _colour(text: str) -> Color:
    """Three numbers with commas between them; ValueError for all else."""
    red, green, blue = map(float, text.split(","))
    return red, green, blue


def parsed(text: str) -> Normalisation:
    """A name of `NAMED`, or "M,M,M/S,S,S"; ValueError, one line, for all else."""
    if text in NAMED:
        return NAMED[text]
    mean, _, std = text.partition("/")
    try:
        norm = Normalisation(_colour(mean), _colour(std))
    except ValueError:
        known = ", ".join(NAMED)
        raise ValueError(f"one of {known} wanted, or means and deviations M,M,M/S,S,S") from None
    if problem := problem_of(norm):
        raise ValueError(problem)
    return norm


def text_problem(value: object) -> str | None:
    """What is wrong with the text of a setting; None: nothing, or no text."""
    if not isinstance(value, str):
        return None
    try:
        parsed(value)
    except ValueError as error:
        return str(error)
    return None
