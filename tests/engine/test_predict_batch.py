# SPDX-License-Identifier: Apache-2.0
"""One image never ends a folder: what cannot be predicted or written costs a line."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from config import UserError
from datasets.base import SegmentationDataset
from datasets.loader import make_loader
from datasets.samplers import EvalSampler
from engine.compute import UNWATCHED, Compute, Watch
from engine.evaluate import EvalRules, EvalSummary, evaluate
from metrics.result import ImageResult
from reports.autolabel import AutoLabelSink
from reports.image_dump import DumpSink
from reports.worst import WorstSink
from tests.reports.cases import SPEC, make_items, make_result

CPU = Compute(device=torch.device("cpu"))
NAMES = ["a", "b", "c"]


def scores(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
    return {"pred": torch.zeros(len(images), 4, *images.shape[-2:])}


def run(folder: Path, infer, sinks=(), skip: bool = True, watch: Watch = UNWATCHED) -> EvalSummary:  # noqa: ANN001
    items = make_items(folder, NAMES)
    loader = make_loader(
        SegmentationDataset(items, SPEC), EvalSampler(3, 0, 1), 1, 0, report_unreadable=True
    )
    rules = EvalRules(skip_refused=skip)
    return evaluate(infer, loader, SPEC, CPU, sinks=sinks, rules=rules, watch=watch)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 10.1 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_an_image_that_memory_does_not_suffice_for_costs_a_line(
    tmp_path: Path, error: Exception
) -> None:
    calls = []

    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return scores(images)

    summary = run(tmp_path, infer)
    assert (summary.num_images, len(summary.unreadable)) == (2, 1)
    (line,) = summary.unreadable
    assert line.startswith("b: ") and "b.png (16x12 pixels): not enough memory" in line
    assert "--slide_crop" in line and "\n" not in line
    calls.clear()
    with pytest.raises(UserError, match=r"b\.png .*--slide_crop"):
        run(tmp_path, infer, skip=False)


def test_a_real_allocation_that_fails_costs_a_line(tmp_path: Path) -> None:
    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        torch.empty(1 << 52, dtype=torch.uint8)
        return scores(images)

    with pytest.raises(UserError, match="none of the 3 images .*not enough memory"):
        run(tmp_path, infer)


def test_other_errors_of_the_network_are_no_matter_of_memory(tmp_path: Path) -> None:
    def infer(images: Tensor, rows: Tensor | None = None) -> dict[str, Tensor]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        run(tmp_path, infer)


def test_an_image_whose_files_cannot_be_written_costs_a_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b_prediction.png").mkdir(parents=True)  # stands in the way
    sink, lines = DumpSink(out, SPEC), []
    summary = run(tmp_path / "in", scores, [sink], watch=Watch(log=lines.append))
    assert sorted(sink.stored.rows) == ["a", "c"]
    assert lines == [f"not written: {line}" for line in summary.unreadable]
    assert len(lines) == 1 and "b: " in lines[0] and "directory" in lines[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_so_does_one_that_another_process_writes(tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    (out / "b.png").mkdir(parents=True)
    sink = AutoLabelSink(out, SPEC, make_items(tmp_path / "in", NAMES), workers=workers)
    summary = run(tmp_path / "in", scores, [sink])
    assert [row.name for row in sink.rows] == ["a", "c"]
    (line,) = summary.unreadable
    assert line.startswith("b: ")


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    class Full(DumpSink):
        """Writes to a disk that is full."""

        def add(self, result: ImageResult) -> None:
            raise OSError(errno.ENOSPC, "No space left on device", "x.png")

    with pytest.raises(OSError, match="No space left"):
        run(tmp_path / "in", scores, [Full(tmp_path / "out", SPEC)])


def test_names_that_lead_out_of_the_folder_cost_a_line(tmp_path: Path) -> None:
    class Renamed(DumpSink):
        """Gets names that no folder gives."""

        def add(self, result: ImageResult) -> None:
            result.name = f"../{result.name}" if result.name == "b" else result.name
            super().add(result)

    summary = run(tmp_path / "in", scores, [Renamed(tmp_path / "out", SPEC)])
    assert len(summary.unreadable) == 1 and "leave the output directory" in summary.unreadable[0]
    assert not list(tmp_path.glob("b*"))


def test_a_worst_image_that_cannot_be_staged_is_no_candidate(tmp_path: Path) -> None:
    sink = WorstSink(tmp_path, SPEC, 1)
    blocked = sink.stage / "bad_input.png"
    blocked.mkdir(parents=True)
    sink.add(make_result("good", 0, wrong=0.2))
    with pytest.raises(OSError):
        sink.add(make_result("bad", 1, wrong=0.9))
    sink.close(0, 1, lambda value: [value])
    assert {failure.name for failure in sink.failures} == {"good"}
    assert np.all(
        [Path(tmp_path, file).exists() for item in sink.failures for file in item.files.values()]
    )
