# SPDX-License-Identifier: Apache-2.0
"""Recorded attention pictures of HILA's visualisation tool, from drawn weights."""

from __future__ import annotations

import numpy as np

from reports.token_hierarchy import (
    CELL,
    Picture,
    Weights,
    children_cells,
    grid_of,
    overlay,
    window_box,
)
from tests.parity.core import Check, Row, compare, same
from tests.parity.fixture import Arrays, CannotRun, Fixture, Record, first_case

TOP = 4
MEAN_ATOL = 1e-3


def draw(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def inputs_of(case: Record) -> tuple[Picture, Weights]:
    """The drawn part of the image, RGB, and the weights of the three pairs."""
    size = case["height"], case["width"]
    image = draw(case["seed"]).integers(0, 256, (*size, 3)).astype(np.uint8)
    image = image[:, -case["crop_width"] :, ::-1]
    weights = {}
    for number, stage in enumerate((2, 3, 4), start=1):
        rows, columns = grid_of(image.shape[:2], stage)
        drawn = draw(case["seed"] + number).uniform(0, 1, (rows * columns, 1, 16, 1))
        weights[stage] = drawn.astype(np.float32).reshape(rows, columns, 16)
    return image, weights


def check_case(case: Record, arrays: Arrays, step: int) -> list[Row]:
    image, weights = inputs_of(case)
    token = case["row"], case["column"]
    size = image.shape[0] // CELL, image.shape[1] // CELL
    drawn = children_cells(weights, token, TOP, size)
    box, rows = window_box(weights, token, TOP), []
    pictures = {f"stage{stage}to{TOP}": overlay(image, cells, box) for stage, cells in drawn}
    for name, spec in case["pictures"].items():
        if name not in pictures:
            raise CannotRun(f"pictures: {name} is not drawn")
        row, bgr = f"{case['name']}/{name}", pictures[name][..., ::-1]
        want = arrays[f"{case['name']}_{name}"]
        rows += [
            same(f"{row} shape", list(bgr.shape), spec["shape"]),
            compare(f"{row} mean", bgr.mean(), spec["mean"], atol=MEAN_ATOL),
            compare(row, bgr[::step, ::step], want),
        ]
    return rows


def check(fixture: Fixture) -> list[Row]:
    step = fixture.header["stride"]
    return [
        row for case in fixture.header["cases"] for row in check_case(case, fixture.arrays, step)
    ]


CHECKS = (
    Check(
        "hila attention pictures",
        lambda fixture: "pictures" in first_case(fixture),
        check,
        {"cases.*.name": "names the arrays", "cases.*.mode": "the width that is drawn says it"},
    ),
)
