# SPDX-License-Identifier: Apache-2.0
"""Rows of optimisers and schedules fit what they name, and the checks follow from them."""

from __future__ import annotations

import inspect

import pytest
import torch

from assembly.maker import maker
from assembly.optimiser import make_optimizer
from config import UserError
from settings import catalogue, read_settings
from settings.kinds import BASE_RATE, LENGTH, OPTIMISERS, SCHEDULES, Curve, listed

CURVES = {
    f"{name} by {unit}": curve
    for name, kind in SCHEDULES.items()
    for unit, curve in (("epoch", kind.by_epoch), ("iteration", kind.by_iteration))
    if curve is not None
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_takes_what_its_row_gives(name: str) -> None:
    kind = OPTIMISERS[name]
    assert set(kind.reads.values()) <= set(catalogue())
    defaults = {option: catalogue()[each].default for option, each in kind.reads.items()}
    made = make_optimizer([torch.zeros(1, requires_grad=True)], name, lr=0.1, **defaults)
    assert {option: made.defaults[option] for option in defaults} == defaults


@pytest.mark.parametrize("title", CURVES)
def test_a_curve_takes_what_its_row_gives(title: str) -> None:
    curve = CURVES[title]
    given = set(curve.takes.values()) - {LENGTH, BASE_RATE}
    assert given <= set(catalogue())
    inspect.signature(maker(curve.made_by)).bind(**curve.takes)


def test_a_wrong_row_is_noticed() -> None:
    wrong = Curve(made_by="engine.schedule:poly", takes={"max_iter": LENGTH})
    with pytest.raises(TypeError, match="max_iter|max_epoch"):
        inspect.signature(maker(wrong.made_by)).bind(**wrong.takes)
    with pytest.raises(AttributeError):
        maker("engine.schedule:poly9")


def test_what_else_a_row_reads_are_settings() -> None:
    for kind in SCHEDULES.values():
        named = {*kind.also, *kind.requires, *filter(None, [kind.since])}
        assert named <= set(catalogue())


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--amsgrad"], "--amsgrad has no effect without --optimizer adam or adamw"),
        (["--betas", "0.8,0.9"], "without --optimizer adam, radam or adamw"),
        (["--rescale", "2"], "without --lr_schedule scl-poly"),
        (["--min_lr", "1e-5"], "without --lr_schedule cosine, or poly and --lr_by iter"),
        (["--rlx_off_epoch", "3"], "without --jointwtborder or --lr_schedule scl-poly"),
        (
            ["--jointwtborder", "--rlx_off_iter", "5", "--lr_schedule", "poly2", "--lr_by", "iter"],
            "--lr_schedule poly2 goes by epoch; --lr_by iter takes poly or step",
        ),
    ],
)
def test_texts_of_the_checks_follow_from_the_rows(argv: list[str], text: str) -> None:
    with pytest.raises(UserError) as found:
        read_settings(argv)
    assert text in str(found.value)


def test_names_are_listed_as_in_a_sentence() -> None:
    assert [listed("a"), listed("ab"), listed("abc")] == ["a", "a or b", "a, b or c"]
