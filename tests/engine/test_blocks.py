# SPDX-License-Identifier: Apache-2.0
"""Windows of large images: the numbers of `slide`, and those of the whole image without seams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from datasets.batch import Batch
from datasets.loader import collate
from engine.blocks import in_blocks
from engine.compute import Compute, free_memory
from engine.decide import Decided, Keep
from engine.evaluate import EvalRules, evaluate
from engine.large import IMAGE_BYTES, UNMEASURED, Large, even_stride, fitting, most_pixels
from engine.predict import flip, slide, whole
from engine.windows import window_starts
from metrics.result import ImageResult
from network.outputs import PRED
from runtime.memory import peak_above
from tests.reports.cases import SPEC
from transforms.sample import Sample

COMPUTE = Compute(device=torch.device("cpu"))
SIDES = [((8, 8), (6, 6)), ((16, 8), (8, 5)), ((5, 64), (5, 1)), ((64, 64), (20, 20))]


class Local(nn.Module):
    """Every pixel is decided by the 3x3 pixels around it; `pred` as networks give it."""

    def __init__(self, reach: int = 1) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        side = 2 * reach + 1
        self.conv = nn.Conv2d(3, 4, side, padding=reach)
        self.conv.weight.data = torch.randn(self.conv.weight.shape, generator=generator)
        self.conv.bias.data.zero_()

    def forward(self, images, rows=None, return_all=False):
        return {PRED: self.conv(images)}


def inputs(height=41, width=37, batch=2):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, height, width, generator=rng)


@pytest.mark.parametrize(("crop", "stride"), SIDES)
@pytest.mark.parametrize("average", ["logits", "probs"])
@torch.inference_mode()
def test_blocks_are_the_numbers_of_slide_and_cover_every_pixel_once(crop, stride, average):
    infer, images = whole(Local().eval()), inputs()
    want = slide(infer, crop, stride, 3, average)(images, None)[PRED]
    got, seen = torch.full_like(want, torch.nan), torch.zeros(41, 37)
    for box, scores in in_blocks(
        infer, (images, None), crop, stride, batch_windows=3, average=average
    ):
        got[:, :, box.top : box.bottom, box.left : box.right] = scores
        seen[box.top : box.bottom, box.left : box.right] += 1
    assert torch.equal(got, want)
    assert bool((seen == 1).all())


def test_a_stride_that_leaves_gaps_is_refused():
    with pytest.raises(ValueError, match="leave gaps"):
        list(in_blocks(whole(Local().eval()), (inputs(), None), (8, 8), (9, 8)))


def test_windows_of_large_images_overlap_alike():
    for length in (1025, 1792, 1793, 4096, 8192, 30011):
        stride = even_stride(length, 1024, 768)
        starts = window_starts(length, 1024, stride)
        assert len(starts) == len(window_starts(length, 1024, 768))
        steps = np.diff(starts)
        assert steps.max() <= 768 and steps.max() - steps.min() < len(starts)
    assert even_stride(700, 1024, 768) == 768


def picture(height=150, width=131):
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3)),
                   np.ones((4, 4, 1)))[:height, :width].astype(np.uint8)  # fmt: skip


class Taken:
    """Keeps every result."""

    def __init__(self, *needs: str) -> None:
        self.needs, self.results = frozenset(needs), list[ImageResult]()

    def wants(self, index):
        return True

    def done(self, name):
        return False

    def add(self, result):
        self.results.append(result)

    def close(self, rank, world, gather):
        return None


def predicted(image, max_pixels, infer, label=None, **rules):
    """The result of one image, and what was logged."""
    lines = []
    large = None if max_pixels is None else Large(max_pixels=max_pixels, log=lines.append)
    batch = collate([Sample(image=image, label=label, name="x")])
    sink = Taken("image", "prob", "confidence", "scores")
    summary = evaluate(
        infer, [batch], SPEC, COMPUTE, sinks=[sink], rules=EvalRules(large=large, **rules)
    )
    return sink.results[0], lines, summary


@pytest.mark.parametrize("max_pixels", [2048, 8192])
def test_windows_of_a_network_of_small_reach_leave_no_seam(max_pixels):
    """A 1x1 network knows no borders: windows give the ids of the whole image at every pixel."""
    image = picture()
    infer = flip(whole(Local(reach=0).eval()))
    label = np.random.default_rng(1).integers(0, 4, image.shape[:2]).astype(np.uint8)

    def loss(scores, labels):
        return torch.nn.functional.cross_entropy(scores, labels)

    want, none, before = predicted(image, None, infer, label, val_loss=loss)
    got, lines, after = predicted(image, max_pixels, infer, label, val_loss=loss)
    assert np.array_equal(got.pred, want.pred) and len(np.unique(got.pred)) == 4
    assert np.array_equal(got.image, image) and np.array_equal(want.image, image)
    assert np.allclose(got.prob, want.prob, atol=1e-6)
    assert got.confidence == pytest.approx(got.prob.mean(dtype=float), rel=1e-6)
    assert np.array_equal(got.confusion, want.confusion)
    assert np.allclose(got.scores.astype(float), want.scores.astype(float), atol=1e-3)
    assert after.loss == pytest.approx(before.loss, rel=1e-5)
    side = 32 if max_pixels == 2048 else 64
    assert none == []
    assert lines == [
        f"x: 131x150 pixels are more than {max_pixels} (--max_pixels): windows of {side}x{side}, "
        f"overlapping by {side // 4} at least, for all such images (--max_pixels N, or none)"
    ]


def test_an_image_of_the_limit_passes_whole_with_the_same_bits():
    image = picture(64, 64)
    infer = whole(Local().eval())
    want, _, _ = predicted(image, None, infer)
    for limit in (64 * 64, 64 * 64 - 1):
        got, lines, _ = predicted(image, limit, infer)
        assert bool(lines) == (limit < 64 * 64)
        if not lines:
            assert np.array_equal(got.prob, want.prob) and np.array_equal(got.scores, want.scores)


@pytest.mark.parametrize("top", [1, 3, 9])
@torch.inference_mode()
def test_the_best_classes_are_those_of_the_softmax_in_falling_order(top):
    scores = torch.randn(2, 6, 300, 5, generator=torch.Generator().manual_seed(0))
    scores[:, 3] = scores[:, 1]  # ties: the lower id first
    decided = Decided((300, 5), Keep(scores=True, top=top))
    decided.take(scores)
    probs, order = scores.softmax(1).sort(dim=1, descending=True, stable=True)
    kept = min(top, 6)
    assert torch.equal(decided.score_ids.long(), order[:, :kept])
    assert torch.allclose(decided.scores.float(), probs[:, :kept], atol=1e-3)
    assert torch.equal(decided.score_ids[:, 0], decided.pred)
    every = Decided((300, 5), Keep(scores=True))
    every.take(scores)
    assert torch.allclose(every.scores.float(), scores.softmax(1), atol=1e-3)


def test_the_limit_follows_a_line_and_a_parabola():
    sizes = (65536, 262144, 589824)
    line = [(n, 1_000_000 + 200 * n) for n in sizes]
    assert most_pixels(line, 1e9) == pytest.approx((1e9 - 1e6) / (200 + IMAGE_BYTES), rel=1e-3)
    curve = [(n, 1_000_000 + 200 * n + n * n // 1000) for n in sizes]
    most = most_pixels(curve, 1e11)
    assert 1_000_000 + (200 + IMAGE_BYTES) * most + most**2 / 1000 == pytest.approx(1e11, rel=1e-2)
    assert most_pixels([(n, None) for n in sizes], 1e9) == int(1e9 / (UNMEASURED + IMAGE_BYTES))
    assert most_pixels(line, 10.0) == 0


def test_the_peak_of_a_call_is_measured():
    if peak_above(lambda: None) is None:
        pytest.skip("the system does not tell")
    size = 40 << 20
    peak = peak_above(lambda: torch.ones(size // 4).sum())
    assert 0.9 * size < peak < 1.5 * size


@pytest.mark.slow
@torch.inference_mode()
def test_the_free_memory_bounds_a_pass_by_what_passes_really_need():
    batch = collate([Sample(image=np.zeros((800, 800, 3), np.uint8), label=None, name="x")])
    assert isinstance(batch, Batch)
    found = fitting(whole(Local().eval()), batch, COMPUTE)
    free = free_memory(torch.device("cpu"))
    needed = 0.7 * free / found - IMAGE_BYTES
    assert 16 < needed < 400  # bytes of a pixel: 3 and 4 channels of float32, and what is beside
