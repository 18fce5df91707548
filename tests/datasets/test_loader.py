# SPDX-License-Identifier: Apache-2.0
"""Batches: what they hold, and how broken files come through worker processes."""

from __future__ import annotations

import multiprocessing
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from datasets import cityscapes
from datasets.base import DataError, SegmentationDataset
from datasets.loader import GRACE_SECONDS, collate, make_loader, stop_workers
from datasets.resizer import make_resizer
from datasets.samplers import EvalSampler
from datasets.spec import Item
from runtime.outcome import one_line
from transforms.mmseg import FitImage
from transforms.normalize import to_tensor
from transforms.sample import Sample


def sample(height: int, width: int, name: str = "a", labelled: bool = True) -> Sample:
    label = np.full((height, width), 255, np.uint8) if labelled else None
    return Sample(image=np.zeros((height, width, 3), np.uint8), label=label, name=name)


def loader_of(root: Path, workers: int, report: bool, size: int = 2):  # noqa: ANN201
    items = cityscapes.list_items(root, "train")
    dataset = SegmentationDataset(items, cityscapes.SPEC)
    return make_loader(dataset, EvalSampler(len(items), 0, 1), size, workers, report)


def first_image(root: Path) -> Path:
    return cityscapes.list_items(root, "train")[0].image


def test_batch_holds_shapes_types_and_names() -> None:
    batch = collate([sample(4, 6, "a"), sample(4, 6, "b")], [7, 9])
    assert (batch.images.shape, batch.images.dtype) == ((2, 4, 6, 3), torch.uint8)
    assert batch.labels is not None
    assert batch.labels.dtype == torch.uint8
    assert (batch.labels == 255).all()
    assert (batch.names, batch.indices) == (["a", "b"], [7, 9])
    assert batch.rows is not None
    assert torch.allclose(batch.rows[0], torch.tensor([0.125, 0.375, 0.625, 0.875]))


def test_on_the_device_batches_are_what_networks_and_losses_take() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    mirrored, shown = pixels[:, ::-1], np.ascontiguousarray(pixels[:, ::-1])
    shown.setflags(write=False)
    samples = [
        Sample(image=x, label=np.eye(4, 6, dtype=np.uint8), name="a") for x in (mirrored, shown)
    ]
    batch = collate(samples)
    moved = batch.to("cpu")
    for image in moved.images:
        assert torch.equal(image, to_tensor(shown))
    assert moved.labels is not None
    assert (moved.labels.dtype, moved.names) == (torch.int64, ["a", "a"])
    assert torch.equal(moved.to("cpu").images, moved.images)
    for each in (batch, moved):
        assert np.array_equal(each.shown(1), shown)
    assert batch.input_bytes == moved.input_bytes == moved.images.numel() * 4


def test_a_batch_travels_in_four_bytes_per_pixel() -> None:
    batch = collate([sample(40, 60)])
    assert batch.labels is not None
    travels = sum(tensor.nbytes for tensor in (batch.images, batch.labels))
    assert travels == 4 * 40 * 60


def test_one_sample_without_label_leaves_the_batch_without() -> None:
    assert collate([sample(4, 6), sample(4, 6, labelled=False)]).labels is None


def test_different_sizes_say_which_flag_helps() -> None:
    with pytest.raises(DataError, match="a is 6x4 and b is 8x4.*--bs_val 1"):
        collate([sample(4, 6, "a"), sample(4, 8, "b")])


def test_labels_may_have_the_size_of_the_file_while_images_do_not() -> None:
    samples = [sample(4, 6, name) for name in "ab"]
    for one in samples:
        one.label, one.output_size = np.zeros((8, 12), np.uint8), (8, 12)
    batch = collate(samples)
    assert batch.images.shape[1:3] == (4, 6) and batch.labels.shape == (2, 8, 12)
    assert batch.to("cpu").sizes == [(8, 12)] * 2
    assert collate([sample(4, 6)]).sizes == [(4, 6)]
    samples[1].output_size = (8, 13)
    with pytest.raises(DataError, match="a is 12x8 and b is 13x8"):
        collate(samples)


def test_padding_and_extra_maps_arrive() -> None:
    samples = [sample(4, 6), sample(4, 6)]
    samples[0].valid = (3, 5)
    for number, one in enumerate(samples):
        one.extras["depth"] = np.full((4, 6), number, np.float32)
    samples[1].extras["alone"] = np.zeros((4, 6), np.uint8)
    batch = collate(samples)
    rest = batch.keep([1]).to("cpu").images
    assert batch.extras["depth"].shape == (2, 4, 6) and (rest != 0).all()
    batch = batch.to("cpu")
    assert (batch.images[0, :, :3, :5] != 0).all() and (batch.images[1] != 0).all()
    assert (batch.images[0, :, 3:] == 0).all() and (batch.images[0, :, :, 5:] == 0).all()
    assert set(batch.extras) == {"depth"}
    assert batch.to("cpu").extras["depth"][:, 0, 0].tolist() == [0, 1]


def test_every_image_arrives_once_with_its_number(cities: Path) -> None:
    batches = list(loader_of(cities, 0, False, size=3))
    assert [len(batch.names) for batch in batches] == [3, 1]
    assert [index for batch in batches for index in batch.indices] == [0, 1, 2, 3]


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_image_ends_training_with_one_line(cities: Path, workers: int) -> None:
    path = first_image(cities)
    path.write_bytes(path.read_bytes()[:60])
    loader = loader_of(cities, workers, False)
    with pytest.raises(DataError) as raised:
        list(loader)
    stop_workers(loader)
    text = one_line(raised.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_image_is_reported_and_the_rest_goes_on(cities: Path, workers: int) -> None:
    path = first_image(cities)
    path.write_bytes(b"")
    loader = loader_of(cities, workers, True)
    batches = list(loader)
    stop_workers(loader)
    assert [len(batch.names) for batch in batches] == [1, 2]
    ((name, message),) = batches[0].failed
    assert name == "alba/alba_000000_000019_leftImg8bit"
    assert "empty" in message
    assert batches[0].indices == [1]


def test_a_worker_outlives_the_signal_of_others_and_ends_at_that_of_its_program(
    cities: Path,
) -> None:
    loader = loader_of(cities, 1, False)
    list(loader)
    (worker,) = multiprocessing.active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert len(list(loader)) == 2
    worker.terminate()
    worker.join(timeout=GRACE_SECONDS / 2)
    assert worker.exitcode == 0
    loader._iterator = None


def test_batch_of_broken_images_is_empty(cities: Path) -> None:
    first_image(cities).write_bytes(b"")
    batch = next(iter(loader_of(cities, 0, True, size=1)))
    assert len(batch.names) == len(batch.images) == 0
    assert len(batch.failed) == 1


def test_unlabelled_items_load(cities: Path) -> None:
    items = [Item(name="x", image=first_image(cities), label=None)]
    loader = make_loader(SegmentationDataset(items, cityscapes.SPEC), EvalSampler(1, 0, 1), 1, 0)
    assert next(iter(loader)).labels is None


def test_resized_images_bring_their_originals_and_sizes() -> None:
    fit = FitImage((16, 12), size_divisor=4)
    samples = [fit(sample(5, 7, name)) for name in "ab"]
    batch = collate(samples)
    assert batch.images.shape == (2, 12, 16, 3)
    assert batch.originals is not None
    assert (batch.originals.shape, batch.originals.dtype) == ((2, 5, 7, 3), torch.uint8)
    assert batch.sizes == [(5, 7)] * 2
    assert collate([sample(5, 7)]).originals is None


def test_views_are_resized_from_the_original_into_the_box_times_the_ratio() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 75, 3), dtype=np.uint8)
    views = make_resizer((2048, 64))(torch.from_numpy(picture)[None], 0.75)
    want = cv2.resize(picture, (72, 48), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(views[0].numpy(), want)
    assert make_resizer((2048, 64), 32)(torch.from_numpy(picture)[None], 0.75).shape[1:3] == (
        64,
        96,
    )
