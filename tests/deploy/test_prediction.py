# SPDX-License-Identifier: Apache-2.0
"""What a prediction says and writes."""

from __future__ import annotations

import io
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deploy.prediction import KINDS, Classes, Prediction
from runtime.errors import UserError
from tests.deploy.conftest import scene

KNOWN = Classes(
    names=("road", "sky", "traffic light"),
    palette=((128, 64, 128), (70, 130, 180), (250, 170, 30)),
    raw_ids=(7, 23, 300),
)


def no_scores() -> Any:
    raise UserError("ids alone")


def make(scores: np.ndarray | None = None, **changes: Any) -> Prediction:
    """Three quarters of sky above road."""
    ids = np.ones((64, 96), np.uint8)
    ids[48:] = 0
    facts = {
        "image": scene(),
        "ids": ids,
        "known": KNOWN,
        "name": "x.png",
        "give_scores": no_scores if scores is None else lambda: scores,
    }
    return Prediction(**{**facts, **changes})


def test_classes_come_with_their_shares_the_largest_first() -> None:
    found = make().classes
    assert [(each.name, each.share, each.id) for each in found] == [
        ("sky", 0.75, 1), ("road", 0.25, 0),
    ]  # fmt: skip
    assert found[0].color == (70, 130, 180)
    assert repr(make()) == "<Prediction x.png 96x64: sky 75.0 %, road 25.0 %>"


def test_raw_ids_are_those_of_the_data_set_and_as_wide_as_they_must_be() -> None:
    raw = make().raw_ids
    assert raw.dtype == np.uint16 and set(np.unique(raw)) == {7, 23}
    narrow = Classes(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), raw_ids=(7, 200))
    assert make(known=narrow).raw_ids.dtype == np.uint8
    outside = Classes(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), raw_ids=(7, -1))
    with pytest.raises(UserError, match=r"0\.\.65535"):
        _ = make(known=outside).raw_ids


def test_more_than_255_classes_have_colours_too() -> None:
    many = Classes(
        names=tuple(f"c{i}" for i in range(300)),
        palette=tuple((i % 256, i // 256, 9) for i in range(300)),
        raw_ids=tuple(range(300)),
    )
    ids = np.arange(64 * 96).reshape(64, 96).astype(np.uint16) % 300
    found = make(known=many, ids=ids)
    assert found.color[3, 11].tolist() == [299 % 256, 1, 9]
    assert found.composite(1.0)[3, 11].tolist() == [299 % 256, 1, 9]
    assert len(found.classes) == 300 and found.mask("c299").sum() == (ids == 299).sum()


def test_probabilities_and_confidence_follow_from_scores() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32) * 30
    found = make(scores)
    np.testing.assert_allclose(found.probabilities.sum(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.confidence, found.probabilities.max(0))


def test_ids_alone_have_no_confidence_and_say_why() -> None:
    with pytest.raises(UserError, match="ids alone"):
        _ = make().confidence


def test_a_mask_takes_several_names_and_knows_them() -> None:
    assert make().mask("road", "sky").all()
    assert make().mask("road").sum() == 16 * 96
    with pytest.raises(
        UserError, match=r"traffic_light: no such class; did you mean traffic light"
    ):
        make().mask("traffic_light")


def test_the_composite_goes_from_the_image_to_the_colours() -> None:
    found = make()
    np.testing.assert_array_equal(found.composite(0), found.image)
    np.testing.assert_array_equal(found.composite(1), found.color)
    with pytest.raises(UserError, match=r"alpha=1\.5"):
        found.composite(1.5)


def test_a_prediction_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        make().ids = np.zeros(3)  # type: ignore[misc]


def test_a_notebook_shows_the_composite_above_its_classes() -> None:
    found = make()
    shown = found.show()
    assert shown.width >= 96 and shown.height > 64
    np.testing.assert_array_equal(np.asarray(shown)[:64, :96], found.composite())
    colors = {color for _, color in shown.crop((0, 64, *shown.size)).getcolors(1 << 16) or []}
    assert {(70, 130, 180), (128, 64, 128)} <= colors and (250, 170, 30) not in colors
    again = Image.open(io.BytesIO(found._repr_png_()))
    np.testing.assert_array_equal(np.asarray(again), np.asarray(shown))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_written_and_read_again(kind: str, tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=(3, 64, 96)).astype(np.float32)
    found = make(scores)
    path = found.save(tmp_path / "new" / ("x.npz" if kind == "scores" else "x.png"), kind)
    if kind == "scores":
        stored = np.load(path)
        assert stored["classes"].tolist() == list(KNOWN.names)
        np.testing.assert_array_equal(stored["scores"], scores.astype(np.float16))
        return
    wanted = {
        "composite": found.composite(),
        "color": found.color,
        "ids": found.ids,
        "raw_ids": found.raw_ids,
        "confidence": (found.confidence * 255).astype(np.uint8),
    }[kind]
    stored = np.asarray(Image.open(path))
    assert stored.dtype == wanted.dtype
    np.testing.assert_array_equal(stored, wanted)
    assert [file.name for file in path.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("x.jpg", "ids", ".png or .tif"),
        ("x.png", "scores", ".npz"),
        ("x.xyz", "composite", "Pillow writes no such files"),
        ("x.png", "colour", "did you mean color"),
    ],
)
def test_a_file_that_would_not_hold_the_values_is_refused(
    name: str, kind: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        make(np.zeros((3, 64, 96), np.float32)).save(tmp_path / name, kind)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        make().save(tmp_path / "file" / "x.png")
