# SPDX-License-Identifier: Apache-2.0
"""The benchmark for GPUs starts, reports and keeps to its time, on any device."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import __main__ as program
from benchmarks.gpu import recorded
from benchmarks.gpu.bench import Clock
from benchmarks.gpu.networks import CASES, ways
from datasets.cityscapes import SPEC
from network.build import build_net
from tests.program import run

SIZES = {"hmsa": 72, "segformer": 84, "hrvit": 28, "unept": 32}  # millions of parameters


@pytest.mark.parametrize("name", CASES)
def test_every_network_is_the_published_one_and_takes_its_flags(name: str) -> None:
    case = CASES[name]
    case.settings(*case.evaluation)
    model = dataclasses.asdict(case.settings(*case.training).MODEL)
    with torch.device("meta"):
        net = build_net(case.arch, SPEC.num_classes, **model)
    assert sum(each.numel() for each in net.parameters()) // 1_000_000 == SIZES[name]


def test_the_compiler_comes_last() -> None:
    every = ways(("bf16", "fp32"))
    assert len(every) == 8
    assert [way.compile for way in every] == [False] * 4 + [True] * 4


@pytest.mark.slow
def test_without_time_every_row_says_so() -> None:
    clock = Clock(end=0.0)
    clock.begin(1.0)
    rows = list(recorded.measure(torch.device("cpu"), clock))
    assert len(rows) > 20
    assert {row.problem for row in rows} == {"not run: the time was up"}


def test_a_folder_as_output_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--device", "cpu", "--sections", "smoke", "--out", str(tmp_path)]
    assert program.main(flags) == 2
    assert f"--out {tmp_path}: a file is wanted, this is a folder" in capsys.readouterr().err


def test_wrong_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--sections", "trainings"]) == 2
    assert "--sections trainings: there are recorded, training" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert program.main([]) == 2
        assert "no CUDA device here" in capsys.readouterr().err


@pytest.mark.slow
def test_a_cpu_goes_through_its_sections(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    flags = (
        "--device", "cpu", "--tiny", "--minutes", "1", "--networks", "hmsa", "--no_compile",
        "--sections", "training,evaluation,smoke", "--out", str(out),
    )  # fmt: skip
    done = run("-m", "benchmarks.gpu", *flags)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.read_text())
    rows = {(row["section"], row["name"]): row for row in content["rows"]}
    for section, count in (("training", 4), ("evaluation", 2)):
        found = [row["values"] for key, row in rows.items() if key[0] == section]
        assert len(found) == count
        assert all(each["images/s"] > 0 and 0 < each["share of peak"] < 1.5 for each in found)
    assert rows["smoke", "SyncBN"]["problem"] == "needs CUDA"


@pytest.mark.gpu
def test_recorded_networks_answer_the_same_on_cuda() -> None:
    clock = Clock(end=float("inf"))
    clock.section_end = float("inf")
    rows = list(recorded.measure(torch.device("cuda"), clock))
    assert [str(row) for row in rows if row.problem] == []
