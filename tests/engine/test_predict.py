# SPDX-License-Identifier: Apache-2.0
"""Inference procedures against the same thing written naively, and their memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.predict import (
    Inputs,
    class_ids,
    flip,
    multi_scale,
    padded,
    scores_of,
    slide,
    whole,
)
from engine.refinement import refined
from engine.windows import window_starts
from loss.boundary import moved_scores
from network.contract import run_boundary_in_eval
from tests.engine.live_maps import LiveMaps
from tests.network.tiny_unept import tiny
from transforms.normalize import to_network

CLASSES = 5


class Net(nn.Module):
    """Looks at neighbours, at the column and at the rows, so that no procedure is trivial."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, CLASSES, 3, padding=1)
        self.calls: list[tuple[int, ...]] = []
        self.eval()

    def forward(
        self, images: Tensor, rows: Tensor | None = None, return_all: bool = False
    ) -> dict[str, Tensor]:
        self.calls.append(tuple(images.shape))
        scores = self.conv(images)
        scores = scores + torch.linspace(0, 1, images.shape[-1])
        if rows is not None:
            assert rows.shape == (images.shape[0], images.shape[2])
            scores = scores + rows[:, None, :, None]
        outputs = {"pred": scores, "aux": scores}
        if return_all:
            outputs["pred_05x"] = scores[..., ::2, ::2]
            outputs["attn_05x"] = scores[:, :1, ::2, ::2].sigmoid()
        return outputs


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 24, 36, generator=torch.Generator().manual_seed(1))


def resized(scores: Tensor, size: Any) -> Tensor:
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)


def test_a_network_in_training_mode_is_refused(net: Net, images: Tensor) -> None:
    net.train()
    with pytest.raises(AssertionError, match="eval"):
        whole(net)(images, None)


def test_whole_returns_scores_alone_or_finished_images(net: Net, images: Tensor) -> None:
    assert set(whole(net)(images, None)) == {"pred"}
    outputs = whole(net, return_all=True)(images, None)
    assert set(outputs) == {"pred", "pred_05x", "pred_10x", "attn_05x"}
    assert outputs["pred_05x"].dtype == outputs["pred_10x"].dtype == torch.uint8
    assert outputs["pred_05x"].shape == (2, 12, 18)
    assert torch.equal(outputs["pred_10x"], class_ids(outputs["pred"]))


@torch.no_grad()
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_flip_is_the_mean_of_both_directions(net: Net, images: Tensor, average: str) -> None:
    got = flip(whole(net), average)(images, None)["pred"]
    plain, mirrored = net(images)["pred"], net(images.flip(-1))["pred"].flip(-1)
    if average == "logits":
        torch.testing.assert_close(got, (plain + mirrored) / 2)
    else:
        want = (plain.softmax(1) + mirrored.softmax(1)) / 2
        torch.testing.assert_close(got.softmax(1), want)


def test_each_window_of_each_view_is_refined_by_its_own_heads() -> None:
    net = tiny(num_classes=CLASSES).eval()
    run_boundary_in_eval(net)
    with torch.no_grad():  # so that about every second pixel moves
        net.mask_head[3].weight.normal_(0, 3)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))

    def moved(part: Tensor) -> Tensor:
        outputs = net(part)
        mask, direction = (
            F.interpolate(outputs[key], part.shape[2:], mode="bilinear", align_corners=True)
            for key in ("mask", "dir")
        )
        return moved_scores(outputs["pred"], mask, direction)

    infer = flip(slide(whole(net, refine=refined), (64, 64), (64, 32)))
    with torch.inference_mode():
        plain = whole(net)(image)
        assert set(plain) == {"pred"} and not torch.equal(plain["pred"], moved(image))
        mean = torch.zeros(1, CLASSES, 64, 96)
        for view, back in ((image, lambda x: x), (image.flip(-1), lambda x: x.flip(-1))):
            whole_view = torch.zeros(1, CLASSES, 64, 96)
            for left in (0, 32):
                whole_view[..., left : left + 64] += moved(view[..., left : left + 64])
            whole_view[..., 32:64] /= 2
            mean += back(whole_view) / 2
        torch.testing.assert_close(infer(image, None)["pred"], mean)


@torch.no_grad()
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_multi_scale_resizes_the_input_and_the_scores_back(
    net: Net, images: Tensor, average: str
) -> None:
    scales = (1.0, 0.5, 1.75)
    got = multi_scale(whole(net), scales, average)(images, None)["pred"]
    assert [call[2:] for call in net.calls] == [(24, 36), (12, 18), (42, 63)]
    want = torch.zeros_like(got)
    for scale in scales:
        size = round(24 * scale), round(36 * scale)
        scores = resized(net(resized(images, size))["pred"], (24, 36))
        want += (scores.softmax(1) if average == "probs" else scores) / len(scales)
    torch.testing.assert_close(got.softmax(1) if average == "probs" else got, want)


def test_multi_scale_refuses_scales_that_are_not_positive(net: Net) -> None:
    with pytest.raises(ValueError, match="positive"):
        multi_scale(whole(net), (1.0, 0.0))


@torch.no_grad()
def test_the_images_are_those_of_the_last_unflipped_scale(net: Net, images: Tensor) -> None:
    infer = flip(multi_scale(whole(net, return_all=True), (1.0, 2.0)))
    outputs = infer(images, None)
    assert set(outputs) == {"pred", "pred_05x", "pred_20x", "attn_05x"}
    assert torch.equal(outputs["pred_20x"], class_ids(net(resized(images, (48, 72)))["pred"]))


@pytest.mark.parametrize(
    ("length", "window", "stride", "starts"),
    [
        (10, 10, 5, [0]),
        (20, 10, 5, [0, 5, 10]),
        (21, 10, 5, [0, 5, 10, 11]),
        (11, 10, 10, [0, 1]),
        (3, 3, 3, [0]),
    ],
)
def test_windows_cover_everything_and_end_at_the_border(
    length: int, window: int, stride: int, starts: list[int]
) -> None:
    assert window_starts(length, window, stride) == starts


@torch.no_grad()
@pytest.mark.parametrize("batch_windows", [1, 4, 100])
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_slide_divides_by_the_windows_that_saw_a_pixel(
    net: Net, images: Tensor, batch_windows: int, average: str
) -> None:
    rows = torch.linspace(0, 1, 24).repeat(2, 1)
    got = slide(whole(net), (16, 16), (10, 12), batch_windows, average)(images, rows)["pred"]
    total, seen = torch.zeros_like(got), torch.zeros(24, 36)
    for y in (0, 8):
        for x in (0, 12, 20):
            part = net(images[:, :, y : y + 16, x : x + 16], rows=rows[:, y : y + 16])["pred"]
            total[:, :, y : y + 16, x : x + 16] += part.softmax(1) if average == "probs" else part
            seen[y : y + 16, x : x + 16] += 1
    assert seen.min() == 1
    torch.testing.assert_close(got.softmax(1) if average == "probs" else got, total / seen)


@torch.no_grad()
def test_slide_takes_an_image_smaller_than_the_window_as_it_is(net: Net, images: Tensor) -> None:
    got = slide(whole(net), (64, 64), (44, 44))(images, None)["pred"]
    torch.testing.assert_close(got, net(images)["pred"])


@pytest.mark.parametrize("stride", [(17, 4), (0, 4)])
def test_slide_refuses_a_stride_that_leaves_gaps(net: Net, stride: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="--slide_stride .* between 1 and --slide_crop 16,16"):
        slide(whole(net), (16, 16), stride)


@torch.no_grad()
def test_procedures_nest_and_cut_the_rows_with_the_image(net: Net, images: Tensor) -> None:
    rows = torch.linspace(0, 1, 24).repeat(2, 1)
    infer = flip(multi_scale(slide(whole(net), (16, 16), (12, 12)), (0.5, 1.0)))
    scores = infer(images, rows)["pred"]
    assert scores.shape == (2, CLASSES, 24, 36)
    assert scores.isfinite().all()


@torch.no_grad()
def test_flip_and_scales_give_the_same_mean_in_either_order(net: Net, images: Tensor) -> None:
    one = flip(multi_scale(whole(net), (0.5, 2.0)))(images, None)["pred"]
    other = multi_scale(flip(whole(net)), (0.5, 2.0))(images, None)["pred"]
    torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="already"):
        flip(flip(whole(net)))


@torch.no_grad()
def test_a_small_image_is_padded_for_the_window_and_its_scores_are_cut_back(
    net: Net, images: Tensor
) -> None:
    rows = torch.linspace(0, 1, 24).repeat(2, 1)
    got = padded(slide(whole(net), (32, 32), (20, 20)), (32, 32))(images, rows)["pred"]
    canvas = F.pad(images, (0, 0, 0, 8))
    canvas_rows = F.pad(rows, (0, 8), value=-1.0)
    want = slide(whole(net), (32, 32), (20, 20))(canvas, canvas_rows)["pred"]
    torch.testing.assert_close(got, want[:, :, :24])
    plain = padded(whole(net), (24, 36))(images, rows)["pred"]
    torch.testing.assert_close(plain, whole(net)(images, rows)["pred"])


@torch.no_grad()
def test_scores_come_to_the_size_of_the_file_in_a_second_step(net: Net, images: Tensor) -> None:
    scores = scores_of(whole(net), Inputs(images=images, size=(30, 50)))["pred"]
    torch.testing.assert_close(scores, resized(net(images)["pred"], (30, 50)))
    both = scores_of(flip(whole(net), "probs"), Inputs(images=images, size=(30, 50)))["pred"]
    mirrored = resized(net(images.flip(-1))["pred"], (30, 50)).flip(-1)
    want = (scores.softmax(1) + mirrored.softmax(1)) / 2
    torch.testing.assert_close(both.exp(), want)


@torch.no_grad()
def test_views_of_other_scales_come_from_the_file_once_a_scale(net: Net) -> None:
    originals = torch.randint(0, 256, (2, 20, 30, 3), dtype=torch.uint8)
    made = []

    def resize(pictures: Tensor, scale: float) -> Tensor:
        made.append(scale)
        height, width = int(24 * scale), int(36 * scale)
        return pictures.new_full((2, height, width, 3), int(100 * scale))

    images = torch.zeros(2, 3, 24, 36)
    infer = flip(multi_scale(whole(net), (0.5, 1.0, 2.0), "probs", resize), "probs")
    inputs = Inputs(images=images, size=(20, 30), originals=originals)
    got = scores_of(infer, inputs)["pred"]
    assert made == [0.5, 2.0]
    want = torch.zeros_like(got)
    for scale in (0.5, 1.0, 2.0):
        view = images if scale == 1.0 else to_network(resize(originals, scale))
        for mirrored in (False, True):
            scores = resized(net(view.flip(-1) if mirrored else view)["pred"], (20, 30))
            want += (scores.flip(-1) if mirrored else scores).softmax(1) / 6
    torch.testing.assert_close(got.exp(), want)


class Wide(nn.Module):
    """Forty classes by one convolution: its output is the only map of that size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 40, 1)
        self.eval()

    def forward(self, images: Tensor, rows: Any = None, return_all: bool = False) -> Any:
        return {"pred": self.conv(images)}


@torch.inference_mode()
@pytest.mark.parametrize("average", ["logits", "probs"])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.5), (1.5, 1.0)])
def test_at_most_two_full_size_score_maps_live_at_once(
    average: Any, scales: tuple[float, ...]
) -> None:
    infer = flip(multi_scale(whole(Wide()), scales, average), average)
    images = torch.randn(1, 3, 32, 32)
    with LiveMaps(40 * 32 * 32 * 4) as live:
        infer(images, None)
    assert live.most <= 2


@torch.inference_mode()
@pytest.mark.parametrize("average", ["logits", "probs"])
def test_windows_views_and_a_larger_file_need_no_third_map(average: Any) -> None:
    """Windows of a view add up in one map of the view, views in one map of the file."""
    windows = slide(whole(Wide()), (16, 16), (16, 16), batch_windows=1)
    infer = flip(multi_scale(windows, (1.0, 0.75), average), average)
    images = torch.randn(1, 3, 30, 30)
    with LiveMaps(40 * 30 * 30 * 4) as live:
        scores_of(infer, Inputs(images=images, size=(32, 32)))
    assert live.most <= 2
