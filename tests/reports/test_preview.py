# SPDX-License-Identifier: Apache-2.0
"""Preview images: which images, which maps, at what size."""

from __future__ import annotations

import torch

from reports.preview import PreviewSink
from tests.reports.cases import SPEC, make_result


def previews(is_main: bool = True, assets: bool = False) -> dict[str, torch.Tensor]:
    shown: dict[str, torch.Tensor] = {}
    sink = PreviewSink(
        lambda title, picture, step: shown.update({title: picture}),
        SPEC, step=0, is_main=is_main, phase="msinf", count=2, assets=assets,
    )  # fmt: skip
    for index in range(4):
        if sink.wants(index):
            sink.add(make_result(f"x{index}", index))
    return shown


def test_the_first_images_are_shown_on_the_main_rank_alone() -> None:
    shown = previews()
    assert list(shown) == ["msinf/x0", "msinf/x1"]
    assert shown["msinf/x0"].shape == (3, 12, 16) and float(shown["msinf/x0"].max()) <= 1
    assert previews(is_main=False) == {}


def test_maps_of_the_scales_are_shown_on_request() -> None:
    assert {"msinf/x0/attn_05x", "msinf/x0/pred_05x"} <= set(previews(assets=True))


def test_large_pictures_are_made_smaller() -> None:
    shown = []
    sink = PreviewSink(lambda title, picture, step: shown.append(picture), SPEC, step=0,
                       is_main=True)  # fmt: skip
    result = make_result("x")
    image = torch.zeros(768, 100, 3, dtype=torch.uint8).numpy()
    sink.add(make_result("x", image=image, pred=image[:, :, 0], label=result.label))
    assert shown[0].shape == (3, 384, 50)
