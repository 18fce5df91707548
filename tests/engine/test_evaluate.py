# SPDX-License-Identifier: Apache-2.0
"""Evaluation: every image counted and handed on once, whatever the batches and ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from config import UserError
from datasets.batch import Batch
from datasets.spec import DatasetSpec
from engine.compute import Compute, Watch
from engine.decide import largest_probability
from engine.evaluate import EvalRules, evaluate
from metrics.confusion import Scores, confusion_matrix
from metrics.result import EvalSummary, Gather, ImageResult
from runtime.distributed import Ranks
from tests.engine.live_maps import LiveMaps

CPU = Compute(device=torch.device("cpu"))
SPEC = DatasetSpec(
    name="three",
    class_names=("road", "car", "sky"),
    palette=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
    id_to_train_id={0: 255, 7: 0, 26: 1, 23: 2},
    ignore_label=255,
    train_id_to_id=(7, 26, 23),
)


class Keep:
    """Keeps what it is given; `stored` names are done already."""

    def __init__(self, needs: tuple[str, ...] = (), stored: tuple[str, ...] = ()) -> None:
        self.needs, self.stored = frozenset(needs), stored
        self.results: list[ImageResult] = []
        self.closed: list[tuple[int, int, list[Any]]] = []

    def wants(self, index: int) -> bool:
        return index != 99

    def done(self, name: str) -> bool:
        return name in self.stored

    def add(self, result: ImageResult) -> None:
        self.results.append(result)

    def close(self, rank: int, world: int, gather: Gather) -> None:
        self.closed.append((rank, world, gather(len(self.results))))


def scores_of(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
    """Each channel votes for one class."""
    return {"pred": images * 2.0, "attn_05x": images[:, :1, ::2, ::2].sigmoid()}


def make_images(count: int = 6, size: tuple[int, int] = (8, 10)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(count, 3, *size, generator=generator)
    labels = torch.randint(0, 4, (count, *size), generator=generator)
    return images, torch.where(labels == 3, 255, labels)


def batches(size: int, only: slice = slice(None)) -> Iterator[Batch]:
    images, labels = make_images()
    numbers = list(range(6))[only]
    for first in range(0, len(numbers), size):
        part = numbers[first : first + size]
        yield Batch(
            images=images[part],
            labels=labels[part],
            names=[f"city/{number}" for number in part],
            indices=part,
        )


def val_loss(scores: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(scores, labels, ignore_index=255)


def run(loader: Any, **options: Any) -> EvalSummary:
    options = {"rules": EvalRules(val_loss=val_loss), **options}
    return evaluate(scores_of, loader, SPEC, CPU, **options)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_scores_and_loss_do_not_depend_on_the_batches(size: int) -> None:
    images, labels = make_images()
    want = Scores.of(confusion_matrix(images.argmax(1), labels, 3), SPEC.class_names)
    summary = run(batches(size))
    assert summary.scores is not None
    assert np.array_equal(summary.scores.matrix, want.matrix)
    assert summary.loss == pytest.approx(val_loss(images * 2, labels).item(), rel=1e-6)
    assert (summary.num_images, summary.skipped, summary.unreadable) == (6, 0, [])


def test_every_image_of_a_batch_reaches_every_sink_with_its_own_matrix() -> None:
    sinks = [Keep(("image", "prob", "assets")), Keep()]
    summary = run(batches(4), sinks=sinks)
    images, labels = make_images()
    assert summary.scores is not None
    for sink in sinks:
        assert [result.name for result in sink.results] == [f"city/{i}" for i in range(6)]
        assert sink.closed == [(0, 1, [6])]
        assert sum(r.confusion for r in sink.results).tolist() == summary.scores.matrix.tolist()
    result = sinks[0].results[5]
    assert np.array_equal(result.pred, images[5].argmax(0).numpy())
    assert np.array_equal(result.label, labels[5].numpy())
    assert np.allclose(result.prob, (images[5] * 2).softmax(0).amax(0).numpy())
    assert result.image.shape == (8, 10, 3) and result.image.dtype == np.uint8
    assert result.assets["attn_05x"].shape == (4, 5)


def test_costly_parts_are_made_only_for_sinks_that_read_them() -> None:
    sink = Keep()
    run(batches(2), sinks=[sink])
    result = sink.results[0]
    assert result.image is None and result.prob is None and result.assets == {}


def test_a_sink_gets_only_the_images_it_wants() -> None:
    images, labels = make_images(2)
    batch = Batch(images=images, labels=labels, names=["a", "b"], indices=[0, 99])
    sink = Keep()
    assert run([batch], sinks=[sink]).num_images == 2
    assert [result.name for result in sink.results] == ["a"]


def test_images_without_labels_are_predicted_but_not_scored() -> None:
    images, _ = make_images()
    batch = Batch(images=images, labels=None, names=list("abcdef"), indices=list(range(6)))
    sink = Keep()
    summary = run([batch], sinks=[sink])
    assert summary.scores is None and summary.loss is None and summary.num_images == 6
    assert sink.results[0].label is None and sink.results[0].confusion is None


def test_sizes_may_differ_from_batch_to_batch() -> None:
    loader = [
        Batch(images=torch.randn(1, 3, 5 + i, 9), labels=None, names=[str(i)], indices=[i])
        for i in range(3)
    ]
    sink = Keep()
    run(loader, sinks=[sink])
    assert [result.pred.shape for result in sink.results] == [(5, 9), (6, 9), (7, 9)]


def test_an_image_without_a_valid_pixel_counts_nothing() -> None:
    images, labels = make_images(1)
    batch = Batch(images=images, labels=labels * 0 + 255, names=["a"], indices=[0])
    summary = run([batch])
    assert summary.loss is None and summary.scores is not None
    assert summary.scores.matrix.sum() == 0 and np.isnan(summary.scores.mean_iu)


def test_unreadable_files_are_logged_once_each_and_listed() -> None:
    nothing = Batch(
        images=torch.empty(0, 3, 0, 0), labels=None, names=[], indices=[],
        failed=[("z", "truncated"), ("a", "no image")],
    )  # fmt: skip
    lines: list[str] = []
    summary = run([nothing, *batches(3)], watch=Watch(log=lines.append))
    assert summary.unreadable == ["a: no image", "z: truncated"]
    assert lines == ["not read: z: truncated", "not read: a: no image"]
    assert summary.num_images == 6
    with pytest.raises(UserError, match="none of the 2 images could be read and .*, the first: a"):
        run([nothing])
    sinks = [Keep(stored=("city/0",))]
    stored = [nothing, *batches(1, slice(0, 1))]
    rules = EvalRules(metrics=False)
    assert run(stored, sinks=sinks, rules=rules).skipped == 1  # an earlier run has read it


def refuse_small(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
    if images.shape[-1] < 9:
        raise UserError("too small")
    return scores_of(images)


def small_and_large() -> list[Batch]:
    return [
        Batch(
            images=torch.randn(count, 3, 5, width),
            labels=None,
            names=[name] * count,
            indices=[0] * count,
            files=[f"/data/{name}{number}.png" for number in range(count)],
        )
        for name, count, width in (("a", 2, 8), ("b", 1, 9))
    ]


def test_refused_images_of_a_folder_are_listed_and_the_rest_goes_on() -> None:
    lines: list[str] = []
    sink = Keep()
    summary = evaluate(
        refuse_small, small_and_large(), SPEC, CPU, sinks=[sink],
        watch=Watch(log=lines.append), rules=EvalRules(skip_refused=True),
    )  # fmt: skip
    want = [f"a: /data/a{i}.png (8x5 pixels): too small" for i in range(2)]
    assert (summary.unreadable, summary.num_images, len(sink.results)) == (want, 1, 1)
    assert lines == [f"not predicted: {line}" for line in want]


def test_a_refused_image_of_a_data_set_is_an_error_with_its_path() -> None:
    with pytest.raises(UserError, match=r"^/data/a0.png \(8x5 pixels\): too small$"):
        evaluate(refuse_small, small_and_large(), SPEC, CPU)


def test_scores_that_are_not_finite_are_counted_and_the_first_image_is_named() -> None:
    def broken(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        outputs = scores_of(images)
        outputs["pred"][1, 2, 3, 4] = torch.nan
        outputs["pred"][2, 0] = torch.inf
        outputs["pred"][3, 0] = -torch.inf
        return outputs

    lines: list[str] = []
    summary = evaluate(broken, batches(6), SPEC, CPU, watch=Watch(log=lines.append))
    assert (summary.not_finite, run(batches(6)).not_finite) == (2, 0)
    assert len(lines) == 1 and lines[0].startswith("warning: city/1: ")


def test_stored_images_are_not_computed_again_without_metrics() -> None:
    seen: list[int] = []

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        seen.append(len(images))
        return scores_of(images)

    stored = ("city/0", "city/1", "city/3")
    sinks = [Keep(stored=stored), Keep(stored=(*stored, "city/5"))]
    summary = evaluate(infer, batches(2), SPEC, CPU, sinks=sinks, rules=EvalRules(metrics=False))
    assert seen == [1, 2]
    assert (summary.num_images, summary.skipped, summary.scores) == (3, 3, None)
    assert [result.name for result in sinks[0].results] == ["city/2", "city/4", "city/5"]
    assert [result.name for result in sinks[1].results] == ["city/2", "city/4"]


def test_with_metrics_stored_images_are_counted_all_the_same() -> None:
    sink = Keep(stored=("city/0",))
    summary = run(batches(2), sinks=[sink])
    assert summary.num_images == 6 and len(sink.results) == 6


def test_two_ranks_give_the_summary_of_one() -> None:
    whole = run(batches(2))
    sums: list[Tensor] = []

    def record(tensor: Tensor) -> Tensor:
        sums.append(tensor.clone())
        return tensor

    run(batches(2, slice(1, None, 2)), ranks=Ranks(add=record, rank=1, size=2))
    waiting = iter(sums)
    sink = Keep()
    halves = run(
        batches(2, slice(0, None, 2)),
        sinks=[sink],
        ranks=Ranks(
            add=lambda tensor: tensor + next(waiting), gather=lambda value: [value, value], size=2
        ),
    )
    assert halves.scores is not None and whole.scores is not None
    assert np.array_equal(halves.scores.matrix, whole.scores.matrix)
    assert halves.loss == pytest.approx(whole.loss, rel=1e-6)
    assert halves.num_images == 6
    assert sink.closed == [(0, 2, [3, 3])]


def test_progress_counts_batches() -> None:
    calls: list[tuple[int, int | None]] = []
    run(list(batches(4)), watch=Watch(progress=lambda done, total: calls.append((done, total))))
    assert calls == [(1, 2), (2, 2)]


def test_the_largest_probability_is_that_of_the_softmax() -> None:
    scores = 30 * torch.randn(2, 7, 5, 6)
    got = largest_probability(scores, scores.amax(1))
    torch.testing.assert_close(got, scores.softmax(1).amax(1))


def test_metrics_confidence_and_loss_hold_at_most_two_score_maps() -> None:
    spec = DatasetSpec(
        name="many",
        class_names=tuple(f"c{i}" for i in range(40)),
        palette=((0, 0, 0),) * 40,
        id_to_train_id={i: i for i in range(40)},
        ignore_label=255,
        train_id_to_id=tuple(range(40)),
    )
    size = (32, 32)

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        return {"pred": torch.randn(1, 40, *size)}

    labels = torch.randint(0, 40, (1, *size))
    loader = [
        Batch(images=torch.randn(1, 3, *size), labels=labels, names=[str(i)], indices=[i])
        for i in range(3)
    ]
    with LiveMaps(40 * 32 * 32 * 4) as live:
        rules = EvalRules(val_loss=val_loss)
        evaluate(infer, loader, spec, CPU, sinks=[Keep(("prob",))], rules=rules)
    assert live.most <= 2


def test_predictions_are_scored_and_shown_at_the_size_of_the_file() -> None:
    """The network saw a smaller copy: labels, images and predictions are those of the file."""
    originals = torch.randint(0, 256, (2, 16, 20, 3), dtype=torch.uint8)
    images, _ = make_images(2, (8, 10))
    large = F.interpolate(images * 2.0, (16, 20), mode="bilinear", align_corners=False)
    batch = Batch(
        images=images,
        labels=large.argmax(1),
        names=["a", "b"],
        indices=[0, 1],
        sizes=[(16, 20)] * 2,
        originals=originals,
    )
    sink = Keep(("image",))
    summary = evaluate(scores_of, [batch], SPEC, CPU, sinks=[sink])
    assert summary.scores is not None
    assert (summary.scores.acc, summary.scores.matrix.sum()) == (1.0, 2 * 16 * 20)
    for result, original in zip(sink.results, originals, strict=True):
        assert np.array_equal(result.image, original.numpy())
        assert result.pred.shape == (16, 20)


def test_a_label_beyond_the_classes_is_refused() -> None:
    images, labels = make_images(1)
    labels[0, 0, :2] = 3
    batch = Batch(images=images, labels=labels, names=["a"], indices=[0])
    with pytest.raises(ValueError, match=r"the value 3 \(2 pixels.*0..2 and 255 is ignored"):
        evaluate(scores_of, [batch], SPEC, CPU)
