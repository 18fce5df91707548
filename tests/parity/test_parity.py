# SPDX-License-Identifier: Apache-2.0
"""Every recorded fixture in the tree passes, and the harness itself tells right from wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity import __main__ as program
from tests.parity.core import FIXTURES, checks_of, compare, find_check, fixture_names, run_fixture

RECORDED = [(path, name) for path in sorted(FIXTURES.iterdir()) for name in fixture_names(path)]
# Networks of published size.
HEAVY = (
    *("ocrnet.", "deepv3.", "mscale", "attnscale.", "loss_total_mscale", "hila-b1", "hila-swin"),
    *("HRViT", "segformer_hrvit_b1_150", "segformer_hrvit_b2", "upernet_hrvit"),
    *("res50_unept", "deit_unept", "train_gradients_res50"),
    *("hila-b1", "hila-swin", "r50_os", "r101_os", "mobilenetv2_os", "evaluation_mobilenetv2"),
)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        pytest.param(folder, name, marks=[pytest.mark.slow] if name.startswith(HEAVY) else [])
        for folder, name in RECORDED
    ],
    ids=[f"{folder.name}/{name}" for folder, name in RECORDED],
)
def test_the_recorded_numbers_are_reproduced(folder: Path, name: str) -> None:
    failed = [row for row in run_fixture(folder, name, checks_of(folder.name)) if not row.ok]
    assert failed == []


def test_the_tolerance_is_absolute_plus_relative() -> None:
    assert compare("x", [1.0, 102.0], [1.0, 100.0], atol=1.0, rtol=0.01).ok
    assert not compare("x", [1.0, 102.1], [1.0, 100.0], atol=1.0, rtol=0.01).ok


def test_not_a_number_passes_only_where_it_was_recorded() -> None:
    nan, inf = float("nan"), float("inf")
    assert compare("x", [nan, inf], [nan, inf]).ok
    assert not compare("x", [nan, 1.0], [1.0, 1.0], atol=1e9).ok
    assert not compare("x", [inf, 1.0], [1.0, 1.0], atol=1e9).ok
    assert not compare("x", [1.0, 1.0], [inf, 1.0], atol=1e9).ok


def test_another_shape_fails() -> None:
    assert "shape" in compare("x", [1.0], [[1.0]]).note


def test_the_exact_name_wins_over_a_glob_and_the_longer_glob_over_the_shorter() -> None:
    def check(number: int):  # noqa: ANN202
        return lambda fixture: [number]

    checks = {"*": check(0), "loss_*": check(1), "loss_ce": check(2)}
    found = [find_check(name, checks)(None) for name in ("loss_ce", "loss_rmi", "other")]
    assert found == [[2], [1], [0]]
    assert find_check("x", {}) is None


def test_unknown_fixtures_and_wrong_numbers_fail_the_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "hmsa"
    folder.mkdir()
    header = {"archs": {"ocrnet.HRNet": {"params": 1, "keys": 1890, "sha256": ""}}}
    (folder / "archs.json").write_text(json.dumps(header))
    (folder / "never_heard_of.json").write_text("{}")
    np.savez(folder / "no_header.npz", x=np.zeros(1))
    assert program.main([str(folder)]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[1], len(line)) for line in lines] == [
        ("FAIL", name, 4) for name in ("archs", "never_heard_of", "no_header")
    ]


def test_a_folder_without_fixtures_is_an_error(tmp_path: Path) -> None:
    assert program.main([str(tmp_path)]) == 2
    assert program.main([]) == 2
