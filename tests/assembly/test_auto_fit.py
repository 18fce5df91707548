# SPDX-License-Identifier: Apache-2.0
"""Which settings are tried where the memory is too small, and what is said about them."""

from __future__ import annotations

import pytest

from assembly.auto_fit import KEPT, Search, earlier_choices, evaluation_ways, step_ways, words
from config import UserError
from engine.rehearsal import EVALUATION, STEP, DoesNotFit
from settings import Settings
from tests.settings.test_classification import ARGV as CLASSIFY
from tests.settings.test_classification import resolved

STEP_MISFIT = DoesNotFit(STEP, "6 images of 512x256 needs more memory than there is")
EVAL_MISFIT = DoesNotFit(EVALUATION, "1 image of 9000x9000 needs more memory than there is")


def settings_of(*flags: str) -> Settings:
    return resolved("--dataset", "camvid", "--crop_size", "256,512", *flags)


def test_results_come_first_then_the_effective_batch_then_the_crop() -> None:
    ways = list(step_ways(settings_of("--bs_trn", "6", "--accum_steps", "2")))
    assert ways == [
        {"grad_ckpt": True},
        {"bs_trn": 3, "accum_steps": 4},
        {"bs_trn": 2, "accum_steps": 6},
        {"bs_trn": 1, "accum_steps": 12},
        {"crop_size": (192, 384)},
        {"crop_size": (128, 256)},
    ]
    assert all(way["bs_trn"] * way["accum_steps"] == 12 for way in ways if "bs_trn" in way)


def test_what_is_on_or_makes_no_sense_is_not_tried() -> None:
    ways = list(step_ways(settings_of("--grad_ckpt", "--bs_trn", "1", "--crop_size", "64,96")))
    assert ways == [], "crops have at least 64 pixels a side"
    full = list(step_ways(settings_of("--full_crop_training", "--bs_trn", "1")))
    assert full == [{"grad_ckpt": True}], "crops are as large as the images"
    mixing = resolved(*CLASSIFY, "--bs_trn", "12")
    assert [way.get("bs_trn") for way in step_ways(mixing)] == [None, 6, 4, 2], "images in pairs"
    plain = resolved(*CLASSIFY, "--bs_trn", "12", "--mixup", "0", "--cutmix", "0")
    assert [way.get("bs_trn") for way in step_ways(plain)] == [None, 6, 4, 3, 2, 1]


def test_a_validation_takes_smaller_batches_then_windows() -> None:
    assert list(evaluation_ways(settings_of("--bs_val", "5"))) == [
        {"bs_val": 2},
        {"bs_val": 1},
        {"slide_crop": (256, 512), "slide_stride": (192, 384)},
        {"bs_window": 1},
    ]
    windows = settings_of("--slide_crop", "128", "--slide_stride", "64")
    assert list(evaluation_ways(windows)) == [{"bs_window": 1}]
    pooling = settings_of("--inference_mode", "pooling")
    assert list(evaluation_ways(pooling)) == []
    assert {name for way in evaluation_ways(resolved(*CLASSIFY)) for name in way} == {"bs_val"}


def test_each_way_is_taken_beside_the_ones_before() -> None:
    search = Search(settings_of("--bs_trn", "2", "--auto_fit"), {})
    assert search.result("") == [] and search.chosen == {} and search.kept() == {}
    search.go_on(STEP_MISFIT)
    search.go_on(STEP_MISFIT)
    search.go_on(EVAL_MISFIT)
    assert words(search.chosen) == (
        "--grad_ckpt --bs_trn 1 --accum_steps 2 --slide_crop 256,512 --slide_stride 192,384"
    )
    assert search.settings.data.bs_trn == 1 and search.settings.MODEL.grad_ckpt
    assert search.settings.inference.slide_crop == (256, 512)
    text = "\n".join(search.result(""))
    assert "effective batch stays 2 images" in text and "batch norm sees 1 at a time" in text
    assert "windows" in text and str(STEP_MISFIT) in text


def test_without_the_flag_the_error_names_what_would_do() -> None:
    search = Search(settings_of("--bs_trn", "2"), {})
    search.go_on(STEP_MISFIT)
    with pytest.raises(UserError) as error:
        search.result("step peak memory 3.0 GiB")
    for text in (str(STEP_MISFIT), "--grad_ckpt would do", "3.0 GiB", "--auto_fit"):
        assert text in str(error.value)


def test_a_way_that_the_network_refuses_is_passed_over() -> None:
    search = Search(settings_of("--bs_trn", "2", "--auto_fit"), {})
    assert not search.give_up(), "an error of what was asked for is not ours"
    search.go_on(STEP_MISFIT)
    assert search.give_up()
    assert search.chosen == {"bs_trn": 1, "accum_steps": 2}
    search.go_on(STEP_MISFIT)
    assert search.chosen == {"bs_trn": 1, "accum_steps": 2, "crop_size": (192, 384)}


def test_where_nothing_helps_everything_that_was_tried_is_named() -> None:
    search = Search(settings_of("--bs_trn", "1", "--crop_size", "64", "--auto_fit"), {})
    search.go_on(STEP_MISFIT)
    with pytest.raises(UserError) as error:
        search.go_on(STEP_MISFIT)
    assert str(STEP_MISFIT) in str(error.value) and "in vain: --grad_ckpt" in str(error.value)


def test_a_resumed_run_goes_on_with_what_was_chosen() -> None:
    asked = settings_of("--bs_trn", "2", "--auto_fit")
    search = Search(asked, {})
    for _ in range(3):
        search.go_on(STEP_MISFIT)
    content = {KEPT: search.kept()}
    found = earlier_choices(asked, content, "x.pth")
    assert found == search.chosen and found["crop_size"] == (192, 384)
    again = Search(asked, found)
    assert again.settings == search.settings and again.kept() == search.kept()
    again.go_on(STEP_MISFIT)
    assert again.chosen["bs_trn"] == 1 and again.chosen["crop_size"] == (128, 288)
    other = settings_of("--bs_trn", "4", "--auto_fit")
    assert "bs_trn" not in earlier_choices(other, content, "x.pth"), "something else is asked for"
    assert earlier_choices(settings_of("--bs_trn", "2"), content, "x.pth") == {}
    assert earlier_choices(asked, {}, "x.pth") == {}


@pytest.mark.parametrize(
    "entry", [3, {"bs_trn": 2}, {"bs_trn": [2, 0]}, {"lr": [0.1, 0.2]}, {"bs_trn": [2]}]
)
def test_a_damaged_record_of_choices_is_one_line(entry: object) -> None:
    with pytest.raises(UserError, match=r"x\.pth is damaged: entry auto_fit"):
        earlier_choices(settings_of("--auto_fit"), {KEPT: entry}, "x.pth")
